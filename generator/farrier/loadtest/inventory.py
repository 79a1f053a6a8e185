"""Asks hosts of an inventory with Ansible, one module at a time."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from farrier.ansible.events import event_of
from farrier.errors import FarrierError, HostError, InputError
from farrier.facts.gather import (
    PACKAGE,
    ansible_command,
    displayable,
    environment,
    errors_of,
    noted,
    one_line,
    reason_of,
    run_ansible,
)
from farrier.loadtest import answers
from farrier.wording import shown

LOOK = (
    "{{ {'address': ansible_host | default(inventory_hostname), 'names': groups['all'] + "
    "(groups['all'] | map('extract', hostvars, 'ansible_host') | select('defined') | list), "
    "'groups': groups} | to_json }}"
)
"""What the inventory says; evaluated by Ansible without a connection to any host."""


@dataclass
class _Answers:
    """What one run of `ansible` has answered."""

    event: dict[str, Any] | None = None
    failure: FarrierError | None = None
    chatter: list[str] = field(default_factory=list)

    def take(self, line: str) -> None:
        """One line of Ansible's standard output."""
        event = event_of(line)
        if event is None:
            noted(self.chatter, line)
        elif event["kind"] == "ok":
            self.event = event
        elif event["kind"] in ("failed", "unreachable"):
            self.failure = HostError(f"host {displayable(event['host'])}: {reason_of(event)}")


@dataclass(frozen=True)
class Inventory:
    """An environment's inventory, and how Ansible is to be run with it."""

    path: str
    root: Path
    extra: Sequence[str]

    def ask(self, host: str, module: str, arguments: Mapping[str, Any], *options: str) -> dict[str, Any]:
        """What a module answers on one host; HostError when it could not be asked, InputError when it is unknown."""
        command = [ansible_command(), host, "-i", self.path, *self.extra, *options]
        command += ["-M", str(PACKAGE / "ansible/modules"), "-m", module, "-a", json.dumps(arguments)]
        asked = _Answers()
        notes, code = run_ansible(command, self.root, asked.take, environment("farrier_steps"))
        if asked.failure:
            raise asked.failure
        if asked.event is None:
            said = [*errors_of(notes), *notes[-1:], *asked.chatter[-1:], f"Ansible ended with code {code}"]
            where = f"inventory {shown(self.path, 200)}, host {shown(host)}"
            raise InputError(f"{where}: {one_line(said[0]).removeprefix('[ERROR]: ')}")
        return asked.event

    def look(self, host: str) -> dict[str, Any]:
        """The host's address, all names and addresses, and the groups; no host is connected to."""
        said = self.ask(host, "ansible.builtin.debug", {"msg": LOOK}).get("msg")
        if isinstance(said, str):
            with suppress(ValueError, RecursionError):
                said = json.loads(said)
        return answers.looked(said, self.path)
