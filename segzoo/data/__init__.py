"""Data sets: reading files, label policies, and one interface for folders of pairs and the drawn `scenes`."""

from segzoo.data.dataset import Dataset, Pair, read_pair
from segzoo.data.open import open_dataset
from segzoo.data.policy import IGNORE, ignore_value
from segzoo.data.read import read_image, read_label

__all__ = ["IGNORE", "Dataset", "Pair", "ignore_value", "open_dataset", "read_image", "read_label", "read_pair"]
