"""`segzoo export`: write a file, read it again, hold it to the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from segzoo.errors import SegzooError, UsageError
from segzoo.export.formats import Format, get_format
from segzoo.export.metadata import metadata
from segzoo.export.parity import check_sizes, compare_labels, compare_logits
from segzoo.export.program import Program, Shape, SizeDependsError, trace
from segzoo.inference.preprocess import view_size
from segzoo.protocol import Protocol
from segzoo.registry import create_model, get_protocol
from segzoo.results import Run, Stopwatch, command_line, environment

_USUAL_PICTURE = (480, 640)


def export_run(
    name: str,
    *,
    format: str,
    output: Path | None = None,
    shape: tuple[int, int] | None = None,
    batch_size: int = 1,
    dynamic: bool | None = None,
    pretrained: bool = False,
    checkpoint: Path | None = None,
    num_classes: int | None = None,
    fuse: bool = False,
) -> Run:
    """Exports a model of the zoo and checks the file.

    Args:
        name: a name of the zoo.
        format: "onnx", "torch-export", "torchscript" or "coreml".
        output: the file; NAME with the format's ending where None.
        shape: height and width to trace at; where None the protocol's window, or what it makes of a
            picture of 480x640.
        batch_size: images that the file takes at once.
        dynamic: leave height and width open; where None, if the model allows it.
        pretrained: with the published weights.
        checkpoint: with these weights.
        num_classes: of the checkpoint, where it is not the entry's.
        fuse: fold batch norms first.

    Raises:
        UsageError: unknown words, or a shape that the model cannot take.
        UnavailableError: a package that the format needs.
        ToleranceError: the file does not give what the model gives; it is left for inspection.
        SegzooError: `dynamic`, and the model does not allow it.
    """
    watch = Stopwatch()
    kind, protocol = get_format(format), get_protocol(name)
    if dynamic and not kind.sizes_open:
        raise UsageError(f"a file of format {format} has one input size; leave out --dynamic")
    kind.demand_packages()
    model = create_model(name, pretrained=pretrained, checkpoint=checkpoint, num_classes=num_classes)
    if fuse and callable(fold := getattr(model, "fuse", None)):
        fold()
    traced: Shape = (batch_size, 3, *(shape or _usual_shape(protocol)))
    program, notes = _traced(model, traced, dynamic if kind.sizes_open else False, kind.foreign)
    path = output or Path(name.replace("/", "-") + kind.suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = _weights_word(model)
    try:
        kind.write(program, path, metadata(name, protocol, program, weights=weights))
    except OSError as error:
        raise SegzooError(f"cannot write {path}: {error.strerror or error}") from error
    breakdown = _checked(model, kind, program, path, protocol)
    if not breakdown:
        notes.append(f"a file of format {format} cannot be run here; it was written and not checked")
    return Run(
        command="export",
        model={"name": name, "params": sum(p.numel() for p in model.parameters()), "weights": weights},
        metrics={
            "bytes": path.stat().st_size if path.is_file() else None,
            "largest_error": max((row["largest_error"] for row in breakdown.get("logits", [])), default=None),
            "labels_different_percent": breakdown["labels"][0]["different_percent"] if "labels" in breakdown else None,
        },
        conditions={
            "format": format,
            "shape": list(traced),
            "sizes": program.sizes,
            "sizes_checked": ", ".join(row["input"] for row in breakdown.get("logits", [])) or None,
            "fused": fuse,
            "path": str(path),
        },
        breakdown=breakdown,
        notes=notes,
        environment=environment(),
        command_line=command_line(),
        started=watch.started,
        duration_s=watch.seconds,
    )


def _traced(model: nn.Module, shape: Shape, dynamic: bool | None, foreign: bool) -> tuple[Program, list[str]]:
    """The graph, with open sizes where None is given and the model allows it; else a note says why not."""
    if dynamic is not None:
        return trace(model, shape, dynamic=dynamic, foreign=foreign), []
    try:
        return trace(model, shape, dynamic=True, foreign=foreign), []
    except SizeDependsError as error:
        return trace(model, shape, dynamic=False, foreign=foreign), [f"one input size only: {error}"]


def _checked(
    model: nn.Module, kind: Format, program: Program, path: Path, protocol: Protocol
) -> dict[str, list[dict[str, Any]]]:
    """Comparisons of the file with the model; {} where the file cannot be run here."""
    if kind.read is None:
        return {}
    exported = kind.read(path)
    breakdown = {"logits": compare_logits(model, exported, check_sizes(program, protocol), program.shape[0])}
    if program.shape[0] == 1:
        breakdown["labels"] = [compare_labels(model, exported, program, protocol)]
    return breakdown


def _usual_shape(protocol: Protocol) -> tuple[int, int]:
    """The protocol's window, or its input for a usual picture, brought up to what every network takes."""
    if protocol.crop is not None:
        return protocol.crop
    divisor = protocol.size_divisor or 32
    height, width = view_size(_USUAL_PICTURE, protocol, 1.0)
    return -(-height // divisor) * divisor, -(-width // divisor) * divisor


def _weights_word(model: nn.Module) -> str:
    report = getattr(model, "load_report", None)
    if report is None:
        return "random"
    from segzoo.weights.records import weights_sha256

    return f"sha256 {weights_sha256(report.path)}"
