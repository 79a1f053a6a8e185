"""The parts of the role's preflight that a test host cannot show: other systems, other figures, other listeners."""

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import farrier_owner, farrier_room, farrier_sites

from farrier.ansible.modules import farrier_preflight

FACTS: dict[str, Any] = {
    "cpus": {"usable": 2.0, "affinity": 2, "quota": None, "used_by_others": 0.0},
    "memory_mb": {"usable": 2000, "total": 2048, "limit": None, "used_by_others": 48},
    "others": [],
    "system": {"distribution": "Debian", "version": "12", "init": "systemd"},
}
WISH: dict[str, Any] = {
    "host": "web1",
    "application": "no-such-application",
    "environment": "live",
    "domains": ["www.example.org"],
    "take_host_hint": "-e take=true",
    "accept_smaller_host_hint": "-e accept=true",
    "gather": True,
    "sized_for_cpus": 2.0,
    "sized_for_memory_mb": 2000,
    "same_memory_share": 0.95,
    "assumed_release_mb": 500,
    "slot_memory_mb": 500,
    "slots": 2,
}


def changed(section: str, **values: Any) -> dict[str, Any]:
    return {**FACTS, section: {**FACTS[section], **values}}


def told(**changes: Any) -> tuple[list[str], list[str]]:
    """Refusals and warnings; what depends on the machine that runs the tests is left out."""
    facts = changes.pop("facts", FACTS)
    defaults = {name: spec.get("default") for name, spec in farrier_preflight.ARGUMENTS.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(farrier_preflight, "probe", lambda *_: facts)
        patch.setattr(farrier_preflight, "hides", lambda: False)
        found, warned = farrier_preflight.look({**defaults, **WISH, **changes})
    said = [each for each in found["refusals"] if "/srv" not in each and "listens on" not in each]
    return said, warned


def test_a_host_as_it_was_planned_is_neither_refused_nor_warned_of() -> None:
    assert told() == ([], [])
    assert told(facts=changed("system", version="trixie/sid")) == ([], []), "newer than every release"


@pytest.mark.parametrize(
    ("facts", "refusal"),
    [
        (
            changed("system", version="11"),
            "web1 runs Debian 11. This role supports Debian 12 or newer and Ubuntu 22.04 or newer.",
        ),
        (
            changed("system", distribution=None, version=None),
            "web1 runs an unknown system . This role supports Debian 12 or newer and Ubuntu 22.04 or newer.",
        ),
        (
            changed("system", init="init"),
            "web1 is not run by systemd, which manages the socket and the slots.",
        ),
        (
            changed("cpus", usable=1.0, affinity=1),
            "web1 was sized for 2 CPUs and now has 1 to use (other services take 0.0). Gather its facts and generate the role "
            "again, or go on all the same: -e accept=true",
        ),
        (
            {**changed("cpus", usable=0.9, used_by_others=1.1), "others": [{"name": "db.service", "cpus": 1.1}]},
            "web1 was sized for 2 CPUs and now has 0.9 to use (other services take 1.1 (db.service 1.1)). Gather its facts and "
            "generate the role again, or go on all the same: -e accept=true",
        ),
        (
            changed("memory_mb", usable=1848, total=1896),
            "web1 was sized for 2000 MB and now has 1848 MB to use (of 1896 MB other services take 48 MB). Gather its facts "
            "and generate the role again, or go on all the same: -e accept=true",
        ),
        (
            {
                **changed("memory_mb", usable=900, used_by_others=1148),
                "others": [{"name": "small", "memory_mb": 48}, {"name": "db.service", "memory_mb": 1100}],
            },
            "web1 was sized for 2000 MB and now has 900 MB to use (of 2048 MB other services take 1148 MB (db.service 1100 MB, "
            "small 48 MB)). But 2 slots of 500 MB, as side by side in a deploy, need 1000 MB. Free some, or: gather its facts "
            "and generate the role again, or go on all the same: -e accept=true",
        ),
        (
            changed("cpus", usable=None),
            "web1 does not say how many CPUs it has: /proc/1/status cannot be read.",
        ),
        (
            changed("memory_mb", usable=None),
            "web1 does not say how much memory it has: /proc/meminfo cannot be read.",
        ),
    ],
)
def test_what_endangers_a_slot_is_refused(facts: dict[str, Any], refusal: str) -> None:
    assert told(facts=facts)[0] == [refusal]


def test_a_host_that_lacks_the_program_to_look_at_ports_is_not_refused_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert told(ports=[80]) == ([], [])


def test_a_smaller_host_is_accepted_on_purpose() -> None:
    refused, warned = told(facts=changed("memory_mb", usable=1848, total=1896), accept_smaller_host=True)
    assert refused == []
    assert warned == [
        "web1 was sized for 2000 MB and now has 1848 MB to use (of 1896 MB other services take 48 MB). Accepted as asked."
    ]


@pytest.mark.parametrize(
    ("facts", "warning"),
    [
        (
            changed("cpus", usable=1.9, used_by_others=0.1),
            "web1 was sized for 2 CPUs and now has 1.9 to use (other services take 0.1). It will carry less than was predicted.",
        ),
        (
            changed("memory_mb", usable=1800, used_by_others=248),
            "web1 was sized for 2000 MB and now has 1800 MB to use (of 2048 MB other services take 248 MB). The 1000 MB that its "
            "slots should need still fit.",
        ),
        (
            changed("cpus", usable=4.0, affinity=4),
            "web1 has 4 CPUs and 2000 MB and was sized for 2 and 2000 MB: it can be sized again.",
        ),
    ],
)
def test_what_endangers_nothing_is_told(facts: dict[str, Any], warning: str) -> None:
    assert told(facts=facts) == ([], [warning])


def test_one_slot_at_a_time_needs_half() -> None:
    assert told(facts=changed("memory_mb", usable=900, used_by_others=1148), slots=1)[0] == []


def test_every_refusal_is_told_at_once() -> None:
    facts = {
        **changed("cpus", usable=1.0, affinity=1),
        "system": {"distribution": "Debian", "version": "12", "init": "sh"},
    }
    refused, _ = told(facts=facts)
    assert refused[0] == "web1 is not run by systemd, which manages the socket and the slots."
    assert refused[1].startswith("web1 was sized for 2 CPUs and now has 1 to use")
    assert len(refused) == 2


# ---- The disk ----


def release(home: Path, name: str, **note: Any) -> None:
    (home / "releases" / name).mkdir(parents=True)
    (home / "releases" / name / "RELEASE.json").write_text(json.dumps(note))


def test_room_is_asked_for_as_earlier_releases_took_it(tmp_path: Path) -> None:
    largest = farrier_room.largest
    assert largest(str(tmp_path)) is None
    release(tmp_path, "a", size_mb=10, venv_mb=80)
    release(tmp_path, "b", size_mb=4, venv_mb=120)
    assert largest(str(tmp_path)) == (4, 120)
    release(tmp_path, "c", venv="key")
    (tmp_path / "releases/c/data").write_bytes(b"x" * 30 * 2**20)
    (tmp_path / "venvs/key").mkdir(parents=True)
    (tmp_path / "venvs/key/lib").write_bytes(b"x" * 100 * 2**20)
    code, venv = largest(str(tmp_path))
    assert (round(code), round(venv)) == (30, 100)


@pytest.mark.parametrize(
    "note", [{"size_mb": -1}, {"size_mb": "9", "venv": "../../etc"}, {"size_mb": True, "venv": ["x"]}]
)
def test_a_note_that_says_nonsense_is_not_believed(tmp_path: Path, note: dict[str, Any]) -> None:
    release(tmp_path, "a", **note)
    assert farrier_room.largest(str(tmp_path)) is None


def test_too_little_room_is_refused_with_where_the_figure_comes_from(tmp_path: Path) -> None:
    check = farrier_room.check_disk
    [said] = check("web1", str(tmp_path), 9_000_000)
    assert said.endswith(
        "MB free below /srv; a release with its virtual environment wants 9000000 MB, as is assumed while none is there."
    )
    assert check("web1", str(tmp_path / "not/yet"), 1) == []
    release(tmp_path, "a", size_mb=400_000, venv_mb=9_000_000)
    [said] = check("web1", str(tmp_path), 1)
    assert said.endswith(
        "MB free below /srv; a release with its virtual environment wants 9800000 MB: the largest so far took 400000 MB, as "
        "much again while its archive is there, and 9000000 MB for its virtual environment."
    )


# ---- NGINX ----


def test_nginx_listens_on_ipv6_only_where_there_is_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    sites = farrier_sites
    files = [{"content": "server {\n    listen 80;\n    listen [::]:80;\n}\n"}, {"link": "../there"}]
    assert sites.listening(files, True) == files
    assert sites.listening(files, False) == [{"content": "server {\n    listen 80;\n}\n"}, {"link": "../there"}]

    def refuse(*_: object) -> None:
        raise OSError("Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", refuse)
    assert sites.has_ipv6() is False


def test_a_trial_writes_nowhere_but_in_its_own_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sites, top, place = farrier_sites, tmp_path / "nginx", tmp_path / "place"
    for path in ("nginx.conf", "mime.types", "sites-enabled/default", "sites-enabled/blog", "conf.d/zone.conf"):
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text("theirs")
    monkeypatch.setattr(sites, "TOP", str(top))
    conf = f"pid /run/nginx.pid;\ninclude {top}/sites-enabled/*;\naccess_log /var/log/nginx/access.log;\n"
    files = [
        {"path": f"{top}/nginx.conf", "content": conf},
        {"path": f"{top}/sites-available/notes", "content": "ours"},
        {"path": f"{top}/sites-enabled/notes", "link": "../sites-available/notes"},
        {"path": f"{top}/sites-enabled/default", "state": "absent"},
    ]
    sites.lay_out(str(place), files)
    assert (place / "nginx.conf").read_text() == (
        f"pid {place}/nginx.pid;\ninclude {place}/sites-enabled/*;\naccess_log {place}/log/access.log;\n"
    )
    assert sorted(each.name for each in (place / "sites-enabled").iterdir()) == ["blog", "notes"]
    assert (place / "sites-enabled/notes").read_text() == "ours"
    assert (place / "conf.d/zone.conf").read_text() == "theirs"
    assert (top / "nginx.conf").read_text() == "theirs"


def test_who_listens_is_read_from_ss() -> None:
    listing = (
        'LISTEN 0 511 0.0.0.0:80 0.0.0.0:* users:(("apache2",pid=12,fd=4),("apache2",pid=11,fd=4))\n'
        "LISTEN 0 511 [::]:443 [::]:*\n"
        'LISTEN 0 511 127.0.0.1:8000 0.0.0.0:* users:(("x",pid=9,fd=4))\nnonsense\n'
    )
    assert farrier_sites.listeners([80, 443], listing) == {80: ("apache2", 12), 443: ("another program", 0)}


@pytest.mark.parametrize(
    ("text", "application"),
    [
        ("# Written by Ansible for notes.\n", "notes"),
        ("# Written by Ansible for my-notes: its metrics.\n", "my-notes"),
        ('"""Gunicorn for notes. Written by Ansible from the plan."""', ""),
        ("user www-data;\n", ""),
        ("x" * 500 + "Written by Ansible for notes", ""),
        ("", ""),
    ],
)
def test_a_file_tells_whose_role_wrote_it(tmp_path: Path, text: str, application: str) -> None:
    path = tmp_path / "file"
    path.write_text(text)
    owner = farrier_owner
    assert owner.written_by_us(str(path)) == application
    assert owner.written_by_us(str(tmp_path / "none")) is None
    assert owner.written_by_us(str(tmp_path)) == "", "a directory is nobody's file"


# ---- apt ----


def test_whoever_has_the_lock_of_apt_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preflight = farrier_preflight
    lock = tmp_path / "lock"
    lock.touch()
    monkeypatch.setattr(preflight, "APT_LOCK", str(lock))
    assert preflight.apt_warning("web1") == []
    program = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", program, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        other.stdout.readline()
        assert preflight.apt_warning("web1") == [
            f"web1: process {other.pid} is installing packages; the deploy waits for it for up to 10 minutes."
        ]
        other.communicate("")


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        (lambda _: None, False),
        (lambda path: path.write_text("edited"), True),
        (lambda path: path.chmod(0o600), True),
        (lambda path: path.unlink(), True),
        (lambda path: (path.unlink(), path.mkdir()), True),
        (lambda path: (path.unlink(), path.symlink_to("elsewhere")), True),
    ],
)
def test_a_set_of_files_is_in_place_when_each_has_its_content_and_mode(
    tmp_path: Path, change: Any, differs: bool
) -> None:
    path = tmp_path / "unit"
    path.write_text("[Unit]\n")
    path.chmod(0o644)
    owner, group = path.owner(), path.group()
    change(path)
    wanted = {"path": str(path), "content": "[Unit]\n", "owner": owner, "group": group}
    assert farrier_preflight.differs("no-such-application", "service", [wanted]) is differs


def test_a_set_whose_readers_have_not_read_it_is_not_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.exists", lambda path: path == "/run/notes.nginx.pending")
    assert farrier_preflight.differs("notes", "nginx", [])
    assert not farrier_preflight.differs("notes", "system", [])


def test_what_is_to_do_counts_a_host_without_ipv6_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "site"
    path.write_text("listen 80;\n")
    path.chmod(0o644)
    site = {"path": str(path), "content": "listen 80;\nlisten [::]:80;\n", "owner": path.owner(), "group": path.group()}
    wish = {"application": "no-such-application", "release": None, "files": {"nginx": [site], "system": []}}
    assert farrier_preflight.to_do(wish, False) == {"release": None, "differs": []}
    assert farrier_preflight.to_do(wish, True) == {"release": None, "differs": ["nginx"]}
