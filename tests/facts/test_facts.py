"""Fact documents, Ansible's own facts, operators' statements: what is understood and what is refused."""

import ast
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farrier.errors import FarrierError, HostError, InputError
from farrier.facts import documents as fact_documents
from farrier.facts import model as facts
from farrier.facts.documents import from_statements, parse, settled
from farrier.facts.model import Missing, Other, require_supported

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=12,
)


SUPPORTED = "it must be Debian 12 or newer, or Ubuntu 22.04 or newer"
CPUS = "it must be a number above 0 to 4096"
WHOLE_MB = "it must be a whole number from 1 to 67108864"
TEXT = "it must be text of at most 256 printable characters"
INCOMPLETE = "is missing or null; gather the facts again, or set"


def document(**sections: Any) -> dict[str, Any]:
    """What `farrier facts` writes for a 1-CPU container on a machine with 64; sections can be replaced."""
    return {
        "schema": 1,
        "host": "web1",
        "cpus": {"usable": 1.0, "online": 64, "affinity": 64, "quota": 1.0, "used_by_others": 0.0,
                 "quota_source": "/sys/fs/cgroup/cpu.max"},
        "memory_mb": {"usable": 3936, "total": 64000, "limit": 4096, "used_by_others": 160,
                      "available": 3008, "limit_source": "/sys/fs/cgroup/memory.max"},
        "others": [{"name": "postgresql@15-main.service", "memory_mb": 120, "cpus": 0.1}],
        "kernel": {"release": "6.1.0", "somaxconn": 4096, "nofile_hard": 524288},
        "system": {"distribution": "Debian", "version": "12", "codename": "bookworm", "systemd": 252,
                   "init": "systemd", "python": "3.11.2", "cgroup": "v2"},
        "disk_mb": {"srv_free": 20480, "srv_total": 40000},
        **sections,
    }  # fmt: skip


def setup(**more: Any) -> dict[str, Any]:
    """What `ansible -m setup --tree` writes, as far as it matters."""
    return {
        "changed": False,
        "ansible_facts": {
            "ansible_processor_nproc": 1,
            "ansible_processor_vcpus": 64,
            "ansible_memtotal_mb": 3936,
            "ansible_kernel": "6.1.0",
            "ansible_distribution": "Debian",
            "ansible_distribution_version": "12.11",
            "ansible_distribution_release": "bookworm",
            "ansible_service_mgr": "systemd",
            "ansible_systemd": {"version": 252, "features": "+PAM"},
            "ansible_python_version": "3.11.2",
            "ansible_mounts": [
                {"mount": "/", "size_available": 10 * 2**30, "size_total": 20 * 2**30},
                {"mount": "/srv", "size_available": 30 * 2**30, "size_total": 40 * 2**30},
            ],
            **more,
        },
    }


def test_a_fact_document_is_understood() -> None:
    host = parse(document(), "web1", "facts/web1.json")
    assert (host.host, host.cpus, host.memory_mb) == ("web1", 1.0, 3936)
    assert (host.cpus_online, host.cpu_quota, host.memory_limit_mb) == (64, 1.0, 4096)
    assert (host.memory_used_by_others_mb, host.memory_available_mb) == (160, 3008)
    assert host.others == (Other("postgresql@15-main.service", 120, 0.1),)
    assert (host.somaxconn, host.nofile_hard, host.systemd, host.python) == (4096, 524288, 252, "3.11.2")
    assert (host.disk_free_mb, host.cgroup, host.origin) == (20480, "v2", "facts/web1.json")
    assert (host.missing, host.stated) == ((), frozenset())


def test_what_a_document_does_not_know_is_named_with_its_consequence() -> None:
    host = parse(document(kernel={"somaxconn": None}, disk_mb=None), "web1", "x")
    assert host.missing == (
        Missing("somaxconn", "the role sets what the plan needs, whatever the host has now"),
        Missing("nofile_hard", "the plan's limits on open files are not compared with the host's"),
        Missing("disk_free_mb", "whether a release fits on the disk is only checked by the role's preflight"),
    )


