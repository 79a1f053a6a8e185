"""Facts gathered by the real Ansible: from this machine, and over SSH from throw-away hosts."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import testbed
from farrier.ansible.events import Result, one_line
from farrier.errors import HostError, InputError
from farrier.facts import gather as collecting
from farrier.facts.files import read_facts
from farrier.facts.gather import CollectResult, HostEvent, collect
from testbed import Host

pytestmark = pytest.mark.programs

PYTHON = f"ansible_connection=local ansible_python_interpreter={sys.executable}"
ENDED = "inventory 'inventory': Ansible ended with code "
HIDDEN = (
    "/proc hides the processes of other users here (hidepid, or a unit's ProtectProc): what others use and what limits a "
    "service cannot be seen; gather as root (farrier facts ENVIRONMENT -- --become), or as a user of the group that /proc is "
    "mounted with (gid=)"
)
REFUSED = "Failed to connect to the host via ssh: ssh: connect to host 127.0.0.1 port 1: Connection refused"


class Project:
    """A directory with an inventory, where facts are gathered."""

    def __init__(self, path: Path) -> None:
        """Nothing but the directory."""
        self.path = path
        self.output = path / "facts/production"
        self.events: list[HostEvent] = []

    def inventory(self, text: str) -> None:
        """Writes the inventory."""
        (self.path / "inventory").write_text(text)

    def collect(self, **options: Any) -> CollectResult:
        """Gathers."""
        self.events.clear()
        return collect(Path("inventory"), "notes", self.output, cwd=self.path, on_event=self.events.append, **options)

    def written(self) -> list[str]:
        """The names of the documents."""
        return sorted(path.name for path in self.output.iterdir())

    def refusal(self, **options: Any) -> str:
        """The one line that ends an impossible run."""
        with pytest.raises(InputError) as caught:
            self.collect(**options)
        (line,) = caught.value.messages
        assert "\n" not in line
        return line


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty project."""
    return Project(tmp_path)


