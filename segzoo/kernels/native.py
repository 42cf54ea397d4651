"""Which kernel a process uses. Decided once, by `load`, outside any forward pass."""

from __future__ import annotations

import ctypes
import sys
import threading
from dataclasses import dataclass, field

import torch

from segzoo import paths
from segzoo.errors import UnavailableError, UsageError
from segzoo.kernels.build import build
from segzoo.kernels.sources import neighborhood_attention

CHOICES = ("auto", "native", "reference")


@dataclass
class _State:
    """What this process has loaded; `choice` is None until the first `load`."""

    choice: str | None = None
    library: str | None = None
    variant: str | None = None
    notes: list[str] = field(default_factory=list)


_state = _State()
_one_at_a_time = threading.Lock()


def choice() -> str:
    """SEGZOO_KERNELS: "auto", "native" or "reference".

    Raises:
        UsageError: any other word.
    """
    word = paths.kernel_choice()
    if word not in CHOICES:
        raise UsageError(f"SEGZOO_KERNELS={word} is none of {', '.join(CHOICES)}")
    return word


def load() -> str:
    """Makes the kernels ready and returns `backend()`. The first call may compile; later ones do nothing.

    With SEGZOO_KERNELS=auto a machine that cannot compile gets the reference, a warning on stderr and a
    note; with native it gets an error; reference loads nothing. A loaded library stays for the life of the
    process.

    Raises:
        UsageError: an unknown SEGZOO_KERNELS.
        UnavailableError: SEGZOO_KERNELS=native and no library.
    """
    with _one_at_a_time:
        return _load()


def _load() -> str:
    wanted = choice()
    if _state.library or wanted in (_state.choice, "reference"):
        return backend()
    try:
        _load_library()
    except UnavailableError as error:
        if wanted == "native":
            raise
        fallback = "neighborhood attention runs on the slow reference kernel"
        _state.notes.append(f"{fallback}: {str(error).splitlines()[0]}")
        print(f"segzoo: warning: {fallback}: {error}", file=sys.stderr, flush=True)
    _state.choice = wanted
    return backend()


def _load_library() -> None:
    operator = neighborhood_attention()
    library = build(operator, _state.notes)
    try:
        torch.ops.load_library(library)
    except OSError as error:
        raise UnavailableError(f"{library} does not load: {error}; `segzoo kernel clean` removes it") from error
    variant = ctypes.CDLL(str(library)).segzoo_neighborhood_attention_variant
    variant.restype = ctypes.c_char_p
    _state.library, _state.variant = str(library), variant().decode()


def backend() -> str:
    """ "native" when a compiled library is loaded, else "reference"."""
    return "native" if _state.library else "reference"


def describe() -> str:
    """The backend with the processor variant, for a Run's conditions: "native (avx512)" or "reference"."""
    return f"native ({_state.variant})" if _state.library else "reference"


def notes() -> list[str]:
    """Fallbacks that happened in this process, for a Run's notes."""
    return list(_state.notes)


def loaded_library() -> str | None:
    """The path of the loaded library."""
    return _state.library
