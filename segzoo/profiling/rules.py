"""Counting rules as data: which operators count, and how many multiply-adds one call of each is worth.

"multiply-add"  Convolutions, matrix products and attention: one for each multiply-add, nothing else.
                Half of torch's FlopCounterMode, which counts a multiply-add as two.
"fvcore"        The same, and fvcore's estimates for norms, resizing and pooling. Published tables of
                the NAT family, printed there as "FLOPs", follow it.

Operators are named "namespace.name" as in torch.ops, so that a rule can speak of an operator that is
not loaded. Anything for which torch has a registered FLOP formula counts as half of that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch._ops import OpOverload
from torch.utils.flop_counter import flop_registry

from segzoo.errors import demand_known

Formula = Callable[[tuple[Any, ...], Any], int]
"""Multiply-adds of one call, from its positional arguments and its output."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A way to count.

    Attributes:
        name: what `--rule` takes and zoo.yaml says.
        meaning: one line for the reader of a table.
        formulas: operator -> formula, before torch's own.
    """

    name: str
    meaning: str
    formulas: Mapping[str, Formula]

    def count(self, operator: OpOverload, arguments: tuple[Any, ...], named: dict[str, Any], output: Any) -> int:
        """Multiply-adds of one call; 0 where the rule does not count the operator."""
        formula = self.formulas.get(operator_name(operator))
        if formula is not None:
            return formula(arguments, output)
        packet = operator.overloadpacket
        if packet in flop_registry:
            return flop_registry[packet](*arguments, **named, out_val=output) // 2
        return 0

    def knows(self, operator: OpOverload) -> bool:
        """True where the rule has a formula for the operator."""
        return operator_name(operator) in self.formulas or operator.overloadpacket in flop_registry


def operator_name(operator: OpOverload) -> str:
    """ "aten.linear" for torch.ops.aten.linear.default."""
    return str(operator.overloadpacket)


def get_rule(name: str) -> Rule:
    """The rule of this name.

    Raises:
        UsageError: no such rule.
    """
    demand_known("counting rule", name, RULES)
    return RULES[name]


def _linear(arguments: tuple[Any, ...], output: Tensor) -> int:
    tokens, weight = arguments[:2]
    return tokens.numel() * weight.shape[0]


def _attention(arguments: tuple[Any, ...], output: Tensor) -> int:
    """The two matrix products: query [..., L, D] with key [..., S, D], and with value [..., S, E]."""
    query, key, value = arguments[:3]
    pairs = math.prod(query.shape[:-1]) * key.shape[-2]
    return pairs * (query.shape[-1] + value.shape[-1])


def _per_input(count: int) -> Formula:
    return lambda arguments, output: count * arguments[0].numel()


def _per_output(count: int) -> Formula:
    return lambda arguments, output: count * output.numel()


def _norm(weight_index: int) -> Formula:
    """5 for each element with scale and shift, else 4."""
    return lambda arguments, output: arguments[0].numel() * (4 if arguments[weight_index] is None else 5)


def _batch_norm(arguments: tuple[Any, ...], output: Tensor) -> int:
    """In evaluation mode a batch norm is one multiply-add, counted as 2 with scale and shift, else as 1."""
    image, weight, _, _, _, training = arguments[:6]
    if training:
        return _norm(1)(arguments, output)
    return image.numel() * (1 if weight is None else 2)


def _adaptive_pool(arguments: tuple[Any, ...], output: Tensor) -> int:
    """thop's: for each output the inputs it averages, as a real number, and one division."""
    return arguments[0].numel() + output.numel()


def _none(arguments: tuple[Any, ...], output: Any) -> int:
    return 0


def _neighborhood_attention(arguments: tuple[Any, ...], output: Any) -> int:
    """As NATTEN registered it with fvcore: each logit costs head_dim, and one more for the bias."""
    query, _, _, bias, kernel_size = arguments[:5]
    logits = math.prod(query.shape[:-1]) * kernel_size**2
    return logits * (2 * query.shape[-1] + (0 if bias is None else 1))


def _deformable_attention(arguments: tuple[Any, ...], output: Tensor) -> int:
    """As the grid_sample it replaces: 4 for each sampled point and channel."""
    value, _, _, weights = arguments[:4]
    return 4 * weights.numel() * value.shape[-1]


_PRODUCTS: dict[str, Formula] = {
    "aten.linear": _linear,
    "aten.scaled_dot_product_attention": _attention,
}

RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule(
            name="multiply-add",
            meaning="multiply-adds of convolutions, matrix products and attention; FLOPs are twice that",
            formulas=_PRODUCTS,
        ),
        Rule(
            name="fvcore",
            meaning=(
                "multiply-adds, and per element: 5 LayerNorm, 2 BatchNorm, 4 bilinear resize (output), "
                "1 adaptive pooling (input); the resize of the logits to the image is included"
            ),
            formulas=_PRODUCTS
            | {
                "aten.layer_norm": _norm(2),
                "aten.group_norm": _norm(2),
                "aten.instance_norm": _norm(1),
                "aten.batch_norm": _batch_norm,
                "aten.adaptive_avg_pool2d": _per_input(1),
                "aten.upsample_nearest2d": _per_output(1),
                "aten.upsample_bilinear2d": _per_output(4),
                "aten.grid_sampler": _per_output(4),
                "segzoo.neighborhood_attention_2d": _neighborhood_attention,
                "segzoo.deformable_attention": _deformable_attention,
            },
        ),
        Rule(
            name="thop",
            meaning=(
                "as thop 0.1 counts modules: convolutions and linear layers, and per element: 4 norms, 1 average "
                "pooling (output), 1 adaptive pooling (input and output); the products of attention are left out"
            ),
            formulas={
                "aten.linear": _linear,
                "aten.scaled_dot_product_attention": _none,
                "aten.mm": _none,
                "aten.bmm": _none,
                "aten.addmm": _none,
                "aten.baddbmm": _none,
                "aten.layer_norm": _per_input(4),
                "aten.group_norm": _per_input(4),
                "aten.batch_norm": _per_input(4),
                "aten.avg_pool2d": _per_output(1),
                "aten.adaptive_avg_pool2d": _adaptive_pool,
            },
        ),
    )
}
