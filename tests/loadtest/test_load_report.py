"""What a load test makes of its figures: rates, counts, what broke, which term is off, the files, and what it refuses."""

import csv
import io
import re
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest
import yaml

from farrier.errors import InputError
from farrier.loadtest.inventory import InventoryHost
from farrier.loadtest.page import LoadtestResult, page, sentences
from farrier.loadtest.rows import Running, StepResult, Usage
from farrier.loadtest.run import LoadtestOptions, target_url
from farrier.loadtest.samples import Samples, summary, unpacked
from farrier.loadtest.schedule import Prediction, longest_seconds, rates, warm_seconds
from farrier.loadtest.step import Latency, Outcome, Step, step_from
from farrier.loadtest.tables import FIELDS, cells, csv_text, errors
from farrier.loadtest.usage import HostSample, ReadyMark, offset_seconds, usage
from farrier.loadtest.verdict import judge
from farrier.project.model import Project

NAMES = ("GET /", "GET /b")

# 2 workers of 3 threads on one CPU; a request computes 20 ms and waits 30 ms. The prediction's curve is any that bends.
TOLD = Prediction(
    host="web1",
    capacity_rps=49.8,
    p95_seconds=lambda rate: 0.05 / (1 - rate / 49.8) if rate < 49.8 else inf,
    rate_within=lambda seconds: 49.8 * (1 - 0.05 / seconds),
    cpus=1.0,
    workers=2,
    threads=3,
    cpu_seconds=0.02,
    wait_seconds=0.03,
    proxy_cpu_seconds=0.0005,
    memory_mb=120,
    objective_seconds=0.3,
    peak_rps=20,
    backlog=400,
)


def samples(*requests: tuple[str, int, float, float, float]) -> Samples:
    """Kind, request, due, latency and lateness of each."""
    found = Samples()
    for each in requests:
        found.add(*each)
    return found


def row(
    rps: float,
    *,
    mean: float = 0.052,
    p95: float = 0.1,
    good: float = 1.0,
    behind: float = 0.0,
    cpu: float = 0.02,
    nginx: float = 0.0004,
    others: float = 0.01,
    workers: int = 2,
    predicted: float = 0.1,
    **changes: Any,
) -> StepResult:
    """A step of 20 s whose share `good` succeeded, `behind` of the answers came after its window."""
    offered = round(rps * 20)
    kinds = {"200": round(offered * good), "503": offered - round(offered * good)}
    rate = rps * good * (1 - behind)
    step = Step(
        offered=offered,
        kinds={kind: count for kind, count in kinds.items() if count},
        latency=Latency(mean, p95, 1.5 * p95, mean, 2 * p95),
        rps=rps,
        seconds=20.0,
        warm_seconds=4.0,
        good_rps=rate,
        paths={},
        in_flight=3,
        lateness_p95_seconds=0.001,
        cpu_share=0.1,
        drain_seconds=0.1,
        begun=0.0,
    )
    spent = Usage(rate * cpu + rps * nginx + others, rate * cpu, rps * nginx, workers)
    return StepResult(replace(step, **changes), spent, predicted)


def test_rates_go_from_a_quarter_of_the_capacity_to_beyond_it() -> None:
    assert rates(100, 8, 1.3) == (25.0, 40.0, 55.0, 70.0, 85.0, 100.0, 115.0, 130.0)
    assert rates(100, 1, 1.3) == (130.0,)
    assert rates(40, 2, 0.1) == (2.0, 4.0), "no two steps are the same"
    assert rates(100, 5, 0.25) == (5.0, 10.0, 15.0, 20.0, 25.0)
    assert (warm_seconds(15), warm_seconds(3)) == (3.0, 1.0)
    assert longest_seconds(8, 15, 60) == 634


