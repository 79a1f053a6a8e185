"""What a request costs, from samples whose means, variances and sums were worked out by hand."""

from typing import Any

import pytest

from farrier.ansible.module_utils.measured_process import columns
from farrier.errors import DoesNotFitError, InputError
from farrier.measure.evaluate import evaluate, memory_of, thread_mb
from farrier.measure.machine_speed import Pace, follows_speed, pace
from farrier.measure.result import WorkerMemory
from farrier.measure.workload_file import (
    compared,
    facts,
    figures_of,
    pace_of,
    preload_sentence,
    sentence,
    significant,
    warnings,
    workload_text,
)
from farrier.project.workload import WORKLOAD, Reference, Workload
from farrier.project.yaml_lines import load

NOTHING_HELD: dict[str, Any] = {
    "python": "3.11.2",
    "threads": [],
    "native": [],
    "sockets": ["unix /run/x/gunicorn.sock"],
}
PLAIN_MEMORY = {
    "master": {"private": 10_240, "shared": 10_240},
    "workers": [{"private": 30_720, "shared": 12_288}, {"private": 32_768, "shared": 12_288}],
}
PRELOADED_MEMORY = {
    "master": {"private": 2_048, "shared": 38_912},
    "workers": [{"private": 8_192, "shared": 38_912}, {"private": 8_192, "shared": 36_864}],
}


def sample(
    path: int, cpu_ms: float, wait_ms: float, *, delay_ms: float = 0, status: int = 200, reference_ms: float = 2
) -> dict[str, int]:
    """One request; 1 ms of the CPU comes after the answer, the client takes 0.5 ms of its own."""
    cpu, wait, delay, own, reference = (round(1000 * each) for each in (cpu_ms, wait_ms, delay_ms, 0.5, reference_ms))
    inside = cpu - 1000
    return {
        "request": path,
        "status": status,
        "bytes": 187,
        "cpu_us": cpu,
        "wall_us": wait + inside + max(delay, own),
        "inside_us": inside,
        "delay_us": delay,
        "client_us": own,
        "reference_us": reference,
    }


SAMPLES = [sample(0, 10, 30)] * 30 + [sample(1, 30, 50)] * 10


def growing(begin: int, half: int, end: int) -> dict[str, int]:
    return {"begin": begin, "half": half, "end": end}


def found(samples: list[dict[str, int]] = SAMPLES, **changes: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "names": ["/", "/slow/"],
        "probes": [{"path": "/", "status": 200, "error": ""}, {"path": "/slow/", "status": 302, "error": ""}],
        "samples": columns(samples),
        "growth_kb": growing(60_000, 60_400, 60_500),
        "boots": [0.9, 1.1, 1.0],
        "longest_segment": 0.012,
        "memory": PLAIN_MEMORY,
        "held": NOTHING_HELD,
        "stolen_share": 0.0,
        "others": {"seconds": {"idle": 3.0, "busy": 30.0}, "used_us": {}},
    }
    plain |= changes
    if len(set(plain["samples"]["request"])) == 1:
        plain |= {"names": plain["names"][:1], "probes": plain["probes"][:1]}
    preload = {"held": NOTHING_HELD, "memory": PRELOADED_MEMORY}
    return {
        "plain": plain,
        "preload": preload,
        "threads": {
            "few_threads": {"threads": 2, "private_kb": 30_000},
            "many_threads": {"threads": 9, "private_kb": 33_584},
            "alone": {"requests": 100, "bad": 0, "cpu_us": 1_500_000},
            "busy": {"requests": 200, "bad": 0, "cpu_us": 2_700_000},
        },
    }


WEIGHTS = {"/": 3.0, "/slow/": 1.0}
ALONE = {"/": 1.0}


def test_the_memory_of_a_worker_and_what_all_share_are_told_apart() -> None:
    told = [line for line in facts(evaluate(found(), WEIGHTS)) if line.startswith("memory with")]
    assert told == [
        "memory without preload: 31 MB for each worker and 22 MB for the master and what all share",
        "memory with preload: 8 MB for each worker and 40 MB for the master and what all share",
    ]


