"""Evaluation beside mmsegmentation's, in turn: same images, same tiny model, same protocol; also the label maps.

    python benchmarks/evaluation_speed.py --peer-python PEERS/bin/python

PEERS is an environment with mmsegmentation 0.30.0 (../shared/peers/peers.md says how to make it). Timed is
everything from opening the first image file to the final mIoU, with the model built and warmed up on one image.
The model is tiny, so that the tool chain's own cost shows. Each round runs both, each in a process of its own with
the same number of threads, and reads images in that process; medians over the rounds are printed. The mean IoU of
both must be equal to the 4 decimals that mmsegmentation gives, and of the first images every label is compared.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
CLASSES = 150
# Name -> mmsegmentation's mode, whether 12 views, images.
CASES = {"whole": ("whole", False, 20), "12 views": ("whole", True, 3), "sliding 512/341": ("slide", False, 10)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peer-python", required=True, help="python of an environment with mmsegmentation 0.30.0")
    parser.add_argument("--peer", type=Path, default=SHARED / "peers", help="folder of mmseg_bench.py and tiny.py")
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "bench60")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--images", type=int, help="images of a case (default: 20, 3 or 10)")
    parser.add_argument("--own-side", nargs=3, metavar=("CASE", "IMAGES", "THREADS"), help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.own_side:
        case, images, threads = words.own_side
        print(json.dumps(measure(case, int(images), int(threads), words.data)))
        return
    for case in words.cases:
        compare_labels(case, words)
    for threads in words.threads:
        for case in words.cases:
            compare_speed(case, threads, words)


def compare_speed(case: str, threads: int, words: argparse.Namespace) -> None:
    """Prints images per second of both and the ratio; stops where the mean IoU differs."""
    images = words.images or CASES[case][2]
    rates: dict[str, list[float]] = {"segzoo": [], "mmsegmentation": []}
    for _ in range(words.rounds):
        own, peer = own_result(case, images, threads, words), peer_result(case, images, threads, words)
        if round(own["miou"], 4) != round(peer["mIoU"], 4):
            raise SystemExit(f"{case}: mean IoU {own['miou']} is not mmsegmentation's {peer['mIoU']}")
        rates["segzoo"].append(own["images_per_second"])
        rates["mmsegmentation"].append(peer["best_per_s"])
    own_rate, peer_rate = (statistics.median(rates[side]) for side in ("segzoo", "mmsegmentation"))
    spread = " and ".join(f"{min(values):.3g}-{max(values):.3g}" for values in rates.values())
    print(
        f"{case:16} {threads} thread(s): segzoo {own_rate:7.3f} images/s, mmsegmentation {peer_rate:6.3f}, "
        f"{own_rate / peer_rate:5.1f} x  ({images} images, {words.rounds} rounds: {spread}; mIoU equal)",
        flush=True,
    )


def own_result(case: str, images: int, threads: int, words: argparse.Namespace) -> dict:
    command = [sys.executable, __file__, "--peer-python", "none", "--data", str(words.data)]
    return last_json(run([*command, "--own-side", case, str(images), str(threads)], threads))


def peer_result(case: str, images: int, threads: int, words: argparse.Namespace) -> dict:
    mode, views, _ = CASES[case]
    command = [words.peer_python, str(words.peer / "mmseg_bench.py"), "--threads", str(threads), "--repeat", "1"]
    command += ["--data", str(words.data), "--mode", mode, "--what", "ms" if views else "ss"]
    lines = run([*command, "--n", str(images), "--ms-n", str(images)], threads).splitlines()
    return last_json("\n".join(line for line in lines if '"eval_' in line))


def last_json(text: str) -> dict:
    line = text.splitlines()[-1]
    return json.loads(line[line.index("{") :])


def run(command: list[str], threads: int) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout


def measure(case: str, images: int, threads: int, folder: Path) -> dict:
    """Our side: images per second and mean IoU (0 to 1)."""
    import cv2
    import torch

    from segzoo.evaluation import evaluate

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads if threads > 1 else 0)
    model, protocol, dataset = tiny_model(), protocol_of(case), bench_images(folder)
    evaluate(model, dataset, protocol, limit=1, workers=0)
    begin = time.perf_counter()
    result = evaluate(model, dataset, protocol, limit=images, workers=0)
    seconds = time.perf_counter() - begin
    return {"images_per_second": images / seconds, "miou": result.metrics["miou_percent"] / 100}


def compare_labels(case: str, words: argparse.Namespace, images: int = 3) -> None:
    """Prints how many pixels of the first images differ; stops at more than one in 100 000."""
    from segzoo.inference import predict

    with tempfile.TemporaryDirectory() as folder:
        mode, views, _ = CASES[case]
        script = Path(__file__).with_name("peer_label_maps.py")
        command = [words.peer_python, str(script), str(words.peer), str(words.data / "images"), folder, mode]
        run([*command, str(int(views)), str(images)], threads=1)
        differing = pixels = 0
        for file in sorted(Path(folder).glob("*.npy")):
            wanted = np.load(file)
            found = predict(tiny_model(), words.data / "images" / f"{file.stem}.jpg", protocol_of(case))
            differing, pixels = differing + int((found != wanted).sum()), pixels + wanted.size
    print(f"{case:16} {differing} of {pixels} labels differ", flush=True)
    if not pixels or differing > 1e-5 * pixels:
        raise SystemExit("the label maps are not those of mmsegmentation")


def tiny_model():
    sys.path.insert(0, str(ROOT / "tests"))
    from tiny_network import TinyNetwork

    return TinyNetwork("tiny150/", CLASSES)


def protocol_of(case: str):
    from segzoo.protocol import Protocol

    mode, views, _ = CASES[case]
    window = {"crop": (512, 512), "stride": (341, 341)} if mode == "slide" else {}
    protocol = Protocol(mode=mode, scale=(2048, 512), **window)
    return protocol.aug_test() if views else protocol


def bench_images(folder: Path):
    """The pairs with label 0 left out, as mmsegmentation's reduce_zero_label does."""
    from segzoo.data.folders import FoldersDataset
    from segzoo.zoo import schema

    entry = schema.Dataset(
        splits={"val": schema.Split(images="images", labels="labels")},
        labels=schema.LabelPolicy(first=1, ignore=(0, 255)),
        classes=[str(index) for index in range(CLASSES)],
    )
    return FoldersDataset(folder.name, "val", folder, entry)


if __name__ == "__main__":
    main()
