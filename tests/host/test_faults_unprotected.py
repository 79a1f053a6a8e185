"""What protects is the protection: without it the check of the same row fails, and for that reason.

Each protection is taken away by itself, where it stands: a line of a generated file on the host, a step of the role, or of
its switch. Where two of them protect, one after the other, both are gone. Rows that are not here: 8 (test_watchdog.py),
17 and 19 (test_faults_of_deploys.py), 18 (test_lock.py), 25 (test_certificate.py).
"""

import hashlib
import shlex
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

import farrier
from farrier.ansible.render import templates_directory
from faults import SERVICE, SETTLE_SECONDS, WORKERS, Stage
from operated import altered
from test_faults import (
    BOOT_SECONDS,
    check_boot,
    check_broken_nginx_configuration,
    check_changed_workers,
    check_crashing,
    check_dead_slots,
    check_failing_slot,
    check_full_temporary_directory,
    check_killed_deploy,
    check_killed_master,
    check_killed_workers,
    check_memory,
    check_overflowing_backlog,
    check_reboot,
    check_restarted_socket,
    check_unhealthy,
    check_unimportable,
)
from test_faults_of_deploys import ROLLBACK, check_deploys
from test_faults_of_resources import (
    DEFAULT_SERVER,
    RELOAD,
    check_conflicting_site,
    check_cut_request,
    check_fork_bomb,
    check_full_disk,
    check_full_disk_for_bodies,
    check_no_memory,
    check_oversized_requests,
    check_shrunk_host,
    check_slow_clients,
    hurried,
)
from testbed import ENVIRONMENT, PLAY, attempt

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("rested")]

Away = Callable[[Stage], AbstractContextManager[object]]

# Nothing becomes settled later than this that does at all.
PATIENCE_SECONDS = 5
RESTART = "systemctl restart notes@$(basename $(readlink /srv/notes/active))"
UNITS = "/etc/systemd/system"
SOCKET = f"{UNITS}/notes.socket"
ACTIVATE = f"{UNITS}/notes-activate.service"
CONFIG = "/srv/notes/active/gunicorn.conf.py"
NGINX = "/etc/nginx/nginx.conf"
SITE = "/etc/nginx/sites-available/notes"
SWITCH, SLOT = "library/farrier_switch.py", "module_utils/farrier_slot.py"
ROOM = "module_utils/farrier_room.py"
SITES = "module_utils/farrier_sites.py"
NO_TRIAL = ("if not os.access(PROGRAM, os.X_OK):", "if True:")
# The switch takes a slot for ready as soon as systemd has begun to start it; or its workers, as soon as their master is.
NO_WAIT_FOR_THE_MASTER = ('run("systemctl", "start", self.unit)', 'run("systemctl", "start", "--no-block", self.unit)')
NO_WAIT_FOR_WORKERS = ("if len(pids) >= count:", "if True:")
NO_PREFLIGHT = ("tried = old is None or self.check_memory(old)", "tried = False")
START = """                with self.step("start"):
                    pids = new.start(self.target.workers)
                self.point_to"""
SOURCES = Path(farrier.__file__).parent / "ansible"
ROLE_SOURCES = {
    "library": SOURCES / "modules",
    "module_utils": SOURCES / "module_utils",
    "tasks": templates_directory() / "role/tasks",
}
ANY_INTERVAL = ("^StartLimitIntervalSec=.*", "StartLimitIntervalSec=10")


def on_host(path: str, old: str, new: str, then: str = "true") -> Away:
    """A generated file on the host says something else; `then` has it read."""
    return lambda stage: stage.altered(path, old, new, then)


def in_role(path: str, *changes: tuple[str, str]) -> Away:
    """A file of the role, on the control node, says something else; what is taken away has to be in its source."""
    folder, _, name = path.partition("/")
    source = ROLE_SOURCES[folder] / (f"{name}.tmpl" if folder == "tasks" else name)
    for old, _ in changes:
        assert old in source.read_text(encoding="utf-8"), f"{source} does not say {old!r}"

    @contextmanager
    def away(stage: Stage) -> Iterator[None]:
        with ExitStack() as stack:
            for old, new in changes:
                stack.enter_context(altered(stage.stack.project / f"roles/notes_{ENVIRONMENT}" / path, old, new))
            yield

    return away


def both(*each: Away) -> Away:
    """One in the other."""

    @contextmanager
    def away(stage: Stage) -> Iterator[None]:
        with ExitStack() as stack:
            for one in each:
                stack.enter_context(one(stage))
            yield

    return away


def commands(command: str, undo: str) -> Away:
    """Something on the host that no file says; `undo` brings it back."""

    @contextmanager
    def away(stage: Stage) -> Iterator[None]:
        try:
            stage.shell(command)
            yield
        finally:
            stage.shell(undo)

    return away


