"""Label maps by mmsegmentation 0.30.0, for benchmarks/evaluation_speed.py; runs in the peer's environment.

python peer_label_maps.py FOLDER_OF_TINY_PY IMAGES OUT whole|slide TWELVE_VIEWS COUNT
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np


def main() -> None:
    peer, images, out, mode, views, count = sys.argv[1:]
    sys.path.insert(0, peer)
    import tiny
    import torch
    from mmcv.parallel import collate
    from mmseg.datasets.pipelines import Compose

    windows = {"mode": "slide", "crop_size": (512, 512), "stride": (341, 341)} if mode == "slide" else {"mode": "whole"}
    model, pipeline = tiny.build("tiny150/", 150, windows), Compose(steps(views == "1"))
    for file in sorted(Path(images).iterdir())[: int(count)]:
        data = pipeline({"img_info": {"filename": str(file)}, "img_prefix": None})
        data = collate([data], samples_per_gpu=1)
        metas = [item.data[0] for item in data["img_metas"]]
        with torch.no_grad():
            (labels,) = model(return_loss=False, img=data["img"], img_metas=metas)
        np.save(Path(out) / f"{file.stem}.npy", labels.astype(np.uint8))


def steps(views: bool) -> list[dict]:
    """The test pipeline of the published ADE20K configs."""
    norm = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "to_rgb": True}
    transforms = [
        {"type": "Resize", "keep_ratio": True},
        {"type": "RandomFlip"},
        {"type": "Normalize", **norm},
        {"type": "ImageToTensor", "keys": ["img"]},
        {"type": "Collect", "keys": ["img"]},
    ]
    several = {
        "type": "MultiScaleFlipAug",
        "img_scale": (2048, 512),
        "img_ratios": [0.5, 0.75, 1.0, 1.25, 1.5, 1.75] if views else None,
        "flip": views,
        "transforms": transforms,
    }
    return [{"type": "LoadImageFromFile"}, several]


if __name__ == "__main__":
    main()
