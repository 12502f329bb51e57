"""An audit as a user asks for it, from pictures with swapped labels and copies to a data set without them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from data.csv_files import read_table
from data.prepare.fix_list import read_fix_list
from tests.conftest import Completed


def test_what_is_wrong_is_found_and_the_list_makes_a_data_set(trained: Path, data_set: Path, tmp_path: Path,
                                                              run_script: Callable[..., Completed]) -> None:
    source, output = tmp_path / "source", tmp_path / "audit"
    for artist in (data_set / "train").iterdir():
        shutil.copytree(artist, source / artist.name)
    (source / "artist_0" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    shutil.copyfile(source / "artist_1" / "train_0.png", source / "artist_2" / "copy.png")
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    done = run_script("tools/audit_dataset.py", "--images-dir", source, "--output-dir", output, "--checkpoint",
                      trained / "model_best.pth", "--workers", 0)
    assert done.returncode == 3, done.stderr
    assert "bad.png" in done.stderr
    assert "pictures that several artists have: 1;" in done.stdout
    rows = [row for _, row in read_table(output / "audit.csv", ["path", "artist", "same_picture"])]
    assert {path: artist for path, artist, _ in rows} == {
        path.relative_to(source).as_posix(): path.parent.name for path in before if path.name != "bad.png"}
    assert {path for path, _, group in rows if group} == {"artist_1/train_0.png", "artist_2/copy.png"}
    fixes = read_fix_list(output / "fixes.csv")
    assert [fixes.get(name) for name in ("artist_1/train_0.png", "artist_2/copy.png")] in (["", None], [None, ""])
    assert "artist_2/copy.png" in (output / "audit.html").read_text(encoding="utf-8")
    done = run_script("prepare_dataset.py", "--source-dir", source, "--output-dir", tmp_path / "prepared", "--fix-list",
                      output / "fixes.csv", "--min-images", 2, "--no-near-duplicates", "--workers", 0)
    assert done.returncode == 0, done.stderr
    assert {path: path.read_bytes() for path in source.rglob("*") if path.is_file()} == before


def test_pictures_without_artists_and_an_output_in_the_source_are_refused(
        data_set: Path, tmp_path: Path, run_script: Callable[..., Completed]) -> None:
    flags = ["--model", "test_vit", "--pretrained"]
    done = run_script("tools/audit_dataset.py", "--images-dir", data_set / "val" / "artist_0", "--output-dir",
                      tmp_path / "audit", *flags)
    assert (done.returncode, "in an artist's folder" in done.stderr) == (2, True)
    done = run_script("tools/audit_dataset.py", "--images-dir", data_set / "val", "--output-dir", data_set / "val/x",
                      *flags)
    assert (done.returncode, "one inside the other" in done.stderr) == (2, True)
