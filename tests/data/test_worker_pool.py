"""Work in processes: the same results in the same order as without."""

from __future__ import annotations

import os
from collections.abc import Iterable

import pytest

import data.worker_pool
from data.worker_pool import map_ordered


def process_of(item: int) -> tuple[int, int]:
    return item, os.getpid()


def refuse_seven(item: int) -> int:
    if item == 7:
        raise ValueError("seven")
    return item


@pytest.fixture
def _no_item_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.worker_pool, "_ITEMS_PER_PROCESS", 1)


@pytest.mark.usefixtures("_no_item_too_few")
def test_processes_give_the_same_in_order() -> None:
    results = list(map_ordered(process_of, range(100), workers=2))
    assert [item for item, _ in results] == list(range(100))
    assert os.getpid() not in {process for _, process in results}


def test_few_items_and_no_workers_stay_in_this_process() -> None:
    for workers in (0, 4):
        assert {process for _, process in map_ordered(process_of, range(5), workers=workers)} == {os.getpid()}


def test_progress_sees_every_result_and_their_number() -> None:
    seen = []

    def progress(results: Iterable, total: int) -> Iterable:
        seen.append(total)
        return (seen.append(result) or result for result in results)

    assert list(map_ordered(abs, [-1, -2], workers=0, progress=progress)) == [1, 2]
    assert seen == [2, 1, 2]


@pytest.mark.usefixtures("_no_item_too_few")
def test_an_error_in_a_process_arrives_here() -> None:
    with pytest.raises(ValueError, match="seven"):
        list(map_ordered(refuse_seven, range(40), workers=2))
