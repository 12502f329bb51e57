"""Files are replaced only where the user says so, and sources never."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from data.prepare.output_files import claim_csv_files
from utils import UserError


def test_new_files_are_free(tmp_path: Path) -> None:
    claim_csv_files(tmp_path / "new" / "a.csv", tmp_path / "b.CSV", overwrite=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("answer", "allowed"), [("y\n", True), ("Yes\n", True), ("n\n", False), ("", False)])
def test_a_file_that_exists_is_asked_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str,
                                           allowed: bool) -> None:
    path = tmp_path / "a.csv"
    path.write_text("old")
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    if allowed:
        claim_csv_files(path, overwrite=False)
    else:
        with pytest.raises(UserError, match="y to replace it"):
            claim_csv_files(path, overwrite=False)
    monkeypatch.setattr("sys.stdin", None)
    claim_csv_files(path, overwrite=True)


@pytest.mark.parametrize("names", [["label.txt"], ["picture.png"], ["folder.csv"], ["a.csv", "sub/../a.csv"]])
def test_sources_folders_and_one_file_twice_are_refused(tmp_path: Path, names: list[str]) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "sub").mkdir()
    with pytest.raises(UserError, match="correct the path"):
        claim_csv_files(*(tmp_path / name for name in names), overwrite=True)
