"""Modes say what records hold; a request's identity is plain Python that a journal can store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import numpy as np

from evaluation.calibration import Calibration
from inference.modes import MODES, InferenceRequest, ModeName
from search.gallery import Gallery
from search.gallery_search import GallerySearch
from search.vectors import FeatureSpace


def test_every_mode_of_the_flag_is_described() -> None:
    assert tuple(MODES) == get_args(ModeName)
    assert [(mode.names_artists, mode.writes_features, mode.needs_gallery) for mode in MODES.values()] == [
        (True, False, False), (False, True, False), (True, True, False), (False, False, True)]


def test_the_identity_has_the_keys_that_earlier_journals_have() -> None:
    calibration = Calibration(fingerprint="f", view="default", temperature=2.0, confident=0.9, possible=0.5,
                              error_rate=0.05)
    plain = InferenceRequest(mode=MODES["both"], top_k=3, threshold=0.5, calibration=calibration)
    assert list(plain.identity().items()) == [("mode", "both"), ("top_k", 3), ("threshold", 0.5), ("calibration", {
        "fingerprint": "f", "view": "default", "temperature": 2.0, "confident": 0.9, "possible": 0.5,
        "error_rate": 0.05})]
    gallery = Gallery.of_folder(FeatureSpace(model="f"), Path("p"), ["a/1", "b/1"], np.eye(2, dtype=np.float32))
    search = InferenceRequest(mode=MODES["search"], gallery=Path("g"), search=GallerySearch(gallery, neighbours=7))
    assert list(search.identity().items()) == [
        ("mode", "search"), ("top_k", 5), ("threshold", 0.0), ("calibration", None), ("gallery", "g"), ("in it", 2),
        ("neighbours", 7)]
    assert json.loads(json.dumps(search.identity())) == search.identity()
