"""From observations on a host to what a request costs: means, spread, memory, whether preload is safe. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from farrier import policy
from farrier.errors import DoesNotFitError, InputError
from farrier.measure.answer import RequestSample, checked
from farrier.measure.machine_speed import follows_speed
from farrier.measure.result import Measured, UrlCost, WorkerMemory
from farrier.wording import ceil_to, counted, few, mb, milliseconds, number

Document = Mapping[str, Any]

MOST_STOLEN = 0.9
"""Beyond it hardly anything was computed, too little to conclude from."""


def evaluate(
    answer: object,
    weights: Mapping[str, float],
    notes: Sequence[str] = (),
    seconds: float | None = None,
    host: str = "measured",
) -> Measured:
    """What the phases `plain`, `preload` and `threads` of a measurement of `seconds` say together; `weights` by name.

    Raises:
        HostError: the answer is none to what was asked for.
        InputError: paths that matter were not answered often enough, or at random speed.
        DoesNotFitError: the workers grew all the time.
    """
    found = checked(answer, host, set(weights))
    plain = found["plain"]
    samples: list[RequestSample] = plain["samples"]
    skipped = [*notes, *(_not_answered(probe) for probe in plain["probes"] if not 200 <= probe["status"] < 400)]
    urls = []
    for path in dict.fromkeys(plain["names"]):
        of_path = [sample for sample in samples if plain["names"][sample.request] == path]
        good = [sample for sample in of_path if sample.good]
        if len(good) < len(of_path):
            skipped.append(f"{path}: {len(of_path) - len(good)} of {len(of_path)} responses were not 2xx or 3xx")
        if len(good) >= policy.MEASURE_MINIMUM_REQUESTS:
            urls.append(_cost(path, weights[path], good, plain["stolen_share"]))
        elif len(good) == len(of_path):
            skipped.append(f"{path}: {len(good)} responses are too few; measure for longer with --seconds")
    if not urls:
        raise InputError("no URL could be measured: " + few(skipped))
    _refuse_gaps(weights, {url.path for url in urls}, skipped[len(notes) :])
    _refuse_growth(plain["growth_kb"], len(samples))
    walls_us = sum(sample.wall_us for sample in samples)
    preloaded, threads = found["preload"], found["threads"]
    alone, busy = threads["alone"], threads["busy"]
    if busy["bad"]:
        skipped.append(
            f"{busy['bad']} of {busy['requests']} responses under concurrent requests were not 2xx or 3xx: what a request costs "
            "a busy worker is unknown, and taken to be what it costs alone"
        )
    measured = Measured(
        urls=tuple(urls),
        skipped=tuple(skipped),
        boots=tuple(plain["boots"]),
        longest_segment_seconds=plain["longest_segment"],
        plain=memory_of(plain["memory"]),
        preloaded=memory_of(preloaded["memory"]) if "memory" in preloaded else None,
        thread_mb=thread_mb(threads["few_threads"], threads["many_threads"]),
        alone=(alone["requests"], alone["cpu_us"]),
        busy=(busy["requests"], busy["cpu_us"]) if not busy["bad"] else (0, 0),
        unsafe=tuple(unsafe_to_preload(plain["held"], preloaded)),
        delayed_share=sum(sample.delay_us for sample in samples) / walls_us if walls_us else 0.0,
        stolen_share=plain["stolen_share"],
        python=plain["held"]["python"],
        reference_seconds=_average([sample.reference_us for sample in samples]) / 1e6,
    )
    _refuse_chance(measured, seconds)
    others, unclear = others_of(plain["others"], len(samples), measured.cpu_seconds)
    return replace(measured, others=others, skipped=(*measured.skipped, *unclear))


def _refuse_gaps(weights: Mapping[str, float], measured: set[str], reasons: Sequence[str]) -> None:
    """Paths that were not measured may be the ones that cost."""
    absent = [path for path in weights if path not in measured]
    missing = sum(weights[path] for path in absent) / sum(weights.values())
    if missing > policy.MEASURE_MISSING:
        raise InputError(
            f"{number(100 * missing, 0)} % of the requests could not be measured, more than the "
            f"{number(100 * policy.MEASURE_MISSING, 0)} % that a plan tolerates: {few(reasons or absent)}; fix these paths, "
            "measure for longer with --seconds, or choose others in `application.urls`"
        )


def others_of(
    found: Document, requests: int, cpu_seconds: float
) -> tuple[tuple[tuple[str, float], ...], tuple[str, ...]]:
    """What other services computed for each of the requests, beyond what they do by themselves; and where that is not clear."""
    clear: list[tuple[str, float]] = []
    unclear: list[str] = []
    idle, busy = found["seconds"]["idle"], found["seconds"]["busy"]
    for service, used in found["used_us"].items():
        by_itself = used["idle"] / idle * busy if idle else 0.0
        each = (used["busy"] - by_itself) / 1e6 / requests
        if each < policy.MEASURE_OTHER_SHARE * cpu_seconds:
            continue
        if used["busy"] - by_itself > policy.MEASURE_OTHER_STEADY * by_itself:
            clear.append((service, each))
        else:
            unclear.append(
                f"{service} uses so much CPU by itself ({number(by_itself / 1e4 / busy, 0)} % of a CPU) that its "
                "share per request cannot be told apart and is not counted; measure when it is less busy"
            )
    return tuple(sorted(clear, key=lambda item: -item[1])), tuple(unclear)


def _not_answered(probe: Document) -> str:
    return f"{probe['path']}: {probe['error'] or 'answers ' + str(probe['status'])}; not measured"


def _cost(path: str, weight: float, samples: Sequence[RequestSample], stolen_share: float) -> UrlCost:
    """What the requests of one path took."""
    cpu = [sample.cpu_us / 1e6 for sample in samples]
    share = min(stolen_share, MOST_STOLEN)
    wait = [_wait_us(sample, share / (1 - share)) / 1e6 for sample in samples]
    mean_cpu, mean_wait = max(1e-6, _average(cpu)), max(0.0, _average(wait))
    variance = _variance([max(0.0, c + w) for c, w in zip(cpu, wait, strict=True)])
    return UrlCost(
        path=path,
        weight=weight,
        status=samples[-1].status,
        requests=len(samples),
        cpu_seconds=mean_cpu,
        wait_seconds=mean_wait,
        spread=variance / (mean_cpu + mean_wait) ** 2,
        size_bytes=round(median(sample.bytes for sample in samples)),
        cpu_variance=_variance(cpu),
        variance=variance,
        follows_speed=follows_speed([(sample.cpu_us, sample.reference_us) for sample in samples]),
    )


def _wait_us(sample: RequestSample, stolen: float) -> float:
    """How long a request waited for somebody else; the hypervisor takes `stolen` for each second that we compute.

    Who computes, there or here, makes the other one stand ready: the larger figure holds the smaller one. What the hypervisor
    takes from a CPU while it computes for us is in no process' clock, so that its mean for so long a time is taken out. What
    it takes while a request sleeps costs nothing.
    """
    computed = sample.inside_us + sample.client_us + sample.reference_us
    return sample.wall_us - sample.inside_us - max(sample.delay_us, sample.client_us) - stolen * computed


def _average(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _variance(values: Sequence[float]) -> float:
    mean = _average(values)
    return sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)


def memory_of(found: Document) -> WorkerMemory:
    """Memory of master and workers together: each one's private pages, and the shared ones once."""
    workers = found["workers"]
    shared = max(process["shared"] for process in [found["master"], *workers]) + found["master"]["private"]
    return WorkerMemory(median(worker["private"] for worker in workers) / 1024, shared / 1024)


