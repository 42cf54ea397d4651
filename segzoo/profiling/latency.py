"""Times a model: warm-up until steady, every sample synchronised and kept.

Warm-up is over when the median of the last `WINDOW` calls is within `STEADY` of the median of the `WINDOW`
before them and at least `WARM_UP_S` seconds have passed; it is given up after `WARM_UP_LIMIT_S`, and the
result says so.
"""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from torch import nn

from segzoo import kernels
from segzoo.device import plain_errors, precision, synchronize
from segzoo.errors import SegzooError, UsageError
from segzoo.inference import Network, predict_with
from segzoo.profiling.energy import EnergyMeter
from segzoo.profiling.memory import PeakMemory, available_bytes
from segzoo.profiling.operations import count_operations
from segzoo.protocol import Protocol

WINDOW = 5
SLOW_CALL_MS = 500.0
SLOW_WINDOW = 2
"""Calls of a window where one takes longer than `SLOW_CALL_MS`: they need no more to be past caches and allocators."""
STEADY = 0.05
WARM_UP_S = 0.5
WARM_UP_LIMIT_S = 15.0
ENOUGH_SAMPLES = 100
ENOUGH_S = 10.0
FEWEST_SAMPLES = 10

Scope = Literal["model", "protocol"]


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Measured times of one model under fixed conditions.

    Attributes:
        samples_ms: every timed call, in order.
        first_call_ms: the very first call, which may hold one-time work such as compilation.
        warm_up_calls: calls before the samples, the first one included.
        steady: whether the warm-up became steady.
        batch_size: images in a call.
        threads: of PyTorch on the CPU.
        peak_memory_bytes: highest use of memory during warm-up and samples.
        memory_scope: what that number covers.
        energy_joules: used by the device during the samples; None where it does not tell.
    """

    samples_ms: list[float]
    first_call_ms: float
    warm_up_calls: int
    steady: bool
    batch_size: int
    threads: int
    peak_memory_bytes: int
    memory_scope: str
    energy_joules: float | None = None

    def quantile_ms(self, fraction: float) -> float:
        """The quantile of the samples, with linear interpolation between neighbours."""
        return float(np.quantile(self.samples_ms, fraction))

    @property
    def energy_joules_per_image(self) -> float | None:
        """Joules of one image, None where the device does not tell."""
        images = self.batch_size * len(self.samples_ms)
        return None if self.energy_joules is None else self.energy_joules / images

    @property
    def images_per_second(self) -> float:
        """Images in a second at the median."""
        return 1000.0 * self.batch_size / self.quantile_ms(0.5)


def measure_latency(
    model: nn.Module,
    shape: tuple[int, int],
    *,
    batch_size: int = 1,
    device: torch.device | str = "cpu",
    dtype: str = "fp32",
    threads: int | None = None,
    scope: Scope = "model",
    protocol: Protocol | None = None,
    repetitions: int | None = None,
    compile: bool = False,
    channels_last: bool = False,
) -> Latency:
    """Times `model`, which is moved to `device` and put into evaluation mode.

    Args:
        model: any module that takes one image batch.
        shape: input (height, width) in pixels; for scope "protocol" that of the picture.
        batch_size: images in a call.
        device: where to run.
        dtype: "fp32", "tf32", "bf16" or "fp16", as in `segzoo.device.precision`.
        threads: of PyTorch on the CPU; unchanged where None.
        scope: "model" times the network on a ready batch, "protocol" a picture through reading-free
            preprocessing, network and postprocessing.
        protocol: for scope "protocol"; `Protocol()` where None.
        repetitions: timed calls; where None, calls are timed until there are 100 or 10 s have passed,
            and at least 10.
        compile: run the model through torch.compile.
        channels_last: keep images and weights with the channels innermost.

    Raises:
        UsageError: a shape that the model cannot take, or words that do not fit together.
        SegzooError: not enough memory.
    """
    device = torch.device(device)
    if scope == "protocol" and batch_size != 1:
        raise UsageError("scope protocol is measured one picture at a time; leave out the batch size")
    _demand_memory(model, (batch_size, 3, *shape), device, dtype)
    model = _prepared(model, device, compile, channels_last)
    if scope == "protocol":
        call = _protocol_call(model, shape, protocol or Protocol(), device, dtype)
    else:
        call = _network_call(model, (batch_size, 3, *shape), device, dtype, channels_last)
    kernels.load(device)
    words = f"a batch of {batch_size} at {shape[0]}x{shape[1]}"
    with _threads(threads), torch.inference_mode(), plain_errors(words, smaller="shape"):
        peak = PeakMemory(device)
        first, warm_up, steady = _warm_up(call, device)
        energy = EnergyMeter(device)
        samples = _sample(call, device, repetitions)
        joules = energy.read()
        return Latency(
            samples_ms=samples,
            first_call_ms=first,
            warm_up_calls=1 + len(warm_up),
            steady=steady,
            batch_size=batch_size,
            threads=torch.get_num_threads(),
            peak_memory_bytes=peak.read(),
            memory_scope=peak.scope,
            energy_joules=joules,
        )


def _prepared(model: nn.Module, device: torch.device, compile: bool, channels_last: bool) -> nn.Module:
    model = model.eval().to(device)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    return cast(nn.Module, torch.compile(model)) if compile else model


def _network_call(
    model: nn.Module, shape: tuple[int, ...], device: torch.device, dtype: str, channels_last: bool
) -> Callable[[], object]:
    image = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    if channels_last:
        image = image.contiguous(memory_format=torch.channels_last)

    def call() -> object:
        with precision(device, dtype):
            return model(image)

    return call


def _protocol_call(
    model: nn.Module, shape: tuple[int, int], protocol: Protocol, device: torch.device, dtype: str
) -> Callable[[], object]:
    network = Network(model, device=device, dtype=dtype)
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    return lambda: predict_with(network, image, protocol)


def _timed(call: Callable[[], object], device: torch.device) -> float:
    """Milliseconds of one call, from idle device to idle device."""
    synchronize(device)
    begin = time.perf_counter()
    call()
    synchronize(device)
    return 1000.0 * (time.perf_counter() - begin)


def _warm_up(call: Callable[[], object], device: torch.device) -> tuple[float, list[float], bool]:
    """The first call, the later calls in milliseconds, and whether they became steady."""
    first = _timed(call, device)
    begin = time.perf_counter()
    times: list[float] = []
    while (passed := time.perf_counter() - begin) < WARM_UP_LIMIT_S:
        times.append(_timed(call, device))
        window = SLOW_WINDOW if min(times) > SLOW_CALL_MS else WINDOW
        if len(times) >= 2 * window and passed >= WARM_UP_S:
            before, now = statistics.median(times[-2 * window : -window]), statistics.median(times[-window:])
            if abs(now - before) <= STEADY * before:
                return first, times, True
    return first, times, False


def _sample(call: Callable[[], object], device: torch.device, repetitions: int | None) -> list[float]:
    if repetitions is not None:
        return [_timed(call, device) for _ in range(repetitions)]
    begin = time.perf_counter()
    samples: list[float] = []
    while len(samples) < FEWEST_SAMPLES or (len(samples) < ENOUGH_SAMPLES and time.perf_counter() - begin < ENOUGH_S):
        samples.append(_timed(call, device))
    return samples


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _demand_memory(model: nn.Module, shape: tuple[int, ...], device: torch.device, dtype: str) -> None:
    """Refuses at once what would exhaust the memory, where the system would rather end the process."""
    available = available_bytes(device)
    needed = 4 * math.prod(shape)
    with contextlib.suppress(UsageError):  # the run itself will say what does not fit
        needed = max(needed, count_operations(model, shape).largest_call_bytes)
    if dtype in ("bf16", "fp16"):
        needed //= 2
    if available is not None and needed > available:
        raise SegzooError(
            f"an input of {'x'.join(map(str, shape))} needs at least {needed / 2**30:.1f} GiB on {device}, "
            f"which has {available / 2**30:.1f} GiB left; use a smaller shape or batch size"
        )
