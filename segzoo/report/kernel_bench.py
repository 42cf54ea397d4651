"""Records of kernel benchmarks as a table for the terminal and as the page docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from segzoo.report.render import MISSING, table
from segzoo.results import Run

_VERDICTS = {"stretch": "beyond the stretch", "goal": "reached", "missed": "**missed**"}
_PLAIN_VERDICTS = {"stretch": "stretch", "goal": "goal", "missed": "MISSED"}
_INTRODUCTION = """\
# Benchmarks of the kernels

Every figure is a ratio to a rival that ran in the same process, in turn with it (A, B, A, B, ...): median over
median, with a 95 % bootstrap interval. "Share" rows compare with the machine's own peak, measured in turn as well.
A row of several cases is about the sum of their times. The page is made from the records in `results/kernels/`;
`segzoo kernel bench -o FILE` writes one for a CPU, `benchmarks/gpu.sh` one for a GPU."""


def text_of(run: Run) -> str:
    """The claims of a record, its cases and the machine's speed, for the terminal."""
    claims = [
        {
            "row": claim["row"],
            "measured": _figure(claim["measured"], claim["unit"]),
            "95 % interval": _interval(claim),
            "goal": _figure(claim["goal"], claim["unit"]),
            "stretch": _figure(claim["stretch"], claim["unit"]),
            "verdict": _PLAIN_VERDICTS[claim["verdict"]],
        }
        for claim in run.breakdown["claim"]
    ]
    found = [claims, _case_rows(run), _figure_rows(run), _section_rows(run)]
    tables = [table(rows, as_written=True) for rows in found if rows]
    return "\n\n".join([*tables, _machine(run), *(f"* {note}" for note in run.notes)])


def page(runs: Sequence[Run], targets: Sequence[dict[str, Any]]) -> str:
    """docs/benchmarks.md.

    Args:
        runs: the records that are kept, one or more of a device.
        targets: row, device, subject, rival, unit, goal and stretch of every claim, also of those that no record has.
    """
    parts = [_INTRODUCTION, "## Targets", _targets_table(runs, targets), _never_run(runs, targets)]
    for run in runs:
        cases = table(_case_rows(run), "md", as_written=True)
        machine = run.environment
        parts += [f"## Measured on {(machine.device or machine.cpu) if machine else 'an unnamed machine'}"]
        figures = [table(rows, "md", as_written=True) for rows in (_figure_rows(run), _section_rows(run)) if rows]
        parts += [_machine(run), cases, *figures, *(f"- {note}" for note in run.notes)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _targets_table(runs: Sequence[Run], targets: Sequence[dict[str, Any]]) -> str:
    claims = {claim["row"]: claim for run in runs for claim in run.breakdown["claim"]}
    rows = []
    for target in targets:
        claim, unit = claims.get(target["row"]), target["unit"]
        measured = MISSING if claim is None else f"{_figure(claim['measured'], unit)} {_interval(claim)}".strip()
        rows.append(
            {
                "row": f"`{target['row']}`",
                "what": target["subject"],
                "rival": target["rival"],
                "target": _figure(target["goal"], unit),
                "stretch": _figure(target["stretch"], unit),
                "measured": measured,
                "verdict": "never run" if claim is None else _VERDICTS[claim["verdict"]],
            }
        )
    return table(rows, "md", as_written=True)


def _never_run(runs: Sequence[Run], targets: Sequence[dict[str, Any]]) -> str:
    measured = {claim["row"] for run in runs for claim in run.breakdown["claim"]}
    missing = [target for target in targets if target["row"] not in measured]
    sentences = []
    for device, words in (("cuda", "on a GPU"), ("cpu", "on a CPU")):
        rows = [f"`{target['row']}`" for target in missing if target["device"] == device]
        if rows:
            sentences.append(f"**Never run {words}:** {', '.join(rows)}. There is no figure for them.")
    return "\n\n".join(sentences)


def _case_rows(run: Run) -> list[dict[str, str]]:
    units = {claim["row"]: claim["unit"] for claim in run.breakdown["claim"]}
    return [
        {
            "row": case["row"],
            "case": case["case"],
            "ours": _amount(case, "ours"),
            "rival": _amount(case, "rival"),
            "ratio": _figure(case["ratio"], units.get(case["row"], "x")),
            "95 % interval": _interval(case),
        }
        for case in run.breakdown["case"]
    ]


def _figure_rows(run: Run) -> list[dict[str, str]]:
    """What a GPU's record has without a claim."""
    return [
        {
            "figure": row["figure"],
            "time": f"{row['ms']:.3g} ms",
            "images/s": MISSING if row["images_per_second"] is None else f"{row['images_per_second']:.1f}",
        }
        for row in run.breakdown.get("figure", [])
    ]


def _section_rows(run: Run) -> list[dict[str, str]]:
    """How the sections of a GPU's record ended, and how many comparisons were within their tolerance."""
    rows = [
        {
            "section": row["section"],
            "result": row["status"] if row["status"] == "ok" else f"FAILED: {row['error']}",
            "seconds": f"{row['seconds']:.0f}",
        }
        for row in run.breakdown.get("section", [])
    ]
    if checks := run.breakdown.get("check", []):
        within = sum(check["within"] for check in checks)
        rows.append({"section": "all comparisons", "result": f"{within} of {len(checks)} within", "seconds": ""})
    return rows


def _amount(case: dict[str, Any], who: str) -> str:
    if (time := case.get(f"{who}_ms")) is not None:
        return f"{time:.2f} ms" if time < 100 else f"{time:.0f} ms"
    memory = case.get(f"{who}_bytes")
    return MISSING if memory is None else f"{memory / 2**20:.1f} MiB"


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return MISSING
    # 99.47 % of pixels must not look like 99.5 %
    digits = f"{value:.2f}" if unit == "%" and value > 90 else f"{value:.3g}"
    return f"{digits.rstrip('0').rstrip('.') if '.' in digits else digits} {unit}"


def _interval(row: dict[str, Any]) -> str:
    return "" if row.get("low") is None else f"({row['low']:.3g} to {row['high']:.3g})"


def _machine(run: Run) -> str:
    """One paragraph: processor, threads, versions, and the speeds of that run."""
    machine, conditions = run.environment, run.conditions
    words = [] if machine is None else [f"{machine.device or machine.cpu}, {machine.cpu_count} processors"]
    if conditions.get("threads"):
        words.append(f"{conditions['threads']} thread{'s' if conditions['threads'] > 1 else ''}")
    words += [f"{name} {conditions[name]}" for name in ("torch", "kernels", "clock") if conditions.get(name)]
    if conditions.get("quick"):
        words.append("few rounds (--quick)")
    if speed := run.metrics.get("multiply_add_flops_per_second"):
        words.append(f"multiply-adds {speed / 1e9:.0f} GFLOP/s")
    if speed := run.metrics.get("copy_bytes_per_second"):
        words.append(f"copy {speed / 1e9:.1f} GB/s, read and written together")
    return f"{'; '.join(words)}. Measured {run.started[:10]}, `{' '.join(run.command_line)}`."
