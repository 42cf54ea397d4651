"""An ONNX file as a module, so that it can be timed and evaluated like any other network."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segzoo.errors import SegzooError, UnavailableError
from segzoo.export.program import INPUT, OUTPUT, Program, Shape, trace


def require(*packages: str, extra: str) -> None:
    """Says what to install where a package is missing.

    Raises:
        UnavailableError: names what is missing and the extra that brings it.
    """
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise UnavailableError(f"{', '.join(missing)} is not installed: pip install 'segzoo[{extra}]'")


class OnnxModel(nn.Module):
    """Runs a file with onnxruntime on the CPU: image [B, 3, H, W] -> logits [B, C, h, w]."""

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        super().__init__()
        require("onnxruntime", extra="onnx")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    @classmethod
    def of(cls, model: nn.Module, shape: Shape, *, threads: int | None = None) -> OnnxModel:
        """The module of a model that is exported for this shape alone.

        Raises:
            UnavailableError: no onnxruntime, onnx or onnxscript.
            UsageError: a shape that the model cannot take.
        """
        with tempfile.TemporaryDirectory(prefix="segzoo-onnx-") as folder:
            path = Path(folder) / "model.onnx"
            write_onnx(trace(model, shape, dynamic=False), path, {})
            return cls(path, threads=threads)

    def forward(self, image: Tensor) -> Tensor:
        """float32 [B, 3, H, W] on the CPU -> logits [B, C, h, w]."""
        if image.device.type != "cpu":
            raise SegzooError(f"backend onnxruntime runs on the CPU, not on {image.device}; give --device cpu")
        try:
            logits = self._session.run(None, {INPUT: np.ascontiguousarray(image.numpy())})[0]
        # onnxruntime's errors have no common class but Exception.
        except Exception as error:
            raise SegzooError(f"onnxruntime: {str(error).strip().splitlines()[0][:300]}") from error
        return torch.from_numpy(logits)

    def __deepcopy__(self, memo: dict[int, Any]) -> OnnxModel:
        # A session cannot be copied, and holds nothing that a run would change.
        return self


def write_onnx(program: Program, path: Path, texts: dict[str, str]) -> None:
    """Writes an ONNX file with `texts` as its metadata.

    Raises:
        UnavailableError: no onnx or onnxscript.
    """
    require("onnx", "onnxscript", "onnxruntime", extra="onnx")
    written = torch.onnx.export(
        program.exported, input_names=[INPUT], output_names=[OUTPUT], dynamo=True, verbose=False
    )
    if written is None:
        raise SegzooError("torch.onnx.export gave no program")
    written.model.metadata_props.update(texts)
    written.save(str(path))
