"""The facts of this very machine, for trying a plan without a project, an inventory or Ansible."""

from pathlib import Path

from farrier.errors import HostError
from farrier.fact_documents import parse
from farrier.facts import HostFacts
from farrier.modules.farrier_facts import probe

HOST = "localhost"


def local_facts(root: str = "/") -> HostFacts:
    """Facts of this machine, be its system supported or not. HostError where it is not Linux."""
    if not (Path(root) / "proc/meminfo").exists():
        raise HostError(f"host {HOST}: /proc is missing; facts can be gathered on Linux only")
    return parse(probe(root), HOST, "this machine")
