"""What the comparison of sizes shows: from records whose medians were worked out by hand to a row."""

from pathlib import Path

from sizing.records import Record, Records
from sizing.report import THUMB, Row, finished, table
from sizing.rig import Configuration

OWN, OTHER, DEFAULTS = Configuration(2, 3, 3), Configuration(1, 4, 4), Configuration(1, 1, 1000)
ROW = Row(
    *("mixed1", OWN, 53, OTHER, 56, 1.0, 50, 30, True, 0.163, None, 62, 56, 32, 29, 24, (53 / 56, 59 / 56, 1.0)),
    *(THUMB, 50 / 52),
)


def recorded(directory: Path, rounds: int) -> Records:
    """A work that went through so many rounds."""
    records = Records(directory)
    (file := directory / "mixed1" / "workloads" / "bench.yml").parent.mkdir(parents=True)
    file.write_text("{memory_private_mb: 6, memory_shared_mb: 22}\n")
    records.keep_plan("mixed1", {"predicted": {"capacity_rps": 62, "memory_mb": 32}})
    records.add(Record("mixed1", "screen", 0, OWN, 52))
    records.add(Record("mixed1", "screen", 0, THUMB, 50))
    records.add(Record("mixed1", "screen", 0, DEFAULTS, 30, bound=True))
    for number, (mine, others) in enumerate([(53, 56), (59, 56), (50, 50)][:rounds]):
        records.add(Record("mixed1", "final", number, OWN, mine, memory_mb=29))
        records.add(Record("mixed1", "final", number, OTHER, others, memory_mb=24))
        records.add(Record("mixed1", "rest", number, OWN, 39, p95_seconds=0.163))
        records.add(Record("mixed1", "saturated", number, OWN, 56))
    records.add(Record("mixed1", "rest", 0, THUMB, 39, p95_seconds=float("inf")))
    return records


def test_the_share_is_the_median_of_the_rounds(tmp_path: Path) -> None:
    # 53/56, 59/56 and 50/50: the middle one is 1, while the medians 53 and 56 would make 0.95.
    assert finished(recorded(tmp_path, 3), "mixed1") == ROW


def test_a_work_without_all_its_rounds_is_not_shown(tmp_path: Path) -> None:
    assert finished(recorded(tmp_path, 2), "mixed1") is None
    assert finished(Records(tmp_path / "nothing"), "mixed1") is None


def test_a_row_in_words() -> None:
    assert table([ROW]).splitlines()[2] == (
        "| mixed 1:1, 15 + 15 ms | 2 x 3 | 53/s | 1 x 4 | 56/s | 1.00 (0.95 to 1.05) | 3 x 1: 0.96 | 50/s | ≤ 30/s "
        "| 163 ms, - | 62/s, 56/s | 32 MB, 29 MB, 24 MB |"
    )
