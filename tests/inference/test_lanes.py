"""Lanes keep the order of what goes through them, whoever is done first, and read ahead no further than they need."""

from __future__ import annotations

import threading

import pytest
import torch

from inference.lanes import Lanes


@pytest.mark.parametrize("count", [1, 2, 3])
def test_results_come_in_order_whoever_is_done_first(count: int) -> None:
    waits = [0.05, 0.0, 0.03, 0.0, 0.01, 0.02]
    with Lanes(count) as lanes:
        assert [*lanes.map(lambda item: threading.Event().wait(item) or -item, waits)] == [(x, -x) for x in waits]


def test_lanes_work_at_the_same_time() -> None:
    meeting = threading.Barrier(2, timeout=60)
    with Lanes(2) as lanes:
        assert sorted(place for _, place in lanes.map(lambda _: meeting.wait(), range(2))) == [0, 1]


def test_one_map_feeds_another() -> None:
    with Lanes(2) as lanes:
        doubled = (found for _, found in lanes.map(lambda item: 2 * item, range(20)))
        assert [found for _, found in lanes.map(lambda item: item + 1, doubled)] == [*range(1, 41, 2)]


@pytest.mark.parametrize("count", [1, 2])
def test_items_are_read_as_they_are_needed(count: int) -> None:
    read = []
    items = (read.append(item) or item for item in range(100))
    with Lanes(count) as lanes:
        for done, _ in enumerate(lanes.map(lambda item: item, items), start=1):
            assert len(read) <= done + count


def test_each_lane_has_its_part_of_the_cores_and_gives_it_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        with Lanes(2) as lanes:
            assert {found for _, found in lanes.map(lambda _: torch.get_num_threads(), range(4))} == {2}
            assert torch.get_num_threads() == 4
        found: list[int] = []
        later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        later.start()
        later.join()
        assert found == [4]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2])
def test_an_error_in_a_lane_is_the_caller_s_and_ends_the_rest(count: int) -> None:
    begun = []

    def work(item: int) -> None:
        begun.append(item)
        if item == 1:
            raise ValueError("one")

    with pytest.raises(ValueError, match="one"), Lanes(count) as lanes:
        list(lanes.map(work, range(100)))
    assert len(begun) < 10
