"""Training samples per second of one core: segzoo's input pipeline beside mmsegmentation's, on the same pictures.

    python benchmarks/training_pipeline.py FOLDER
    python benchmarks/training_pipeline.py FOLDER --peer "PEERS/bin/python mmseg_bench.py"

FOLDER has images/ and labels/ (0 ignored, 1..150). From opening the files to the normalised float batch: decoding,
labels, scale 0.5 to 2 of (2048, 512), crop 512x512 with category ratio, mirroring, photometric distortion, padding.
The peer is started in turn with ours, with the same number of threads, and prints JSON lines as its script does.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import torch

from segzoo import kernels
from segzoo.data.folders import FoldersDataset
from segzoo.data.transforms import Augmentation
from segzoo.protocol import IMAGENET_MEAN, IMAGENET_STD
from segzoo.training.batches import Collate, ToDevice, batches
from segzoo.training.plan import Plan
from segzoo.training.segmentation import Crops
from segzoo.zoo import schema

CROP = (512, 512)
RULE = Augmentation(
    crop=CROP,
    scale=(2048, 512),
    scale_range=(0.5, 2.0),
    category_max_ratio=0.75,
    flip=0.5,
    photometric=True,
    num_classes=150,
)


def source_of(folder: Path) -> Crops:
    entry = schema.Dataset(
        classes=[str(index) for index in range(150)],
        splits={"train": schema.Split(images="images", labels="labels")},
        labels=schema.LabelPolicy(first=1, ignore=(0, 255)),
    )
    dataset = FoldersDataset("bench", "train", folder, entry)
    return Crops(dataset, RULE, len(dataset))


def plan_of(source: Crops, seed: int, *, batch_size: int, workers: int = 0) -> Plan:
    """One pass over the pictures."""
    return Plan(
        work_dir=Path(),
        iterations=len(source) // batch_size,
        batch_size=batch_size,
        per_device=batch_size,
        workers=workers,
        seed=seed,
        settings={},
    )


def in_process(source: Crops, seed: int) -> tuple[float, float]:
    """(seconds, seconds of this core) for one pass in this process, each sample made ready for the network."""
    to_device = ToDevice(torch.device("cpu"), IMAGENET_MEAN, IMAGENET_STD, channels_last=False)
    with batches(source, Collate(CROP, 255), plan_of(source, seed, batch_size=1), rank=0, first=0) as reading:
        clock, core = time.perf_counter(), time.process_time()
        for batch in reading:
            to_device(batch)
        return time.perf_counter() - clock, time.process_time() - core


def with_worker(source: Crops, seed: int) -> float:
    """Seconds for one pass through one reading process in batches of 2; its start is not counted."""
    plan = plan_of(source, seed, batch_size=2, workers=1)
    to_device = ToDevice(torch.device("cpu"), IMAGENET_MEAN, IMAGENET_STD, channels_last=False)
    with batches(source, Collate(CROP, 255), plan, rank=0, first=0) as reading:
        next(reading)
        clock = time.perf_counter()
        for batch in reading:
            to_device(batch)
        return time.perf_counter() - clock


def peer_figures(command: str, folder: Path, count: int) -> dict[str, float]:
    """Median samples per second by name, as the peer's script prints them."""
    words = [*shlex.split(command), "--threads", "1", "--what", "train", "--data", str(folder), "--n", str(count)]
    result = subprocess.run([*words, "--repeat", "3"], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    return {line["what"]: line["median_per_s"] for line in lines}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peer", help="command of the peer's benchmark")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    kernels.load()
    source = source_of(options.folder)
    in_process(source, 99)
    rows = []
    for turn in range(options.rounds):
        passes = [in_process(source, seed) for seed in (turn, turn + 10, turn + 20)]
        row = {
            "ours_per_s": len(source) / statistics.median(seconds for seconds, _ in passes),
            "ours_per_core_s": len(source) / statistics.median(core for _, core in passes),
            "ours_1_worker_per_s": (len(source) - 2) / statistics.median(with_worker(source, turn) for _ in range(3)),
        }
        if options.peer:
            found = peer_figures(options.peer, options.folder, len(source))
            row["peer_per_s"] = found["train_pipeline_main_process"]
            row["peer_1_worker_per_s"] = found["train_loader_1_worker_batch2"]
            row["ratio"] = row["ours_per_s"] / row["peer_per_s"]
            row["ratio_1_worker"] = row["ours_1_worker_per_s"] / row["peer_1_worker_per_s"]
        row["kernels"] = kernels.backend() == "native"
        row["load"] = os.getloadavg()[0]
        rows.append(row)
        print(json.dumps({key: round(value, 2) for key, value in row.items()}), flush=True)
    medians = {key: round(float(np.median([row[key] for row in rows])), 2) for key in rows[0]}
    print(json.dumps({"median": medians}))


if __name__ == "__main__":
    main()
