"""Against the original kernels: outputs and gradients that NATTEN 0.14.6 computed in float64."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from fill import fill_array
from neighborhood_cases import BACKENDS, relative_error, run_backward, run_forward
from oracle_files import ORACLES, oracle

FOLDER = "neighborhood-attention"
CASES = json.loads((ORACLES / FOLDER / "spec.json").read_text())["cases"]
# recorded values are rounded to float32 (6e-8 of the largest); float32 sums differ by about 1e-6
TOLERANCE = {torch.float64: 2e-7, torch.float32: 3e-6}


def _tensor(case: dict[str, Any], letter: str, dtype: torch.dtype) -> torch.Tensor:
    """[B, H, W, N, D], a transposed view of the recorded layout [B, N, H, W, D]."""
    shape = [case[axis] for axis in ("batch", "heads", "height", "width", "head_dim")]
    values = fill_array(f"na2d.{case['name']}.{letter}", (int(np.prod(shape)), 1)).reshape(shape)
    return torch.from_numpy(values).to(dtype).permute(0, 2, 3, 1, 4)


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_output_and_gradients_equal_the_original(case: dict[str, Any], backend: str, dtype: torch.dtype) -> None:
    q, k, v, grad = (_tensor(case, letter, dtype) for letter in ("q", "k", "v", "grad"))
    rpb, table = None, 2 * case["kernel_size"] - 1
    if case["rpb"]:
        rpb = torch.from_numpy(fill_array(f"na2d.{case['name']}.rpb", (case["heads"], table, table))).to(dtype)
    numbers = case["kernel_size"], case["dilation"], case["scale"]
    results = [run_forward(backend, q, k, v, rpb, *numbers)[0]]
    results += run_backward(backend, grad, q, k, v, rpb, *numbers)
    with np.load(oracle(f"{FOLDER}/na2d.npz")) as recorded:
        for name, result in zip(("out", "dq", "dk", "dv", "drpb"), results, strict=True):
            if name == "drpb" and rpb is None:
                assert result.numel() == 0
                continue
            truth = torch.from_numpy(recorded[f"{case['name']}.{name}"])
            result = result if name == "drpb" else result.permute(0, 3, 1, 2, 4)
            assert result.shape == truth.shape
            assert relative_error(result, truth) < TOLERANCE[dtype], name
