"""What would stop a deploy later is refused before anything is changed, and a host knows whose it is."""

import json
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from deployed import Deployed, one_module
from operated import edited, eventually, second_host, write_release
from testbed import DOMAIN, ENVIRONMENT, PLAY, ROOT, attempt, farrier, run
from testbed import environment as our_environment

pytestmark = pytest.mark.host

HOST = "operated"
LOOK_AT_FILES = (
    "find /etc /srv /usr/local /var/log/nginx -xdev -not -name '*.log' -printf '%p %s %T@ %l\\n' | sort | sha256sum"
)
DEPLOY = f"playbooks/{ENVIRONMENT}.yml"


def said(stack: Deployed, *arguments: str) -> tuple[int, str]:
    """How a play ended, and all it said."""
    done = attempt([*PLAY, *arguments], stack.project)
    return done.returncode, re.sub(r"\s+", " ", done.stdout + done.stderr).replace('\\"', '"')


def refused(stack: Deployed, *arguments: str) -> str:
    """What a play says that may not change anything, and does not."""
    before, serving = stack.shell(LOOK_AT_FILES), stack.shell("readlink -f /srv/notes/active/release")
    status, text = said(stack, *arguments)
    assert status != 0, f"not refused: {text}"
    assert stack.shell(LOOK_AT_FILES) == before, "something was changed"
    assert stack.shell("readlink -f /srv/notes/active/release") == serving
    return text


@contextmanager
def on_host(stack: Deployed, command: str, undo: str) -> Iterator[None]:
    stack.shell(command)
    try:
        yield
    finally:
        stack.shell(undo)


# ---- Whose the host is ----


@pytest.fixture(scope="module")
def other(operated: Deployed) -> Iterator[str]:
    """A second environment of the same application, whose role is there and whose inventory names the same host."""
    project, name = operated.project, "other"

    def more(document: Any) -> None:
        own = document["environments"][ENVIRONMENT]
        document["environments"][name] = {**own, "domain": "other.example.org"}

    def secrets(document: Any) -> None:
        document["all"]["vars"][f"notes_{name}_secrets"] = document["all"]["vars"][f"notes_{ENVIRONMENT}_secrets"]

    with edited(project / "farrier.yml", more), edited(project / "inventory.yml", secrets):
        farrier(project, "facts", name)
        farrier(project, "generate", name)
        operated.play()
        yield name


@pytest.mark.parametrize("playbook", ["", "-rollback", "-status"])
def test_another_environment_is_refused_before_anything_changes(operated: Deployed, other: str, playbook: str) -> None:
    text = refused(operated, f"playbooks/{other}{playbook}.yml")
    assert (
        f"{HOST} serves notes of {ENVIRONMENT} ({DOMAIN}), not of other (other.example.org). Is this the right inventory? To "
        "give the host to other (other.example.org) on purpose: -e notes_other_take_host=true"
    ) in text
    assert operated.get("/health/").status == 200


def test_a_host_is_moved_on_purpose(operated: Deployed, other: str) -> None:
    take = ("-e", "notes_other_take_host=true")
    status, text = said(operated, f"playbooks/{other}.yml", "--check", "--tags", "system", *take)
    assert status == 0, text
    assert f"Taken over as asked: {HOST} serves notes of {ENVIRONMENT}" in text


def test_another_project_of_the_same_name_is_refused(operated: Deployed) -> None:
    domains = json.dumps({f"notes_{ENVIRONMENT}_domains": ["shop.example.net"]})
    text = refused(operated, DEPLOY, "-e", domains)
    assert f"{HOST} serves notes of {ENVIRONMENT} ({DOMAIN}), not of {ENVIRONMENT} (shop.example.net)." in text


def test_a_host_that_was_deployed_to_before_hosts_had_a_mark_is_adopted(operated: Deployed) -> None:
    operated.shell("rm /etc/notes/deployed.json")
    operated.play()
    mark = json.loads(operated.shell("cat /etc/notes/deployed.json"))
    assert mark == {"application": "notes", "environment": ENVIRONMENT, "domains": [DOMAIN]}
    assert operated.shell("stat -c '%a %U' /etc/notes/deployed.json") == "644 root\n"


