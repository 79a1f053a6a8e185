#!/usr/bin/python
"""Look at a host before a deploy: whatever would stop it later is refused here, and nothing is changed."""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.farrier_entries import compared
from ansible.module_utils.farrier_host import Failure
from ansible.module_utils.farrier_owner import Owner
from ansible.module_utils.farrier_probe import HIDDEN, hides, installed_packages, probe
from ansible.module_utils.farrier_room import Room, check_disk
from ansible.module_utils.farrier_sites import has_ipv6, listening, other_application, ports_taken, trial
from ansible.module_utils.farrier_systems import SUPPORTED, is_supported
from ansible.module_utils.farrier_venv import state_of

DOCUMENTATION = r"""
module: farrier_preflight
short_description: Refuse a host on which a deploy would end half-way, before anything is changed
description:
  - Whose the host is, whether it still has what it was sized for, room on the disk, NGINX with the host's other sites, its ports.
  - Without O(sized_for_cpus) only whose the host is. Changes nothing.
options:
  host: {type: str, required: true, description: The host's name in the inventory.}
  application: {type: str, required: true, description: Name of the application.}
  environment: {type: str, required: true, description: Name of the environment.}
  domains: {type: list, elements: str, required: true, description: Names that the application answers to.}
  take_host: {type: bool, default: false, description: "Take over a host of another environment or project, and what is in the way."}
  take_host_hint: {type: str, required: true, description: How to ask for that.}
  accept_smaller_host: {type: bool, default: false, description: Go on with a host that is smaller than it was planned.}
  accept_smaller_host_hint: {type: str, default: "", description: How to ask for that.}
  gather: {type: bool, default: false, description: "Gather the host's facts as well, as farrier_facts does."}
  packages: {type: list, elements: str, default: [], description: "Debian packages that a deploy needs."}
  release: {type: dict, description: "The release that will serve, as farrier_release gets it: is there anything to do?"}
  releasing: {type: bool, default: true, description: "Whether a release will be made, for which the disk needs room."}
  assumed_release_mb: {type: int, description: "Room for a release and its virtual environment, while none is there to be measured."}
  sized_for_cpus: {type: float, description: CPUs that the plan counts with.}
  sized_for_memory_mb: {type: int, description: Memory that the plan counts with.}
  same_memory_share: {type: float, description: A host with this share of that memory is still the one that was planned.}
  slot_memory_mb: {type: int, description: What a slot should need.}
  slots: {type: int, default: 1, description: How many slots run at once during a deploy.}
  somaxconn: {type: int, default: 0, description: "Length of queues that the kernel has to allow."}
  ports: {type: list, elements: int, default: [], description: Ports of NGINX.}
  files: {type: dict, default: {}, description: "Sets of files by name, each as farrier_files gets it: which differ? NGINX tries C(nginx)."}
author: Farrier
"""

RETURN = r"""
refusals: {description: Why the host is refused., returned: always, type: list, elements: str}
facts: {description: The facts of the host., returned: when gathered, type: dict}
packages_missing: {description: Those of the packages that are not installed., returned: success, type: list, elements: str}
release: {description: "C(present), C(whole), C(path), C(venv) and C(active), as of farrier_release.", returned: success, type: dict}
differs: {description: "The sets of files that are not there, or not in use yet.", returned: success, type: list, elements: str}
ipv6: {description: Whether NGINX can listen on IPv6., returned: always, type: bool}
"""

ARGUMENTS: dict[str, dict[str, Any]] = {
    "host": {"type": "str", "required": True},
    "application": {"type": "str", "required": True},
    "environment": {"type": "str", "required": True},
    "domains": {"type": "list", "elements": "str", "required": True},
    "take_host": {"type": "bool", "default": False},
    "take_host_hint": {"type": "str", "required": True},
    "accept_smaller_host": {"type": "bool", "default": False},
    "accept_smaller_host_hint": {"type": "str", "default": ""},
    "gather": {"type": "bool", "default": False},
    "packages": {"type": "list", "elements": "str", "default": []},
    "release": {"type": "dict"},
    "releasing": {"type": "bool", "default": True},
    "assumed_release_mb": {"type": "int"},
    "sized_for_cpus": {"type": "float"},
    "sized_for_memory_mb": {"type": "int"},
    "same_memory_share": {"type": "float"},
    "slot_memory_mb": {"type": "int"},
    "slots": {"type": "int", "default": 1},
    "somaxconn": {"type": "int", "default": 0},
    "ports": {"type": "list", "elements": "int", "default": []},
    "files": {"type": "dict", "default": {}},
}

