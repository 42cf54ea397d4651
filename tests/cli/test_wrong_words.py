"""Whatever is wrong with the words of a call is one line that says where to look, before any work is done."""

from __future__ import annotations

import os

import pytest
from own_manifest import forget_manifest, one_line, words


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (["evall", "x"], "No such command 'evall'. Did you mean 'eval'?; see `segzoo --help`"),
        (["eval"], "Missing argument 'NAME...'; see `segzoo eval --help`"),
        (["eval", "x", "--limi", "1"], "--limit"),
        (
            ["eval", "x", "--dtype", "fp3"],
            "'fp3' is not one of 'fp32', 'tf32', 'bf16', 'fp16'; see `segzoo eval",
        ),
        (["kernel", "build", "--device", "tpu"], "see `segzoo kernel build --help`"),
    ],
)
def test_words_that_the_parser_refuses_are_one_line(segzoo_command, call, said):
    assert said in one_line(segzoo_command(*call), 2)


def test_no_words_at_all_show_what_words_there_are(segzoo_command):
    for call in ((), ("cache",)):
        result = segzoo_command(*call)
        assert result.code == 2 and "Commands:" in result.out + result.err
    assert segzoo_command("--version").code == 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["-o", "{0}"], "cannot write {0}: it is a folder; name a file"),
        (["-o", "{0}/file/run.json"], "cannot write into {0}/file: {0}/file is no folder"),
        (["--save-predictions", "{0}/file"], "cannot write into {0}/file: {0}/file is no folder"),
        (["--analysis", "{0}/file/below"], "cannot write into {0}/file/below: {0}/file is no folder"),
    ],
)
def test_a_place_that_cannot_be_written_is_told_before_the_evaluation(segzoo_command, user, monkeypatch, more, said):
    (user / "file").touch()
    monkeypatch.setattr("segzoo.evaluation.evaluate_name", lambda *_, **__: pytest.fail("it was evaluated"))
    more = [word.format(user) for word in more]
    assert said.format(user) in one_line(segzoo_command(*words(user, *more)), 2)


def test_a_read_only_place_is_told_before_the_evaluation(segzoo_command, user, monkeypatch):
    real = os.access
    monkeypatch.setattr("os.access", lambda place, mode, **how: mode != os.W_OK and real(place, mode, **how))
    monkeypatch.setattr("segzoo.evaluation.evaluate_name", lambda *_, **__: pytest.fail("it was evaluated"))
    line = one_line(segzoo_command(*words(user, "-o", str(user / "new" / "run.json"))), 2)
    assert f"{user} is read-only, or not yours to write" in line


def test_a_missing_checkpoint_is_told_before_kernels_are_compiled(segzoo_command, user, monkeypatch):
    monkeypatch.setattr("segzoo.models.segmentor.build_segmentor", lambda *_, **__: pytest.fail("it was built"))
    result = segzoo_command("eval", "tiny-nat", "--checkpoint", str(user / "none.pth"), "--device", "cpu")
    assert f"cannot read the weights file {user / 'none.pth'}" in one_line(result, 4)


def test_a_manifest_that_is_no_text_is_one_line(segzoo_command, user):
    (user / "zoo.yaml").write_bytes(b"models:\n\xff")
    forget_manifest()
    assert f"the manifest {user / 'zoo.yaml'} is no text in UTF-8 (byte 8)" in one_line(segzoo_command("list"), 2)
