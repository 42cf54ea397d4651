"""Reads pairs in threads ahead of their use, in order and never more than a few at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from segzoo.data.dataset import Dataset, Pair, read_pair


def read_ahead(dataset: Dataset, count: int, workers: int) -> Iterator[Pair]:
    """The first `count` pairs in order.

    Decoding leaves Python's lock alone, so that threads are enough to read while a network runs.
    Memory holds at most two pairs a worker beside the one in use.

    Args:
        dataset: where to read.
        count: number of pairs.
        workers: threads that read; 0 reads each pair when it is asked for.

    Raises:
        DatasetError: a pair that cannot be read, when its turn comes.
    """
    if workers == 0:
        yield from (read_pair(dataset, index) for index in range(count))
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="segzoo-reader")
    waiting: deque[Future[Pair]] = deque()
    try:
        for index in range(count):
            waiting.append(pool.submit(read_pair, dataset, index))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
