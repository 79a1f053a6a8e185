"""A host that somebody has taken over answers what it likes: neither its neighbour nor the control node obeys it."""

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployed import Deployed
from operated import second_host, write_release
from testbed import DOMAIN, ENVIRONMENT, PLAY, Host, attempt

pytestmark = pytest.mark.host

HOSTILE = "hostile"  # before its neighbour in the inventory, so that it is asked first
INTERPRETER = "/usr/local/bin/python-hostile"
SECRET = "what-stays-on-the-control-machine"
PLANTED = "planted-by-the-neighbour"

WRAPPER = """#!/usr/bin/python3
import json, subprocess, sys
done = subprocess.run(["/usr/bin/python3", *sys.argv[1:]], stdout=subprocess.PIPE)
try:
    answer = json.loads(done.stdout)
except ValueError:
    sys.stdout.buffer.write(done.stdout)
else:
    print(json.dumps({**answer, "ansible_facts": ANSWERS}))
"""


@dataclass
class Trap:
    """What a hostile host is after: a directory of the control node, and a command to be run there."""

    secrets: Path
    ran: Path

    def answers(self, defaults: dict[str, Any]) -> dict[str, Any]:
        """Facts by which every module's answer would change what comes next."""
        script = self.secrets / "script"
        script.write_text(f"#!/bin/sh\ntouch {self.ran}\n", encoding="utf-8")
        script.chmod(0o755)
        prefix = f"notes_{ENVIRONMENT}"
        return {
            **defaults,
            f"{prefix}_source": str(self.secrets),
            f"{prefix}_domains": [DOMAIN, f"{PLANTED}.example.org"],
            f"{prefix}_environment": {**defaults[f"{prefix}_environment"], "PLANTED": PLANTED},
            f"__{prefix}_source": {"release": "0" * 12, "archive": str(self.secrets / "key"), "commit": None},
            f"__{prefix}_recipe": {"requirements": "key"},
            f"__{prefix}_controller_script": f"touch {self.ran}",
            f"__{prefix}_by": PLANTED,
            "project": str(self.secrets),
            "ansible_connection": "local",
            "ansible_host": "127.0.0.1",
            "ansible_become": False,
            "ansible_become_exe": str(script),
            "ansible_python_interpreter": str(script),
            "ansible_playbook_python": str(script),
            "ansible_shell_executable": str(script),
        }


class Loader(yaml.SafeLoader):
    """Knows the tag of what Ansible is not to evaluate."""


Loader.add_constructor("!unsafe", lambda _loader, node: node.value)


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    found = Trap(tmp_path / "secrets", tmp_path / "ran")
    found.secrets.mkdir()
    (found.secrets / "key").write_text(SECRET, encoding="utf-8")
    return found


@pytest.fixture
def hostile(operated: Deployed, trap: Trap) -> Iterator[Host]:
    """A second host of the environment, whose interpreter answers more than it was asked."""
    role = operated.project / f"roles/notes_{ENVIRONMENT}"
    defaults = yaml.load((role / "defaults/main.yml").read_text(encoding="utf-8"), Loader)  # noqa: S506 - a safe loader
    planned = {f"notes_{ENVIRONMENT}_planned_hosts": [HOSTILE]}
    wrapper = WRAPPER.replace("ANSWERS", repr(trap.answers({**defaults, **planned})))
    with second_host(operated, HOSTILE, ansible_python_interpreter=INTERPRETER) as host:
        host.shell(f"printf %s {shlex.quote(wrapper)} >{INTERPRETER}; chmod 755 {INTERPRETER}")
        yield host


def holding(word: str) -> str:
    """Prints the files of a host that hold a word; `grep` fails where there are none."""
    return f"grep -rlF {word} /srv /etc /run /tmp /var/lib/notes /var/tmp 2>/dev/null || true"


def test_a_hostile_host_decides_nothing_for_its_neighbour_or_the_control_machine(
    operated: Deployed, hostile: Host, trap: Trap, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Where facts are kept, what it answered comes before anything is packed the next time.
    monkeypatch.setenv("ANSIBLE_CACHE_PLUGIN", "jsonfile")
    monkeypatch.setenv("ANSIBLE_CACHE_PLUGIN_CONNECTION", str(tmp_path / "facts"))
    for number in (1, 2):
        write_release(operated, f"# beside a hostile host, {number}")
        played = attempt([*PLAY, f"playbooks/{ENVIRONMENT}.yml"], operated.project)
        assert not trap.ran.exists(), "a command of the host's choosing ran on the control node"
        for place in (operated.shell, hostile.shell):
            assert place(holding(SECRET)) == "", "a file of the control node's came to a host"
        assert played.returncode == 0, played.stdout
        serving = "cat /srv/notes/active/release/notes/wsgi.py"
        assert f"hostile host, {number}" in operated.shell(serving)
        assert f"hostile host, {number}" in hostile.shell(serving)
        assert operated.shell(holding(PLANTED)) == "", "an answer of one host is in force on another"
    assert PLANTED in "".join(path.read_text() for path in (tmp_path / "facts").iterdir()), "it did answer"
    assert PLANTED in hostile.shell("cat /srv/notes/active/environment"), "it may do with itself what it likes"
    assert os.environ["ANSIBLE_CACHE_PLUGIN"] == "jsonfile"
