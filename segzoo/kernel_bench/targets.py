"""What the kernels are meant to reach: a row for each claim, whatever machine it needs. No torch."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from segzoo.errors import UsageError, suggestion


@dataclass(frozen=True, kw_only=True)
class Target:
    """One claim.

    Attributes:
        row: its name on the command line and in records.
        device: where it is measured.
        subject: what is measured.
        rival: what it is compared with in the same run.
        unit: "x" for a ratio of the rival's time (or memory) to ours, "%" for a share.
        goal: what is wanted.
        stretch: where it should end; None where there is nothing above the goal.
    """

    row: str
    device: Literal["cpu", "cuda"]
    subject: str
    rival: str
    unit: Literal["x", "%"]
    goal: float
    stretch: float | None = None


_STAGES = "kernel 7, heads of 32, NAT-Tiny's four stages at 512x512"

TARGETS = (
    Target(
        row="neighborhood-forward",
        device="cpu",
        subject=f"neighborhood attention, forward with bias, fp32, {_STAGES}",
        rival="one dot product per query-key pair, vectorised over the head, unfused (benchmarks/rivals)",
        unit="x",
        goal=5,
        stretch=7,
    ),
    Target(
        row="neighborhood-peak",
        device="cpu",
        subject="the same, its multiply-adds",
        rival="a loop of nothing but multiply-adds in registers",
        unit="%",
        goal=45,
        stretch=60,
    ),
    Target(
        row="neighborhood-training",
        device="cpu",
        subject=f"neighborhood attention, forward and backward with the bias's gradient, fp32, {_STAGES}",
        rival="autograd over gathered neighbourhoods in PyTorch",
        unit="x",
        goal=8,
        stretch=12,
    ),
    Target(
        row="neighborhood-memory",
        device="cpu",
        subject="the same, peak memory beyond the inputs, first stage",
        rival="autograd over gathered neighbourhoods in PyTorch",
        unit="x",
        goal=10,
    ),
    Target(
        row="nat-tiny-backbone",
        device="cpu",
        subject="nat-tiny's backbone, 512x512, fp32",
        rival="the same with the reference operator",
        unit="x",
        goal=4,
        stretch=6,
    ),
    Target(
        row="nat-tiny-bf16",
        device="cpu",
        subject="nat-tiny, whole model, 512x512, --dtype bf16",
        rival="the same in fp32",
        unit="x",
        goal=1.6,
        stretch=2.2,
    ),
    Target(
        row="nat-tiny-bf16-labels",
        device="cpu",
        subject="the same with random weights and image, pixels with the same label",
        rival="the same in fp32",
        unit="%",
        goal=99.5,
    ),
    Target(
        row="nat-pico-bf16-labels",
        device="cpu",
        subject="nat-pico with its trained weights on 8 drawn scenes, bf16, pixels with the same label",
        rival="the same in fp32",
        unit="%",
        goal=99.5,
    ),
    Target(
        row="deformable-forward",
        device="cpu",
        subject="deformable attention, forward, UN-EPT's encoder and decoder at 480x480, fp32",
        rival="a composition of grid_sample",
        unit="x",
        goal=5,
        stretch=10,
    ),
    Target(
        row="deformable-backward",
        device="cpu",
        subject="deformable attention, backward, the same",
        rival="autograd over the composition",
        unit="x",
        goal=4,
        stretch=6,
    ),
    Target(
        row="tail-one-view",
        device="cpu",
        subject="logits to confusion matrix, one view, 150 classes, 128x171 -> 512x683",
        rival="the published steps in PyTorch: two interpolations, softmax, argmax, bincount",
        unit="x",
        goal=12,
        stretch=25,
    ),
    Target(
        row="tail-twelve-views",
        device="cpu",
        subject="the same, 12 views: six scales, each also mirrored",
        rival="the published steps in PyTorch, one view after the other",
        unit="x",
        goal=5,
        stretch=10,
    ),
    Target(
        row="cuda-neighborhood-bandwidth",
        device="cuda",
        subject="neighborhood attention, forward with bias, bf16, NAT-Tiny's 30 layers, batch 16, 512x512",
        rival="a copy of the bytes that it must move",
        unit="%",
        goal=50,
        stretch=70,
    ),
    Target(
        row="cuda-neighborhood-forward",
        device="cuda",
        subject="the same",
        rival="compiled flex_attention with mask and bias",
        unit="x",
        goal=5,
        stretch=10,
    ),
    Target(
        row="cuda-neighborhood-training",
        device="cuda",
        subject="neighborhood attention, forward and backward with the bias's gradient, bf16, the same",
        rival="compiled flex_attention with captured bias",
        unit="x",
        goal=8,
        stretch=15,
    ),
    Target(
        row="cuda-deformable-forward",
        device="cuda",
        subject="deformable attention, forward",
        rival="the classic mapping, one thread a channel (benchmarks/rivals)",
        unit="x",
        goal=2.5,
        stretch=4,
    ),
    Target(
        row="cuda-deformable-backward",
        device="cuda",
        subject="deformable attention, backward",
        rival="the classic mapping, one thread a channel (benchmarks/rivals)",
        unit="x",
        goal=2,
        stretch=3,
    ),
)


def target(row: str) -> Target:
    """The claim of a row's name.

    Raises:
        UsageError: no such row.
    """
    return select([row])[0]


def select(patterns: Sequence[str], device: str | None = None) -> list[Target]:
    """The claims whose rows are named or match a glob, in the order of the table; all without patterns.

    Args:
        patterns: names or globs.
        device: leaves out what is measured elsewhere; None for any.

    Raises:
        UsageError: a pattern that matches nothing.
    """
    known = [item for item in TARGETS if device in (None, item.device)]
    rows = [item.row for item in known]
    for pattern in patterns:
        if not fnmatch.filter(rows, pattern):
            near = suggestion(pattern, rows)
            raise UsageError(f"no row {pattern!r}{near}; there are: {', '.join(rows)}")
    return [item for item in known if not patterns or any(fnmatch.fnmatch(item.row, word) for word in patterns)]
