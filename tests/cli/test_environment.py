"""What the command line sets in its process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FAULTS = """
import ctypes, resource
from segzoo.cli import environment
done = environment.keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
def touched(size):
    block = libc.malloc(size)
    ctypes.memset(block, 1, size)
    libc.free(block)
faults = []
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    touched(64 << 20)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(int(done), *faults)
"""


def page_faults(**variables: str) -> tuple[bool, list[int]]:
    """Whether malloc was set, and the page faults of writing to 64 MB, taken and freed three times."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", FAULTS]
    done, *faults = subprocess.run(
        command, env=own | variables, capture_output=True, text=True, check=True
    ).stdout.split()
    return done == "1", [int(count) for count in faults]


linux = pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc is of Linux")


@linux
def test_memory_that_was_freed_is_used_again_without_page_faults() -> None:
    done, faults = page_faults()
    if not done:
        pytest.skip("this C library has no mallopt")
    assert faults[0] >= 16  # 64 MB are at least so many huge pages that are new
    assert faults[1] < 4 and faults[2] < 4


@linux
def test_the_heap_asks_for_huge_pages() -> None:
    if not Path("/sys/kernel/mm/transparent_hugepage").is_dir():
        pytest.skip("this system has no transparent huge pages")
    code = """
from pathlib import Path
from segzoo.cli import environment
done = environment.keep_freed_memory()
parts = Path("/proc/self/smaps").read_text().split("[heap]")[1:]
print(int(done), *[next(line for line in part.splitlines() if line.startswith("VmFlags")) for part in parts])
"""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    words = subprocess.run([sys.executable, "-c", code], env=own, capture_output=True, text=True, check=True).stdout
    if words.startswith("0"):
        pytest.skip("this C library has no mallopt")
    assert "hg" in words.split()


@linux
@pytest.mark.parametrize(
    "variables", [{"MALLOC_MMAP_MAX_": "65536"}, {"GLIBC_TUNABLES": "glibc.malloc.mmap_max=65536"}], ids=str
)
def test_what_the_user_has_set_of_malloc_stays(variables: dict[str, str]) -> None:
    done, faults = page_faults(**variables)
    assert not done
    assert faults[2] >= 16


def test_variables_are_set_unless_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    from segzoo.cli import environment

    monkeypatch.setattr(environment, "keep_freed_memory", lambda: True)  # this process keeps its malloc
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE", raising=False)
    environment.prepare()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "1"
