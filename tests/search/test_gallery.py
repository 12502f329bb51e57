"""A gallery keeps what it was given, changes by artists, and belongs to one model."""

from __future__ import annotations

import csv
import json
import re
import runpy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from search.gallery import Gallery, export_gallery, read_gallery, write_gallery
from search.gallery_search import GallerySearch
from search.neighbours import normalised
from search.standardisation import Standardisation
from search.vectors import FeatureSpace, read_vectors
from utils import UserError

MODEL = FeatureSpace(model="0123")
STYLE = FeatureSpace(model="0123", feature_kind="style", blocks=[3, 3])
NAMES = ["石/1.png", "Anna, B/x/1.png", "石/2.png"]
ROWS = np.array([[3, 4], [0, 2], [1, 0]], np.float32)
ROOT = Path(__file__).resolve().parents[2]
PAGES = ("docs", "docs/zh")


def documented(page: str, mark: str, word: str) -> str:
    """The one fenced block of `page` with this mark and word in it."""
    blocks = re.findall(f"^```{mark}\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    block, = (block for block in blocks if word in block)
    return block


@pytest.fixture
def gallery() -> Gallery:
    return Gallery.of_folder(MODEL, Path("pictures"), NAMES, ROWS)


def content(gallery: Gallery) -> dict[str, list[float]]:
    assert list(gallery.artists) == [image.partition("/")[0] for image in gallery.images]
    return dict(zip(gallery.images, np.asarray(gallery.features).tolist(), strict=True))


def test_artists_are_the_first_folders(gallery: Gallery) -> None:
    assert gallery.sizes == {"Anna, B": 1, "石": 2}
    assert gallery.numbers.tolist() == [1, 0, 1]
    assert gallery.means.tolist() == [[0, 2], [2, 2]]
    assert gallery.means.dtype == np.float32


def test_a_folder_of_pictures_is_one_artist() -> None:
    found = Gallery.of_folder(MODEL, Path("some/Mina"), ["1.png", "early/2.png"], ROWS[:2])
    assert list(found.images) == ["Mina/1.png", "Mina/early/2.png"]
    assert found.sizes == {"Mina": 2}


def test_names_are_composed_on_every_system() -> None:
    assert Gallery.of_folder(MODEL, Path("p"), ["Dore\u0301/1.png"], ROWS[:1]).sizes == {"Doré": 1}


def test_it_comes_back_from_its_folder(gallery: Gallery, tmp_path: Path) -> None:
    write_gallery(tmp_path / "g", gallery, overwrite=False)
    found = read_gallery(tmp_path / "g", MODEL)
    assert content(found) == content(gallery)
    assert isinstance(found.features, np.memmap)
    about = json.loads((tmp_path / "g" / "gallery.json").read_text(encoding="utf-8"))
    assert about == {"format": "lsnet-gallery-1", "model": "0123", "feature_dim": 2,
                     "components": None, "pictures": 3, "artists": [
                         {"artist": "Anna, B", "pictures": 1}, {"artist": "石", "pictures": 2}]}
    np.testing.assert_array_equal(np.load(tmp_path / "g" / "means.npy"), gallery.means)
    assert list(read_vectors([tmp_path / "g"]).names) == NAMES


def test_adding_and_removing_change_these_artists_only(gallery: Gallery) -> None:
    more = Gallery.of_folder(MODEL, Path("p"), ["石/2.png", "Otto/1.png"], np.array([[9, 9], [7, 7]], np.float32))
    both = gallery.with_pictures(more)
    assert content(both) == {"石/1.png": [3, 4], "Anna, B/x/1.png": [0, 2], "石/2.png": [9, 9], "Otto/1.png": [7, 7]}
    assert content(both.without("石")) == {"Anna, B/x/1.png": [0, 2], "Otto/1.png": [7, 7]}
    assert content(both.without("Otto").with_pictures(more)) == content(both)
    assert both.space == both.without("石").space == MODEL


def test_an_artist_who_is_not_there_or_the_last_cannot_go(gallery: Gallery) -> None:
    with pytest.raises(UserError, match=r"no artist 'Ana, B'.*Anna, B"):
        gallery.without("Ana, B")
    with pytest.raises(UserError, match="only artist"):
        gallery.without("石").without("Anna, B")


def test_a_standardised_gallery_compares_standardised_features(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(12, 6)).astype(np.float32) * [1, 1, 1, 1000, 1000, 1000]
    names = [f"{artist}/{number}.png" for artist in "abc" for number in range(4)]
    built = Gallery.of_folder(STYLE, Path("p"), names, rows.astype(np.float32), components=4)
    write_gallery(tmp_path / "g", built, overwrite=False)
    found = read_gallery(tmp_path / "g")
    expected = Standardisation.fit(built.features, [3, 3], 4).apply(rows)
    np.testing.assert_allclose(found.comparable(rows), expected, rtol=1e-4, atol=1e-5)
    assert (found.space, found.components) == (STYLE, 4)
    match = GallerySearch(found, neighbours=3).find(rows[5:6], 2)[0]
    assert match["pictures"][0]["image"] == "b/1.png"
    cosines = normalised(expected) @ normalised(expected[5])
    assert match["pictures"][1]["cosine_similarity"] == pytest.approx(np.sort(cosines)[-2], abs=1e-5)
    vectors, _ = exported(found, tmp_path / "out")
    np.testing.assert_allclose(vectors, normalised(expected), atol=1e-5)
    write_gallery(tmp_path / "g", found.without("c"), overwrite=True)  # fitted anew on the pictures that are left
    np.testing.assert_allclose(read_gallery(tmp_path / "g").comparable(rows[:8]),
                               Standardisation.fit(built.features[:8], [3, 3], 4).apply(rows[:8]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("change", "told"), [
    (lambda folder: (folder / "standardisation.npy").unlink(), "no .*standardisation.npy"),
    (lambda folder: np.save(folder / "standardisation.npy", ROWS), "at least 2 rows of 6"),
    (lambda folder: (folder / "features.json").write_text('{"model": "0123", "feature_kind": "style", "blocks": [9]}'),
     "of 9 numbers for features of 6"),
    (lambda folder: (folder / "features.json").write_text('{"model": "9", "feature_kind": "style"}'), "one gallery"),
    (lambda folder: (folder / "features.json").write_text('{"feature_kind": "odd"}'), "odd")])
def test_a_standardised_gallery_whose_parts_do_not_belong_together_is_refused(
        tmp_path: Path, change: Callable[[Path], object], told: str) -> None:
    rows = np.arange(12, dtype=np.float32).reshape(2, 6) ** 2
    write_gallery(tmp_path / "g", Gallery.of_folder(STYLE, Path("p"), NAMES[:2], rows), overwrite=False)
    change(tmp_path / "g")
    with pytest.raises(UserError, match=told):
        read_gallery(tmp_path / "g")


def test_another_models_gallery_is_refused(gallery: Gallery, tmp_path: Path) -> None:
    write_gallery(tmp_path / "g", gallery, overwrite=False)
    with pytest.raises(UserError, match=r"of 2 artists, built with another network \(0123…\); expected .*\(4567…\)"):
        read_gallery(tmp_path / "g", FeatureSpace(model="4567"))


def test_another_kind_of_features_is_refused(gallery: Gallery, tmp_path: Path) -> None:
    write_gallery(tmp_path / "g", gallery, overwrite=False)
    with pytest.raises(UserError, match=r"--feature-kind style for the gallery .*expected pooled"):
        read_gallery(tmp_path / "g", STYLE)


@pytest.mark.parametrize(("file", "text", "told"), [
    ("gallery.json", None, "No such file"), ("gallery.json", "{}", "`format`"), ("gallery.json", "[", "cannot be read"),
    ("gallery.json", '{"format": "lsnet-gallery-9", "model": "0123"}', "lsnet-gallery-9"),
    ("features.npy", None, "features.npy"), ("features.npy", "junk", "no vectors that can be read"),
    ("pictures.csv", "row,artist,image\n0,a,a/1.png\n", "3 features of 2 numbers and 1 names"),
    ("pictures.csv", "row,artist,image\n0,a\n1,b\n2,c\n", "2 cell"),
    ("pictures.csv", None, "pictures.csv"),
    ("pictures.csv", "row,artist,image\n0,a,x\n1,,y\n2,b,z\n", "without a name"),
    ("pictures.csv", "row,artist,image\n0,a,x\n2,a,y\n1,b,z\n", "another number"),
    ("gallery.json", '{"format": "lsnet-gallery-1", "model": 3, "feature_dim": 2, "pictures": 3}', "`str`, got `int`"),
    ("gallery.json", '{"format": "lsnet-gallery-1", "model": "0", "feature_dim": 9, "pictures": 3}', "3 of 9 numbers"),
])
def test_parts_that_do_not_belong_together_are_refused(gallery: Gallery, tmp_path: Path, file: str, text: str | None,
                                                       told: str) -> None:
    write_gallery(tmp_path / "g", gallery, overwrite=False)
    (tmp_path / "g" / file).unlink()
    if text is not None:
        (tmp_path / "g" / file).write_text(text)
    with pytest.raises(UserError, match=told):
        read_gallery(tmp_path / "g")


@pytest.mark.parametrize(("features", "told"), [
    (np.full((3, 2), np.nan, np.float32), "not finite"), (ROWS.astype(np.complex64), "complex64"),
    (np.float32(3), "shape ()"), (ROWS[:, :1], "3 features of 1 numbers"), (ROWS[:2], "2 features of 2 numbers")])
def test_features_of_another_kind_are_refused(gallery: Gallery, tmp_path: Path, features: np.ndarray,
                                              told: str) -> None:
    write_gallery(tmp_path / "g", gallery, overwrite=False)
    np.save(tmp_path / "g" / "features.npy", features)
    with pytest.raises(UserError) as caught:
        read_gallery(tmp_path / "g")
    assert told in str(caught.value)


def test_nothing_readable_is_no_gallery() -> None:
    with pytest.raises(UserError, match="no picture that can be read in p"):
        Gallery.of_folder(MODEL, Path("p"), [], np.empty((0, 0), np.float32))


def test_a_failure_while_writing_leaves_the_old_one(gallery: Gallery, tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    write_gallery(tmp_path / "g", gallery, overwrite=False)
    monkeypatch.setattr("search.gallery.write_json", lambda path, value: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_gallery(tmp_path / "g", gallery.without("石"), overwrite=True)
    assert content(read_gallery(tmp_path / "g")) == content(gallery)
    assert [path.name for path in tmp_path.iterdir()] == ["g"]


def exported(gallery: Gallery, folder: Path) -> tuple[np.ndarray, list[list[str]]]:
    export_gallery(gallery, folder)
    with open(folder / "vectors.csv", encoding="utf-8", newline="") as file:
        return np.load(folder / "vectors.npy"), list(csv.reader(file))


def test_an_export_has_unit_vectors_and_their_names(gallery: Gallery, tmp_path: Path) -> None:
    vectors, rows = exported(gallery, tmp_path)
    np.testing.assert_allclose(vectors, [[0.6, 0.8], [0, 1], [1, 0]], rtol=1e-6)
    assert vectors.dtype == np.float32
    assert rows[0] == ["row", "artist", "image"]
    assert rows[1:] == [["0", "石", NAMES[0]], ["1", "Anna, B", NAMES[1]], ["2", "石", NAMES[2]]]


@pytest.mark.parametrize("folder", PAGES)
def test_the_documented_gallery_is_read(folder: str, tmp_path: Path) -> None:
    text = documented(f"{folder}/search.md", "json", "lsnet-gallery-1")
    space = documented(f"{folder}/files.md", "json", "blocks")
    about = json.loads(text)
    built = Gallery.of_folder(MODEL, Path("p"), NAMES, ROWS)
    write_gallery(tmp_path / "g", built, overwrite=False)
    assert about.keys() == json.loads((tmp_path / "g" / "gallery.json").read_text(encoding="utf-8")).keys()
    assert json.loads(space).keys() == json.loads((tmp_path / "g" / "features.json").read_text(encoding="utf-8")).keys()
    (tmp_path / "g" / "gallery.json").write_text(text, encoding="utf-8")
    (tmp_path / "g" / "features.json").write_text(space, encoding="utf-8")
    rows = [["row", "artist", "image"], *([row, "A", f"A/{row}.png"] for row in range(about["pictures"]))]
    with open(tmp_path / "g" / "pictures.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    width = about["feature_dim"]
    np.save(tmp_path / "g" / "features.npy", np.zeros((about["pictures"], width), np.float32))
    np.save(tmp_path / "g" / "standardisation.npy", np.ones((1 + about["components"], width), np.float32))
    found = read_gallery(tmp_path / "g", FeatureSpace(**json.loads(space)))
    assert found.space.feature_kind == "both"
    assert found.comparable(found.features).shape == (about["pictures"], about["components"])


@pytest.mark.parametrize("folder", PAGES)
def test_queries_standardised_as_documented_are_those_of_search(folder: str, tmp_path: Path,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).normal(size=(12, 6)).astype(np.float32)
    write_gallery(Path("g"), Gallery.of_folder(STYLE, Path("p"), [f"a/{row}.png" for row in range(12)], rows),
                  overwrite=False)
    vectors, _ = exported(read_gallery(Path("g")), Path("my_vectors"))
    Path("my_results/batch").mkdir(parents=True)
    np.save("my_results/batch/features.npy", rows)
    Path("queries.py").write_text(documented(f"{folder}/search.md", "python", "standardisation.npy"), encoding="utf-8")
    np.testing.assert_allclose(runpy.run_path("queries.py")["queries"], vectors, atol=1e-5)
