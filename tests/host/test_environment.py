"""Environment values arrive in the process as they stand in the project file; secrets are seen by nobody else."""

import base64
import json
import re

import pytest
import yaml

from deployed import Deployed
from testbed import ENVIRONMENT, PLAY, SECRET, attempt
from tricky import TRICKY

pytestmark = pytest.mark.host

MASTER = "$(systemctl show --value -p MainPID notes@$(basename $(readlink /srv/notes/active)))"


def environment_of_the_master(stack: Deployed) -> dict[str, str]:
    """What Gunicorn's process really got, from the kernel."""
    raw = base64.b64decode(stack.shell(f"base64 /proc/{MASTER}/environ")).decode()
    return dict(entry.split("=", 1) for entry in raw.split("\0") if entry)


def test_every_value_comes_back_exactly(stack: Deployed) -> None:
    living = environment_of_the_master(stack)
    assert {name: living.get(name) for name in TRICKY} == TRICKY


def test_the_secret_reaches_the_process_and_nobody_else(stack: Deployed) -> None:
    assert environment_of_the_master(stack)["SECRET_KEY"] == SECRET
    for command in (
        "systemctl show 'notes@*' notes-preflight",
        "systemctl cat 'notes@a' notes.socket",
        "journalctl --no-pager",
        "ps axww -o args",
        "cat /var/log/nginx/*.log",
        "find / -xdev -type f -perm -o+r -newer /etc/hostname -size -200k -not -path '/proc/*' -exec cat {} +",
    ):
        assert SECRET not in stack.shell(f"({command}) 2>&1 | LC_ALL=C tr -cd '[:print:]'"), command


def test_the_secret_is_in_no_output_of_ansible(stack: Deployed) -> None:
    assert SECRET not in stack.play("-vvv", "--diff", "--check")


# What every systemd takes, and what each drops: in each pair the neighbours of a border.
TAKEN = "\t\n \x7e\x80\x9f\u2028\ud7ff\ue000\ufdcf\ufdf0\ufffd\U00010000\U0001fffd\U0010fffd"
DROPPED = "\ufdd0\ufdef\ufffe\uffff\U0001fffe\U0001ffff\U0010fffe\U0010ffff"
PRINT_IT = 'test "$(printenv TRIED)" != "" && echo taken || echo dropped'


def what_systemd_does(stack: Deployed, characters: str) -> dict[str, str]:
    """For each character whether a value with it reaches a process through an environment file."""
    found = {}
    for character in characters:
        file = base64.b64encode(f'TRIED="a{character}b"\n'.encode()).decode()
        found[character] = stack.shell(
            f"echo {file} | base64 -d >/root/tried; "
            f"systemd-run --quiet --pipe --wait -p EnvironmentFile=/root/tried sh -c '{PRINT_IT}' || echo dropped"
        ).split()[-1]
    stack.shell("rm /root/tried")
    return found


@pytest.mark.parametrize(("characters", "outcome"), [(TAKEN, "taken"), (DROPPED, "dropped")])
def test_what_preflight_refuses_is_what_systemd_drops(stack: Deployed, characters: str, outcome: str) -> None:
    assert what_systemd_does(stack, characters) == dict.fromkeys(characters, outcome)
    text = (stack.project / f"roles/notes_{ENVIRONMENT}/vars/main.yml").read_text(encoding="utf-8")
    role = yaml.load(text, yaml.BaseLoader)  # noqa: S506 - all text, whatever the tag
    refused = re.compile(role[f"__notes_{ENVIRONMENT}_impossible"])
    assert {each for each in characters if refused.search(each)} == (set() if outcome == "taken" else set(characters))


def test_a_value_that_systemd_would_drop_is_refused_by_its_name(stack: Deployed) -> None:
    value = json.dumps({f"notes_{ENVIRONMENT}_environment": {"GOOD": "x", "BAD": "\ufffe", "WORSE": "a\r"}})
    done = attempt([*PLAY, f"playbooks/{ENVIRONMENT}.yml", "--tags", "preflight", "-e", value], stack.project)
    assert done.returncode != 0
    assert "BAD, WORSE: not every systemd takes a value with a control character" in re.sub(r"\s+", " ", done.stdout)
