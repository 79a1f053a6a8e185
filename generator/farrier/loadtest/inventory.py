"""What an environment's inventory says of a host that is to be loaded."""

import json
from contextlib import suppress
from typing import Any

from farrier.ansible.runner import Ansible
from farrier.loadtest import answers

LOOK = (
    "{{ {'address': ansible_host | default(inventory_hostname), 'names': groups['all'] + "
    "(groups['all'] | map('extract', hostvars, 'ansible_host') | select('defined') | list), "
    "'groups': groups} | to_json }}"
)
"""Evaluated by Ansible without a connection to any host."""


def look(ansible: Ansible, host: str) -> dict[str, Any]:
    """The host's address, all names and addresses, and the groups; no host is connected to."""
    said = ansible.ask(host, "ansible.builtin.debug", {"msg": LOOK}).get("msg")
    if isinstance(said, str):
        with suppress(ValueError, RecursionError):
            said = json.loads(said)
    return answers.looked(said, ansible.inventory)