def test_a_step_counts_what_was_due_in_its_window_and_what_came_in_it() -> None:
    one = samples(
        ("200", 0, 0.5, 0.2, 0.001),  # before the window
        ("200", 0, 0.9, 0.3, 0.001),  # due before it, answered in it
        ("200", 0, 1.0, 0.1, 0.002),
        ("503", 1, 2.0, 0.05, 0.003),
        ("200", 1, 2.9, 0.4, 0.004),  # due in it, answered after it
    )
    other = samples(("timeout", 0, 1.5, 9.0, 0.005), ("unsent", 0, 1.6, 0.0, 0.0))
    one.cpu_share, other.cpu_share, other.in_flight = 0.2, 0.4, 3
    sent = [unpacked(each.packed()) for each in (one, other)]
    step = step_from(summary(sent, NAMES, rps=3, seconds=2, warm_seconds=1))
    assert (step.offered, step.answered, step.good) == (5, 3, 2)
    assert step.kinds == {"200": 2, "503": 1, "timeout": 1, "unsent": 1}
    assert step.good_rps == 1.0
    assert step.offered_rps == 2.5
    assert step.latency == Latency(0.1, 0.4, 0.4, 0.25, 0.4)
    assert (step.lateness_p95_seconds, step.cpu_share, step.in_flight, step.workers) == (0.005, 0.4, 3, 2)
    assert step.paths["GET /b"] == Outcome(2, {"200": 1, "503": 1}, Latency(0.4, 0.4, 0.4, 0.4, 0.4))


def test_a_step_without_any_good_answer_has_no_latency() -> None:
    step = step_from(summary([samples(("502", 0, 0.1, 0.2, 0.0))], NAMES, rps=1, seconds=1, warm_seconds=0))
    assert step.latency == Latency()
    assert (step.good, step.good_rps) == (0, 0)


def test_a_host_that_does_as_planned_has_no_term_that_is_off() -> None:
    rows = [row(12.5, predicted=0.095), row(40, p95=0.3, mean=0.12, predicted=0.32), row(60, behind=0.2, p95=2.0)]
    found = judge(rows, TOLD)
    assert found.is_result
    assert (found.carried_rps, found.capacity_rps, found.saturated, found.broken_rps) == (40, 48.0, True, 60)
    assert found.off == ()
    assert [term.name for term in found.terms if term.off] == []


def test_a_dearer_request_is_named_before_what_follows_from_it() -> None:
    # 30 ms of CPU instead of 20: C is off by half, H = 60 ms with it, W is not.
    rows = [
        row(12.5, cpu=0.03, mean=0.067),
        row(30, cpu=0.03, mean=0.2, p95=0.4),
        row(50, cpu=0.03, behind=0.36, p95=3.0),
    ]
    found = judge(rows, TOLD)
    assert found.capacity_rps == 32.0
    assert found.off[0] == "capacity: 32 requests a second measured, 49.8 predicted (−36 %)"  # noqa: RUF001 - a minus sign
    assert found.off[1] == "p95 at 30 requests a second: 400 ms measured, 100 ms predicted (+300 %)"
    assert found.off[2] == "C: a request used 30 ms of CPU at 30 requests a second; planned with 20 ms (+50 %)"
    assert not [text for text in found.off if text.startswith(("H:", "W:"))]


def test_a_longer_wait_for_others_is_told_from_cpu() -> None:
    rows = [row(12.5, mean=0.08), row(30, mean=0.1, p95=0.16)]
    found = judge(rows, TOLD)
    # 80 ms less 20.4 ms of CPU in Gunicorn and NGINX, less the wait for it: 0.265 x 20.4 / (2 x 0.735) = 3.7 ms.
    assert found.off[-1].startswith("W: 55.9 ms of that was waiting; planned with 30 ms (+86 %)")
    # 20 ms of CPU in Gunicorn, 0.5 ms in NGINX, 30 ms of waiting.
    assert {term.name: round(term.predicted, 4) for term in found.terms if term.name in "CHW"} == {
        "C": 0.02,
        "H": 0.0505,
        "W": 0.03,
    }


def test_workers_that_are_missing_and_neighbours_that_take_cpu_are_named() -> None:
    rows = [row(12.5, others=0.4), row(30, workers=1, others=0.4, p95=0.5), row(50, behind=0.4, p95=4.0, others=0.4)]
    off = judge(rows, TOLD).off
    assert "P: 1 worker of 2 ready at the worst moment (−50 %)" in off  # noqa: RUF001 - a minus sign
    assert "CPUs: other processes left 0.6 of 1 CPU for the application and NGINX (−40 %)" in off  # noqa: RUF001


