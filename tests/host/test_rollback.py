"""A release comes and goes with its environment, its secrets and Gunicorn's configuration; a refused one leaves none of it."""

import base64
import json
import os
import re
import shlex
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest
import yaml

from deployed import Deployed
from operated import eventually, playing, second_host, write_release
from testbed import ENVIRONMENT, PLAY, SECRET, attempt, run

pytestmark = pytest.mark.host

DEPLOY = [*PLAY, f"playbooks/{ENVIRONMENT}.yml"]
ROLLBACK = [*PLAY, f"playbooks/{ENVIRONMENT}-rollback.yml"]
MASTER = "$(systemctl show --value -p MainPID notes@$(basename $(readlink /srv/notes/active)))"
SLOW = "import time; time.sleep(1.5)"
# No two frames are alike, or Python would show them as one.
CAUSE = "\n".join(
    [
        'def _0():\n    raise ValueError("THE-REAL-CAUSE \\x1b[31m " + __import__("os").environ["SECRET_KEY"])',
        *(f"def _{number}():\n    _{number - 1}()" for number in range(1, 41)),
        "_40()",
    ]
)
# Slots as they were filled before there were configurations.
OLD_SLOTS = """
import json
for slot in "ab":
    path = f"/srv/notes/slots/{slot}/slot.json"
    facts = json.load(open(path))
    for key in ("configuration", "previous_configuration", "workers", "backlog"):
        facts.pop(key, None)
    json.dump(facts, open(path, "w"))
"""
GREEDY = "_eaten = [b'x' * 1_000_000 for _ in range(3000)]"


@pytest.fixture(autouse=True)
def as_planned(operated: Deployed) -> None:
    """Each test begins with a host that runs some release as it is planned: with its environment, secrets and workers."""
    write_release(operated, "# as planned")
    process, planned = living(operated), operated.settings["gunicorn.workers"]
    if "COLOUR" in process or process["SECRET_KEY"] != SECRET or workers(operated) != planned:
        operated.play()


@pytest.fixture(autouse=True, scope="module")
def as_planned_at_last(operated: Deployed) -> Iterator[None]:
    """So does what comes after them."""
    yield
    write_release(operated, "# as planned")
    operated.play()


def wish(stack: Deployed, **values: str) -> tuple[str, str]:
    """The arguments of a play that deploys with these in the environment, too."""
    defaults = (stack.project / f"roles/notes_{ENVIRONMENT}/defaults/main.yml").read_text(encoding="utf-8")
    everything = {**yaml.load(defaults, yaml.BaseLoader)[f"notes_{ENVIRONMENT}_environment"], **values}  # noqa: S506
    return ("-e", json.dumps({f"notes_{ENVIRONMENT}_environment": everything}))


def living(stack: Deployed) -> Mapping[str, str]:
    """The environment of the process that serves, from the kernel."""
    raw = base64.b64decode(stack.shell(f"base64 /proc/{MASTER}/environ")).decode()
    return dict(entry.split("=", 1) for entry in raw.split("\0") if entry)


def release(stack: Deployed) -> str:
    """The release that answers."""
    answer = stack.get("/release/")
    assert answer.status == 200, answer
    return answer.headers["x-release"]


def workers(stack: Deployed) -> int:
    return len(stack.shell(f"pgrep -P {MASTER}").split())


def traces(stack: Deployed, text: str) -> list[str]:
    """The files below /srv, /etc and /run that hold a text."""
    return stack.shell(f"grep -rlsF {text} /srv /etc /run/systemd || true").split()


def refused(stack: Deployed, *arguments: str) -> str:
    """What a deploy says that has to fail."""
    done = attempt([*DEPLOY, *arguments], stack.project)
    assert done.returncode == 2, f"it did not fail:\n{done.stdout}"
    return done.stdout.replace("\\n", "\n").replace('\\"', '"')


def test_a_rollback_takes_the_older_environment_back(operated: Deployed) -> None:
    operated.play()
    before = release(operated)
    operated.play(*wish(operated, COLOUR="bad-colour"))
    assert living(operated)["COLOUR"] == "bad-colour"
    assert release(operated) == before, "the code is the same"
    run(ROLLBACK, operated.project)
    assert (release(operated), living(operated).get("COLOUR")) == (before, None)
    run(ROLLBACK, operated.project)
    assert (release(operated), living(operated)["COLOUR"]) == (before, "bad-colour")


