"""What a finished preparation leaves in the data set's folder, so that it is recognised and not done again."""

from __future__ import annotations

from pathlib import Path

import msgspec

from segzoo.errors import DatasetError
from segzoo.results import write_text_atomically

FILE = ".segzoo-prepared.json"


class State(msgspec.Struct, frozen=True, kw_only=True):
    """A finished preparation.

    Attributes:
        dataset: its name in the manifest.
        pairs: number of pairs of every split.
        archives: SHA-256 of the archives it was made of, by name.
        date: UTC, ISO 8601.
        version: of segzoo.
    """

    dataset: str
    pairs: dict[str, int]
    archives: dict[str, str]
    date: str
    version: str


def read_state(target: Path) -> State | None:
    """The state of a data set's folder, None where there is none.

    Raises:
        DatasetError: there is one that cannot be read.
    """
    place = target / FILE
    try:
        return msgspec.json.decode(place.read_bytes(), type=State)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise DatasetError(f"{place} cannot be read ({error}); delete it and prepare again") from error


def write_state(target: Path, state: State) -> None:
    """Writes the state, atomically."""
    write_text_atomically(target / FILE, msgspec.json.format(msgspec.json.encode(state)).decode() + "\n")
