"""Counts the multiply-adds of any model by running it on the meta device: shapes only, no arithmetic.

In inference mode the dispatcher shows operators as the model called them (`aten.linear`, not the views
and products it is made of). What no rule has a formula for is taken apart into smaller operators, and
what remains then is listed, so that nothing is left out without a word.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from segzoo.errors import UsageError
from segzoo.profiling.parameters import part_titles
from segzoo.profiling.rules import RULES, Rule, get_rule, operator_name
from segzoo.profiling.uncounted import is_elementwise, moves_only

RESIZE = "resize"


@dataclass(frozen=True, kw_only=True)
class OperatorCount:
    """Calls of one operator in one module.

    Attributes:
        module: dotted path; "" is the model itself.
        operator: "aten.linear" and the like.
        calls: how often it ran.
        macs_by_rule: rule -> multiply-adds of all calls.
    """

    module: str
    operator: str
    calls: int
    macs_by_rule: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class OperationCount:
    """The operations of one forward pass.

    Attributes:
        shape: input [batch, channels, height, width].
        rule: the rule of `macs_by_rule`.
        rows: one for each module and operator that a rule counts.
        elementwise: calls of element-wise operators and reductions, which no rule counts.
        no_formula: calls of other operators that compute, and have no formula.
        largest_call_bytes: bytes of inputs and outputs of the largest call, a lower bound of the memory needed.
        titles: names of the model's children -> names of its parts.
    """

    shape: tuple[int, ...]
    rule: str
    rows: list[OperatorCount]
    elementwise: dict[str, int]
    no_formula: dict[str, int]
    largest_call_bytes: int
    titles: dict[str, str]

    @property
    def macs_by_rule(self) -> int:
        """Total by the chosen rule."""
        return sum(row.macs_by_rule[self.rule] for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-adds of convolutions, matrix products and attention."""
        return sum(row.macs_by_rule["multiply-add"] for row in self.rows)

    @property
    def flops(self) -> int:
        """Floating-point operations: a multiply-add is two."""
        return 2 * self.macs

    def by_part(self) -> list[dict[str, Any]]:
        """One row for each direct child of the model; "(model)" is what it computes itself."""

        def part(row: OperatorCount) -> str:
            child = row.module.partition(".")[0]
            return self.titles.get(child, child) or "(model)"

        return self._table("part", part)

    def by_operator(self) -> list[dict[str, Any]]:
        """One row for each operator, the largest first."""
        table = self._table("operator", lambda row: row.operator)
        return sorted(table, key=lambda line: -line["macs_by_rule"])

    def by_module(self) -> list[dict[str, Any]]:
        """One row for each module that computes something itself."""
        return self._table("module", lambda row: row.module or "(model)")

    def tree(self, model: nn.Module, depth: int) -> list[dict[str, Any]]:
        """One row for each module of `model` down to `depth` levels, indented, with all that lies below it."""
        macs: Counter[str] = Counter()
        for row in self.rows:
            parts = row.module.split(".") if row.module else []
            for length in range(len(parts) + 1):
                macs[".".join(parts[:length])] += row.macs_by_rule[self.rule]
        # What comes after the model, such as the resize of its logits, is in the total and not in the tree.
        inside = macs[""] - macs[RESIZE]
        lines = []
        for path, module in model.named_modules():
            level = path.count(".") + 1 if path else 0
            if level > depth:
                continue
            own = macs[path] if path else inside
            lines.append(
                {
                    "module": "· " * level + (path.rpartition(".")[2] or type(model).__name__),
                    "type": type(module).__name__,
                    "params": sum(parameter.numel() for parameter in module.parameters()),
                    "macs_by_rule": own,
                    "share_percent": 100 * own / (inside or 1),
                }
            )
        return lines

    def _table(self, heading: str, key: Callable[[OperatorCount], str]) -> list[dict[str, Any]]:
        table: dict[str, dict[str, Any]] = {}
        for row in self.rows:
            line = table.setdefault(key(row), {heading: key(row), "calls": 0, "macs_by_rule": 0, "macs": 0, "flops": 0})
            line["calls"] += row.calls
            line["macs_by_rule"] += row.macs_by_rule[self.rule]
            line["macs"] += row.macs_by_rule["multiply-add"]
            line["flops"] += 2 * row.macs_by_rule["multiply-add"]
        return list(table.values())


