"""The promises "Deletion" and "One writer": what may go, and one command at a time in a place."""

from __future__ import annotations

import errno
import io
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import filelock
import pytest

import data.output_folder
from data.output_folder import MARKER, check_csv_outputs, new_folder, output_lock, read_swapped, replace_together
from tests.kills import count_calls
from utils import UserError, write_text


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
    module, name = (os, "rename") if function == "rename" else (data.output_folder, function)
    real = getattr(module, name)

    def maybe(*arguments: object) -> object:
        calls.append(1)
        if len(calls) >= call:
            raise Killed
        return real(*arguments)

    monkeypatch.setattr(module, name, maybe)
    if function == "rename":  # the clean-up that a kill would prevent
        monkeypatch.setattr(data.output_folder, "_delete", lambda folder: None)


@pytest.mark.parametrize(("function", "call"), [("mark_output", 2), ("rename", 1), ("rename", 2), ("_delete", 1)])
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
    make(target)
    assert content(target) == "new"
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


# ---- locks ----


@pytest.fixture
def holder(target: Path):
    """A process that has locked `target`, and has started another that lives on; yields its number."""
    pytest.importorskip("fcntl")
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        with output_lock(target):
            worker = os.fork()
            if worker:
                os.write(writer, str(worker).encode())
            time.sleep(60)
        os._exit(0)
    worker = int(os.read(reader, 20))
    yield child
    os.kill(worker, signal.SIGKILL)


def test_the_second_is_told_who_holds_it_until_that_one_dies(target: Path, holder: int,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=rf"\(process {holder} on .+\) is writing"), output_lock(target):
        pytest.fail("two have it")
    with pytest.raises(UserError, match="one command at a time"):
        make(target)
    assert not target.exists()
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    make(target)  # a loader's worker, which has outlived the command, holds nothing
    assert content(target) == "new"
    assert not leftovers(target)


def test_one_that_waits_says_for_whom(target: Path, holder: int, capsys: pytest.CaptureFixture[str]) -> None:
    threading.Timer(0.2, os.kill, (holder, signal.SIGKILL)).start()
    with output_lock(target, wait=True):
        assert f"(process {holder} on " in capsys.readouterr().out
    os.waitpid(holder, 0)


def test_a_lock_is_taken_once_and_leaves_nothing(tmp_path: Path) -> None:
    place = tmp_path / "a" / "b" / "out"
    with output_lock(place, place.parent / "other.csv"):
        with output_lock(place):
            assert sorted(path.name for path in place.parent.iterdir()) == [".other.csv.lock", ".out.lock"]
        assert (place.parent / ".out.lock").exists()
    assert not list(tmp_path.iterdir())


def test_what_was_written_stays_when_the_lock_goes(tmp_path: Path) -> None:
    with output_lock(tmp_path / "a" / "out"):
        (tmp_path / "a" / "out").mkdir()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["out"]


