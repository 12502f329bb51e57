"""Which files below a folder are pictures, and in which order."""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from PIL import Image

from data.output_folder import MARKER
from data.picture_files import (
    OUTPUT_FILES,
    OUTPUT_PICTURES,
    artist_of,
    expand_inputs,
    find_pictures,
)
from drawing import clusters
from evaluation.calibration import CALIBRATION
from evaluation.multilabel import FIGURES
from evaluation.report import REPORT
from inference.journal import RECORDS, UNFINISHED
from inference.records import NEIGHBOURS_SHEET, RESULTS, SHEET
from runtime.checkpoint import BEST, BEST_ALIAS, LATEST, WEIGHTS
from runtime.logbook import METRICS
from runtime.options import ResultFormat
from search.gallery import ABOUT, VECTOR_NAMES
from training.run_folder import ROBUSTNESS, RUN_FILES
from utils import UserError

# ---- list_images -----------------------------------------------------------------------------------------------------


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names(folder: Path, **options: object) -> list[str]:
    found = find_pictures(folder, **options)
    return [found.name(image) for image in found.images]


def test_pictures_are_listed_by_relative_path_whatever_their_case_or_script(tmp_path: Path) -> None:
    touch(tmp_path, "b.JPG", "a/z.png", "a.png", "中文/图.webp", "a b/c d.Jpeg", "a/é.gif", "notes.txt", "B.bmp")
    assert names(tmp_path) == ["B.bmp", "a b/c d.Jpeg", "a.png", "a/z.png", "a/é.gif", "b.JPG", "中文/图.webp"]
    assert names(tmp_path, recursive=False) == ["B.bmp", "a.png", "b.JPG"]
    assert names(tmp_path, extensions={".png"}) == ["a.png", "a/z.png"]


def test_hidden_files_and_folders_are_skipped(tmp_path: Path) -> None:
    touch(tmp_path, ".hidden.png", ".git/a.png", "a.png", "b/._a.png")
    assert names(tmp_path) == ["a.png"]


@pytest.mark.skipif(os.name == "nt", reason="links need a right on Windows")
def test_linked_folders_are_followed_and_circles_end(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "a.png")
    touch(tmp_path / "root", "b.png")
    (tmp_path / "root" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "root")
    assert names(tmp_path / "root") == ["b.png", "link/a.png"]


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_folder_that_is_none_is_told(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=kind):
        find_pictures(tmp_path / kind)


# ---- what is passed over ---------------------------------------------------------------------------------------------


def test_system_and_hidden_folders_and_files_are_passed_over_and_named(tmp_path: Path) -> None:
    system = ["@eaDir", "#recycle", "System Volume Information", "__MACOSX", "lost+found", "$RECYCLE.BIN"]
    touch(tmp_path, "a/1.png", *(f"{name}/x.png" for name in system), "a/@eaDir/1.png/thumb.jpg", ".thumbnails/2.png",
          "a/.DS_Store", "a/notes.txt")
    found = find_pictures(tmp_path)
    assert [found.name(image) for image in found.images] == ["a/1.png"]
    assert found.folders == ["a"]
    assert found.passed_over == {
        **dict.fromkeys([*system, "a/@eaDir"], "a system folder"), ".thumbnails": "a hidden folder",
        "a/.DS_Store": "a hidden file", "a/notes.txt": "no picture, .txt"}
    assert found.report() == [
        "passed over: 1 (a hidden file): a/.DS_Store", "passed over: 1 (a hidden folder): .thumbnails",
        f"passed over: 7 (a system folder): {', '.join(sorted([*system, 'a/@eaDir']))}",
        "passed over: 1 (no picture, .txt): a/notes.txt"]


