"""Latency: what is timed, when warm-up ends, and what impossible requests say."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

from segzoo.errors import SegzooError, UnavailableError, UsageError
from segzoo.profiling import latency
from segzoo.profiling.latency import measure_latency
from segzoo.profiling.memory import available_bytes
from segzoo.profiling.operations import count_operations

CPU = torch.device("cpu")


class Sleeper(nn.Module):
    """Takes 10 ms a call, and 60 ms the first time."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.modes = set()

    def forward(self, image):
        if image.device.type == "meta":
            return image
        time.sleep(0.06 if self.calls == 0 else 0.01)
        self.calls += 1
        self.modes.add((self.training, torch.is_grad_enabled(), torch.get_num_threads(), image.shape))
        return image


def test_samples_are_the_calls_after_warm_up_and_the_first_call_stands_apart():
    model = Sleeper()
    threads = torch.get_num_threads()
    result = measure_latency(model, (4, 6), batch_size=2, repetitions=7, threads=1)
    assert len(result.samples_ms) == 7
    assert model.calls == result.warm_up_calls + 7
    assert result.first_call_ms >= 60 and 10 <= result.quantile_ms(0.5) < 60
    assert result.images_per_second == pytest.approx(2000 / result.quantile_ms(0.5))
    assert model.modes == {(False, False, 1, torch.Size([2, 3, 4, 6]))}
    assert torch.get_num_threads() == threads


def test_quantiles_interpolate_between_samples():
    result = latency.Latency(
        samples_ms=[4.0, 1.0, 3.0, 2.0],
        first_call_ms=9.0,
        warm_up_calls=1,
        steady=True,
        batch_size=1,
        threads=1,
        peak_memory_bytes=0,
        memory_scope="",
    )
    assert [result.quantile_ms(q) for q in (0.0, 0.5, 0.9, 1.0)] == pytest.approx([1.0, 2.5, 3.7, 4.0])


def scripted(monkeypatch, durations_s):
    """Replaces the clock: each call takes the next of the durations."""
    now = [0.0]
    pending = iter(durations_s)

    def call() -> None:
        now[0] += next(pending)

    monkeypatch.setattr(latency.time, "perf_counter", lambda: now[0])
    return call


def test_warm_up_ends_when_two_windows_agree(monkeypatch):
    falling = [1.0, *(0.5 - 0.04 * step for step in range(10))]
    call = scripted(monkeypatch, itertools.chain(falling, itertools.repeat(0.1)))
    first, times, steady = latency._warm_up(call, CPU)
    assert steady and first == pytest.approx(1000.0)
    # The earlier window's median is 0.1 s once three of its five calls are.
    assert len(times) == 10 + 3 + 5
    assert times[-8:] == pytest.approx([100.0] * 8)


def test_slow_calls_are_warm_after_two_windows_of_two(monkeypatch):
    call = scripted(monkeypatch, itertools.chain([4.0, 2.0], itertools.repeat(1.5)))
    first, times, steady = latency._warm_up(call, CPU)
    # Medians of (2.0, 1.5) and (1.5, 1.5) are 14 % apart; one call later both are 1.5.
    assert steady and first == pytest.approx(4000.0)
    assert times == pytest.approx([2000.0, *[1500.0] * 4])


def test_warm_up_is_given_up_and_said_so(monkeypatch):
    call = scripted(monkeypatch, (1.5**step / 100 for step in itertools.count()))
    _, times, steady = latency._warm_up(call, CPU)
    assert not steady and sum(times) >= 1000 * latency.WARM_UP_LIMIT_S


def test_sampling_stops_at_a_hundred_or_after_ten_seconds_but_takes_ten(monkeypatch):
    assert len(latency._sample(scripted(monkeypatch, itertools.repeat(0.01)), CPU, None)) == 100
    assert len(latency._sample(scripted(monkeypatch, itertools.repeat(0.25)), CPU, None)) == 40
    assert len(latency._sample(scripted(monkeypatch, itertools.repeat(5.0)), CPU, None)) == 10


def test_half_precision_runs_under_autocast():
    seen = []
    model = nn.Sequential(nn.Conv2d(3, 2, 1))
    model.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    measure_latency(model, (8, 8), dtype="bf16", repetitions=2)
    assert set(seen[1:]) == {torch.bfloat16}


def test_an_impossible_shape_is_one_line():
    with pytest.raises(UsageError, match="cannot run a batch of 1 at 2x2: ") as caught:
        measure_latency(nn.Conv2d(3, 4, 5), (2, 2))
    assert "\n" not in str(caught.value)


def test_a_shape_beyond_the_memory_is_refused_before_anything_is_allocated():
    begin = time.perf_counter()
    with pytest.raises(SegzooError, match=r"1x3x900000x900000 needs at least \d+\.\d GiB on cpu"):
        measure_latency(nn.Conv2d(3, 4, 5), (900000, 900000))
    assert time.perf_counter() - begin < 5


def test_a_shape_beyond_all_numbers_is_refused_too():
    with pytest.raises(SegzooError, match="needs at least"):
        measure_latency(nn.Conv2d(3, 4, 5), (10**12, 10**12))
    with pytest.raises(UsageError, match="cannot take an input of 1x3x1000000000000x1000000000000"):
        count_operations(nn.Conv2d(3, 4, 5), (1, 3, 10**12, 10**12))


def test_every_call_is_timed_between_two_synchronisations(monkeypatch):
    events = []
    monkeypatch.setattr(latency, "synchronize", lambda device: events.append(str(device)))
    latency._timed(lambda: events.append("call"), CPU)
    assert events == ["cpu", "call", "cpu"]


def test_running_out_of_memory_is_one_line():
    class Greedy(nn.Module):
        def forward(self, image):
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate ...")

    with pytest.raises(SegzooError, match=r"^out of memory for a batch of 3 at 4x4"):
        measure_latency(Greedy(), (4, 4), batch_size=3)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ({"dtype": "fp8"}, "unknown dtype 'fp8'"),
        ({"dtype": "tf32"}, "tf32 is a format of CUDA"),
        ({"scope": "protocol", "batch_size": 2}, "one picture at a time"),
    ],
)
def test_words_that_do_not_fit_together_are_usage_errors(words, error):
    with pytest.raises(UsageError, match=error):
        measure_latency(nn.Identity(), (4, 4), **words)


@pytest.mark.parametrize("keep", [False, True], ids=["malloc as it is", "malloc of the command line"])
def test_peak_memory_sees_a_large_tensor_and_forgets_it(keep):
    # In a process of its own: what a long test run keeps resident would hide the tensor.
    code = f"""
import torch
from segzoo.cli.environment import keep_freed_memory
{keep} and keep_freed_memory()
from segzoo.profiling.memory import PeakMemory
device = torch.device("cpu")
before = PeakMemory(device).read()
block = torch.ones(64 * 2**20, dtype=torch.uint8)
with_block = PeakMemory(device).read()
del block
print(before, with_block, PeakMemory(device).read())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, with_block, after = map(int, done.stdout.split())
    assert with_block >= before + 48 * 2**20
    assert after <= with_block - 48 * 2**20


def test_available_memory_is_known():
    assert available_bytes(CPU) > 2**20


def test_devices_have_names_and_unknown_ones_suggestions():
    from segzoo.device import device_name, pick_device

    assert pick_device("cpu") == CPU and device_name(CPU) is None
    for word in ("cud", "cuda:", "cuda:x", "gpu0", ""):
        with pytest.raises(UsageError, match="give auto, cpu"):
            pick_device(word)
    with pytest.raises(UnavailableError, match="CUDA devices"):
        pick_device("cuda:99")
