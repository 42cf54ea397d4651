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
from segzoo.kernels.sources import Operator, operators

CHOICES = ("auto", "native", "reference")


@dataclass
class _State:
    """What this process has loaded, by operator; `choice` is None until the first `load`."""

    choice: str | None = None
    libraries: dict[str, str] = field(default_factory=dict)
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
    missing = [operator for operator in operators() if operator.name not in _state.libraries]
    if not missing or wanted in (_state.choice, "reference"):
        return backend()
    failures: dict[str, list[str]] = {}
    for operator in missing:
        try:
            _load_library(operator)
        except UnavailableError as error:
            if wanted == "native":
                raise
            failures.setdefault(str(error), []).append(operator.title)
    for why, titles in failures.items():
        fallback = f"{' and '.join(titles)} run on the slow reference kernels"
        _state.notes.append(f"{fallback}: {why.splitlines()[0]}")
        print(f"segzoo: warning: {fallback}: {why}", file=sys.stderr, flush=True)
    _state.choice = wanted
    return backend()


def _load_library(operator: Operator) -> None:
    library = build(operator, _state.notes)
    try:
        torch.ops.load_library(library)
    except OSError as error:
        raise UnavailableError(f"{library} does not load: {error}; `segzoo kernel clean` removes it") from error
    variant = getattr(ctypes.CDLL(str(library)), f"segzoo_{operator.name}_variant")
    variant.restype = ctypes.c_char_p
    _state.libraries[operator.name], _state.variant = str(library), variant().decode()


def backend() -> str:
    """ "native" when a compiled library is loaded for every operator, else "reference"."""
    return "native" if len(_state.libraries) == len(operators()) else "reference"


def describe() -> str:
    """The backend with the processor variant, for a Run's conditions: "native (avx512)" or "reference".

    Where only some operators could be compiled, it names them: "native (avx512) for neighborhood_attention alone".
    """
    if not _state.libraries:
        return "reference"
    some = "" if backend() == "native" else f" for {', '.join(_state.libraries)} alone"
    return f"native ({_state.variant}){some}"


def notes() -> list[str]:
    """Fallbacks that happened in this process, for a Run's notes."""
    return list(_state.notes)