GROUPS = ("shadow", "adm", "disk")
IN_THE_WAY = {
    "/srv/blog1": "mkdir /srv/blog1 && touch /srv/blog1/index.html",
    "/var/lib/blog2": "ln -s /root /var/lib/blog2",
    "/etc/blog3": "mkdir /etc/blog3 && touch /etc/blog3/config",
    "/run/blog4.sock": "touch /run/blog4.sock",
    "/etc/systemd/system/blog5.service": "echo '[Service]' >/etc/systemd/system/blog5.service",
    "/run/systemd/system/blog6.socket": "echo '[Socket]' >/run/systemd/system/blog6.socket",
    "/etc/nginx/sites-available/blog7": "echo server >/etc/nginx/sites-available/blog7",
}


def application(path: str) -> str:
    """The application that something is in the way of."""
    return re.search(r"blog\d", path)[0]  # type: ignore[index]


def whose(stack: Deployed, *applications: str) -> dict[str, str]:
    """What the role's preflight says of applications of these names on the host."""
    wish = {
        "host": HOST,
        "application": "{{ item }}",
        "environment": ENVIRONMENT,
        "domains": [DOMAIN],
        "take_host_hint": "-e take",
    }
    task = {"farrier_preflight": wish, "loop": list(applications), "ignore_errors": True}
    play = {"hosts": "all", "gather_facts": False, "become": True, "tasks": [task]}
    (stack.project / "whose.yml").write_text(json.dumps([play]), encoding="utf-8")
    role = f"roles/notes_{ENVIRONMENT}"
    ours = {"ANSIBLE_LIBRARY": f"{role}/library", "ANSIBLE_MODULE_UTILS": f"{role}/module_utils"}
    said = run(["env", *(f"{name}={value}" for name, value in ours.items()), *PLAY, "whose.yml"], stack.project)
    results = re.findall(r"^(ok|failed): \[\S+\].*? \(item=(\S+)\)(.*)$", said, re.MULTILINE)
    found = {name: f"{how}{text}" for how, name, text in results}
    assert list(found) == list(applications), said
    return found


@dataclass(frozen=True)
class Preflights:
    """What is said of each application with things in the way, and what afterwards."""

    before: dict[str, str]
    after: dict[str, str]


@pytest.fixture(scope="module")
def preflights(operated: Deployed) -> Preflights:
    names = (*map(application, IN_THE_WAY), "redis")
    make = ["useradd --system --home-dir /var/lib/redis redis", *IN_THE_WAY.values()]
    undo = ["userdel redis", *(f"rm -r {path}" for path in IN_THE_WAY), "mkdir -p /srv/blog8/lost+found"]
    with on_host(operated, "; ".join(make), "; ".join(undo)):
        before = whose(operated, *names, *GROUPS)
    with on_host(operated, "true", "rm -r /srv/blog8"):
        return Preflights(before, whose(operated, *names, "blog8"))


@pytest.mark.parametrize("name", GROUPS)
def test_a_group_that_is_there_is_not_joined(preflights: Preflights, name: str) -> None:
    assert (
        f"{HOST} has a group {name} that this role did not make, so the application would run with rights that are not its own."
    ) in preflights.before[name]


def test_a_user_that_is_there_is_not_borrowed(preflights: Preflights) -> None:
    assert (
        f"{HOST} has a user redis (/var/lib/redis, /bin/sh) that this role did not make" in preflights.before["redis"]
    )
    assert preflights.after["redis"].startswith("ok"), "it is refused for something else"


@pytest.mark.parametrize("path", IN_THE_WAY)
def test_what_is_there_and_not_ours_is_refused(preflights: Preflights, path: str) -> None:
    assert f"{HOST} already has {path}, which this role did not make." in preflights.before[application(path)]
    assert preflights.after[application(path)].startswith("ok"), "it is refused for something else"


def test_an_empty_directory_is_no_stranger(preflights: Preflights) -> None:
    assert preflights.after["blog8"].startswith("ok")


