"""CPU time from the prompt to the answer, beside what Python itself and `import torch` take in the same run.

    python benchmarks/startup.py [--repetitions 15] [--json FILE]

Each command runs in a fresh process; commands take turns, so that a busy machine slows all alike. CPU time
is user + system of the process and its children. Exit code 1 when a command is above its limit.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

# What is run, and the CPU seconds it may take; None is a rival, for comparison.
SEGZOO = [sys.executable, "-m", "segzoo"]
COMMANDS: dict[str, tuple[list[str], float | None]] = {
    "segzoo --help": ([*SEGZOO, "--help"], 0.2),
    "segzoo list": ([*SEGZOO, "list"], 0.3),
    "segzoo info nat-tiny": ([*SEGZOO, "info", "nat-tiny"], 0.3),
    "python -c pass": ([sys.executable, "-c", "pass"], None),
    "python -c 'import typer'": ([sys.executable, "-c", "import typer"], None),
    "python -c 'import torch'": ([sys.executable, "-c", "import torch"], None),
}


def cpu_seconds(command: list[str]) -> float:
    """User and system time of one run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)


def measure(repetitions: int) -> list[dict[str, Any]]:
    """One row for each command; the first round fills the disk cache and is left out."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(repetitions + 1):
        for name, (command, _) in COMMANDS.items():
            times[name].append(cpu_seconds(command))
    return [
        {
            "command": name,
            "cpu_s_median": statistics.median(samples[1:]),
            "cpu_s_worst": max(samples[1:]),
            "limit_s": COMMANDS[name][1],
            "samples_s": samples[1:],
        }
        for name, samples in times.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--json", type=Path)
    words = parser.parse_args()
    rows = measure(words.repetitions)
    print(f"{'CPU seconds, Python ' + platform.python_version():32}{'median':>8}{'worst':>8}{'limit':>8}")
    for row in rows:
        limit = "" if row["limit_s"] is None else f"{row['limit_s']:8.2f}"
        print(f"{row['command']:32}{row['cpu_s_median']:8.3f}{row['cpu_s_worst']:8.3f}{limit}")
    if words.json:
        words.json.write_text(json.dumps(rows, indent=2) + "\n")
    if any(row["limit_s"] is not None and row["cpu_s_median"] > row["limit_s"] for row in rows):
        sys.exit("a command is above its limit")


if __name__ == "__main__":
    main()