def test_a_rollback_takes_secrets_and_gunicorns_configuration_back_with_the_release(operated: Deployed) -> None:
    before, served = release(operated), workers(operated)
    write_release(operated, "# with other secrets and one worker more")
    secrets = json.dumps({f"notes_{ENVIRONMENT}_secrets": {"SECRET_KEY": "another-secret"}})
    changed = ("-e", secrets, "-e", f"notes_{ENVIRONMENT}_gunicorn_workers={served + 1}")
    operated.play(*changed)
    newer = release(operated)
    assert (newer != before, living(operated)["SECRET_KEY"], workers(operated)) == (True, "another-secret", served + 1)
    # What is expected is what that release was planned with.
    run(ROLLBACK, operated.project)
    assert (release(operated), living(operated)["SECRET_KEY"], workers(operated)) == (before, SECRET, served)
    run([*ROLLBACK, "-e", f"release={newer}"], operated.project)
    assert (release(operated), living(operated)["SECRET_KEY"], workers(operated)) == (
        newer,
        "another-secret",
        served + 1,
    )


def test_a_deploy_that_is_refused_for_its_environment_leaves_nothing_of_it(operated: Deployed) -> None:
    write_release(operated, "# to go back from")
    operated.play(*wish(operated, COLOUR="good-colour"))
    after = release(operated)
    write_release(operated, "# refused")
    said = refused(operated, *wish(operated, ALLOWED_HOSTS="refused.example.com", COLOUR="refused-colour"))
    assert "/health/ answered 400 Bad Request" in said
    assert (release(operated), living(operated)["COLOUR"]) == (after, "good-colour")
    assert traces(operated, "refused.example.com") == traces(operated, "refused-colour") == []
    run(ROLLBACK, operated.project)
    assert (release(operated) != after, living(operated).get("COLOUR")) == (True, None)


def test_a_deploy_that_fails_before_the_switch_leaves_nothing_of_its_environment(operated: Deployed) -> None:
    write_release(operated, "# not migrated")
    said = refused(operated, *wish(operated, NOTES_DATA="/proc/nowhere"))
    assert "`python manage.py migrate --noinput` ended with status" in said
    assert traces(operated, "/proc/nowhere") == []


def test_after_a_killed_play_the_next_one_leaves_nothing_of_it(operated: Deployed) -> None:
    before = release(operated)
    write_release(operated, f"{SLOW}  # killed")
    with playing(operated, *wish(operated, COLOUR="killed-colour")) as play:
        preflight = "systemctl is-active notes-preflight || true"
        eventually(lambda: operated.shell(preflight).startswith("activ"), "a switch")
        os.killpg(play.pid, signal.SIGKILL)
        # And what runs on the host, which would go on without its play.
        operated.shell("kill -KILL $(pgrep -u root -x python3)")
    assert traces(operated, "killed-colour") != [], "it was killed too late or too early"
    run(ROLLBACK, operated.project)
    assert traces(operated, "killed-colour") == []
    run(ROLLBACK, operated.project)
    assert (release(operated), living(operated).get("COLOUR")) == (before, None)


def test_files_from_before_there_were_configurations_are_taken_over_without_a_restart(operated: Deployed) -> None:
    operated.play()
    operated.play(*wish(operated, COLOUR="newer"))
    operated.shell(
        "rm -r /srv/notes/configurations && mkdir -p /etc/notes && cp /srv/notes/active/environment /etc/notes/ && "
        f"python3 -c {shlex.quote(OLD_SLOTS)} && chmod 0750 /srv/notes/slots"
    )
    master = operated.shell(f"echo {MASTER}")
    operated.play(*wish(operated, COLOUR="newer"))
    assert operated.shell(f"echo {MASTER}") == master
    assert operated.shell("ls /etc/notes") == "deployed.json\n"
    run(ROLLBACK, operated.project)
    assert living(operated).get("COLOUR") is None
    assert operated.shell("stat -c %a /srv/notes/slots /srv/notes/configurations") == "755\n700\n"


def test_the_end_of_what_a_failed_release_said_is_shown_without_secrets(operated: Deployed) -> None:
    write_release(operated, CAUSE)
    said = refused(operated)
    assert "ValueError: THE-REAL-CAUSE \\\\x1b[31m ********" in said
    assert SECRET not in said
    assert len(said) < 40_000


