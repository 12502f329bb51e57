"""What lies in a prepared data set: the bytes, the sizes, the links and the files that describe it."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.class_mapping import read_class_mapping
from data.images import decode_image
from data.picture_files import find_pictures
from data.prepare.artist_folders import list_artists
from data.prepare.dataset import CopySettings, plan_split, write_dataset
from data.prepare.splits import SplitRule
from tests.pictures import list_images
from utils import UserError

COPY = CopySettings(method="copy", short_side=None, max_pixels=10**6)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two artists with five noisy pictures of 60x40 px each, in several formats."""
    rng = np.random.default_rng(0)
    for artist in ("Zoë B", "安娜"):
        for number, extension in enumerate(("jpg", "png", "webp", "gif", "bmp")):
            path = tmp_path / "source" / artist / "sub" / f"{number}.{extension}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path)
    return tmp_path / "source"


def prepared(source: Path, settings: CopySettings = COPY, seed: int = 0) -> Path:
    folder = source.parent / "out"
    folder.mkdir()
    found = find_pictures(source)
    split = plan_split(found, list_artists(found, artist_map={}), SplitRule(val_ratio=0.4, min_images=2, seed=seed),
                       groups=None, near_duplicates=False, max_pixels=settings.max_pixels, workers=0,
                       progress=lambda doing: lambda items, total: items)
    write_dataset(folder, source, split, settings, workers=0, progress=lambda items, total: items)
    return folder


def test_reduced_pictures_of_the_longest_names_get_shorter_ones(source: Path) -> None:
    for old, new in (("2.webp", "石" * 83 + ".webp"), ("3.gif", "石" * 83 + ".gif")):
        (source / "Zoë B" / "sub" / old).rename(source / "Zoë B" / "sub" / new)
    folder = prepared(source, CopySettings(method="copy", short_side=20, max_pixels=10**6))
    written = [row for row in rows(folder) if "石" in row[1]]
    assert len({row[2] for row in written}) == 2
    assert all(decode_image(folder / row[2]).size == (30, 20) for row in written)


def rows(folder: Path) -> list[list[str]]:
    lines = (folder / "split_info.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "side\tsource\tfile"
    return [line.split("\t") for line in lines[1:]]


def test_the_documented_files_agree_with_each_other(source: Path) -> None:
    folder = prepared(source)
    assert sorted(path.name for path in folder.iterdir()) == [
        "class_mapping.csv", "class_names.json", "dataset_info.json", "split_info.txt", "train", "val"]
    assert read_class_mapping(folder / "class_mapping.csv") == ["Zoë B", "安娜"]
    assert json.loads((folder / "class_names.json").read_text(encoding="utf-8")) == ["Zoë B", "安娜"]
    info = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))
    assert info["classes"] == {name: {"class_id": number, "train": 3, "val": 2}
                               for number, name in enumerate(("Zoë B", "安娜"))}
    assert (info["num_classes"], info["num_train"], info["num_val"]) == (2, 6, 4)
    assert (info["seed"], info["val_ratio"], info["min_images"], info["method"]) == (0, 0.4, 2, "copy")
    assert {file for _, _, file in rows(folder)} == {
        path.relative_to(folder).as_posix() for path in list_images(folder)}
    for side, origin, file in rows(folder):
        assert file.startswith(f"{side}/")
        assert (folder / file).read_bytes() == (source / origin).read_bytes()


def test_damaged_and_unlistable_pictures_stay_out_and_are_listed(source: Path) -> None:
    (source / "安娜" / "broken.png").write_bytes(b"")
    copy = source / "安娜" / "copy.jpg"
    copy.write_bytes((source / "安娜" / "sub" / "0.jpg").read_bytes())
    listed = {"安娜/broken.png": "empty file (0 bytes)"}
    if os.name != "nt":
        Image.new("L", (9, 9)).save(os.fsdecode(os.fsencode(source / "安娜") + b"/caf\xe9.png"))
        listed["安娜/caf\\udce9.png"] = "its name holds control characters or no valid Unicode"
    folder = prepared(source)
    info = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))
    assert info["damaged"] == listed
    assert info["duplicates"] == {"安娜/sub/0.jpg": "安娜/copy.jpg"}
    assert len(rows(folder)) == 10


