"""tools/build_gallery.py --list: what a gallery holds, without a network, and nothing else beside it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from search.gallery import Gallery, read_gallery, write_gallery
from search.vectors import FeatureSpace
from tools.build_gallery import describe, main


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    """Three pictures by two artists."""
    folder, rows = tmp_path / "gallery", np.eye(3, 4, dtype=np.float32)
    names = ["Monet/1.png", "葛饰北斋/1.png", "Monet/2.png"]
    write_gallery(folder, Gallery.of_folder(FeatureSpace(model="0123456789abcdef"), tmp_path, names, rows),
                  overwrite=False)
    return folder


def test_a_gallery_is_listed(gallery: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in [gallery, *gallery.iterdir()]}
    assert main(["--gallery", str(gallery), "--list"]) == 0
    assert capsys.readouterr().out.splitlines()[:8] == [
        "3 pictures by 2 artists", "pooled features, 4 numbers each",
        "of the network 01234567…, which --checkpoint or --model must name", "",
        "artist    pictures", "------------------", "Monet            2", "葛饰北斋         1"]
    assert {path.name: path.stat().st_mtime_ns for path in [gallery, *gallery.iterdir()]} == before


def test_components_are_told(gallery: Path) -> None:
    reduced = dataclasses.replace(read_gallery(gallery), components=2)
    assert describe(reduced)[1] == "pooled features, 4 numbers each, compared by up to 2 principal components"


@pytest.mark.parametrize(("flags", "told"), [
    (["--overwrite", "--batch-size", "3"], "--list with --batch-size, --overwrite; expected --gallery and --list al"),
    (["--checkpoint", "x.pth"], "--list with --checkpoint"), (["--remove", "Monet"], "2 of --images-dir")])
def test_nothing_else_is_asked_of_a_list(gallery: Path, capsys: pytest.CaptureFixture[str], flags: list[str],
                                         told: str) -> None:
    assert main(["--gallery", str(gallery), "--list", *flags]) == 2
    assert told in capsys.readouterr().err


def test_what_is_no_gallery_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--gallery", str(tmp_path / "nowhere"), "--list"]) == 2
    assert "gallery.json" in capsys.readouterr().err
