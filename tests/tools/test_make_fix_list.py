"""A sorted folder that a person corrected becomes the list by which data sets and galleries are made."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from data.csv_files import read_table
from data.prepare.fix_list import read_fix_list
from inference.sorting import SORTED, UNSORTED, SortOptions, read_corrections, sort_pictures
from search.gallery import read_gallery
from tests.conftest import Completed
from utils import UserError


def sort(source: Path, folder: Path) -> None:
    pictures = sorted(source.rglob("*.png"))
    artists = [picture.parent.name for picture in pictures]
    artists[-1] = "artist_0"
    sort_pictures([*zip(pictures, artists, strict=True)], folder, SortOptions(sort_by="copy"))


def test_moved_deleted_renamed_and_strange_files(tmp_path: Path) -> None:
    source, folder = tmp_path / "source", tmp_path / "sorted"
    source.mkdir()
    for name in "abcdefg":
        (source / f"{name}.png").write_text(name)
    sort_pictures([(source / f"{name}.png", None if name == "g" else "A") for name in "abcdefg"], folder, SortOptions())
    (folder / "B").mkdir()
    (folder / "A/b.png").rename(folder / "B/b.png")
    (folder / "A/c.png").rename(folder / "B/renamed.png")
    (folder / "A/d.png").unlink()
    (folder / "A/e.png").rename(folder / "e.png")
    (folder / "A/f.png").rename(folder / UNSORTED / "f.png")
    (folder / "A/new.png").write_text("new")
    fixes, strangers = read_corrections(folder, source)
    assert {fix.path: fix[1:] for fix in fixes} == {
        "a.png": ("A", "as sorted"), "b.png": ("B", "moved from A"), "c.png": ("B", "moved from A"),
        "d.png": ("", "deleted"), "e.png": ("", "moved from A"), "f.png": ("", "moved from A"),
        "g.png": ("", "as sorted")}
    assert strangers == [folder / "A/new.png"]
    with pytest.raises(UserError, match="check --source-dir"):
        read_corrections(folder, tmp_path / "else")
    shutil.copyfile(folder / "B/b.png", folder / "A/b.png")
    with pytest.raises(UserError, match="each picture in one place"):
        read_corrections(folder, source)


def test_corrections_become_a_data_set_and_a_gallery(trained: Path, data_set: Path, tmp_path: Path,
                                                     run_script: Callable[..., Completed]) -> None:
    source, folder, fixes = tmp_path / "source", tmp_path / "sorted", tmp_path / "fixes.csv"
    for number, picture in enumerate(sorted((data_set / "train").rglob("*.png"))):
        (source / picture.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(picture, source / picture.parent.name / f"{number}.png")
    before = {path: path.read_bytes() for path in source.rglob("*.png")}
    sort(source, folder)
    wrong = sorted((folder / "artist_1").iterdir())[0]
    wrong.rename(folder / "artist_2" / wrong.name)
    deleted = sorted((folder / "artist_0").iterdir())[0]
    deleted.unlink()
    done = run_script("tools/make_fix_list.py", "--sorted-dir", folder, "--source-dir", source, "--output-csv", fixes)
    assert done.returncode == 0, done.stderr
    assert f"24 pictures in {fixes}: 22 as sorted, 1 left out, 1 moved" in done.stdout
    wanted = {path: artist for path, artist in read_fix_list(fixes).items() if artist}
    assert wanted[f"artist_1/{wrong.name}"] == "artist_2"
    assert f"artist_0/{deleted.name}" not in wanted

    done = run_script("prepare_dataset.py", "--source-dir", source, "--output-dir", tmp_path / "prepared", "--fix-list",
                      fixes, "--min-images", 2, "--no-near-duplicates", "--workers", 0)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "prepared" / "split_info.txt").read_text(encoding="utf-8").splitlines()[1:]
    assert {line.split("\t")[1]: line.split("\t")[2].split("/")[1] for line in lines} == wanted

    done = run_script("tools/build_gallery.py", "--images-dir", source, "--gallery", tmp_path / "gallery", "--fix-list",
                      fixes, "--checkpoint", trained / "model_best.pth", "--workers", 0)
    assert done.returncode == 0, done.stderr
    (tmp_path / "table.csv").write_text("picture,artist\n0.png,New\n")
    done = run_script("tools/make_fix_list.py", "--table", tmp_path / "table.csv", "--source-dir", source,
                      "--output-csv", tmp_path / "told.csv")
    assert read_fix_list(tmp_path / "told.csv") == {"artist_0/0.png": "New"}, done.stderr
    assert run_script("tools/make_fix_list.py", "--source-dir", source, "--output-csv", fixes).returncode == 2
    gallery = read_gallery(tmp_path / "gallery")
    assert dict(zip(gallery.images, gallery.artists, strict=True)) == wanted
    assert {path: path.read_bytes() for path in source.rglob("*.png")} == before
    assert [*read_table(folder / SORTED, ["file"])]
    refused = run_script("tools/build_gallery.py", "--gallery", tmp_path / "gallery", "--list", "--fix-list", fixes)
    assert refused.returncode == 2
