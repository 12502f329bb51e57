"""Maps are laid where they belong: red above the mean, blue below, pale outside; mixtures have their colours."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageColor

from drawing.class_maps import SIDE, draw_legend, grey_map, lay_map, lay_mixture, shrink
from drawing.palette import PAPER


def excess(picture: Image.Image, at: tuple[int, int]) -> int:
    """Red less blue of a pixel."""
    red, _, blue = picture.getpixel(at)
    return red - blue


def test_red_lies_where_values_are_high_within_the_box_and_nothing_outside() -> None:
    values = np.zeros((8, 8), np.float32)
    values[:, 4:] = 2.0
    laid = lay_map(Image.new("RGB", (200, 100), "grey"), values, (100, 0, 300, 200), (400, 200))
    assert laid.size == (200, 100)
    assert excess(laid, (140, 50)) > 80
    assert excess(laid, (60, 50)) < -80
    assert excess(laid, (20, 50)) == excess(laid, (180, 50)) == 0


def test_a_grey_map_has_a_pixel_per_place_and_its_mean_in_the_middle() -> None:
    values = np.array([[-3.0, 0.0, 1.0], [0.0, 2.0, 0.0]], np.float32)
    grey = grey_map(values)
    assert (grey.size, grey.mode) == ((3, 2), "L")
    assert np.asarray(grey)[0, 0] == 0
    assert {*np.asarray(grey)[values == 0].tolist()} == {128}
    assert np.asarray(grey)[1, 1] > np.asarray(grey)[0, 2] > 128
    assert {*np.asarray(grey_map(np.ones((2, 2), np.float32))).flat} == {128}


def test_a_map_without_differences_colours_nothing_and_a_box_may_be_larger_than_the_picture() -> None:
    laid = lay_map(Image.new("RGB", (50, 100), "grey"), np.ones((4, 4), np.float32), (-50, 0, 150, 200), (100, 200))
    assert {excess(laid, (x, y)) for x in (0, 25, 49) for y in (0, 50, 99)} == {0}


def test_cells_of_a_mixture_have_the_colour_of_their_artist_the_surer_the_stronger() -> None:
    laid = lay_mixture(Image.new("RGB", (100, 100), PAPER), np.array([[0, 1], [1, 0]]),
                       np.array([[1.0, 1.0], [0.0, 0.0]]), ["#ff0000", "#0000ff"])
    sure, unsure = excess(laid, (10, 10)), excess(laid, (90, 90))
    assert sure > 2 * unsure > 0
    assert excess(laid, (90, 10)) < 2 * excess(laid, (10, 90)) < 0


def test_tiny_pictures_are_enlarged_and_the_key_shows_colours() -> None:
    assert shrink(Image.new("RGB", (10, 5))).size == (SIDE, SIDE // 2)
    assert draw_legend([("#ff0000", "anna")]).getpixel((5, 12)) == ImageColor.getrgb("#ff0000")
