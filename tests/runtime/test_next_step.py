"""The command to type next can be typed: paths from where one is, and quotes as the shell wants them."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from runtime import next_step
from runtime.next_step import command_line, interpreter, print_next
from tests.conftest import ROOT


def test_scripts_are_named_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                   capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(ROOT)
    print_next("tools/calibrate.py", "--data-path", Path("my_data"))
    assert capsys.readouterr().out == f"next: {interpreter()} {Path('tools/calibrate.py')} --data-path my_data\n"
    monkeypatch.chdir(tmp_path)
    assert command_line("speed.py") == f"{interpreter()} {ROOT / 'speed.py'}"


def test_the_interpreter_is_named_so_that_a_shell_finds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = sys.executable
    for found, name in (({"python": mine}, "python"), ({"python": "/other", "python3": mine}, "python3"), ({}, mine)):
        monkeypatch.setattr(shutil, "which", found.get)
        assert interpreter() == name


@pytest.mark.parametrize("name", ["my data", "it's", "$HOME", "a;b", "画师"])
def test_a_posix_shell_reads_back_every_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(next_step.os, "name", "posix")
    assert shlex.split(command_line("speed.py", name))[2:] == [name]


def test_a_path_that_begins_like_a_flag_is_told_from_one() -> None:
    assert shlex.split(command_line("speed.py", "--input", Path("-my-art"), Path("art-1")))[2:] == [
        "--input", str(Path(".")) + os.sep + "-my-art", "art-1"]


def test_windows_shells_get_double_quotes(monkeypatch: pytest.MonkeyPatch) -> None:
    line = [next_step._quoted(word) for word in ("C:\\my_data", "my data", "it's", "--top-k")]
    monkeypatch.setattr(next_step.os, "name", "nt")
    assert line[0] == "'C:\\my_data'"
    assert [next_step._quoted(word) for word in ("C:\\my_data", "my data", "it's", "--top-k")] == [
        "C:\\my_data", '"my data"', '"it\'s"', "--top-k"]
