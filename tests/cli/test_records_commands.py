"""`segzoo report`, `diff` and `replay` as a user types them."""

from __future__ import annotations

import json

from record_samples import counted, timed


def test_a_report_names_its_files_on_stdout_and_its_doubts_on_stderr(segzoo_command, tmp_path):
    (tmp_path / "one.json").write_text(counted("a", params=1000, macs=5).to_json())
    (tmp_path / "two.json").write_text(counted("a", params=1001, macs=5).to_json())
    words = [str(tmp_path), "-o", str(tmp_path / "out.html"), "--md", "--csv"]
    result = segzoo_command("report", *words)
    assert result.code == 0
    assert [line.rpartition("/")[2] for line in result.out.splitlines()] == ["out.html", "out.md", "out.csv"]
    assert result.err == (
        "segzoo: warning: a: records of different models, with 1,000, 1,001 parameters; the newest is shown\n"
    )


def test_a_report_of_nothing_is_one_line_and_an_exit_code(segzoo_command, tmp_path):
    (tmp_path / "log.json").write_text('{"iteration": 3}')
    missing = segzoo_command("report", str(tmp_path / "nothing.json"))
    other = segzoo_command("report", str(tmp_path / "log.json"))
    assert (missing.code, other.code) == (2, 4)
    assert missing.err.count("\n") == other.err.count("\n") == 1


def test_a_regression_beyond_the_bound_exits_with_7(segzoo_command, tmp_path):
    for name, centre in (("old", 100.0), ("new", 108.0)):
        (tmp_path / f"{name}.json").write_text(timed("a", *(centre + 0.01 * index for index in range(20))).to_json())
    words = ["diff", str(tmp_path / "old.json"), str(tmp_path / "new.json"), "--fail-on-regression"]
    worse = segzoo_command(*words, "5%")
    assert worse.code == 7 and "latency_ms_median" in worse.out
    assert worse.err.startswith("segzoo: error: worse by more than 5 %: a latency_ms_median +")
    assert segzoo_command(*words, "15%").code == 0
    assert segzoo_command(*words, "much").err == (
        "segzoo: error: impossible percentage 'much': give a number such as 5%\n"
    )


def test_folders_are_compared_as_json_too(segzoo_command, tmp_path):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "r.json").write_text(timed("a", 1.0).to_json())
    run = json.loads(segzoo_command("diff", str(tmp_path / "old"), str(tmp_path / "new"), "--json").out)
    assert run["command"] == "diff" and run["metrics"]["same"] == 2