def test_a_release_that_takes_more_memory_than_its_limit_is_told_as_such(operated: Deployed) -> None:
    write_release(operated, GREEDY)
    said = refused(operated, "-e", f"__notes_{ENVIRONMENT}_memory_assumed=true")
    limit = int(operated.settings["systemd.MemoryMax"])
    found = re.search(
        rf"notes-preflight\.service ran out of memory: the kernel killed a process of it at its limit of {round(limit / 2**20)} MB "
        r"\(MemoryMax\)\. One of its processes alone had taken (\d+) MB\. What a worker takes was assumed for the plan, not "
        r"measured\. Measure it with `farrier measure trial`, or state workload\.memory_private_mb in farrier\.yml",
        said,
    )
    assert found, said
    assert int(found[1]) > 20


@contextmanager
def planted(stack: Deployed, command: str) -> Iterator[None]:
    """Something that the application could have left in the directory of its runtime."""
    place = "/run/notes-$(basename $(readlink /srv/notes/active))"
    stack.shell(f"cd {place} && {command}")
    yield


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("mv workers elsewhere && ln -s /proc workers", id="a link"),
        pytest.param("mv workers elsewhere && mkfifo workers", id="a FIFO"),
        pytest.param(
            "cd workers && touch -- ² -1 0 99999999999999 && seq -f w%.0f 20000 | xargs touch",
            id="no process ids, and thousands",
        ),
    ],
)
def test_what_a_compromised_application_plants_does_not_keep_its_replacement_out(
    operated: Deployed, command: str
) -> None:
    write_release(operated, f"# instead of one that planted {command}")
    before = release(operated)
    with planted(operated, command):
        operated.play()
    assert release(operated) != before


def test_the_journal_of_a_host_holds_neither_secrets_nor_the_control_machines_processes(operated: Deployed) -> None:
    write_release(operated, "# told in the journal")
    operated.play(*wish(operated, COLOUR="canary-colour"))
    # Only what Ansible writes: an application may log what it likes.
    journal = operated.shell("journalctl --no-pager --output=cat --grep 'Invoked with' | LC_ALL=C tr -cd '[:print:]\n'")
    assert "environment=NOT_LOGGING_PARAMETER" in journal
    assert SECRET not in journal
    assert "canary-colour" not in journal
    lock = [line for line in journal.splitlines() if "path=/run/notes.lock" in line and "living=" in line]
    assert lock
    assert {re.search(r" living=(\S+)", line)[1] for line in lock} == {"NOT_LOGGING_PARAMETER"}  # type: ignore[index]


@pytest.fixture
def fresh(operated: Deployed) -> Iterator[Deployed]:
    """A second host of the environment, on which nothing has been deployed yet."""
    with second_host(operated, "operated-first") as host:
        yield host


def test_a_first_deploy_that_is_refused_leaves_nothing_switched_on(operated: Deployed, fresh: Deployed) -> None:
    look = (
        "systemctl is-enabled notes.socket notes-activate; systemctl is-active notes.socket; "
        "ls /etc/nginx/sites-enabled /srv/notes/slots /srv/notes/configurations; nginx -t -q && echo fine; true"
    )
    before = wish(operated)
    write_release(operated, 'raise RuntimeError("the shoe does not fit")')
    assert "the shoe does not fit" in refused(operated, "--limit", fresh.name)
    assert fresh.shell("ls /etc/nginx/sites-enabled") == "default\n"
    write_release(operated, "# the first one")
    refused(operated, "--limit", fresh.name, *wish(operated, ALLOWED_HOSTS="refused.example.com"))
    assert fresh.shell(look).split() == [
        *("disabled", "disabled", "inactive"),
        *("/etc/nginx/sites-enabled:", "default", "/srv/notes/configurations:", "/srv/notes/slots:", "fine"),
    ]
    assert fresh.shell("grep -rlsF refused.example.com /srv /etc || true") == ""
    operated.play("--limit", fresh.name, *before)
    assert fresh.shell(look).split()[:3] == ["enabled", "enabled", "active"]
    assert '"release"' in fresh.shell("cat /srv/notes/active/slot.json")
