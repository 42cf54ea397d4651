"""The unfinished file of a download: what is there already and from which version of which address. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from segzoo.results import write_text_atomically


class _Origin(msgspec.Struct, frozen=True):
    """Where the bytes came from; `validator` is the server's ETag or date of that version."""

    url: str
    validator: str


@dataclass(frozen=True)
class Partial:
    """The unfinished file beside its target. The caller holds the target's lock."""

    path: Path

    @classmethod
    def beside(cls, target: Path) -> Partial:
        """The unfinished file for a target."""
        return cls(target.with_name(target.name + ".partial"))

    @property
    def origin_path(self) -> Path:
        """The JSON that says where the bytes came from."""
        return self.path.with_name(self.path.name + ".json")

    @property
    def size(self) -> int:
        """Bytes that are there, 0 where there is no file."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def resumable(self, url: str) -> tuple[int, str | None]:
        """(bytes to go on from, the version they belong to) for an address; (0, None) to begin anew.

        A server that names no version could have changed the file since: then nothing is resumed.
        """
        try:
            origin = msgspec.json.decode(self.origin_path.read_bytes(), type=_Origin)
        except (OSError, msgspec.DecodeError):
            return 0, None
        if origin.url != url or self.size == 0:
            return 0, None
        return self.size, origin.validator

    def begin(self, url: str, validator: str | None) -> None:
        """Drops what is there and notes the version that will be written."""
        self.discard()
        if validator is not None:
            write_text_atomically(self.origin_path, msgspec.json.encode(_Origin(url, validator)).decode())

    def discard(self) -> None:
        """Removes the unfinished file and its note."""
        self.path.unlink(missing_ok=True)
        self.origin_path.unlink(missing_ok=True)
