"""thresholds.csv: what is written is read, and what does not belong to the checkpoint is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from evaluation.multilabel import MultiLabelMeter
from evaluation.thresholds import read_thresholds, write_thresholds
from utils import UserError

CLASSES = ["re:zero", "a, \"b\"", "无人"]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """Two labels that are recognised perfectly, and one without pictures."""
    meter = MultiLabelMeter(CLASSES, 0.4)
    meter.update(0, torch.tensor([[2.0, -1, -3], [-1, 1, -3], [-2, -2, -3]]), torch.tensor([[1.0, 0, 0], [1, 2, 0],
                                                                                             [0, 0, 0]]))
    meter.result()
    write_thresholds(tmp_path, meter)
    return tmp_path / "thresholds.csv"


def test_thresholds_return_as_written(written: Path) -> None:
    lines = written.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "class_id,class_name,threshold,ap,f1"
    assert lines[2].endswith(",1.000000,1.000000")
    assert lines[3] == "2,无人,0.4,,"
    # The middle between the lowest score of pictures that show the label and the highest of the others.
    expected = [torch.tensor(pair).sigmoid().mean().item() for pair in ([-1.0, -2.0], [1.0, -1.0])]
    assert read_thresholds(written, CLASSES) == pytest.approx([*expected, 0.4], rel=1e-6)


@pytest.mark.parametrize(("old", "new", "expected"), [
    ("class_id,", "id,", "the header"), ("0,re:zero", "0,re:one", "line 2.*0,re:zero"), (",0.4,", ",1.4,", "'1.4'"),
    (",0.4,", ",nan,", "'nan'"), (",0.4,", ",,", "the threshold ''"), ("2,无人,0.4,,\n", "", "2 labels"),
    ("2,无人,0.4,,\n", "2,无人,0.4,,\n3,x,0.4,,\n", "no further label"), ("2,无人,0.4,,", "2,无人", "2 cell"),
])
def test_what_contradicts_the_checkpoint_is_refused(written: Path, old: str, new: str, expected: str) -> None:
    text = written.read_text(encoding="utf-8")
    assert old in text
    written.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UserError, match=expected):
        read_thresholds(written, CLASSES)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"thresholds\.csv"):
        read_thresholds(tmp_path / "thresholds.csv", CLASSES)
