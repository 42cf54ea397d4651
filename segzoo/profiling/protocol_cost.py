"""What one picture costs by a test protocol: every scale, mirror image and window, counted at its own size."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from torch import nn

from segzoo.inference.preprocess import aligned_size, view_size
from segzoo.inference.windows import window_grid
from segzoo.profiling.operations import count_operations
from segzoo.protocol import Protocol


@dataclass(frozen=True, kw_only=True)
class ProtocolCost:
    """The network's operations for one picture.

    Attributes:
        rows: for each size of input: how often the network gets it, and its operations in all.
        macs_by_rule: total by the chosen rule, resizes of the logits left out.
        macs: total of plain multiply-adds.
        inputs: how often the network runs.
    """

    rows: list[dict[str, Any]]
    macs_by_rule: int
    macs: int
    inputs: int


def network_inputs(size: tuple[int, int], protocol: Protocol) -> Counter[tuple[int, int]]:
    """How often the network gets an input of each (height, width) for a picture of `size`.

    Raises:
        UsageError: a picture that leaves no pixels at a scale.
    """
    found: Counter[tuple[int, int]] = Counter()
    for ratio in protocol.ratios:
        resized = view_size(size, protocol, ratio)
        if protocol.size_divisor is not None:
            resized = aligned_size(resized, protocol.size_divisor)
        rows, columns = window_grid(resized, protocol)
        for row in rows:
            for column in columns:
                found[row.padded, column.padded] += 2 if protocol.flip else 1
    return found


def count_protocol(
    model: nn.Module, size: tuple[int, int], protocol: Protocol, *, rule: str = "fvcore"
) -> ProtocolCost:
    """The network's operations for one picture of `size` (height, width) by a protocol; needs no weights.

    Raises:
        UsageError: a size that the model cannot take, or an unknown rule.
    """
    rows: list[dict[str, Any]] = []
    for (height, width), times in network_inputs(size, protocol).items():
        count = count_operations(model, (1, 3, height, width), rule=rule)
        rows.append(
            {
                "input": f"{height}x{width}",
                "times": times,
                "macs_by_rule": times * count.macs_by_rule,
                "macs": times * count.macs,
                "flops": times * count.flops,
            }
        )
    return ProtocolCost(
        rows=rows,
        macs_by_rule=sum(row["macs_by_rule"] for row in rows),
        macs=sum(row["macs"] for row in rows),
        inputs=sum(row["times"] for row in rows),
    )
