"""The state of the machine around a measurement: clocks, governor, load, and how much other work it did."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

BUSY_PERCENT = 10.0
"""From here on a machine counts as busy with other work."""

_PROCESSORS = Path("/sys/devices/system/cpu")
_GPU_QUERY = {
    "gpu_utilization_percent": "utilization.gpu",
    "gpu_clock_mhz": "clocks.sm",
    "gpu_clock_max_mhz": "clocks.max.sm",
    "gpu_temperature_celsius": "temperature.gpu",
    "gpu_power_watts": "power.draw",
    "gpu_memory_used_mib": "memory.used",
}


def processor_state() -> dict[str, float | str]:
    """Load average, governor and clock of the processor; what the system does not say is absent."""
    state: dict[str, float | str] = {}
    with contextlib.suppress(OSError):
        state["load_average"] = os.getloadavg()[0]
    with contextlib.suppress(OSError):
        state["governor"] = (_PROCESSORS / "cpu0/cpufreq/scaling_governor").read_text().strip()
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        clocks = [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
        state["cpu_mhz"] = sum(clocks) / len(clocks)
    return state


def gpu_state(index: int = 0) -> dict[str, float]:
    """What nvidia-smi says about a GPU; {} without it."""
    words = ["nvidia-smi", f"--id={index}", f"--query-gpu={','.join(_GPU_QUERY.values())}"]
    try:
        answer = subprocess.run(
            [*words, "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    state = {}
    for key, value in zip(_GPU_QUERY, answer.stdout.strip().split(","), strict=False):
        with contextlib.suppress(ValueError):  # a card says [N/A] to what it has no sensor for
            state[key] = float(value)
    return state


@dataclass
class OtherWork:
    """Measures what share of the processor went to other processes since it was made.

    The machine's busy time, less that of this process and of its children that have ended.
    """

    _machine: tuple[float, float] | None = field(default_factory=lambda: _machine_seconds())
    _own: float = field(default_factory=lambda: _own_seconds())

    def percent(self) -> float | None:
        """0 to 100 of all cores together; None where the system does not say."""
        now = _machine_seconds()
        if now is None or self._machine is None or now[1] <= self._machine[1]:
            return None
        busy, total = now[0] - self._machine[0], now[1] - self._machine[1]
        return 100.0 * min(max(busy - (_own_seconds() - self._own), 0.0) / total, 1.0)


def _own_seconds() -> float:
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def _machine_seconds() -> tuple[float, float] | None:
    """(busy, total) seconds of all cores since the start of the system."""
    try:
        # user nice system idle iowait irq softirq steal; time stolen by other guests is other work too
        ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return None
    rate = os.sysconf("SC_CLK_TCK")
    idle = ticks[3] + ticks[4]
    return (sum(ticks) - idle) / rate, sum(ticks) / rate
