"""How sure a ratio of two medians is: bootstrap intervals that respect rounds of measurement."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
CONFIDENCE = 0.95


def ratio_interval(before: list[dict[str, Any]], after: list[dict[str, Any]], *, seed: int = 0) -> tuple[float, float]:
    """The 95 % bootstrap interval of median(after) / median(before).

    Samples of one round share what the machine did at that time. So rounds are drawn first, with
    replacement, and samples within each of them; without rounds that is the plain bootstrap (Efron, 1979).

    Args:
        before: rows with "latency_ms" and, where there are rounds, "round".
        after: see `before`.
        seed: of the draws; the same records give the same interval.
    """
    generator = np.random.default_rng(seed)
    ratios = _medians(after, generator) / _medians(before, generator)
    edge = (1 - CONFIDENCE) / 2
    low, high = np.quantile(ratios, [edge, 1 - edge])
    return float(low), float(high)


def _medians(rows: list[dict[str, Any]], generator: np.random.Generator) -> NDArray[np.float64]:
    """Medians of `RESAMPLES` draws from the rows."""
    by_round: dict[Any, list[float]] = {}
    for row in rows:
        by_round.setdefault(row.get("round"), []).append(row["latency_ms"])
    counts = np.array([len(samples) for samples in by_round.values()])
    padded = np.zeros((len(counts), counts.max()))
    for index, samples in enumerate(by_round.values()):
        padded[index, : len(samples)] = samples
    drawn = generator.integers(len(counts), size=(RESAMPLES, len(counts)))
    each = max(round(counts.mean()), 1)
    places = generator.random((RESAMPLES, len(counts), each)) * counts[drawn][..., None]
    values = padded[drawn[..., None], places.astype(np.int64)]
    return np.median(values.reshape(RESAMPLES, -1), axis=1)
