"""What a host can really give: small file trees that look like the hosts that mislead everyone else."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from farrier.ansible.module_utils.farrier_probe import hides, installed_packages, probe

V2 = "34 23 0:29 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "40 30 0:31 {root} /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"
    "41 30 0:32 {root} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "42 30 0:33 {root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "43 30 0:34 {root} /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
)
UNIFIED = "50 30 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
TICKS = os.sysconf("SC_CLK_TCK")


class Host:
    """A root directory that is filled file by file; 4 CPUs, 8,000 MB, up for 10,000 seconds."""

    def __init__(self, root: Path) -> None:
        """Only what every Linux machine has."""
        self.root = root
        self.write("proc/meminfo", f"MemTotal: {8000 * 1024} kB\nMemFree: 1 kB\nMemAvailable: {7000 * 1024} kB\n")
        self.write("proc/uptime", "10000.00 20000.00\n")
        self.write("proc/1/comm", "systemd\n")
        self.write("proc/1/limits", "Limit  Soft  Hard  Units\nMax open files            1024  524288  files\n")
        self.write("proc/sys/net/core/somaxconn", "4096\n")
        self.write("proc/sys/kernel/osrelease", "6.1.0-18-amd64\n")
        self.write(
            "etc/os-release",
            'NAME="Debian GNU/Linux"\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\nID=debian\n',
        )
        self.cpus("0-3")
        self.process(1, "systemd", anonymous_kb=3000, cgroup="0::/init.scope", parent=0)

    def write(self, path: str, text: str) -> None:
        """One file."""
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def cpus(self, allowed: str, online: str | None = None) -> None:
        """PID 1's affinity, and what the machine has."""
        self.allowed = allowed
        self.write("sys/devices/system/cpu/online", (online or allowed) + "\n")
        status = self.root / "proc/1/status"
        if status.exists():
            self.write("proc/1/status", status.read_text() + f"Cpus_allowed_list:\t{allowed}\n")

    def process(
        self,
        pid: int,
        name: str,
        *,
        anonymous_kb: int | None,
        cgroup: str = "0::/",
        parent: int = 1,
        shared_kb: int = 0,
        cpu_seconds: float = 0,
        alive: float = 9000,
    ) -> None:
        """One process; without anonymous memory it is a kernel thread."""
        memory = "" if anonymous_kb is None else f"RssAnon:\t{anonymous_kb} kB\nRssShmem:\t{shared_kb} kB\n"
        allowed = f"Cpus_allowed_list:\t{self.allowed}\n" if pid == 1 else ""
        self.write(f"proc/{pid}/status", f"Name:\t{name}\nPPid:\t{parent}\n{memory}{allowed}")
        start = int((10000 - alive) * TICKS)
        ticks = int(cpu_seconds * TICKS)
        self.write(
            f"proc/{pid}/stat",
            f"{pid} ({name}) S {parent} 1 1 0 -1 4194560 1 1 1 1 {ticks} 0 0 0 20 0 1 0 {start} 1 1\n",
        )
        self.write(f"proc/{pid}/cgroup", cgroup + "\n")

    def facts(self, **options: Any) -> dict[str, Any]:
        """What the probe says."""
        return probe(str(self.root), options.pop("application", "notes"), own_pid=options.pop("own_pid", 0), **options)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A plain machine."""
    return Host(tmp_path)


def test_a_plain_machine_gives_everything(host: Host) -> None:
    host.write("proc/self/mountinfo", V2)
    facts = host.facts()
    assert facts["cpus"] == {
        "usable": 4, "online": 4, "affinity": 4, "quota": None, "quota_source": None, "used_by_others": 0.0,
    }  # fmt: skip
    assert facts["memory_mb"] == {
        "usable": 7984, "total": 8000, "limit": None, "limit_source": None, "used_by_others": 16,
        "available": 6976,
    }  # fmt: skip
    assert facts["others"] == []
    assert facts["kernel"] == {"release": "6.1.0-18-amd64", "somaxconn": 4096, "nofile_hard": 524288}
    assert json.loads(json.dumps(facts)) == facts


def test_one_cpu_of_a_machine_with_64(host: Host) -> None:
    host.cpus("0-63")
    host.write("proc/self/mountinfo", V2)
    host.write("sys/fs/cgroup/cpu.max", "100000 100000\n")
    host.write("sys/fs/cgroup/memory.max", str(512 * 2**20))
    facts = host.facts()
    assert facts["cpus"]["usable"] == 1.0
    assert (facts["cpus"]["online"], facts["cpus"]["affinity"]) == (64, 64)
    assert facts["cpus"]["quota_source"] == "/sys/fs/cgroup/cpu.max"
    assert (facts["memory_mb"]["limit"], facts["memory_mb"]["usable"]) == (512, 496)
    assert facts["memory_mb"]["limit_source"] == "/sys/fs/cgroup/memory.max"


def test_affinity_of_pid_1_bounds_what_services_inherit(host: Host) -> None:
    host.cpus("0,2", online="0-63")
    facts = host.facts()
    assert (facts["cpus"]["usable"], facts["cpus"]["online"]) == (2, 64)


def test_version_2_quota_on_a_slice_above(host: Host) -> None:
    host.write("proc/self/mountinfo", V2)
    host.write("sys/fs/cgroup/cpu.max", "max 100000\n")
    host.write("sys/fs/cgroup/system.slice/cpu.max", "150000 100000\n")
    host.write("sys/fs/cgroup/system.slice/memory.high", str(2000 * 2**20))
    host.write("sys/fs/cgroup/system.slice/memory.max", "max\n")
    host.write("sys/fs/cgroup/system.slice/system-notes.slice/cpu.max", "300000 100000\n")
    facts = host.facts()
    assert facts["cpus"]["usable"] == 1.5
    assert facts["cpus"]["quota_source"] == "/sys/fs/cgroup/system.slice/cpu.max"
    assert facts["memory_mb"]["limit"] == 2000
    assert facts["memory_mb"]["limit_source"] == "/sys/fs/cgroup/system.slice/memory.high"
    assert facts["system"]["cgroup"] == "v2"


def test_version_2_host_paths_in_a_container(host: Host) -> None:
    """Without a cgroup namespace the group of PID 1 has the machine's path, and its ancestors can be seen."""
    host.write("proc/self/mountinfo", V2)
    host.write("proc/1/cgroup", "0::/machine.slice/web.scope/init.scope\n")
    host.write("sys/fs/cgroup/machine.slice/cpu.max", "50000 100000\n")
    host.write("sys/fs/cgroup/machine.slice/web.scope/cpu.max", "200000 100000\n")
    host.write("sys/fs/cgroup/machine.slice/web.scope/system.slice/memory.max", str(300 * 2**20))
    facts = host.facts()
    assert (facts["cpus"]["usable"], facts["memory_mb"]["limit"]) == (0.5, 300)