def test_cpu_and_wait_are_means_by_weight() -> None:
    measured = evaluate(found(), WEIGHTS)
    assert measured.cpu_seconds == pytest.approx(0.015)
    assert measured.wait_seconds == pytest.approx(0.035)
    assert measured.requests == 40
    # 40 ms three times of four, 80 ms once: mean 50, variance (3 * 100 + 900) / 4 = 300, over 2500.
    assert measured.spread == pytest.approx(0.12)
    # 10 ms three times of four, 30 ms once: mean 15, variance (3 * 25 + 225) / 4 = 75, over 225.
    assert measured.cpu_spread == pytest.approx(1 / 3)
    assert measured.boot_seconds == 1.0
    # 15 ms alone and 13.5 ms of a busy worker, by turns.
    assert measured.busy_share == pytest.approx(0.9)
    assert figures_of(measured, Pace())["busy_cpu_seconds"] == pytest.approx(0.0135)


def test_a_busy_worker_is_compared_with_all_that_came_alone_where_chance_rules_the_few_of_the_turns() -> None:
    # 2 ms nine times of ten, 82 ms once: mean 10. By turns 9.5 ms over 8 ms would make more than 1.
    document = found(samples=[sample(0, 2, 30)] * 360 + [sample(0, 82, 30)] * 40)
    document["threads"]["alone"]["cpu_us"] = 800_000
    document["threads"]["busy"]["cpu_us"] = 1_900_000
    assert evaluate(document, ALONE).busy_share == pytest.approx(0.95)


def test_a_worker_that_answers_badly_under_load_is_not_cheap() -> None:
    document = found()
    document["threads"]["busy"] |= {"bad": 3, "cpu_us": 900_000}
    measured = evaluate(document, WEIGHTS)
    assert measured.busy_share == 1.0
    assert warnings(measured)[0].startswith("3 of 200 responses under concurrent requests were not 2xx or 3xx")


def test_standing_ready_is_not_waiting_for_others() -> None:
    measured = evaluate(found(samples=[sample(0, 10, 30, delay_ms=20)] * 10), ALONE)
    assert measured.wait_seconds == pytest.approx(0.030)
    assert measured.delayed_share == pytest.approx(20 / 59)
    assert warnings(measured)[-1].startswith("the host was busy: requests stood ready for 34 % of the time")


def test_what_the_hypervisor_takes_is_not_waiting_for_others() -> None:
    # A CPU that is taken away for a fifth of the time takes a quarter longer: of 9 ms in the worker until it answers, 0.5 ms in
    # the client and 2 ms of fixed work.
    measured = evaluate(found(samples=[sample(0, 10, 30)] * 10, stolen_share=0.2), ALONE)
    assert measured.wait_seconds == pytest.approx(0.030 - 0.25 * 0.0115)
    assert measured.cpu_seconds == pytest.approx(0.010)
    assert warnings(measured)[-1].startswith(
        "the hypervisor was busy: it kept the CPUs from computing for 20 % of the time; "
    )
    assert not any("hypervisor" in each for each in warnings(evaluate(found(), WEIGHTS)))


def test_an_answer_that_is_an_error_is_reported_and_not_measured() -> None:
    document = found(samples=[sample(0, 10, 30)] * 8 + [sample(0, 1, 0, status=500)] * 2)
    document["plain"]["names"].append("/slow/")
    document["plain"]["probes"].append({"path": "/gone/", "status": 404, "error": ""})
    measured = evaluate(document, {"/": 18.0, "/slow/": 1.0, "/gone/": 1.0})
    assert measured.cpu_seconds == pytest.approx(0.010)
    assert measured.skipped == (
        "/gone/: answers 404; not measured",
        "/: 2 of 10 responses were not 2xx or 3xx",
        "/slow/: 0 responses are too few; measure for longer with --seconds",
    )


