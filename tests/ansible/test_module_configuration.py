"""farrier_configuration lays out beside what serves, shows no value, and removes what did not come to serve."""

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import farrier_configurations as configurations

from module_runner import run_module

pytestmark = pytest.mark.programs

RELEASE = "aaaaaaaaaaaa"
ENVIRONMENT = 'KEY="the secret"\n'
GUNICORN = "workers = 2\nbacklog = 64\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "srv/no-such-application-of-ours"


def ask(home: Path, *, check: bool = False, **more: Any) -> dict[str, Any]:
    wish = {"environment": ENVIRONMENT, "gunicorn": GUNICORN, **more}
    return run_module("farrier_configuration", {"application": home.name, "home": str(home), **wish}, check=check)


def serve(home: Path, name: str) -> None:
    """Fills slot a with a configuration and lets it count, as a switch does."""
    facts = {"release": RELEASE, "configuration": name, "previous": None, "previous_configuration": None}
    (home / "slots/a").mkdir(parents=True, exist_ok=True)
    for file in configurations.MODES:
        (home / "slots/a" / file).write_bytes((home / "configurations" / name / file).read_bytes())
    (home / "slots/a/slot.json").write_text(json.dumps(facts))
    (home / "active").symlink_to("slots/a")


def laid_out(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "configurations").iterdir())


def test_the_first_one_is_laid_out_for_root_alone(home: Path) -> None:
    result = ask(home)
    name = result["configuration"]
    assert (result["changed"], result["candidate"]) == (True, True)
    assert result["differs"] == ["environment", "gunicorn.conf.py"]
    assert result["path"] == str(home / "configurations" / name)
    assert Path(result["path"], "environment").read_text() == ENVIRONMENT
    assert {path.stat().st_mode & 0o777 for path in (home / "configurations", Path(result["path"]))} == {0o700}
    assert Path(result["path"], "environment").stat().st_mode & 0o777 == 0o600
    assert not (home / "slots").exists()


def test_what_serves_already_is_not_laid_out_again(home: Path) -> None:
    name = ask(home)["configuration"]
    serve(home, name)
    result = ask(home)
    assert (result["changed"], result["candidate"], result["differs"]) == (False, False, [])
    assert result["configuration"] == name
    assert laid_out(home) == [name]


def test_another_one_stands_beside_what_serves_and_is_removed_when_it_is_not_taken(home: Path) -> None:
    serving = ask(home)["configuration"]
    serve(home, serving)
    result = ask(home, environment='KEY="another"\n')
    assert result["differs"] == ["environment"]
    assert (home / "slots/a/environment").read_text() == ENVIRONMENT
    gone = ask(home, state="absent", configuration=result["configuration"])
    assert gone["changed"] is True
    assert laid_out(home) == [serving]


def test_what_a_slot_names_is_not_removed(home: Path) -> None:
    name = ask(home)["configuration"]
    serve(home, name)
    assert ask(home, state="absent", configuration=name)["changed"] is False
    assert laid_out(home) == [name]


def test_what_a_killed_play_has_left_is_removed(home: Path) -> None:
    serving = ask(home)["configuration"]
    serve(home, serving)
    ask(home, environment='KEY="killed"\n')
    ask(home)
    assert laid_out(home) == [serving]


def test_check_mode_lays_nothing_out(home: Path) -> None:
    result = ask(home, check=True)
    assert (result["changed"], result["configuration"]) == (True, None)
    assert not home.exists()


def test_the_diff_shows_gunicorns_configuration_and_no_value_of_the_environment(home: Path) -> None:
    serve(home, ask(home)["configuration"])
    result = ask(home, environment='KEY="another"\n', gunicorn="workers = 3\n", check=True)
    assert [each["after"] for each in result["diff"]] == ["(not shown, changed)\n", "workers = 3\n"]
    for value in ("the secret", "another"):
        assert value not in json.dumps(result)


@pytest.mark.parametrize("name", ["../../etc", "", "aaaaaaaaaaaA", "aaaaaaaaaaaa/.."])
def test_only_what_is_a_configurations_name_can_be_removed(home: Path, name: str) -> None:
    refused = ask(home, state="absent", configuration=name)
    assert refused["msg"] == f"{name}: not the name of a configuration, which has 12 hex digits"


def test_the_last_configuration_of_each_release_is_kept(home: Path) -> None:
    (home / "releases" / RELEASE).mkdir(parents=True)
    names = [
        configurations.lay_out(str(home), {"environment": b"", "gunicorn.conf.py": str(number).encode()})
        for number in range(3)
    ]
    for name in names[:2]:
        configurations.note_served(str(home), name, RELEASE)
    configurations.prune(str(home))
    assert laid_out(home) == [names[1]]
    (home / "releases" / RELEASE).rmdir()
    configurations.prune(str(home))
    assert laid_out(home) == []
