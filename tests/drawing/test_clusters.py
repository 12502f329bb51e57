"""The sheet and the map show every group, whatever the pictures and their number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drawing import clusters as module
from drawing.clusters import (
    GAP,
    HEAD,
    KEY,
    MOST_IN_KEY,
    MOUNT,
    NO_CLUSTER,
    PLANE,
    SIDE,
    cluster_map,
    cluster_sheet,
    map_key,
    map_title,
)
from drawing.contact_sheet import TITLE

RED, BLUE = (200, 30, 30), (20, 40, 220)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four red and two blue pictures of several shapes."""
    for number in range(6):
        size = (40 + 30 * number, 90)
        Image.new("RGB", size, RED if number < 4 else BLUE).save(tmp_path / f"{number}.png")
    return tmp_path


CLUSTERS = [{"cluster_id": 0, "size": 4, "images": ["2.png", "0.png", "1.png", "3.png"]},
            {"cluster_id": 1, "size": 2, "images": ["5.png", "4.png"]}]


def centre(sheet: Image.Image, row: int, column: int) -> tuple[int, ...]:
    x = GAP + column * (SIDE + GAP) + SIDE // 2
    return sheet.getpixel((x, GAP + row * (TITLE + SIDE + 2 * GAP) + TITLE + SIDE // 2))


def test_each_group_has_a_row_nearest_first(folder: Path) -> None:
    (folder / "1.png").write_bytes(b"damaged since")
    cluster_sheet(CLUSTERS, folder, folder / "out.png")
    with Image.open(folder / "out.png") as sheet:
        assert [centre(sheet, 0, column) for column in (0, 1, 3)] == [RED] * 3
        assert "#{:02x}{:02x}{:02x}".format(*centre(sheet, 0, 2)) == MOUNT
        assert [centre(sheet, 1, column) for column in range(4)] == [BLUE, BLUE, (255,) * 3, (255,) * 3]


def test_of_large_groups_the_nearest_are_shown(folder: Path) -> None:
    many = [{"cluster_id": 0, "size": 60, "images": ["4.png"] * 10 + ["0.png"] * 50}]
    cluster_sheet(many, folder, folder / "out.png")
    with Image.open(folder / "out.png") as sheet:
        assert sheet.width == GAP + 10 * (SIDE + GAP)
        assert centre(sheet, 0, 9) == BLUE
        margins = [sheet.crop((left, 0, left + GAP, sheet.height)) for left in (0, sheet.width - GAP)]
        assert [margin.getcolors() for margin in margins] == [[(GAP * sheet.height, (255, 255, 255))]] * 2


@pytest.mark.parametrize(("size", "text"), [(1, "cluster 0: 1 picture"), (123456, "cluster 0: 123456 pictures")])
def test_a_title_that_is_wider_than_its_pictures_is_not_cut(folder: Path, size: int, text: str,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    monkeypatch.setattr(module, "draw_text", lambda draw, start, line, *how: written.append((start[0], line)))
    cluster_sheet([{"cluster_id": 0, "size": size, "images": ["0.png"]}], folder, folder / "out.png")
    assert written == [(GAP, text)]
    with Image.open(folder / "out.png") as sheet:
        assert sheet.width >= 2 * GAP + module.typeset(text, 16)[0].getlength(text)


def drawn(folder: Path, features: np.ndarray, *, pictures: bool = True, projection: str = "pca",
          clusters: list[dict] = CLUSTERS) -> np.ndarray:
    names = [f"{number}.png" for number in range(len(features))]
    cluster_map(features, names, clusters, folder / "map.png", folder=folder if pictures else None,
                projection=projection, seed=0)
    with Image.open(folder / "map.png") as picture:
        assert picture.size == (PLANE + KEY, HEAD + PLANE)
        return np.asarray(picture.convert("RGB")).astype(int)[HEAD:, :PLANE]


def where(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.argwhere((np.abs(pixels - colour) < 8).all(axis=2))


def test_pictures_lie_where_their_features_do(folder: Path) -> None:
    features = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    features[4:, 0] += 100
    pixels = drawn(folder, features)
    red, blue = where(pixels, RED), where(pixels, BLUE)
    assert np.linalg.norm(red.mean(axis=0) - blue.mean(axis=0)) > PLANE / 2


@pytest.mark.parametrize("projection", ["pca", "tsne"])
def test_groups_that_are_apart_are_apart_on_the_map(folder: Path, projection: str) -> None:
    features = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    features[40:, 0] += 100
    clusters = [{"cluster_id": number, "images": [f"{row}.png" for row in rows]}
                for number, rows in enumerate((range(40), range(40, 60)))]
    pixels = drawn(folder, features, pictures=False, projection=projection, clusters=clusters)
    first, second = where(pixels, (31, 119, 180)), where(pixels, (255, 127, 14))
    assert len(first) > len(second) > 20 * 10  # dots, of which few cover each other
    assert np.linalg.norm(first.mean(axis=0) - second.mean(axis=0)) > 300


@pytest.mark.parametrize("features", [np.ones((1, 3)), np.eye(2), np.ones((6, 4)), np.eye(3, 1), 1e-30 * np.eye(8)],
                         ids=["one", "two", "equal", "one number", "tiny"])
@pytest.mark.parametrize("projection", ["pca", "tsne"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_little_to_show_is_shown(folder: Path, features: np.ndarray, projection: str) -> None:
    pixels = drawn(folder, features.astype(np.float32), projection=projection)
    assert (pixels != 255).any()


def test_of_many_pictures_some_are_shown(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drawing.clusters.MOST_ON_MAP", 2)
    pixels = drawn(folder, np.arange(12, dtype=np.float32).reshape(6, 2))
    assert len(where(pixels, RED))  # the first and the last
    assert len(where(pixels, BLUE))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_title_says_what_is_seen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert map_title(1, 1, 0, "pca") == ("1 picture by their features (PCA: the first two components)",
                                         "A dot for each. Near each other means alike to the network; the axes have "
                                         "no unit.")
    title, note = map_title(5000, 2000, 310, "tsne")
    assert title == "2000 of 5000 pictures by their features (t-SNE)"
    assert note.startswith("A dot for each; 310 of the 2000 also as thumbnails (one where several lie).")
    said = []
    monkeypatch.setattr(module, "map_title", lambda *what: said.append(what) or ("", ""))
    drawn(folder, np.ones((6, 4), np.float32), projection="tsne")
    drawn(folder, np.eye(6, dtype=np.float32), projection="tsne", pictures=False)
    assert said == [(6, 6, 1, "pca"), (6, 6, 0, "tsne")]  # equal features have one place, and no t-SNE


def test_each_group_is_named_in_a_colour_of_its_own_and_grey_is_no_group() -> None:
    assert [text for _, text in map_key(CLUSTERS, 1)] == ["cluster 0: 4 pictures", "cluster 1: 2 pictures",
                                                          "in no cluster: 1 picture"]
    many = [{"cluster_id": number, "images": ["a"]} for number in range(MOST_IN_KEY + 3)]
    key = map_key(many, 0)
    assert key[-1][1] == "… and 3 more, colours repeat"
    colours = [colour for colour, _ in key[:-1]]
    assert len({*colours, NO_CLUSTER}) == MOST_IN_KEY + 1
    assert not [colour for colour in colours if colour[1:3] == colour[3:5] == colour[5:]]
    assert len(map_key(many[:MOST_IN_KEY], 0)) == MOST_IN_KEY


def test_the_key_fits_beside_the_map() -> None:
    text = map_key([{"cluster_id": 9999, "images": range(1_000_000)}], 0)[0][1]
    assert module.typeset(text, module.TEXT)[0].getlength(text) < KEY - 2 * GAP


def test_dots_lie_upon_the_thumbnails(folder: Path) -> None:
    features = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32) * 1e-3
    features[0, 0], features[5, 0] = 5, -5  # four in one place
    with_pictures, dots = (drawn(folder, features, pictures=pictures) for pictures in (True, False))
    coloured = (dots != 255).any(axis=2)
    assert coloured.sum() > 3 * 20
    assert (with_pictures[coloured] == dots[coloured]).all()