def test_paths_that_carry_much_of_the_weight_must_be_measured() -> None:
    document = found(samples=[sample(0, 10, 30)] * 8)
    late = {"path": "/slow/", "status": 0, "error": "does not answer within 10 s"}
    document["plain"]["probes"].append(late)
    with pytest.raises(InputError) as caught:
        evaluate(document, {"/": 1.0, "/slow/": 3.0}, ["2 other paths, 3 % of the requests, are rarer and left out"])
    assert str(caught.value) == (
        "75 % of the requests could not be measured, more than the 10 % that a plan tolerates: /slow/: does not "
        "answer within 10 s; not measured; fix these paths, measure for longer with --seconds, or choose others in `application.urls`"
    )
    with pytest.raises(InputError, match=r"^11 % of the requests"):
        evaluate(document, {"/": 8.9, "/slow/": 1.1})
    assert evaluate(document, {"/": 9.0, "/slow/": 1.0}).skipped == (
        "/slow/: does not answer within 10 s; not measured",
    )


def test_a_request_that_sleeps_loses_nothing_to_a_busy_hypervisor() -> None:
    # 3 % of the time are taken from a CPU that computes 4.5 ms of the 124.5: 0.03 / 0.97 of 1 + 0.5 + 2 ms, 0.11 ms.
    measured = evaluate(found(samples=[sample(0, 2, 120)] * 10, stolen_share=0.03), ALONE)
    assert measured.wait_seconds == pytest.approx(0.11989, abs=5e-6)


def others(idle_us: int, busy_us: int, idle: float = 3.0, busy: float = 30.0) -> dict[str, Any]:
    used = {"postgresql@15-main.service": {"idle": idle_us, "busy": busy_us}, "dbus.service": {"idle": 0, "busy": 900}}
    return {"seconds": {"idle": idle, "busy": busy}, "used_us": used}


def test_what_other_services_compute_for_a_request_is_found_by_service() -> None:
    # 40 requests took 15.3 ms each beyond the 3 ms a second that it takes by itself: 612 ms and 90 ms. Of 5 % of 15 ms, dbus has 3.
    measured = evaluate(found(others=others(9_000, 702_000)), WEIGHTS)
    assert dict(measured.others) == {"postgresql@15-main.service": pytest.approx(0.0153)}
    assert figures_of(measured, Pace(factor=0.5))["other_cpu_seconds"] == pytest.approx(0.00765)
    text = workload_text("production", "web1", measured, Pace(), Workload(peak_rps=7, stated=frozenset({"peak_rps"})))
    assert "\nother_cpu_seconds: 0.0153\n" in text
    assert "\nother_services: [postgresql@15-main.service]\n" in text
    assert "# CPU of other services on the host for each request: postgresql@15-main.service 15.3 ms\n" in text
    work = WORKLOAD.validate_python(load(text.encode(), "x").data)
    assert "other_cpu_seconds" in work.measured
    # It is gone at the next measurement: neither the figure nor the name stay, as nobody has stated them.
    later = workload_text("production", "web1", evaluate(found(), WEIGHTS), Pace(), work, work)
    assert "other_" not in later
    assert "\npeak_rps: 7" in later
    stated = WORKLOAD.validate_python({"other_cpu_seconds": 0.02, "other_services": ["redis.service"]})
    kept = workload_text("production", "web1", evaluate(found(), WEIGHTS), Pace(), stated)
    assert "\nother_services: [redis.service]\n" in kept
    assert "\nother_cpu_seconds: 0.02\n" in kept


def test_what_a_service_computes_by_itself_is_not_taken_for_the_requests() -> None:
    # By itself 90 ms a second, 2,700 ms; 3,300 are not surely more, though 600 ms would be 15 ms a request.
    measured = evaluate(found(others=others(270_000, 3_300_000)), WEIGHTS)
    assert measured.others == ()
    assert measured.skipped == (
        "postgresql@15-main.service uses so much CPU by itself (9 % of a CPU) that its share per request cannot be "
        "told apart and is not counted; measure when it is less busy",
    )
    # 40 x 0.7 ms are less than 5 % of 15 ms.
    assert evaluate(found(others=others(0, 28_000)), WEIGHTS).others == ()


