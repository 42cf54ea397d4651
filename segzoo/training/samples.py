"""Training samples in an order that is a pure function of the seed.

Sample number n of a run (counted over all iterations and processes) is always the same crop of the same picture,
whatever the number of processes and workers and wherever the run was interrupted. Nothing random has a state.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from segzoo.errors import SegzooError

_ORDER, _AUGMENTATION = 0, 1


class Item(NamedTuple):
    """One sample: uint8 RGB [h, w, 3] at most as large as the crop; label maps [h, w] or [h, w, n], or an index []."""

    name: str
    image: NDArray[np.uint8]
    target: NDArray[Any]


class Source(Protocol):
    """Where samples come from."""

    def __len__(self) -> int: ...

    def item(self, index: int, draws: np.random.Generator) -> Item:
        """The sample of picture `index` for these draws."""
        ...


class Samples:
    """The endless series of samples: each pass over the pictures in an order of its own."""

    def __init__(self, source: Source, seed: int) -> None:
        self.source = source
        self.seed = seed
        self._pass: tuple[int, NDArray[np.int64]] | None = None

    def __getitem__(self, number: int) -> Item | SegzooError:
        """Sample `number`; a fault of the data comes back as a value, for a worker would wrap it in a traceback."""
        draws = np.random.default_rng([self.seed, _AUGMENTATION, number])
        try:
            return self.source.item(self.picture(number), draws)
        except SegzooError as error:
            return error

    def picture(self, number: int) -> int:
        """The index of the picture that sample `number` is cut from."""
        turn, place = divmod(number, len(self.source))
        if self._pass is None or self._pass[0] != turn:
            order = np.random.default_rng([self.seed, _ORDER, turn]).permutation(len(self.source))
            self._pass = turn, order
        return int(self._pass[1][place])
