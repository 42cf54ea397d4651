"""The report in a real browser: what a script types and presses there, and what the page then shows.

Chromium prints the page as it is after the script has run. Whatever the page writes to the console, or
throws, is collected and must be nothing.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from record_samples import counted, evaluated, published, timed

from segzoo.report.write import write_report
from segzoo.results import Run

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium to open the report in")

DRIVER = """
<script>
const seen = {errors: []};
for (const kind of ["error", "warn"]) console[kind] = (...words) => seen.errors.push(words.join(" "));
addEventListener("error", (event) => seen.errors.push(event.message));
const names = () => [...document.querySelectorAll("#entries tbody tr")].map((r) => r.cells[0].textContent);
const press = (heading) =>
  [...document.querySelectorAll("#entries thead button")].find((b) => b.textContent === heading).click();
const type = (text) => { words.value = text; words.dispatchEvent(new Event("input")); return names(); };
addEventListener("load", () => {
  try { drive(); } catch (error) { seen.errors.push(String(error)); }
  const outcome = document.createElement("pre");
  outcome.id = "outcome";
  outcome.textContent = JSON.stringify(seen);
  document.body.append(outcome);
});
function drive() { SCRIPT }
</script>
"""


def outcome_of(page: Path, script: str, *, width: int = 1200) -> dict:
    """What `script` left in `seen`, after it has driven the page in the browser."""
    driven = page.with_name("driven.html")
    driver = DRIVER.replace("SCRIPT", script)
    driven.write_text(page.read_text().replace("<head>", f"<head>{driver}"))
    words = ["--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900", "--dump-dom"]
    command = [BROWSER, *words, f"--user-data-dir={page.parent / 'profile'}", driven.as_uri()]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<pre id="outcome">(.*?)</pre>', result.stdout, re.S)
    assert found, result.stderr
    return json.loads(html.unescape(found[1]))


def records() -> list[Run]:
    return [
        published("nat-b", miou=47.1),
        counted("nat-b", params=58_000_000, macs=900_000_000),
        counted("cae-a", params=9_000_000, macs=1_400_000_000),
        counted("swin-c", params=120_000_000, macs=100_000_000),
        timed("nat-b", 9.0),
        timed("cae-a", 100.0),
        timed("cae-a", 50.0, conditions={"dtype": "bf16"}, notes=["fell back"]),
        evaluated("nat-b", {"wall": 80.0, "lamp": 20.0}),
        evaluated("cae-a", {"wall": 70.0, "lamp": 10.0}),
    ]


def write_page(folder: Path, runs: list[Run]) -> Path:
    (folder / "records.json").write_text("[" + ",".join(run.to_json() for run in runs) + "]")
    return write_report([folder / "records.json"], folder / "report.html").files[0]


def test_sorting_filtering_and_details_work_and_the_console_is_silent(tmp_path):
    seen = outcome_of(
        write_page(tmp_path, records()),
        """
        press("median ms"); seen.up = names();
        press("median ms"); seen.down = names();
        seen.mark = document.querySelector("th[aria-sort]").getAttribute("aria-sort");
        press("params, M"); seen.params = names();
        seen.word = type("cae");
        seen.two = type("CAE bf16");
        seen.bound = type("params<60 median>=9");
        seen.published = type("mioupubl>47");
        seen.none = type("zzz");
        seen.count = document.getElementById("count").textContent;
        type("");
        const select = [...document.querySelectorAll("#choices select")].find((s) => [...s.options].length === 3);
        select.value = "bf16"; select.dispatchEvent(new Event("change")); seen.chosen = names();
        document.querySelector("#entries tbody tr").click();
        seen.dialog = document.getElementById("details").open;
        seen.details = document.querySelector("#details div").textContent;
        """,
    )
    assert seen["errors"] == []
    # One row was never timed: it stays last in both directions.
    assert seen["up"] == ["nat-b", "cae-a *", "cae-a", "swin-c"]
    assert seen["down"] == ["cae-a", "cae-a *", "nat-b", "swin-c"]
    assert seen["mark"] == "descending"
    assert seen["params"] == ["cae-a", "cae-a *", "nat-b", "swin-c"]
    assert seen["word"] == ["cae-a", "cae-a *"] and seen["two"] == ["cae-a *"]
    assert seen["bound"] == ["cae-a", "cae-a *", "nat-b"] and seen["published"] == ["nat-b"]
    assert seen["none"] == [] and seen["count"] == "0 of 4 rows"
    assert seen["chosen"] == ["cae-a *"]
    assert seen["dialog"] is True and "fell back" in seen["details"]


def test_a_phone_scrolls_the_table_and_not_the_page(tmp_path):
    seen = outcome_of(
        write_page(tmp_path, records()),
        """
        const page = document.documentElement;
        seen.overflow = page.scrollWidth - page.clientWidth;
        seen.pictures = [...document.querySelectorAll("figure svg")].map((svg) => svg.getBoundingClientRect().width);
        """,
        width=500,
    )
    assert seen["errors"] == [] and seen["overflow"] <= 0
    assert seen["pictures"] and max(seen["pictures"]) <= 500


def test_ten_thousand_rows_sort_in_a_fifth_of_a_second(tmp_path):
    runs = [timed(f"model-{index}", 1.0 + (index * 7919) % 10_007) for index in range(10_000)]
    seen = outcome_of(
        write_page(tmp_path, runs),
        """
        seen.times = [];
        for (const heading of ["median ms", "model", "median ms"]) {
          const begin = performance.now();
          press(heading); document.body.getBoundingClientRect();
          seen.times.push(performance.now() - begin);
        }
        seen.first = names()[0];
        seen.rows = names().length;
        """,
    )
    assert seen["errors"] == [] and seen["rows"] == 200
    assert seen["first"] == "model-0"
    # The bound of the quickest of three, since other work may hold one of them up.
    assert min(seen["times"]) < 200
