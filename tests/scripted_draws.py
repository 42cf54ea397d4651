"""Random sources for fixed-draw cases: numpy's old generator in the terms of `Draws`, and a list of values."""

from __future__ import annotations

import numpy as np


class SeededDraws:
    """numpy.random.seed(seed) and its functions, as the published pipeline calls them."""

    def __init__(self, seed: int) -> None:
        self.state = np.random.RandomState(seed)

    def random(self) -> float:
        return float(self.state.random_sample())

    def integers(self, low: int, high: int) -> int:
        return int(self.state.randint(low, high))

    def uniform(self, low: float, high: float) -> float:
        return float(self.state.uniform(low, high))


class ListedDraws:
    """Gives the values of a list one after the other, whatever is asked for."""

    def __init__(self, values: list[float]) -> None:
        self.values = list(values)

    def _next(self, *bounds: float) -> float:
        return self.values.pop(0)

    random = uniform = integers = _next
