"""The images of an evaluation, shared out among its processes: each counted once, by the first that is free."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from segzoo.data import Dataset, Pair
from segzoo.data.ahead import read_ahead
from segzoo.errors import SegzooError
from segzoo.evaluation.image_counts import ImageCounts
from segzoo.evaluation.kept import Kept
from segzoo.processes.endings import InterruptedRunError
from segzoo.processes.group import Group

Progress = Callable[[Iterable[Pair], int], Iterable[Pair]]


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What all processes have counted.

    Attributes:
        images: name and counts of every image, in the data set's order.
        resumed: how many of them an evaluation that was interrupted had counted.
    """

    images: list[tuple[str, ImageCounts]]
    resumed: int


@dataclass
class _Share:
    """What this process does: images it has taken and not finished, and counts of those that it has."""

    dataset: Dataset
    group: Group
    counts: dict[str, ImageCounts] = field(default_factory=dict)
    taken: dict[str, str] = field(default_factory=dict)

    def take(self, index: int) -> int:
        """Notes that the image is read now."""
        name = self.dataset.image_name(index)
        self.taken[name] = mark_of(self.dataset, index)
        # Read ahead, a faulty file may end the process while another image is worked on.
        self.group.doing(", ".join(self.taken))
        return index

    def finish(self, name: str, counts: ImageCounts, kept: Kept | None) -> None:
        """Notes what was counted in an image."""
        mark = self.taken.pop(name)
        self.counts[name] = counts
        if kept is not None:
            kept.add(name, mark, counts)


def count_images(
    dataset: Dataset,
    count: int,
    measure: Callable[[Pair], ImageCounts],
    group: Group,
    *,
    kept: Kept | None = None,
    resume: bool = False,
    workers: int = 1,
    progress: Progress | None = None,
) -> Counted:
    """Counts the first `count` images of a data set, each in one process; every process gets all counts.

    Args:
        measure: counts one image.
        kept: where counts are kept image by image; nowhere where None.
        resume: take over what is kept, and count the rest; else what is kept is thrown away first.
        workers: threads that read images ahead.
        progress: wraps this process's pairs, given with their expected number.

    Raises:
        InterruptedRunError: Ctrl-C or SIGTERM.
        SegzooError: the first that a process met; on all of them. What was done is kept.
    """
    _together(group, lambda: kept.begin(resume=resume) if kept is not None and group.main else None)
    before = _taken_over(dataset, count, kept) if kept is not None and resume else {}
    seen = group.gather(sorted(before))
    elsewhere = {name for names in seen[: group.rank] for name in names}
    share = _Share(dataset, group, {name: counts for name, counts in before.items() if name not in elsewhere})
    done = {name for names in seen for name in names}
    todo = [index for index in range(count) if dataset.image_name(index) not in done]
    with _ending_with_a_count(share, count, kept is not None):
        failure = _count_share(share, todo, measure, kept, workers, progress)
        answers = group.gather((share.counts, failure))
    _raise_first(
        [failure for _, failure in answers], sum(len(counts) for counts, _ in answers), count, kept is not None
    )
    everything = {name: counts for counts, _ in answers for name, counts in counts.items()}
    _raise_first([failure for _, failure in answers], len(everything), count, kept is not None)
    names = [dataset.image_name(index) for index in range(count)]
    return Counted(images=[(name, everything[name]) for name in names], resumed=len(done))


def mark_of(dataset: Dataset, index: int) -> str:
    """What tells the files of an image from others of its name, as far as the data set says."""
    mark: Callable[[int], str] | None = getattr(dataset, "pair_mark", None)
    return "" if mark is None else mark(index)


def _count_share(
    share: _Share,
    todo: list[int],
    measure: Callable[[Pair], ImageCounts],
    kept: Kept | None,
    workers: int,
    progress: Progress | None,
) -> SegzooError | None:
    """Counts images until none is left, here or anywhere; the error that stopped it."""
    group, series = share.group, share.group.new_series()
    indices: Iterator[int] = (share.take(todo[number]) for number in group.numbers(series, len(todo)))
    try:
        # Closed here, and not when the collector of garbage finds it, in whatever thread that may be.
        with closing(read_ahead(share.dataset, indices, workers)) as read:
            for pair in read if progress is None else progress(read, -(-len(todo) // group.size)):
                share.finish(pair.name, measure(pair), kept)
    except InterruptedRunError:
        raise
    except SegzooError as error:
        # The others need not go on with what will come to nothing.
        group.end_numbers(series, len(todo))
        return error
    return None


def _together(group: Group, action: Callable[[], None]) -> None:
    """Does something on every process; an error of one of them is an error of all."""
    failure = None
    try:
        action()
    except SegzooError as error:
        failure = error
    first = next((one for one in group.gather(failure) if one is not None), None)
    if first is not None:
        raise first


def _taken_over(dataset: Dataset, count: int, kept: Kept) -> dict[str, ImageCounts]:
    """What is kept of the first `count` images, as far as their files are those that were counted."""
    images = kept.images()
    wanted = ((dataset.image_name(index), index) for index in range(count))
    return {
        name: images[name][1] for name, index in wanted if name in images and images[name][0] == mark_of(dataset, index)
    }


def _raise_first(failures: list[SegzooError | None], done: int, count: int, kept: bool) -> None:
    first = next((failure for failure in failures if failure is not None), None)
    if first is not None:
        raise type(first)(f"{first}{_how_to_go_on(done, count, kept)}") from first


@contextmanager
def _ending_with_a_count(share: _Share, count: int, kept: bool) -> Iterator[None]:
    """Says how far the evaluation is when someone ends it."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as ending:
        if not kept:
            raise
        number = 2 if isinstance(ending, KeyboardInterrupt) else _signal_of(ending)
        if share.group.size == 1:
            words = f"interrupted{_how_to_go_on(len(share.counts), count, kept)}"
        else:
            words = "interrupted; the images that are done are kept, the same command with --resume continues"
        raise InterruptedRunError(words, number) from ending


def _signal_of(ending: SystemExit) -> int:
    """The signal's number in the exit code 128 + number, that of SIGTERM if there is none."""
    return ending.code - 128 if isinstance(ending.code, int) and ending.code > 128 else 15


def _how_to_go_on(done: int, count: int, kept: bool) -> str:
    told = f"; {done} of {count} images are done and kept, the same command with --resume continues"
    return told if kept and done else ""
