"""A step on the meta device, where tensors have sizes and no values: what the first real one needs or refuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from segzoo.errors import SegzooError, UsageError
from segzoo.training.checks import NUMBERS_PER_WEIGHT, less_memory, memory_bytes
from segzoo.training.losses import weighted_losses
from segzoo.training.segmentation import outputs_of
from segzoo.zoo.schema import Recipe

# The other terms of UN-EPT's loss read values; they keep little.
_CLASS_OUTPUTS = ("logits", "aux_logits")
_HALVES = ("bf16", "fp16")


Step = Callable[[int], object]
"""The forward pass of a step, its losses included, on a number of images that have no values."""


def check_step(
    model: nn.Module,
    step: Step,
    recipe: Recipe,
    device: torch.device,
    *,
    images: int,
    dtype: str,
    synced: bool,
    size_option: str,
) -> None:
    """Runs a step's forward pass without numbers and holds what the gradient needs against the device's memory.

    The need is a lower bound: what is counted is certain, and temporaries are not counted.

    Args:
        model: on the meta device, with what changes its memory (activation checkpointing) applied.
        step: `segmentation_step` or `classification_step` of it.
        recipe: its crop and optimiser.
        device: the one of the training.
        images: that the device runs at once.
        dtype: "fp32", "tf32", "bf16" or "fp16"; the two halves are taken to halve all that is kept.
        synced: batch norms see the images of several devices.
        size_option: the option that the pictures' height and width are chosen by.

    Raises:
        SegzooError: a step needs more than the whole memory of the device.
        UsageError: a size that the model does not take, a loss for an output that it does not have, or a batch norm
            that would see a single value.
    """
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    states = weights * (NUMBERS_PER_WEIGHT[recipe.optimizer] + 1)
    # A batch norm of several devices is not made yet; of two images it sees enough.
    passed = max(2, images) if synced else images
    kept = kept_bytes(model, step, passed) * images / passed
    needed = states + (kept / 2 if dtype in _HALVES else kept)
    total = memory_bytes(device)
    if total is not None and needed > total:
        height, width = recipe.crop
        raise SegzooError(
            f"a step on {images} images of {height}x{width} needs {_gib(needed)} or more ({_gib(states)} for weights "
            f"and optimiser), {device} has {_gib(total)}; {less_memory(size_option)}"
        )


def segmentation_step(model: nn.Module, recipe: Recipe) -> Step:
    """A step on crops; raises UsageError for a loss of an output that the model does not have."""

    def step(images: int) -> object:
        label = torch.empty(images, *recipe.crop, dtype=torch.int64, device="meta")
        known = {name: weight for name, weight in recipe.losses.items() if name in _CLASS_OUTPUTS}
        return weighted_losses(outputs_of(model.train())(_images(images, recipe)), label, known, ignore=-100)

    return step


def classification_step(losses: nn.Module, recipe: Recipe) -> Step:
    """A step on views, one class each."""

    def step(images: int) -> object:
        return losses.train()(_images(images, recipe), torch.empty(images, dtype=torch.int64, device="meta"))

    return step


def _images(count: int, recipe: Recipe) -> Tensor:
    return torch.empty(count, 3, *recipe.crop, device="meta")


def kept_bytes(model: nn.Module, step: Step, images: int) -> int:
    """Bytes of what a step keeps for the gradient in fp32, without the weights themselves.

    Raises:
        UsageError: see `check_step`.
    """
    owned = {_storage(tensor) for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        # The tensor is held as well, so that no other can get its storage's number.
        if _storage(tensor) not in owned:
            kept[_storage(tensor)] = tensor
        return tensor

    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), _FusedAttention():
            step(images)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UsageError(
            f"a batch norm of the model would see a single value of {images} image; give each device 2 images or more"
        ) from error
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


class _FusedAttention(TorchFunctionMode):
    """Attention as the fused kernels of CPUs and GPUs do it, without keeping the scores; the meta device has none."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            return _KeepsItsInputs.apply(*args[:3])
        return func(*args, **(kwargs or {}))


class _KeepsItsInputs(torch.autograd.Function):
    """An attention's answer in size alone; queries, keys, values and the answer are kept for the gradient."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """[..., T, D], [..., S, D], [..., S, E] -> [..., T, E]."""
        answer = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, answer)
        return answer


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _gib(number: float) -> str:
    return f"{number / 2**30:.1f} GiB"
