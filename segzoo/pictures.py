"""Label maps of a user's own pictures as files: index PNG, and overlay with legend. What `segzoo predict` does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segzoo import kernels
from segzoo.data.read import read_image
from segzoo.data.write import write_indices, write_picture
from segzoo.device import device_name, pick_device, synchronize
from segzoo.errors import DatasetError, SegzooError, UsageError
from segzoo.inference import Network, predict_with
from segzoo.protocol import Protocol
from segzoo.registry import class_names, create_model, dataset_entry, entry, get_protocol
from segzoo.report.overlay import class_shares, draw_overlay
from segzoo.report.palette import class_colours
from segzoo.results import Run, Stopwatch, command_line, environment
from segzoo.weights.records import weights_sha256

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
_LISTED_CLASSES = 3

Progress = Callable[[Iterable[Path], int], Iterable[Path]]
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Style:
    """How overlays look: names and colours (uint8 RGB [classes, 3]) of the classes, and the legend's title."""

    classes: list[str]
    colours: NDArray[np.uint8]
    opacity: float
    title: str


def predict_files(
    name: str,
    inputs: list[Path],
    folder: Path,
    *,
    aug_test: bool = False,
    checkpoint: Path | None = None,
    strict: bool = True,
    opacity: float = 0.5,
    device: str = "cpu",
    dtype: str = "fp32",
    progress: Progress | None = None,
) -> Run:
    """Label maps by a model of the zoo, written to `folder`, as one record with a row an image.

    Of an image `street.jpg` there will be `street.png`, grey, with class indices, and
    `street_overlay.png`. Every file is written in full or not at all; the first image that cannot be read
    ends the run, and what was written before it stays.

    Args:
        name: a name of the zoo.
        inputs: image files, and folders whose images are taken (not those of folders in them).
        folder: where the files go; made where it is missing.
        aug_test: six scales and flipping on top of the model's protocol.
        checkpoint: weights to use in place of the published ones.
        strict: weights must fit in full.
        opacity: of the colours over the image, 0 to 1.
        device: "cpu", "cuda", "auto", ...
        dtype: "fp32", "tf32", "bf16" or "fp16".
        progress: wraps the files, given with their number, to show how far it is.

    Raises:
        DatasetError: a path that is missing, a folder without images, a file that is no sound image.
        UsageError: unknown model, opacity beyond 0 to 1, or results that would overwrite their images.
        SegzooError: logits that are not finite, or files that cannot be written.
    """
    watch = Stopwatch()
    if not 0 <= opacity <= 1:
        raise UsageError(f"impossible opacity {opacity}: give 0 (the image alone) to 1 (colours alone)")
    model_entry = entry(name)
    files = find_images(inputs)
    stems = output_stems(files, folder)
    protocol = get_protocol(name).aug_test() if aug_test else get_protocol(name)
    place = pick_device(device)
    model = create_model(name, pretrained=checkpoint is None, checkpoint=checkpoint, strict=strict).to(place)
    kernels.load_for(model, place)
    network = Network(model, device=place, dtype=dtype)
    known = dataset_entry(model_entry.dataset) if model_entry.dataset else None
    colours = class_colours(model_entry.num_classes, known.palette if known else None)
    style = _Style(classes=class_names(name), colours=colours, opacity=opacity, title=name)
    rows: list[Row] = []
    classes: list[Row] = []
    for file in files if progress is None else progress(files, len(files)):
        row, classes_of_file = _picture(network, file, protocol, folder / stems[file], style)
        rows.append(row)
        classes += classes_of_file
    report = getattr(model, "load_report", None)
    seconds = sum(row["seconds"] for row in rows)
    return Run(
        command="predict",
        model={"name": name, **({"weights_sha256": weights_sha256(report.path)} if report else {})},
        metrics={"images": len(rows), "images_per_second": len(rows) / seconds},
        conditions={
            "protocol": f"{model_entry.protocol} + aug-test" if aug_test else model_entry.protocol,
            "protocol_fields": dataclasses.asdict(protocol),
            "dataset": model_entry.dataset,
            "device": str(place),
            "dtype": dtype,
            "kernels": kernels.describe(place),
            "folder": str(folder),
        },
        breakdown={"image": rows, "class": classes},
        notes=[*kernels.notes(), *([f"weights: {report.summary}"] if report and not report.perfect else [])],
        environment=environment(device_name(place)),
        command_line=command_line(),
        started=watch.started,
        duration_s=watch.seconds,
    )


def find_images(inputs: list[Path]) -> list[Path]:
    """The image files among files and folders, each once, in the order given, folders by name.

    Raises:
        DatasetError: nothing is at a path, or a folder has no images.
    """
    found: dict[Path, None] = {}
    for path in inputs:
        if path.is_dir():
            images = sorted(item for item in path.iterdir() if item.suffix.lower() in IMAGE_SUFFIXES and item.is_file())
            if not images:
                raise DatasetError(f"no images in the folder {path} (looked for {', '.join(IMAGE_SUFFIXES)})")
            found.update(dict.fromkeys(images))
        elif path.exists():
            found[path] = None
        else:
            raise DatasetError(f"there is no file or folder {path}")
    return list(found)


def output_stems(files: list[Path], folder: Path) -> dict[Path, str]:
    """A name for each image's results, its own stem where that is free; no two results share a file.

    The second `street.jpg`, of the folder `b`, becomes `b-street`; a third one in a folder of the same
    name `b-street-2`.

    Raises:
        UsageError: a result would overwrite one of the images.
    """
    images = {_key(file) for file in files}
    taken: set[str] = set()
    stems = {}
    for file in files:
        parent = file.resolve().parent.name
        stem, number = file.stem, 1
        while taken & (names := {item.name.casefold() for item in result_files(folder / stem)}):
            stem = f"{parent}-{file.stem}" if number == 1 else f"{parent}-{file.stem}-{number}"
            number += 1
        if images & {_key(item) for item in result_files(folder / stem)}:
            raise UsageError(
                f"the results in {folder} would overwrite the images themselves; give another folder by -o"
            )
        taken |= names
        stems[file] = stem
    return stems


def result_files(target: Path) -> tuple[Path, Path]:
    """Index PNG and overlay of a name without ending."""
    return target.with_name(f"{target.name}.png"), target.with_name(f"{target.name}_overlay.png")


def _key(path: Path) -> str:
    """Equal for two paths of one file, on file systems that ignore case too."""
    return str(path.resolve()).casefold()


def _picture(network: Network, file: Path, protocol: Protocol, target: Path, style: _Style) -> tuple[Row, list[Row]]:
    """Predicts and writes one image; its row of the record and those of its classes."""
    image = read_image(file)
    watch = Stopwatch()
    try:
        labels = predict_with(network, image, protocol)
    except SegzooError as error:
        raise type(error)(f"{file}: {error}") from error
    synchronize(network.device)
    seconds = watch.seconds
    shares = class_shares(labels, style.classes, style.colours)
    page = draw_overlay(image, labels, shares, style.colours, opacity=style.opacity, title=style.title)
    index_file, overlay_file = result_files(target)
    write_indices(index_file, labels)
    write_picture(overlay_file, page)
    largest = [f"{item.name} {100 * item.share:.0f} %" for item in shares[:_LISTED_CLASSES]]
    row = {
        "image": str(file),
        "size": f"{image.shape[0]}x{image.shape[1]}",
        "classes": len(shares),
        "largest": ", ".join(largest),
        "seconds": round(seconds, 4),
        "labels": index_file.name,
        "overlay": overlay_file.name,
    }
    return row, [{"image": str(file), "class": item.name, "index": item.index, "share": item.share} for item in shares]