def test_no_good_answer_is_an_error() -> None:
    with pytest.raises(InputError, match="no URL could be measured: /: 4 responses are too few"):
        evaluate(found(samples=[sample(0, 10, 30)] * 4), ALONE)


def test_varying_cpu_says_how_little_is_known() -> None:
    measured = evaluate(found(samples=[sample(0, 2, 1), sample(0, 200, 1)] * 50), ALONE)
    # Standard deviation 99.5 ms of 100 requests around 101 ms: 9.85 % of it, twice.
    assert "CPU per request varies so much that its mean is known to ±20 % only" in warnings(measured)[-1]


@pytest.mark.parametrize(
    ("samples", "seconds", "message"),
    [
        # Standard deviation 104.36 ms of 10 requests around 101 ms: 32.68 %, for 12.5 % it takes (32.68 / 12.5)^2 = 6.83
        # times as many.
        (
            [sample(0, 2, 1), sample(0, 200, 1)] * 5,
            60,
            "requests vary too much: the mean CPU is 101 ms, but after 10 requests only known to ±65 %, and a plan needs "
            "±25 %; measure with --seconds 410 or more, or choose",
        ),
        (
            [sample(0, 2, 1), sample(0, 2, 1999)] * 4,
            60,
            "vary too much: the mean CPU and wait is 1,002 ms, but after 8 requests only known to ±75 %",
        ),
        (
            [sample(0, 2, 1), sample(0, 2, 1999)] * 4,
            600,
            "no reasonable time would suffice, or choose paths in `application.urls`",
        ),
    ],
)
def test_answers_at_random_speed_are_refused(samples: list[dict[str, int]], seconds: float, message: str) -> None:
    with pytest.raises(InputError) as error:
        evaluate(found(samples=samples), ALONE, seconds=seconds)
    assert message in str(error.value)


def test_paths_of_one_kind_are_measured_together() -> None:
    document = found(names=["/notes/*/", "/notes/*/"], samples=[sample(0, 10, 30)] * 30 + [sample(1, 20, 30)] * 30)
    (url,) = evaluate(document, {"/notes/*/": 4.0}).urls
    assert (url.path, url.weight, url.requests) == ("/notes/*/", 4.0, 60)
    assert url.cpu_seconds == pytest.approx(0.015)


def test_memory_counts_shared_pages_once() -> None:
    assert memory_of(PLAIN_MEMORY) == WorkerMemory(31.0, 22.0)
    assert memory_of(PRELOADED_MEMORY) == WorkerMemory(8.0, 40.0)


def test_memory_with_preload_adds_up_to_what_was_seen() -> None:
    # The thread that was busy takes 0.5 of the 8 MB of its worker, and sizing.memory counts it with the threads.
    assert evaluate(found(), WEIGHTS).memory == WorkerMemory(7.5, 40.0)


def test_memory_without_preload_adds_up_to_what_was_seen() -> None:
    document = found()
    document["preload"] = {"failed": "the application does not start"}
    measured = evaluate(document, WEIGHTS)
    # One worker of one thread costs all three figures in sizing.memory: 8.5 + 22 + 0.5 = the 31 MB that were seen.
    assert measured.memory == WorkerMemory(8.5, 22.0)
    assert not measured.preload_safe
    assert preload_sentence(measured) == "preload is not safe: with preload the application does not start"


def test_a_thread_takes_what_further_threads_took() -> None:
    few = {"threads": 2, "private_kb": 30_000}
    assert thread_mb(few, {"threads": 9, "private_kb": 33_584}) == 0.5
    assert thread_mb(few, {"threads": 2, "private_kb": 33_584}) == 0


def test_what_a_fork_would_break_is_named() -> None:
    document = found()
    document["preload"]["held"] = {
        "python": "3.11.2",
        "threads": ["statistics"],
        "native": ["python", "python"],
        "sockets": ["to 10.0.0.5:5432", "unix /run/x/gunicorn.sock"],
    }
    assert evaluate(document, WEIGHTS).unsafe == (
        "import starts a thread named statistics",
        "import starts 1 thread outside Python (python)",
        "import opens a socket to 10.0.0.5:5432",
    )


