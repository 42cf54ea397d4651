"""A model as a graph of plain PyTorch operators, and which input sizes the graph is good for."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from segzoo.errors import SegzooError, UsageError
from segzoo.export.decompositions import table

INPUT, OUTPUT = "image", "logits"

Shape = tuple[int, int, int, int]


class SizeDependsError(SegzooError):
    """A model whose graph cannot leave height and width open."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """A traced model.

    Attributes:
        exported: the graph, with the operators of `decompositions.table` taken apart.
        shape: of the traced input, [batch, 3, height, width].
        smallest: least (height, width) the graph is good for; None where it takes the traced size alone.
            A model that pads small maps takes another branch below it, which the graph does not have.
        largest: greatest (height, width); None for a side without a bound.
    """

    exported: ExportedProgram
    shape: Shape
    smallest: tuple[int, int] | None = None
    largest: tuple[int | None, int | None] = (None, None)

    @property
    def is_open(self) -> bool:
        """Whether it takes other heights and widths than the traced ones."""
        return self.smallest is not None

    def takes(self, height: int, width: int) -> bool:
        """Whether the graph is good for this size."""
        if self.smallest is None:
            return (height, width) == self.shape[2:]
        return all(
            low <= side and (high is None or side <= high)
            for side, low, high in zip((height, width), self.smallest, self.largest, strict=True)
        )

    @property
    def sizes(self) -> str:
        """The sizes it takes, in words."""
        if self.smallest is None:
            return f"{self.shape[2]}x{self.shape[3]} alone"
        sides = [
            f"{name} {low} or more" if high is None else f"{name} {low} to {high}"
            for name, low, high in zip(("height", "width"), self.smallest, self.largest, strict=True)
        ]
        return ", ".join(sides)


def trace(model: nn.Module, shape: Shape, *, dynamic: bool, foreign: bool = True) -> Program:
    """The graph of `model` for an input of `shape`.

    Args:
        model: in evaluation mode, on the CPU.
        shape: [batch, 3, height, width].
        dynamic: leave height and width open.
        foreign: whether the graph is for another program than PyTorch.

    Raises:
        UsageError: a shape that the model cannot take.
        SizeDependsError: with `dynamic`, a model whose graph depends on the size.
    """
    image = torch.zeros(shape)
    with torch.no_grad():
        try:
            model(image)
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().split("\n")[0]
            raise UsageError(f"the model cannot take an input of {'x'.join(map(str, shape))}: {reason}") from error
        sizes = ({2: Dim.AUTO, 3: Dim.AUTO},) if dynamic else None
        try:
            exported = torch.export.export(model, (image,), dynamic_shapes=sizes)
        # torch.export has no error of its own for this; what it raises depends on where it gave up.
        except Exception as error:
            if not dynamic:
                raise
            reason = str(error).strip().split("\n")[0][:200]
            raise SizeDependsError(f"the model's graph depends on its input size: {reason}") from error
        if not dynamic:
            return Program(exported=_taken_apart(exported, foreign), shape=shape)
        bounds = [_bounds(exported, side) for side in _input_sides(exported)]
        return Program(
            exported=_taken_apart(exported, foreign),
            shape=shape,
            smallest=(bounds[0][0], bounds[1][0]),
            largest=(bounds[0][1], bounds[1][1]),
        )


def _taken_apart(exported: ExportedProgram, foreign: bool) -> ExportedProgram:
    with warnings.catch_warnings():
        # PyTorch 2.11 warns of a class of its own, which it copies here.
        warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
        return exported.run_decompositions(table(foreign=foreign))


def _input_sides(exported: ExportedProgram) -> tuple[int | torch.SymInt, ...]:
    """Height and width of the graph's input: symbols where they are open."""
    name = next(iter(exported.graph_signature.user_inputs))
    node = next(node for node in exported.graph.nodes if node.name == name)
    return tuple(node.meta["val"].shape[2:])


def _bounds(exported: ExportedProgram, side: int | torch.SymInt) -> tuple[int, int | None]:
    """Least and greatest value of a side; None for no bound."""
    symbols = side.node.expr.free_symbols if isinstance(side, torch.SymInt) else set()
    if not isinstance(side, torch.SymInt) or len(symbols) != 1:
        raise SizeDependsError(f"the model's graph depends on its input size: a side came out as {side}")
    symbol = symbols.pop()
    values = exported.range_constraints[symbol]
    least, greatest = (side.node.expr.subs(symbol, end) for end in (values.lower, values.upper))
    return int(least), int(greatest) if greatest.is_number and greatest.is_finite and greatest < 2**31 else None