@pytest.mark.parametrize("root", ["/", "/libpod_parent/libpod-1"])
def test_version_1_with_and_without_a_namespace(host: Host, root: str) -> None:
    path = root.rstrip("/")
    host.write("proc/self/mountinfo", V1.format(root=root))
    host.write("proc/1/cgroup", f"3:memory:{root}\n2:cpu,cpuacct:{root}\n1:name=systemd:{path}/init.scope\n")
    host.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "250000\n")
    host.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n")
    host.write("sys/fs/cgroup/memory/memory.limit_in_bytes", str(1024 * 2**20))
    facts = host.facts()
    assert (facts["cpus"]["quota"], facts["cpus"]["usable"]) == (2.5, 2.5)
    assert facts["cpus"]["quota_source"] == "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us"
    assert (facts["memory_mb"]["limit"], facts["memory_mb"]["usable"]) == (1024, 1008)
    assert facts["system"]["cgroup"] == "v1"


def test_version_1_knows_limits_of_groups_that_are_out_of_sight(host: Host) -> None:
    host.write("proc/self/mountinfo", V1.format(root="/parent/child"))
    host.write("proc/1/cgroup", "3:memory:/parent/child\n")
    host.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    host.write("sys/fs/cgroup/memory/memory.stat", f"cache 0\nhierarchical_memory_limit {700 * 2**20}\n")
    assert host.facts()["memory_mb"]["limit"] == 700


def test_version_1_without_limits(host: Host) -> None:
    host.write("proc/self/mountinfo", V1.format(root="/"))
    host.write("proc/1/cgroup", "3:memory:/\n2:cpu,cpuacct:/\n")
    host.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n")
    host.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n")
    host.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    facts = host.facts()
    assert (facts["cpus"]["quota"], facts["memory_mb"]["limit"]) == (None, None)


def test_hybrid_reads_the_tree_that_has_the_controllers(host: Host) -> None:
    host.write("proc/self/mountinfo", V1.format(root="/libpod-1") + UNIFIED)
    host.write("proc/1/cgroup", "2:cpu,cpuacct:/libpod-1\n3:cpuset:/libpod-1\n0::/libpod-1/init.scope\n")
    host.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "100000\n")
    host.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n")
    facts = host.facts()
    assert (facts["cpus"]["usable"], facts["system"]["cgroup"]) == (1.0, "hybrid")


