"""The results in the repository and the pages built from them belong together."""

from __future__ import annotations

from pathlib import Path

from segzoo.report.reading import read_records
from segzoo.report.write import write_report

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "results" / "zoo"
TITLE = "segzoo: reference results"


def test_the_table_in_docs_is_built_from_the_records(tmp_path):
    write_report([RECORDS], tmp_path / "results.md", title=TITLE)
    fresh = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert (ROOT / "docs" / "results.md").read_text(encoding="utf-8") == fresh, (
        f"run segzoo report results/zoo -o docs/results.html --md --plots --title {TITLE!r}"
    )


def test_every_latency_has_its_yardstick_machine_and_rounds():
    timed = [run for run in read_records([RECORDS])[0] if run.command == "bench"]
    assert timed
    for run in timed:
        assert run.metrics["yardstick_ratio"] > 0 and run.environment.cpu
        assert len({row["round"] for row in run.breakdown["sample"]}) == run.conditions["rounds"] == 2
