"""nat-tiny as a whole on the CPU, 512x512, batch 1, fixed random weights."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from segzoo.data.open import open_dataset
from segzoo.device import precision
from segzoo.inference import predict
from segzoo.kernel_bench.contest import Contest, clock
from segzoo.kernel_bench.record import Result
from segzoo.kernel_bench.targets import target
from segzoo.kernels import reference
from segzoo.registry import create_model, get_protocol

NAME, SIDE = "nat-tiny", 512
_SHARED_CALLS = 6
_TRAINED, _PICTURES = "nat-pico", 8  # its weights are part of the package


def backbone_contests() -> list[Contest]:
    """The backbone with the compiled operator against the same with the readable one."""
    backbone = _model().backbone
    image = _image()

    @torch.inference_mode()
    def ours() -> object:
        return backbone(image)

    def rival() -> object:
        with _ReferenceOperator():
            return ours()

    return [Contest(case="backbone", ours=ours, rival=rival)]


class SharedPart(NamedTuple):
    """The backbone without the operator: seconds of a call by the bench's clock, and floating-point operations."""

    seconds: float
    flops: int


def shared_part() -> SharedPart:
    """Everything in the backbone but neighborhood attention, of which only the output's memory is left."""
    backbone, image, now = _model().backbone, _image(), clock()
    times = []
    with torch.inference_mode(), _WithoutOperator():
        for _ in range(_SHARED_CALLS):
            begin = now()
            backbone(image)
            times.append(now() - begin)
    # The mode that is entered last comes first: the counter is not to see the operator.
    with torch.inference_mode(), FlopCounterMode(display=False) as counter, _WithoutOperator():
        backbone(image)
    return SharedPart(statistics.median(times[1:]), counter.get_total_flops())


def half_precision_contests() -> list[Contest]:
    """The whole model in bf16 against fp32."""
    model = _model()
    return [Contest(case="whole model", ours=_forward(model, "bf16"), rival=_forward(model, "fp32"))]


def labels_result() -> Result:
    """The share of pixels whose class is the same in bf16 and in fp32, at the logits' own resolution."""
    model = _model()
    low, full = (_forward(model, dtype)().argmax(1) for dtype in ("bf16", "fp32"))
    equal = (low == full).double().mean().item() * 100
    row = {"case": f"random weights, {full.unique().numel()} classes found", "pixels": full.numel(), "ratio": equal}
    return Result(target=target("nat-tiny-bf16-labels"), value=equal, values=[row])


def trained_labels_result() -> Result:
    """The share of pixels whose label is the same in bf16 and in fp32, of a trained model on pictures of its task."""
    model, dataset, protocol = create_model(_TRAINED, pretrained=True), open_dataset("scenes"), get_protocol(_TRAINED)
    equal, pixels = 0, 0
    for index in range(_PICTURES):
        low, full = (predict(model, dataset.image(index), protocol, dtype=dtype) for dtype in ("bf16", "fp32"))
        equal, pixels = equal + int((low == full).sum()), pixels + full.size
    share = 100 * equal / pixels
    row = {"case": f"{_PICTURES} scenes, trained weights", "pixels": pixels, "ratio": share}
    return Result(target=target("nat-pico-bf16-labels"), value=share, values=[row])


def _model() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return create_model(NAME)


def _image() -> Tensor:
    return torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def _forward(model: nn.Module, dtype: str) -> Callable[[], Tensor]:
    image = _image()

    @torch.inference_mode()
    def run() -> Tensor:
        with precision(image.device, dtype):
            return model(image)

    return run


class _WithoutOperator(TorchDispatchMode):
    """Leaves neighborhood attention out: the values stand for the output."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.segzoo.neighborhood_attention_2d.default:
            value = args[2]
            return torch.zeros_like(value, memory_format=torch.contiguous_format), value.new_zeros(value.shape[:-1])
        return func(*args, **(kwargs or {}))


class _ReferenceOperator(TorchDispatchMode):
    """Sends neighborhood attention to the readable reference, whatever library is loaded."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.segzoo.neighborhood_attention_2d.default:
            return reference.forward(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))