def later_as_before(path: str, then: str = "true") -> Away:
    """A file on the host that the check leaves as nothing should find it."""
    return commands(f"cp -p {path} /root/kept", undo=f"mv /root/kept {path}; {then}")


def switch_back(stage: Stage, **parameters: object) -> str:
    """What the role's switch says, by itself, on the way to the release before."""
    return stage.switch(release="previous", **parameters).stdout


def switch_to(stage: Stage, text: str) -> str:
    """What the switch by itself says, which has to fail, of a release that was made on the host: the one that runs, and this."""
    name = hashlib.sha256(text.encode()).hexdigest()[:12]
    stage.shell(
        f"cd /srv/notes/releases && rm -rf {name} && cp -a $(readlink -f /srv/notes/active/release) {name} && "
        f"printf %s {shlex.quote(text)} >>{name}/notes/wsgi.py"
    )
    done = stage.switch(release=name)
    assert done.returncode != 0, f"the switch did not fail: {done.stdout}"
    return done.stdout


@dataclass(frozen=True)
class Protection:
    """What protects the outcome of a row, how it is taken away, and what the row's check says then."""

    row: int
    name: str
    away: Away
    check: Callable[[Stage], object]
    says: str


PROTECTIONS = (
    Protection(
        1,
        "time for a slot that stops",
        on_host(SERVICE, "^TimeoutStopSec=.*", "TimeoutStopSec=100ms"),
        # The switch alone: a deploy would write the unit again. More than once, because it is chance how many requests
        # are under way in the old slot, and none may be.
        lambda stage: check_deploys(stage, "four switches", (switch_back(stage) for _ in range(4)), 60),
        "requests lost",
    ),
    Protection(
        2,
        "preflight, and a switch that waits",
        both(in_role(SWITCH, NO_PREFLIGHT), in_role(SLOT, NO_WAIT_FOR_THE_MASTER, NO_WAIT_FOR_WORKERS)),
        lambda stage: check_unimportable(stage, partial(switch_to, stage)),
        "the switch did not fail",
    ),
    Protection(
        3,
        "a switch that waits for workers",
        in_role(SLOT, NO_WAIT_FOR_WORKERS),
        lambda stage: check_crashing(stage, partial(switch_to, stage)),
        "the switch did not fail",
    ),
    Protection(
        4,
        "a look at the health",
        in_role(SLOT, ("if not 200 <= response.status < 400:", "if False:")),
        lambda stage: check_unhealthy(stage, partial(switch_to, stage)),
        "the switch did not fail",
    ),
    Protection(
        5,
        "a switch: restarted in its place",
        on_host(CONFIG, "^worker_tmp_dir", rf"__import__('time').sleep({BOOT_SECONDS})\nworker_tmp_dir"),
        lambda stage: check_boot(stage, lambda: stage.shell(RESTART)),
        "somebody waited",
    ),
    Protection(
        6,
        "worker_connections = threads",
        on_host(CONFIG, "^worker_connections = .*", "worker_connections = 1000", RESTART),
        partial(check_killed_workers, victims=WORKERS),
        "requests lost by 3 workers",
    ),
    Protection(
        7,
        "KillMode=control-group",
        on_host(SERVICE, "^KillMode=.*", "KillMode=mixed"),
        check_killed_master,
        "requests lost",
    ),
    Protection(
        7,
        "StartLimitIntervalSec=0",
        both(*(on_host(unit, *ANY_INTERVAL) for unit in (SERVICE, SOCKET, ACTIVATE))),
        check_failing_slot,
        "requests lost",
    ),
    Protection(
        9,
        "MemoryMax",
        # What it ate is gone with its worker.
        on_host(SERVICE, "^MemoryMax=.*", "MemoryMax=infinity", RESTART),
        check_memory,
        "it ate all that it wanted",
    ),
    Protection(
        10,
        "a look at the memory",
        in_role(SWITCH, ("if need > available:", "if False:")),
        lambda stage: check_no_memory(stage, lambda: switch_back(stage, memory_available_mb=1)),
        "not refused before it was started",
    ),
    Protection(
        11,
        "worker_tmp_dir in memory",
        on_host(CONFIG, "^worker_tmp_dir = [^#]*", "worker_tmp_dir = None  ", RESTART),
        check_full_temporary_directory,
        "lost|no worker more",
    ),
    Protection(
        12,
        "a look at the disk",
        in_role(ROOM, ("if free_mb < need:", "if False:")),
        lambda stage: check_full_disk(stage, "--tags", "preflight"),
        "the play did not fail",
    ),
    Protection(
        13,
        "room in memory for a small body",
        on_host(SITE, "client_max_body_size", "client_body_buffer_size 256; client_max_body_size", RELOAD),
        check_full_disk_for_bodies,
        "requests lost",
    ),
    Protection(
        14,
        "nginx -t",
        both(
            later_as_before(NGINX, "rm -f /run/notes.nginx.pending"),
            in_role("tasks/nginx.yml", ("validate: [nginx, -t, -q]", "validate: []")),
            in_role(SITES, NO_TRIAL),
        ),
        check_broken_nginx_configuration,
        "what NGINX refuses is in place",
    ),
    Protection(
        15,
        "an activator at boot",
        commands("systemctl disable notes-activate", undo="systemctl enable notes-activate"),
        check_reboot,
        "not settled",
    ),
    Protection(
        16,
        "a link that comes last",
        both(
            # The play that is killed has it.
            commands("true", undo=": >/run/notes.lock"),
            in_role(SWITCH, (START, f"                self.point_to(new)\n{START}")),
        ),
        lambda stage: check_killed_deploy(stage, lambda: stage.start(ROLLBACK)),
        "a slot counts that was not ready",
    ),
    Protection(
        20,
        "503 for a full queue",
        on_host(SITE, '"502:-" 1;', '"502:-" 0;', RELOAD),
        check_overflowing_backlog,
        r"not refused but failed: {\(502, ''\)}",
    ),
    Protection(
        21,
        "an activator at the socket",
        on_host(ACTIVATE, "^ExecStart=.*", "ExecStart=/bin/sleep 1"),
        check_dead_slots,
        "not settled",
    ),
    Protection(
        22,
        "client_header_timeout",
        both(hurried, on_host(NGINX, "client_header_timeout .*", "", RELOAD)),
        check_slow_clients,
        "nobody hung up .*slow-header",
    ),
    Protection(
        22,
        "client_body_timeout",
        both(hurried, on_host(NGINX, "client_body_timeout .*", "", RELOAD)),
        check_slow_clients,
        "nobody hung up .*slow-body",
    ),
    Protection(
        22,
        "proxy_request_buffering",
        both(hurried, on_host(SITE, "proxy_request_buffering on", "proxy_request_buffering off", RELOAD)),
        check_slow_clients,
        "slow clients hold threads",
    ),
    Protection(
        22,
        "NGINX's limits of headers",
        on_host(NGINX, "large_client_header_buffers .*", "large_client_header_buffers 4 64k;", RELOAD),
        check_oversized_requests,
        "not refused as they should be",
    ),
    Protection(
        22,
        "client_max_body_size",
        on_host(SITE, "client_max_body_size .*", "client_max_body_size 0;", RELOAD),
        check_oversized_requests,
        "not refused as they should be",
    ),
    Protection(
        23,
        "a count of what was cut",
        in_role(SWITCH, ("self.cut += old.cut", "old.cut")),
        lambda stage: check_cut_request(
            stage, lambda: attempt([*PLAY, f"playbooks/{ROLLBACK}.yml"], stage.stack.project)
        ),
        "the deploy does not tell",
    ),
    Protection(
        24,
        "TasksMax",
        on_host(SERVICE, "^TasksMax=.*", "TasksMax=infinity", RESTART),
        check_fork_bomb,
        "nothing held it",
    ),
    Protection(
        26,
        "RefuseManualStop",
        on_host(SOCKET, "^RefuseManualStop=.*", ""),
        check_restarted_socket,
        "restart was not refused",
    ),
    Protection(
        27,
        "a look at what runs",
        in_role(
            "library/farrier_configuration.py",
            ("    if names:\n        name =", "    names = []\n    if names:\n        name ="),
        ),
        lambda stage: check_changed_workers(stage, "--tags", "service,switch,verify"),
        r"The number of ready workers should be \d and is \d",
    ),
    Protection(
        28,
        "a look at the memory there is",
        in_role(ROOM, ("elif bound < self.same_memory_mb:", "elif False:")),
        lambda stage: check_shrunk_host(stage, "--tags", "preflight"),
        "the play did not fail",
    ),
    Protection(
        28,
        "a look at the CPUs there are",
        in_role(ROOM, ("if bound < self.cpus - 0.01 or usable < self.cpus * FEWEST_CPUS:", "if False:")),
        lambda stage: check_shrunk_host(stage, "--tags", "preflight"),
        "the play did not fail",
    ),
    Protection(
        39,
        "NGINX's word before anything changes",
        in_role(SITES, NO_TRIAL),
        lambda stage: check_conflicting_site(
            stage, "a default server", "80 default_server", "blog.example.org", DEFAULT_SERVER
        ),
        "the play did not fail",
    ),
)


@pytest.mark.parametrize("protection", [pytest.param(each, id=f"{each.row}: {each.name}") for each in PROTECTIONS])
def test_without(stage: Stage, protection: Protection) -> None:
    before = stage.look()
    stage.mutation, stage.patience_seconds = protection.name, PATIENCE_SECONDS
    try:
        with protection.away(stage):
            stage.settled()
            with pytest.raises(AssertionError, match=protection.says):
                protection.check(stage)
    finally:
        stage.patience_seconds = SETTLE_SECONDS
        stage.bring_back(before)