def test_steady_growth_is_a_leak_and_slowing_growth_is_none() -> None:
    with pytest.raises(DoesNotFitError, match="leaks memory: its workers grew from 59 MB to 98 MB during 40 requests"):
        evaluate(found(growth_kb=growing(60_000, 80_000, 100_000)), WEIGHTS)
    evaluate(found(growth_kb=growing(60_000, 90_000, 100_000)), WEIGHTS)


@pytest.mark.parametrize(
    ("cpu", "wait", "expected"),
    [
        (2, 50, "I/O-bound: a request takes 2 ms of CPU and waits 50 ms, 25 s of waiting for each second of CPU"),
        (20, 30, "mixed: a request takes 20 ms of CPU and waits 30 ms, 1.5 s of waiting for each second of CPU"),
        (20, 1, "CPU-bound: a request takes 20 ms of CPU and waits 1 ms, 0.05 s of waiting for each second of CPU"),
    ],
)
def test_bound_by_what(cpu: float, wait: float, expected: str) -> None:
    measured = evaluate(found(samples=[sample(0, cpu, wait)] * 10), ALONE)
    assert sentence(measured) == f"{expected} (Cs^2 0, 10 requests)"


def test_the_file_is_a_workload_that_knows_it_was_measured_and_keeps_what_was_stated() -> None:
    earlier = WORKLOAD.validate_python({"cpu_seconds": 5.0, "peak_rps": 40.0, "request_limit_seconds": 20})
    text = workload_text("production", "web1", evaluate(found(), WEIGHTS), Pace(), earlier)
    workload = WORKLOAD.validate_python(load(text.encode(), "x").data)
    assert (workload.cpu_seconds, workload.wait_seconds) == (0.015, 0.035)
    assert (workload.memory_private_mb, workload.memory_shared_mb) == (7.5, 40)
    assert (workload.boot_seconds, workload.preload_safe) == (1, True)
    assert (workload.cpu_scv, workload.service_scv) == (0.333, 0.12)
    assert (workload.longest_cpu_segment_seconds, workload.memory_thread_mb) == (0.012, 0.5)
    assert (workload.peak_rps, workload.request_limit_seconds) == (40, 20)
    assert workload.is_measured
    assert workload.measured == workload.stated - {"peak_rps", "request_limit_seconds"}
    line = next(line for line in text.splitlines() if line.startswith("# /slow/"))
    assert line.split()[1:] == ["/slow/", "1", "200", "10", "30.00", "50.00", "0.00", "187"]


def measured_again(cpu_ms: float, before: str, *, reference_ms: float = 2, **changes: Any) -> tuple[str, list[str]]:
    """The file after a measurement that follows the one which wrote `before`, and what is said of it."""
    earlier = WORKLOAD.validate_python(load(before.encode(), "x").data) if before else None
    samples = [sample(0, cpu_ms, 30, reference_ms=reference_ms)] * 30
    document = found(samples=samples, **changes)
    document["threads"]["busy"] = document["threads"]["alone"]
    measured = evaluate(document, ALONE)
    speed = pace_of(measured, "web1", earlier)
    said = compared(measured, speed, earlier)
    return workload_text("production", "web1", measured, speed, Workload(), earlier), said


def test_figures_stay_where_the_difference_is_chance() -> None:
    first, said = measured_again(10, "")
    assert said == []
    assert "\ncpu_seconds: 0.01\n" in first
    second, said = measured_again(10.9, first)
    assert said == [
        "this measurement found 10.9 ms of CPU and 30 ms of waiting, the one before 10 ms of CPU and 30 ms of waiting: no "
        "figure differs by more than chance makes, so those before stay and the plan does not change"
    ]
    assert "\ncpu_seconds: 0.01\n" in second
    assert "10.9 ms of CPU" in second
    third, said = measured_again(11.1, second)
    assert said == [
        "this measurement found 11.1 ms of CPU and 30 ms of waiting, the one before 10 ms of CPU and 30 ms of waiting; new: "
        "cpu_seconds, busy_cpu_seconds; the others stay"
    ]
    assert "\ncpu_seconds: 0.0111\n" in third
    assert measured_again(11.1, "cpu_seconds: 0.01")[1] == []


