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
    MOUNT,
    PLANE,
    SIDE,
    cluster_map,
    cluster_sheet,
    heading,
    map_groups,
    map_key,
    map_title,
)
from drawing.contact_sheet import LEADING, SMALL, TEXT, TITLE
from drawing.lettering import text_width
from drawing.palette import GROUPS, NO_GROUP, SMALL_GROUPS

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
    line = LEADING + GAP // 2  # below the title and each heading
    top, below = GAP + TITLE + line + (row + 1) * (TEXT + line), row * (SIDE + LEADING + SMALL + LEADING + GAP)
    return sheet.getpixel((x, top + below + 3 * SIDE // 8))


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


def test_headings_count_the_artists_where_folders_are_artists() -> None:
    assert heading({"cluster_id": 3, "size": 2, "images": ["1.png", "2.png"]}) == "cluster 3, 2 pictures"
    names = [f"{artist}/{number}.png" for number, artist in enumerate("abbbcdefgg")]
    assert heading({"cluster_id": 0, "size": 10, "images": names}) == (
        "cluster 0, 10 pictures: 3 b, 2 g, 1 a, 1 c, 1 d, 2 by 2 other artists")


def test_the_sheet_names_files_and_artists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sheets = []
    monkeypatch.setattr(module, "contact_sheet", lambda sections, path, **how: sheets.append((sections, how["title"])))
    cluster_sheet([{"cluster_id": number, "size": 1, "images": ["anna/x/1.png"]} for number in range(31)], tmp_path,
                  tmp_path / "out.png")
    (sections, title), = sheets
    assert len(sections) == 30
    tile, = sections[0][1]
    assert (tile.picture, tile.caption, tile.file) == (tmp_path / "anna/x/1.png", "anna", "x/1.png")
    assert title.startswith("the 30 largest of 31 clusters")


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
    title, note = map_title(1, 1, 0, "pca", "cluster")
    assert title == "1 picture by their features (PCA: the first two components)"
    assert note.startswith("A dot in its cluster's colour for each; numbers are clusters.")
    title, note = map_title(5000, 2000, 310, "tsne", "artist")
    assert title == "2000 of 5000 pictures by their features (t-SNE)"
    assert note.startswith("A dot in its artist's colour for each, 310 of the 2000 also as thumbnails (one where")
    said = []
    monkeypatch.setattr(module, "map_title", lambda *what: said.append(what) or ("", ""))
    drawn(folder, np.ones((6, 4), np.float32), projection="tsne")
    drawn(folder, np.eye(6, dtype=np.float32), projection="tsne", pictures=False)
    assert said == [(6, 6, 1, "pca", "cluster"), (6, 6, 0, "tsne", "cluster")]  # equal ones have one place


def test_colours_are_artists_where_folders_are_artists_and_else_clusters() -> None:
    ids = {"a/1": 7, "b/1": 7, "1": 2}
    assert map_groups(["a/1", "b/1", "b/2"], ids) == ("artist", {"a/1": "a", "b/1": "b", "b/2": "b"})
    assert map_groups(["a/1", "a/2"], ids) == ("cluster", {"a/1": "cluster 7", "a/2": None})
    assert map_groups(["a/1", "b/1", "1"], ids)[0] == "cluster"
    enough = 2 * len(GROUPS)
    assert map_groups([f"{number}/1" for number in range(enough)], ids)[0] == "artist"
    assert map_groups([f"{number}/1" for number in range(enough + 1)], ids)[0] == "cluster"  # most would be grey


def test_each_large_group_has_a_colour_of_its_own_and_grey_is_no_group() -> None:
    key, colours = map_key("cluster", {"1": "cluster 4", "2": "cluster 5", "3": "cluster 5", "4": None})
    assert key == [(GROUPS[0], "cluster 5: 2"), (GROUPS[1], "cluster 4: 1"), (NO_GROUP, "in no cluster: 1")]
    assert colours == {"cluster 5": GROUPS[0], "cluster 4": GROUPS[1], None: NO_GROUP}
    key, colours = map_key("artist", {str(number): f"artist {number // 2}" for number in range(2 * len(GROUPS) + 5)})
    assert key[-1] == (SMALL_GROUPS, "3 other artists: 5")
    assert len({*colours.values()}) == len(GROUPS) + 2
    assert not [colour for colour in GROUPS if colour[1:3] == colour[3:5] == colour[5:]]


def test_the_key_fits_beside_the_map() -> None:
    key, _ = map_key("artist", {f"{number}": "Hans_Holbein_the_Younger" for number in range(10_000)})
    assert text_width(key[0][1], module.TEXT) < KEY - 3 * GAP


def test_no_dot_hides_a_number(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    ellipse = module.ImageDraw.ImageDraw.ellipse
    monkeypatch.setattr(module.ImageDraw.ImageDraw, "ellipse",
                        lambda draw, *where, **how: (written.append("dot"), ellipse(draw, *where, **how)))
    monkeypatch.setattr(module, "draw_text", lambda draw, start, text, *how, **halo: written.append(text))
    features = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    for pictures in (True, False):
        written.clear()
        drawn(folder, features, pictures=pictures)
        last = len(written) - written[::-1].index("dot")
        assert written[:last] == ["dot"] * 6
        assert {"0", "1"} <= {*written[last:]} <= {*written} - {"dot"}


def test_dots_lie_upon_the_thumbnails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "draw_text", lambda *what, **how: None)
    features = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32) * 1e-3
    features[0, 0], features[5, 0] = 5, -5  # four in one place
    with_pictures, dots = (drawn(folder, features, pictures=pictures) for pictures in (True, False))
    coloured = (dots != 255).any(axis=2)
    assert coloured.sum() > 3 * 20
    assert (with_pictures[coloured] == dots[coloured]).all()
