"""The text of a workload file: what was measured, and beside it what the operator states. Pure."""

from collections.abc import Mapping
from math import floor, log10

import yaml
from pydantic import ValidationError

from farrier import policy
from farrier.errors import InputError
from farrier.measure.machine_speed import Pace, pace
from farrier.measure.result import Measured, WorkerMemory
from farrier.project.workload import KEYS, WORKLOAD, Reference, Workload
from farrier.project.yaml_lines import load
from farrier.wording import few, line, mb, milliseconds, number

SLOWEST_REFERENCE = 60
"""Seconds of the fixed work, of which a real machine needs a few thousandths."""


def pace_of(measured: Measured, host: str, before: Workload | None) -> Pace:
    """How the CPU times are brought to the speed that the host had at its first measurement."""
    seconds = round(measured.reference_seconds, 6)
    on = f"{line(host, 300)} with Python {measured.python}"
    return pace(Reference(on=on, seconds=seconds) if 0 < seconds <= SLOWEST_REFERENCE else None, before)


def figures_of(measured: Measured, pace: Pace) -> dict[str, float | bool]:
    """The keys of a workload that were measured, CPU times at the speed that `pace` brings them to."""
    memory = measured.memory
    cpu = measured.cpu_seconds_at(pace)
    found = {
        "cpu_seconds": cpu,
        "wait_seconds": measured.wait_seconds,
        "busy_cpu_seconds": max(1e-6, measured.busy_share * cpu),
        "cpu_scv": measured.cpu_spread,
        "service_scv": measured.spread,
        "memory_private_mb": max(0.1, memory.private_mb),
        "memory_shared_mb": memory.shared_mb,
        "memory_thread_mb": max(policy.THREAD_MINIMUM_MB, measured.thread_mb),
        "boot_seconds": max(0.01, measured.boot_seconds),
    }
    if measured.longest_segment_seconds > 0:  # an old kernel keeps no account of it
        found["longest_cpu_segment_seconds"] = measured.longest_segment_seconds
    if measured.others:
        found["other_cpu_seconds"] = pace.factor * measured.other_cpu_seconds
    return {**found, "preload_safe": measured.preload_safe}


def staying(figures: Mapping[str, float | bool], before: Workload | None) -> dict[str, float | bool]:
    """Figures measured before from which those of now differ by no more than chance makes (`Key.agrees`)."""
    if before is None or before.preload_safe != figures["preload_safe"]:
        return {}
    found: dict[str, float | bool] = {}
    for name in figures.keys() & before.measured:
        then = getattr(before, name)
        relative, absolute = KEYS[name].agrees or (0.0, 0.0)
        if abs(figures[name] - then) <= max(relative * then, absolute):
            found[name] = then
    return found


def compared(measured: Measured, pace: Pace, before: Workload | None) -> list[str]:
    """What is to be said of a measurement after another one."""
    told = [pace.note] if pace.note else []
    if before is None or not {"cpu_seconds", "wait_seconds"} <= before.measured:
        return told
    figures = figures_of(measured, pace)
    stay = staying(figures, before)
    found, then = (
        f"{milliseconds(each['cpu_seconds'])} of CPU and {milliseconds(each['wait_seconds'])} of waiting"
        for each in (figures, {name: getattr(before, name) for name in ("cpu_seconds", "wait_seconds")})
    )
    said = f"this measurement found {found}, the one before {then}"
    new = [name for name in figures if name not in stay]
    if not new:
        return [
            *told,
            f"{said}: no figure differs by more than chance makes, so those before stay and the plan does not change",
        ]
    return [*told, f"{said}; new: {', '.join(new)}" + ("; the others stay" if stay else "")]


def workload_text(
    environment: str,
    host: str,
    measured: Measured,
    pace: Pace,
    earlier: Workload,
    before: Workload | None = None,
) -> str:
    """The file; what is stated in `earlier` and cannot be measured is kept. Without a date: equal figures, equal file.

    Figures that agree with those measured `before` are kept too, so that a plan does not change by chance.
    """
    found = figures_of(measured, pace)
    found |= staying(found, before)
    found["memory_total_mb"] = found["memory_private_mb"] + found["memory_shared_mb"]
    figures = {name: written(value) for name, value in found.items()}
    not_kept = {"other_services", *figures}
    if "other_cpu_seconds" in earlier.measured:  # and not any more
        not_kept.add("other_cpu_seconds")
    stated = {name: getattr(earlier, name) for name in KEYS if name in earlier.stated - not_kept}
    kept = {name: value for name, value in stated.items() if value is not None}
    services = [service for service, _ in measured.others]
    if "other_cpu_seconds" in kept:
        services = list(earlier.other_services)
    lines = [
        f"# What a request costs in {environment}, measured on {line(host, 300)} by `farrier measure {environment}`.",
        "# Measure again rather than editing a figure.",
        *(f"# {each}".rstrip() for each in facts(measured)),
        "",
        *(f"{name}: {value}" for name, value in figures.items()),
        *([f"other_services: {in_flow(services)}"] if services else []),
        f"measured: [{', '.join(figures)}]",
    ]
    if pace.reference:
        at = pace.reference
        lines += [
            "",
            "# How fast the host was: CPU time of fixed work, to whose speed later measurements are brought.",
            f"reference: {{on: {in_flow([at.on])[1:-1]}, seconds: {at.seconds:f}}}",
        ]
    if kept:
        lines += ["", "# Stated, not measured; edit these here.", *(f"{name}: {value}" for name, value in kept.items())]
    text = "\n".join(lines) + "\n"
    _require_workload(text)
    return text


