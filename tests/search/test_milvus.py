"""The cases of milvus_cases.py, in a process of their own: gRPC leaves threads that disturb pytest's capture."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("milvus_cases.py")


@pytest.mark.skipif(importlib.util.find_spec("pymilvus") is None
                    or not (os.environ.get("MILVUS_URI") or importlib.util.find_spec("milvus_lite")),
                    reason="the packages of requirements-milvus.txt are not installed")
@pytest.mark.parametrize("kind", ["not exhaustive", pytest.param("exhaustive", marks=pytest.mark.exhaustive)])
def test_milvus_answers_as_a_folder_does(tmp_path: Path, kind: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-m", kind, "-p", "no:cacheprovider", "-p", "no:xdist",
                           f"--basetemp={tmp_path / 'cases'}", str(CASES)], cwd=CASES.parents[2], capture_output=True,
                          encoding="utf-8", timeout=400)
    assert done.returncode == 0, done.stdout[-8000:]
