"""What the command line sets in its own process before PyTorch is loaded; what the user has set is left as it is."""

from __future__ import annotations

import ctypes
import os
import sys

# parameters of mallopt, from glibc's malloc.h
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_MADV_HUGEPAGE = 14  # from Linux's mman.h


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
    if chosen or sys.platform != "linux" or not hasattr(library := ctypes.CDLL(None), "mallopt"):
        return False
    kept = bool(library.mallopt(_MMAP_MAX, 0) and library.mallopt(_TRIM_THRESHOLD, -1))
    if kept:
        _heap_on_huge_pages(library)
    return kept


def _heap_on_huge_pages(library: ctypes.CDLL) -> None:
    """Asks for huge pages where a quarter of the machine's memory would lie, before anything is there.

    PyTorch asks for each tensor, which is too late for a place that a small one has had before. Addresses cost
    nothing: memory is taken when it is written to.
    """
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    page = os.sysconf("SC_PAGE_SIZE")
    size = os.sysconf("SC_PHYS_PAGES") // 4 * page
    if block := library.malloc(size):  # none where a limit on addresses is lower
        first = (block + page - 1) // page * page
        library.madvise(first, (block + size - first) // page * page, _MADV_HUGEPAGE)
        library.free(block)
