"""An exported network that the tests of everything that runs one share."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.options import PACKAGES
from tests.small_runs import write_run
from tools.calibrate import main as calibrate
from tools.export_model import main as export


@pytest.fixture(scope="session")
def calibrated(data_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose verdicts go by features. Tests leave it as it is."""
    run = write_run(tmp_path_factory.mktemp("calibrated") / "run")
    assert calibrate(["--checkpoint", str(run), "--data-path", str(data_set), "--score", "mahalanobis",
                      "--error-rate", "0.4"]) == 0
    return run


@pytest.fixture(scope="session")
def exported(calibrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ONNX folder of `calibrated`. Tests leave it as it is."""
    for package in PACKAGES["onnx"]:
        pytest.importorskip(package, reason="the packages of requirements-export.txt are not installed")
    folder = tmp_path_factory.mktemp("exported") / "onnx"
    assert export(["--checkpoint", str(calibrated), "--output", str(folder)]) == 0
    return folder
