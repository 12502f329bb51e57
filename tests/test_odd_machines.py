"""Closed standard streams, an ASCII locale, few file handles, no HOME and no TMPDIR: as on any day."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from data.loaders import _most_workers
from utils import _ending

if os.name == "posix":
    import resource

pytestmark = pytest.mark.skipif(os.name != "posix", reason="limits, locales and closed streams as POSIX has them")
ROOT = Path(__file__).resolve().parent.parent


def prepare(source: Path, output: Path, *, shell: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run prepare_dataset.py from a shell that does `shell` first, in little more than the given environment."""
    return subprocess.run(
        ["sh", "-c", f'{shell}\nexec "$@"', "sh", sys.executable, str(ROOT / "prepare_dataset.py"), "--source-dir",
         str(source), "--output-dir", str(output), "--min-images", "4", "--no-near-duplicates"],
        env={"PATH": os.environ["PATH"], **environment}, capture_output=True, cwd=output.parent, timeout=120)


def test_closed_streams_lose_nothing_and_no_answer_is_no(data_set: Path, tmp_path: Path) -> None:
    assert prepare(data_set / "train", tmp_path / "set", shell="exec <&- >&- 2>&-").returncode == 0
    before = (tmp_path / "set" / "dataset_info.json").read_bytes()
    done = prepare(data_set / "train", tmp_path / "set", shell="exec <&-")
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert b"expected y to replace it" in done.stderr
    assert (tmp_path / "set" / "dataset_info.json").read_bytes() == before


def test_an_ascii_locale_few_handles_and_no_folders(data_set: Path, tmp_path: Path) -> None:
    artists = tmp_path / "\u4f5c\u54c1"
    for folder, name in zip((data_set / "train").iterdir(), ("\u9f50\u767d\u77f3", "caf\u00e9", "c"), strict=True):
        shutil.copytree(folder, artists / name)
    done = prepare(artists, tmp_path / "set", shell="ulimit -n 16", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0",
                   TMPDIR="/nonexistent")
    assert (done.returncode, done.stderr) == (0, b"")
    mapping = (tmp_path / "set" / "class_mapping.csv").read_text(encoding="utf-8")
    assert mapping == "class_id,class_name\n0,c\n1,caf\u00e9\n2,\u9f50\u767d\u77f3\n"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="Linux")
def test_a_place_that_takes_no_files_is_named(data_set: Path, tmp_path: Path,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    import prepare_dataset
    import train_artist_style

    for main, source in ((prepare_dataset.main, ["--source-dir", str(data_set / "train")]),
                         (train_artist_style.main, ["--data-path", str(data_set)])):
        for target in ("/proc/x", "/proc/x/y"):
            assert main([*source, "--output-dir", target]) == 2
            told = capsys.readouterr().err
            assert told.count("\n") == 1
            assert "cannot be written" in told


def test_workers_fit_the_limit_of_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, workers in ((16, 0), (64, 4), (1024, 124), (resource.RLIM_INFINITY, sys.maxsize)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: (limit, limit))
        assert _most_workers() == workers


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), RuntimeError("Too many open files. Sharing …")])
def test_too_few_handles_are_a_line(error: Exception) -> None:
    ending = _ending(error)
    assert ending
    assert ending[1] == 1
    assert "ulimit -n" in ending[0]
