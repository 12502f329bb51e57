"""A page about a run, as a user asks for it."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data.csv_files import write_rows
from evaluation.report import COLUMNS
from tests.conftest import Completed
from tools.report import main
from training.report_page import Run


def make_run(folder: Path, rows: list[tuple[object, ...]]) -> Path:
    """A run's files: one epoch, and a table of artists."""
    folder.mkdir()
    (folder / "metrics.jsonl").write_text('{"epoch": 1, "train_loss": 1.5, "lr": 0.1, "val_top1": 62.5}\n')
    write_rows(folder / "report.csv", [COLUMNS, *rows])
    return folder


ROWS = [(0, "<b>A & B</b>", 40, 90, "0.5", "0.8000", "C", 18), (1, "C", 4, 10, "0.5", "0.4000", "<b>A & B</b>", 6)]


def test_a_trained_run_gets_a_page_that_needs_no_other_file(trained: Path, tmp_path: Path,
                                                            run_script: Callable[..., Completed]) -> None:
    done = run_script("tools/report.py", trained, "--output", tmp_path / "page.html")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in page
    assert "artist_0" in page
    assert "model_best.pth" in html.unescape(page)
    assert not re.search(r"""\s(src|href)=["']?(?!["']?data:)|url\(|@import|https?:""", page)


def test_intervals_agree_with_pictures_drawn_again(tmp_path: Path) -> None:
    run = Run.read(make_run(tmp_path / "run", ROWS))
    right = np.repeat([1, 0, 1, 0], [72, 18, 4, 6])
    drawn = right[np.random.default_rng(1).integers(0, 100, (20000, 100))].mean(1)
    share, *ends = (float(each) for each in re.findall(r"[\d.]+(?=%)", run.accuracy))
    assert share == pytest.approx(76)
    assert ends == pytest.approx((100 * np.percentile(drawn, [2.5, 97.5])).tolist(), abs=1.01)
    assert run.balanced.startswith("60.0% (")


def test_names_are_escaped_and_other_pictures_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, same = make_run(tmp_path / "run", ROWS), make_run(tmp_path / "same", ROWS)
    other = make_run(tmp_path / "other", ROWS[:1])
    assert main([str(run), "--compare", str(same), str(other)]) == 0
    told = capsys.readouterr().out
    assert "other has other validation pictures" in told
    assert "same has" not in told
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "<b>A" not in page
    assert "&lt;b&gt;A &amp; B" in page


def test_a_multi_label_run_has_a_table_of_labels(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [])
    (run / "report.csv").unlink()
    (run / "thresholds.csv").write_text("class_id,class_name,threshold,ap,f1\n0,ink,0.4,0.9,0.8\n")
    assert main([str(run)]) == 0
    assert "<td>ink" in (run / "report.html").read_text(encoding="utf-8")


def test_a_run_without_an_evaluation_and_a_wrong_table_are_refused(tmp_path: Path,
                                                                   capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "no metrics.jsonl" in capsys.readouterr().err
    run = make_run(tmp_path / "run", [(0, "A", 1, 3, "", "nan", "", 0)])
    assert main([str(run)]) == 2
    assert "recall nan" in capsys.readouterr().err
    assert not (run / "report.html").exists()
