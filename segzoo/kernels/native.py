"""Which kernels a process uses. Decided once for each kind of device, by `load`, outside any forward pass."""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from segzoo import paths
from segzoo.errors import UnavailableError, UsageError
from segzoo.kernels.build import build
from segzoo.kernels.sources import CPU, CUDA, Operator, operators

CHOICES = ("auto", "native", "reference")


@dataclass
class _State:
    """What this process has loaded, by kind of device.

    `libraries` has the file by the operator's name, `variants` what the libraries say they run as, `tried` by
    device and name the choice under which an operator was asked for in vain.
    """

    tried: dict[tuple[str, str], str] = field(default_factory=dict)
    libraries: dict[str, dict[str, str]] = field(default_factory=dict)
    variants: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


_state = _State()
_one_at_a_time = threading.RLock()


def choice() -> str:
    """SEGZOO_KERNELS: "auto", "native" or "reference".

    Raises:
        UsageError: any other word.
    """
    word = paths.kernel_choice()
    if word not in CHOICES:
        raise UsageError(f"SEGZOO_KERNELS={word} is none of {', '.join(CHOICES)}")
    return word


def load(device: str | torch.device = CPU, *, only: Sequence[str] | None = None) -> str:
    """Makes the kernels of a device ready and returns `backend(device)`. The first call may compile.

    With SEGZOO_KERNELS=auto a machine that cannot compile, or a GPU on which the kernels turn out wrong (trial.py),
    gets the reference, a warning on stderr and a note. With native it gets an error, and no trial; reference loads
    nothing. A loaded library stays for the life of the process.

    Args:
        device: "cpu", "cuda", "cuda:1", ...; others have no compiled kernels.
        only: the names of the operators that are needed; all where None.

    Raises:
        UsageError: an unknown SEGZOO_KERNELS.
        UnavailableError: SEGZOO_KERNELS=native and no library.
    """
    with _one_at_a_time:
        return _load(_kind(device), only)


def load_for(model: torch.nn.Module, device: str | torch.device) -> None:
    """`load(device)` for a model that has our operators in it; nothing for any other.

    Raises:
        UsageError: an unknown SEGZOO_KERNELS.
        UnavailableError: SEGZOO_KERNELS=native and no library.
    """
    if any(getattr(module, "needs_kernels", False) for module in model.modules()):
        load(device)


def _kind(device: str | torch.device) -> str:
    return torch.device(device).type


def _load(kind: str, only: Sequence[str] | None) -> str:
    wanted = choice()
    if wanted == "reference":
        return backend(kind)
    loaded = _state.libraries.setdefault(kind, {})
    missing = [
        operator
        for operator in operators(kind)
        if operator.name not in loaded
        and (only is None or operator.name in only)
        and _state.tried.get((kind, operator.name)) != wanted
    ]
    failures: dict[str, list[str]] = {}
    rejected = _rejected(missing, wanted)
    for operator in missing:
        try:
            if why := rejected.get(operator.name):
                raise UnavailableError(f"{why}; SEGZOO_KERNELS=native uses them as they are")
            load_library(operator)
        except UnavailableError as error:
            if wanted == "native":
                raise
            _state.tried[kind, operator.name] = wanted
            failures.setdefault(str(error), []).append(operator.title)
    for why, titles in failures.items():
        fallback = f"{' and '.join(titles)} run on the slow reference kernels"
        _state.notes.append(f"{fallback}: {why.splitlines()[0]}")
        print(f"segzoo: warning: {fallback}: {why}", file=sys.stderr, flush=True)
    return backend(kind)


def _rejected(missing: Sequence[Operator], wanted: str) -> dict[str, str]:
    """What a trial on this machine's GPU has found wrong, by operator; who asks for "native" wants no trial."""
    libraries = {}
    for operator in missing if wanted == "auto" else ():
        if operator.device == CUDA and torch.cuda.is_available():
            with contextlib.suppress(UnavailableError):  # `load_library` says so
                libraries[operator.name] = build(operator, _state.notes)
    if not libraries:
        return {}
    from segzoo.kernels.trial import rejected

    return rejected(libraries, CUDA, torch.cuda.get_device_name())


def load_library(operator: Operator) -> str:
    """Builds an operator's library unless this machine has it, loads it, and returns its file.

    Loading registers the operator's kernels with PyTorch's dispatcher.

    Raises:
        UnavailableError: it cannot be compiled here, or does not load.
    """
    library = build(operator, _state.notes)
    try:
        torch.ops.load_library(library)
    except OSError as error:
        raise UnavailableError(f"{library} does not load: {error}; `segzoo kernel clean` removes it") from error
    _state.libraries.setdefault(operator.device, {})[operator.name] = str(library)
    if variant := _variant(operator, str(library)):
        _state.variants[operator.device] = variant
    return str(library)


def _variant(operator: Operator, library: str) -> str | None:
    """What the kernels run as: a CPU variant such as "avx512", or the architecture of the CUDA device.

    None for a library that is the same for every processor.
    """
    if operator.device == CUDA:
        major, minor = torch.cuda.get_device_capability() if torch.cuda.is_available() else (0, 0)
        return f"sm_{major}{minor}" if major else "no device"
    if not operator.has_variants:
        return None
    variant = getattr(ctypes.CDLL(library), f"segzoo_{operator.library}_variant")
    variant.restype = ctypes.c_char_p
    return variant().decode()


def backend(device: str | torch.device = CPU) -> str:
    """ "native" when a compiled library is loaded for every operator of that device, else "reference"."""
    kind = _kind(device)
    wanted = {operator.name for operator in operators(kind)}
    return "native" if wanted and wanted <= _state.libraries.get(kind, {}).keys() else "reference"


def is_loaded(name: str, device: str | torch.device = CPU) -> bool:
    """Whether the compiled library of one operator is loaded."""
    return name in _state.libraries.get(_kind(device), {})


def describe(device: str | torch.device = CPU) -> str:
    """The backend with the processor variant, for a Run's conditions: "native (avx512)" or "reference".

    Where only some operators could be compiled, it names them: "native (avx512) for neighborhood_attention alone".
    """
    kind = _kind(device)
    loaded = _state.libraries.get(kind)
    if not loaded:
        return "reference"
    some = "" if backend(kind) == "native" else f" for {', '.join(loaded)} alone"
    return f"native ({_state.variants[kind]}){some}"


def notes() -> list[str]:
    """Fallbacks that happened in this process, for a Run's notes."""
    return list(dict.fromkeys(_state.notes))
