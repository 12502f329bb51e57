"""Verdicts of galleries: left-out pictures by other means, thresholds by hand, and what they are worth elsewhere."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from evaluation.calibration import CALIBRATION, Fitted
from evaluation.gallery_verdicts import (
    Found,
    GalleryVerdicts,
    _confident_threshold,
    calibrate_gallery,
    cross_fit,
    format_fitted,
    read_verdicts,
    usable_scores,
)
from search.engines import FolderStore
from search.gallery import Gallery, read_gallery, write_gallery
from search.gallery_search import GallerySearch
from search.vectors import FeatureSpace
from utils import UserError

BLOCKS = [6, 6]
SPACE = FeatureSpace(model="0123", feature_kind="both", blocks=BLOCKS)
NEIGHBOURS = 7
CENTRES = np.random.default_rng(0).normal(size=(30, 12)) * 1.2


def pictures(seed: int, artists: range, each: int) -> tuple[list[str], np.ndarray]:
    """Names and features around one centre per artist."""
    random = np.random.default_rng(seed)
    names = [f"{artist:02}/{seed}_{number}.png" for artist in artists for number in range(each)]
    features = np.repeat(CENTRES[artists.start:artists.stop], each, axis=0) + random.normal(size=(len(names), 12))
    return names, features.astype(np.float32)


def make(each: int = 12, artists: range = range(8), space: FeatureSpace = SPACE) -> Gallery:
    return Gallery.of_folder(space, Path("p"), *pictures(1, artists, each))


def write(folder: Path, gallery: Gallery, fitted: Fitted | None = None) -> None:
    write_gallery(folder, gallery, overwrite=True, calibration=None if fitted is None else lambda building: (
        fitted.calibration.write(building / CALIBRATION, fitted.figures, fitted.scorer)))


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    return calibrate_gallery(make(), NEIGHBOURS, 0.1)


def test_every_picture_is_asked_once_as_known_and_once_as_unknown_where_it_is_not_held() -> None:
    gallery = make(5, range(6))
    twins = gallery.with_pictures(Gallery.of_folder(  # each artist's pictures have a copy in another artist's name
        SPACE, Path("p"), [f"x{name}" for name in gallery.images], np.asarray(gallery.features)))
    known, unknown, aurocs = cross_fit(twins, ["probability"], 1)
    assert len(known.right) == len(unknown.right) == 60
    assert sorted(known.artists) == sorted(unknown.artists) == sorted(twins.numbers)
    assert not unknown.right.any()
    assert 0 <= aurocs["probability"] <= 1
    alone, _, _ = cross_fit(gallery, ["neighbours"], 1)
    assert (alone.scores["neighbours"] < 0.9999).all()  # none finds itself


def test_an_artists_only_picture_is_by_an_unknown_one() -> None:
    single = make(4, range(4)).with_pictures(Gallery.of_folder(SPACE, Path("p"), *pictures(9, range(5, 6), 1)))
    known, unknown, _ = cross_fit(single, ["probability"], 3)
    assert len(known.right) == 16
    assert len(unknown.right) == 17


def test_the_confident_threshold_by_hand() -> None:
    shares = np.array([1.0, 0.9, 0.8, 0.7, 0.6])
    known = Found(right=np.array([1, 1, 1, 1, 0], bool), shares=shares, scores={"probability": shares},
                  artists=np.zeros(5, np.int64))
    others = np.array([0.75, *[0.1] * 8, 0.85])
    unknown = Found(right=np.zeros(10, bool), shares=others, scores={"probability": others}, artists=np.arange(10))
    # One of ten artists may be taken for known. From 0.8 on it is one: of three answers and one more one is wrong. From
    # 0.7 on it is two, so that as many pictures come by such an artist as are known, 5: 6 of 10 are wrong.
    assert _confident_threshold(known, unknown, "probability", 0.0, 0.25) == pytest.approx(0.775)
    assert _confident_threshold(known, unknown, "probability", 0.0, 0.2) == 2
    assert _confident_threshold(known, unknown, "probability", 0.0, 0.6) == pytest.approx(0.65)
    assert _confident_threshold(known, unknown, "probability", 0.95, 0.5) == pytest.approx(1, abs=1e-5)


def test_rates_about_hold_for_new_pictures_and_for_new_artists(fitted: Fitted) -> None:
    gallery = make().standardised()
    verdicts = GalleryVerdicts(calibration=fitted.calibration, scorer=fitted.scorer)

    def ask(artists: range) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        names, features = pictures(2, artists, 50)
        matches = GallerySearch(gallery, neighbours=NEIGHBOURS).find(features, 1)
        named = [match["artists_by_neighbours"][0]["artist"] for match in matches]
        right = np.array([artist == name.partition("/")[0] for artist, name in zip(named, names, strict=True)])
        shares = np.array([match["artists_by_neighbours"][0]["share"] for match in matches])
        scores = (fitted.scorer.score(np.empty((len(names), 0)), features) if fitted.scorer.needs_features else shares)
        return np.array(verdicts.tell(matches, features)), right, scores

    (known, right, scores), (strangers, _, others) = ask(range(8)), ask(range(8, 30))
    assert (known == "unknown").mean() == pytest.approx(0.1, abs=0.05)
    assert (known == "confident").sum() > 50
    assert (~right[known == "confident"]).mean() < 0.1
    assert (strangers == "confident").mean() < 0.1
    assert (strangers == "unknown").mean() > 0.3
    auroc = roc_auc_score(np.repeat([1, 0], [len(scores), len(others)]), np.concatenate([scores, others]))
    assert fitted.calibration.estimated_auroc == pytest.approx(auroc, abs=0.12)


def test_figures_are_printed_with_a_warning_where_chance_does_as_well(fitted: Fitted) -> None:
    told = "\n".join(format_fitted(fitted))
    assert "96 pictures left out in turn" in told
    assert "share " in told
    assert "warning" not in told
    noise = make()
    noise.features[:] = np.random.default_rng(3).normal(size=noise.features.shape)
    assert "hardly tells unknown artists" in "\n".join(format_fitted(calibrate_gallery(noise, NEIGHBOURS, 0.1)))


def read_calibrated(folder: Path, neighbours: int) -> tuple[Gallery, GalleryVerdicts | None]:
    search, verdicts = FolderStore(folder).search(neighbours=neighbours, space=SPACE,
                                                  also=partial(read_verdicts, neighbours=neighbours))
    return search.gallery, verdicts


@pytest.mark.parametrize("score", ["probability", "style"])
def test_what_is_written_is_read(tmp_path: Path, score: str) -> None:
    gallery = make()
    fitted = calibrate_gallery(gallery, NEIGHBOURS, 0.1, score)
    write(tmp_path / "g", gallery, fitted)
    found, verdicts = read_calibrated(tmp_path / "g", NEIGHBOURS)
    assert verdicts is not None
    assert (tmp_path / "g" / "calibration.npz").exists() == (score == "style")
    matches = GallerySearch(found, neighbours=NEIGHBOURS).find(found.features, 1)
    own = GalleryVerdicts(calibration=fitted.calibration, scorer=fitted.scorer)
    assert verdicts.tell(matches, found.features) == own.tell(matches, np.asarray(gallery.features))
    with pytest.raises(UserError, match=f"--neighbours 3 with .* made with {NEIGHBOURS}"):
        read_calibrated(tmp_path / "g", 3)
    write(tmp_path / "g", found.without("03"))  # its calibration was of other pictures
    assert read_calibrated(tmp_path / "g", 3)[1] is None
    assert not (tmp_path / "g" / "calibration.npz").exists()


def test_a_calibration_of_another_gallery_is_refused(tmp_path: Path, fitted: Fitted) -> None:
    write(tmp_path / "g", make(), fitted)
    write(tmp_path / "other", make(11))
    for name in ("calibration.json", "calibration.npz"):
        if (tmp_path / "g" / name).exists():
            shutil.copyfile(tmp_path / "g" / name, tmp_path / "other" / name)
    with pytest.raises(UserError, match="belongs to another gallery"):
        read_calibrated(tmp_path / "other", NEIGHBOURS)
    (tmp_path / "g" / "calibration.json").write_text("{}")
    with pytest.raises(UserError, match=r"build_gallery\.py --calibrate again"):
        read_calibrated(tmp_path / "g", NEIGHBOURS)


def test_fingerprints_tell_galleries_apart(tmp_path: Path) -> None:
    gallery = make()
    write(tmp_path / "g", gallery)
    assert read_gallery(tmp_path / "g").fingerprint == gallery.fingerprint
    changed = make()
    changed.features[0] += 1
    assert len({gallery.fingerprint, changed.fingerprint, make(11).fingerprint}) == 3


def test_galleries_that_cannot_be_calibrated_say_why() -> None:
    with pytest.raises(UserError, match="2 artists of two pictures"):
        calibrate_gallery(make(3, range(2)), NEIGHBOURS, 0.1)
    pooled = make(space=FeatureSpace(model="0123"))
    assert "style" not in usable_scores(pooled)
    with pytest.raises(UserError, match="--score style for a gallery of pooled features"):
        calibrate_gallery(pooled, NEIGHBOURS, 0.1, "style")
