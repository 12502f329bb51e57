"""Patterns that the shell has left, as Windows' shells do, and lists of paths as Explorer copies them."""

from __future__ import annotations

import os
from dataclasses import MISSING, dataclass
from pathlib import Path

import numpy as np
import pytest

from data.picture_files import expand_inputs
from runtime.arguments import Parser, flag
from tools.compare_vectors import main as compare_vectors
from utils import UserError


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Flags with files."""

    files: tuple[Path, ...] = flag(MISSING, "several")
    output: Path = flag(Path("out[1]*"), "one, which may not be there yet")


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.png", "1.png", "[1].png"):
        (tmp_path / name).touch()


def named(*inputs: str) -> list[str]:
    return [str(path) for path in expand_inputs(inputs, recursive=False).images]


def test_what_fits_comes_sorted_and_what_is_there_stays_itself() -> None:
    assert named("[ab].png", "?.png") == ["a.png", "b.png", "1.png", "a.png", "b.png"]
    assert named("[1].png") == ["[1].png"]


def test_where_nothing_fits_it_is_one_line() -> None:
    with pytest.raises(UserError, match=r"nothing that fits \*\.jpg"):
        expand_inputs(["*.jpg"], recursive=False)
    with pytest.raises(UserError, match=r"no c\.png"):
        expand_inputs(["c.png"], recursive=False)


def test_flags_with_files_expand_and_outputs_do_not() -> None:
    flags = Parser(Flags, prog="x", description=None).read(["--files", "?.png", "[1].png", "gone.png"])
    assert [str(path) for path in flags.files] == ["1.png", "a.png", "b.png", "[1].png", "gone.png"]
    assert flags.output == Path("out[1]*")
    with pytest.raises(UserError, match="nothing that fits"):
        Parser(Flags, prog="x", description=None).read(["--files", "*.jpg"])


def test_a_command_expands_them(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("query", "ref_1", "ref_2"):
        np.save(name, np.ones(4, np.float32))
    assert compare_vectors(["--query-vector", "query.npy", "--reference-vectors", "ref_*.npy"]) == 0
    told = capsys.readouterr().out
    assert "ref_1" in told
    assert "ref_2" in told
    assert compare_vectors(["--query-vector", "query.npy", "--reference-vectors", "*.json"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_quoted_lines_of_a_list_are_paths(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f'"{tmp_path / "a.png"}"\r\n  "b.png" \r\n1.png\r\n"gone.png"\r\n"\r\n',
                                       encoding="utf-8", newline="")
    assert named("@list.txt") == [str(tmp_path / "a.png"), "b.png", "1.png", "gone.png", '"']


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_file_whose_name_has_the_quotes_comes_first(tmp_path: Path) -> None:
    (tmp_path / '"a.png"').touch()
    (tmp_path / "list.txt").write_text('"a.png"\n', encoding="utf-8")
    assert named("@list.txt") == ['"a.png"']
