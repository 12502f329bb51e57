"""Folders become classes in a fixed order; what cannot be learned from is refused by name."""

from __future__ import annotations

import os
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms.functional import to_tensor

from data.class_mapping import first_difference
from data.image_folder import ImageFolder
from utils import UserError


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(root / name)
    return root


def test_classes_and_pictures_are_ordered_by_code_point(tmp_path: Path) -> None:
    root = make(tmp_path, "齐白石/1.png", "anna/b.PNG", "anna/A.png", "Bob B./sub/x.png", "Bob B./y.png")
    pictures = ImageFolder(root, to_tensor)
    assert pictures.classes == ["Bob B.", "anna", "齐白石"]
    assert pictures.names == ["Bob B./sub/x.png", "Bob B./y.png", "anna/A.png", "anna/b.PNG", "齐白石/1.png"]
    assert pictures.targets.tolist() == [0, 0, 1, 1, 2]
    assert pictures.targets.dtype == np.int64
    assert [pictures[index].target for index in range(len(pictures))] == [0, 0, 1, 1, 2]
    assert pictures.path(4) == root / "齐白石" / "1.png"


def test_given_classes_decide_on_the_numbers(tmp_path: Path) -> None:
    pictures = ImageFolder(make(tmp_path, "b/1.png", "a/1.png"), to_tensor, classes=["c", "b", "a"])
    assert pictures.classes == ["c", "b", "a"]
    assert pictures.names == ["a/1.png", "b/1.png"]
    assert pictures.targets.tolist() == [2, 1]


def test_hidden_folders_files_beside_folders_and_other_files_do_not_count(tmp_path: Path) -> None:
    root = make(tmp_path, "a/1.png", ".cache/1.png", "loose.png", "a/.hidden.png")
    (root / "a" / "notes.txt").write_text("x", encoding="utf-8")
    pictures = ImageFolder(root, to_tensor)
    assert (pictures.classes, pictures.names) == (["a"], ["a/1.png"])


def test_system_folders_and_results_are_no_classes_and_patterns_exclude(tmp_path: Path) -> None:
    root = make(tmp_path, "a/1.png", "a/@eaDir/1.png", "@eaDir/1.png", "run/curves.png", "b/1.png", "b/1_small.png")
    (root / "run" / "metrics.jsonl").touch()
    pictures = ImageFolder(root, exclude=["*_small.*"])
    assert (pictures.classes, pictures.names) == (["a", "b"], ["a/1.png", "b/1.png"])
    assert pictures.passed_over == [f"{root}: {line}" for line in (
        "passed over: 1 (--exclude): b/1_small.png", "passed over: 2 (a system folder): @eaDir, a/@eaDir",
        "passed over: 1 (a training run): run")]


def test_classes_are_compared_in_nfc(tmp_path: Path) -> None:
    apart = unicodedata.normalize("NFD", "Zoë")
    root = make(tmp_path, f"{apart}/1.png", "Zo\u00eb/2.png", "anna/3.png")
    assert ImageFolder(root).classes == ["Zo\u00eb", "anna"]
    assert ImageFolder(root, classes=["anna", apart]).targets.tolist() == [1, 1, 0]
    assert first_difference(["Zo\u00eb"], [apart]) is None


def test_an_empty_artist_folder_is_named(tmp_path: Path) -> None:
    make(tmp_path, "a/1.png")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "notes.txt").write_text("x", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        ImageFolder(tmp_path, to_tensor)
    assert caught.value.found == f"no picture in {tmp_path / 'b'}"


def test_an_unknown_artist_is_named(tmp_path: Path) -> None:
    make(tmp_path, "a/1.png", "x/1.png", "y/1.png")
    with pytest.raises(UserError) as caught:
        ImageFolder(tmp_path, to_tensor, classes=["a", "b"])
    assert str(tmp_path / "x") in caught.value.found
    assert "2 class(es)" in caught.value.found


@pytest.mark.parametrize("problem", ["missing", "a file", "empty", "files only"])
def test_a_folder_without_artists_is_refused(problem: str, tmp_path: Path) -> None:
    root = tmp_path / "train"
    if problem == "a file":
        root.write_text("x", encoding="utf-8")
    elif problem != "missing":
        root.mkdir()
    if problem == "files only":
        make(root, "1.png")
    with pytest.raises(UserError) as caught:
        ImageFolder(root, to_tensor)
    assert str(root) in caught.value.found


def test_left_out_pictures_shift_no_target(tmp_path: Path) -> None:
    pictures = ImageFolder(make(tmp_path, "a/1.png", "a/2.png", "b/1.png", "b/2.png"), to_tensor)
    pictures.leave_out({tmp_path / "a" / "2.png": "damaged", tmp_path / "b" / "1.png": "damaged"})
    assert pictures.names == ["a/1.png", "b/2.png"]
    assert [pictures.target(index) for index in range(len(pictures))] == [0, 1]
    assert pictures.classes == ["a", "b"]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file systems that refuse such names themselves")
def test_an_artist_whose_name_is_no_valid_unicode_is_refused(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9")).mkdir()
    with pytest.raises(UserError, match="can hold"):
        ImageFolder(tmp_path)


def test_spaces_of_any_script_and_joiners_belong_to_names(tmp_path: Path) -> None:
    names = ["a\u00a0b", "\u200dx", "葛飾\u3000北斎", "👩\u200d🎨"]
    for name in names:
        (tmp_path / name).mkdir()
        Image.new("RGB", (2, 2)).save(tmp_path / name / "1.png")
    assert ImageFolder(tmp_path).classes == sorted(names)
    (tmp_path / "a\u2028b").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "a\u2028b" / "1.png")
    with pytest.raises(UserError, match="control characters"):
        ImageFolder(tmp_path)
