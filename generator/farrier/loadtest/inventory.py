"""What an environment's inventory says of a host that is to be loaded."""

import json
from contextlib import suppress
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from farrier.ansible.runner import Ansible
from farrier.errors import InputError
from farrier.measure.answer import first_error
from farrier.wording import shown

LOOK = (
    "{{ {'address': ansible_host | default(inventory_hostname), 'names': groups['all'] + "
    "(groups['all'] | map('extract', hostvars, 'ansible_host') | select('defined') | list), "
    "'groups': groups} | to_json }}"
)
"""Evaluated by Ansible without a connection to any host."""

MOST_HOSTS = 100_000


def _texts(names: object) -> object:
    """YAML makes numbers of some names."""
    return [str(each) for each in names if isinstance(each, str | int)] if isinstance(names, list) else names


class InventoryHost(BaseModel):
    """The host's address (printable, as it becomes part of a URL), all names and addresses, and the groups."""

    address: Annotated[str, Field(pattern=r"^[^\p{C}\p{Z}]+$", max_length=300)]
    names: Annotated[list[str], BeforeValidator(_texts), Field(max_length=MOST_HOSTS)]
    groups: Annotated[dict[str, list[Any]], Field(max_length=MOST_HOSTS)]


def look(ansible: Ansible, host: str) -> InventoryHost:
    """What the inventory says; no host is connected to."""
    said = ansible.ask(host, "ansible.builtin.debug", {"msg": LOOK}).get("msg")
    if isinstance(said, str):
        with suppress(ValueError, RecursionError):
            said = json.loads(said)
    return inventory_host(said, ansible.inventory)


def inventory_host(said: object, inventory: str) -> InventoryHost:
    """What Ansible has said of it; InputError when it is not of this kind."""
    try:
        return InventoryHost.model_validate(said)
    except ValidationError as error:
        raise InputError(f"inventory {shown(inventory, 200)}: {first_error(error)}") from None
