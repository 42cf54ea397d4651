"""Batch norm over the batches of all processes, on any device; torch's own knows CUDA alone."""

from __future__ import annotations

import torch
import torch.distributed.nn.functional as shared
from torch import Tensor, nn


class SharedBatchNorm2d(nn.BatchNorm2d):
    """A BatchNorm2d whose statistics in training are those of all processes together, gradients included."""

    def forward(self, image: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        if not self.training:
            return super().forward(image)
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        values = image.float()
        number = values.numel() / values.shape[1]
        sums = torch.cat([values.sum((0, 2, 3)), (values * values).sum((0, 2, 3)), values.new_full((1,), number)])
        sums = shared.all_reduce(sums)
        count = sums[-1].detach()
        mean, square = (sums[:-1] / count).chunk(2)
        variance = (square - mean * mean).clamp_min(0.0)
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            momentum = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), momentum)
        scale = torch.rsqrt(variance + self.eps)
        normalised = (values - mean[:, None, None]) * scale[:, None, None]
        if self.affine:
            normalised = normalised * self.weight[:, None, None] + self.bias[:, None, None]
        return normalised.to(image.dtype)


def share_batch_norms(model: nn.Module, device: torch.device) -> nn.Module:
    """`model` with its batch norms taking their statistics over all processes; keys and values stay.

    On CUDA they become torch's SyncBatchNorm.
    """
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm2d
    return model


def freeze_batch_norms(module: nn.Module) -> None:
    """Batch norms below `module` in evaluation mode: they use, and keep, the statistics that they have."""
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            child.eval()
