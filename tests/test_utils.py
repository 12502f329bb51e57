"""Facts about the process: files that are whole or absent, isolated randomness, devices."""

from __future__ import annotations

import json
import os
import random
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from utils import (
    UserError,
    atomic_path,
    isolated_random,
    mix_seed,
    peak_memory,
    resolve_device,
    seed_everything,
    write_json,
    write_text,
)

needs_posix = pytest.mark.skipif(os.name == "nt", reason="Windows has other signals and file modes")


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), torch.rand(()).item()


def test_a_message_is_one_line_of_bounded_length() -> None:
    told = str(UserError("x" * 10**6, "a\nb", "mend it"))
    assert told.endswith("x…; expected a b; mend it")
    assert len(told) < 3000


# ---- files -----------------------------------------------------------------------------------------------------------


@needs_posix
def test_what_lies_at_the_temporary_name_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("mine")
    (tmp_path / ".a.txt.partial").symlink_to("outside")
    write_text(tmp_path / "a.txt", "new")
    os.mkfifo(tmp_path / ".a.txt.partial")
    write_text(tmp_path / "a.txt", "newer")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"outside": "mine", "a.txt": "newer"}


def test_the_old_file_stays_when_writing_fails(tmp_path: Path) -> None:
    target = tmp_path / "weights.bin"
    target.write_bytes(b"old")

    def write() -> None:
        with atomic_path(target) as partial:
            partial.write_bytes(b"half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_target_changes_only_at_the_end_and_what_a_kill_left_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "made" / "on the way" / "a.txt"
    target.parent.mkdir(parents=True)
    (target.parent / ".a.txt.partial").write_text("left by a kill", encoding="utf-8")
    with atomic_path(target) as partial:
        partial.write_text("new", encoding="utf-8")
        assert partial.parent == target.parent
        assert not target.exists()
    assert target.read_text(encoding="utf-8") == "new"
    assert list(target.parent.iterdir()) == [target]


def test_missing_folders_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "c.txt", "x")
    assert (tmp_path / "a" / "b" / "c.txt").read_text(encoding="utf-8") == "x"


@needs_posix
def test_the_file_mode_is_the_usual_one_even_after_a_writer_that_narrows_it(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with atomic_path(tmp_path / "a") as partial:
            partial.unlink()
            os.close(os.open(partial, os.O_CREAT | os.O_WRONLY, 0o600))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_text_has_line_feeds_and_no_byte_order_mark(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "齐\nb\n")
    assert (tmp_path / "a.txt").read_bytes() == "齐\nb\n".encode()


def test_a_file_name_that_is_no_unicode_survives_json(tmp_path: Path) -> None:
    name = b"a\xff.png".decode("utf-8", errors="surrogateescape")
    write_json(tmp_path / "a.json", [name])
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == [name]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"loss": [float("-inf")]}])
def test_what_is_not_json_is_refused_and_the_old_file_stays(value: object, tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"artist": "齐白石"})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"artist": "齐白石"}
    assert "齐白石" in (tmp_path / "a.json").read_text(encoding="utf-8")


# ---- random state ----------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(-2**70, 2**70), min_size=1, max_size=4), st.integers(0, 3), st.integers(1, 2**70))
def test_a_mixed_seed_depends_on_every_part(parts: list[int], place: int, change: int) -> None:
    seed = mix_seed(*parts)
    assert 0 <= seed < 2**63
    parts[place % len(parts)] += change
    assert mix_seed(*parts) != seed


def test_a_mixed_seed_depends_on_order_and_grouping_and_is_the_same_everywhere() -> None:
    assert len({mix_seed(1, 2), mix_seed(2, 1), mix_seed(12), mix_seed(1, 2, 0)}) == 4
    assert mix_seed(np.int64(1), 2) == mix_seed(1, 2) == 5142973159532490859


def test_isolated_draws_repeat_and_leave_no_trace() -> None:
    seed_everything(1)
    undisturbed = draws()
    seed_everything(1)
    with isolated_random(5):
        first = draws()
    assert draws() == undisturbed
    with isolated_random(5):
        assert draws() == first
    with isolated_random(6):
        assert not set(draws()) & set(first)


def test_an_exception_inside_restores_the_generators() -> None:
    seed_everything(1)
    undisturbed = draws()
    seed_everything(1)
    with pytest.raises(ZeroDivisionError), isolated_random(mix_seed(2)):
        raise ZeroDivisionError(draws())
    assert draws() == undisturbed


def test_everything_is_seeded() -> None:
    seed_everything(2**62)
    first = draws()
    seed_everything(2**62)
    assert draws() == first


# ---- device ----------------------------------------------------------------------------------------------------------


def test_auto_takes_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve_device("auto") == resolve_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("auto") == resolve_device("mps") == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda", 1)
    assert resolve_device("cuda:0") == torch.device("cuda", 0)


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "cuda:-1", "cuda:", "cpu:0", "mps:0", "cuda:2", "cuda:99", "mps",
                                  "CPU"])
def test_a_device_that_is_not_here_is_the_users_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=f"found --device {name}"):
        resolve_device(name)


def test_peak_memory_is_in_bytes() -> None:
    peak = peak_memory(torch.device("cpu"))
    assert 2**26 < peak < 2**38 or (peak == 0 and os.name == "nt")  # torch alone takes more than 64 MiB
