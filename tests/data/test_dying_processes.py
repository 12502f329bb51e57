"""A picture that ends the process which decodes it costs that picture, and nothing else."""

from __future__ import annotations

import functools
import json
import os
import signal
from pathlib import Path

import pytest
from PIL import Image

import data.worker_pool
import prepare_dataset
from data.corruptions import write_corrupted
from data.prepare.integrity import ENDS_PROCESS, scan_images
from data.prepare.near_duplicates import scan_looks
from data.worker_pool import map_ordered
from utils import UserError

KILLER = "killer.png"


def die_at(number: int, deadly: frozenset[int]) -> int:
    if number in deadly:
        os.kill(os.getpid(), signal.SIGKILL) if os.name == "posix" else os._exit(9)
    return number


@pytest.fixture
def deadly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a file called `KILLER` ends the process; a forked one, so that it holds there, too."""
    if data.worker_pool.sys.platform != "linux":
        pytest.skip("a spawned process does not see what a test has changed")
    opened = Image.open

    def open_or_die(source: object, *arguments: object, **options: object) -> Image.Image:
        if str(source).endswith(KILLER):
            os._exit(9)
        return opened(source, *arguments, **options)

    monkeypatch.setattr(Image, "open", open_or_die)
    monkeypatch.setattr(data.worker_pool.threading, "active_count", lambda: 1)  # under xdist there are more


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two artists with four pictures each; the second one of a is deadly."""
    for artist in "ab":
        (tmp_path / "in" / artist).mkdir(parents=True)
        for number in range(4):
            name = KILLER if (artist, number) == ("a", 1) else f"{number}.png"
            Image.effect_noise((24, 24), 60).save(tmp_path / "in" / artist / name)
    return tmp_path / "in"


def test_only_what_ends_its_process_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.worker_pool, "_ITEMS_PER_PROCESS", 1)
    work = functools.partial(die_at, deadly=frozenset({3, 4}))
    expected = [-1 if number in (3, 4) else number for number in range(100)]
    assert list(map_ordered(work, range(100), workers=2, lost=-1)) == expected


def test_few_items_outlive_it_too_and_without_a_value_it_is_one_line() -> None:
    work = functools.partial(die_at, deadly=frozenset({0}))
    assert list(map_ordered(work, range(3), workers=4, lost=-1)) == [-1, 1, 2]
    assert list(map_ordered(work, range(1), workers=4, lost=-1)) == [-1]
    assert list(map_ordered(work, [], workers=4, lost=-1)) == []


@pytest.mark.parametrize("lost", [None, -1])
def test_an_error_that_is_no_death_arrives(lost: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.worker_pool, "_ITEMS_PER_PROCESS", 1)
    with pytest.raises(TypeError):
        list(map_ordered(abs, [1, "no number"], workers=1, lost=lost))


def test_without_a_value_a_death_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.worker_pool, "_ITEMS_PER_PROCESS", 1)
    with pytest.raises(UserError, match="the end of a process"):
        list(map_ordered(functools.partial(die_at, deadly=frozenset({2})), range(4), workers=1))


def test_where_no_process_can_be_started_this_one_works(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(data.worker_pool, "ProcessPoolExecutor", refuse)
    assert list(map_ordered(abs, [-1, 2], workers=2, lost=0)) == [1, 2]


@pytest.mark.usefixtures("deadly")
def test_scans_call_it_damaged_and_try_it_again_another_day(folder: Path, tmp_path: Path,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    paths, cache = sorted(folder.rglob("*.png")), tmp_path / "cache.json"
    found = scan_images(paths, workers=1, cache=cache)
    assert found == {folder / "a" / KILLER: ENDS_PROCESS}
    damaged, looks = scan_looks(paths, workers=1, max_pixels=10**6)
    assert damaged == found
    assert len(looks.paths) == len(paths) - 1
    monkeypatch.undo()
    assert scan_images(paths, workers=1, cache=cache) == {}


@pytest.mark.usefixtures("deadly")
def test_preparing_and_corrupting_leave_it_out(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert prepare_dataset.main(["--source-dir", str(folder), "--output-dir", str(tmp_path / "set"), "--min-images",
                                 "3", "--workers", "1", "--no-near-duplicates"]) == 0
    assert f"left out: a/{KILLER} ({ENDS_PROCESS})" in capsys.readouterr().out
    info = json.loads((tmp_path / "set" / "dataset_info.json").read_text(encoding="utf-8"))
    assert info["damaged"] == {f"a/{KILLER}": ENDS_PROCESS}
    assert info["num_train"] + info["num_val"] == 7
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.png"))]
    lost = write_corrupted(tmp_path / "out", folder, names, kinds=["blur"], short_side=16, seed=0, max_pixels=10**6,
                           workers=1)
    assert lost == {f"a/{KILLER}": ENDS_PROCESS}
    assert len(list((tmp_path / "out" / "blur" / "3").rglob("*.jpg"))) == 7
