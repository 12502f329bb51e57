"""What counts as another answer, and what a form of less precision loses, counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.check import Answers, check_equal, check_loss
from utils import UserError

RIGHT = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [0.6, 0.4]])
SHIFT = np.array([1, -1])


def answers(probabilities: np.ndarray, *, scale: float = 1.0, targets: tuple[int, ...] = (0, 1, -1, 1)) -> Answers:
    features = np.array([[3.0, 4], [0, 1], [1, 0], [2, 2]])
    return Answers(probabilities=probabilities, features=scale * features, targets=np.array(targets))


def test_small_differences_pass_and_are_told() -> None:
    told = check_equal(answers(RIGHT), answers(RIGHT + 5e-5 * SHIFT, scale=1.0005), "fp32", Path("x/m.onnx"), "val")
    assert told == ("4 pictures of val: probabilities differ by up to 5.0e-05, features by 5.0e-04 of their norm, "
                    "0 of 3 clear answers")


@pytest.mark.parametrize("found", [answers(RIGHT + 2e-4 * SHIFT), answers(RIGHT, scale=1.002),
                                   answers(RIGHT * np.nan)])
def test_larger_ones_are_refused(found: Answers) -> None:
    with pytest.raises(UserError, match=r"m\.onnx, which answers otherwise than the checkpoint on val"):
        check_equal(answers(RIGHT), found, "fp32", Path("x/m.onnx"), "val")


def test_lost_top1_counts_pictures_by_known_artists() -> None:
    found = RIGHT.copy()
    found[0] = [0.4, 0.6]
    told = check_loss(answers(RIGHT), answers(found), "val", 34)
    assert told == "4 pictures of val: top-1 33.33 % instead of 66.67 %, 33.33 points lost"
    with pytest.raises(UserError, match=r"33\.33 points lost; expected at most 33 points lost"):
        check_loss(answers(RIGHT), answers(found), "val", 33)


def test_without_artists_changed_answers_count() -> None:
    found, nobody = RIGHT[:, ::-1], (-1, -1, -1, -1)
    with pytest.raises(UserError, match=r"75\.00 % of the answers change"):
        check_loss(answers(RIGHT, targets=nobody), answers(found, targets=nobody), "val", 74)
