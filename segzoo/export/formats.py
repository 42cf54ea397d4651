"""One writer and one reader for each format; readers give a module that maps an image batch to logits."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from segzoo.errors import demand_known
from segzoo.export.onnx_model import OnnxModel, require, write_onnx
from segzoo.export.program import Program

Writer = Callable[[Program, Path, dict[str, str]], None]


@dataclass(frozen=True, kw_only=True)
class Format:
    """A kind of file.

    Attributes:
        suffix: ending of its name.
        write: (program, path, texts) writes the file with the texts in it.
        read: path -> module; None where the file cannot be run here.
        sizes_open: whether heights and widths can be left open.
        foreign: whether another program than PyTorch reads it.
        packages: that it needs.
        extra: that brings them.
    """

    suffix: str
    write: Writer
    read: Callable[[Path], nn.Module] | None
    sizes_open: bool = True
    foreign: bool = False
    packages: tuple[str, ...] = ()
    extra: str = ""

    def demand_packages(self) -> None:
        """Says what to install before any work is done.

        Raises:
            UnavailableError: a package that the format needs is missing.
        """
        require(*self.packages, extra=self.extra)


def get_format(name: str) -> Format:
    """The format of this name.

    Raises:
        UsageError: no such format.
    """
    demand_known("format", name, FORMATS)
    return FORMATS[name]


def _write_torch_export(program: Program, path: Path, texts: dict[str, str]) -> None:
    torch.export.save(program.exported, path, extra_files=dict(texts))


def _read_torch_export(path: Path) -> nn.Module:
    with warnings.catch_warnings():
        # PyTorch 2.11 reads weights through a buffer that it then says one must not write to; none does.
        warnings.filterwarnings("ignore", "The given buffer is not writable", UserWarning)
        return torch.export.load(path).module()


def _write_torchscript(program: Program, path: Path, texts: dict[str, str]) -> None:
    """Traced from the taken-apart graph, since TorchScript would keep segzoo's operators by name."""
    with warnings.catch_warnings(), torch.no_grad():
        # TorchScript is deprecated by PyTorch; who asks for it knows.
        warnings.simplefilter("ignore")
        scripted = torch.jit.trace(program.exported.module(), torch.zeros(program.shape), check_trace=False)
        torch.jit.save(scripted, str(path), _extra_files=dict(texts))


def _read_torchscript(path: Path) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.load(str(path))


def _write_coreml(program: Program, path: Path, texts: dict[str, str]) -> None:
    import coremltools

    package = coremltools.convert(program.exported.run_decompositions({}), convert_to="mlprogram")
    package.user_defined_metadata.update(texts)
    package.save(str(path))


FORMATS = {
    "onnx": Format(
        suffix=".onnx",
        write=write_onnx,
        read=OnnxModel,
        foreign=True,
        packages=("onnx", "onnxscript", "onnxruntime"),
        extra="onnx",
    ),
    "torch-export": Format(suffix=".pt2", write=_write_torch_export, read=_read_torch_export),
    "torchscript": Format(suffix=".ts", write=_write_torchscript, read=_read_torchscript, sizes_open=False),
    # Core ML runs on Apple's machines only, so that the file is written and not checked.
    "coreml": Format(
        suffix=".mlpackage",
        write=_write_coreml,
        read=None,
        sizes_open=False,
        foreign=True,
        packages=("coremltools",),
        extra="coreml",
    ),
}