def in_flow(values: list[str]) -> str:
    """A list of texts as YAML on one line."""
    return yaml.safe_dump(values, default_flow_style=True, allow_unicode=True, width=10**6).strip()


def _require_workload(text: str) -> None:
    """What is written is read again one day; InputError where figures are beyond what a workload may hold."""
    try:
        WORKLOAD.validate_python(load(text.encode(), "measured").data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "together"
        raise InputError(
            f"the figures that were measured make no workload, {where}: {line(first['msg'], 300)}; measure again"
        ) from None


def _memory(how: str, memory: WorkerMemory) -> str:
    return (
        f"memory {how} preload: {mb(memory.private_mb)} for each worker and {mb(memory.shared_mb)} for the master and what "
        "all share"
    )


def facts(measured: Measured) -> list[str]:
    """What was seen, line by line, with everything that has no key of its own."""
    width = max(len(url.path) for url in measured.urls)
    plain, preloaded = measured.plain, measured.preloaded
    lines = [
        sentence(measured),
        "",
        f"{'path':<{width}}  weight  status  requests   CPU ms  wait ms   Cs^2    bytes",
        *(
            f"{url.path:<{width}}  {url.weight:>6g}  {url.status:>6}  {url.requests:>8}  {1000 * url.cpu_seconds:>7.2f}  "
            f"{1000 * url.wait_seconds:>7.2f}  {url.spread:>5.2f}  {url.size_bytes:>7}"
            for url in measured.urls
        ),
        "",
        f"boot of a worker: {', '.join(f'{each:.2f}' for each in measured.boots)} s; longest CPU segment seen: "
        f"{milliseconds(measured.longest_segment_seconds)}",
        _memory("without", plain),
    ]
    if preloaded:
        lines.append(_memory("with", preloaded))
    lines.append(f"memory of each further busy thread: {number(measured.thread_mb)} MB")
    if measured.others:
        each = ", ".join(f"{service} {milliseconds(seconds)}" for service, seconds in measured.others)
        lines.append(f"CPU of other services on the host for each request: {each}")
    lines.append(preload_sentence(measured))
    lines += [f"note: {warning}" for warning in warnings(measured)]
    return [each.rstrip() for each in lines]


def sentence(measured: Measured) -> str:
    """Bound by what, with the numbers."""
    cpu, wait = measured.cpu_seconds, measured.wait_seconds
    ratio = wait / cpu
    kind = "mixed"
    if ratio >= policy.MEASURE_IO_BOUND:
        kind = "I/O-bound"
    elif ratio <= policy.MEASURE_CPU_BOUND:
        kind = "CPU-bound"
    return (
        f"{kind}: a request takes {milliseconds(cpu)} of CPU and waits {milliseconds(wait)}, "
        f"{number(ratio)} s of waiting for each second of CPU (Cs^2 {number(measured.spread)}, "
        f"{number(measured.requests)} requests)"
    )


def warnings(measured: Measured) -> list[str]:
    """What makes the figures worth less."""
    found = list(measured.skipped)
    if measured.uncertainty > policy.MEASURE_UNCERTAIN:
        found.append(
            f"CPU per request varies so much that its mean is known to ±{number(200 * measured.uncertainty, 0)} % only; "
            "measure for longer with --seconds"
        )
    if measured.delayed_share > policy.MEASURE_BUSY:
        found.append(
            f"the host was busy: requests stood ready for {number(100 * measured.delayed_share, 0)} % of the time while "
            "others had the CPU; that is not counted, but caches were shared"
        )
    if measured.stolen_share > policy.MEASURE_BUSY:
        found.append(
            f"the hypervisor was busy: it kept the CPUs from computing for {number(100 * measured.stolen_share, 0)} % of the time; "
            "what it took while requests computed is taken out of waiting, but caches were shared"
        )
    return found


def preload_sentence(measured: Measured) -> str:
    """Whether preload is safe, and what it saves."""
    if measured.unsafe:
        return "preload is not safe: " + few(measured.unsafe, ", ")
    saving = ""
    if measured.preloaded:
        before, after = mb(measured.plain.private_mb), mb(measured.preloaded.private_mb)
        saving = f" and takes a worker from {before} to {after} of its own"
    return f"preload is safe: after import the master holds no further thread or stream socket{saving}"


def written(value: float | bool) -> str:
    """A figure as YAML."""
    return str(value).lower() if isinstance(value, bool) else significant(value)


def significant(value: float) -> str:
    """Three significant digits, as a plain number: 0.0209, 0, 31.4, 131."""
    if value <= 0:
        return "0"
    digits = max(0, 2 - floor(log10(value)))
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