def test_cpuset_groups_narrow_the_affinity(host: Host) -> None:
    host.write("proc/self/mountinfo", V2)
    host.write("sys/fs/cgroup/system.slice/cpuset.cpus.effective", "1-2\n")
    assert host.facts()["cpus"]["usable"] == 2


def test_available_memory_is_bounded_by_what_the_limit_leaves(host: Host) -> None:
    host.write("proc/self/mountinfo", V2)
    host.write("sys/fs/cgroup/memory.max", str(1024 * 2**20))
    host.write("sys/fs/cgroup/memory.current", str(600 * 2**20))
    host.write("sys/fs/cgroup/memory.stat", f"anon 1\ninactive_file {200 * 2**20}\n")
    assert host.facts()["memory_mb"]["available"] == 576  # 1024 - (600 - 200) = 624, down to a step of 64


def test_other_services_are_taken_off(host: Host) -> None:
    database = "0::/system.slice/postgresql@15-main.service"
    host.process(20, "postgres", anonymous_kb=60 * 1024, cgroup=database, shared_kb=40 * 1024, cpu_seconds=1350)
    host.process(21, "postgres", anonymous_kb=20 * 1024, cgroup=database, shared_kb=40 * 1024, parent=20)
    host.process(30, "redis-server", anonymous_kb=10 * 1024)
    facts = host.facts()
    # Shared memory counts once: 60 + 20 + 40; then 10 of redis and 3 of PID 1 make 133, up to a step of 16.
    assert facts["others"] == [
        {"name": "postgresql@15-main.service", "memory_mb": 120, "cpus": 0.1},
        {"name": "redis-server", "memory_mb": 8, "cpus": 0.0},
    ]
    assert (facts["memory_mb"]["used_by_others"], facts["memory_mb"]["usable"]) == (144, 7856)
    assert (facts["cpus"]["used_by_others"], facts["cpus"]["usable"]) == (0.1, 3.9)


def test_the_kernels_own_count_of_a_service_is_preferred(host: Host) -> None:
    host.write("proc/self/mountinfo", V2)
    group = "/system.slice/other.service"
    for pid in range(20, 30):
        host.process(pid, "gunicorn", anonymous_kb=150 * 1024, cgroup=f"0::{group}")
    host.write(f"sys/fs/cgroup{group}/memory.stat", f"anon {420 * 2**20}\nfile 5\nshmem {4 * 2**20}\n")
    assert host.facts()["others"] == [{"name": "other.service", "memory_mb": 424, "cpus": 0.0}]


def test_cpu_use_of_young_processes_says_nothing(host: Host) -> None:
    host.process(20, "backup", anonymous_kb=100, cgroup="0::/system.slice/b.service", cpu_seconds=599, alive=599)
    assert host.facts()["cpus"]["used_by_others"] == 0.0


def test_little_cpu_use_is_noise(host: Host) -> None:
    host.process(20, "chronyd", anonymous_kb=100, cgroup="0::/system.slice/c.service", cpu_seconds=800)
    assert host.facts()["cpus"] == {**host.facts()["cpus"], "used_by_others": 0.0, "usable": 4}


@pytest.mark.parametrize(
    "cgroup",
    [
        "0::/system.slice/system-notes.slice/notes@a.service",
        "0::/system.slice/system-notes.slice/notes@b.service",
        "0::/system.slice/notes-preflight.service",
        "0::/system.slice/nginx.service",
        "0::/user.slice/user-0.slice/session-3.scope",
        "0::/user.slice/user-1000.slice/user@1000.service/init.scope",
        "0::/system.slice/system-ssh.slice/ssh@4-10.0.0.1.service",
    ],
)
def test_our_own_units_and_logins_do_not_count(host: Host, cgroup: str) -> None:
    host.process(20, "python3", anonymous_kb=500 * 1024, cgroup=cgroup)
    facts = host.facts()
    assert (facts["others"], facts["memory_mb"]["used_by_others"]) == ([], 16)


@pytest.mark.parametrize(
    "unit", ["notes-worker.service", "notes-celery-beat.service", "notes@c.service", "notes-.service"]
)
def test_units_that_farrier_did_not_make_take_their_memory(host: Host, unit: str) -> None:
    host.process(20, "celery", anonymous_kb=283 * 1024, cgroup=f"0::/system.slice/{unit}", cpu_seconds=4500, alive=9000)
    facts = host.facts()
    assert facts["others"] == [{"name": unit, "memory_mb": 280, "cpus": 0.5}]
    # PID 1 has 3 MB; 286 MB in steps of 16.
    assert (facts["memory_mb"]["used_by_others"], facts["memory_mb"]["usable"]) == (288, 7712)


