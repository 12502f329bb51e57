"""What every test may use: scripts run as a user runs them, and small generated pictures."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


@pytest.fixture
def run_script(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `script` (path below the root) in a process of its own, from a folder that is not the project's."""

    def run(script: str, *arguments: object, stdin: str = "", timeout: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, str(ROOT / script), *map(str, arguments)], cwd=tmp_path, input=stdin,
                              capture_output=True, text=True, encoding="utf-8", timeout=timeout,
                              env={**os.environ, "PYTHONIOENCODING": "utf-8"}, check=False)

    return run