def test_the_seed_alone_decides(source: Path, tmp_path: Path) -> None:
    splits = []
    for seed in (1, 1, 2):
        folder = prepared(source, seed=seed)
        splits.append(rows(folder))
        folder.rename(tmp_path / f"out{len(splits)}")
    assert splits[0] == splits[1] != splits[2]


def test_resize_reduces_the_short_side_and_never_enlarges(source: Path) -> None:
    upright = Image.Exif()
    upright[0x0112] = 6  # shown turned by a quarter: 40x60
    Image.new("RGB", (60, 40), "red").save(source / "安娜" / "turned.jpg", exif=upright)
    Image.new("RGB", (300, 10), "red").save(source / "安娜" / "wide.png")
    Image.new("RGB", (8, 12), "red").save(source / "安娜" / "small.JPG")
    Image.new("RGB", (8, 12), "red").save(source / "安娜" / "small.tif")
    folder = prepared(source, CopySettings(method="copy", short_side=20, max_pixels=10**6))
    made = {origin.partition("/")[2]: folder / file for _, origin, file in rows(folder) if origin.startswith("安")}
    sizes = {name: decode_image(path).size for name, path in made.items()}
    assert sizes["sub/0.jpg"] == sizes["sub/1.png"] == sizes["sub/3.gif"] == (30, 20)
    assert (sizes["turned.jpg"], sizes["wide.png"], sizes["small.JPG"]) == ((20, 30), (300, 10), (8, 12))
    assert made["wide.png"].read_bytes() == (source / "安娜" / "wide.png").read_bytes()  # small already: no second loss
    assert {name: path.name for name, path in made.items()} == {
        "sub/0.jpg": "0.jpg", "sub/1.png": "1.png", "sub/2.webp": "2.webp.jpg", "sub/3.gif": "3.gif.png",
        "sub/4.bmp": "4.bmp.png", "turned.jpg": "turned.jpg", "wide.png": "wide.png", "small.JPG": "small.JPG",
        "small.tif": "small.tif.png"}
    for path in made.values():
        assert path.read_bytes().startswith({".png": b"\x89PNG", ".jpg": b"\xff\xd8"}[path.suffix.lower()])
    original = decode_image(source / "安娜" / "sub" / "1.png")
    assert np.array_equal(decode_image(made["sub/1.png"]), original.resize((30, 20), Image.Resampling.LANCZOS))


@pytest.mark.parametrize("method", ["symlink", "hardlink"])
def test_links_lead_to_the_source(source: Path, method: str) -> None:
    if os.name == "nt":
        pytest.skip("links need a right on Windows")
    folder = prepared(source, CopySettings(method=method, short_side=None, max_pixels=10**6))
    for _, origin, file in rows(folder):
        assert (folder / file).is_symlink() == (method == "symlink")
        assert os.path.samefile(folder / file, source / origin)


@pytest.mark.parametrize(("method", "error", "advice"), [
    ("symlink", {"winerror": 1314}, "developer mode"), ("symlink", {"errno": errno.EPERM}, "neither --symlink"),
    ("hardlink", {"errno": errno.EXDEV}, "another drive"), ("hardlink", {"errno": errno.EMLINK}, "neither --symlink")])
def test_links_that_cannot_be_made_are_a_clear_error(source: Path, monkeypatch: pytest.MonkeyPatch, method: str,
                                                     error: dict[str, int], advice: str) -> None:
    def refuse(*arguments: object) -> None:
        problem = OSError(error.get("errno", errno.EPERM), "refused")
        problem.winerror = error.get("winerror")
        raise problem

    monkeypatch.setattr(os, {"symlink": "symlink", "hardlink": "link"}[method], refuse)
    with pytest.raises(UserError, match=advice):
        prepared(source, CopySettings(method=method, short_side=None, max_pixels=10**6))


def test_two_names_that_are_one_to_the_file_system_are_an_error_and_not_one_picture_less(
        source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.path.lexists
    monkeypatch.setattr(os.path, "lexists", lambda path: real(path) or str(path).endswith("4.bmp"))
    with pytest.raises(UserError, match=r"two pictures called 4\.bmp"):
        prepared(source)
