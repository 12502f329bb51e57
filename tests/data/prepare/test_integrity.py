"""The scan finds every damaged picture, in order, once; equal files are found by their bytes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image

import data.prepare.integrity
import data.worker_pool
from data.prepare.integrity import find_copies, scan_images


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Seven files: good, empty, good, truncated, missing, LFS pointer, good."""
    paths = [tmp_path / f"{number}.png" for number in range(7)]
    for path in paths:
        Image.effect_noise((32, 32), 50).save(path)
    paths[1].write_bytes(b"")
    paths[3].write_bytes(paths[3].read_bytes()[:300])
    paths[4].unlink()
    paths[5].write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    return paths


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files that were decoded, as the test goes on."""
    names: list[str] = []
    decode = data.prepare.integrity.decode_image
    monkeypatch.setattr(data.prepare.integrity, "decode_image",
                        lambda path, **limits: names.append(path.name) or decode(path, **limits))
    return names


def test_damaged_pictures_are_named_with_reason_in_input_order(pictures: list[Path]) -> None:
    found = scan_images(pictures[::-1])
    assert list(found) == [pictures[5], pictures[4], pictures[3], pictures[1]]
    assert found[pictures[1]] == "empty file (0 bytes)"
    assert found[pictures[5]] == "Git LFS pointer, not the picture"
    assert "truncated" in found[pictures[3]]
    assert "No such file" in found[pictures[4]]


def test_processes_find_the_same(pictures: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.worker_pool, "_ITEMS_PER_PROCESS", 1)
    assert list(scan_images(pictures, workers=2).items()) == list(scan_images(pictures).items())


def test_a_second_scan_opens_only_what_changed(pictures: list[Path], opened: list[str], tmp_path: Path) -> None:
    cache = tmp_path / "cache.json"
    first = scan_images(pictures, cache=cache)
    assert len(opened) == 7
    opened.clear()
    assert scan_images(pictures, cache=cache) == first
    assert opened == ["4.png"]  # still missing
    Image.new("L", (8, 8)).save(pictures[1])
    os.utime(pictures[0], ns=(1, 1))
    opened.clear()
    assert scan_images(pictures, cache=cache) == {path: why for path, why in first.items() if path != pictures[1]}
    assert opened == ["0.png", "1.png", "4.png"]


def test_a_file_that_gets_damaged_is_noticed(pictures: list[Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache.json"
    scan_images(pictures, cache=cache)
    pictures[0].write_bytes(pictures[0].read_bytes()[:200])
    assert pictures[0] in scan_images(pictures, cache=cache)


def test_scans_of_different_files_share_a_cache(pictures: list[Path], opened: list[str], tmp_path: Path) -> None:
    cache = tmp_path / "cache.json"
    scan_images(pictures[:3], cache=cache)
    scan_images(pictures[5:], cache=cache)
    opened.clear()
    scan_images(pictures[:4] + pictures[5:], cache=cache)
    assert opened == ["3.png"]


def test_another_limit_asks_again(pictures: list[Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache.json"
    assert pictures[0] not in scan_images(pictures, cache=cache)
    assert "limit" in scan_images(pictures, cache=cache, max_pixels=100)[pictures[0]]


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"made_with": 1}', "\x00\xff", "KEEP-HEADER"])
def test_an_unreadable_cache_is_replaced(pictures: list[Path], tmp_path: Path, content: str) -> None:
    cache = tmp_path / "cache.json"
    expected = scan_images(pictures, cache=cache)
    if content == "KEEP-HEADER":
        valid = json.loads(cache.read_text())
        content = json.dumps({**valid, "files": {path: [1] for path in valid["files"]}})
    cache.write_text(content, encoding="latin-1")
    assert scan_images(pictures, cache=cache) == expected
    assert json.loads(cache.read_text())["files"]


def test_a_cache_that_cannot_be_written_does_not_stop_the_scan(pictures: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert len(scan_images(pictures, cache=tmp_path / "file" / "cache.json")) == 4


def test_what_was_scanned_before_an_interruption_is_kept(pictures: list[Path], opened: list[str],
                                                         tmp_path: Path) -> None:
    def stop_after_three(results, total):
        for number, result in enumerate(results):
            if number == 3:
                raise KeyboardInterrupt
            yield result

    with pytest.raises(KeyboardInterrupt):
        scan_images(pictures, cache=tmp_path / "cache.json", progress=stop_after_three)
    opened.clear()
    scan_images(pictures, cache=tmp_path / "cache.json")
    assert opened == [path.name for path in pictures[3:]]


@pytest.mark.skipif(os.name == "nt", reason="Windows refuses such names")
def test_a_name_that_is_no_unicode_can_be_remembered(tmp_path: Path, opened: list[str]) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    path.write_bytes(b"")
    for _ in range(2):
        assert list(scan_images([path], cache=tmp_path / "cache.json")) == [path]
    assert len(opened) == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_equal_files_are_grouped_by_content(tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.worker_pool, "_ITEMS_PER_PROCESS", 1)
    contents = {"a": b"one", "b": b"two", "c": b"one", "d": b"longer", "e": b"two", "f": b"six", "g": b"one"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    groups = find_copies([tmp_path / name for name in "gfedcba"], workers=workers)
    assert [[path.name for path in group] for group in groups] == [["g", "c", "a"], ["e", "b"]]