def test_a_long_list_is_counted_and_cut(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{number:02}.txt" for number in range(30)), "a.png")
    (line,) = find_pictures(tmp_path).report()
    assert line.startswith("passed over: 30 (no picture, .txt): 00.txt, 01.txt, ")
    assert line.endswith("09.txt, …")
    assert find_pictures(tmp_path).report(used={f"{number:02}.txt" for number in range(30)}) == []


@pytest.mark.parametrize(("exclude", "left"), [
    (["drafts"], ["a/1.png", "a/1_small.png", "b/é.png"]), (["*_SMALL.*"], ["a/1.png", "a/drafts/2.png", "b/é.png"]),
    (["a/*"], ["b/é.png"]), (["A/drafts/"], ["a/1.png", "a/1_small.png", "b/é.png"]),
    (["?/1*", "b"], ["a/drafts/2.png"]), ([unicodedata.normalize("NFD", "é.png"), "[ab]"], [])])
def test_patterns_exclude_names_and_paths(tmp_path: Path, exclude: list[str], left: list[str]) -> None:
    touch(tmp_path, "a/1.png", "a/1_small.png", "a/drafts/2.png", "b/é.png")
    found = find_pictures(tmp_path, exclude=exclude)
    assert [found.name(image) for image in found.images] == left
    assert set(found.passed_over.values()) == {"--exclude"}


def test_content_decides_where_the_extension_is_unknown(tmp_path: Path) -> None:
    for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "JPEG2000", "AVIF"):
        Image.new("RGB", (3, 2)).save(tmp_path / f"{kind}.unknown", format=kind)
    for name in ("photo", "photo.jpg_large", "photo.txt", "raw.dng", "clip.thm"):
        shutil.copyfile(tmp_path / "JPEG.unknown", tmp_path / name)
    (tmp_path / "phone.bin").write_bytes(b"\0\0\0\x1cftypheic\0\0\0\0mif1heic")
    (tmp_path / "jxl.bin").write_bytes(b"\0\0\0\x0cJXL \r\n\x87\n")
    touch(tmp_path, "empty", "new.HEIC", "new.jxl", "new.apng", "new.pjpeg")
    (tmp_path / "README").write_text("BMP is a format", encoding="ascii")
    (tmp_path / "P1").write_text("P1 is the first", encoding="ascii")
    found = find_pictures(tmp_path)
    assert set(found.passed_over) == {"photo.txt", "raw.dng", "clip.thm", "empty", "README", "P1"}
    assert found.passed_over["empty"] == "no picture, no ending"
    assert names(tmp_path, extensions={".thm"}) == ["clip.thm"]


@pytest.mark.skipif(os.name == "nt", reason="no FIFOs on Windows")
def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "broken").symlink_to("nowhere")
    assert set(find_pictures(tmp_path).passed_over) == {"pipe", "broken"}


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/1.png", "secret/2.png")

    def scandir(path: str) -> Iterator[os.DirEntry[str]]:
        if Path(path).name == "secret":
            raise PermissionError(13, "Permission denied", path)
        return original(path)

    original = os.scandir
    monkeypatch.setattr(os, "scandir", scandir)
    found = find_pictures(tmp_path)
    assert (found.folders, [found.name(image) for image in found.images]) == (["a"], ["a/1.png"])
    assert found.passed_over == {"secret": "a folder that cannot be read: Permission denied"}
    assert found.unreadable == [(tmp_path / "secret", "a folder that cannot be read: Permission denied")]
    assert found.without_loose().unreadable == found.unreadable
    assert find_pictures(tmp_path, exclude=["secret"]).unreadable == []
    with pytest.raises(UserError, match="Permission denied"):
        find_pictures(tmp_path / "secret")


def test_without_recursive_the_pictures_in_sub_folders_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "a/2.png", "a/notes.txt", "b/c/3.png", ".trash/4.png", "empty/x.csv", "5.doc")
    found = find_pictures(tmp_path, recursive=False)
    assert [found.name(image) for image in found.images] == ["1.png"]
    assert found.report() == [
        "passed over: 1 (a hidden folder): .trash",
        "passed over: 2 (a picture in a sub-folder, without --recursive): a/2.png, b/c/3.png",
        "passed over: 1 (no picture, .doc): 5.doc"]


@pytest.mark.skipif(os.name == "nt", reason="links need a right on Windows")
def test_two_artists_may_link_to_one_folder(tmp_path: Path) -> None:
    touch(tmp_path / "shared", "1.png")
    touch(tmp_path / "root", "a/2.png")
    for name in ("b", "c", "a/again", "a/twice"):
        (tmp_path / "root" / name).symlink_to(tmp_path / "shared")
    found = find_pictures(tmp_path / "root")
    assert [found.name(image) for image in found.images] == ["a/2.png", "a/again/1.png", "b/1.png", "c/1.png"]
    assert found.passed_over == {"a/twice": "a link to a folder that is searched already"}


# ---- our own outputs -------------------------------------------------------------------------------------------------


def test_results_of_ours_are_passed_over_as_folders(tmp_path: Path) -> None:
    touch(tmp_path, "anna/1.png", "results/batch_results.json", "results/contact_sheet.png", "results/features.npy",
          "runs/one/model_best.pth", "runs/one/curves.png", "runs/one/tensorboard/events.out.tfevents.1.host",
          "runs/one/previous_1/checkpoint.pth", "runs/one/previous_1/confusion.png", "tb/events.out.tfevents.2.host",
          "groups/cluster_assignments.json", "groups/clusters.png", "groups/map.png", "single/cat_result.json",
          "half/.unfinished/records.jsonl", "out/shard_1_of_2/records.jsonl", f"gallery/{MARKER}", "gallery/x.png",
          f"more/dataset/{MARKER}", "more/dataset/train/anna/1.png")
    found = find_pictures(tmp_path)
    assert [found.name(image) for image in found.images] == ["anna/1.png"]
    assert found.folders == ["anna"]
    assert {name: reason for name, reason in found.passed_over.items() if "made by" not in reason} == {
        "results": "results of inference", "runs/one": "a training run", "tb": "TensorBoard's files",
        "groups": "clusters", "single": "results of inference", "half": "an unfinished run or shard",
        "out/shard_1_of_2": "an unfinished run or shard"}
    assert {name for name, reason in found.passed_over.items() if "made by" in reason} == {"gallery", "more/dataset"}


