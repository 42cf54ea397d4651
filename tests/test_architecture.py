"""The import arrows of docs/architecture.md, read from the source, and what must not import torch."""

from __future__ import annotations

import ast
import graphlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "segzoo"

# Plain types and constants that anything may use.
FOUNDATION = {"errors", "paths", "protocol", "results", "version"}
# Modules that make Runs for a command from what lies beside them, and so stand above the registry.
RECORD_MAKERS = {"zoo.describe", "weights.runs", "kernels.inspect"}

ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "version": set(),
    "protocol": set(),
    "paths": {"errors"},
    "results": {"errors"},
    "device": set(),
    "processes": {"device"},
    "zoo": set(),
    "report": {"zoo"},
    "kernels": {"device"},
    "models": {"device", "kernels", "zoo"},
    "weights": {"zoo", "models"},
    "registry": {"zoo", "weights", "models"},
    "metrics": {"kernels"},
    "data": {"kernels", "zoo"},
    "inference": {"kernels", "device", "data"},
    "zoo.describe": {"registry", "zoo"},
    "weights.runs": {"registry", "zoo", "weights"},
    "kernels.inspect": {"kernels", "device"},
    "doctor": {"zoo", "kernels", "kernels.inspect"},
    "preparation": {"data", "weights", "zoo"},
    "evaluation": {
        "data",
        "device",
        "inference",
        "kernels",
        "metrics",
        "processes",
        "registry",
        "report",
        "weights",
        "zoo",
    },
    "compare": {"metrics", "report"},
    "pictures": {"data", "device", "inference", "kernels", "registry", "report", "weights", "zoo"},
    "profiling": {"device", "inference", "kernels", "registry", "zoo"},
    "export": {"inference", "kernels", "registry", "weights"},
    "kernel_bench": {"data", "device", "inference", "kernels", "profiling", "registry", "report"},
    "bench": {"device", "evaluation", "export", "inference", "kernels", "profiling", "registry", "zoo"},
    "training": {
        "data",
        "device",
        "evaluation",
        "inference",
        "kernels",
        "metrics",
        "models",
        "processes",
        "registry",
        "weights",
        "zoo",
    },
}
TOP = {"cli", "package"}

TORCH_FREE = [
    "segzoo",
    "segzoo.cli.app",
    "segzoo.registry",
    "segzoo.report.render",
    "segzoo.results",
    "segzoo.doctor",
    "segzoo.compare",
]


def unit_of(module: str) -> str:
    """The box of the drawing that `segzoo.<module>` belongs to."""
    if module in ("", "__init__", "__main__"):
        return "package"
    words = module.split(".")
    return ".".join(words[:2]) if ".".join(words[:2]) in RECORD_MAKERS else words[0]


def imports_of(file: Path) -> set[str]:
    """The modules of segzoo that a file imports anywhere, relative to the package."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import in line {node.lineno}"
            for alias in node.names:
                names.append(f"{node.module}.{alias.name}" if is_module(node.module, alias.name) else node.module)
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.partition(".")[2] for name in names if name.split(".")[0] == "segzoo"}
    # `from segzoo import __version__` takes a constant, not the package.
    return {name or "version" for name in found}


def is_module(package: str, name: str) -> bool:
    path = ROOT.joinpath(*package.split("."), name)
    return path.is_dir() or path.with_suffix(".py").exists()


def arrows() -> set[tuple[str, str, str]]:
    """(from, to, file) between boxes."""
    found = set()
    for file in sorted(PACKAGE.rglob("*.py")):
        source = unit_of(".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"))
        targets = {unit_of(name) for name in imports_of(file)}
        found |= {(source, target, str(file.relative_to(ROOT))) for target in targets - {source}}
    return found


def test_imports_follow_the_arrows():
    wrong = [
        f"{file}: {source} -> {target}"
        for source, target, file in sorted(arrows())
        if source not in TOP and target not in ALLOWED.get(source, set()) | FOUNDATION
    ]
    assert wrong == []


def test_nothing_imports_the_command_line():
    assert {file for _, target, file in arrows() if target == "cli"} == {"segzoo/__main__.py"}


def test_every_box_has_its_arrows_and_they_go_round_in_no_circle():
    boxes = {source for source, _, _ in arrows()} | {target for _, target, _ in arrows()}
    assert boxes <= ALLOWED.keys() | TOP
    assert len(list(graphlib.TopologicalSorter(ALLOWED).static_order())) == len(ALLOWED)


def test_the_reader_of_arrows_sees_imports_in_functions_and_of_submodules(tmp_path):
    file = tmp_path / "module.py"
    file.write_text("import segzoo.data\ndef late():\n    from segzoo import kernels, __version__\n    import os\n")
    assert imports_of(file) == {"data", "kernels", "version"}
    assert unit_of("zoo.describe") == "zoo.describe" and unit_of("zoo.schema") == "zoo"


def modules_after(code: str) -> set[str]:
    """Names in sys.modules at the end of a fresh interpreter that ran `code`."""
    program = f"import atexit, sys\natexit.register(lambda: print('\\nMODULES', *sys.modules))\n{code}"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True, timeout=60
    )
    return set(result.stdout.rpartition("\nMODULES ")[2].split())


@pytest.mark.parametrize("words", [[], ["--help"], ["list"], ["info", "nat-tiny"], ["flops", "--help"], ["--version"]])
def test_commands_that_only_speak_import_no_torch(words):
    code = f"sys.argv = ['segzoo', *{words}]\nfrom segzoo.cli.app import main\ntry: main()\nexcept SystemExit: pass"
    loaded = modules_after(code)
    assert "segzoo.cli.app" in loaded
    assert not loaded & {"torch", "timm", "cv2", "numpy", "PIL", "requests", "tqdm"}


def test_importing_the_light_modules_imports_no_torch():
    loaded = modules_after("".join(f"import {name}\n" for name in TORCH_FREE))
    assert not loaded & {"torch", "timm", "cv2"}


def test_evaluating_and_training_load_no_compiler_of_pytorch():
    """Dynamo takes a second to import, and what it does at exit hides that a process ended by Ctrl-C."""
    loaded = modules_after("import segzoo.evaluation\nimport segzoo.training.run\nimport segzoo.profiling.latency\n")
    assert "torch" in loaded and "torch._dynamo" not in loaded


def test_files_of_data_sets_are_looked_through_without_torch(tmp_path):
    """A second and a half of every `segzoo data check`; the quick way to read labels is for processes that have it."""
    Image.fromarray(np.eye(9, dtype=np.uint8)).save(tmp_path / "label.png")
    code = "from segzoo.data.read import read_label\nimport segzoo.data.check\n"
    loaded = modules_after(f"{code}assert read_label({str(tmp_path / 'label.png')!r}).sum() == 9")
    assert "segzoo.data.png" in loaded and "torch" not in loaded
