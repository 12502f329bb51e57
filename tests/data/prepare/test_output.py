"""The promise "Deletion": only our own earlier output goes, after a yes, and only when the new one is complete."""

from __future__ import annotations

import errno
import io
import os
import shutil
from pathlib import Path

import pytest

import data.prepare.output
from data.prepare.output import MARKER, check_csv_outputs, new_folder
from utils import UserError


def make(target: Path, content: str = "new", *, overwrite: bool = True, sources: tuple[Path, ...] = ()) -> None:
    with new_folder(target, made_by="a test", overwrite=overwrite, sources=sources) as folder:
        (folder / "train").mkdir()
        (folder / "train" / "file.txt").write_text(content)


def content(target: Path) -> str:
    return (target / "train" / "file.txt").read_text()


def leftovers(target: Path) -> list[str]:
    return [path.name for path in target.parent.iterdir() if path.name.startswith(f".{target.name}")]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "parent" / "out"


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch):
    """Sets what the next question reads."""
    return lambda text: monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_the_folder_appears_when_the_block_ends(target: Path) -> None:
    with new_folder(target, made_by="a test", overwrite=False) as folder:
        (folder / "file.txt").write_text("x")
        assert not target.exists()
        assert folder.parent == target.parent  # the same file system, so that the swap is a rename
    assert sorted(path.name for path in target.iterdir()) == [MARKER, "file.txt"]
    assert not leftovers(target)


def test_an_empty_folder_is_filled_without_a_question(target: Path, answer) -> None:
    target.mkdir(parents=True)
    answer("")
    make(target, overwrite=False)
    assert content(target) == "new"


@pytest.mark.parametrize("text", ["y\n", "Y\n", "yes\nn\n", " y"])
def test_a_yes_replaces_an_earlier_output(target: Path, answer, text: str) -> None:
    make(target, "old")
    (target / ".DS_Store").touch()  # what a file manager adds is no one's work
    (target / "train" / "Thumbs.db").touch()
    answer(text)
    make(target, overwrite=False)
    assert content(target) == "new"
    assert not leftovers(target)


@pytest.mark.parametrize("text", ["n\n", "", "\n", "no, y\n", "\ny\n"])
def test_anything_else_leaves_it(target: Path, answer, text: str) -> None:
    make(target, "old")
    answer(text)
    with pytest.raises(UserError, match="nothing was changed"):
        make(target, overwrite=False)
    assert content(target) == "old"
    assert not leftovers(target)


@pytest.mark.parametrize("marker", [None, "", "{}", '{"files": 3}', "[1]"])
def test_a_folder_without_our_marker_is_never_touched(target: Path, marker: str | None) -> None:
    target.mkdir(parents=True)
    (target / "holiday.jpg").write_text("precious")
    if marker is not None:
        (target / MARKER).write_text(marker)
    with pytest.raises(UserError, match="no mark of an earlier run"):
        make(target)
    assert (target / "holiday.jpg").read_text() == "precious"


@pytest.mark.parametrize("added", ["checkpoint.pth", "train/mine.txt", "runs/log.txt", ".git/HEAD"])
def test_an_output_to_which_something_was_added_stays(target: Path, added: str) -> None:
    make(target, "old")
    (target / added).parent.mkdir(exist_ok=True)
    (target / added).write_text("precious")
    with pytest.raises(UserError, match="no earlier run put there") as caught:
        make(target)
    assert added in str(caught.value)
    assert (target / added).read_text() == "precious"
    assert content(target) == "old"


def test_what_is_added_meanwhile_is_safe_too(target: Path) -> None:
    make(target, "old")
    with (pytest.raises(UserError, match=r"mine\.txt"),
          new_folder(target, made_by="a test", overwrite=True)):
        (target / "mine.txt").write_text("precious")
    assert (target / "mine.txt").exists()
    assert not leftovers(target)


@pytest.mark.parametrize("name", [".", "sub", ".."])
def test_source_and_output_stay_apart(tmp_path: Path, name: str) -> None:
    source = tmp_path / "a" / "source"
    (source / "sub").mkdir(parents=True)
    with pytest.raises(UserError, match="source folder"):
        make(source / name, sources=(source,))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "source", "sub"]


@pytest.mark.skipif(os.name == "nt", reason="links need a right on Windows")
def test_a_link_to_the_source_is_the_source(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "source")
    with pytest.raises(UserError, match="source folder"):
        make(tmp_path / "link", sources=(tmp_path / "source",))


@pytest.mark.parametrize("inside", [".", "train"])
def test_the_current_folder_is_not_replaced(target: Path, monkeypatch: pytest.MonkeyPatch, inside: str) -> None:
    make(target, "old")
    monkeypatch.chdir(target / inside)
    with pytest.raises(UserError, match="current folder"):
        make(target)
    assert content(target) == "old"


def test_a_file_in_the_way_is_told(target: Path) -> None:
    target.parent.mkdir()
    target.write_text("precious")
    with pytest.raises(UserError, match="the file"):
        make(target)
    assert target.read_text() == "precious"


