"""Puts a weights file into a model, all of it or with a readable report of what does not fit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from segzoo.errors import IntegrityError, UsageError
from segzoo.weights.folder import checkpoint_file
from segzoo.weights.layout import fits_any
from segzoo.weights.layouts import Translation, to_names_of
from segzoo.weights.read import read_state_dict

# Batch norm counts its training steps in it; nothing at inference depends on it, and files from before 2018 lack it.
_COUNTER = "num_batches_tracked"
_REPORT_LINES = 20
_BACKBONES = ("backbone.", "segformer.encoder.", "segnext.encoder.")


@dataclass(frozen=True)
class Misshapen:
    """A tensor that both sides have, in different shapes."""

    key: str
    in_file: tuple[int, ...]
    in_model: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What came of loading a file into a model.

    Attributes:
        name: the model's name.
        layout: whose names the file used; "native" are the model's own.
        loaded: number of tensors that were (or, in an error, would be) loaded.
        missing: keys of the model that the file lacks and that matter.
        unexpected: keys of the file that the model lacks.
        misshapen: keys of both, with different shapes.
        tolerated: missing keys that change nothing: batch norm's step counters, and what a layout never has.
    """

    name: str
    path: Path
    layout: str
    loaded: int
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    misshapen: tuple[Misshapen, ...] = ()
    tolerated: tuple[str, ...] = ()

    @property
    def perfect(self) -> bool:
        """Whether every tensor of the file has its place and every one of the model got one."""
        return not (self.missing or self.unexpected or self.misshapen)

    @property
    def summary(self) -> str:
        """One line: how many tensors fit and how many do not."""
        parts = [
            f"{len(keys)} {word}"
            for word, keys in (
                ("missing", self.missing),
                ("unexpected", self.unexpected),
                ("misshapen", self.misshapen),
            )
            if keys
        ]
        classes = f"; {explained}" if (explained := self.class_counts) else ""
        return f"{self.loaded} tensors fit, {', '.join(parts) or 'all of them'}{classes}"

    @property
    def class_counts(self) -> str | None:
        """ "the file has 150 classes, the model 19", where that alone explains every misshapen tensor."""
        pairs = {_only_difference(item) for item in self.misshapen}
        if len(pairs) != 1 or (pair := pairs.pop()) is None:
            return None
        return f"the file has {pair[0]} classes, the model {pair[1]}"

    def text(self, limit: int = _REPORT_LINES) -> str:
        """The summary and, below it, what does not fit, grouped by module so that it takes at most `limit` lines."""
        shapes = [f"{item.key}: {item.in_file} in the file, {item.in_model} in the model" for item in self.misshapen]
        share = max(1, limit // 3)
        if len(shapes) > share:
            shapes = [*shapes[: share - 1], f"{len(shapes) - share + 1} more"]
        sections = [
            ("missing", _grouped(self.missing, share)),
            ("unexpected", _grouped(self.unexpected, share)),
            (
                "misshapen",
                shapes if len(shapes) <= share else [*shapes[: share - 1], f"{len(shapes) - share + 1} more"],
            ),
        ]
        return "\n".join([self.summary, *(f"  {word}: {line}" for word, lines in sections for line in lines)])

    def notes(self) -> list[str]:
        """What a record of a run with this model has to say about its weights; empty for a perfect load."""
        return [] if self.perfect else [f"weights loaded in part: {self.summary}"]


def load_weights(model: nn.Module, path: Path, *, name: str, strict: bool = True) -> LoadReport:
    """Loads a weights file into `model`, in place, in the model's own number format, and reports.

    Batch norm's `num_batches_tracked` may be missing: it counts training steps and takes no part in inference. So may
    what files of another layout never have and no forward pass needs (SegFormer's `conv_seg`). All else must fit, an
    auxiliary head included, unless `strict` is false; a model is never loaded in part by an error.

    Args:
        model: any module on a real device.
        path: a file of torch.save or safetensors, see `read_state_dict`, or a folder of the Hugging Face Hub.
        name: the model's name, for messages.
        strict: anything missing, unexpected or misshapen is an error.

    Raises:
        IntegrityError: the file is unsafe or corrupt, does not fit (and `strict`), or fits nowhere at all.
        UsageError: the model is on the meta device, which holds no values.
    """
    path = checkpoint_file(path)
    own = model.state_dict()
    if any(tensor.is_meta for tensor in own.values()):
        raise UsageError(f"{name} is on the meta device, which cannot hold weights; build it on cpu or cuda")
    translation = to_names_of(own, read_state_dict(path))
    state = translation.state
    fitting = {key: value for key, value in state.items() if key in own and value.shape == own[key].shape}
    report = compare(name, path, translation, own)
    if not fitting:
        raise IntegrityError(f"{path} is not for {name}: none of its {len(state)} tensors fits\n{report.text()}")
    if strict and not report.perfect:
        raise IntegrityError(f"{path} does not fit {name}: {report.text()}\n{_advice(report)}")
    with torch.no_grad():
        model.load_state_dict(fitting, strict=False)
    return report


def compare(name: str, path: Path, translation: Translation[Tensor], own: dict[str, Tensor]) -> LoadReport:
    """What would come of loading the translated file into a model with the state dict `own`."""
    state = translation.state
    absent = [key for key in own if key not in state]
    tolerated = tuple(key for key in absent if key.endswith(_COUNTER) or fits_any(key, translation.lacks))
    misshapen = tuple(
        Misshapen(key, tuple(value.shape), tuple(own[key].shape))
        for key, value in state.items()
        if key in own and value.shape != own[key].shape
    )
    return LoadReport(
        name=name,
        path=path,
        layout=translation.layout,
        loaded=sum(key in own for key in state) - len(misshapen),
        missing=tuple(key for key in absent if key not in tolerated),
        unexpected=tuple(key for key in state if key not in own),
        misshapen=misshapen,
        tolerated=tolerated,
    )


def _advice(report: LoadReport) -> str:
    if report.class_counts:
        return "give the number of classes of the file, or --no-strict to load all but the classifier"
    return "is it another model's file? --no-strict loads what fits"


def _only_difference(item: Misshapen) -> tuple[int, int] | None:
    """(file, model) where the shapes differ in exactly one size, else None; a backbone knows of no classes."""
    if len(item.in_file) != len(item.in_model) or item.key.startswith(_BACKBONES):
        return None
    different = [(file, model) for file, model in zip(item.in_file, item.in_model, strict=True) if file != model]
    return different[0] if len(different) == 1 else None


def _grouped(keys: tuple[str, ...], limit: int) -> list[str]:
    """The keys by module, one line a module: the longest prefixes with which the lines are at most `limit`."""
    deepest = max((key.count(".") for key in keys), default=0)
    for depth in range(deepest, -1, -1):
        modules: dict[str, list[str]] = {}
        for key in keys:
            parts = key.split(".")
            cut = min(depth, len(parts) - 1)
            modules.setdefault(".".join(parts[:cut]), []).append(".".join(parts[cut:]))
        if len(modules) <= limit:
            break
    return [f"{module or '(top level)'}: {_words(tensors)}" for module, tensors in modules.items()]


def _words(tensors: list[str]) -> str:
    return ", ".join(tensors) if len(tensors) <= 4 else f"{len(tensors)} tensors"
