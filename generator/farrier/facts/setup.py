"""Host facts as Ansible's setup module and its fact caches write them."""

import json
from collections.abc import Mapping

from farrier.errors import HostError, InputError
from farrier.facts.model import Missing, Raw
from farrier.wording import quoted, shown

CACHE_PAYLOAD = "__payload__"
"""The key under which ansible-core 2.19 and newer cache a host's facts, as JSON within JSON."""

SETUP_FACTS = {
    "cpus": ("ansible_processor_nproc", "ansible_processor_vcpus"),
    "cpus_online": ("ansible_processor_vcpus",),
    "cpus_affinity": ("ansible_processor_nproc",),
    "memory_mb": ("ansible_memtotal_mb",),
    "memory_total_mb": ("ansible_memtotal_mb",),
    "kernel_release": ("ansible_kernel",),
    "distribution": ("ansible_distribution",),
    "version": ("ansible_distribution_version",),
    "codename": ("ansible_distribution_release",),
    "init": ("ansible_service_mgr",),
    "python": ("ansible_python_version",),
}
"""Ansible's names for the facts, the best first: nproc respects the affinity, vcpus counts the whole machine."""

SETUP_SIGNS = ("gather_subset", "ansible_memtotal_mb", "memtotal_mb", "ansible_hostname", "ansible_distribution")
"""A file with one of these is from Ansible's setup module, even if it gathered only a subset."""

SETUP_UNKNOWN = (
    Missing(
        "cpu_quota",
        "Ansible's own facts have no cgroup limits, so the plan uses all CPUs of the machine; in a container that is "
        "too many",
    ),
    Missing(
        "memory_limit_mb",
        "Ansible's own facts have no cgroup limits, so the plan uses all memory of the machine; in a container that "
        "is too much",
    ),
)
"""Limits of the host that Ansible's own facts never include."""


def from_setup(document: Mapping[str, object], where: str) -> Raw:
    """The facts among a result of `ansible -m setup` or an entry of a fact cache."""
    facts = setup_facts(document, where)
    raw: dict[str, tuple[str, object]] = {}
    for name, keys in SETUP_FACTS.items():
        found = [(key, value) for key in keys if (value := fact_of(facts, key)) is not None]
        raw[name] = found[0] if found else (keys[0], None)
    systemd = fact_of(facts, "ansible_systemd")
    if isinstance(systemd, dict):
        raw["systemd"] = ("ansible_systemd.version", systemd.get("version"))
    raw.update(disk_facts(fact_of(facts, "ansible_mounts")))
    return raw


def fact_of(facts: Mapping[str, object], key: str) -> object:
    """A fact by its name as a variable, or as `ansible_facts` has it: without the prefix."""
    return facts.get(key, facts.get(key.removeprefix("ansible_")))


def setup_facts(document: Mapping[str, object], where: str) -> Mapping[str, object]:
    """The facts themselves; HostError if Ansible recorded a failure, InputError if there are none."""
    inner: object = document
    payload = document.get(CACHE_PAYLOAD)
    if isinstance(payload, str):
        try:
            inner = json.loads(payload)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}{CACHE_PAYLOAD} is not JSON; gather the facts again") from error
    result = inner if isinstance(inner, dict) else {}
    facts = result.get("ansible_facts", result)
    if isinstance(facts, dict) and any(key in facts for key in SETUP_SIGNS):
        return facts
    if "msg" in result:
        said = result["msg"]
        reason = shown(said, 200) if isinstance(said, str) else quoted(said)
        raise HostError(f"{where}Ansible could not gather its facts: {reason}")
    raise InputError(
        f"{where}the file has no host facts; it must be a fact document of Farrier (with `schema`), a result of "
        "`ansible -m setup --tree`, or an entry of a JSON fact cache"
    )


def setup_part(document: Mapping[str, object], where: str) -> dict[str, object]:
    """The part of Ansible's output that a plan reads."""
    facts = setup_facts(document, where)
    keys = sorted({key for keys in SETUP_FACTS.values() for key in keys})
    kept: dict[str, object] = {key: value for key in keys if (value := fact_of(facts, key)) is not None}
    systemd = fact_of(facts, "ansible_systemd")
    if isinstance(systemd, dict):
        kept["ansible_systemd"] = {"version": systemd.get("version")}
    mount = mount_of(fact_of(facts, "ansible_mounts"))
    if mount:
        kept["ansible_mounts"] = [{part: mount.get(part) for part in ("mount", "size_available", "size_total")}]
    return {"ansible_facts": kept}


def mount_of(mounts: object) -> Mapping[str, object]:
    """Ansible's entry for the mount that holds /srv; empty if there is none."""
    entries = [mount for mount in (mounts if isinstance(mounts, list) else ()) if isinstance(mount, dict)]
    by_place = {mount["mount"]: mount for mount in entries if mount.get("mount") in ("/", "/srv")}
    return by_place.get("/srv") or by_place.get("/") or {}


def disk_facts(mounts: object) -> dict[str, tuple[str, object]]:
    """Space on the mount that holds /srv, in MB."""
    mount = mount_of(mounts)
    place = mount.get("mount", "/")
    facts: dict[str, tuple[str, object]] = {}
    for name, key in (("disk_free_mb", "size_available"), ("disk_total_mb", "size_total")):
        size = mount.get(key)
        facts[name] = (f"ansible_mounts[{place}].{key}", size // 2**20 if isinstance(size, int) else size)
    return facts
