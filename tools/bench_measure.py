"""How well measurements of one application agree: `farrier measure` several times on one throw-away host, and the plans.

    tools/bench_measure.py [--times 5] [--seconds 40] [--anew]

The example application's own pages are measured, whose CPU time follows the machine's speed. Each row is one measurement: what
was seen, how long fixed work took meanwhile, what the workload file says of it, and whether the plan is that of the first one.
Files are kept from one to the next as in a project; `--anew` removes them, so that each measurement stands for itself.
"""

import argparse
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

import testbed
from testbed import ENVIRONMENT, PLAY, farrier, run, write_yaml

URLS = {"/": 3, "/notes/new/": 1}
FIGURES = ("cpu_seconds", "busy_cpu_seconds", "wait_seconds", "memory_private_mb", "boot_seconds")


def measurements(project: Path, name: str, times: int, seconds: int, *, anew: bool) -> Iterator[dict[str, Any]]:
    """What each measurement found, as the workload file and the plan say it."""
    path = project / "workloads" / f"{ENVIRONMENT}.yml"
    for _ in range(times):
        if anew:
            path.write_text("peak_rps: 3\n", encoding="utf-8")
        farrier(project, "measure", ENVIRONMENT, "--seconds", str(seconds))
        text = path.read_text(encoding="utf-8")
        plan = json.loads(farrier(project, "plan", ENVIRONMENT, "--json"))["hosts"][name]
        settings = {key: setting["value"] for key, setting in plan["settings"].items()}
        yield {"seen": seen(text), "brought": brought(text), "file": yaml.safe_load(text), "plan": settings}


def seen(text: str) -> dict[str, float]:
    """CPU ms of each path as it was seen, from the file's comment."""
    rows = [line.split() for line in text.splitlines() if line.startswith("# /")]
    return {row[1]: float(row[5]) for row in rows}


def brought(text: str) -> float:
    """CPU ms of a request at the speed of the first measurement, before figures that agree stay."""
    said = re.search(r"this measurement found ([\d.]+) ms of CPU", text)
    return float(said[1]) if said else 1000 * float(yaml.safe_load(text)["cpu_seconds"])


def spread(values: list[float]) -> str:
    """The largest over the smallest, less one."""
    return f"{100 * (max(values) / min(values) - 1):.1f} %" if min(values) > 0 else "-"


def show(found: list[dict[str, Any]]) -> None:
    """A row for each measurement, the spreads, and where the plans differ."""
    for number, each in enumerate(found, 1):
        figures = ", ".join(f"{name} {each['file'][name]:g}" for name in FIGURES)
        paths = ", ".join(f"{path} {ms:.2f} ms" for path, ms in each["seen"].items())
        fixed = 1000 * each["file"]["reference"]["seconds"]
        print(f"{number}: saw {paths}, which makes {each['brought']:.2f} ms; wrote {figures}, reference {fixed:.2f} ms")
    for path in URLS:
        print(f"seen CPU of {path}: spread {spread([each['seen'][path] for each in found])}")
    print(f"CPU at the speed of the first: spread {spread([each['brought'] for each in found])}")
    for name in FIGURES:
        print(f"{name} in the file: spread {spread([each['file'][name] for each in found])}")
    first = found[0]["plan"]
    for number, each in enumerate(found[1:], 2):
        differing = {name: (first[name], value) for name, value in each["plan"].items() if value != first[name]}
        print(f"plan {number}: {differing or 'that of the first'}")


def main() -> None:
    """Measure as often as asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=40)
    parser.add_argument("--anew", action="store_true")
    wish = parser.parse_args()
    name = "bench-measure"
    with (
        tempfile.TemporaryDirectory(prefix="bench-measure-") as place,
        testbed.host(name, cpus=1, memory_mb=768) as host,
    ):
        project = Path(place)
        testbed.write_notes(project, [host], {"peak_rps": 3}, {})
        farrier(project, "facts", ENVIRONMENT)
        farrier(project, "generate", ENVIRONMENT)
        run([*PLAY, f"playbooks/{ENVIRONMENT}.yml"], project)
        path = project / "farrier.yml"
        description = yaml.safe_load(path.read_text(encoding="utf-8"))
        description["application"]["urls"] = URLS
        description["environments"][ENVIRONMENT]["workload"] = f"workloads/{ENVIRONMENT}.yml"
        write_yaml(path, description)
        (project / "workloads").mkdir()
        write_yaml(project / "workloads" / f"{ENVIRONMENT}.yml", {"peak_rps": 3})
        show(list(measurements(project, name, wish.times, wish.seconds, anew=wish.anew)))


if __name__ == "__main__":
    main()
