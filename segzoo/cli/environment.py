"""What the command line sets in its own process before PyTorch is loaded; what the user has set is left as it is."""

from __future__ import annotations

import ctypes
import os
import sys

# parameters of mallopt, from glibc's malloc.h
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def prepare() -> None:
    """Sets the waiting of OpenMP's threads, huge pages, and that freed memory is kept."""
    # OpenMP reads it when torch is loaded. Threads that spin while they wait take a core that others need: on
    # a busy machine two of them made an evaluation twice as slow as one.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # PyTorch reads it with the first tensor of 2 MB. Activations come and go with every layer; on huge pages (Linux,
    # where it lets programs ask for them) there are a tenth of the page faults, a fifth of a SegFormer-B0's time.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    keep_freed_memory()


def keep_freed_memory() -> bool:
    """Has glibc's malloc keep what is freed for the next tensor, instead of handing it back to the system.

    By default every large block is mapped and unmapped anew, and the system clears its pages each time: for a layer
    whose output is 4 MB that takes longer than many a layer. Peak memory stays what it was; memory that has been freed
    only goes back at the process's end. PyTorch has no memory pool of its own on the CPU.

    Returns:
        Whether it was done: not where malloc is another's (macOS, musl) or the user has set it by MALLOC_* or
        GLIBC_TUNABLES.
    """
    chosen = any(name.startswith("MALLOC_") for name in os.environ) or "glibc.malloc" in os.environ.get(
        "GLIBC_TUNABLES", ""
    )
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if chosen or mallopt is None:
        return False
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, -1))