@pytest.mark.skipif(os.name == "nt", reason="links need a right on Windows")
def test_links_are_removed_and_not_what_they_lead_to(target: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "picture.jpg").write_text("precious")
    with new_folder(target, made_by="a test", overwrite=True) as folder:
        (folder / "picture.jpg").symlink_to(tmp_path / "elsewhere" / "picture.jpg")
        (folder / "folder").symlink_to(tmp_path / "elsewhere")
    make(target)
    assert (tmp_path / "elsewhere" / "picture.jpg").read_text() == "precious"


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, UserError("a", "b", "c")])
def test_a_run_that_fails_leaves_the_old_folder_and_nothing_else(target: Path, error: object) -> None:
    def fail_halfway() -> None:
        with new_folder(target, made_by="a test", overwrite=True) as folder:
            (folder / "half").write_text("x")
            raise error

    make(target, "old")
    with pytest.raises((KeyboardInterrupt, RuntimeError, UserError)):
        fail_halfway()
    assert content(target) == "old"
    assert not leftovers(target)


class Killed(BaseException):
    """Stands for kill -9: nothing after it runs."""


def kill_at(monkeypatch: pytest.MonkeyPatch, function: str, call: int) -> None:
    calls = []
    module, name = (os, "rename") if function == "rename" else (data.prepare.output, function)
    real = getattr(module, name)

    def maybe(*arguments: object) -> object:
        calls.append(1)
        if len(calls) >= call:
            raise Killed
        return real(*arguments)

    monkeypatch.setattr(module, name, maybe)
    if function == "rename":  # the clean-up that a kill would prevent
        monkeypatch.setattr(data.prepare.output, "_delete", lambda folder: None)


@pytest.mark.parametrize(("function", "call"), [("_mark", 2), ("rename", 1), ("rename", 2), ("_delete", 1)])
def test_after_a_kill_the_next_run_finds_a_good_folder_and_tidies_up(target: Path, answer, function: str,
                                                                     call: int) -> None:
    make(target, "old")
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, function, call)
        with pytest.raises(Killed):
            make(target, "newer")
    answer("n\n")
    with pytest.raises(UserError, match="nothing was changed"):
        make(target, overwrite=False)
    assert content(target) == ("newer" if function == "_delete" else "old")
    make(target, "newest")
    assert content(target) == "newest"
    assert not leftovers(target)


def test_a_half_deleted_folder_is_still_known_as_ours(target: Path) -> None:
    make(target, "old")
    shutil.rmtree(target / "train")
    make(target)
    assert content(target) == "new"


def test_a_strangers_folder_under_our_temporary_name_stays(target: Path) -> None:
    stranger = target.with_name(".out.partial")
    stranger.mkdir(parents=True)
    (stranger / "file").write_text("precious")
    with pytest.raises(UserError, match="no mark"):
        make(target)
    assert (stranger / "file").read_text() == "precious"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_full_disk_is_told_in_one_line(target: Path, number: int) -> None:
    make(target, "old")
    with (pytest.raises(UserError, match=os.strerror(number)),
          new_folder(target, made_by="a test", overwrite=True)):
        raise OSError(number, os.strerror(number), "picture.jpg")
    assert content(target) == "old"


def test_another_os_error_is_a_bug_and_shows_itself(target: Path) -> None:
    with pytest.raises(FileNotFoundError), new_folder(target, made_by="a test", overwrite=True) as folder:
        (folder / "missing").read_text()


def test_a_folder_that_another_program_holds_open_stays(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(target, "old")
    real = os.rename

    def refuse_the_new(source: object, place: object) -> None:
        if str(source).endswith(".partial"):
            raise PermissionError(errno.EACCES, "in use", str(place))
        real(source, place)

    monkeypatch.setattr(os, "rename", refuse_the_new)
    with pytest.raises(UserError, match="in use"):
        make(target)
    assert content(target) == "old"


# ---- files ----


def test_new_files_are_free(tmp_path: Path) -> None:
    check_csv_outputs(tmp_path / "new" / "a.csv", tmp_path / "b.CSV", overwrite=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("answer", "allowed"), [("y\n", True), ("Yes\n", True), ("n\n", False), ("", False)])
def test_a_file_that_exists_is_asked_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str,
                                           allowed: bool) -> None:
    path = tmp_path / "a.csv"
    path.write_text("old")
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    if allowed:
        check_csv_outputs(path, overwrite=False)
    else:
        with pytest.raises(UserError, match="y to replace it"):
            check_csv_outputs(path, overwrite=False)
    monkeypatch.setattr("sys.stdin", None)
    check_csv_outputs(path, overwrite=True)


@pytest.mark.parametrize("names", [["label.txt"], ["picture.png"], ["folder.csv"], ["a.csv", "sub/../a.csv"]])
def test_sources_folders_and_one_file_twice_are_refused(tmp_path: Path, names: list[str]) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "sub").mkdir()
    with pytest.raises(UserError, match="correct the path"):
        check_csv_outputs(*(tmp_path / name for name in names), overwrite=True)
