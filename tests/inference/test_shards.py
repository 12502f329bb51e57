"""Parts of a folder for several machines: together they are the whole, and what does not belong together is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference.journal import Journal
from inference.shards import find_shards, parse_shard, shard_folder, shard_of
from utils import UserError


@pytest.mark.parametrize("length", [1, 5, 6, 23, 24])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_are_consecutive_whole_batches(length: int, count: int) -> None:
    pictures = [Path(str(number)) for number in range(length)]
    parts = [shard_of(pictures, number, count, 3) for number in range(1, count + 1)]
    assert [picture for part in parts for picture in part] == pictures
    assert all(len(part) % 3 == 0 or part[-1] == pictures[-1] for part in parts)
    assert max(map(len, parts)) - min(map(len, parts)) < 6


def test_a_shard_is_written_as_a_fraction() -> None:
    assert parse_shard("2/4") == (2, 4)


@pytest.mark.parametrize("text", ["0/4", "5/4", "2", "a/b", "2/4/6", "-1/4", "1/0", "9" * 5000 + "/1"])
def test_what_is_no_shard_is_told(text: str) -> None:
    with pytest.raises(UserError, match="i/n with i from 1 to n"):
        parse_shard(text)


def make(folder: Path, number: int, count: int, done: int = 2, **more: object) -> None:
    journal = Journal.begin(shard_folder(folder, number, count), {"pictures": 2, "shard": f"{number}/{count}", **more})
    journal.extend([(f"{number}{each}.png", {}) for each in range(done)], batch_size=1)


def test_shards_are_found_in_order_wherever_they_lie(tmp_path: Path) -> None:
    for number in range(1, 12):
        make(tmp_path / str(number % 2), number, 11)
    found = find_shards([tmp_path / "0", tmp_path / "1"])
    assert [name for journal in found for name, _ in journal.entries()] == [
        f"{number}{each}.png" for number in range(1, 12) for each in range(2)]


@pytest.mark.parametrize(("made", "told"), [
    ([], "no shard"), ([(1, 3), (3, 3)], "shard_1_of_3 to shard_3_of_3"), ([(1, 2), (2, 2), (1, 3)], "each once"),
    ([(1, 2), (2, 2, 1)], "with 1 of 2 pictures"), ([(1, 1, 2, "x"), (2, 2, 2, "y")], "each once")])
def test_what_is_missing_or_unfinished_is_told(tmp_path: Path, made: list, told: str) -> None:
    for arguments in made:
        make(tmp_path, *arguments[:3])
    with pytest.raises(UserError, match=told):
        find_shards([tmp_path])


def test_shards_of_two_runs_are_not_mixed(tmp_path: Path) -> None:
    make(tmp_path, 1, 2, model="one")
    make(tmp_path, 2, 2, model="other")
    with pytest.raises(UserError, match="shard_2_of_2, which differs"):
        find_shards([tmp_path])