def test_setup_facts_use_the_cpus_of_the_affinity_and_say_what_they_lack() -> None:
    host = parse(setup(), "web1", "tree/web1")
    assert (host.cpus, host.cpus_online, host.memory_mb) == (1.0, 64, 3936)
    assert (host.distribution, host.version, host.systemd, host.python) == ("Debian", "12.11", 252, "3.11.2")
    assert (host.disk_free_mb, host.disk_total_mb) == (30 * 1024, 40 * 1024)
    assert [entry.fact for entry in host.missing] == [
        "cpu_quota", "memory_limit_mb", "cpus_used_by_others", "memory_used_by_others_mb",
        "memory_available_mb", "somaxconn", "nofile_hard",
    ]  # fmt: skip
    assert host.missing[0].consequence == (
        "Ansible's own facts have no cgroup limits, so the plan uses all CPUs of the machine; in a container that is "
        "too many"
    )
    require_supported(host)


def test_setup_facts_without_nproc_use_the_vcpus() -> None:
    assert parse(setup(ansible_processor_nproc=None), "web1", "x").cpus == 64


def test_cache_entries_of_all_ages() -> None:
    plain = setup()["ansible_facts"]
    expected = parse(setup(), "web1", "x")
    assert parse(plain, "web1", "x") == expected
    assert parse({"__payload__": json.dumps(plain)}, "web1", "x") == expected
    assert parse({key.removeprefix("ansible_"): value for key, value in plain.items()}, "web1", "x") == expected


BAD = [
    ([], "the file holds a list of 0; it must be an object with facts"),
    ({"schema": 2}, "schema is 2; it must be 1: gather the facts again"),
    (document(host="db1"), "host is 'db1'; it must be the name of its file, 'web1'"),
    (document(cpus=4), "cpus is 4; it must be an object"),
    (document(cpus={"usable": "many"}), "cpus.usable is 'many'; " + CPUS),
    (document(cpus={"usable": True}), "cpus.usable is true; " + CPUS),
    (document(cpus={"usable": [1]}), "cpus.usable is a list of 1; " + CPUS),
    (document(cpus={"usable": 0}), "cpus.usable is 0; " + CPUS),
    (document(cpus={"usable": -1}), "cpus.usable is -1; " + CPUS),
    (document(cpus={"usable": 1e9}), "cpus.usable is 1000000000.0; " + CPUS),
    (document(cpus={"usable": float("nan")}), "cpus.usable is nan; " + CPUS),
    (document(cpus={"usable": float("inf")}), "cpus.usable is inf; " + CPUS),
    (document(cpus={"usable": 10**100}), "cpus.usable is a number of more than 60 digits; " + CPUS),
    (document(memory_mb={"usable": 3.5}), "memory_mb.usable is 3.5; " + WHOLE_MB),
    (document(cpus={"usable": 8, "online": 4}), "cpus.usable is 8; the machine has only 4 (cpus.online)"),
    (document(memory_mb={"usable": 9000, "total": 4096}),
     "memory_mb.usable is 9000; the machine has only 4096 (memory_mb.total)"),
    (document(system={"distribution": "De\nbian"}), "system.distribution is 'De\\nbian'; " + TEXT),
    (document(system={"version": 12}), "system.version is 12; " + TEXT),
    (document(kernel={"somaxconn": "x" * 99}),
     f"kernel.somaxconn is '{'x' * 60}…'; it must be a whole number from 0 to 2147483648"),
    (document(others={}), "others is an object of 0; it must be a list of services"),
    (document(others=[{"name": 1}]),
     "others[0] is an object of 1; it must be an object with name, memory_mb and cpus"),
    (setup(ansible_processor_nproc="2"), "ansible_processor_nproc is '2'; " + CPUS),
    (setup(ansible_systemd={"version": "v1"}),
     "ansible_systemd.version is 'v1'; it must be a whole number from 0 to 9999"),
    ({"__payload__": "{"}, "__payload__ is not JSON; gather the facts again"),
    ({"a": 1}, "the file has no host facts; it must be a fact document of Farrier (with `schema`), "
               "a result of `ansible -m setup --tree`, or an entry of a JSON fact cache"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), BAD)
