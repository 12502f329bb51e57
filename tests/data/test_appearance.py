"""Pictures of every mode decode to what a viewer shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, TiffImagePlugin

from data.appearance import to_rgb
from data.images import decode_image

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # pytest undoes the filter of data/images.py
COLOURS = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[255, 255, 0], [10, 20, 30], [200, 200, 200]]], np.uint8)


def saved(folder: Path, image: Image.Image, name: str = "picture.png", **options: object) -> np.ndarray:
    """(H, W, 3) int of `image` after a way through a file."""
    image.save(folder / name, **options)
    return np.asarray(decode_image(folder / name), int)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["picture.jpg", "picture.png", "picture.tif", "picture.webp"])
def test_exif_orientation_is_applied_once(tmp_path: Path, orientation: int, name: str) -> None:
    image = Image.fromarray(COLOURS.repeat(16, 0).repeat(16, 1))
    exif = Image.Exif()
    exif[0x0112] = orientation
    expected = image.copy()
    expected.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(expected), int)
    seen = saved(tmp_path, image, name, exif=exif)
    assert seen.shape == expected.shape
    assert abs(seen - expected)[8::16, 8::16].max() < 40  # lossy, but no colour is another's
    assert not decode_image(tmp_path / name).info


def test_a_damaged_exif_block_does_not_make_a_damaged_picture(tmp_path: Path) -> None:
    assert saved(tmp_path, Image.new("RGB", (8, 8), "red"), "picture.jpg", exif=b"Exif\0\0nonsense").shape == (8, 8, 3)


def test_cmyk_inks_become_the_colours_they_print(tmp_path: Path) -> None:
    inks = Image.new("CMYK", (48, 16))
    for place, ink in enumerate([(0, 255, 255, 0), (255, 0, 0, 0), (0, 0, 0, 255)]):  # red, cyan, black
        inks.paste(ink, (16 * place, 0, 16 * place + 16, 16))
    seen = saved(tmp_path, inks, "picture.jpg", quality=95)  # an Adobe JPEG, whose inks are stored inverted
    assert abs(seen[8, 8::16] - [(255, 0, 0), (0, 255, 255), (0, 0, 0)]).max() < 12


def test_sixteen_bits_are_scaled_and_not_cut_off(tmp_path: Path) -> None:
    greys = np.array([[0, 257, 32896, 65535]], np.uint16)
    for name in ("picture.png", "picture.tif", "picture.pgm"):
        assert saved(tmp_path, Image.fromarray(greys), name)[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize(("values", "expected"), [
    (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]), (np.array([[0, 100, 255]], np.float32), [0, 100, 255]),
    (np.array([[0, 5e5, 1e6]], np.float32), [0, 128, 255]), (np.array([[np.nan, -3, 1]], np.float32), [0, 0, 255]),
    (np.array([[0, 32896, 65535]], np.int32), [0, 128, 255]), (np.array([[0, 10**6, 10**6]], np.int32), [0, 255, 255]),
    (np.zeros((1, 3), np.float32), [0, 0, 0])])
def test_greys_of_32_bits_fill_the_range(tmp_path: Path, values: np.ndarray, expected: list[int]) -> None:
    assert saved(tmp_path, Image.fromarray(values), "picture.tif")[0, :, 2].tolist() == expected


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert("1")
    for name in ("picture.png", "picture.pbm", "picture.tif", "picture.bmp"):
        assert saved(tmp_path, image, name)[..., 1].tolist() == [[0, 255], [255, 0]]


def test_transparency_lies_over_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (3, 1), (200, 0, 0, 255))
    image.putpixel((1, 0), (200, 0, 0, 0))
    image.putpixel((2, 0), (200, 0, 0, 128))
    for name, options in (("picture.png", {}), ("picture.webp", {"lossless": True}), ("picture.tif", {})):
        assert abs(saved(tmp_path, image, name, **options)[0] - [(200, 0, 0), (255,) * 3, (227, 127, 127)]).max() <= 1


def test_grey_with_alpha_lies_over_white(tmp_path: Path) -> None:
    image = Image.new("LA", (3, 1), (100, 255))
    image.putpixel((1, 0), (100, 0))
    image.putpixel((2, 0), (100, 51))
    assert abs(saved(tmp_path, image)[0] - [(100,) * 3, (255,) * 3, (224,) * 3]).max() <= 1


@pytest.mark.parametrize("transparency", [1, b"\xff\x00\x80"])
def test_a_palette_with_transparency_lies_over_white(tmp_path: Path, transparency: int | bytes) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([10, 20, 30, 0, 0, 0, 100, 0, 0])
    third = (100, 0, 0) if transparency == 1 else (177, 127, 127)
    assert abs(saved(tmp_path, image, transparency=transparency)[0] - [(10, 20, 30), (255,) * 3, third]).max() <= 1


@pytest.mark.parametrize(("mode", "colour"), [("L", 7), ("RGB", (7, 8, 9)), ("I;16", 7 * 257)])
def test_a_single_transparent_colour_is_white(tmp_path: Path, mode: str, colour: object) -> None:
    image = Image.new(mode, (2, 1), colour)
    image.putpixel((1, 0), 257 * 50 if mode == "I;16" else 50 if mode == "L" else (50, 50, 50))
    assert saved(tmp_path, image, transparency=colour)[0].tolist() == [[255] * 3, [50] * 3]


@pytest.mark.parametrize("mode", ["RGBa", "La", "PA", "YCbCr", "HSV", "LAB", "RGBX"])
def test_rare_modes_become_rgb(mode: str) -> None:
    grey = Image.new("RGBA", (2, 2), (90, 90, 90, 255))
    if mode == "LAB":
        image = ImageCms.profileToProfile(grey.convert("RGB"), ImageCms.createProfile("sRGB"),
                                          ImageCms.createProfile("LAB"), outputMode="LAB")
    else:
        image = grey.convert({"La": "LA"}.get(mode, "RGB" if mode in ("YCbCr", "HSV", "RGBX") else "RGBA"))
        image = image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)
    seen = to_rgb(image)
    assert seen.mode == "RGB"
    assert abs(np.asarray(seen, int) - 90).max() <= 3


@pytest.mark.parametrize("name", ["picture.gif", "picture.png", "picture.webp", "picture.tif"])
def test_an_animation_gives_its_first_frame(tmp_path: Path, name: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    lossless = {"lossless": True} if name.endswith("webp") else {}
    assert abs(saved(tmp_path, frames[0], name, save_all=True, append_images=frames[1:], **lossless)
               - (255, 0, 0)).max() <= 1


def swapped_profile() -> bytes:
    """An RGB profile whose red primary is sRGB's green and the other way round: the two channels trade places."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = {bytes(profile[place:place + 4]): place for place in range(132, 132 + 12 * profile[131], 12)}
    red, green = tags[b"rXYZ"], tags[b"gXYZ"]
    profile[red + 4:red + 12], profile[green + 4:green + 12] = profile[green + 4:green + 12], profile[red + 4:red + 12]
    return bytes(profile).replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be")).replace(b"sRGB", b"swap")


def test_a_foreign_profile_is_converted_to_srgb(tmp_path: Path) -> None:
    seen = saved(tmp_path, Image.fromarray(COLOURS), icc_profile=swapped_profile())
    assert abs(seen - COLOURS[..., [1, 0, 2]]).max() <= 2


def test_a_profile_and_transparency_work_together(tmp_path: Path) -> None:
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (255, 0, 0, 0))
    assert abs(saved(tmp_path, image, icc_profile=swapped_profile())[0] - [(0, 255, 0), (255, 255, 255)]).max() <= 2


@pytest.mark.parametrize("profile", [b"nonsense", swapped_profile()[:200],
                                     ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
                                     ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()])
def test_a_profile_that_says_nothing_new_or_does_not_fit_changes_nothing(tmp_path: Path, profile: bytes) -> None:
    assert np.array_equal(saved(tmp_path, Image.fromarray(COLOURS), icc_profile=profile), COLOURS)


def test_a_tiff_whose_white_is_zero_is_not_a_negative(tmp_path: Path) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0
    assert saved(tmp_path, Image.new("L", (2, 2), 200), "picture.tif", tiffinfo=tags)[0, 0].tolist() == [200] * 3
