"""What an evaluation has counted so far, kept on disk image by image, so that an interrupted one can be continued.

A folder for each set of conditions holds conditions.json and a file of lines for each process that worked on it: an
image's name, what tells its files from others of that name, and its counts. A line is appended when its image is
done, and one that was cut off is worth nothing and costs its image alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from segzoo.errors import IntegrityError, SegzooError, UsageError
from segzoo.evaluation.image_counts import ImageCounts, as_words, from_words
from segzoo.results import write_text_atomically

FORMAT = 1
_CONDITIONS = "conditions.json"
_SHOWN = 3

Conditions = dict[str, Any]


class Kept:
    """The counts of one evaluation's images in a folder.

    Attributes:
        folder: below `parent`; its name says model and data set and has a hash of the conditions.
    """

    def __init__(self, parent: Path, conditions: Conditions, *, rank: int = 0) -> None:
        """Nothing is read or written yet.

        Args:
            parent: the folder of all evaluations.
            conditions: all that changes what is counted in an image, plain JSON; "model", "dataset" and
                "split" give the folder its name.
            rank: the number of this process among those that evaluate.
        """
        text = json.dumps({"format": FORMAT, **_flat(conditions)}, sort_keys=True)
        self.parent, self.conditions = parent, json.loads(text)
        self.folder = parent / f"{_title(conditions)}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        self._file = self.folder / f"images-{rank}.jsonl"
        self._lock_file = parent / f"{self.folder.name}.lock"
        self._lock: FileLock | None = None
        self._descriptor: int | None = None

    def begin(self, *, resume: bool) -> None:
        """Takes the folder for this evaluation; empties it unless it is to be continued.

        Raises:
            UsageError: another evaluation is in it; or `resume`, and what is kept of this model and data set was
                counted under other conditions.
            SegzooError: the folder cannot be made or written.
        """
        if resume and not (self.folder / _CONDITIONS).exists():
            self._refuse_others()
        try:
            self.parent.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self._lock_file)
            self._lock.acquire(timeout=0)
            if not resume:
                shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(exist_ok=True)
        except Timeout:
            self._lock = None
            raise UsageError(f"{self.folder} is in use: the same evaluation runs already; wait for its end") from None
        except OSError as error:
            raise SegzooError(
                f"cannot keep an evaluation in {self.folder}: {error.strerror}; set SEGZOO_HOME to another folder"
            ) from error
        write_text_atomically(self.folder / _CONDITIONS, json.dumps(self.conditions, indent=2) + "\n")

    def images(self) -> dict[str, tuple[str, ImageCounts]]:
        """Of every image that is done: what told its files from others, and its counts."""
        done: dict[str, tuple[str, ImageCounts]] = {}
        for file in sorted(self.folder.glob("images-*.jsonl")):
            for line in file.read_bytes().splitlines():
                # A line that was cut off is no line.
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    words = json.loads(line)
                    done[words["image"]] = words["mark"], from_words(words["counts"])
        return done

    def add(self, image: str, mark: str, counts: ImageCounts) -> None:
        """Appends an image.

        Raises:
            SegzooError: the disk is full or read-only.
        """
        line = json.dumps({"image": image, "mark": mark, "counts": as_words(counts)}) + "\n"
        try:
            if self._descriptor is None:
                self._descriptor = self._opened()
            # One call for the whole line: a process that is killed writes it or does not.
            os.write(self._descriptor, line.encode())
        except OSError as error:
            raise SegzooError(f"cannot write {self._file}: {error.strerror}") from error

    def _opened(self) -> int:
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            os.write(descriptor, b"\n")
        return descriptor

    def close(self) -> None:
        """Ends the writing; what was counted stays."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def remove(self) -> None:
        """Deletes what was kept: the evaluation is done, or was in vain."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._lock_file.unlink()

    def _refuse_others(self) -> None:
        others = list(_of_the_same(self.parent, self.conditions))
        if not others:
            return
        # The one that differs least is the one that was meant.
        path, before = min(others, key=lambda other: len(_different(other[1], self.conditions)))
        keys = _different(before, self.conditions)
        shown = ", ".join(
            f"{key} {_word(before.get(key))} (now {_word(self.conditions.get(key))})" for key in keys[:_SHOWN]
        )
        more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
        raise UsageError(
            f"nothing to resume: the evaluation of {self.conditions['model']} that was interrupted had {shown}{more} "
            f"({path}); give the same words, or leave out --resume to begin anew"
        )


class Keeper:
    """Where the evaluations of a command are kept, all of them until the last is done.

    Attributes:
        folder: of all evaluations.
        resume: go on with what is kept in place of beginning anew.
    """

    def __init__(self, folder: Path, *, resume: bool = False) -> None:
        self.folder, self.resume = folder, resume
        self._opened: list[Kept] = []

    @contextlib.contextmanager
    def opened(self, conditions: Conditions, *, rank: int) -> Iterator[Kept]:
        """The place of one evaluation; it is given free at the end of the body, and what was counted stays."""
        kept = Kept(self.folder, conditions, rank=rank)
        self._opened.append(kept)
        try:
            yield kept
        finally:
            kept.close()

    def remove_all(self) -> None:
        """Deletes what was kept of evaluations that are done."""
        for kept in self._opened:
            kept.remove()


@contextlib.contextmanager
def keeping(folder: Path, *, resume: bool = False) -> Iterator[Keeper]:
    """Keeps the evaluations of the body below `folder` until it ends; if it ends by an error, beyond that."""
    keeper = Keeper(folder, resume=resume)
    yield keeper
    keeper.remove_all()


def _flat(conditions: Conditions) -> Conditions:
    """Words in words by their joint name, "protocol.scale", so that each can be told to differ."""
    flat: Conditions = {}
    for key, value in conditions.items():
        inner = (
            {f"{key}.{word}": part for word, part in _flat(value).items()} if isinstance(value, dict) else {key: value}
        )
        flat.update(inner)
    return flat


def _title(conditions: Conditions) -> str:
    words = "-".join(str(conditions[key]) for key in ("model", "dataset", "split"))
    return "".join(letter if letter.isalnum() or letter in "-_.+" else "-" for letter in words)[-100:].lstrip("-.")


def _of_the_same(parent: Path, conditions: Conditions) -> Iterator[tuple[Path, Conditions]]:
    for file in sorted(parent.glob(f"{_title(conditions)}-*/{_CONDITIONS}")):
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise IntegrityError(f"{file} cannot be read ({error}); delete the folder {file.parent}") from error
        if all(before.get(key) == conditions[key] for key in ("model", "dataset", "split")):
            yield file.parent, before


def _different(before: Conditions, now: Conditions) -> list[str]:
    return [key for key in {**before, **now} if before.get(key) != now.get(key)]


def _word(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
