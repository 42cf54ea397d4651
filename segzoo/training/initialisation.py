"""Where the weights of a training begin: pretraining weights, a segmentation checkpoint, or nothing."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from segzoo.errors import IntegrityError, NetworkError, UsageError
from segzoo.registry import create_model, entry
from segzoo.weights.download import fetch
from segzoo.weights.layouts import to_names_of
from segzoo.weights.load import LoadReport, load_weights
from segzoo.weights.read import read_state_dict
from segzoo.zoo.schema import Model
from segzoo.zoo.timm_names import is_timm_name

WORDS = ("auto", "scratch", "backbone", "pretrained")


def initial_model(name: str, init: str, *, num_classes: int, reset_classifier: bool = False) -> tuple[nn.Module, str]:
    """A model to train, and a sentence on where its weights come from.

    Args:
        name: a name of the zoo.
        init: "backbone" takes the published pretraining weights of the backbone, "pretrained" the published
            segmentation weights, "scratch" neither; a path is a file of the one kind or the other. "auto" is
            "backbone" where the zoo has such weights, else "scratch".
        num_classes: of the data set.
        reset_classifier: where a segmentation checkpoint has other classes, keep all but the classifier.

    Raises:
        UsageError: no such weights, or a number of classes that differs.
        IntegrityError, NetworkError: the weights cannot be had or do not fit.
    """
    model_entry = entry(name)
    if init == "auto":
        has_backbone = is_timm_name(name) or any(weights.part == "backbone" for weights in model_entry.weights)
        init = "backbone" if has_backbone else "scratch"
    if init == "scratch":
        return create_model(name, num_classes=num_classes), "weights: random"
    if init == "backbone" and is_timm_name(name):
        return create_model(name, pretrained=True, num_classes=num_classes), "weights: timm's, for the backbone"
    if init in ("backbone", "pretrained"):
        part = "model" if init == "pretrained" else "backbone"
        path = _published(name, model_entry, part)
    else:
        path = Path(init)
        if not path.is_file():
            raise UsageError(f"--init {init}: neither a file nor one of {', '.join(WORDS)}")
        part = _part_of(path, name)
    if part == "backbone":
        model = create_model(name, backbone_checkpoint=path, num_classes=num_classes)
        return model, f"weights: backbone from {path} ({_report(model).summary})"
    model = create_model(name, num_classes=num_classes)
    return model, _from_segmentation(model, path, name, num_classes, reset_classifier)


def _published(name: str, model_entry: Model, part: str) -> Path:
    try:
        return fetch(name, model_entry, part=part)
    except NetworkError as error:
        raise NetworkError(f"{error}; or --init FILE with a copy of your own, or --init scratch") from error


def _part_of(path: Path, name: str) -> str:
    """ "model" where the file has anything of the model beside its backbone."""
    own = create_model(name, device="meta")
    prefix = f"{getattr(own.backbone, 'path_in_model', 'backbone')}." if hasattr(own, "backbone") else "backbone."
    keys = list(own.state_dict())
    found = to_names_of(keys, read_state_dict(path)).state
    return "model" if any(not key.startswith(prefix) for key in found.keys() & set(keys)) else "backbone"


def _from_segmentation(model: nn.Module, path: Path, name: str, num_classes: int, reset_classifier: bool) -> str:
    report = load_weights(model, path, name=name, strict=False)
    if report.perfect:
        return f"weights: {path}"
    if report.missing or report.unexpected or not report.class_counts:
        raise IntegrityError(f"{path} does not fit {name}: {report.summary}")
    if not reset_classifier:
        raise UsageError(
            f"{path} is for another number of classes: {report.class_counts} ({num_classes} in the data set); "
            "--reset-classifier keeps all but the classifier"
        )
    fresh = ", ".join(item.key for item in report.misshapen)
    return f"weights: {path}; {report.class_counts}, so these begin anew: {fresh}"


def _report(model: nn.Module) -> LoadReport:
    report = getattr(model, "load_report", None)
    assert isinstance(report, LoadReport)
    return report
