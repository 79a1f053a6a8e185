"""Which release answers, in which slot, since when and by whom: asked of an answer, and of a playbook."""

import os
import re
from collections.abc import Mapping

import pytest
from deployed import ENVIRONMENT, PLAY, Deployed, attempt, run
from operated import restarted_with, write_release

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


def test_the_playbook_tells_what_serves_and_changes_nothing(operated: Deployed) -> None:
    said = run(STATUS, operated.project)
    slot, release = serving(operated)
    by = os.environ.get("USER") or os.environ.get("LOGNAME") or "unknown"
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


def test_a_kernel_that_does_not_tell_its_longest_queue_is_no_crash(operated: Deployed) -> None:
    operated.shell("mount -t tmpfs tmpfs /proc/sys/net/core")
    try:
        done = attempt(STATUS, operated.project)
    finally:
        operated.shell("umount /proc/sys/net/core")
    assert done.returncode == 0, done.stdout
    assert "net.core.somaxconn is not compared with the plan" in re.sub(r"\s+", " ", done.stdout + done.stderr)
