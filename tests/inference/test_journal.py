"""Answers survive whatever ends a run: the whole batches of a torn journal are kept, and no others are mixed in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from inference.journal import ABOUT, FEATURES, RECORDS, Entry, Journal
from utils import Interrupted, UserError

MANY = {"pictures": 7, "mode": "both"}
ENTRIES: list[Entry] = [
    ("a.png", {"verdict": "possible", "features": [1.0, 2.0]}), ("b.png", {"error": "truncated"}),
    ("石.png", {"features": [3.0, 4.0]}), ("a\\udcff.png", {"features": [5.0, 6.0]}),
    ("d.png", {"features": [7.0, 8.0]}), ("e.png", {"error": "gone"}), ("f.png", {"features": [9.0, 10.5]})]


def written(folder: Path, count: int = len(ENTRIES)) -> Journal:
    journal = Journal.begin(folder, MANY)
    journal.extend(ENTRIES[:count], batch_size=2)
    return journal


def test_entries_come_back_as_they_were_written(tmp_path: Path) -> None:
    assert list(written(tmp_path).entries()) == ENTRIES
    again = Journal.read(tmp_path)
    assert (again.done, again.about) == (7, MANY)
    assert [(name, length) for name, _, length in again.lines()] == [
        (name, len(record.get("features", ()))) for name, record in ENTRIES]


@pytest.mark.parametrize("count", range(len(ENTRIES) + 1))
@pytest.mark.parametrize("file", [RECORDS, FEATURES])
@pytest.mark.parametrize("torn", [0, 3])
def test_what_is_torn_goes_on_from_its_last_whole_batch(tmp_path: Path, count: int, file: str, torn: int) -> None:
    written(tmp_path, count)
    content = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(content[:max(0, len(content) - torn)])
    journal = Journal.resume(tmp_path, MANY, batch_size=2)
    readable = sum("error" not in record for _, record in ENTRIES[:journal.done])
    assert journal.done <= count
    assert readable % 2 == 0 or journal.done == 7
    assert count - journal.done <= (2 if not torn else 4)
    journal.extend(ENTRIES[journal.done:], batch_size=2)
    assert list(journal.entries()) == ENTRIES
    assert Journal.read(tmp_path).done == 7


def test_a_line_of_zeros_as_a_power_cut_leaves_is_no_answer(tmp_path: Path) -> None:
    written(tmp_path, 5)
    with open(tmp_path / RECORDS, "ab") as lines:
        lines.write(b"\0" * 40 + b"\n")
    assert Journal.resume(tmp_path, MANY, batch_size=2).done == 5
    assert b"\0" not in (tmp_path / RECORDS).read_bytes()


def test_nothing_to_resume_begins(tmp_path: Path) -> None:
    assert Journal.resume(tmp_path / "new", MANY, batch_size=2).done == 0


def test_beginning_again_forgets(tmp_path: Path) -> None:
    written(tmp_path)
    assert Journal.begin(tmp_path, MANY).done == Journal.read(tmp_path).done == 0


@pytest.mark.parametrize("about", [{"pictures": 8, "mode": "both"}, {"pictures": 7, "mode": "classify"},
                                   {"pictures": 7, "mode": "both", "view": "multicrop"}])
def test_another_run_is_not_gone_on_with(tmp_path: Path, about: dict) -> None:
    written(tmp_path, 4)
    before = (tmp_path / RECORDS).read_bytes()
    with pytest.raises(UserError, match="--resume"):
        Journal.resume(tmp_path, about, batch_size=2)
    assert (tmp_path / RECORDS).read_bytes() == before


def test_ctrl_c_leaves_what_was_answered(tmp_path: Path) -> None:
    def stopped() -> Iterator[Entry]:
        yield from ENTRIES[:5]
        raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="stopped by SIGINT after 5 of 7 pictures"):
        Journal.begin(tmp_path, MANY).extend(stopped(), batch_size=2)
    assert list(Journal.read(tmp_path).entries()) == ENTRIES[:5]


@pytest.mark.parametrize("content", [None, b"{", b"\xff\xfe"])
def test_what_is_no_journal_is_told(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / ABOUT).write_bytes(content)
    with pytest.raises(UserError, match=r"cannot be read .* expected a journal"):
        Journal.read(tmp_path)


@pytest.mark.parametrize("about", ["[]", "3", '{"mode": "both"}', '{"pictures": "7"}', '{"pictures": -1}',
                                   '{"pictures": 1e999}', "[" * 20_000])
def test_what_describes_no_run_is_told(tmp_path: Path, about: str) -> None:
    written(tmp_path)
    (tmp_path / ABOUT).write_text(about)
    with pytest.raises(UserError, match="expected a journal of inference"):
        Journal.read(tmp_path)


@pytest.mark.parametrize("line", ["[]", "{}", '["a", {}]', '["a", {}, -1]', '["a", {}, 2, 3]', '[1, {}, 0]',
                                  '["a", [], 0]', r'["a\nb.png", {}, 0]',
                                  '["a", {"a.b": 1}, 0]', '["a", {"x": {"y": 1}}, 0]', '["a", {"x": NaN}, 0]',
                                  '["a", {"classification": [{"class_id": 0}]}, 0]', '["a", {"classification": 3}, 0]'])
def test_a_line_of_another_kind_ends_the_journal(tmp_path: Path, line: str) -> None:
    written(tmp_path, 4)
    with open(tmp_path / RECORDS, "a") as lines:
        lines.write(f"{line}\n")
    assert Journal.read(tmp_path).done == 4
    assert list(Journal.read(tmp_path).entries()) == ENTRIES[:4]
    assert Journal.resume(tmp_path, MANY, batch_size=1).done == 4
    assert (tmp_path / RECORDS).read_text().count("\n") == 4


@pytest.mark.parametrize(("entries", "told"), [
    ([("a", {"features": [1.0]}), ("b", {"features": [1.0, 2.0]})], "features of 1 and 2 numbers"),
    ([("a", {"features": [float("nan")]})], "not finite")])
def test_features_that_do_not_fit_are_told(tmp_path: Path, entries: list[Entry], told: str) -> None:
    Journal.begin(tmp_path, MANY).extend(entries, batch_size=1)
    with pytest.raises(UserError, match=told):
        Journal.read(tmp_path)


def test_more_features_than_records_are_told(tmp_path: Path) -> None:
    written(tmp_path)
    with open(tmp_path / FEATURES, "ab") as features:
        features.write(bytes(8))
    with pytest.raises(UserError, match="more features than"):
        Journal.read(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes in folders, and links only with rights")
@pytest.mark.parametrize("name", [ABOUT, RECORDS, FEATURES])
def test_links_and_pipes_are_neither_read_nor_written_to(tmp_path: Path, name: str) -> None:
    for spoil in (os.mkfifo, lambda path: path.symlink_to("../outside")):
        folder = tmp_path / "journal"
        written(folder)
        (tmp_path / "outside").write_bytes((folder / name).read_bytes())
        (folder / name).unlink()
        spoil(folder / name)
        before = (tmp_path / "outside").read_bytes()
        if name != ABOUT:
            with pytest.raises(UserError, match=r"is a link|no regular file"):
                Journal.resume(folder, MANY, batch_size=1)
        written(folder)
        assert Journal.read(folder).done == 7
        assert (tmp_path / "outside").read_bytes() == before


def test_removing_leaves_the_files_of_others(tmp_path: Path) -> None:
    written(tmp_path / "journal").remove()
    assert not (tmp_path / "journal").exists()
    journal = written(tmp_path / "journal")
    (tmp_path / "journal" / "mine.txt").touch()
    journal.remove()
    assert [path.name for path in (tmp_path / "journal").iterdir()] == ["mine.txt"]
