"""The facts of this very machine, for trying a plan without a project, an inventory or Ansible."""

from collections.abc import Mapping
from pathlib import Path

from farrier.ansible.module_utils.farrier_probe import hides, probe
from farrier.errors import HostError
from farrier.facts.documents import parse
from farrier.facts.model import HostFacts

HOST = "localhost"


def local_facts(stated: Mapping[str, object], root: str = "/") -> HostFacts:
    """Facts of this machine, be its system supported or not, and the operator's. HostError where it is not Linux."""
    if not (Path(root) / "proc/meminfo").exists():
        raise HostError(f"host {HOST}: /proc is missing; facts can be gathered on Linux only")
    if hides(root):
        raise HostError(
            f"host {HOST}: /proc hides the processes of other users here (hidepid, or a unit's ProtectProc), so neither what they "
            "use nor what limits a service can be seen; run it as root"
        )
    return parse(probe(root), HOST, "this machine", stated)
