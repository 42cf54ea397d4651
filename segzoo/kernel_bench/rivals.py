"""The compiled rivals and the machine's own speed, through ctypes: benchmarks/rivals."""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from segzoo.errors import UnavailableError
from segzoo.kernels.build import build
from segzoo.kernels.sources import rivals

_COPIED_BYTES = 256 * 2**20  # far more than any cache of today


class _Neighborhood(ctypes.Structure):
    """`segzoo_rivals::Neighborhood` of rivals.h."""

    _fields_ = [
        *((name, ctypes.c_long) for name in ("batch", "heads", "height", "width", "head_dim", "kernel")),
        ("scale", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in ("query", "key", "value", "bias", "logits", "output")),
    ]


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled rivals; compiled now unless this machine has them.

    Raises:
        UnavailableError: no compiler, or it failed.
    """
    loaded = ctypes.CDLL(str(build(rivals(), [])))
    loaded.segzoo_rivals_variant.restype = ctypes.c_char_p
    loaded.segzoo_rivals_lanes.restype = ctypes.c_long
    loaded.segzoo_rivals_multiply_add.restype = ctypes.c_double
    loaded.segzoo_rivals_multiply_add.argtypes = [ctypes.c_double, ctypes.c_long]
    loaded.segzoo_rivals_copy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long, ctypes.c_long]
    loaded.segzoo_rivals_copy.restype = None
    for name in ("segzoo_rivals_logits", "segzoo_rivals_values"):
        getattr(loaded, name).argtypes = [ctypes.POINTER(_Neighborhood), ctypes.c_long]
        getattr(loaded, name).restype = None
    return loaded


def variant() -> str:
    """The processor variant that the rivals run: "avx512", "avx2" or "portable"."""
    return library().segzoo_rivals_variant().decode()


def multiply_add(flops: float) -> Callable[[], float]:
    """A function that does `flops` floating-point operations in registers, on PyTorch's number of threads."""
    return functools.partial(library().segzoo_rivals_multiply_add, flops, torch.get_num_threads())


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A copy of memory that fits in no cache.

    Attributes:
        run: does it once, on PyTorch's number of threads.
        bytes_moved: read and written, together.
    """

    run: Callable[[], None]
    bytes_moved: int


def copy() -> Copy:
    """A copy of 256 MiB."""
    source, target = (torch.ones(_COPIED_BYTES, dtype=torch.uint8) for _ in range(2))
    threads = torch.get_num_threads()

    def run() -> None:
        library().segzoo_rivals_copy(source.data_ptr(), target.data_ptr(), _COPIED_BYTES, threads)

    return Copy(run=run, bytes_moved=2 * _COPIED_BYTES)


def neighborhood_attention(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor, *, kernel_size: int, scale: float
) -> Callable[[], Tensor]:
    """A function that attends as NATTEN's unfused kernels do: logits, PyTorch's softmax, weighted values.

    Args:
        query: float32 [B, H, W, N, D]; copied to [B, N, H, W, D] now, which the timing does not contain.
        key: as `query`.
        value: as `query`.
        bias: [N, 2K-1, 2K-1].
        kernel_size: K.
        scale: factor on the logits.

    Returns:
        A function that gives [B, N, H, W, D].

    Raises:
        UnavailableError: a head that is not 1, 2, 4 or 8 vectors of this processor long.
    """
    heads_first = [tensor.permute(0, 3, 1, 2, 4).contiguous() for tensor in (query, key, value)]
    batch, heads, height, width, head_dim = heads_first[0].shape
    lanes = library().segzoo_rivals_lanes()
    if head_dim not in (lanes, 2 * lanes, 4 * lanes, 8 * lanes):
        raise UnavailableError(f"the rival has no heads of {head_dim}; give {lanes} times 1, 2, 4 or 8")
    logits = torch.empty(math.prod((batch, heads, height, width)), kernel_size**2)
    output = torch.empty_like(heads_first[0])
    table = bias.contiguous()

    def problem(weights: Tensor) -> _Neighborhood:
        pointers = [tensor.data_ptr() for tensor in (*heads_first, table, weights, output)]
        return _Neighborhood(batch, heads, height, width, head_dim, kernel_size, scale, *pointers)

    def attend() -> Tensor:
        threads = torch.get_num_threads()
        library().segzoo_rivals_logits(ctypes.byref(problem(logits)), threads)
        weights = torch.softmax(logits, dim=-1)
        library().segzoo_rivals_values(ctypes.byref(problem(weights)), threads)
        return output

    return attend
