"""Peak and available memory of a device, in bytes."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import sys
from pathlib import Path

import torch

from segzoo.errors import UnavailableError

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class PeakMemory:
    """The highest use of memory since it was made.

    On CUDA that is what PyTorch allocated for tensors; elsewhere it is the resident memory of the whole
    process, Python and libraries included. Where the kernel does not let the mark be reset, it is the
    peak since the process began.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            hand_back_freed()
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")

    @property
    def scope(self) -> str:
        """What the number covers."""
        return "tensors on the device" if self._device.type == "cuda" else "resident memory of the process"

    def read(self) -> int:
        """The peak so far in bytes."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        with contextlib.suppress(OSError):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def hand_back_freed() -> None:
    """Gives memory that malloc keeps after it was freed back to the system, so that it counts for nobody."""
    with contextlib.suppress(OSError, AttributeError):  # glibc's own
        ctypes.CDLL(None).malloc_trim(0)


def resident_bytes() -> int:
    """Memory of this process that is in the machine's memory now.

    Raises:
        UnavailableError: the system does not say (only Linux does).
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError as error:
        raise UnavailableError(f"this system does not tell a process its memory: {error}") from error
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def available_bytes(device: torch.device) -> int | None:
    """Memory that can still be had on the device, what malloc keeps included; None where the system does not say."""
    if device.type == "cuda":
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reserved
    hand_back_freed()
    known = [size for size in (_available_on_machine(), *map(_number_in, _CGROUP_LIMITS)) if size]
    return min(known, default=None)


def _available_on_machine() -> int | None:
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _number_in(path: str) -> int | None:
    """The limit of the control group; the word "max" means none."""
    with contextlib.suppress(OSError, ValueError):
        return int(Path(path).read_text())
    return None
