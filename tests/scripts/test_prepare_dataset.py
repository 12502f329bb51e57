"""prepare_dataset.py as a user runs it: the documented command, its question, its refusals, its summary."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import prepare_dataset
from data.class_mapping import read_class_mapping
from data.images import decode_image
from tests.pictures import list_images

Prepare = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three artists with ten pictures each, a fourth with three, and files that are no one's picture."""
    rng = np.random.default_rng(0)
    for artist, count in (("Anna", 10), ("Bob B", 10), ("葛飾 北斎", 10), ("Rare", 3)):
        for number in range(count):
            path = tmp_path / "raw" / artist / f"{number:02}.{'JPG' if number % 2 else 'png'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(path)
    (tmp_path / "raw" / "README.md").write_text("notes")
    (tmp_path / "raw" / "Empty").mkdir()
    return tmp_path / "raw"


@pytest.fixture
def prepare(source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Prepare:
    """The command from `source` to the folder `out` beside it, in the folder of both; `flags` may replace them."""
    monkeypatch.chdir(source.parent)

    def run(*flags: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
        arguments = ["--source-dir", "raw", "--output-dir", "out", "--workers", "0", *map(str, flags)]
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        code = prepare_dataset.main(arguments)
        return subprocess.CompletedProcess(arguments, code, *capsys.readouterr())

    return run


def files(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in list_images(folder)]


def refused(result: subprocess.CompletedProcess[str], *complaints: str) -> None:
    """Exit code 2 and one line with found, expected and what to do."""
    assert result.returncode == 2, result.stderr
    assert re.fullmatch(r"prepare_dataset\.py: found .+; expected .+; .+\n", result.stderr)
    for complaint in complaints:
        assert complaint in result.stderr


def test_the_documented_command(run_script: Callable[..., subprocess.CompletedProcess[str]], source: Path) -> None:
    result = run_script("prepare_dataset.py", "--source-dir", source, "--output-dir", source.parent / "out",
                        "--val-ratio", 0.2, "--min-images", 10)
    assert (result.returncode, result.stderr) == (0, "")
    out = source.parent / "out"
    assert sorted(path.name for path in out.iterdir() if path.name[0] != ".") == [
        "class_mapping.csv", "class_names.json", "dataset_info.json", "split_info.txt", "train", "val"]
    assert read_class_mapping(out / "class_mapping.csv") == ["Anna", "Bob B", "葛飾 北斎"]
    for artist in ("Anna", "Bob B", "葛飾 北斎"):
        train, val = files(out / "train" / artist), files(out / "val" / artist)
        assert (len(train), len(val)) == (8, 2)
        assert sorted(train + val) == files(source / artist)
    assert max(map(len, result.stdout.splitlines()[:-2])) <= 80  # the last two have paths
    assert re.search(r"^Bob B +8 +2$", result.stdout, re.MULTILINE)
    assert re.search(r"^3 artists +24 +6$", result.stdout, re.MULTILINE)
    assert "Rare (3 usable pictures, fewer than 10)" in result.stdout
    assert "Empty (0 usable pictures, fewer than 10)" in result.stdout


def test_damaged_pictures_are_left_out_and_named(prepare: Prepare, source: Path) -> None:
    (source / "Anna" / "zero.png").write_bytes(b"")
    (source / "Anna" / "cut.png").write_bytes((source / "Anna" / "00.png").read_bytes()[:900])
    (source / "Anna" / "pointer.jpg").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n")
    (source / "Bob B" / "text.jpeg").write_text("no picture")
    Image.new("L", (300, 300)).save(source / "Bob B" / "large.png")
    (source / "loose.png").write_bytes((source / "Anna" / "00.png").read_bytes())
    result = prepare("--max-pixels", 80000)
    assert (result.returncode, result.stderr) == (0, "")
    for line in ("left out: Anna/zero.png (empty file (0 bytes))", "left out: Anna/cut.png (cannot be read: ",
                 "left out: Anna/pointer.jpg (Git LFS pointer, not the picture)",
                 "left out: Bob B/text.jpeg (no picture in a known format)",
                 "left out: Bob B/large.png (300x300 px, more than the limit of 80000 px (--max-pixels))",
                 "passed over: 1 (a picture in no artist's folder): loose.png"):
        assert line in result.stdout
    assert len(json.loads((source.parent / "out" / "dataset_info.json").read_text())["damaged"]) == 5


def test_equal_files_never_face_each_other(prepare: Prepare, source: Path) -> None:
    for number in range(5):
        (source / "Anna" / f"copy{number}.png").write_bytes((source / "Anna" / "00.png").read_bytes())
    (source / "Bob B" / "of_anna.png").write_bytes((source / "Anna" / "02.png").read_bytes())
    result = prepare("--val-ratio", 0.5)
    out = source.parent / "out"
    train, val = ({path.read_bytes() for path in list_images(out / side)} for side in ("train", "val"))
    assert not train & val
    assert "left out: Anna/copy4.png (same file as Anna/00.png)" in result.stdout
    assert "in train/ of several artists: Anna/02.png, Bob B/of_anna.png (equal files)" in result.stdout


def test_the_same_seed_gives_the_same_files_with_any_number_of_workers(prepare: Prepare, source: Path) -> None:
    texts = []
    for flags in (["--seed", 3], ["--seed", 3, "--workers", 2], ["--seed", 4]):
        assert prepare("--overwrite", *flags).returncode == 0
        texts.append((source.parent / "out" / "split_info.txt").read_text(encoding="utf-8"))
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize(("stdin", "flags", "replaced"), [("y\n", [], True), ("n\n", [], False), ("", [], False),
                                                          ("", ["--overwrite"], True)])
def test_the_output_exists_question(prepare: Prepare, source: Path, stdin: str, flags: list[str],
                                    replaced: bool) -> None:
    prepare()
    before = (source.parent / "out" / "split_info.txt").read_text(encoding="utf-8")
    result = prepare("--seed", 1, *flags, stdin=stdin)
    assert ("[y/N]" in result.stdout) == (not flags)
    if replaced:
        assert (result.returncode, result.stderr) == (0, "")
    else:
        refused(result, "nothing was changed")
    assert ((source.parent / "out" / "split_info.txt").read_text(encoding="utf-8") != before) == replaced
    assert sorted(path.name for path in source.parent.iterdir()) == ["out", "raw"]


def test_a_folder_of_the_users_is_never_replaced(prepare: Prepare, source: Path) -> None:
    (source.parent / "out").mkdir()
    (source.parent / "out" / "thesis.doc").write_text("years of work")
    refused(prepare("--overwrite", stdin="y\n"), "no mark of an earlier run")
    assert (source.parent / "out" / "thesis.doc").read_text() == "years of work"


@pytest.mark.parametrize(("flags", "complaints"), [
    (["--val-ratio", "0"], ["--val-ratio 0"]), (["--val-ratio", "1"], ["--val-ratio 1"]),
    (["--val-ratio", "-1"], ["--val-ratio"]), (["--val-ratio", "nan"], ["--val-ratio nan"]),
    (["--min-images", "0"], ["--min-images 0"]), (["--min-images", "11"], ["no artist with at least 11"]),
    (["--resize", "0"], ["--resize 0"]), (["--resize", "9", "--symlink"], ["--resize with --symlink"]),
    (["--symlink", "--hardlink"], ["--hardlink"]), (["--workers", "-1"], ["--workers"]),
    (["--image-extensions", "jpg", "doc"], [".doc"]), (["--artist-map", "missing.csv"], ["missing.csv"]),
    (["--sed", "1"], ["--seed"]), (["--output-dir", "raw"], ["source folder"]), (["--output-dir", "raw/x"], ["source"]),
    (["--output-dir", "."], ["."]), (["--source-dir", "nowhere"], ["nowhere"]),
    (["--source-dir", "raw/Anna"], ["no artist folder"]), (["--leave-groups-out", "a"], ["without --group-by"]),
    (["--group-by", "Anna"], ["with 0 groups"]), (["--group-by", "(book)"], ["none of 33 pictures a group"]),
    (["--group-by", "(/)"], ["one group in the whole data set"]),
    (["--group-by", "^([^/]+)"], ["no artist with two groups"]),
    (["--group-by", "^(.)", "--leave-groups-out", "2"], ["2, a group that no picture has"]),
    (["--group-by", "^(.)", "--leave-groups-out", "A"], ["no picture to train of 1 artist, such as Anna"]),
    (["--group-by", "^(.)", "--leave-groups-out", "R"], ["no usable picture in the group R"])])
def test_what_cannot_work_is_one_line_and_nothing_happens(prepare: Prepare, source: Path, flags: list[str],
                                                         complaints: list[str]) -> None:
    before = sorted(source.parent.rglob("*"))
    refused(prepare(*flags), *complaints)
    assert sorted(source.parent.rglob("*")) == before


def test_an_artist_map_with_byte_order_mark_and_crlf(prepare: Prepare, source: Path) -> None:
    path = source.parent / "artists.csv"
    path.write_bytes("\ufefffolder,artist\r\nBob B,Anna\r\n葛飾 北斎,Hokusai\r\nRare,\r\n".encode())
    assert prepare("--artist-map", path).returncode == 0
    assert read_class_mapping(source.parent / "out" / "class_mapping.csv") == ["Anna", "Hokusai"]
    merged = files(source.parent / "out" / "train" / "Anna") + files(source.parent / "out" / "val" / "Anna")
    assert sorted(merged) == [f"{artist}/{name}" for artist in ("Anna", "Bob B") for name in files(source / artist)]


def test_a_map_that_names_an_unknown_folder_is_refused(prepare: Prepare, source: Path) -> None:
    (source.parent / "artists.csv").write_text("folder,artist\nBbo,Bob\n")
    refused(prepare("--artist-map", "artists.csv"), "'Bbo'", "--artist-map")


def test_resize_and_chosen_extensions(prepare: Prepare, source: Path) -> None:
    result = prepare("--resize", 12, "--image-extensions", ".PNG,webp", "--min-images", 5)
    assert (result.returncode, result.stderr) == (0, "")
    pictures = list_images(source.parent / "out")
    assert {path.suffix for path in pictures} == {".png"}
    assert {decode_image(path).size for path in pictures} == {(16, 12)}


def sides(folder: Path) -> dict[str, str]:
    """Source path → side, from split_info.txt."""
    rows = [line.split("\t") for line in (folder / "split_info.txt").read_text(encoding="utf-8").splitlines()[1:]]
    return {source: side for side, source, _ in rows}


def test_no_group_is_on_both_sides(prepare: Prepare, source: Path) -> None:
    """Books of two and eight pictures, but a single one of 葛飾 北斎's."""
    names = files(source)
    books = {name: f"{name[0]}{int(name.rpartition('/')[2][:2]) > 1 and name[0] != '葛'}" for name in names}
    (source.parent / "books.csv").write_text("book,path\n" + "".join(
        f"{book},{name}\n" for name, book in books.items()), encoding="utf-8")
    result = prepare("--group-by", "books.csv:book")
    assert (result.returncode, result.stderr) == (0, "")
    side = sides(source.parent / "out")
    assert {books[name] for name in side if side[name] == "val"} == {"AFalse", "BFalse"}
    assert "5 groups by --group-by: 3 in train/, 2 in val/" in result.stdout
    assert "not measured: the artist 葛飾 北斎 (no picture in val/)" in result.stdout
    info = json.loads((source.parent / "out" / "dataset_info.json").read_text(encoding="utf-8"))
    assert info["groups"] == {"AFalse": "val", "ATrue": "train", "BFalse": "val", "BTrue": "train", "葛False": "train"}
    assert info["not_measured"] == ["葛飾 北斎"]


def test_groups_that_are_left_out_are_the_validation_set(prepare: Prepare, source: Path) -> None:
    result = prepare("--group-by", "(Anna/0[0-3])", "--leave-groups-out", "Anna/01", "Anna/02")
    assert (result.returncode, result.stderr) == (0, "")
    assert files(source.parent / "out" / "val") == ["Anna/01.JPG", "Anna/02.png"]
    assert "not measured: the artist Bob B (no picture in val/)" in result.stdout
    info = json.loads((source.parent / "out" / "dataset_info.json").read_text(encoding="utf-8"))
    assert (info["leave_groups_out"], info["not_measured"]) == (["Anna/01", "Anna/02"], ["Bob B", "葛飾 北斎"])


def test_near_duplicates_stay_on_one_side_and_are_listed(prepare: Prepare, source: Path) -> None:
    before = prepare("--no-near-duplicates")
    assert "near-duplicates" not in before.stdout
    assert prepare("--overwrite").stdout == before.stdout  # nothing is found
    without = sides(source.parent / "out")
    for number in range(4):
        Image.open(source / "Anna" / f"0{2 * number}.png").resize((64, 48)).save(source / "Anna" / f"re{number}.webp")
    Image.open(source / "Anna" / "01.JPG").resize((64, 48)).save(source / "Bob B" / "of_anna.jpg")
    result = prepare("--overwrite", "--val-ratio", "0.5")
    assert (result.returncode, result.stderr) == (0, "")
    side = sides(source.parent / "out")
    assert all(side[f"Anna/re{number}.webp"] == side[f"Anna/0{2 * number}.png"] for number in range(4))
    assert side["Bob B/of_anna.jpg"] == side["Anna/01.JPG"] == "train"
    assert "near-duplicates, all in train/: Anna/01.JPG, Bob B/of_anna.jpg" in result.stdout
    assert "10 near-duplicates in 5 groups, each on one side" in result.stdout
    info = json.loads((source.parent / "out" / "dataset_info.json").read_text(encoding="utf-8"))
    assert (info["num_near_duplicates"], len(info["near_duplicates"])) == (10, 5)
    prepare("--overwrite", "--no-near-duplicates", "--exclude", "re?.webp", "of_anna.jpg")
    assert sides(source.parent / "out") == without
    info = json.loads((source.parent / "out" / "dataset_info.json").read_text(encoding="utf-8"))
    assert info["near_duplicates"] is None


@pytest.mark.skipif(os.name == "nt", reason="links need a right on Windows")
@pytest.mark.parametrize("flag", ["--symlink", "--hardlink"])
def test_links_instead_of_copies_can_be_replaced_without_harm(prepare: Prepare, source: Path, flag: str) -> None:
    before = {path: path.read_bytes() for path in list_images(source)}
    for _ in range(2):
        assert prepare(flag, "--overwrite").returncode == 0
        assert len(list_images(source.parent / "out")) == 30
    assert {path: path.read_bytes() for path in list_images(source)} == before


def test_it_runs_where_the_terminal_speaks_no_unicode(source: Path) -> None:
    script = Path(__file__).resolve().parents[2] / "prepare_dataset.py"
    result = subprocess.run([sys.executable, script, "--source-dir", source, "--output-dir", source.parent / "out"],
                            capture_output=True, check=False, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (result.returncode, result.stderr) == (0, b"")
