"""One model counted by every convention in use, so that a published figure can be recognised."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from segzoo.profiling.operations import count_operations, on_meta

FVCORE_LIMIT_MACS = 2e11
"""fvcore runs the model for real; beyond this one run takes minutes and much memory on a CPU."""


@dataclass(frozen=True, kw_only=True)
class Convention:
    """A count and how it came about.

    Attributes:
        name: who counts so.
        macs: multiply-adds; None where it could not be had.
        printed: what the tool itself prints, and in which unit.
        leaves_out: what it does not see.
    """

    name: str
    macs: int | None
    printed: str
    leaves_out: str


def conventions(model: nn.Module, shape: tuple[int, ...]) -> list[Convention]:
    """Counts of one forward pass by each convention.

    Args:
        model: any module that takes one image batch; the counts need no weights, fvcore's needs real tensors.
        shape: of the input, [batch, 3, height, width].

    Raises:
        UsageError: a shape that the model cannot take.
    """
    plain = count_operations(model, shape, rule="multiply-add")
    found = [
        Convention(
            name="segzoo, multiply-add",
            macs=plain.macs,
            printed="MACs; FLOPs are twice that",
            leaves_out="norms, activations, softmax, resizing, pooling",
        )
    ]
    for rule in ("fvcore", "thop"):
        count = count_operations(model, shape, rule=rule, resize_logits=rule == "fvcore")
        resize = "; the resize of the logits to the image is counted" if rule == "fvcore" else ""
        found.append(
            Convention(
                name=f"segzoo, rule {rule}",
                macs=count.macs_by_rule,
                printed=f"as {rule} prints it",
                leaves_out=_LEFT_OUT[rule] + resize,
            )
        )
    return [*found, flop_counter_mode(model, shape), module_hooks(model, shape), fvcore(model, shape, plain.macs)]


_LEFT_OUT = {
    "fvcore": "activations, softmax, additions",
    "thop": "products of attention, resizing, activations; a norm is 4 an element",
}


def flop_counter_mode(model: nn.Module, shape: tuple[int, ...]) -> Convention:
    """torch.utils.flop_counter on meta tensors; on the CPU it would count fused attention as nothing."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        on_meta(model)(torch.empty(shape, device="meta"))
    total = counter.get_total_flops()
    return Convention(
        name="torch FlopCounterMode",
        macs=total // 2,
        printed=f"{total / 1e9:.1f} G FLOPs, two a multiply-add",
        leaves_out="all but convolutions, matrix products and attention; unknown operators without a word",
    )


def module_hooks(model: nn.Module, shape: tuple[int, ...]) -> Convention:
    """Hooks on modules, as thop and ptflops count: what is called as a function has no module and is not seen."""
    twin, counts = on_meta(model), Counter[str]()

    def count(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        counts[type(module).__name__] += _module_macs(module, inputs[0], output)

    for module in twin.modules():
        if isinstance(module, _HOOKED):
            module.register_forward_hook(count)
    with torch.no_grad():
        twin(torch.empty(shape, device="meta"))
    return Convention(
        name="module hooks (thop-like)",
        macs=sum(counts.values()),
        printed="often called FLOPs, one a multiply-add",
        leaves_out="functions: products of attention, F.interpolate, F.conv2d; norms and activations",
    )


_HOOKED = (nn.modules.conv._ConvNd, nn.Linear)


def _module_macs(module: nn.Module, given: Tensor, output: Tensor) -> int:
    if isinstance(module, nn.Linear):
        return given.numel() * module.out_features
    weight = module.weight
    assert isinstance(weight, Tensor)
    # A transposed convolution does its products for every input, a plain one for every output.
    places = given if isinstance(module, nn.modules.conv._ConvTransposeNd) else output
    return places.numel() * weight[0].numel()


def fvcore(model: nn.Module, shape: tuple[int, ...], macs: int) -> Convention:
    """fvcore itself, which traces a real run; operators that it does not know are named."""
    name, printed = "fvcore itself", "called FLOPs, one a multiply-add"
    if macs > FVCORE_LIMIT_MACS:
        why = f"not run: {macs / 1e9:.0f} G at this shape are too much for a trial run; give a smaller --shape"
        return Convention(name=name, macs=None, printed=printed, leaves_out=why)
    with _silence():
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(model, torch.zeros(shape))
        total = int(analysis.total())
        unknown = analysis.unsupported_ops()
    worst = [operator for operator, _ in unknown.most_common(4)]
    return Convention(
        name=name,
        macs=total,
        printed=printed,
        leaves_out=f"{len(unknown)} operators, most often {', '.join(worst)}" if unknown else "nothing",
    )


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """fvcore logs each operator that it skips, and traces with a deprecated function; we name them ourselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