@pytest.fixture(autouse=True)
def sees_debian(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever machine tests run on, its own system is not what they are about."""
    monkeypatch.setattr(collecting, "require_supported", lambda facts: None)


def test_a_host_is_gathered_and_its_document_can_be_read(project: Project) -> None:
    project.inventory(f"[web]\nweb1 {PYTHON}\n")
    result = project.collect()
    assert (result.gathered, result.failed, result.removed) == (("web1",), {}, ())
    assert project.events == [HostEvent("start", "", "", 0, 1), HostEvent("gathered", "web1", "", 1, 1)]
    text = (project.output / "web1.json").read_text()
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n"
    assert project.written() == ["web1.json"]
    result.raise_for_failed()


def test_hosts_that_fail_are_named_and_the_others_kept(project: Project) -> None:
    project.inventory(
        f"web1 {PYTHON}\n"
        "web2 ansible_host=127.0.0.1 ansible_port=1\n"
        "web3 ansible_connection=local ansible_python_interpreter=/nonexistent/python3\n"
        f"a/b {PYTHON}\n"
    )
    project.output.mkdir(parents=True)
    (project.output / "web2.json").write_text('{"schema": 1, "host": "web2"}')
    result = project.collect()
    assert result.gathered == ("web1",)
    assert result.failed == {
        "a/b": "'a/b' cannot be the name of a file; name it with letters, digits, `.`, `_`, `:` and `-`, "
        "and use ansible_host for the address",
        "web2": REFUSED,
        "web3": "The module interpreter '/nonexistent/python3' was not found: "
        "/bin/sh: 1: /nonexistent/python3: not found",
    }
    assert project.written() == ["web1.json", "web2.json"]
    assert {event.host: event.kind for event in project.events}["web2"] == "unreachable"
    assert project.events[-1].done == project.events[-1].total == 4
    with pytest.raises(HostError) as caught:
        result.raise_for_failed()
    assert caught.value.messages[1] == (f"host web2: {REFUSED}")


def test_an_unsupported_system_alone_is_wrong_input(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(facts: Any) -> None:
        raise InputError(f"host {facts.host} (gathered now): the system is 'X 1'; supported are ...")

    monkeypatch.setattr(collecting, "require_supported", refuse)
    project.inventory(f"web1 {PYTHON}\n")
    result = project.collect()
    assert result.failed == {"web1": "the system is 'X 1'; supported are ..."}
    assert not project.output.exists()
    with pytest.raises(InputError):
        result.raise_for_failed()


def test_only_hosts_of_the_limit_and_nothing_is_removed_then(project: Project) -> None:
    project.inventory(f"[web]\nweb1 {PYTHON}\n[db]\ndb1 {PYTHON}\n")
    project.output.mkdir(parents=True)
    (project.output / "old.json").write_text('{"schema": 1, "host": "old"}')
    (project.output / "notes.json").write_text('{"written by": "somebody"}')
    result = project.collect(limit="web")
    assert (result.gathered, result.removed) == (("web1",), ())
    result = project.collect()
    assert (result.gathered, result.removed) == (("db1", "web1"), ("old",))
    assert project.written() == ["db1.json", "notes.json", "web1.json"]


@pytest.mark.parametrize(
    ("inventory", "options", "message"),
    [
        ("", {}, "inventory 'inventory' has no host that matches 'all'; it must have at least one"),
        (f"web1 {PYTHON}\n", {"limit": "db*"},
         "inventory 'inventory' has no host that matches --limit 'db*'; it must have at least one"),
        (f"web1 {PYTHON}\n", {"pattern": "db"},
         "inventory 'inventory' has no host that matches 'db'; it must have at least one"),
        (f"web1 {PYTHON}\n", {"extra": ["--no-such-option"]},
         ENDED + "2: ansible: error: unrecognized arguments: --no-such-option"),
        (f"web1 {PYTHON}\n", {"extra": ["--vault-password-file", "/nonexistent"]},
         ENDED + "1: The vault password file /nonexistent was not found"),
    ],
)  # fmt: skip
def test_input_with_which_nothing_can_be_gathered(
    project: Project, inventory: str, options: dict[str, Any], message: str
) -> None:
    project.inventory(inventory)
    assert project.refusal(**options) == message
    assert not project.output.exists()


def test_an_inventory_that_cannot_be_read(project: Project) -> None:
    assert project.refusal() == (
        "inventory 'inventory' does not exist; it must be a file or directory that Ansible reads"
    )
    project.inventory("all: [\n")
    assert project.refusal().startswith(ENDED + "1: Failed to parse inventory")


def test_no_ansible_at_all(project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    project.inventory(f"web1 {PYTHON}\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert project.refusal() == "ansible: not found; install ansible-core so that `ansible` is on the PATH"


def test_a_projects_own_ansible_cfg_does_not_get_in_the_way(project: Project) -> None:
    project.inventory(f"web1 {PYTHON}\n")
    (project.path / "ansible.cfg").write_text(
        "[defaults]\nno_log = true\nstdout_callback = minimal\ncallbacks_enabled = nobody.has.this, timer\n"
        "callback_plugins = ./nowhere\nforce_color = true\nlibrary = ./nowhere\nlog_path = ./log\n"
    )
    assert project.collect(extra=["-v"]).gathered == ("web1",)


def test_encrypted_group_vars_of_the_project(project: Project) -> None:
    (project.path / "password").write_text("sesame\n")
    secrets = project.path / "group_vars/all/vault.yml"
    secrets.parent.mkdir(parents=True)
    secrets.write_text(f"ansible_python_interpreter: {sys.executable}\n")
    command = Path(sys.executable).parent / "ansible-vault"
    subprocess.run([command, "encrypt", "--vault-password-file", "password", secrets], cwd=project.path, check=True)
    project.inventory("web1 ansible_connection=local\n")
    assert project.collect().failed == {"web1": "Attempting to decrypt but no vault secrets found."}
    assert project.collect(extra=["--vault-password-file", "password"]).gathered == ("web1",)


def test_what_ansible_says_besides_is_kept(project: Project) -> None:
    (project.path / "inventory").mkdir()
    (project.path / "inventory/good").write_text(f"web1 {PYTHON}\n")
    (project.path / "inventory/bad.yml").write_text("all: [\n")
    project.output.mkdir(parents=True)
    (project.output / "old.json").write_text('{"schema": 1, "host": "old"}')
    result = project.collect()
    assert any("Failed to parse inventory" in note for note in result.notes)
    # The hosts of the part that cannot be read are not gone.
    assert (result.gathered, result.removed) == (("web1",), ())


@pytest.mark.parametrize("locale", ["C", "POSIX"])
def test_in_a_plain_locale(project: Project, monkeypatch: pytest.MonkeyPatch, locale: str) -> None:
    project.inventory(f"web1 {PYTHON}\n")
    monkeypatch.setenv("LC_ALL", locale)
    assert project.collect().gathered == ("web1",)


def test_an_output_that_cannot_be_written(project: Project) -> None:
    project.inventory(f"web1 {PYTHON}\n")
    project.output.parent.mkdir()
    project.output.write_text("a file")
    assert project.refusal() == (f"{project.output}: facts cannot be written there; it must be a writable directory")
    assert project.events == []


def test_reasons_are_one_printable_line() -> None:
    assert one_line("Warning: Permanently added 'x'\na\x1b[31m\n  b") == "a?[31m b"
    assert len(one_line("x" * 5000)) == 300
    assert reason({"msg": "Task failed: Failed.", "module_stderr": "sh: no python"}) == "Failed: sh: no python"
    assert reason({"msg": "non-zero return code", "stderr": "a\nb\n"}) == "non-zero return code: b"
    assert reason({}) == "Ansible gives no reason"


def reason(answer: dict[str, Any]) -> str:
    return Result("failed", "web1", answer).reason


Hosts = Mapping[str, Host]


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    """Two hosts on this machine, one of them small."""
    if not (shutil.which("podman") or shutil.which("docker")):
        pytest.skip("neither podman nor docker is here")

    with testbed.host("test-facts-1", cpus=1, memory_mb=512) as small, testbed.host("test-facts-2") as large:
        yield {host.name: host for host in (small, large)}


@pytest.fixture
def over_ssh(project: Project, hosts: Hosts) -> Callable[..., None]:
    """Writes an inventory of the real hosts, and of others given."""

    def write(**others: dict[str, Any]) -> None:
        group = {"hosts": {**{name: host.inventory for name, host in hosts.items()}, **others}}
        project.inventory(json.dumps({"all": {"children": {"web": group}}}))

    return write


@pytest.mark.host
def test_real_hosts_over_ssh(project: Project, over_ssh: Callable[..., None]) -> None:
    over_ssh(gone={"ansible_host": "127.0.0.1", "ansible_port": 1})
    result = project.collect()
    assert result.gathered == ("test-facts-1", "test-facts-2")
    assert result.failed == {"gone": REFUSED}
    facts = read_facts(project.output)
    small, large = facts["test-facts-1"], facts["test-facts-2"]
    assert (small.cpus, small.memory_limit_mb, small.cpus_used_by_others) == (1.0, 512, 0.0)
    assert small.memory_used_by_others_mb is not None
    assert 16 <= small.memory_used_by_others_mb <= 96
    assert small.memory_mb == 512 - small.memory_used_by_others_mb
    assert small.memory_available_mb is not None
    assert small.memory_available_mb <= 512
    assert small.cpu_quota_source is not None
    assert (large.cpus, large.memory_limit_mb) == (large.cpus_online, None)
    assert (small.distribution, small.version, small.systemd, small.init) == ("Debian", "12", 252, "systemd")
    assert small.python is not None
    assert small.python.startswith("3.11.")
    assert small.missing == ()


@pytest.mark.host
def test_a_second_look_at_idle_hosts_changes_no_file(project: Project, over_ssh: Callable[..., None]) -> None:
    over_ssh()
    project.collect()
    before = {path.name: (path.stat().st_ino, path.read_text()) for path in project.output.iterdir()}
    project.collect()
    assert {path.name: (path.stat().st_ino, path.read_text()) for path in project.output.iterdir()} == before


@pytest.mark.host
def test_limit_and_become_over_ssh(project: Project, over_ssh: Callable[..., None]) -> None:
    over_ssh()
    result = project.collect(limit="test-facts-2", extra=["--become"])
    assert (result.gathered, result.removed) == (("test-facts-2",), ())


@pytest.mark.host
def test_facts_of_ansibles_own_setup_over_ssh(project: Project, over_ssh: Callable[..., None]) -> None:
    """What is there in the setup facts of a small container, and what Farrier cannot know from them."""
    over_ssh()
    ansible = str(Path(sys.executable).parent / "ansible")
    command = [ansible, "all", "-i", "inventory", "-m", "setup", "--tree", "tree"]
    subprocess.run(command, cwd=project.path, check=True, capture_output=True)
    small = read_facts(project.path / "tree")["test-facts-1"]
    assert small.memory_mb == small.memory_total_mb
    assert [entry.fact for entry in small.missing][:2] == ["cpu_quota", "memory_limit_mb"]
    assert (small.distribution, small.systemd) == ("Debian", 252)


@pytest.mark.host
def test_what_a_hidden_proc_keeps_back_is_incomplete(
    project: Project, over_ssh: Callable[..., None], hosts: Hosts
) -> None:
    """With hidepid a user sees neither PID 1, whose limits services inherit, nor what other services take."""
    over_ssh()
    name = "test-facts-1"

    on_host = hosts[name].run
    project.collect(limit=name)
    before = read_facts(project.output)[name]
    on_host("sudo mount -o remount,hidepid=2 /proc")
    try:
        result = project.collect(limit=name)
        assert (result.gathered, result.failed) == ((), {name: HIDDEN})
        with pytest.raises(HostError) as caught:
            result.raise_for_failed()
        assert caught.value.messages == (f"host {name}: {HIDDEN}",)
        assert caught.value.exit_code == 4
        assert read_facts(project.output)[name] == before, "what was gathered before stays"
        result = project.collect(limit=name, extra=["--become"])
        assert result.gathered == (name,)
        seen = read_facts(project.output)[name]
        assert (seen.cpus, seen.memory_limit_mb) == (before.cpus, before.memory_limit_mb) == (1.0, 512)
        assert abs(seen.memory_mb - before.memory_mb) <= 48
        on_host(f"sudo mount -o remount,hidepid=2,gid={on_host('id -g').strip()} /proc")
        assert project.collect(limit=name).gathered == (name,), (
            "a user of the group that /proc is mounted with sees all"
        )
    finally:
        on_host("sudo mount -o remount,hidepid=0,gid=0 /proc")


@pytest.mark.host
def test_a_unit_named_after_the_application_is_seen(
    project: Project, over_ssh: Callable[..., None], hosts: Hosts
) -> None:
    over_ssh()
    name, unit = "test-facts-1", "notes-worker"
    hold = f"systemd-run --quiet --unit={unit} python3 -c 'import time; held = bytearray(100 << 20); time.sleep(600)'"
    hosts[name].shell(hold)
    try:
        waiting = f"until [ $(systemctl show -p MemoryCurrent --value {unit}) -gt 104857600 ]; do :; done"
        hosts[name].run(waiting)
        project.collect(limit=name)
        taken = {other.name: other.memory_mb for other in read_facts(project.output)[name].others}
        assert 96 <= taken[f"{unit}.service"] <= 128
    finally:
        hosts[name].shell(f"systemctl stop {unit}")
