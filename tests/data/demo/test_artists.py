"""The generated artists: the same for a seed, different in style, and alike in colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.demo.artists import draw_blend, draw_picture, write_demo_artists, write_demo_blends
from data.demo.styles import ARTISTS
from data.images import decode_image
from tests.pictures import list_images, parse_labels
from utils import mix_seed


def drawn(artist: str, seed: int, size: int = 48) -> np.ndarray:
    return np.asarray(draw_picture(artist, size=size, seed=seed), float)


@pytest.mark.parametrize("artist", ARTISTS)
def test_a_picture_depends_on_its_seed_only(artist: str) -> None:
    assert np.array_equal(drawn(artist, 1), drawn(artist, 1))
    assert not np.array_equal(drawn(artist, 1), drawn(artist, 2))


@pytest.mark.parametrize("artist", ARTISTS)
@pytest.mark.parametrize("size", [16, 200])
def test_any_size_can_be_drawn_and_something_is_on_it(artist: str, size: int) -> None:
    picture = drawn(artist, 3, size)
    assert picture.shape == (size, size, 3)
    assert picture.std((0, 1)).max() > 10


def test_files_are_the_same_for_the_same_arguments(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        write_demo_artists(tmp_path / name, artists=3, pictures_per_artist=2, size=32, seed=seed)
    names = [path.relative_to(tmp_path / "a").as_posix() for path in list_images(tmp_path / "a")]
    assert names == [f"{artist}/{number:04}.jpg" for artist in sorted(list(ARTISTS)[:3]) for number in (1, 2)]
    contents = [[path.read_bytes() for path in list_images(tmp_path / name)] for name in "abc"]
    assert contents[0] == contents[1]
    assert not set(contents[0]) & set(contents[2])
    assert decode_image(tmp_path / "a" / names[0]).size == (32, 32)


def test_colour_does_not_tell_the_artists_apart() -> None:
    """A nearest-mean-colour classifier, on pictures it has not seen, stays at 50 % or below (chance: 17 %)."""
    artists = list(ARTISTS)[:6]
    train, val = (np.array([[drawn(artist, mix_seed(side, place, number)).mean((0, 1)) for number in range(10)]
                            for place, artist in enumerate(artists)]) for side in (0, 1))
    distances = np.linalg.norm(val[:, :, None] - train.mean(1), axis=-1)
    accuracy = 100 * (distances.argmin(-1) == np.arange(6)[:, None]).mean()
    print(f"nearest mean colour: {accuracy:.1f} % of {val.shape[0] * val.shape[1]} pictures by 6 artists")
    assert accuracy <= 50


def test_the_style_tells_the_artists_apart() -> None:
    """The same classifier on a few numbers about edges, blind to colour and brightness: styles can be learned."""

    def edges(picture: np.ndarray) -> np.ndarray:
        grey = picture.mean(-1)
        grey = (grey - grey.mean()) / grey.std()
        lags = [(0, 2), (2, 0), (0, 4), (4, 0), (3, 3), (0, 6), (6, 0), (5, 5)]
        moved = [np.abs(grey - np.roll(grey, lag, (0, 1)))[8:-8, 8:-8] for lag in lags]
        return np.array([*(part.mean() for part in moved), *(part.std() for part in moved), (grey ** 3).mean() ** 2])

    artists = list(ARTISTS)[:6]
    train, val = (np.array([[edges(drawn(artist, mix_seed(side, place, number), 64)) for number in range(12)]
                            for place, artist in enumerate(artists)]) for side in (0, 1))
    scale = train.std((0, 1))
    distances = np.linalg.norm((val[:, :, None] - train.mean(1)) / scale, axis=-1)
    accuracy = 100 * (distances.argmin(-1) == np.arange(6)[:, None]).mean()
    print(f"nearest mean edges: {accuracy:.1f} %")
    assert accuracy >= 70


# ---- several artists on one picture ----


def test_blends_are_the_same_for_the_same_arguments_and_say_their_shares(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        write_demo_blends(tmp_path / name, artists=4, pictures=30, size=16, seed=seed)
    contents = [[path.read_bytes() for path in sorted((tmp_path / name).iterdir())] for name in "abc"]
    assert contents[0] == contents[1]
    assert not set(contents[0][::2]) & set(contents[2][::2])
    shares = [parse_labels(path.read_text(encoding="utf-8").strip()) for path in sorted((tmp_path / "a").glob("*.txt"))]
    assert {len(each) for each in shares} == {1, 2, 3}
    assert set().union(*shares) == set(list(ARTISTS)[:4])
    for each in shares:
        assert sum(each.values()) == pytest.approx(1)
        assert min(each.values()) >= 0.2


def test_each_artist_of_a_blend_has_an_area_of_the_share(monkeypatch: pytest.MonkeyPatch) -> None:
    for place, artist in enumerate("xyz"):  # who paint the whole picture in one colour
        monkeypatch.setitem(ARTISTS, artist, lambda scene, grey=100 * place: Image.new("RGB", (128, 128), (grey,) * 3))
    blend = np.asarray(draw_blend({"x": 0.5, "y": 0.2, "z": 0.3}, size=64, seed=1), float)[..., 0]
    assert blend.mean() == pytest.approx(0.2 * 100 + 0.3 * 200, abs=0.2)
    assert [(blend == grey).mean() for grey in (0, 100, 200)] == pytest.approx([0.5, 0.2, 0.3], abs=0.06)
