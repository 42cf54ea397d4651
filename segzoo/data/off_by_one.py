"""A self-test of the label policy: do the values of the files look like those that it was written for?

A wrong offset is the mistake that costs a published figure without any error: every class is taken for its neighbour.
"""

from __future__ import annotations

from typing import NamedTuple

from segzoo.data.listing import some
from segzoo.zoo import schema

_IGNORED_BYTE = 255


class Suspicion(NamedTuple):
    """What is odd about the values of a split's labels.

    Attributes:
        sentence: what it is.
        harmful: figures would be wrong; otherwise it is only strange.
    """

    sentence: str
    harmful: bool = True


def suspicions(values: dict[int, list[str]], entry: schema.Dataset) -> list[Suspicion]:
    """All that is suspicious about the values of a split's labels.

    Args:
        values: the labels (by name) that have each value of the files.
        entry: the data set with its policy.
    """
    policy, classes = entry.labels, len(entry.classes)
    if not values or entry.label_coding == "colours":
        return []
    found: list[Suspicion | None] = [_rewritten(values, entry)]
    if policy.mapping is None:
        found.append(_one_too_high(values, policy.first, classes))
    else:
        found.append(_training_ids(values, policy.mapping, classes))
    return [suspicion for suspicion in found if suspicion]


def _rewritten(values: dict[int, list[str]], entry: schema.Dataset) -> Suspicion | None:
    """Ignored values that published files do not have; 255 beside a missing last class means "reduced by one"."""
    published = entry.published_ignore
    strange = [
        value for value in entry.labels.ignore if published is not None and value not in published and value in values
    ]
    if not strange:
        return None
    what = f"the value {strange[0]} is in {len(values[strange[0]])} labels ({some(values[strange[0]])})"
    last = entry.labels.first + len(entry.classes) - 1
    if entry.labels.first == 1 and strange == [_IGNORED_BYTE] and 0 in values and last not in values:
        return Suspicion(
            f"{what}, which published ones never have, and {last}, the last class, is in none: these labels have "
            f"been reduced by one already (0 is {entry.classes[0]!r} in them); every class would be taken for its "
            "neighbour: use the labels as published"
        )
    return Suspicion(f"{what}, which published ones never have: something else has written these labels", harmful=False)


def _one_too_high(values: dict[int, list[str]], first: int, classes: int) -> Suspicion | None:
    beyond = first + classes
    if beyond in values and first not in values and max(value for value in values if value != _IGNORED_BYTE) == beyond:
        return Suspicion(
            f"the value {beyond} is in {len(values[beyond])} labels and {first} is in none: these labels are one too "
            f"high for a policy whose first class is {first}; correct `first` in the policy, or the labels"
        )
    return None


def _training_ids(values: dict[int, list[str]], mapping: dict[int, int], classes: int) -> Suspicion | None:
    """Where file values are mapped, a converted label has only 0..classes-1, among them values that are no classes."""
    ordinary = [value for value in values if value != _IGNORED_BYTE]
    no_classes = [value for value in ordinary if value not in mapping]
    if not ordinary or max(ordinary) >= classes or max(mapping) < classes or not no_classes:
        return None
    return Suspicion(
        f"no label has a value from {classes} to {max(mapping)}, and {no_classes[0]}, which is no class, is in "
        f"{len(values[no_classes[0]])}: these look like training ids (0 to {classes - 1}); use the labels as published"
    )
