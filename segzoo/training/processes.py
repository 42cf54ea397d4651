"""Several training processes: joining them, adding up what they found, and starting them on one machine."""

from __future__ import annotations

import datetime
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from segzoo.device import pick_device
from segzoo.errors import UsageError
from segzoo.training.endings import PeerLostError

# Evaluation is split over the processes as well, so that none waits longer than for the slowest image.
_PATIENCE = datetime.timedelta(minutes=30)
_GRACE_S = 30.0
# How gloo says that the other side is gone.
_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")


@dataclass(frozen=True)
class Group:
    """The processes of a training; one process alone is a group too.

    Attributes:
        rank: this process's number; 0 writes files and speaks.
        size: number of processes.
        device: where this process computes.
    """

    rank: int
    size: int
    device: torch.device

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
        """Every process's value, in the order of ranks, on every process."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values


def world_size() -> int:
    """The number of processes that torchrun (or --nproc) started, 1 without them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def joined(device: str) -> Iterator[Group]:
    """This process's place in the group; torchrun's variables say which. Leaves the group in the end.

    Raises:
        UsageError: one CUDA device was named for several processes.
        UnavailableError: the device is not there.
    """
    size = world_size()
    if size == 1:
        yield Group(0, 1, pick_device(device))
        return
    if ":" in device:
        raise UsageError(f"--device {device} names one device for {size} processes; give cuda, and each takes its own")
    place = pick_device(device)
    if place.type == "cuda":
        place = pick_device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Group(dist.get_rank(), dist.get_world_size(), place)
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or any(word in str(error) for word in _LOST):
            raise PeerLostError(f"another process of the run has ended: {str(error).splitlines()[0]}") from error
        raise
    finally:
        dist.destroy_process_group()


def start_processes(count: int, words: list[str]) -> int:
    """Runs `segzoo WORDS` in `count` processes on this machine, as torchrun would; returns the exit code.

    Signals go on to all of them. The first that fails ends the others, and its code is the result.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    threads = str(max(1, (os.cpu_count() or 1) // count))
    children = []
    for rank in range(count):
        variables = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(count),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads),
        }
        # A session of its own: a Ctrl-C reaches a process once, through this one.
        children.append(
            subprocess.Popen(
                [sys.executable, "-m", "segzoo", *words], env={**os.environ, **variables}, start_new_session=True
            )
        )

    def pass_on(number: int, frame: object) -> None:
        for child in children:
            if child.poll() is None:
                child.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return _wait(children)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for child in children:
            child.kill()
            child.wait()


def _wait(children: list[subprocess.Popen[bytes]]) -> int:
    """The exit code of the first process that failed, or 0 when all are done; a killed one counts as 128 + signal."""
    failed, since = 0, 0.0
    while True:
        codes = [child.poll() for child in children]
        if not failed and (failed := next((code for code in codes if code), 0)):
            since = time.monotonic()
        if all(code is not None for code in codes) or (failed and time.monotonic() - since > _GRACE_S):
            return 128 - failed if failed < 0 else failed
        time.sleep(0.05)
