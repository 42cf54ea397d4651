"""The metric's update at 150 classes beside mmsegmentation's, on the same label maps, in turn.

    python benchmarks/metric_update.py --peer-python PEERS/bin/python --labels ../shared/data/bench60/labels

PEERS is an environment with mmsegmentation 0.30.0. Labels are PNGs of the values 0..150 (0 is not evaluated);
seven tenths of the predicted pixels are right. Both sides start from the label as it is stored: mmsegmentation
reduces the zero label and takes histograms of int64 predictions, as its argmax gives them; segzoo applies its
label policy and counts predictions of one byte, as its own argmax gives them (and, in a second row, the int64
ones). Each round runs both, each in a process of its own; medians over rounds are printed, and the counts of both
must be equal.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

CLASSES = 150


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peer-python", required=True, help="python of an environment with mmsegmentation 0.30.0")
    parser.add_argument("--labels", type=Path, default=Path("../shared/data/bench60/labels"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=("mmsegmentation", "segzoo", "segzoo int64"), help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.side:
        print(json.dumps(measure(words.side, words.labels, words.threads)))
    else:
        compare(words)


def compare(words: argparse.Namespace) -> None:
    """Prints images per second of each side and the ratio to the peer; stops where the counts differ."""
    programs = {"mmsegmentation": words.peer_python, "segzoo": sys.executable, "segzoo int64": sys.executable}
    rates: dict[str, list[float]] = {side: [] for side in programs}
    counts = {}
    for _ in range(words.rounds):
        for side, python in programs.items():
            result = run(python, side, words)
            rates[side].append(result["images_per_second"])
            counts[side] = result["areas"]
    if any(areas != counts["segzoo"] for areas in counts.values()):
        raise SystemExit("the counts differ")
    peer = statistics.median(rates["mmsegmentation"])
    print(f"{words.threads} thread(s), {words.rounds} rounds, {CLASSES} classes; areas of all classes are equal")
    for side, values in rates.items():
        median = statistics.median(values)
        print(
            f"{side:15} {median:8.0f} images/s  {median / peer:6.1f} x  (rounds: {min(values):.0f}-{max(values):.0f})"
        )


def run(python: str, side: str, words: argparse.Namespace) -> dict:
    command = [python, "-W", "ignore", __file__, "--peer-python", words.peer_python, "--side", side]
    command += ["--labels", str(words.labels), "--threads", str(words.threads)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(side: str, folder: Path, threads: int) -> dict:
    """Images per second of one side over the folder, and its areas (intersection, union, prediction, label)."""
    update = {"mmsegmentation": peer_update, "segzoo": own_update, "segzoo int64": own_update}[side](threads)
    dtype = np.uint8 if side == "segzoo" else np.int64
    pairs = [(prediction.astype(dtype), label) for prediction, label in label_maps(folder)]
    update(pairs[0][0], pairs[0][1].copy())
    copies = [(prediction, label.copy()) for prediction, label in pairs]  # mmsegmentation writes into labels.
    # With one thread its own processor time, which other programs disturb less than the clock on the wall.
    clock = time.process_time if threads == 1 else time.perf_counter
    begun = clock()
    areas = [update(prediction, label) for prediction, label in copies]
    seconds = clock() - begun
    return {
        "images_per_second": len(pairs) / seconds,
        "areas": np.sum(areas, axis=0, dtype=np.int64).tolist(),
    }


def peer_update(threads: int):
    """mmsegmentation's areas of one image, [4, classes]."""
    import torch
    from mmseg.core.evaluation.metrics import intersect_and_union

    torch.set_num_threads(threads)

    def update(prediction, label):
        areas = intersect_and_union(prediction, label, CLASSES, 255, {}, True)
        return np.stack([area.numpy() for area in areas]).astype(np.int64)

    return update


def own_update(threads: int):
    """segzoo's areas of one image, [4, classes]; it counts on one thread whatever is asked for."""
    from segzoo.data.policy import LabelTable
    from segzoo.metrics import ConfusionMatrix, scores
    from segzoo.zoo.schema import LabelPolicy

    table, matrix = LabelTable(LabelPolicy(first=1, ignore=(0, 255)), CLASSES), ConfusionMatrix(CLASSES)

    def update(prediction, label):
        result = scores(matrix.update(prediction, table.apply(label, "label")))
        return np.stack([result.intersect, result.union, result.prediction_area, result.label_area])

    return update


def label_maps(folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """(prediction of class indices, label as stored) of every PNG in the folder."""
    from PIL import Image

    generator = np.random.default_rng(0)
    pairs = []
    for file in sorted(folder.glob("*.png")):
        label = np.array(Image.open(file))
        right = generator.random(label.shape) < 0.7
        guess = generator.integers(0, CLASSES, label.shape)
        pairs.append((np.where(right, (label.astype(np.int64) - 1) % CLASSES, guess), label))
    if not pairs:
        raise SystemExit(f"no PNG in {folder}")
    return pairs


if __name__ == "__main__":
    main()
