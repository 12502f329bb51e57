"""The two halves of a data set: the same classes on both sides, damaged pictures listed and left out."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from data import train_val
from data.images import DEFAULT_MAX_PIXELS
from data.prepare.integrity import SCAN_CACHE
from data.train_val import check_two_classes, find_damaged, name_missing, open_train, open_val
from data.transforms import Preprocessing, eval_transform
from runtime.options import AugmentationOptions
from tests.pictures import write_data_set
from training.augmentation import train_transform
from utils import UserError, isolated_random

PREPROCESSING = Preprocessing(input_size=32, crop_pct=0.875, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3)


@pytest.fixture
def data_path(tmp_path: Path) -> Path:
    return write_data_set(tmp_path / "data", artists=2, train=3, val=2)


def open_both(data_path: Path, max_pixels: int = DEFAULT_MAX_PIXELS) -> list:
    train = open_train(data_path, max_pixels=max_pixels)
    val = open_val(data_path, train.classes, max_pixels=max_pixels)
    train.transform = train_transform(PREPROCESSING, AugmentationOptions())
    val.transform = eval_transform(PREPROCESSING)
    return [train, val]


def leave_out(datasets: list, *folders: Path, max_pixels: int = DEFAULT_MAX_PIXELS) -> list[str]:
    return train_val.leave_out(datasets, find_damaged(datasets, list(folders), workers=0, max_pixels=max_pixels))


def test_training_augments_and_validation_does_not(data_path: Path) -> None:
    train, val = open_both(data_path)
    with isolated_random(0):
        assert not torch.equal(train[0].image, train[0].image)
        assert torch.equal(val[0].image, val[0].image)


def test_validation_uses_the_class_ids_of_training(data_path: Path) -> None:
    for picture in (data_path / "val" / "artist_0").iterdir():
        picture.unlink()
    (data_path / "val" / "artist_0").rmdir()
    train, val = open_both(data_path)
    assert val.classes == train.classes == ["artist_0", "artist_1"]
    assert val.targets.tolist() == [1, 1]


def test_one_artist_is_not_enough(data_path: Path) -> None:
    (data_path / "train" / "artist_0").rename(data_path / "train" / ".artist_0")
    with pytest.raises(UserError, match=r"one class \(artist_1\)"):
        check_two_classes(open_train(data_path, max_pixels=DEFAULT_MAX_PIXELS))


def test_classes_that_lose_all_pictures_are_named_until_one_is_left(data_path: Path) -> None:
    train, val = open_both(data_path)
    check_two_classes(train)
    assert name_missing(train, "missing") == name_missing(val, "missing") == []
    for picture in (data_path / "train" / "artist_0").iterdir():
        picture.write_bytes(b"bad")
    leave_out([train], data_path)
    assert name_missing(train, "missing") == ["missing: artist_0"]
    with pytest.raises(UserError, match=r"one class \(artist_1\) with readable pictures"):
        check_two_classes(train)


def test_of_many_missing_classes_ten_are_named(data_path: Path) -> None:
    val = open_val(data_path, ["artist_0", "artist_1", *(f"b{number:02}" for number in range(12))], max_pixels=10**6)
    assert name_missing(val, "missing") == [f"missing: {', '.join(f'b{n:02}' for n in range(10))} and 2 more"]


@pytest.mark.parametrize("side", ["train", "val"])
def test_a_missing_half_is_named(side: str, data_path: Path) -> None:
    (data_path / side).rename(data_path / "elsewhere")
    with pytest.raises(UserError) as caught:
        open_both(data_path)
    assert str(data_path / side) in caught.value.found


def test_damaged_pictures_are_told_forgotten_and_remembered(data_path: Path, tmp_path: Path) -> None:
    damaged = data_path / "train" / "artist_1" / "train_1.png"
    damaged.write_bytes(b"")
    datasets = open_both(data_path)
    told = leave_out(datasets, data_path, tmp_path)
    assert len(told) == 1
    assert told[0].startswith(f"left out: {damaged} (")
    assert "0 bytes" in told[0]
    assert [len(dataset) for dataset in datasets] == [5, 4]
    assert damaged.relative_to(data_path / "train").as_posix() not in datasets[0].names
    assert datasets[0].targets.tolist() == [0, 0, 0, 1, 1]
    assert json.loads((data_path / SCAN_CACHE).read_text(encoding="utf-8"))
    assert not (tmp_path / SCAN_CACHE).exists()
    assert leave_out(open_both(data_path), data_path) == told


@pytest.mark.skipif(os.name == "nt", reason="a folder's mode says nothing on Windows")
def test_the_verdicts_lie_in_the_first_folder_that_can_be_written(data_path: Path, tmp_path: Path,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda folder, mode: folder != data_path)  # root may write everywhere
    leave_out(open_both(data_path), data_path, tmp_path)
    assert not (data_path / SCAN_CACHE).exists()
    assert (tmp_path / SCAN_CACHE).exists()


def test_a_half_without_a_readable_picture_is_refused(data_path: Path) -> None:
    for picture in (data_path / "val").rglob("*.png"):
        picture.write_bytes(b"x")
    with pytest.raises(UserError, match=r"no picture in .*val that can be read \(such as .*val_0.png: .+\)"):
        leave_out(open_both(data_path), data_path)


def test_the_pixel_limit_reaches_scan_and_loading(data_path: Path) -> None:
    train, _ = open_both(data_path, max_pixels=100)
    assert "32x32 px" in train[0].reason
    with pytest.raises(UserError, match=r"no picture in .*train that can be read"):
        leave_out([train], data_path, max_pixels=100)
