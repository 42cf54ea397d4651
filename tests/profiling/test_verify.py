"""`segzoo verify`: published figures come out, are explained, or are an error."""

from __future__ import annotations

import pytest

from segzoo.errors import ToleranceError
from segzoo.profiling.verify import check, verify_run

MINE = """
models:
  mine:
    architecture: {backbone: {type: nat, embed_dim: 16, depths: [1, 1], num_heads: [1, 2]}, head: {type: upernet}}
    dataset: ade20k
    num_classes: 150
    protocol: ade20k-whole
    published: {params: 1.0e+6, source: made up, UNREPRODUCED}
"""


@pytest.fixture
def use(tmp_path, monkeypatch):
    def write(unreproduced: str) -> None:
        file = tmp_path / "mine.yaml"
        file.write_text(MINE.replace("UNREPRODUCED", f"unreproduced: {unreproduced}"))
        monkeypatch.setenv("SEGZOO_ZOO", str(file))

    return write


def test_published_figures_that_come_out_are_ok():
    run = verify_run("nat-mini")
    assert run.conditions["verdict"] == "ok"
    assert [item.metric for item in run.expected] == ["params", "macs_by_rule"]
    assert run.metrics["params"] == 49_779_698
    assert run.metrics["macs_by_rule"] == 900_487_907_328
    check([run])


def test_a_figure_that_does_not_come_out_is_an_error(use):
    use("{}")
    run = verify_run("mine")
    assert run.conditions["verdict"] == "OFF"
    with pytest.raises(ToleranceError, match="mine"):
        check([run])


def test_a_figure_that_does_not_come_out_may_be_explained(use):
    use("{params: counted without the head}")
    run = verify_run("mine")
    assert run.conditions["verdict"] == "explained"
    assert "params: counted without the head" in run.notes
    check([run])
