"""Shell completion: model names complete, scripts can be had, and none of it imports torch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from segzoo.registry import names

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_TORCH = (
    "import runpy, sys, atexit\n"
    "atexit.register(lambda: sys.stderr.write('TORCH' if 'torch' in sys.modules else ''))\n"
    "sys.argv = ['segzoo', *sys.argv[1:]]\n"
    "runpy.run_module('segzoo', run_name='__main__')\n"
)


def segzoo(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    command = [sys.executable, "-c", WITHOUT_TORCH, *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)


def complete(line: str) -> list[str]:
    """What bash would be offered at the end of `line`."""
    words = line.split(" ")
    variables = {"_SEGZOO_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    result = segzoo(**variables)
    assert result.stderr == ""
    return result.stdout.split()


def test_model_names_complete():
    assert complete("segzoo flops nat-") == names("nat-*")
    assert complete("segzoo info dinat-l") == ["dinat-large"]
    assert complete("segzoo params nat-tiny dinats-b") == ["dinats-base"]


def test_commands_options_and_choices_complete():
    assert set(complete("segzoo ")) >= {"list", "info", "flops", "params", "latency", "doctor"}
    assert "--repetitions" in complete("segzoo latency --rep")
    assert complete("segzoo latency --dtype ") == ["fp32", "tf32", "bf16", "fp16"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_can_be_had_for_each_shell(shell):
    result = segzoo(_SEGZOO_COMPLETE=f"source_{shell}")
    assert result.returncode == 0 and result.stderr == ""
    assert "_SEGZOO_COMPLETE" in result.stdout and "segzoo" in result.stdout


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_bash_completes_a_model_name_with_the_generated_script(tmp_path):
    program = tmp_path / "segzoo"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m segzoo "$@"\n')
    program.chmod(0o755)
    script = segzoo(_SEGZOO_COMPLETE="source_bash").stdout
    (tmp_path / "completion.sh").write_text(script)
    ask = (
        f"source {tmp_path}/completion.sh; COMP_WORDS=(segzoo flops nat-ti); COMP_CWORD=2"
        '; COMP_LINE="segzoo flops nat-ti"'
        "; COMP_POINT=${#COMP_LINE}; handler=$(complete -p segzoo | sed 's/.*-F \\([^ ]*\\) .*/\\1/')"
        '; $handler segzoo nat-ti flops; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    answer = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, env=environment, timeout=60)
    assert answer.stdout.split() == ["nat-tiny"], answer.stderr