def test_a_proc_that_hides_others_is_noticed(host: Host) -> None:
    assert not hides(str(host.root))
    (host.root / "proc/1/status").unlink()
    assert hides(str(host.root))


def test_units_of_another_application_count(host: Host) -> None:
    host.process(20, "python3", anonymous_kb=64 * 1024, cgroup="0::/system.slice/system-shop.slice/shop@a.service")
    assert host.facts()["others"] == [{"name": "shop@a.service", "memory_mb": 64, "cpus": 0.0}]


def test_a_connection_below_the_ssh_daemon_does_not_count(host: Host) -> None:
    """Without pam_systemd a login has no scope of its own; the daemon itself counts."""
    for pid, parent in ((20, 1), (21, 20), (22, 21)):
        host.process(pid, "sshd", anonymous_kb=32 * 1024, cgroup="0::/system.slice/ssh.service", parent=parent)
    assert host.facts()["others"] == [{"name": "ssh.service", "memory_mb": 32, "cpus": 0.0}]


def test_what_runs_the_probe_does_not_count(host: Host) -> None:
    host.process(20, "tmux", anonymous_kb=80 * 1024)
    host.process(21, "python3", anonymous_kb=90 * 1024, parent=20)
    assert host.facts(own_pid=21)["others"] == []


def test_kernel_threads_are_skipped(host: Host) -> None:
    host.process(2, "kthreadd", anonymous_kb=None, parent=0, cpu_seconds=5000)
    facts = host.facts()
    assert (facts["others"], facts["cpus"]["used_by_others"]) == ([], 0.0)


def test_names_of_other_processes_are_made_printable(host: Host) -> None:
    host.process(20, "a\x1b[31m", anonymous_kb=64 * 1024)
    assert host.facts()["others"][0]["name"] == "a?[31m"


def test_others_that_use_more_than_there_is_leave_almost_nothing(host: Host) -> None:
    host.process(20, "java", anonymous_kb=9000 * 1024, cpu_seconds=9000 * 5)
    facts = host.facts()
    assert (facts["cpus"]["usable"], facts["memory_mb"]["usable"]) == (0.1, 1)


def test_system_from_files_alone(host: Host) -> None:
    (host.root / "usr/bin").mkdir(parents=True)
    (host.root / "usr/bin/python3").symlink_to("python3.11")
    host.write(
        "var/lib/dpkg/status",
        "Package: systemd\nStatus: install ok installed\nVersion: 252.38-1~deb12u1\n\n"
        "Package: python3.11-minimal\nStatus: install ok installed\nVersion: 3.11.2-6+deb12u6\n\n"
        "Package: nginx\nStatus: deinstall ok config-files\nVersion: 1.22.1-9\n",
    )
    assert host.facts()["system"] == {
        "distribution": "Debian", "version": "12", "codename": "bookworm", "systemd": 252, "init": "systemd",
        "python": "3.11.2", "cgroup": None,
    }  # fmt: skip
    assert set(installed_packages(host.root)) == {"systemd", "python3.11-minimal"}


def test_disk_of_a_path_that_does_not_exist_yet(host: Host) -> None:
    disk = host.facts(disk_path="/srv/notes/releases")["disk_mb"]
    assert disk["srv_total"] >= disk["srv_free"] >= 0


def test_a_bare_root_gives_nulls(tmp_path: Path) -> None:
    facts = probe(str(tmp_path), own_pid=0)
    assert facts["memory_mb"]["total"] is None
    assert facts["memory_mb"]["usable"] is None
    assert facts["kernel"] == {"release": None, "somaxconn": None, "nofile_hard": None}


def test_twice_the_same_answer_here() -> None:
    """The steps are wide enough that nothing that idles changes the document."""
    first, second = probe(), probe()
    for facts in (first, second):
        facts.pop("others")
        facts["memory_mb"] = {key: facts["memory_mb"][key] for key in ("total", "limit")}
        facts["cpus"] = {key: facts["cpus"][key] for key in ("online", "affinity", "quota")}
        facts["disk_mb"].pop("srv_free")
    assert first == second


def test_the_kernels_own_limits_are_read_here() -> None:
    """Files below /proc/sys refuse to be read by megabytes at once, which no copy of them does."""
    kernel = probe()["kernel"]
    assert kernel["somaxconn"] == int(Path("/proc/sys/net/core/somaxconn").read_text())
    assert kernel["release"] == os.uname().release
