"""Several processes that do one job: joining them, adding up what they found, handing out work."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import torch
import torch.distributed as dist

from segzoo import paths
from segzoo.device import pick_device
from segzoo.errors import UsageError
from segzoo.processes.endings import PeerLostError

# torch.distributed's key-value store; its type is not exported.
Store = Any
# Work is split so that none waits longer than for the slowest image.
_PATIENCE = datetime.timedelta(minutes=30)
# How gloo and the store say that the other side is gone.
_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Connection was likely closed")


@dataclass(frozen=True)
class Group:
    """The processes of a job; one process alone is a group too.

    Attributes:
        rank: this process's number; 0 writes files and speaks.
        size: number of processes.
        device: where this process computes.
        store: words that all processes see; None for one process alone.
    """

    rank: int
    size: int
    device: torch.device
    store: Store | None = None
    _numbered: Iterator[int] = field(default_factory=count, repr=False)

    @property
    def main(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def total(self, values: list[float]) -> list[float]:
        """The sums of the values over all processes, in float64, on every process."""
        if self.size == 1:
            return values
        # MPS has no float64, and no groups either.
        sums = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(sums)
        return sums.tolist()

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, in the order of ranks, on every process.

        Raises:
            PeerLostError: names the processes that ended before they had a value to give.
        """
        if self.size == 1:
            return [value]
        meeting = f"meeting/{next(self._numbered)}"
        self._set(f"{meeting}/{self.rank}", "here")
        values: list[Any] = [None] * self.size
        try:
            dist.all_gather_object(values, value)
        except RuntimeError as error:
            raise PeerLostError(self._who_is_missing(meeting)) from error
        return values

    def new_series(self) -> str:
        """A word for a piece of work, the same on every process when all ask for it in the same order."""
        return f"series/{next(self._numbered)}"

    def numbers(self, series: str, end: int) -> Iterator[int]:
        """0, 1, ... end - 1 of a new series, each to one process only: to the one that is the first to ask for it."""
        if self.store is None:
            yield from range(end)
            return
        while (number := self.store.add(series, 1) - 1) < end:
            yield number

    def end_numbers(self, series: str, end: int) -> None:
        """No process gets another number of the series."""
        if self.store is not None:
            self.store.add(series, end)

    def doing(self, what: str) -> None:
        """Leaves word of what this process does now, for the one that has to say where it died."""
        self._set(doing_key(self.rank), what)

    def first_to_say(self, message: str) -> bool:
        """True for one process of those that want to say the same."""
        if self.store is None:
            return True
        try:
            return self.store.add(f"said/{message}", 1) == 1
        except RuntimeError:
            # Whoever kept the words is gone.
            return self.main

    def _set(self, key: str, value: str) -> None:
        if self.store is not None:
            self.store.set(key, value)

    def _who_is_missing(self, meeting: str) -> str:
        assert self.store is not None
        try:
            missing = [rank for rank in range(self.size) if not self.store.check([f"{meeting}/{rank}"])]
            at = {rank: self.store.get(doing_key(rank)).decode() for rank in missing if self._left_word(rank)}
        except RuntimeError:
            missing, at = [0], {}
        named = [
            f"process {rank} of {self.size}" + (f" (at work on {at[rank]})" if rank in at else "") for rank in missing
        ]
        return f"{' and '.join(named) or 'another process'} ended before its share was done; the others stop"

    def _left_word(self, rank: int) -> bool:
        return self.store is not None and self.store.check([doing_key(rank)])


def doing_key(rank: int) -> str:
    """Where a process leaves word of what it does."""
    return f"doing/{rank}"


def world_size() -> int:
    """The number of processes that torchrun (or --nproc) started, 1 without them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def joined(device: str, *, backend: str | None = None) -> Iterator[Group]:
    """This process's place in the group; torchrun's variables say which. Leaves the group in the end.

    Args:
        backend: of torch.distributed; what suits the device where None.

    Raises:
        UsageError: one CUDA device was named for several processes.
        UnavailableError: the device is not there.
        PeerLostError: another process has ended.
    """
    size = world_size()
    if size == 1:
        yield Group(0, 1, pick_device(device))
        return
    if ":" in device:
        raise UsageError(f"--device {device} names one device for {size} processes; give cuda, and each takes its own")
    place = pick_device(device)
    if place.type == "cuda":
        place = pick_device(f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}")
        torch.cuda.set_device(place)
    store, rank = _store(), int(os.environ["RANK"])
    backend = backend or ("nccl" if place.type == "cuda" else "gloo")
    dist.init_process_group(backend, store=_prefixed("group", store), rank=rank, world_size=size, timeout=_PATIENCE)
    try:
        yield Group(rank, size, place, words_of_all(store))
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or any(word in str(error) for word in _LOST):
            raise PeerLostError(f"another process of the run has ended: {str(error).splitlines()[0]}") from error
        raise
    finally:
        dist.destroy_process_group()


def own_store() -> Store:
    """A store in this process, on a port that the system chooses (`store.port`)."""
    return dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]


def words_of_all(store: Store) -> Store:
    """The part of a store that a group uses."""
    return _prefixed("segzoo", store)


def _prefixed(prefix: str, store: Store) -> Store:
    return dist.PrefixStore(prefix, store)  # type: ignore[attr-defined]


def _store() -> Store:
    """The words that the processes share: of --nproc's parent, else as torchrun's variables say."""
    if (place := paths.shared_store()) is not None:
        return dist.TCPStore(*place, is_master=False, timeout=_PATIENCE)  # type: ignore[attr-defined]
    from torch.distributed.rendezvous import rendezvous

    return next(iter(rendezvous("env://", timeout=_PATIENCE)))[0]
