"""The generated pages say what the program is."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from segzoo.registry import names

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["cli", "models", "benchmarks"])
def test_page_is_up_to_date(generator, page):
    fresh = getattr(generator, f"{page}_page")()
    assert (DOCS / f"{page}.md").read_text(encoding="utf-8") == fresh, "run python docs/generate.py"


def test_every_model_and_every_command_has_a_line(generator):
    assert all(f"| `{name}` |" in generator.models_page() for name in names())
    page = generator.cli_page()
    assert "## segzoo flops" in page and "## segzoo cache ls" in page
    assert "| `--batch-size`, `-b` | N | `1` | Images in one batch. |" in page


def test_the_pages_show_only_commands_that_exist(generator):
    shown = set()
    for path in (DOCS.parent / "README.md", *DOCS.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        code = "".join(
            re.findall(r"^```.*?^```", text, re.MULTILINE | re.DOTALL) + re.findall(r"^ {4}.*\n", text, re.M)
        )
        shown |= set(re.findall(r"^\s*(?:\$ |torchrun .*-m )?segzoo ([a-z]+)", code, re.MULTILINE))
    known = {line.split()[2] for line in generator.cli_page().splitlines() if line.startswith("## segzoo ")}
    assert {"train", "pretrain", "eval", "data"} <= shown and not shown - known


def test_check_names_a_stale_page_and_writes_nothing(generator, monkeypatch, tmp_path):
    (tmp_path / "cli.md").write_text("old", encoding="utf-8")
    monkeypatch.setattr(generator, "FOLDER", tmp_path)
    monkeypatch.setattr(generator.sys, "argv", ["generate.py", "--check"])
    with pytest.raises(SystemExit, match=r"cli\.md, models\.md"):
        generator.main()
    assert (tmp_path / "cli.md").read_text() == "old" and not (tmp_path / "models.md").exists()
    monkeypatch.setattr(generator.sys, "argv", ["generate.py"])
    generator.main()
    assert (tmp_path / "models.md").read_text(encoding="utf-8") == generator.models_page()