def test_wrong_documents_are_refused_in_one_line(content: object, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(content, "web1", "facts/web1.json")
    assert caught.value.messages[0] == f"host web1 (facts/web1.json): {message}"


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(InputError) as caught:
        parse(document(cpus={"usable": -1}, memory_mb={"usable": "a"}, system=[]), "web1", "x")
    assert caught.value.messages == (
        "host web1 (x): system is a list of 0; it must be an object",
        "host web1 (x): cpus.usable is -1; it must be a number above 0 to 4096",
        "host web1 (x): memory_mb.usable is 'a'; it must be a whole number from 1 to 67108864",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (document(cpus=None), f"the usable CPUs are unknown: cpus.usable {INCOMPLETE} `cpus`"),
        (document(memory_mb={"total": 4096}),
         f"the usable memory is unknown: memory_mb.usable {INCOMPLETE} `memory_mb`"),
        (setup(ansible_memtotal_mb=None),
         f"the usable memory is unknown: ansible_memtotal_mb {INCOMPLETE} `memory_mb`"),
        ({"ansible_facts": {"gather_subset": ["min"]}},
         f"the usable CPUs are unknown: ansible_processor_nproc {INCOMPLETE} `cpus`"),
        ({"unreachable": True, "changed": False, "msg": "Connection\nrefused"},
         "Ansible could not gather its facts: 'Connection\\nrefused'"),
    ],
)  # fmt: skip
def test_incomplete_facts_name_the_fact(content: object, message: str) -> None:
    with pytest.raises(HostError) as caught:
        parse(content, "web1", "x")
    assert caught.value.messages[0] == f"host web1 (x): {message}"


@pytest.mark.parametrize(
    ("system", "message"),
    [
        ({"distribution": "CentOS", "version": "7"}, "the system is 'CentOS 7'; " + SUPPORTED),
        ({"distribution": "Debian", "version": "11"}, "the system is 'Debian 11'; " + SUPPORTED),
        ({"distribution": "Ubuntu", "version": "20.04"}, "the system is 'Ubuntu 20.04'; " + SUPPORTED),
        ({"systemd": 241}, "systemd is 241; it must be 247 or newer"),
        ({"python": "3.8.10"}, "Python is '3.8.10'; it must be 3.9 or newer"),
    ],
)  # fmt: skip
def test_unsupported_systems_are_refused(system: dict[str, Any], message: str) -> None:
    host = parse(document(system=system), "web1", "x")
    with pytest.raises(InputError) as caught:
        require_supported(host)
    assert caught.value.messages == (f"host web1 (x): {message}",)


@pytest.mark.parametrize(
    ("distribution", "version"),
    [("Debian", "12"), ("Debian", "12.11"), ("Debian", "13"), ("Debian", "trixie/sid"), ("Debian", None),
     ("Ubuntu", "22.04"), ("Ubuntu", "24.10"), (None, None)],
)  # fmt: skip
def test_supported_systems(distribution: str | None, version: str | None) -> None:
    system = {"distribution": distribution, "version": version, "systemd": 247, "python": "3.9.2"}
    require_supported(parse(document(system=system), "web1", "x"))


def test_an_operators_facts_win_and_are_known_as_such() -> None:
    host = parse(setup(), "web1", "x", {"cpus": 2, "memory_mb": 512.0, "somaxconn": 128})
    assert hash(host.size), "hosts of one size share a plan"
    assert (host.cpus, host.memory_mb, host.somaxconn) == (2.0, 512, 128)
    assert type(host.memory_mb) is int
    assert host.stated == {"cpus", "memory_mb", "somaxconn"}
    assert [entry.fact for entry in host.missing] == ["memory_available_mb", "nofile_hard"]


