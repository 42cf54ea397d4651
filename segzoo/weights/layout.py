"""How other systems name the tensors of a model, and the way from their names to ours and back.

A rule is two templates with the same placeholders. `{name}` stands for one part between dots, `{name*}` for one part
or more. So every rule can be read in both directions, and `segzoo convert` needs no second table:

    Rename("encoder.block.{stage}.{index}.{rest*}", "backbone.stages.{stage}.blocks.{index}.{rest*}")

Where a system keeps apart what is one tensor here, a `Join` says so, and a `Reorder` where one counts the same numbers
in another order. A new system is one more `Layout` in segzoo/weights/layouts.py.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from segzoo.errors import IntegrityError

Value = TypeVar("Value")
_PLACEHOLDER = re.compile(r"\{(\w+)(\*?)\}")


@dataclass(frozen=True)
class Rename:
    """One rule: a key of the shape `theirs` is called `ours` here."""

    theirs: str
    ours: str

    def __post_init__(self) -> None:
        if sorted(_PLACEHOLDER.findall(self.theirs)) != sorted(_PLACEHOLDER.findall(self.ours)):
            raise ValueError(f"both sides of a rule need the same placeholders: {self.theirs!r}, {self.ours!r}")

    def to_ours(self, key: str) -> str | None:
        """Our name for their key, or None where the rule does not apply."""
        return _translate(key, self.theirs, self.ours)

    def to_theirs(self, key: str) -> str | None:
        """Their name for our key, or None where the rule does not apply."""
        return _translate(key, self.ours, self.theirs)


@dataclass(frozen=True)
class Join:
    """One rule: the tensors `theirs`, one above the other along the first dimension, are the tensor `ours` here."""

    theirs: tuple[str, ...]
    ours: str

    def to_ours(self, state: dict[str, Any]) -> dict[str, Any]:
        """`state` with the tensors joined, where it has all of them."""
        joined = dict(state)
        for key in state:
            parts = [_translate(key, self.theirs[0], name) for name in self.theirs]
            if all(part in state for part in parts):
                joined[str(_translate(key, self.theirs[0], self.ours))] = torch.cat(
                    [joined.pop(str(part)) for part in parts]
                )
        return joined

    def to_theirs(self, state: dict[str, Any]) -> dict[str, Any]:
        """`state` with the tensors apart again; they share the memory of the one."""
        apart: dict[str, Any] = {}
        for key, value in state.items():
            parts = [_translate(key, self.ours, name) for name in self.theirs]
            if None in parts:
                apart[key] = value
            else:
                apart |= zip(map(str, parts), torch.chunk(value, len(parts)), strict=True)
        return apart


@dataclass(frozen=True)
class Reorder:
    """One rule: the last axis of the tensors called `ours` here is an array; which of its axes runs slowest differs.

    Attributes:
        ours: a template of our keys.
        sizes: of their array, slowest first; -1 once, for what is left.
        order: our axis i is their axis order[i].
    """

    ours: str
    sizes: tuple[int, ...]
    order: tuple[int, ...]

    def to_ours(self, state: dict[str, Any]) -> dict[str, Any]:
        """`state`, under our names already, in our order."""
        return self._applied(state, self.sizes, self.order)

    def to_theirs(self, state: dict[str, Any]) -> dict[str, Any]:
        """`state`, under our names still, in their order."""
        back = tuple(self.order.index(axis) for axis in range(len(self.order)))
        return self._applied(state, tuple(self.sizes[axis] for axis in self.order), back)

    def _applied(self, state: dict[str, Any], sizes: tuple[int, ...], order: tuple[int, ...]) -> dict[str, Any]:
        places = tuple(range(-len(sizes), 0))
        return {
            key: value.unflatten(-1, sizes).movedim([places[axis] for axis in order], places).flatten(-len(sizes))
            if _pattern(self.ours).fullmatch(key)
            else value
            for key, value in state.items()
        }


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The names that one system gives to the tensors of a model.

    Attributes:
        name: the word for it in zoo.yaml and in reports.
        detect: templates, each of which some key must fit for a file to count as this layout.
        detect_all: every key of the file must fit one of them.
        renames: the rules in the order to try them; the first that applies counts. A key without a rule keeps its name.
        joins: what is several tensors there and one here.
        reorders: what is the same numbers in another order.
        lacks: templates of our keys that such files never have and that no forward pass needs.
        into: the layout whose names `to_native` gives, where those are a system's of their own.
        aliases: other words for it.
        whole: whole models are written in it; else it is of a part, such as an encoder.
    """

    name: str
    detect: tuple[str, ...] = ()
    detect_all: bool = False
    renames: tuple[Rename, ...] = ()
    joins: tuple[Join, ...] = ()
    reorders: tuple[Reorder, ...] = ()
    lacks: tuple[str, ...] = ()
    into: Layout | None = None
    aliases: tuple[str, ...] = ()
    whole: bool = True

    @property
    def lineage(self) -> tuple[Layout, ...]:
        """This layout, the one it leads into, and so on."""
        return (self,) if self.into is None else (self, *self.into.lineage)

    @property
    def root(self) -> Layout:
        """The layout in which its system's layouts meet."""
        return self.lineage[-1]

    def recognises(self, keys: Iterable[str]) -> bool:
        """Whether a file with these keys is in this layout."""
        keys = list(keys)
        if not self.detect or not keys:
            return False
        patterns = [_pattern(template) for template in self.detect]
        if self.detect_all:
            return all(any(pattern.fullmatch(key) for pattern in patterns) for key in keys)
        return all(any(pattern.fullmatch(key) for key in keys) for pattern in patterns)

    def to_native(self, state: Mapping[str, Value]) -> dict[str, Value]:
        """The same values under our names.

        Raises:
            IntegrityError: two keys would get one name.
        """
        current = dict(state)
        for join in self.joins:
            current = join.to_ours(current)
        current = _renamed(current, [rule.to_ours for rule in self.renames], self.name)
        for reorder in self.reorders:
            current = reorder.to_ours(current)
        return current

    def from_native(self, state: Mapping[str, Value]) -> dict[str, Value]:
        """The same values under this system's names.

        Raises:
            IntegrityError: two keys would get one name.
        """
        current = {key: value for key, value in state.items() if not self.never_has(key)}
        for reorder in self.reorders:
            current = reorder.to_theirs(current)
        for join in self.joins:
            current = join.to_theirs(current)
        return _renamed(current, [rule.to_theirs for rule in self.renames], self.name)

    def never_has(self, key: str) -> bool:
        """Whether our `key` is one of those that such files lack."""
        return fits_any(key, self.lacks)


def fits_any(key: str, templates: Iterable[str]) -> bool:
    """Whether the key has the shape of one of the templates."""
    return any(_pattern(template).fullmatch(key) for template in templates)


def _renamed(state: Mapping[str, Value], rules: list, layout: str) -> dict[str, Value]:
    result: dict[str, Value] = {}
    for key, value in state.items():
        name = next((found for rule in rules if (found := rule(key)) is not None), key)
        if name in result:
            raise IntegrityError(f"layout {layout}: two tensors would be called {name}, one of them {key}")
        result[name] = value
    return result


def _translate(key: str, source: str, target: str) -> str | None:
    match = _pattern(source).fullmatch(key)
    return None if match is None else _PLACEHOLDER.sub(lambda found: match[found[1]], target)


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
    """The regular expression of a template; all but its placeholders is literal."""
    pieces, end = [], 0
    for found in _PLACEHOLDER.finditer(template):
        pieces.append(re.escape(template[end : found.start()]))
        pieces.append(f"(?P<{found[1]}>{'.+' if found[2] else '[^.]+'})")
        end = found.end()
    return re.compile("".join(pieces) + re.escape(template[end:]))
