#!/usr/bin/python
# SPDX-License-Identifier: MIT
"""Ansible module: what this host can really give to an application."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.farrier_probe import HIDDEN, hides, probe

DOCUMENTATION = r"""
module: farrier_facts
short_description: Find the CPUs, memory and kernel limits that a service on this host may really use
description:
  - Reads CPU affinity, cgroup limits, what other services use, kernel limits and the versions of the system.
  - Changes nothing and needs no privileges.
options:
  application: {type: str, description: Name of the application. Its own units do not count as other services.}
  disk_path: {type: str, default: /srv, description: The space of the file system that holds this path is reported.}
author: Farrier
"""

RETURN = r"""
facts: {description: "The fact document of this host, without its name.", returned: always, type: dict}
"""


def main() -> None:
    """The Ansible module."""
    module = AnsibleModule(
        argument_spec={"application": {"type": "str"}, "disk_path": {"type": "str", "default": "/srv"}},
        supports_check_mode=True,
    )
    if hides():
        module.fail_json(msg=HIDDEN)
    module.exit_json(changed=False, facts=probe("/", module.params["application"], module.params["disk_path"]))


if __name__ == "__main__":
    main()
