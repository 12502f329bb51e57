"""Odd checkpoints are read or refused in one line: no traceback, no hang, nothing written, run or fetched."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

if os.name == "nt":
    pytest.skip("no fork on Windows", allow_module_level=True)

from tests.runtime import checkpoint_fuzzer


def check(folder: Path, numbers: range) -> None:
    content, codes = checkpoint_fuzzer.base(), Counter[int]()
    for number in numbers:
        own = folder / str(number)
        own.mkdir()
        code = checkpoint_fuzzer.read_in_child(checkpoint_fuzzer.write_odd(own, content, number))
        assert code in (0, 2), f"checkpoint {number}: {code}"
        codes[code] += 1
        for path in own.iterdir():
            path.unlink()
    assert min(codes[0], codes[2]) > 0, codes


def test_a_few_odd_checkpoints(tmp_path: Path) -> None:
    check(tmp_path, range(6))


@pytest.mark.exhaustive
def test_two_thousand_odd_checkpoints(tmp_path: Path) -> None:
    check(tmp_path, range(6, 2006))
