"""The evaluation tail beside the published steps in PyTorch, in turn in one process.

    OMP_NUM_THREADS=1 python benchmarks/evaluation_tail.py

Logits of 150 classes at stride 4 become a label map and a confusion matrix: one view (128x171 -> 512x683), and 12
(6 scales, mirrored). The published steps are two bilinear interpolations at full size (the second an identity for
one view, and performed all the same), a softmax, the argmax and a bincount, as mmsegmentation 0.30.0 does them; of
several views the softmax is averaged. Smooth logits are like a network's, random ones are the worst case for a
method that skips classes. Times are those of the process's threads together; the median of the rounds is taken.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from segzoo import kernels
from segzoo.inference.resampling import Side, side_taps
from segzoo.inference.windows import windows
from segzoo.kernels import Taps, segmentation_tail

CLASSES, IMAGE = 150, (512, 683)
RATIOS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--views", type=int, nargs="+", default=[1, 12], choices=(1, 12))
    words = parser.parse_args()
    torch.set_num_threads(words.threads)
    kernels.load()
    print(f"kernels: {kernels.describe()}, {words.threads} thread(s)", flush=True)
    target = torch.randint(0, CLASSES, IMAGE, generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    for views in words.views:
        for kind in ("smooth", "random"):
            compare(views, kind, target, words.rounds)


def compare(views: int, kind: str, target: Tensor, rounds: int) -> None:
    """Prints the times of both and their ratio; stops where labels differ that are no near-ties."""
    logits, rows, columns = problem(views, kind)
    networks = [network_size(ratio) for ratio in ratios_of(views)]
    sides: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {
        "fused": lambda: segmentation_tail(logits, rows, columns, target=target),
        "published": lambda: published_steps(logits, networks, target),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    labels: dict[str, Tensor] = {}
    for number in range(rounds + 1):
        for name, step in sides.items():
            repeats = 5 if name == "fused" else 1
            begin = time.process_time(), time.perf_counter()
            for _ in range(repeats):
                labels[name], _ = step()
            # Of one thread its own time, which other programs do not disturb; of several the clock's.
            clock = 0 if torch.get_num_threads() == 1 else 1
            if number:
                seconds[name].append(((time.process_time(), time.perf_counter())[clock] - begin[clock]) / repeats)
    differing = int((labels["fused"].long() != labels["published"]).sum())
    fused, published = (statistics.median(values) for values in seconds.values())
    print(
        f"{views:2} view(s), {kind} logits: fused {1e3 * fused:8.2f} ms, published {1e3 * published:9.2f} ms, "
        f"{published / fused:6.1f} x; {differing} of {target.numel()} labels differ",
        flush=True,
    )
    if differing > 1e-4 * target.numel():
        raise SystemExit("labels differ by more than near-ties")


def ratios_of(views: int) -> list[tuple[float, bool]]:
    """Scale and whether mirrored, of each view."""
    return [(1.0, False)] if views == 1 else [(ratio, mirrored) for ratio in RATIOS for mirrored in (False, True)]


def network_size(view: tuple[float, bool]) -> tuple[int, int]:
    return int(IMAGE[0] * view[0] + 0.5), int(IMAGE[1] * view[0] + 0.5)


def problem(views: int, kind: str) -> tuple[list[Tensor], list[Taps], list[Taps]]:
    """Logits of all views with the taps of their rows and columns, as segzoo.inference prepares them."""
    device, logits, rows, columns = torch.device("cpu"), [], [], []
    for seed, (ratio, mirrored) in enumerate(ratios_of(views)):
        size = network_size((ratio, mirrored))
        shape = -(-size[0] // 4), -(-size[1] // 4)
        generator = torch.Generator().manual_seed(seed)
        coarse = (8, 11) if kind == "smooth" else shape
        drawn = 4 * torch.randn(1, CLASSES, *coarse, generator=generator)
        logits.append(F.interpolate(drawn, size=shape, mode="bicubic")[0] if kind == "smooth" else drawn[0])
        for taps, axis in ((rows, 0), (columns, 1)):
            whole = windows(size[axis], size[axis], size[axis])
            side = Side(image=IMAGE[axis], windows=whole, logits=shape[axis], mirrored=mirrored and axis == 1)
            taps.append(side_taps(side, device))
    return logits, rows, columns


def published_steps(logits: list[Tensor], networks: list[tuple[int, int]], target: Tensor) -> tuple[Tensor, Tensor]:
    """Labels and counts [150, 150] by full-size tensors."""
    total: Tensor | None = None
    mirrored = [view[1] for view in ratios_of(len(logits))]
    for values, network, flipped in zip(logits, networks, mirrored, strict=True):
        scores = F.interpolate(values[None], size=network, mode="bilinear", align_corners=False)
        scores = F.interpolate(scores, size=IMAGE, mode="bilinear", align_corners=False).softmax(1)
        scores = scores.flip(-1) if flipped else scores
        total = scores if total is None else total + scores
    assert total is not None
    labels = (total / len(logits)).argmax(1)[0]
    return labels, torch.bincount(target.flatten().long() * CLASSES + labels.flatten(), minlength=CLASSES**2)


if __name__ == "__main__":
    main()
