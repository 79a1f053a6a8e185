"""`farrier plan` with --explain, --rules, --plot and the what-if options, as people call it."""

import json
import os
from pathlib import Path
from xml.etree import ElementTree

import pytest

from test_cli import PROJECT, fails, farrier, process, project  # noqa: F401 - `project` is a fixture

TWO_SIZES = PROJECT + "      web2: {cpus: 1, memory_mb: 512}\n"
ASKED = PROJECT + "    workload: {cpu_seconds: 0.02, wait_seconds: 0.03, peak_rps: 50, latency_p95_seconds: 0.1}\n"


def said(text: str) -> str:
    """The words, however they were wrapped."""
    return " ".join(text.split())


def test_a_setting_is_explained_with_its_numbers(project: Path) -> None:  # noqa: F811
    text = farrier(project, "plan", "production", "--explain", "systemd.TasksMax").stdout
    lines = [line.strip() for line in text.splitlines()]
    start = lines.index("systemd.TasksMax = 112  (calculated)")
    assert said(" ".join(lines[start:])).startswith(
        "systemd.TasksMax = 112 (calculated) "
        "why 2 x the 16 processes and threads of Gunicorn + 2 x 2 in each of 4 processes for libraries that start a thread "
        "for each CPU they see + 64 for what the application starts: a fork bomb ends here. "
        "formula f (1 + P (1 + T)) + l (1 + P) v + t, rounded up to 8: libraries start a thread for each CPU that they see, "
        "whatever the quota; a fork bomb ends here "
        "inputs P = 3: gunicorn.workers, calculated "
        "T = 4: gunicorn.threads, calculated "
        "v = 2: CPUs that a program sees, fact of the host "
        "f = 2 (policy.TASKS_FACTOR): TasksMax as a multiple of Gunicorn's own processes and threads: the application may "
        "start some, a fork bomb may not. "
        "l = 2 (policy.TASKS_POOLS): Libraries in one process that start a thread for each CPU they see, whatever the quota: "
        "NumPy and SciPy each bring their own OpenBLAS. If such a thread cannot be started, the import fails, and the worker "
        "with it. "
        "t = 64 (policy.TASKS_BASE): Tasks beyond that, for subprocesses and libraries' helper threads. "
        "steps 1 master + 3 x (1 + 4) = 16 "
        "2 x (1 + 3) x 2 = 16 "
        "2 x 16 + 16 + 64 = 112, rounded up: 112 "
        "result 112 "
        "would be "
    )
    assert "whatever `overrides: {systemd.TasksMax: ...}` in the project file says" in text


def test_several_settings_of_several_sizes(project: Path) -> None:  # noqa: F811
    (project / "farrier.yml").write_text(TWO_SIZES)
    arguments = ["plan", "production", "--explain", "gunicorn.workers", "--explain", "gunicorn.backlog"]
    text = farrier(project, *arguments).stdout
    assert text.count("gunicorn.workers = ") == text.count("gunicorn.backlog = ") == 2
    text = farrier(project, *arguments, "--limit", "web2").stdout
    assert text.count("gunicorn.workers = ") == 1
    assert "gunicorn.workers = 1  (calculated)" in text


def test_hosts_that_are_not_shown_have_their_connections_too(project: Path) -> None:  # noqa: F811
    (project / "farrier.yml").write_text(TWO_SIZES + "    workload: {database_connections: 24}\n")
    text = farrier(project, "plan", "production", "--explain", "gunicorn.workers", "--limit", "web1").stdout
    assert "2 hosts x 2 slots x 3 workers x 2 threads = 24 of 24 database connections" in said(text)
    (project / "farrier.yml").write_text(TWO_SIZES + "    workload: {database_connections: 1}\n")
    assert fails(project, 3, "plan", "production", "--limit", "web1") == (
        "farrier: web1: no plan fits: one slot of 1 worker with 1 thread each needs 2 database connections (2 hosts x 1 slot x "
        "1 worker x 1 thread = 2), but the limit is 1 (database_connections)"
    )


def test_an_operators_value_is_explained_beside_farriers(project: Path) -> None:  # noqa: F811
    (project / "farrier.yml").write_text(PROJECT + "    overrides: {gunicorn.backlog: 300}\n")
    text = said(farrier(project, "plan", "production", "--explain", "gunicorn.backlog").stdout)
    assert "gunicorn.backlog = 300 (override)" in text
    assert "result 985; the operator's 300 takes its place" in text
    assert "would be 985 without `gunicorn.backlog` in `overrides:`" in text


def test_the_heading_names_what_binds(project: Path) -> None:  # noqa: F811
    text = farrier(project, "plan", "production").stdout
    assert "\nbound by CPU: 1 more CPU would carry 49.3 more requests a second\n" in text


def test_what_if(project: Path) -> None:  # noqa: F811
    before = {p: p.read_bytes() for p in project.rglob("*") if p.is_file()}
    arguments = ["plan", "production", "--cpus", "4", "--memory", "1800", "--peak-rps", "150", "--json"]
    web1 = json.loads(farrier(project, *arguments).stdout)["hosts"]["web1"]
    assert web1["sized_for"] == {"cpus": 4.0, "memory_mb": 1800}
    assert web1["predicted"]["p95_seconds"] > 0.05
    assert "stated by the operator, not gathered: cpus 4, memory_mb 1,800" in web1["warnings"]
    assert "planned for --peak-rps 150; the workload itself has no peak" in web1["warnings"]
    assert {p: p.read_bytes() for p in project.rglob("*") if p.is_file()} == before


