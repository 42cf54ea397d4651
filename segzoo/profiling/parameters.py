"""Counts the parameters of any model, part by part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True, kw_only=True)
class ParameterCount:
    """The numbers a model holds.

    Attributes:
        params: elements of all parameters, shared ones once.
        trainable: those that take a gradient.
        buffers: elements of all buffers (a batch norm's statistics and the like).
        parameter_bytes: memory of the parameters in their own dtypes.
        parts: one row for each direct child of the model, "(model)" for what it holds itself.
    """

    params: int
    trainable: int
    buffers: int
    parameter_bytes: int
    parts: list[dict[str, Any]]


def count_parameters(model: nn.Module) -> ParameterCount:
    """The parameters and buffers of `model`; works on the meta device too."""
    parts: dict[str, dict[str, Any]] = {}
    titles = part_titles(model)
    for key, tensors in (("params", model.named_parameters()), ("buffers", model.named_buffers())):
        for name, tensor in tensors:
            first, dot, _ = name.partition(".")
            part = titles.get(first, first) if dot else "(model)"
            row = parts.setdefault(part, {"part": part, "params": 0, "buffers": 0})
            row[key] += tensor.numel()
    parameters = list(model.parameters())
    return ParameterCount(
        params=sum(p.numel() for p in parameters),
        trainable=sum(p.numel() for p in parameters if p.requires_grad),
        buffers=sum(row["buffers"] for row in parts.values()),
        parameter_bytes=sum(p.numel() * p.element_size() for p in parameters),
        parts=list(parts.values()),
    )


def part_titles(model: nn.Module) -> dict[str, str]:
    """Names of direct children -> what tables call them: "backbone" whatever the authors call it."""
    backbone = getattr(model, "backbone", None)
    return {
        name: "backbone" if any(module is backbone for module in child.modules()) else name
        for name, child in model.named_children()
    }
