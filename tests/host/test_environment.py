"""Environment values arrive in the process as they stand in the project file; secrets are seen by nobody else."""

import base64

import pytest
from deployed import SECRET, Deployed
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
