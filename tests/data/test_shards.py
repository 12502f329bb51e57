"""WebDataset shards: what labels say, which keys names get, and how broken ones are refused."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.image_folder import ImageTar, open_pictures
from data.picture_files import find_pictures
from data.shards import name_keys
from utils import UserError

PICTURE = io.BytesIO()
Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(PICTURE, "PNG")


def pack(folder: Path, files: Mapping[str, object], name: str = "train/shard-000000.tar") -> Path:
    """A tar with these files; a dict becomes JSON, None the content of a picture. Returns `train`."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for file, content in files.items():
            member = tarfile.TarInfo(file)
            data = (PICTURE.getvalue() if content is None else json.dumps(content).encode()
                    if isinstance(content, dict) else str(content).encode())
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path.parent


def classes(root: Path) -> dict[str, str]:
    """Name → class of what is read in `root`."""
    found = open_pictures(root)
    assert isinstance(found, ImageTar)
    return {name: found.classes[target] for name, target in zip(found.names, found.targets, strict=True)}


def test_numbers_are_those_of_the_mapping(tmp_path: Path) -> None:
    (tmp_path / "class_mapping.csv").write_text("class_id,class_name\n0,Anna\n1,北斎\n", encoding="utf-8")
    root = pack(tmp_path, {"000.png": None, "000.cls": 1, "001.png": None, "001.cls": "0\n"})
    assert classes(root) == {"Anna/001.png": "Anna", "北斎/000.png": "北斎"}


def test_numbers_without_a_mapping_keep_their_order(tmp_path: Path) -> None:
    root = pack(tmp_path, {"a.png": None, "a.cls": 10, "b.png": None, "b.cls": 9, "c.png": None, "c.cls": "Mina"})
    assert list(classes(root).values()) == ["000009", "000010", "Mina"]


def test_the_artist_of_the_json_and_a_folder_count_too(tmp_path: Path) -> None:
    root = pack(tmp_path, {
        "0.png": None, "0.json": {"artist": "Dore\u0301", "file": "Doré/early/a.b.png"}, "1.png": None,
        "1.json": {"artist": "Anna", "file": "../../etc/passwd"}, "Bob/2.png": None, "Bob/2.json": {"artist": 3}})
    assert classes(root) == {"Anna/1.png": "Anna", "Bob/2.png": "Bob", "Doré/early/a.b.png": "Doré"}


def test_a_key_that_comes_in_two_shards_stays_two_pictures(tmp_path: Path) -> None:
    for shard in ("s0", "s1"):
        root = pack(tmp_path, {"0.png": None, "0.cls": "Anna"}, f"train/{shard}.tar")
    assert list(classes(root)) == ["Anna/0.png", "Anna/s1/0.png"]


def test_a_name_with_several_dots_is_kept_whole(tmp_path: Path) -> None:
    root = pack(tmp_path, {"a.b.png": None, "a.b.cls": "Anna", "a.png": None, "a.cls": "Bob"})
    assert classes(root) == {"Anna/a.b.png": "Anna", "Bob/a.png": "Bob"}


@pytest.mark.parametrize(("files", "told"), [
    ({"0.png": None, "0.cls": 7}, r"the class 7 in 0\.cls of .*expected one from 0 to 1"),
    ({"0.png": None, "0.cls": 0, "0.json": {"artist": "Bob"}}, r"0\.cls of Anna and 0\.json of Bob"),
    ({"0.png": None, "0.cls": "AC/DC"}, r"the class 'AC/DC' of 0 in .*without /"),
    ({"0.png": None, "0.json": {"artist": "a\nb"}}, r"the class 'a\\nb' of 0 in"),
    ({"0.png": None, "0.json": "{"}, r"0\.json in .*cannot be read"),
    ({"0.png": None, "0.txt": "a caption", "0.json": {"caption": "x"}}, r"no 0\.cls in .*no artist in 0\.json"),
    ({"../0.png": None}, r"damaged or no tar file \(the member '\.\./0\.png' leads out"),
    ({"0.txt": "a caption"}, "no picture in a class folder")])
def test_broken_shards_are_refused(tmp_path: Path, files: dict[str, object], told: str) -> None:
    (tmp_path / "class_mapping.csv").write_text("class_id,class_name\n0,Anna\n1,Bob\n", encoding="utf-8")
    with pytest.raises(UserError, match=told):
        open_pictures(pack(tmp_path, files))


def test_tars_beside_pictures_are_passed_over(tmp_path: Path) -> None:
    root = pack(tmp_path, {"0.png": None})
    assert [root / "shard-000000.tar" / "0.png"] == list(find_pictures(root, tars=True).images)
    assert not find_pictures(root).images
    (root / "own.png").write_bytes(PICTURE.getvalue())
    found = find_pictures(root, tars=True)
    assert [*found.images] == [root / "own.png"]
    assert found.passed_over == {"shard-000000.tar": "no picture, .tar"}


def test_keys_have_no_dots_and_differ_in_more_than_case() -> None:
    assert name_keys(["J. A./a.b.jpg", "J. A./a.jpg", "J. A./a.png", "J. A./A.png", "J. A./x/a.png"]) == [
        "J. A./a_b", "J. A./a", "J. A./a-2", "J. A./A-3", "J. A./x/a"]
