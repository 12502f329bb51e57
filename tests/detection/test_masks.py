"""Masks in COCO's formats against run lengths written out, and what others may have written instead."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.masks import RunLengths, area, library, pack, pack_pixels, unpack
from tests.detection.sets import run_lengths
from utils import UserError

pytest.importorskip("faster_coco_eval", reason="the packages of requirements-detection.txt are not installed")


@settings(max_examples=60)
@given(st.integers(1, 9), st.integers(1, 9), st.randoms(use_true_random=False))
def test_run_lengths_in_both_forms_are_the_pixels(height, width, random):
    pixels = np.array([[random.random() < 0.5 for _ in range(width)] for _ in range(height)])
    packed = pack_pixels(pixels)
    assert (unpack(packed, height, width) == pixels).all()
    assert area(packed, height, width) == pixels.sum()
    assert pack(RunLengths(**run_lengths(pixels)), height, width) == packed
    assert pack(RunLengths([height, width], packed.decode()), height, width) == packed


def test_long_runs_survive_the_text_form():
    pixels = np.zeros((700, 900), bool)
    pixels[3:690, 2:5], pixels[600, 880] = True, True
    packed = pack_pixels(pixels)
    assert (unpack(pack(RunLengths([700, 900], packed.decode()), 700, 900), 700, 900) == pixels).all()


def test_polygons_are_joined_and_cut_at_the_picture():
    packed = pack([[2, 1, 6, 1, 6, 3, 2, 3], [0, 0, 1, 0, 1, 1, 0, 1], [6, 3, 12, 3, 12, 9, 6, 9]], 5, 7)
    expected = np.zeros((5, 7), np.uint8)
    expected[1:3, 2:6], expected[0, 0], expected[3:, 6] = 1, 1, 1
    assert (unpack(packed, 5, 7) == expected).all()


@pytest.mark.parametrize("segmentation", [
    [], [[]], [[1, 2, 3, 4]], [[1, 2, 3, 4, 5, 6, 7]], [[1e30, 0, 0, 0, 0, 1]], [[float("nan"), 0, 0, 0, 0, 1]],
    [[0, 0, 4, 0, 4, 2e9]], RunLengths([5, 7], [35]), RunLengths([7, 5], [10, 25]), RunLengths([5, 7], [36]),
    RunLengths([5, 7], [-1, 36]), RunLengths([5, 7], [2**62, 2**62]), RunLengths([5, 7], []),
    RunLengths([5, 7], "~~~"), RunLengths([5, 7], "o" * 40), RunLengths([5, 7], "é"), RunLengths([5, 7], "X"),
    RunLengths([5, 7], "")])
def test_what_others_wrote_is_refused_and_crashes_nothing(segmentation):
    if isinstance(segmentation, RunLengths) and segmentation.counts == [35]:
        assert not unpack(pack(segmentation, 5, 7), 5, 7).any()  # the empty mask is no error here
        return
    with pytest.raises(ValueError, match=r"polygon|run lengths"):
        pack(segmentation, 5, 7)


@settings(max_examples=200)
@given(st.text(st.characters(min_codepoint=0, max_codepoint=130), max_size=12))
def test_no_text_crashes_the_library(text):
    try:
        packed = pack(RunLengths([4, 4], text), 4, 4)
    except ValueError:
        return
    assert unpack(packed, 4, 4).shape == (4, 4)


def test_without_the_package_one_line_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(UserError, match=r"faster-coco-eval.*requirements-detection.txt"):
        library()