APT_LOCK = "/var/lib/dpkg/lock-frontend"
SOMAXCONN = "/proc/sys/net/core/somaxconn"


def system_refusals(host: str, system: dict[str, Any]) -> list[str]:
    """Whether this role knows the system, and systemd runs it."""
    name, version = system.get("distribution"), str(system.get("version") or "")
    refused = []
    if not is_supported(name, version):
        refused.append(
            f"{host} runs {name or 'an unknown system'} {version}. This role supports {' and '.join(SUPPORTED)}."
        )
    if system.get("init") != "systemd":
        refused.append(f"{host} is not run by systemd, which manages the socket and the slots.")
    return refused


def apt_warning(host: str) -> list[str]:
    """Who has apt's lock, for which the deploy will wait."""
    try:
        with open(APT_LOCK, "rb") as file:
            wish = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, _, _, _, pid = struct.unpack("hhqqi4x", fcntl.fcntl(file, fcntl.F_GETLK, wish))
    except OSError:
        return []
    if kind == fcntl.F_UNLCK:
        return []
    return [f"{host}: process {pid} is installing packages; the deploy waits for it for up to 10 minutes."]


def queue_warning(host: str, wanted: int) -> list[str]:
    """A container whose kernel hides the limit of queues: what is longer is cut, unseen."""
    if os.path.exists(SOMAXCONN):
        return []
    return [
        f"{host} does not allow net.core.somaxconn to be read or set, as in an unprivileged container. The queues "
        f"need {wanted}: set it on the machine that runs the container; the end of the deploy verifies the queues."
    ]


def sized(wish: dict[str, Any], facts: dict[str, Any], ipv6: bool, missing: list[str]) -> tuple[list[str], list[str]]:
    """Refusals and warnings of a deploy that will install the missing packages."""
    host, room = wish["host"], Room(wish, facts)
    refused = [
        *system_refusals(host, facts["system"]),
        *room.refusals,
        *(check_disk(host, f"/srv/{wish['application']}", wish["assumed_release_mb"]) if wish["releasing"] else []),
    ]
    others = other_application(host, wish["application"], wish["take_host"], wish["take_host_hint"])
    others = others or ports_taken(host, wish["ports"])
    refused += others or trial(host, listening(wish["files"].get("nginx", []), ipv6), wish["domains"])
    waiting = apt_warning(host) if missing else []
    return refused, [*room.warnings, *waiting, *queue_warning(host, wish["somaxconn"])]


def differs(application: str, name: str, files: list[dict[str, Any]]) -> bool:
    """Whether a set of files is not in place, or what reads them has not read them yet; farrier_files names what is in the way."""
    try:
        changed = any(not before.same_as(after) for before, after in compared(files))
    except (ValueError, OSError):
        return True
    return changed or os.path.exists(f"/run/{application}.{name}.pending")


def to_do(wish: dict[str, Any], ipv6: bool) -> dict[str, Any]:
    """What is there already of what the deploy would bring, so that its steps need not ask again."""
    release, sets = wish["release"], wish["files"]
    return {
        "release": state_of(release) if release and release["release"] else None,
        "differs": [name for name in sets if differs(wish["application"], name, listening(sets[name], ipv6))],
    }


def look(wish: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What was found, and what is warned of; Failure where facts would be other figures."""
    ipv6, owner, facts = has_ipv6(), Owner(wish), None
    refused, warned = owner.refusals(), owner.warnings()
    installed = installed_packages(Path("/")) if wish["packages"] else {}
    missing = [name for name in wish["packages"] if name not in installed]
    if (wish["gather"] or wish["sized_for_cpus"] is not None) and not refused:
        if hides():
            raise Failure(HIDDEN)
        facts = probe("/", wish["application"])
        if wish["sized_for_cpus"] is not None:
            refused, more = sized(wish, facts, ipv6, missing)
            warned += more
    return {"refusals": refused, "ipv6": ipv6, "packages_missing": missing, "facts": facts}, warned


def main() -> None:
    """Look, and refuse or warn."""
    needed = ["sized_for_memory_mb", "same_memory_share", "slot_memory_mb", "assumed_release_mb"]
    module = AnsibleModule(argument_spec=ARGUMENTS, required_by={"sized_for_cpus": needed}, supports_check_mode=True)
    wish = module.params
    try:
        found, warned = look(wish)
    except Failure as failure:
        module.fail_json(msg=str(failure))
    for each in warned:
        module.warn(each)
    if found["refusals"]:
        module.fail_json(msg=" ".join(found["refusals"]), **found)
    module.exit_json(changed=False, **found, **to_do(wish, found["ipv6"]))


if __name__ == "__main__":
    main()
