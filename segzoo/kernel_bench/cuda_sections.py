"""One section of the benchmark on a GPU, in a process of its own: a fault on the GPU ends a process for good.

`python -m segzoo.kernel_bench.cuda_sections NAME DEVICE quick|full FILE` writes what it has found to FILE as JSON:
tables of rows, as in a record's breakdown, and metrics. Called by cuda_run.py.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from segzoo import kernels
from segzoo.errors import SegzooError
from segzoo.kernel_bench import cuda_checks, cuda_deformable, cuda_figures, cuda_neighborhood
from segzoo.kernel_bench.cuda_clock import DeviceClock, Layered
from segzoo.kernel_bench.record import Result, tables
from segzoo.kernel_bench.targets import target

Found = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Section:
    """What to run, and how long it may take on a GPU.

    Attributes:
        run: takes the device and whether to be quick; returns tables of rows, and "metrics".
        limit_s: after which it is ended.
    """

    run: Callable[[torch.device, bool], Found]
    limit_s: float


def _claim(row: str, items: Callable[[torch.device], list[Layered]], limit_s: float) -> Section:
    def run(device: torch.device, quick: bool) -> Found:
        samples = DeviceClock(device).take_turns(items(device), 3 if quick else 15)
        return dict(tables([Result(target=target(row), samples=samples)]))

    return Section(run=run, limit_s=limit_s)


def _checks(*names: str) -> Callable[[torch.device, bool], Found]:
    return lambda device, quick: {"check": [row for name in names for row in cuda_checks.rows(name, device)]}


def _figures(measure: Callable[[torch.device, int], cuda_figures.Figures]) -> Callable[[torch.device, bool], Found]:
    return lambda device, quick: {"figure": measure(device, 3 if quick else 15)}


def _machine(device: torch.device, quick: bool) -> Found:
    return {"metrics": {"copy_bytes_per_second": DeviceClock(device).copy_bytes_per_second()}}


SECTIONS = {
    "machine": Section(run=_machine, limit_s=60),
    "check-neighborhood": Section(run=_checks("forward", "backward"), limit_s=90),
    "check-deformable": Section(run=_checks("deformable forward", "deformable backward"), limit_s=60),
    "check-tail": Section(run=_checks("tail"), limit_s=60),
    "check-contract": Section(run=_checks("opcheck", "determinism"), limit_s=90),
    "cuda-neighborhood-bandwidth": _claim("cuda-neighborhood-bandwidth", cuda_neighborhood.bandwidth, 60),
    "cuda-deformable-forward": _claim("cuda-deformable-forward", cuda_deformable.forward, 60),
    "cuda-deformable-backward": _claim("cuda-deformable-backward", cuda_deformable.backward, 60),
    "operators": Section(run=_figures(cuda_figures.operator_times), limit_s=90),
    "nat-tiny-eval": Section(run=_figures(cuda_figures.evaluation), limit_s=90),
    "nat-tiny-train": Section(run=_figures(cuda_figures.training_step), limit_s=90),
    # Last: compiling the rival takes longest.
    "cuda-neighborhood-forward": _claim("cuda-neighborhood-forward", cuda_neighborhood.forward, 150),
    "cuda-neighborhood-training": _claim("cuda-neighborhood-training", cuda_neighborhood.training, 210),
}


def main(words: list[str]) -> int:
    """Runs a section; what it raises is on stderr, with one line at the end that says it all."""
    name, device_word, effort, file = words
    device = torch.device(device_word)
    try:
        kernels.load(device)
        found = SECTIONS[name].run(device, effort == "quick")
    except (SegzooError, RuntimeError, ValueError, AssertionError, NotImplementedError) as error:
        traceback.print_exc()
        # What a compiler backend raises has its reason in the second line.
        reason = " ".join(str(error).split("\n")[:2]).strip()
        print(f"{type(error).__name__}: {reason}", file=sys.stderr)
        return 1
    found.setdefault("metrics", {})
    found["notes"] = kernels.notes()
    found["kernels"] = kernels.describe(device)
    Path(file).write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