# ---- Which hosts ----


def test_a_host_without_a_plan_is_refused_and_the_planned_one_waits(operated: Deployed) -> None:
    def more(document: Any) -> None:
        document["all"]["hosts"]["db1"] = dict(document["all"]["hosts"][HOST])

    write_release(operated, "# with a host that nobody planned")
    # The same host twice, of which one play has the lock: so without the steps that take it.
    with edited(operated.project / "inventory.yml", more):
        text = refused(operated, DEPLOY, "--tags", "preflight,verify")
    assert (
        f"db1 was not planned: gather its facts (farrier facts {ENVIRONMENT}) and generate the role again, or, if it is like "
        f"one that was, set notes_{ENVIRONMENT}_planned_hosts to [db1] in its host_vars."
    ) in text
    assert "Read what is running on the host" not in text, "the play went on without it"


# ---- What the host has ----


@contextmanager
def hungry(stack: Deployed, megabytes: int) -> Iterator[None]:
    """Another service, which takes so much memory."""
    program = (
        f"import os, socket, time; x = b'x' * ({megabytes} << 20); s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); "
        "s.sendto(b'READY=1', os.environ['NOTIFY_SOCKET']); time.sleep(600)"
    )
    start = f"systemd-run --quiet --unit=hungry -p Type=notify python3 -c {shlex.quote(program)}"
    with on_host(stack, start, "systemctl stop hungry"):
        yield


def memory(stack: Deployed) -> dict[str, int]:
    done = run(one_module("farrier_facts", "application=notes"), stack.project)
    found: dict[str, int] = json.loads(done[done.index("{") :])["facts"]["memory_mb"]
    return found


def test_another_service_is_told_of_while_the_slots_fit_and_refused_when_not(operated: Deployed) -> None:
    operated.play()
    has = memory(operated)
    bound = has["limit"] or has["total"]
    sized = f"notes_{ENVIRONMENT}_sized_for_memory_mb={has['usable']}"
    eaten = has["usable"] // 10
    with hungry(operated, eaten):
        usable = memory(operated)["usable"]
        assert usable < has["usable"] * 0.95
        status, text = said(operated, DEPLOY, "--tags", "preflight", "-e", sized)
        assert status == 0, text
        start = f"{HOST} was sized for {has['usable']} MB and now has {usable} MB to use (of {bound} MB other services take "
        assert start in text
        assert "hungry.service " in text
        assert "MB that its slots should need still fit." in text

        slot = usable // 2 + 1
        more = ("-e", f"notes_{ENVIRONMENT}_slot_memory_mb={slot}", "-e", f"notes_{ENVIRONMENT}_switch=overlap")
        text = refused(operated, DEPLOY, "-e", sized, *more)
        assert start in text
        assert f"But 2 slots of {slot} MB, as side by side in a deploy, need {2 * slot} MB." in text
        accept = f"notes_{ENVIRONMENT}_accept_smaller_host=true"
        assert f"or go on all the same: -e {accept}" in text
        status, text = said(operated, DEPLOY, "--tags", "preflight", "-e", sized, *more, "-e", accept)
        assert status == 0, text
        assert "Accepted as asked." in text


# ---- NGINX ----


def test_an_edited_nginx_conf_is_kept_and_told_of(operated: Deployed) -> None:
    kept, conf = "/etc/nginx/nginx.conf.before-notes", "/etc/nginx/nginx.conf"
    assert operated.shell(f"ls {kept} 2>&1 || true").startswith("ls:"), "the package's own file is not worth a copy"
    theirs = operated.shell(
        f"sed '1d;s/keepalive_timeout.*/keepalive_timeout 7; # theirs/' {conf} | tee {conf}.new; mv {conf}.new {conf}"
    )
    try:
        status, text = said(operated, DEPLOY)
        assert status == 0, text
        assert f"{conf} was edited on this host and has been replaced; the edited version is kept as {kept}." in text
        assert operated.shell(f"cat {kept}") == theirs
        assert "theirs" not in operated.shell(f"cat {conf}")
    finally:
        operated.shell(f"rm -f {kept}")