def test_a_dear_proxy_failures_below_capacity_and_a_restart_are_named() -> None:
    rows = [row(12.5, nginx=0.004), row(30, nginx=0.004, good=0.9), row(55, nginx=0.004, behind=0.4)]
    rows[1] = replace(rows[1], usage=replace(rows[1].usage, restarted=True))
    off = judge(rows, TOLD).off
    assert "NGINX: 4 ms of CPU per request; planned with 0.5 ms" in off
    assert "errors: 10 % at 30 requests a second, below the predicted capacity: 60 x 503" in off
    assert "the slot was restarted or switched at 30 requests a second" in off


def test_what_a_request_costs_other_services_is_named_by_service() -> None:
    # At 12.5 requests a second others take 0.2 CPUs, at 30 they take 0.4675: 15.3 ms a request, and 9 ms that are there anyway.
    rows = [row(12.5, others=0.2), row(30, others=0.46775, p95=0.5), row(55, behind=0.5, p95=4.0, others=0.5)]
    services = {"postgresql@15-main.service": 0.453, "cron.service": 0.003}
    rows[1] = replace(rows[1], usage=replace(rows[1].usage, services=services))
    off = judge(rows, TOLD).off
    assert off[2] == (
        "O: other services on the host use 15.3 ms of CPU per request (postgresql@15-main.service 15.1 ms, cron.service 0.1 ms); "
        "planned with 0 ms"
    )
    assert not [text for text in off if text.startswith("CPUs:")], "named once"
    known = replace(TOLD, other_cpu_seconds=0.0153)
    assert not [text for text in judge(rows, known).off if text.startswith("O:")]
    # From one rate alone nobody can tell what a request costs from what is there anyway.
    assert not [text for text in judge(rows[1:2], TOLD).off if text.startswith("O:")]


def test_another_plan_than_the_one_that_predicts_is_said_first() -> None:
    rows = (row(12.5, workers=3), row(30, workers=3, p95=0.5))
    found = LoadtestResult("production", TOLD, rows, "Sends", "now", runs=Running(3, 4, 500))
    said = sentences(found)
    assert said[0] == (
        "the host does not run this plan: 3 x 4 (backlog 500) running, 2 x 3 (backlog 400) planned; deploy, or "
        "restore the deployed plan, and test again"
    )
    assert not [text for text in said if text.startswith("P:")]
    assert not sentences(replace(found, runs=Running(2, 3, 400)))[0].startswith("the plan")
    # Where the mark of a worker does not say, nothing is claimed.
    assert not sentences(replace(found, runs=None))[0].startswith("the plan")
    mark = ReadyMark(workers=3, threads=4, worker_connections=9, backlog=5)
    assert mark.running == Running(3, 4, 5)
    assert mark.model_copy(update={"worker_class": "gevent"}).running == Running(3, 9, 5)
    assert ReadyMark(workers=3).running is None


def test_a_contended_machine_is_named_instead_of_the_waiting() -> None:
    rows = [row(12.5), row(40, p95=0.9, predicted=0.4)]
    seen = replace(rows[1].usage, elsewhere=1.1, stolen=0.25)
    rows[1] = replace(rows[1], usage=seen)
    assert judge(rows, TOLD, machine_cpus=2).off[1:] == (
        "steal: the hypervisor withheld up to 0.25 CPUs from this machine; test again when it is idle, or plan for fewer CPUs",
        "machine: other processes on it, outside this host, used up to 1.1 of its 2 CPUs; test again when it is idle, or "
        "plan for fewer CPUs",
    )
    # Of 8 CPUs there is enough left for a host with one.
    calm = [rows[0], replace(rows[1], usage=replace(seen, stolen=0.0))]
    assert judge(calm, TOLD, machine_cpus=8).off[1:] == (
        "no single term is off by more than 15 %: only the queueing itself differs; the host's CPUs were up to 83 % busy; "
        "CPU taken by a hypervisor or other containers could not be observed",
    )


def test_where_no_term_is_off_the_waiting_itself_is() -> None:
    rows = [row(12.5), row(40, p95=0.2, predicted=0.4)]
    off = judge(rows, TOLD).off
    assert off == (
        "p95 at 40 requests a second: 200 ms measured, 400 ms predicted (−50 %)",  # noqa: RUF001 - a minus sign
        "no single term is off by more than 15 %: only the queueing itself differs; the host's CPUs were up to "
        "83 % busy; CPU taken by a hypervisor or other containers could not be observed",
    )


