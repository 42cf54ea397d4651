"""Makes the modules beside the tests importable and keeps every test away from the user's cache."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
# Threads that spin while they wait make the tests several times slower on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# A shell ignores Ctrl-C in what it runs in the background, and every process below inherits that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# One cache for the whole test run, so that the kernels are compiled once.
os.environ["SEGZOO_HOME"] = os.environ.get(
    "SEGZOO_TEST_HOME", str(Path(tempfile.gettempdir()) / f"segzoo-tests-{os.getuid()}")
)
for variable in ("SEGZOO_ZOO", "SEGZOO_DATA", "SEGZOO_OFFLINE", "SEGZOO_KERNELS"):
    os.environ.pop(variable, None)