def test_an_operators_facts_complete_a_document() -> None:
    host = parse(document(cpus=None), "web1", "x", {"cpus": 0.5})
    assert (host.cpus, host.stated) == (0.5, frozenset({"cpus"}))


def test_a_host_of_which_only_statements_exist() -> None:
    host = from_statements("web2", {"cpus": 1.0, "memory_mb": 512})
    assert (host.cpus, host.memory_mb, host.stated) == (1.0, 512, frozenset({"cpus", "memory_mb"}))
    with pytest.raises(HostError) as caught:
        from_statements("web2", {"cpus": 1.0})
    assert caught.value.messages == (
        "host web2 (stated facts only): the usable memory is unknown: memory_mb.usable is missing or null; gather "
        "the facts again, or set `memory_mb`",
    )


def test_impossible_statements_are_refused() -> None:
    with pytest.raises(InputError) as caught:
        parse(document(), "web1", "x", {"cpus": 0, "memory_mb": 0.5})
    assert caught.value.messages == (
        "host web1 (x): the stated fact cpus is 0; it must be a number above 0 to 4096",
        "host web1 (x): the stated fact memory_mb is 0.5; it must be a whole number from 1 to 67108864",
    )
    with pytest.raises(InputError, match=r"^host web1 \(x\): the stated fact 'cpu' is not a fact; known are cpus, "):
        parse(document(), "web1", "x", {"cpu": 1})


def test_figures_that_hardly_moved_stay_as_they_were() -> None:
    before = document()
    memory = {**before["memory_mb"], "usable": 3920, "used_by_others": 176, "available": 2752}
    services = [{**before["others"][0], "memory_mb": 136}]
    assert (
        settled(
            document(memory_mb=memory, others=services, disk_mb={"srv_free": 19456, "srv_total": 40000}),
            before,
        )
        == before
    )


def test_figures_that_moved_are_new() -> None:
    before = document()
    used = {"usable": 3904, "used_by_others": 192, "available": 2000}
    for sections in (
        {"memory_mb": {**before["memory_mb"], **used}},
        {"memory_mb": {**before["memory_mb"], "limit": 4112, "usable": 3952}},
        {"others": [*before["others"], {"name": "redis.service", "memory_mb": 8, "cpus": 0.0}]},
        {"disk_mb": {"srv_free": 10240, "srv_total": 40000}},
    ):
        assert settled(document(**sections), before) == document(**sections)
    nothings: list[Any] = [None, [], {"schema": 2}, {"schema": 1}, {"schema": 1, "memory_mb": 3, "others": 4}]
    assert all(settled(before, nothing) == before for nothing in nothings)


def test_jinja_in_facts_is_data() -> None:
    host = parse(document(kernel={"release": "{{7*7}}{%raw%}{#"}), "web1", "x")
    assert host.kernel_release == "{{7*7}}{%raw%}{#"


def refusals(content: object) -> tuple[str, ...]:
    """The messages with which a document is refused; any other exception is a fault."""
    try:
        parse(content, "web1", "x")
    except FarrierError as error:
        return error.messages
    return ()


@settings(max_examples=50)
@given(JSON)
def test_any_document_is_understood_or_refused(content: Any) -> None:
    for candidate in (content, {"schema": 1, "cpus": content, "others": content}, {"ansible_facts": content}):
        assert all("\n" not in message for message in refusals(candidate))


@settings(max_examples=50)
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(setup()["ansible_facts"], JSON)))
def test_any_value_of_any_setup_fact_is_understood_or_refused(values: dict[str, Any]) -> None:
    assert all("\n" not in message and len(message) < 400 for message in refusals(setup(**values)))


@pytest.mark.parametrize("module", [facts, fact_documents])
def test_these_modules_are_pure(module: Any) -> None:
    tree = ast.parse(Path(module.__file__).read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    outside = {name for name in imported if name and not name.startswith("farrier")}
    assert outside <= {"re", "json", "math", "typing", "dataclasses", "collections.abc"}
    assert outside <= sys.stdlib_module_names | {"collections.abc"}
