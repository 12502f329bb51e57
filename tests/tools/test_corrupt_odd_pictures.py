"""The tool that corrupts a data set names what it cannot write, and writes the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tools.corrupt_dataset import main


def test_pictures_that_cannot_be_written_are_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder, output = tmp_path / "in" / "a", tmp_path / "out"
    folder.mkdir(parents=True)
    noise = Image.effect_noise((24, 20), 60)
    for name in ("1.png", "no_ending", "odd.ending", "same.png", "same.png.jpg", "n" * 250 + ".png"):
        noise.save(folder / name, format="JPEG" if name.endswith("jpg") else "PNG")
    Image.new("RGB", (70_000, 1)).save(folder / "wide.png")
    assert main(["--input-dir", str(tmp_path / "in"), "--output-dir", str(output), "--kinds", "blur",
                 "--workers", "0"]) == 3
    told = capsys.readouterr()
    lines = [line for line in told.err.splitlines() if line.startswith("left out:")]
    assert lines[0] == "left out: a/same.png.jpg (would become the same file as a/same.png)"
    assert lines[1].startswith("left out: a/wide.png (cannot be written as JPEG, 70000x1 px: ")
    assert len(lines) == 2
    assert "5 pictures in 1 x 5 forms" in told.out
    for strength in "12345":
        written = sorted(path.name for path in (output / "blur" / strength / "val" / "a").iterdir())
        assert [name for name in written if len(name) < 99] == ["1.png.jpg", "no_ending.jpg", "odd.ending.jpg",
                                                               "same.png.jpg"]
        assert len(written) == 5
