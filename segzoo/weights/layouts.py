"""The layouts that are known, how a file's is detected, and the way from any of them to a model's own names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Generic, NamedTuple

from segzoo.errors import UsageError, suggestion
from segzoo.weights.layout import Layout, Rename, Value
from segzoo.weights.layouts_backbones import BACKBONES
from segzoo.weights.layouts_segformer import SEGFORMER

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
    *SEGFORMER,
    *BACKBONES,
)


class Translation(NamedTuple, Generic[Value]):
    """A file's tensors under a model's names.

    Attributes:
        state: the tensors.
        layout: the layouts the file was in, "a+b" from outside in; "native" where its names are the model's own.
        lacks: templates of the model's keys that such files never have and that no forward pass needs.
    """

    state: dict[str, Value]
    layout: str
    lacks: tuple[str, ...]


def detect_layout(keys: Iterable[str]) -> Layout:
    """The layout of a file with these keys; `NATIVE` where no other is recognised."""
    keys = list(keys)
    return next((layout for layout in LAYOUTS if layout.recognises(keys)), NATIVE)


def to_names_of(own: Iterable[str], state: Mapping[str, Value]) -> Translation[Value]:
    """A file's tensors under the names of a model whose keys are `own`.

    Raises:
        IntegrityError: two keys would get one name.
    """
    home = detect_layout(own)
    names: list[str] = []
    current = dict(state)
    while (layout := detect_layout(current)) not in (NATIVE, home) and layout.name not in names:
        names.append(layout.name)
        if layout.root is home.root:
            lacks = tuple(template for step in layout.lineage for template in step.lacks)
            return Translation(translate(current, layout, home), "+".join(names), lacks)
        current = layout.to_native(current)
    return Translation(current, "+".join(names) or NATIVE.name, ())


def translate(state: Mapping[str, Value], source: Layout, target: Layout) -> dict[str, Value]:
    """The same values under another layout's names, by way of the nearest layout that both come from.

    Raises:
        IntegrityError: two keys would get one name.
        UsageError: layouts of different systems.
    """
    up, down = list(source.lineage), list(target.lineage)
    if up[-1] is not down[-1]:
        raise UsageError(f"there is no way from the layout {source.name} to {target.name}")
    while up and down and up[-1] is down[-1]:
        up.pop()
        down.pop()
    current = dict(state)
    for step in up:
        current = step.to_native(current)
    for step in reversed(down):
        current = step.from_native(current)
    return current


def layouts_for(own: Iterable[str]) -> dict[str, Layout]:
    """The layouts by their words in which a whole model with these keys can be written; at least "native"."""
    home = detect_layout(own)
    written = {NATIVE.name: home}
    for layout in LAYOUTS:
        if layout.root is home.root and home is not NATIVE and layout.whole:
            written |= dict.fromkeys((layout.name, *layout.aliases), layout)
    return written


def layout_named(word: str, own: Iterable[str]) -> Layout:
    """The layout of this word, for a model with these keys.

    Raises:
        UsageError: no such layout, or none that the model can be written in.
    """
    known = layouts_for(own)
    if word not in known:
        raise UsageError(f"no layout {word!r} for this model{suggestion(word, known)}; there are: {', '.join(known)}")
    return known[word]