def test_fifteen_percent_is_the_border() -> None:
    assert judge([row(12.5, p95=0.1149)], TOLD).off == ()
    assert judge([row(12.5, p95=0.1151)], TOLD).off != ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cpu_share": 0.9}, "it used 90 % of one core"),
        ({"lateness_p95_seconds": 0.02}, "it sent requests up to 20 ms late (p95)"),
        (
            {"kinds": {"200": 90, "unsent": 10}},
            "10 requests could not be sent: the limit of requests in flight was reached",
        ),
    ],
)
def test_a_run_that_the_generator_limited_is_no_result(changes: dict[str, Any], reason: str) -> None:
    rows = (row(12.5), row(25, **changes))
    verdict = judge(rows, TOLD)
    assert not verdict.is_result
    assert verdict.carried_rps is None
    found = LoadtestResult("production", TOLD, rows, "Sends something", "2026-01-01 12:00 UTC")
    assert sentences(found) == (
        f"inconclusive: the load generator was the limit: at 25 requests a second {reason}; add workers with --workers",
    )
    shown = page(found)
    assert "inconclusive: the load generator was the limit" in shown
    assert "highest rate carried" not in shown


def test_lateness_that_is_small_beside_the_latency_is_no_limit() -> None:
    assert row(25, lateness_p95_seconds=0.03, latency=Latency(0.4, 0.5, 0.6, 0.4, 0.7)).limited is None


def test_chance_does_not_make_a_rate_look_not_carried() -> None:
    # 100 arrivals, 5 a second with 1 s each: some 5 are under way, so up to 3 + 2 sqrt(5) + 1 may be missing.
    assert row(5, mean=1.0, behind=0.08).carried
    assert not row(5, mean=1.0, behind=0.09).carried
    assert row(50, good=0.99).carried
    assert not row(50, good=0.989).carried


def test_the_csv_has_a_line_for_each_step_and_leaves_the_unknown_empty() -> None:
    unknown = StepResult(
        row(60, kinds={"503": 700, "502": 2, "504": 3, "timeout": 4, "reset": 5, "404": 6}).step, Usage(), float("inf")
    )
    lines = list(csv.DictReader(io.StringIO(csv_text([row(12.5), unknown]))))
    assert tuple(lines[0]) == FIELDS
    assert (lines[0]["rps"], lines[0]["good"], lines[0]["carried"], lines[0]["host_cpu"]) == (
        "12.5",
        "250",
        "yes",
        "0.265",
    )
    second = lines[1]
    assert (second["shed_503"], second["bad_gateway_502"], second["gateway_timeout_504"]) == ("700", "2", "3")
    assert (second["timeouts"], second["other_errors"]) == ("4", "11")
    assert (second["predicted_p95_seconds"], second["host_cpu"], second["carried"]) == ("", "", "no")
    assert errors(unknown)["status 404"] == 6
    assert cells(unknown)[2:7] == ("100 %", "52", "100", "beyond", "150")


