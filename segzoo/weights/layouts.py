"""How other systems name the tensors of a model, and the way from their names to ours and back.

A rule is two templates with the same placeholders. `{name}` stands for one part between dots, `{name*}` for one part
or more. So every rule can be read in both directions, and `segzoo convert` needs no second table:

    Rename("encoder.block.{stage}.{index}.{rest*}", "backbone.stages.{stage}.blocks.{index}.{rest*}")

A new system is one more `Layout` in `LAYOUTS`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

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


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The names that one system gives to the tensors of a model.

    Attributes:
        name: the word for it in zoo.yaml and in reports.
        detect: templates, each of which some key must fit for a file to count as this layout.
        detect_all: every key of the file must fit one of them.
        renames: the rules in the order to try them; the first that applies counts. A key without a rule keeps its name.
    """

    name: str
    detect: tuple[str, ...] = ()
    detect_all: bool = False
    renames: tuple[Rename, ...] = ()

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
        return _renamed(state, [rule.to_ours for rule in self.renames], self.name)

    def from_native(self, state: Mapping[str, Value]) -> dict[str, Value]:
        """The same values under this system's names.

        Raises:
            IntegrityError: two keys would get one name.
        """
        return _renamed(state, [rule.to_theirs for rule in self.renames], self.name)


NATIVE = Layout(name="native")

LAYOUTS: tuple[Layout, ...] = (
    # nn.DataParallel and DistributedDataParallel, as mmcv's runner saves them.
    Layout(
        name="data-parallel",
        detect=("module.{rest*}",),
        detect_all=True,
        renames=(Rename("module.{rest*}", "{rest*}"),),
    ),
    Layout(
        name="torch-compile",
        detect=("_orig_mod.{rest*}",),
        detect_all=True,
        renames=(Rename("_orig_mod.{rest*}", "{rest*}"),),
    ),
)


def detect_layout(keys: Iterable[str]) -> Layout:
    """The layout of a file with these keys; `NATIVE` where no other is recognised."""
    keys = list(keys)
    return next((layout for layout in LAYOUTS if layout.recognises(keys)), NATIVE)


def to_native(state: Mapping[str, Value]) -> tuple[dict[str, Value], str]:
    """(the same values under our names, the layouts they were in: "native", "data-parallel", "a+b" from outside in).

    Raises:
        IntegrityError: two keys would get one name.
    """
    names: list[str] = []
    current = dict(state)
    while (layout := detect_layout(current)) is not NATIVE and layout.name not in names:
        names.append(layout.name)
        current = layout.to_native(current)
    return current, "+".join(names) or NATIVE.name


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