def test_a_folder_whose_surroundings_may_not_be_written_to(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target.mkdir(parents=True)
    monkeypatch.setattr(os, "access", lambda place, mode: Path(place) != target.parent)
    with output_lock(target):
        assert [path.name for path in target.parent.rglob("*")] == ["out", ".lsnet.lock"]


def test_a_lock_that_a_kill_left_is_no_loss(target: Path) -> None:
    make(target, "old")
    for path in (target / "train" / ".run.lock", target.with_name(".out.lock")):
        path.write_text("\nsomebody\n")
    make(target)
    assert content(target) == "new"


@pytest.mark.parametrize(("number", "goes_on"), [(errno.ENOLCK, True), (errno.EACCES, False)])
def test_a_place_without_locks_or_rights(target: Path, monkeypatch: pytest.MonkeyPatch,
                                         capsys: pytest.CaptureFixture[str], number: int, *, goes_on: bool) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    if goes_on:
        make(target)
        assert "has no locks" in capsys.readouterr().out
    else:
        with pytest.raises(UserError, match=os.strerror(number)):
            make(target)


# ---- swaps ----


def test_what_another_program_takes_from_a_half_made_folder_is_missed(target: Path,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    make(target, "old")
    monkeypatch.setattr(os, "sync", lambda: next(target.parent.glob(".*.partial/train/file.txt")).unlink(), False)
    with pytest.raises(UserError, match="another program changed"):
        make(target)
    assert content(target) == "old"
    assert not leftovers(target)


def test_a_folder_that_came_in_the_place_of_ours_stays(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exchange() -> None:
        ours = next(target.parent.glob(".*.partial"))
        ours.rename(target.with_name("away"))
        ours.mkdir()

    monkeypatch.setattr(os, "sync", exchange, False)
    with pytest.raises(UserError, match="another program changed"):
        make(target)
    assert len(leftovers(target)) == 1


@pytest.mark.parametrize("name", [".out.partial", ".out.0123abcd.partial"])
@pytest.mark.parametrize("files", [[], [f".{MARKER}.partial"], [MARKER, "half.txt"]])
def test_what_a_kill_left_goes(target: Path, name: str, files: list[str]) -> None:
    left = target.with_name(name)
    left.mkdir(parents=True)
    for file in files:
        (left / file).write_text('{"files": []}')
    make(target)
    assert not leftovers(target)


@pytest.mark.parametrize("name", [".other.0123abcd.partial", ".out.0123abcd.partial.jpg", ".out.picture.partial"])
def test_other_names_are_no_leftovers(target: Path, name: str) -> None:
    target.with_name(name).mkdir(parents=True)
    make(target)
    assert target.with_name(name).exists()


def read(folder: Path) -> str:
    try:
        return content(folder)
    except OSError:
        raise UserError("a", "b", "c") from None


def test_a_reader_sees_one_state(target: Path) -> None:
    make(target, "old")
    states = []

    def read_slowly(folder: Path) -> str:
        first = read(folder)
        if not states:
            make(target, "new")
        states.append((first, read(folder)))
        return first

    assert read_swapped(target, read_slowly) == "new"
    assert states == [("old", "new"), ("new", "new")]


def test_a_reader_finds_what_a_swap_has_moved_away(target: Path) -> None:
    make(target, "old")
    target.rename(target.with_name(".out.01234567.replaced"))
    assert read_swapped(target, read) == "old"
    with pytest.raises(UserError):
        read_swapped(target.with_name("none"), read)


# ---- files that must agree ----

SET = ("features.npy", "features.json", "image_names.txt")


def write_set(folder: Path, text: str, names: tuple[str, ...] = SET) -> None:
    with replace_together(folder, SET) as building:
        for name in names:
            write_text(building / name, text)


def read_set(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def test_files_that_must_agree_replace_all_earlier_ones(tmp_path: Path) -> None:
    write_set(tmp_path, "old")
    (tmp_path / "other").write_text("stays")
    write_set(tmp_path, "new", SET[:2])
    assert read_set(tmp_path) == {"features.npy": "new", "features.json": "new", "other": "stays"}


def test_an_error_leaves_them_as_they_were(tmp_path: Path) -> None:
    def fill_the_disk() -> None:
        with replace_together(tmp_path, SET) as building:
            (building / SET[0]).write_text("new")
            raise OSError(errno.ENOSPC, "full")

    write_set(tmp_path, "old")
    with pytest.raises(OSError, match="full"):
        fill_the_disk()
    assert read_set(tmp_path) == dict.fromkeys(SET, "old")
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX")
def test_a_kill_never_leaves_files_of_two_runs(tmp_path: Path) -> None:
    write_set(tmp_path, "old")
    states = []
    while not states or set(states[-1].values()) != {"new"} or len(states[-1]) < 3:
        write_set(tmp_path, "old")
        if not os.fork():
            count_calls(("unlink", "replace", "rmdir", "mkdir"), len(states) + 1, lambda call: os._exit(9))
            write_set(tmp_path, "new")
            os._exit(0)
        os.wait()
        states.append(read_set(tmp_path))
    assert len(states) > 12
    assert all(len(set(state.values())) == 1 and SET[0] in state for state in states)
    write_set(tmp_path, "newer")
    assert len(list(tmp_path.iterdir())) == 3