# ---- Hosts of other kinds ----


def plain_play(stack: Deployed, *arguments: str) -> str:
    """A play without the pipelining that tests switch on."""
    return run(["env", "-u", "ANSIBLE_PIPELINING", *PLAY, DEPLOY, *arguments], stack.project)


def test_sudo_may_want_a_terminal(operated: Deployed) -> None:
    assert "ANSIBLE_PIPELINING" in our_environment()
    with on_host(operated, "echo 'Defaults requiretty' >/etc/sudoers.d/tty", "true"):
        try:
            plain_play(operated)
        finally:
            run([*operated.ssh, "-tt", "sudo rm /etc/sudoers.d/tty"], ROOT)


def test_root_may_be_reached_by_su(operated: Deployed) -> None:
    """Su brings no directories for root's programs; NGINX is one of those."""
    become = {"ansible_become_method": "su", "ansible_become_password": "of-a-test-host"}
    with on_host(operated, "echo root:of-a-test-host | chpasswd", "passwd --lock root"):
        operated.play("-e", json.dumps(become), "-e", f"notes_{ENVIRONMENT}_nginx_keepalive_timeout=66")
    operated.play()


def test_a_kernel_that_hides_the_length_of_queues_is_told_of(operated: Deployed) -> None:
    """As in an unprivileged container."""
    place = "/proc/sys/net/core"
    with on_host(operated, f"mount -t tmpfs tmpfs {place}", f"umount {place}"):
        status, text = said(operated, DEPLOY)
    assert status == 0, text
    assert f"{HOST} does not allow net.core.somaxconn to be read or set" in text


@contextmanager
def without_ipv6(stack: Deployed) -> Iterator[None]:
    """As where the kernel was booted with ipv6.disable=1: what comes by SSH from now on, and NGINX, find no such family."""
    units = "ssh.service nginx.service"
    setting = "[Service]\\nRestrictAddressFamilies=~AF_INET6\\n"
    add = f"mkdir -p /run/systemd/system/$unit.d; printf '{setting}' >/run/systemd/system/$unit.d/no-ipv6.conf"
    remove = "rm -r /run/systemd/system/$unit.d"
    again = "systemctl daemon-reload; systemctl restart ssh"
    with on_host(
        stack,
        f"for unit in {units}; do {add}; done; {again}",
        f"for unit in {units}; do {remove}; done; {again} nginx",
    ):
        yield


def test_a_host_without_ipv6_is_served(operated: Deployed) -> None:
    play = (DEPLOY, "--tags", "preflight,nginx")
    operated.play()
    assert "[::]:80" in operated.shell("ss -lntH")
    with without_ipv6(operated):
        # A connection of its own: those that are open have IPv6.
        status, text = said(operated, *play, "-e", f"ansible_control_path={operated.project}/no-ipv6")
        assert status == 0, text
        operated.shell("systemctl restart nginx")
        assert "[::]:80" not in operated.shell("ss -lntH")
        assert operated.get("/health/").status == 200
    status, text = said(operated, *play)
    assert status == 0, text
    eventually(lambda: "[::]:80" in operated.shell("ss -lntH"), "it listens on IPv6 again")


# ---- A host on which nothing is yet ----


@pytest.fixture(scope="module")
def bare(operated: Deployed) -> Iterator[Deployed]:
    """A host like the planned one, on which nothing was ever deployed."""
    with second_host(operated, "operated-bare") as host:
        yield host


def test_a_port_that_is_taken_is_refused_before_packages_are_installed(bare: Deployed) -> None:
    serve = (
        "systemd-run --quiet --unit=web python3 -m http.server 80 && until ss -lntH | grep -q :80; do sleep 0.05; done"
    )
    with on_host(bare, serve, "systemctl stop web"):
        status, text = said(bare, DEPLOY, "--limit", bare.name)
    assert status != 0
    assert re.search(
        rf"{bare.name}: /usr/bin/python3\S* \(process \d+\) listens on port 80, which NGINX needs", text
    ), text
    assert bare.shell("ls -d /etc/nginx /etc/notes 2>/dev/null || true") == ""
