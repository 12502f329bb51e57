"""Pictures in tar files: the layouts of timm's readers, and the same pixels as from folders."""

from __future__ import annotations

import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.readers.reader_image_in_tar import ReaderImageInTar

from data.image_folder import ImageFolder, ImageTar, open_pictures
from data.image_list import Draw
from data.loaders import EvalBatches, Loading, make_loader
from data.tar_files import read_member
from data.train_val import find_damaged, open_train, open_val
from data.transforms import Preprocessing, eval_transform
from runtime.options import AugmentationOptions
from tests.pictures import write_data_set
from training.augmentation import train_transform
from utils import UserError

PREPROCESSING = Preprocessing(input_size=16, crop_pct=0.875, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3)
AUGMENTATION = AugmentationOptions(scale=(0.1, 1.0), aa="rand-m9-mstd0.5-inc1", reprob=0.5)


def pack(folder: Path, tar: Path, top: str = "") -> Path:
    tar.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(tar, "w") as archive:
        for path in sorted(folder.rglob("*"), reverse=True):
            archive.add(path, f"{top}{path.relative_to(folder).as_posix()}", recursive=False)
    return tar


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data_set(tmp_path_factory.mktemp("unpacked"), artists=3, train=4, val=2)


@pytest.fixture(params=["one tar", "one tar with a folder above", "a tar per class", "a tar of tars"])
def packed(request: pytest.FixtureRequest, unpacked: Path, tmp_path: Path) -> Path:
    """The same data set, packed in one of the layouts."""
    for side in ("train", "val"):
        if request.param.startswith("one tar"):
            pack(unpacked / side, tmp_path / f"{side}.tar", f"{side}/" if "above" in request.param else "")
        else:
            for folder in (unpacked / side).iterdir():
                pack(folder, tmp_path / side / f"{folder.name}.tar")
        if request.param == "a tar of tars":
            pack(tmp_path / side, tmp_path / f"{side}.tar")
            for path in (tmp_path / side).iterdir():
                path.unlink()
            (tmp_path / side).rmdir()
    return tmp_path


def opened(root: Path, side: str) -> ImageFolder:
    if side == "train":
        dataset = open_train(root, max_pixels=10**6)
        dataset.transform = train_transform(PREPROCESSING, AUGMENTATION)
    else:
        dataset = open_val(root, ["artist_2", "artist_0", "artist_1"], max_pixels=10**6)
        dataset.transform = eval_transform(PREPROCESSING)
    return dataset


def test_a_tar_gives_the_pixels_and_the_order_of_the_folder(unpacked: Path, packed: Path) -> None:
    for one, other in ((opened(root, side) for root in (unpacked, packed)) for side in ("train", "val")):
        assert isinstance(other, ImageTar)
        assert (other.names, other.classes, other.targets.tolist()) == (one.names, one.classes, one.targets.tolist())
        for index in range(len(one)):
            found, expected = other[Draw(index, 7)], one[Draw(index, 7)]
            assert torch.equal(found.image, expected.image)
            assert found.target == expected.target


def test_timms_reader_finds_the_same(packed: Path) -> None:
    root = next(root for root in (packed / "train.tar", packed / "train") if root.exists())
    reader, mine = ReaderImageInTar(str(root)), ImageTar(root, eval_transform(PREPROCESSING))
    theirs = sorted((target, Path(reader.filename(index)).name, file.read())
                    for index, (file, target) in enumerate(reader))
    assert [(target, name) for target, name, _ in theirs] == [
        (target, Path(name).name) for target, name in zip(mine.targets.tolist(), mine.names, strict=True)]
    assert list(reader.class_name_to_idx) == mine.classes
    for index, (_, _, content) in enumerate(theirs):
        file, _, member = mine._members[mine.names[index]]
        assert read_member(file, member) == content


def test_processes_read_side_by_side(packed: Path) -> None:
    dataset = opened(packed, "val")
    copy = pickle.loads(pickle.dumps(dataset))  # noqa: S301 - as spawned workers get it
    loading = Loading(batch_size=1, num_workers=2)
    loaded = list(make_loader(copy, EvalBatches(len(copy), loading), loading))
    for index, batch in enumerate(loaded):
        assert torch.equal(batch.images[0], dataset[index].image)


def test_damage_in_a_tar_is_a_value(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "good.png").write_bytes(b"")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a" / "good.png")
    (tmp_path / "a" / "bad.png").write_bytes(b"")
    (tmp_path / "a" / "._hidden.png").write_bytes(b"")
    (tmp_path / "a" / "notes.txt").write_bytes(b"x")
    dataset = open_pictures(pack(tmp_path / "a", tmp_path / "out" / "t.tar", "a/"), eval_transform(PREPROCESSING))
    assert dataset.names == ["a/bad.png", "a/good.png"]
    assert dataset[0].reason == "empty file (0 bytes)"
    assert dataset[1].image.shape == (3, 16, 16)
    assert find_damaged([dataset], [], workers=0, max_pixels=10**6) == {
        dataset.root / "a" / "bad.png": "empty file (0 bytes)"}
    dataset.root.unlink()
    assert "No such file" in dataset[1].reason


def test_what_is_no_tar_is_refused(tmp_path: Path) -> None:
    transform = train_transform(PREPROCESSING, AUGMENTATION)
    (tmp_path / "val.tar").write_bytes(b"x" * 2000)
    with pytest.raises(UserError, match=r"val.tar.*no tar file"):
        open_pictures(tmp_path / "val", transform)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no picture in a class folder"):
        open_pictures(pack(tmp_path / "empty", tmp_path / "out" / "empty.tar"), transform)


def test_a_folder_is_taken_before_a_tar_beside_it(unpacked: Path, tmp_path: Path) -> None:
    pack(unpacked / "val", tmp_path / "val.tar")
    write_data_set(tmp_path, artists=2, train=1, val=1)
    found = open_pictures(tmp_path / "val", eval_transform(PREPROCESSING))
    assert type(found) is ImageFolder
    assert len(found.classes) == 2
