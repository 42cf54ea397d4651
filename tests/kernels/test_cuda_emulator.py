"""The emulator that the CUDA kernels are tested with: what it computes, and the mistakes it reports."""

from __future__ import annotations

import emulated_cuda
import numpy as np
import pytest


def outcome(case: str, seed: int = 1) -> tuple[int, list[float], str]:
    """Exit status, printed numbers and messages of a case of cuda_emulator/self_test.cpp."""
    result = emulated_cuda.run(emulated_cuda.compiled("self_test.cpp"), case, seed=seed)
    numbers = [float(word) for word in result.stdout.split()]
    return result.returncode, numbers, result.stderr.decode()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_matrix_product_by_fragments_is_the_product(dtype: str) -> None:
    a = (0.25 * (np.arange(256) % 13) - 1).reshape(16, 16)
    b = (0.5 * (np.arange(128) % 7) - 1).reshape(16, 8)
    status, numbers, messages = outcome(dtype)
    assert status == 0, messages
    np.testing.assert_array_equal(np.array(numbers).reshape(16, 8), a @ b)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_blocks_and_their_threads_add_up(seed: int) -> None:
    assert outcome("sum", seed)[1] == [sum(range(192))]


def test_a_missing_barrier_shows_when_threads_run_in_another_order() -> None:
    backwards = [float(i) for i in reversed(range(64))]
    assert outcome("reversed")[1] == backwards
    assert outcome("missing barrier")[1] != backwards


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("half waits", "deadlock in block 0: thread"),
        ("two places", "wait in "),
        ("beyond shared", "heap-buffer-overflow"),
        ("beyond global", "heap-buffer-overflow"),
        ("no wait", "a cp.async that nothing has waited for"),
    ],
)
def test_mistakes_end_the_program_with_a_message(case: str, message: str) -> None:
    status, _, messages = outcome(case)
    assert status != 0
    assert message in messages
