"""Reads pairs in threads ahead of their use, in order and never more than a few at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from segzoo.data.dataset import Dataset, Pair, read_pair

T = TypeVar("T")
R = TypeVar("R")


def read_ahead(dataset: Dataset, indices: Iterable[int], workers: int) -> Generator[Pair, None, None]:
    """The pairs at these indices, in order; an index is taken when its pair begins to be read.

    Decoding leaves Python's lock alone, so that threads are enough to read while a network runs.
    Memory holds at most two pairs a worker beside the one in use.

    Args:
        dataset: where to read.
        indices: places in the data set.
        workers: threads that read; 0 reads each pair when it is asked for.

    Raises:
        DatasetError: a pair that cannot be read, when its turn comes.
    """
    yield from in_order(partial(read_pair, dataset), indices, workers)


def in_order(function: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """`function` of every item in order, computed in threads ahead of its use.

    Args:
        function: what leaves Python's lock alone most of the time.
        items: its arguments.
        workers: threads; 0 computes each result when it is asked for.
    """
    if workers == 0:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="segzoo-reader")
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
