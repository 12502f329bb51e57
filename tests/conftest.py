"""What every test may use: scripts run as a user runs them, and small generated pictures."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # test processes share the cores; set before torch is imported

from tests import forked
from tests.pictures import write_data_set

ROOT = Path(__file__).resolve().parent.parent
Completed = subprocess.CompletedProcess[str]
MODEL = "test_efficientnet"  # of `trained`: where the network does not matter, a training costs a third of LSNet's

settings.register_profile("project", deadline=None)  # no test judges time: machines are shared
settings.load_profile("project")


@pytest.fixture(scope="session")
def run_script(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Completed]:
    """Run `script` (path below the root) in a process of its own, from a folder that is not the project's."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    def run(script: str, *arguments: object, stdin: str = "", timeout: float = 300) -> Completed:
        return forked.run(script, *arguments, cwd=elsewhere, stdin=stdin, timeout=timeout)

    return run


@pytest.fixture(scope="module", autouse=True)
def _undrawn(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let trainings in this process go undrawn, as drawing takes more than half their time; those of scripts draw."""
    with pytest.MonkeyPatch.context() as patch:
        if request.path.parent.name in ("scripts", "tools", "training"):
            forked.leave_drawings_out(patch)
        yield


@pytest.fixture(scope="session")
def data_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three generated artists, 8 pictures each to train and 4 to validate. Tests leave it as it is."""
    return write_data_set(tmp_path_factory.mktemp("data_set"))


@pytest.fixture(scope="session")
def trained(data_set: Path, run_script: Callable[..., Completed], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of two epochs on `data_set`, trained as a user trains. Tests leave it as it is.

    The first process of this test run that needs it makes it for all.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "trained"
    output, ready = folder / "run", folder / "ready"
    with FileLock(f"{folder}.lock"):
        if not ready.exists():
            done = run_script("train_artist_style.py", "--model", MODEL, "--data-path", data_set, "--output-dir",
                              output, "--input-size", 32, "--epochs", 2, "--batch-size", 8, "--num_workers", 1)
            assert done.returncode == 0, done.stderr
            ready.touch()
    return output