def thread_mb(few: Document, many: Document) -> float:
    """MB that each further thread took, from a worker's memory with few and with many of them."""
    further = many["threads"] - few["threads"]
    return max(0.0, (many["private_kb"] - few["private_kb"]) / further / 1024) if further > 0 else 0.0


def unsafe_to_preload(plain: Document, preloaded: Document) -> list[str]:
    """What a fork would break, each in words; `plain` is the master without the application."""
    if "failed" in preloaded:
        return [f"with preload {preloaded['failed']}"]
    held = preloaded["held"]
    found = [f"import starts a thread named {name}" for name in held["threads"]]
    native = len(held["native"]) - len(plain["native"]) - len(held["threads"])
    if native > 0:
        found.append(
            f"import starts {counted(native, 'thread')} outside Python ({few(sorted(set(held['native'])), ', ')})"
        )
    before = list(plain["sockets"])
    for each in held["sockets"]:
        if each in before:
            before.remove(each)
        else:
            found.append(f"import opens a socket {each}")
    return found


def _refuse_growth(growth_kb: Mapping[str, int], requests: int) -> None:
    """A leak: memory of the workers grows by much, and in the second half of the requests about as fast as in the first."""
    begin, half, end = (growth_kb[name] for name in ("begin", "half", "end"))
    total, second = end - begin, end - half
    if total < max(policy.MEASURE_LEAK_MB * 1024, policy.MEASURE_LEAK_SHARE * begin):
        return
    if second >= policy.MEASURE_LEAK_PERSISTS * (half - begin):
        raise DoesNotFitError(
            f"the application leaks memory: its workers grew from {mb(begin / 1024)} to {mb(end / 1024)} during "
            f"{requests} requests, about {number(total / requests, 1)} KB each, and kept growing; if a cache is "
            "filling, measure for longer with --seconds"
        )


def _refuse_chance(measured: Measured, seconds: float | None) -> None:
    """Requests at random speed: what one more run would find is anybody's guess, and so would be the plan."""
    cpu, service = measured.uncertainty, measured.service_uncertainty
    worst = max(cpu, service)
    if worst <= policy.MEASURE_UNKNOWN:
        return
    what = "CPU" if cpu >= service else "CPU and wait"
    mean = measured.cpu_seconds if cpu >= service else measured.cpu_seconds + measured.wait_seconds
    advice = "measure for longer with --seconds"
    if seconds is not None:
        needed = ceil_to(seconds * (worst / policy.MEASURE_UNKNOWN) ** 2, 10)
        advice = f"measure with --seconds {needed} or more"
        if needed > policy.MEASURE_MOST_SECONDS:
            advice = "no reasonable time would suffice"
    raise InputError(
        f"requests vary too much: the mean {what} is {milliseconds(mean)}, but after "
        f"{counted(measured.requests, 'request')} only known to ±{number(200 * worst, 0)} %, and a plan needs "
        f"±{number(200 * policy.MEASURE_UNKNOWN, 0)} %; {advice}, or choose paths in `application.urls` that do the same "
        "work each time"
    )