def test_results_among_pictures_leave_the_pictures(tmp_path: Path) -> None:
    touch(tmp_path, "anna/1.png", "anna/batch_results.json", "anna/contact_sheet.png", "anna/early/2.png",
          "bob/map.png", "batch_results.csv", "contact_sheet.png", MARKER)
    found = find_pictures(tmp_path)
    assert [found.name(image) for image in found.images] == ["anna/1.png", "anna/early/2.png", "bob/map.png"]
    assert found.passed_over["anna/contact_sheet.png"] == found.passed_over["contact_sheet.png"] == (
        "results of inference")


def test_what_our_commands_write_is_known() -> None:
    drawn = {SHEET, NEIGHBOURS_SHEET, clusters.SHEET, clusters.MAP,
             *(name for name in RUN_FILES if name.endswith(".png")), Path(CALIBRATION).with_suffix(".png").name,
             Path(METRICS).with_suffix(".png").name}
    assert drawn == OUTPUT_PICTURES
    assert {*(Path(RESULTS).with_suffix(f".{kind}").name for kind in get_args(ResultFormat)), BEST, BEST_ALIAS,
            LATEST, WEIGHTS, METRICS, REPORT, ROBUSTNESS, FIGURES, CALIBRATION, RECORDS, ABOUT, VECTOR_NAMES,
            UNFINISHED, "cluster_assignments.json"} == OUTPUT_FILES.keys()


# ---- whose picture ---------------------------------------------------------------------------------------------------


def test_the_first_folder_in_nfc_is_the_artist(tmp_path: Path) -> None:
    apart = unicodedata.normalize("NFD", "Zoë")
    assert artist_of(f"{apart}/late/1.png") == "Zo\u00eb"
    assert artist_of("1.png") is None
    touch(tmp_path, f"{apart}/late/1.png", "2.png")
    found = find_pictures(tmp_path)
    assert [found.artist(image) for image in found.images] == [tmp_path.name, "Zo\u00eb"]


def test_a_loose_picture_is_of_no_artist_unless_all_are_loose(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "anna/2.png", "Bob/notes.txt")
    found = find_pictures(tmp_path).of_artists()
    assert [found.name(image) for image in found.images] == ["anna/2.png"]
    assert found.passed_over["1.png"] == "a picture in no artist's folder"
    (tmp_path / "anna" / "2.png").unlink()
    found = find_pictures(tmp_path)
    assert [found.name(image) for image in found.of_artists().images] == ["1.png"]
    assert found.without_loose().names == []


# ---- expand_inputs ---------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.JPG", "notes.txt", "sub/c.png", "画 家.webp"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(("inputs", "recursive", "expected"), [
    (["b.png", "a.JPG", "b.png"], False, ["b.png", "a.JPG", "b.png"]), (["."], False, ["a.JPG", "b.png", "画 家.webp"]),
    (["sub", "."], True, ["sub/c.png", "a.JPG", "b.png", "sub/c.png", "画 家.webp"]),
    (["notes.txt"], False, ["notes.txt"])])
def test_inputs_keep_their_order_and_folders_stand_for_their_pictures(folder: Path, inputs: list[str], recursive: bool,
                                                                      expected: list[str]) -> None:
    assert [path.as_posix() for path in expand_inputs(inputs, recursive=recursive).images] == expected


@pytest.mark.parametrize("content", ["sub\r\n\r\n画 家.webp\r\ngone.png", "\ufeffsub\n画 家.webp\ngone.png\n"])
def test_a_list_is_read_line_by_line_and_its_missing_files_stay(folder: Path, content: str) -> None:
    (folder / "list.txt").write_bytes(content.encode())
    found = expand_inputs(["b.png", "@list.txt"], recursive=False).images
    assert [path.as_posix() for path in found] == ["b.png", "sub/c.png", "画 家.webp", "gone.png"]


def test_a_name_in_a_list_may_hold_all_but_a_line_feed(folder: Path) -> None:
    (folder / "list.txt").write_bytes("a\u2028b\x0b.png\r\nc\x85\x0c.png\n".encode())
    assert [path.name for path in expand_inputs(["@list.txt"], recursive=False).images] == [
        "a\u2028b\x0b.png", "c\x85\x0c.png"]


@pytest.mark.parametrize(("inputs", "found"), [
    (["gone.png"], "no gone.png"), (["@gone.txt"], "the list gone.txt"),
    (["@utf16.txt"], "not UTF-8 in the list utf16.txt")])
def test_what_names_no_picture_is_told(folder: Path, inputs: list[str], found: str) -> None:
    (folder / "empty").mkdir()
    (folder / "utf16.txt").write_bytes("b.png".encode("utf-16"))
    with pytest.raises(UserError, match=found):
        expand_inputs(inputs, recursive=True)