def count_operations(
    model: nn.Module, shape: tuple[int, ...], *, rule: str = "fvcore", resize_logits: bool = False
) -> OperationCount:
    """The operations of one forward pass of `model` in evaluation mode.

    The model is copied to the meta device without its values, so that neither weights nor arithmetic are
    needed, and it stays as it was.

    Args:
        model: any module that takes one image batch.
        shape: of the input, [batch, channels, height, width].
        rule: "fvcore" or "multiply-add"; the count by "multiply-add" is there in any case.
        resize_logits: also count the bilinear resize of the output [B, K, h, w] to height x width,
            as published counts of segmentors do.

    Raises:
        UsageError: unknown rule, or a model that cannot take this shape.
    """
    get_rule(rule)
    twin = on_meta(model)
    counter = _Counter()
    counter.watch(twin)
    with torch.inference_mode(), counter:
        try:
            image = torch.empty(shape, device="meta", dtype=_dtype(model))
            logits = twin(image)
        except (RuntimeError, ValueError, TypeError) as error:
            reason = str(error).strip().split("\n")[0]
            raise UsageError(f"the model cannot take an input of {'x'.join(map(str, shape))}: {reason}") from error
        if resize_logits and isinstance(logits, Tensor) and logits.shape[2:] != image.shape[2:]:
            counter.path.append(RESIZE)
            F.interpolate(logits, size=image.shape[2:], mode="bilinear", align_corners=False)
    return OperationCount(
        shape=tuple(shape),
        rule=rule,
        rows=counter.rows(),
        elementwise=dict(counter.elementwise),
        no_formula=dict(counter.no_formula),
        largest_call_bytes=counter.largest_call_bytes,
        titles=part_titles(model),
    )


def on_meta(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose tensors have shapes but no values."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        held = [*module._parameters.values(), *module._buffers.values(), *vars(module).values()]
        for tensor in held:
            if isinstance(tensor, nn.Parameter):
                memo[id(tensor)] = nn.Parameter(tensor.detach().to("meta"), requires_grad=False)
            elif isinstance(tensor, Tensor):
                memo[id(tensor)] = tensor.detach().to("meta")
    return copy.deepcopy(model, memo).eval()


def _dtype(model: nn.Module) -> torch.dtype:
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


class _Counter(TorchDispatchMode):
    """Sees every operator, and knows from hooks which module is running."""

    def __init__(self) -> None:
        super().__init__()
        self.path = [""]
        self.calls: Counter[tuple[str, str]] = Counter()
        self.macs: dict[str, Counter[tuple[str, str]]] = {name: Counter() for name in RULES}
        self.elementwise: Counter[str] = Counter()
        self.no_formula: Counter[str] = Counter()
        self.largest_call_bytes = 0

    def watch(self, model: nn.Module) -> None:
        """Keeps `path` up to date; the hooks stay on `model`, which is a copy made for counting."""
        for name, module in model.named_modules():
            module.register_forward_pre_hook(lambda *_, name=name: self.path.append(name))
            module.register_forward_hook(self._leave)

    def _leave(self, *_: Any) -> None:
        self.path.pop()

    def rows(self) -> list[OperatorCount]:
        """What was counted, in the order of the first call."""
        return [
            OperatorCount(
                module=module,
                operator=operator,
                calls=calls,
                macs_by_rule={rule: counter[module, operator] for rule, counter in self.macs.items()},
            )
            for (module, operator), calls in self.calls.items()
        ]

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        counting = [rule for rule in RULES.values() if rule.knows(func)]
        if not counting:
            # Inside `with self` the parts of a composite operator come back here one by one.
            with self:
                output = func.decompose(*args, **named)
            if output is not NotImplemented:
                return output
        output = func(*args, **named)
        self._remember_size(args, named, output)
        if counting:
            self._count(func, counting, args, named, output)
        elif not moves_only(func):
            kind = self.elementwise if is_elementwise(func) else self.no_formula
            kind[operator_name(func)] += 1
        return output

    def _count(self, func: OpOverload, rules: list[Rule], args: Any, named: Any, output: Any) -> None:
        key = (self.path[-1], operator_name(func))
        self.calls[key] += 1
        for rule in rules:
            self.macs[rule.name][key] += rule.count(func, args, named, output)

    def _remember_size(self, *values: Any) -> None:
        # By storage, so that a view and what it views count once.
        storages = [leaf.untyped_storage() for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
        total = sum({storage._cdata: storage.nbytes() for storage in storages}.values())
        self.largest_call_bytes = max(self.largest_call_bytes, total)
