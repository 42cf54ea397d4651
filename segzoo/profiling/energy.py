"""Energy counters of a device: NVIDIA's management library for GPUs, RAPL for Intel and AMD processors."""

from __future__ import annotations

import contextlib
import ctypes
import functools
from pathlib import Path

import torch

_POWERCAP = Path("/sys/class/powercap")


class EnergyMeter:
    """Joules that a device has used since the meter was made.

    Of a CPU that is the energy of all its packages, idle power and other processes included.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before = self._joules()

    @property
    def available(self) -> bool:
        """Whether the device tells."""
        return self._before is not None

    def read(self) -> float | None:
        """Joules so far; None where the device does not tell, or its counter has begun anew."""
        now = self._joules()
        if now is None or self._before is None or now < self._before:
            return None
        return now - self._before

    def _joules(self) -> float | None:
        if self._device.type == "cuda":
            return _gpu_joules(self._device.index or 0)
        return _package_joules() if self._device.type == "cpu" else None


def _package_joules() -> float | None:
    """The sum of the packages' counters; only root may read them on most systems."""
    total = 0
    files = sorted(_POWERCAP.glob("intel-rapl:[0-9]/energy_uj"))
    try:
        for file in files:
            total += int(file.read_text())
    except (OSError, ValueError):
        return None
    return total / 1e6 if files else None


def _gpu_joules(index: int) -> float | None:
    library = _management_library()
    if library is None:
        return None
    handle, millijoules = ctypes.c_void_p(), ctypes.c_ulonglong()
    uuid = str(torch.cuda.get_device_properties(index).uuid)
    # By UUID, because CUDA_VISIBLE_DEVICES renumbers torch's devices and not the library's.
    name = f"GPU-{uuid}".encode()
    if library.nvmlDeviceGetHandleByUUID(name, ctypes.byref(handle)):
        return None
    if library.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules)):
        return None
    return millijoules.value / 1e3


@functools.cache
def _management_library() -> ctypes.CDLL | None:
    with contextlib.suppress(OSError):
        library = ctypes.CDLL("libnvidia-ml.so.1")
        if library.nvmlInit_v2() == 0:
            return library
    return None