def test_rules_beside_the_plan(project: Path) -> None:  # noqa: F811
    (project / "farrier.yml").write_text(ASKED)
    text = farrier(project, "plan", "production", "--rules").stdout
    row = next(line for line in text.splitlines() if line.startswith("Gunicorn "))
    # 35 + 5 x 80.5 = 437.5 MB; rho = 50 / 83.64 = 0.598, Erlang C of 5 servers 0.2334: 50.3 ms + ln(0.2334 / 0.05) / 33.64 s
    assert [cell.strip() for cell in row.split("│")] == [
        "Gunicorn",
        "2n + 1",
        "5 x 1",
        "83.6",
        "438 MB",
        "96.1 ms",
        "yes",
    ]
    document = json.loads(farrier(project, "plan", "production", "--rules", "--json").stdout)
    rules = document["hosts"]["web1"]["rules"]
    assert rules["p95_at_rps"] == 50
    assert [choice["name"] for choice in rules["choices"]][:3] == ["Farrier", "Gunicorn's defaults", "Gunicorn"]
    assert rules["choices"][1] == {
        "name": "Gunicorn's defaults",
        "formula": "1",
        "workers": 1,
        "threads": 1,
        "capacity_rps": 19.9,  # 1 / 50.3 ms
        "memory_mb": 116,
        "fits": True,
        "p95_seconds": None,
    }
    assert "rules" not in json.loads(farrier(project, "plan", "production", "--json").stdout)["hosts"]["web1"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--explain", "gunicorn.worker"], 2, "farrier: --explain 'gunicorn.worker' is not a setting; did you mean gunicorn.workers?"),
        (["--explain", "somaxcon"], 2, "farrier: --explain 'somaxcon' is not a setting; did you mean kernel.net.core.somaxconn?"),
        (["--explain", "gunicorn.workers", "--json"], 2, "farrier: --explain prints text; leave out --json"),
        (["--cpus", "none"], 2, "farrier: --cpus: 'none' is not a number above 0 to 4096"),
        (["--memory", "1.5"], 2, "farrier: --memory: '1.5' is not a whole number from 1 to 67108864"),
        (["--cpus", "4", "--fact", "cpus=2"], 2, "farrier: --cpus 4 and --fact cpus=2: give only one of them"),
        (["--peak-rps", "nan"], 2, "farrier: --peak-rps: 'nan' is not a number above 0 to 1000000"),
        (["--plot", "load.pdf"], 2, "farrier: --plot 'load.pdf': the name must end in .svg or .png"),
        (["--plot", "none/load.svg"], 2, "farrier: --plot none/load.svg: no such file or directory; choose a file that can be written"),
    ],
)  # fmt: skip
def test_errors_are_one_line(project: Path, arguments: list[str], code: int, message: str) -> None:  # noqa: F811
    assert fails(project, code, "plan", "production", *arguments) == message


def test_more_sizes_than_one_picture_can_show(project: Path) -> None:  # noqa: F811
    hosts = "".join(f"      web{i}: {{cpus: {i}, memory_mb: 8000}}\n" for i in range(2, 8))
    (project / "farrier.yml").write_text(PROJECT + hosts)
    (project / "inventory.yml").write_text("web: {hosts: {'web[1:7]': {}}}\n")
    assert fails(project, 2, "plan", "production", "--plot", "load.svg") == (
        "farrier: --plot draws up to 4 sizes of host, but there are 7; use --limit HOST"
    )


def test_a_plot_has_the_curves_and_the_marks(project: Path) -> None:  # noqa: F811
    (project / "farrier.yml").write_text(ASKED)
    result = farrier(project, "plan", "production", "--plot", "load.svg")
    assert (result.returncode, result.stderr) == (0, "written load.svg\n")
    assert "gunicorn.workers" in result.stdout
    picture = (project / "load.svg").read_text()
    words = said(" ".join(ElementTree.fromstring(picture).itertext()))  # noqa: S314 - our own file
    for expected in (
        "web1: 2 CPUs, 3,936 MB; a request takes 20 ms of CPU and waits 30 ms",
        "3 x 4 Farrier: 98.5/s",
        "5 x 1 Gunicorn, Heroku: 83.6/s",
        "1 x 1 Gunicorn's defaults: 19.9/s",
        "backlog of 985 full, 10 s: the rest gets 503",
        "capacity 98.5/s",
        "knee: 54.9/s in 97.9 ms",
        "peak: 50/s in 89.9 ms",
        "objective 100 ms",
    ):
        assert expected in words
    farrier(project, "plan", "production", "--plot", "again.svg")
    assert (project / "again.svg").read_text() == picture, "the same plan gives the same picture"
    assert {p.name for p in project.iterdir() if p.suffix in (".svg", ".part")} == {"load.svg", "again.svg"}


def test_a_plot_as_png(project: Path) -> None:  # noqa: F811
    assert farrier(project, "plan", "production", "--json", "--plot", "load.png").returncode == 0
    assert (project / "load.png").read_bytes().startswith(b"\x89PNG")


def test_a_plot_without_matplotlib(
    project: Path,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    missing = tmp_path_factory.mktemp("missing")
    (missing / "matplotlib.py").write_text("raise ImportError('No module named matplotlib')\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(missing), os.environ.get("PYTHONPATH", "")]))
    assert fails(project, 2, "plan", "production", "--plot", "load.svg", by=process) == (
        "farrier: --plot draws with matplotlib, which is not installed with Farrier: `pipx inject farrier matplotlib`, or "
        "`pip install matplotlib` in its virtual environment"
    )
    (project / "inventory.yml").touch()
    assert fails(project, 2, "loadtest", "production", by=process) == (
        "farrier: the report is drawn with matplotlib, which is not installed with Farrier: `pipx inject farrier "
        "matplotlib`, or `pip install matplotlib` in its virtual environment"
    )
