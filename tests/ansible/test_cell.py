"""Commands of a release in their cell: what systemd is given, and what is shown of a failure."""

import os
import shlex
import stat
from pathlib import Path

import pytest
from ansible.module_utils import farrier_cell
from ansible.module_utils.farrier_cell import as_user, end_of, ended, handed, of_pip, of_release, transient
from ansible.module_utils.farrier_host import Failure

pytestmark = pytest.mark.programs


def test_a_command_runs_in_the_cell_with_its_own_path_and_no_expansion_by_systemd() -> None:
    settings = ["User=notes", *of_release("/srv/r", "/srv/v", "/etc/e")]
    call = transient(settings, ["/bin/sh", "-c", "python manage.py migrate $X"])
    assert shlex.join(call) == (
        "systemd-run --wait --pipe --collect --quiet --property=User=notes --property=WorkingDirectory=/srv/r "
        "--property=Environment=PATH=/srv/v/bin:/usr/local/bin:/usr/bin:/bin --property=EnvironmentFile=/etc/e "
        "-- /bin/sh -c 'python manage.py migrate $$X'"
    )


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The calls of systemd-run, which is not run."""
    seen: list[list[str]] = []

    def run(command: list[str]) -> tuple[int, str]:
        seen.append(command)
        return 0, ""

    monkeypatch.setattr(farrier_cell, "run", run)
    return seen


def test_a_transient_service_gets_words_literally(systemd: list[list[str]]) -> None:
    as_user("notes", ["PrivateTmp=yes"], ["python", "-c", "print('$HOME')"])
    assert systemd[0][-1] == "print('$$HOME')"
    assert "--property=User=notes" in systemd[0]


def test_what_is_handed_to_pip_stands_on_no_command_line(systemd: list[list[str]]) -> None:
    as_user("notes", [], ["pip"], {"PIP_INDEX_URL": "https://robot:hush@example.org/simple"})
    assert "hush" not in repr(systemd)
    with handed({"A": 'x "$y" `z` \\', "B": "2"}) as (setting,):
        path = Path(setting.removeprefix("EnvironmentFile="))
        assert path.read_text() == 'A="x \\"\\$y\\" \\`z\\` \\\\"\nB="2"\n'
        assert oct(stat.S_IMODE(path.stat().st_mode)) == "0o600"
    assert not path.exists()


def test_a_failed_command_shows_the_end_of_what_it_said() -> None:
    status, said = farrier_cell.run(
        ["sh", "-c", "i=0; while [ $i -lt 40000 ]; do echo line $i; i=$((i+1)); done; exit 3"]
    )
    assert status == 3
    assert end_of(said).splitlines() == [f"line {number}" for number in range(39960, 40000)]
    assert end_of("x" * 10_000) == "x" * 8000


def test_a_message_holds_no_control_characters_and_no_passwords() -> None:
    assert end_of("\x1b[31mred\x1b[0m\x07 \u202egnp\n\ttab") == "red\\x07 \\u202egnp\n\ttab"
    variables = {"PIP_EXTRA_INDEX_URL": "https://example.org/ https://robot:h%40sh@example.org/simple"}
    said = "ERROR: https://other:word@example.org/x, git+ssh://git@example.org/y, h%40sh and h@sh"
    assert end_of(said, variables) == "ERROR: https://***@example.org/x, git+ssh://***@example.org/y, *** and ***"


def test_pips_variables_come_from_the_play_and_from_the_inventory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"PIP_RETRIES": "2", "https_proxy": "http://a", "HOME": "/root"})
    assert of_pip(None) == {"PIP_RETRIES": "2", "https_proxy": "http://a"}
    assert of_pip('{"PIP_RETRIES": 0, "CFLAGS": "-O1"}') == {
        "PIP_RETRIES": "0",
        "https_proxy": "http://a",
        "CFLAGS": "-O1",
    }
    for wrong in ("[]", "{", '{"A B": "x"}', '"x"'):
        with pytest.raises(Failure, match=r"^pip_environment is not a mapping from names of environment variables"):
            of_pip(wrong)


def test_what_systemd_says_by_a_status_is_told() -> None:
    assert ended(3) == "it ended with status 3"
    assert ended(200) == (
        "it ended with status 200 (systemd could not start it; CHDIR: its working directory is missing or its user may not "
        "enter it)"
    )
