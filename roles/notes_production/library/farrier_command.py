#!/usr/bin/python
"""Run one command of the application on the host, in the cell in which the application itself runs."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.farrier_cell import end_of, ended, of_release, run, transient
from ansible.module_utils.farrier_host import LOCK, Failure, holding
from ansible.module_utils.farrier_text import printable

DOCUMENTATION = r"""
module: farrier_command
short_description: Run a command of the application as the application runs
description:
  - The command runs as a transient service, with the user, sandbox and environment of the application and nothing of the play's.
  - When it fails, the message is the end of what it printed.
options:
  command: {type: str, required: true, description: Command line for a shell; the virtual environment comes first in its PATH.}
  directory: {type: path, required: true, description: Working directory, that of a release.}
  venv: {type: path, required: true, description: Virtual environment.}
  environment_file: {type: path, required: true, description: Environment of the application.}
  sandbox: {type: list, elements: str, required: true, description: systemd settings of the cell.}
  lock: {type: path, description: "The play's lock, as farrier_lock took it; held and renewed while this runs."}
  token: {type: str, description: What proves that the lock is ours.}
author: Farrier
"""

RETURN = r"""
output: {description: The end of what the command printed., returned: always, type: str}
"""


def main() -> None:
    """Run it; in check mode only say so."""
    path = {"type": "path", "required": True}
    module = AnsibleModule(
        argument_spec={
            "command": {"type": "str", "required": True},
            "directory": path,
            "venv": path,
            "environment_file": path,
            "sandbox": {"type": "list", "elements": "str", "required": True},
            **LOCK,
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=True, output="")
    wish = module.params
    try:
        with holding(wish["lock"], wish["token"]):
            settings = [*wish["sandbox"], *of_release(wish["directory"], wish["venv"], wish["environment_file"])]
            status, said = run(transient(settings, ["/bin/sh", "-c", wish["command"]]))
    except (Failure, OSError) as failure:
        module.fail_json(msg=printable(f"`{wish['command']}`: {failure}"))
    last = end_of(said)
    if status:
        why = f" ended with status {status}:\n{last}" if last else f": {ended(status)}"
        module.fail_json(msg=f"`{wish['command']}`{why}")
    module.exit_json(changed=True, output=last)


if __name__ == "__main__":
    main()