def test_the_report_is_one_file_and_what_others_wrote_is_escaped() -> None:
    evil = "GET /<script>alert(1)</script>?a=1&b=2"
    outcome = Outcome(5, {"200": 5}, Latency(0.1, 0.1, 0.1, 0.1, 0.1))
    rows = (row(12.5, paths={evil: outcome, "GET /": outcome}), row(60, behind=0.3, good=0.8))
    text = page(
        LoadtestResult(
            "<b>production</b>", TOLD, rows, f"Sends {evil}", "2026-01-01 12:00 UTC", ("<i>note</i>",), (50, 60)
        )
    )
    for tag in ("<script", "<b>production", "<i>note", "<link", "<img", "<metadata", "<!DOCTYPE svg"):
        assert tag not in text
    assert "GET /&lt;script&gt;alert(1)&lt;/script&gt;?a=1&amp;b=2" in text
    # Names of XML's own vocabularies are the only addresses, and nothing fetches those.
    assert set(re.findall(r"https?://[^\"'\s<]+", text)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert not re.search(r"@import|url\((?!#)|\bsrc=|href=\"(?!#)", text)
    assert text.count("<svg") == 1
    assert "memory: 50 MB before, 60 MB after; planned with 120 MB" in text
    assert "shed (503)" in text


def test_what_the_host_spent_is_read_between_two_samples() -> None:
    # Twice a second: one CPU busy, of it the slot 0.8 and NGINX 0.1; a worker is missing for a moment.
    noted = [
        HostSample(100 + i / 2, i / 2, 0.8 * i / 2, 0.1 * i / 2, 1 if i == 5 else 2, 77, i / 2, 0, {})
        for i in range(20)
    ]
    found = usage(noted, 101.25, 4)
    assert found.host == pytest.approx(1.0)
    assert found.application == pytest.approx(0.8)
    assert found.nginx == pytest.approx(0.1)
    assert found.others == pytest.approx(0.1)
    assert (found.workers, found.restarted) == (1, False)
    assert usage([*noted[:6], replace(noted[6], main_pid=78), *noted[7:]], 101.25, 4).restarted
    assert usage(noted, 99, 4) == Usage()
    assert usage(noted, 108, 4) == Usage()
    assert usage(noted, 101.25, 4, nginx=False).others is None
    assert usage([replace(each, main_pid=0) for each in noted], 101.25, 4).application is None


def test_samples_tell_of_the_machine_and_of_other_services() -> None:
    noted = [
        HostSample(100 + i / 2, i / 2, 0.3 * i, 0, 2, 77, 0.9 * i, 0.05 * i, {"db.service": 0.1 * i} if i else {})
        for i in range(20)
    ]
    found = usage(noted, 101.5, 4)
    assert found.elsewhere == pytest.approx(0.8)
    assert found.stolen == pytest.approx(0.1)
    assert found.services == {"db.service": pytest.approx(0.2)}


def test_clocks_that_differ_by_ansibles_own_time_are_taken_for_one() -> None:
    assert offset_seconds(1000.0, 1001.5) == 0
    assert offset_seconds(1000.0, 1060.0) == -60


PROJECT = Project.model_validate(
    yaml.safe_load("""
application: {name: notes, wsgi: "notes.wsgi:application"}
environments:
  production: {inventory: hosts.yml, domain: www.example.org, aliases: [example.org]}
  shop: {inventory: hosts.yml, domain: shop.example.org, tls: {certificate: /etc/c.pem, key: /etc/k.pem}}
""")
)
INVENTORY = InventoryHost(
    address="192.0.2.10", names=["web1", "web2", "192.0.2.10", "2001:db8::1"], groups={"web": ["web1", "web2"]}
)


@pytest.mark.parametrize(
    "url",
    [
        "http://web1",
        "http://192.0.2.10:8080",
        "https://www.example.org",
        "http://EXAMPLE.org/",
        "http://[2001:db8::1]:80",
    ],
)
def test_what_belongs_to_the_environment_may_be_loaded(url: str) -> None:
    assert target_url(PROJECT, "production", LoadtestOptions(url), INVENTORY) == url.lower().rstrip("/")


def test_without_a_url_it_is_the_hosts_own_address() -> None:
    assert target_url(PROJECT, "production", LoadtestOptions(), INVENTORY) == "http://192.0.2.10"
    assert (
        target_url(PROJECT, "shop", LoadtestOptions(), INVENTORY.model_copy(update={"address": "2001:db8::1"}))
        == "https://[2001:db8::1]"
    )


@pytest.mark.parametrize(
    "url", ["http://example.com", "http://shop.example.org", "http://192.0.2.11", "http://web1.example.org"]
)
def test_what_belongs_to_others_is_refused_without_the_word_for_it(url: str) -> None:
    with pytest.raises(
        InputError, match=r"is neither in the inventory of production nor one of its domains; use --foreign"
    ):
        target_url(PROJECT, "production", LoadtestOptions(url), INVENTORY)
    assert target_url(PROJECT, "production", LoadtestOptions(url, foreign=True), INVENTORY) == url


@pytest.mark.parametrize(
    "url",
    ["web1", "ftp://web1", "http://", "http://web1/path", "http://web1?x", "http://me@web1", "http://web1:99999", "http://[web1"],
)  # fmt: skip
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="must be scheme, host and port"):
        target_url(PROJECT, "production", LoadtestOptions(url, foreign=True), INVENTORY)


def test_the_template_of_the_report_is_packaged() -> None:
    from farrier.ansible.render import templates_directory

    assert (templates_directory() / "loadtest/report.html.tmpl").is_file()
    assert "http" not in Path(templates_directory() / "loadtest/report.html.tmpl").read_text()
