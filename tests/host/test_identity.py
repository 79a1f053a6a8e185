"""Which release answers, in which slot, since when and by whom: asked of an answer, and of a playbook."""

import re
from collections.abc import Iterator, Mapping, Sequence

import pytest

from deployed import Deployed
from operated import login, restarted_with, write_release
from testbed import ENVIRONMENT, PLAY, attempt, run

pytestmark = pytest.mark.host

STATUS = [*PLAY, f"playbooks/{ENVIRONMENT}-status.yml"]
# An application that claims to be another release, and tells what a client claimed.
LIAR = """
_honest = application


def application(environ, start_response):
    def start(status, headers, *exc_info):
        headers = [*headers, ("X-Release", "forged"), ("X-Heard", environ.get("HTTP_X_RELEASE", "nothing"))]
        return start_response(status, headers, *exc_info)

    return _honest(environ, start)
"""


@pytest.fixture(scope="module", autouse=True)
def lying(operated: Deployed) -> None:
    write_release(operated, LIAR)
    operated.play()


def serving(stack: Deployed) -> tuple[str, str]:
    """The active slot, and the directory that the slot's master was started in."""
    slot = stack.shell("basename $(readlink /srv/notes/active)").strip()
    release = stack.shell(f"basename $(readlink /proc/$(systemctl show --value -p MainPID notes@{slot})/cwd)").strip()
    return slot, release


def headers(stack: Deployed) -> Mapping[str, str]:
    return stack.ask("GET", "/release/", headers={"X-Release": "claimed"}).headers


def check_header(stack: Deployed) -> None:
    found = headers(stack)
    assert found["x-release"] == serving(stack)[1]
    assert found["x-heard"] == "nothing"


def test_each_answer_names_the_release_of_the_process_that_gave_it(operated: Deployed) -> None:
    check_header(operated)


def test_without_gunicorns_own_header_the_application_can_lie(operated: Deployed) -> None:
    with (
        restarted_with(operated, "^    worker.wsgi = _naming.*", "    pass"),
        pytest.raises(AssertionError, match="forged"),
    ):
        check_header(operated)


@pytest.mark.parametrize("as_root", [["-b"], ["-e", "ansible_become=true"]], ids=" ".join)
def test_the_playbook_tells_what_serves_and_changes_nothing(operated: Deployed, as_root: Sequence[str]) -> None:
    said = run([*STATUS, *as_root], operated.project)
    slot, release = serving(operated)
    by = login()
    line = (
        rf"{operated.name}: release {release} in slot {slot} since 20[-0-9]+T[:0-9]+Z by {by}; 2 of 2 workers are ready, "
        rf"0 of at most {operated.settings['gunicorn.backlog']} requests wait; answers 200 in [.0-9]+ s"
    )
    assert re.search(rf'"{line}"', said), said
    assert re.search(r"changed=0 +unreachable=0 +failed=0", said)


def test_a_host_that_is_out_of_reach_has_its_line_too(operated: Deployed) -> None:
    done = attempt([*STATUS, "-e", "ansible_port=1"], operated.project)
    assert f'"{operated.name}: could not be asked"' in done.stdout
    assert done.returncode != 0


def test_a_host_that_does_not_answer_has_its_line_and_fails(operated: Deployed) -> None:
    operated.shell("systemctl stop nginx")
    try:
        done = attempt(STATUS, operated.project)
    finally:
        operated.shell("systemctl start nginx")
    assert re.search(rf'"{operated.name}: release [0-9a-f]{{12}} .*Connection refused"', done.stdout), done.stdout
    assert f"{operated.name} does not serve as it should, or could not be asked." in done.stdout
    assert done.returncode == 2


@pytest.fixture(scope="module")
def onlooker(operated: Deployed) -> Iterator[Sequence[str]]:
    """The playbook for somebody who may log in and nothing else."""
    home = "/home/onlooker"
    operated.shell(
        f"useradd --create-home onlooker && cp -r ~admin/.ssh {home} && chown -R onlooker: {home}; "
        "! setpriv --reuid onlooker --regid onlooker --clear-groups sudo -n true 2>&1"
    )
    yield [*STATUS, "-e", "ansible_user=onlooker"]
    operated.shell("loginctl terminate-user onlooker; userdel --force --remove onlooker 2>&1")


def line_of(stack: Deployed, workers: str) -> str:
    """The line of a host that answers, as a pattern."""
    return (
        rf'"{stack.name}: release [0-9a-f]{{12}} in slot [ab] since \S+ by \S+; {re.escape(workers)}, '
        rf'0 of at most {stack.settings["gunicorn.backlog"]} requests wait; answers 200 in [.0-9]+ s"'
    )


def test_it_needs_no_root(operated: Deployed, onlooker: Sequence[str]) -> None:
    said = run(onlooker, operated.project)
    assert re.search(line_of(operated, "2 of 2 workers running (use -b to see whether they are ready)"), said), said
    assert re.search(r"changed=0 +unreachable=0 +failed=0", said)


def test_it_needs_no_root_to_see_that_the_slot_is_gone(operated: Deployed, onlooker: Sequence[str]) -> None:
    slot, _ = serving(operated)
    operated.shell(f"systemctl stop notes@{slot}")
    try:
        done = attempt(onlooker, operated.project)
    finally:
        operated.shell(f"systemctl start notes@{slot}")
    assert "; 0 of 2 workers are ready, " in done.stdout, done.stdout
    assert f"{operated.name} does not serve as it should, or could not be asked." in done.stdout
    assert done.returncode == 2


def test_where_proc_hides_the_workers_the_answer_alone_counts(operated: Deployed, onlooker: Sequence[str]) -> None:
    operated.shell("mount -o remount,hidepid=2 /proc")
    try:
        well = attempt(onlooker, operated.project)
        operated.shell("systemctl stop nginx")
        ill = attempt(onlooker, operated.project)
    finally:
        operated.shell("systemctl start nginx; mount -o remount,hidepid=0 /proc")
    unseen = "2 workers expected (use -b to see how many run)"
    assert re.search(line_of(operated, unseen), well.stdout), well.stdout
    assert well.returncode == 0
    assert f"; {unseen}, " in ill.stdout, ill.stdout
    assert "Connection refused" in ill.stdout
    assert ill.returncode == 2


def test_who_may_not_see_what_serves_is_told_so(operated: Deployed, onlooker: Sequence[str]) -> None:
    operated.shell("chmod 750 /srv/notes")
    try:
        done = attempt(onlooker, operated.project)
    finally:
        operated.shell("chmod 755 /srv/notes")
    assert "/srv/notes is not accessible to this user; use root (-b)" in done.stdout
    assert f'"{operated.name}: could not be asked"' in done.stdout
    assert done.returncode == 2


def test_a_kernel_that_does_not_tell_its_longest_queue_is_no_crash(operated: Deployed) -> None:
    operated.shell("mount -t tmpfs tmpfs /proc/sys/net/core")
    try:
        done = attempt(STATUS, operated.project)
    finally:
        operated.shell("umount /proc/sys/net/core")
    assert done.returncode == 0, done.stdout
    assert "net.core.somaxconn is not compared with the plan" in re.sub(r"\s+", " ", done.stdout + done.stderr)