def test_a_figure_that_changed_leaves_the_others_alone() -> None:
    first, _ = measured_again(10, "")
    second, said = measured_again(10.5, first, boots=[3.0])
    assert said[0].endswith("; new: boot_seconds; the others stay")
    assert "\ncpu_seconds: 0.01\n" in second
    assert "\nboot_seconds: 3\n" in second


def test_cpu_is_brought_to_the_speed_of_the_first_measurement() -> None:
    first, _ = measured_again(10, "")
    assert "\nreference: {on: web1 with Python 3.11.2, seconds: 0.002000}\n" in first
    # Fixed work takes 2.5 instead of 2 ms: 15 ms now are 12 ms then, 20 % more than the 10 ms of the first measurement.
    second, said = measured_again(15, first, reference_ms=2.5)
    assert "\ncpu_seconds: 0.012\n" in second
    assert "\nbusy_cpu_seconds: 0.012\n" in second
    assert "\nreference: {on: web1 with Python 3.11.2, seconds: 0.002000}\n" in second
    assert said[0] == (
        "a fixed task took 25 % longer than at the first measurement on web1 with Python 3.11.2: the machine was "
        "slower, and the figures are scaled to its speed then"
    )
    assert measured_again(12.4, first, reference_ms=2.5)[1][1].startswith("this measurement found 9.9 ms of CPU")
    assert "took 20 % less than at the first" in measured_again(8, first, reference_ms=1.6)[1][0]


def test_another_host_another_python_or_a_very_different_speed_begins_anew() -> None:
    now = Reference(on="web1 with Python 3.11.2", seconds=0.002)
    for then in (
        Reference(on="web2 with Python 3.11.2", seconds=0.0021),
        Reference(on="web1 with Python 3.13.5", seconds=0.0021),
        Reference(on="web1 with Python 3.11.2", seconds=0.0031),
    ):
        assert pace(now, Workload(reference=then)) == Pace(now)
    then = Reference(on="web1 with Python 3.11.2", seconds=0.0022)
    found = pace(now, Workload(reference=then))
    assert found.reference == then
    assert found.factor == pytest.approx(1.1)


def test_requests_that_compute_by_the_clock_are_left_as_they_are() -> None:
    """The machine is slow in every other block of twenty: a reference takes 3 instead of 2 ms."""
    slow = [(number // 20) % 2 for number in range(400)]
    assert follows_speed([(1.5 if each else 1.0, 0.003 if each else 0.002) for each in slow])
    assert not follows_speed(
        [(1.0 + 0.01 * (number % 3), 0.003 if each else 0.002) for number, each in enumerate(slow)]
    )
    assert follows_speed([(1.0, 0.002)] * 400), "a machine that kept its speed tells nothing"
    assert follows_speed([(1.0, 0.003 if each else 0.002) for each in slow[:100]]), "too few"


def test_only_paths_that_follow_the_speed_are_brought_to_another_one() -> None:
    """200 requests each; the machine is slow in every other block of twenty, and only `/` takes longer then."""
    slow = [(number // 20) % 2 for number in range(400)]
    samples = [sample(0, 15 if each else 10, 30, reference_ms=3 if each else 2) for each in slow]
    samples += [sample(1, 20, 30, reference_ms=3 if each else 2) for each in slow]
    document = found(samples=samples)
    measured = evaluate(document, WEIGHTS)
    assert [url.follows_speed for url in measured.urls] == [True, False]
    # 3/4 of 12.5 ms and 1/4 of 20 ms; with fixed work that took 0.8 as long: 7.5 ms and 5 ms.
    assert measured.cpu_seconds_at(Pace(factor=0.8)) == pytest.approx(0.0125)


@pytest.mark.parametrize(
    ("value", "text"), [(0.0209444, "0.0209"), (0, "0"), (131.2, "131"), (0.00001234, "0.0000123"), (3.0, "3")]
)
def test_three_digits_are_written(value: float, text: str) -> None:
    assert significant(value) == text
