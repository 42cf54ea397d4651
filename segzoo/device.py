"""Devices and number formats by the words of the command line: --device and --dtype, one meaning everywhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from segzoo.errors import SegzooError, UnavailableError, UsageError, demand_known, suggestion

DTYPES = ("fp32", "tf32", "bf16", "fp16")
_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
# Asked here, since the Dynamo of PyTorch 2.11 cannot trace the question.
_KNOW_AUTOCAST = frozenset(kind for kind in ("cpu", "cuda", "mps", "xpu") if torch.amp.is_autocast_available(kind))


def pick_device(word: str = "auto") -> torch.device:
    """The device of a word such as "auto", "cpu", "cuda", "cuda:1" or "mps".

    "auto" is the first CUDA device, else MPS, else the CPU.

    Raises:
        UsageError: no such word.
        UnavailableError: a device that this machine does not have.
    """
    if word == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, index = word.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not index.isdecimal()) or word.endswith(":"):
        near = suggestion(kind, ("auto", "cpu", "cuda", "mps"))
        raise UsageError(f"unknown device {word!r}: give auto, cpu, cuda, cuda:N or mps{near}")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise UnavailableError(f"no device {word!r}: this machine has {torch.cuda.device_count()} CUDA devices")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UnavailableError("no device 'mps' on this machine")
    if kind == "cuda" and not index:
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device(word)


def device_name(device: torch.device) -> str | None:
    """The product name of a GPU; None for the CPU, whose name is in every record anyway."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return "Apple GPU" if device.type == "mps" else None


def synchronize(device: torch.device) -> None:
    """Waits until all work given to the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@contextlib.contextmanager
def plain_errors(words: str, *, smaller: str) -> Iterator[None]:
    """Turns what PyTorch says about memory and shapes in the body into one line.

    Args:
        words: what a model runs on, such as "an input of 1x3x512x512".
        smaller: what takes less memory beside a smaller batch size: "crop", "shape".

    Raises:
        SegzooError: out of memory.
        UsageError: the model cannot run it.
    """
    try:
        yield
    except SegzooError:
        raise
    except (torch.OutOfMemoryError, MemoryError, RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        full = isinstance(error, (torch.OutOfMemoryError, MemoryError))
        if full or "allocate memory" in reason or "not enough memory" in reason:
            raise SegzooError(f"out of memory for {words}; use a smaller {smaller} or batch size") from error
        raise UsageError(f"the model cannot run {words}: {reason}") from error


def has_autocast(kind: str) -> bool:
    """Whether a kind of device, such as "cuda", knows autocast; "meta" does not, and asking it is an error."""
    return kind in _KNOW_AUTOCAST


@contextlib.contextmanager
def precision(device: torch.device, dtype: str) -> Iterator[None]:
    """Runs the body in a number format; parameters stay as they are.

    "fp32" is true float32 (TF32 is off), "tf32" lets matrix products and convolutions of float32
    tensors round their inputs, "bf16" and "fp16" are torch's autocast.

    Raises:
        UsageError: no such format, or one that the device does not know.
    """
    demand_known("dtype", dtype, DTYPES)
    if dtype == "tf32" and device.type != "cuda":
        raise UsageError(f"tf32 is a format of CUDA devices, not of {device.type}")
    with _tf32(dtype == "tf32") if device.type == "cuda" else contextlib.nullcontext():
        if dtype in _HALF:
            with torch.autocast(device.type, dtype=_HALF[dtype]):
                yield
        else:
            yield


@contextlib.contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """Sets both switches and puts them back; torch lets convolutions use TF32 unless told otherwise."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
