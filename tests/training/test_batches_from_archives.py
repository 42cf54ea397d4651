"""Training reads from an archive with several worker processes, and gets what it gets from the folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from archives import tar_folder, zip_folder
from colour_model import write_set

from segzoo.data import open_dataset
from segzoo.data.transforms import Augmentation
from segzoo.training.batches import Collate, batches
from segzoo.training.plan import Plan
from segzoo.training.segmentation import Crops

RULE = Augmentation(
    crop=(8, 8), scale=None, scale_range=(1.0, 1.0), category_max_ratio=None, flip=0.5, photometric=False, num_classes=3
)  # fmt: skip


def first_batches(root: Path, workers: int) -> list[tuple[list[str], bytes, bytes]]:
    plan = Plan(work_dir=Path(), iterations=6, batch_size=4, per_device=4, seed=3, settings={}, workers=workers)
    source = Crops(open_dataset(root), RULE, 12)
    with batches(source, Collate((8, 8), 255), plan, rank=0, first=0) as reading:
        return [(batch.names, batch.image.numpy().tobytes(), batch.target.numpy().tobytes()) for batch in reading]


def test_batches_are_the_same_from_a_folder_a_zip_and_a_tar_read_by_two_workers(tmp_path):
    folder = write_set(tmp_path / "things", 12, size=(20, 24))
    expected = first_batches(folder, workers=0)
    assert len(expected) == 6 and len({name for names, _, _ in expected for name in names}) == 12
    assert np.frombuffer(expected[0][1], np.uint8).any()
    assert first_batches(zip_folder(folder, tmp_path / "things.zip"), workers=2) == expected
    assert first_batches(tar_folder(folder, tmp_path / "things.tar", inside="things"), workers=2) == expected
