"""tools/make_demo_dataset.py as a user runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.images import decode_image
from tests.pictures import list_images


def test_artists_are_drawn_and_replaced_only_on_request(run_script, tmp_path: Path) -> None:
    out = tmp_path / "artists"

    def make(*flags: object, stdin: str = ""):
        return run_script("tools/make_demo_dataset.py", "--output-dir", out, "--artists", 2, "--images-per-artist", 3,
                          "--size", 32, *flags, stdin=stdin)

    result = make()
    assert (result.returncode, result.stderr) == (0, "")
    first = {path.name: path.read_bytes() for path in list_images(out)}
    assert len(list_images(out)) == 6
    assert {decode_image(path).size for path in list_images(out)} == {(32, 32)}
    assert make("--seed", 1).returncode == 2
    assert {path.name: path.read_bytes() for path in list_images(out)} == first
    assert make("--seed", 1, "--overwrite").returncode == 0
    assert {path.name: path.read_bytes() for path in list_images(out)} != first
    assert make(stdin="y\n").returncode == 0
    assert {path.name: path.read_bytes() for path in list_images(out)} == first


def test_blends_stand_in_one_folder_each_beside_its_labels(run_script, tmp_path: Path) -> None:
    result = run_script("tools/make_demo_dataset.py", "--output-dir", tmp_path / "out", "--artists", 2,
                        "--images-per-artist", 3, "--size", 32, "--blend")
    assert (result.returncode, result.stderr) == (0, "")
    pictures, texts = list_images(tmp_path / "out"), (tmp_path / "out").glob("*.txt")
    assert {path.stem for path in pictures} == {path.stem for path in texts} == {f"{n:04}" for n in range(1, 7)}


@pytest.mark.parametrize("flags", [["--artists", "0"], ["--artists", "9"], ["--images-per-artist", "0"],
                                   ["--size", "8"]])
def test_numbers_out_of_range_are_one_line(run_script, tmp_path: Path, flags: list[str]) -> None:
    result = run_script("tools/make_demo_dataset.py", "--output-dir", tmp_path / "out", *flags)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert flags[0] in result.stderr
    assert not (tmp_path / "out").exists()
