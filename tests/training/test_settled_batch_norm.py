"""The pictures that settled batch norms are averaged over."""

from __future__ import annotations

import numpy as np
import torch

from segzoo.protocol import Protocol
from segzoo.training.settled_batch_norm import BATCHES, batches_of_pictures

PLAIN = Protocol(scale=None, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


class Numbered:
    """Pictures whose every pixel is the picture's number; odd ones lie, even ones stand."""

    def image(self, index: int) -> np.ndarray:
        return np.full((6, 10, 3) if index % 2 else (8, 4, 3), index, np.uint8)


def test_pictures_of_a_batch_are_cut_in_the_middle_to_their_smallest_sides():
    shapes = [tuple(batch.shape) for batch in batches_of_pictures(Numbered(), 4, PLAIN, 2)]
    assert shapes == [(2, 3, 6, 4), (2, 3, 6, 4)]


def test_what_is_cut_is_the_middle():
    class Ramp(Numbered):
        def image(self, index: int) -> np.ndarray:
            width = 10 if index else 4
            return np.broadcast_to(np.arange(width, dtype=np.uint8)[None, :, None], (6, width, 3)).copy()

    (batch,) = batches_of_pictures(Ramp(), 2, PLAIN, 2)
    assert batch[1, 0, 0].tolist() == [3.0, 4.0, 5.0, 6.0]


def test_pictures_are_spread_over_the_whole_data_set_and_bounded_in_number():
    batches = list(batches_of_pictures(Numbered(), 250, PLAIN, 3))
    assert len(batches) == BATCHES and all(len(batch) == 3 for batch in batches)
    first = torch.cat([batch[:, 0, 0, 0] for batch in batches])
    assert first[0] == 0 and first[-1] == 249 and bool((first.diff() > 0).all())


def test_fewer_pictures_than_a_batch_make_one_smaller_batch():
    (batch,) = batches_of_pictures(Numbered(), 2, PLAIN, 8)
    assert len(batch) == 2
