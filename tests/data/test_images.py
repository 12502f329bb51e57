"""Which files are pictures, what is said of those that are not, and that the others look as a viewer shows them."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, PngImagePlugin, TiffImagePlugin

from data.images import IMAGE_EXTENSIONS, ImageError, decode_image, to_rgb

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # pytest undoes the filter of data/images.py


def gradient(width: int = 24, height: int = 16) -> np.ndarray:
    """Smooth colours, different at every corner, (height, width, 3) uint8."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 / (width - 1), y * 255 / (height - 1), np.full(x.shape, 90)], -1).astype(np.uint8)


def reason(path: Path, **limits: int) -> str:
    with pytest.raises(ImageError) as caught:
        decode_image(path, **limits)
    assert caught.value.path == path
    assert "\n" not in caught.value.reason
    assert str(path) not in caught.value.reason
    return caught.value.reason


@pytest.mark.parametrize(("extension", "tolerance"), [
    ("png", 0), ("bmp", 0), ("ppm", 0), ("tga", 0), ("tif", 0), ("jpg", 6), ("webp", 0), ("jp2", 6), ("avif", 12)])
def test_every_format_gives_the_pixels_that_were_saved(tmp_path: Path, extension: str, tolerance: int) -> None:
    path = tmp_path / f"picture.{extension}"
    options = {"jpg": {"subsampling": 0, "quality": 95}, "webp": {"lossless": True}, "avif": {"quality": 95}}
    Image.fromarray(gradient()).save(path, **options.get(extension, {}))
    image = decode_image(path)
    assert image.mode == "RGB"
    assert abs(np.asarray(image, int) - gradient()).max() <= tolerance


def test_the_content_decides_and_not_the_extension(tmp_path: Path) -> None:
    path = tmp_path / "really_a_png.jpg"
    Image.fromarray(gradient()).save(path, format="PNG")
    assert np.array_equal(decode_image(path), gradient())


@pytest.mark.parametrize(("content", "expected"), [
    (b"", "empty file (0 bytes)"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "Git LFS pointer, not the picture"),
    (b"<!DOCTYPE html><html>Not found</html>", "no picture in a known format"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no picture in a known format"),
    (bytes(range(256)) * 8, "no picture in a known format")])
def test_what_is_no_picture_is_called_by_its_name(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(content)
    assert reason(path) == expected


def test_a_missing_file_and_a_folder_are_image_errors(tmp_path: Path) -> None:
    assert "No such file" in reason(tmp_path / "missing.jpg")
    assert reason(tmp_path)


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "gif", "bmp", "tif", "ppm", "tga", "jp2", "avif"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_an_error(tmp_path: Path, extension: str, share: float) -> None:
    path = tmp_path / f"picture.{extension}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    path.write_bytes(content[:int(len(content) * share)])
    assert reason(path)


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "gif", "bmp", "tif", "tga", "jp2", "avif"])
def test_damaged_bytes_raise_nothing_but_image_errors(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"picture.{extension}"
    Image.fromarray(gradient(64, 64)).save(path)
    content = path.read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(60):
        broken = bytearray(content)
        for place in rng.integers(0, len(content), 12):
            broken[place] = rng.integers(0, 256)
        path.write_bytes(broken)
        with contextlib.suppress(ImageError):
            assert decode_image(path, max_pixels=10**7).mode == "RGB"


def chunk(kind: bytes, content: bytes, checksum: int | None = None) -> bytes:
    """A chunk of a PNG; without `checksum` the right one."""
    return struct.pack(">I4s", len(content), kind) + content + struct.pack(
        ">I", zlib.crc32(kind + content) if checksum is None else checksum)


def png_that_claims(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_a_header_that_claims_300_megapixels_is_refused_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_that_claims(20_000, 15_000))
    assert reason(path) == "20000x15000 px, more than the limit of 200000000 px (--max-pixels)"
    assert "limit" not in reason(path, max_pixels=300_000_000)  # only then are its missing pixels noticed


# ---- PNG with odd metadata -------------------------------------------------------------------------------------------

ZEROS = zlib.compress(bytes(2**21))  # unpacked more than PngImagePlugin.MAX_TEXT_CHUNK
ODD_CHUNKS = {
    "zTXt": chunk(b"zTXt", b"key\0\0" + ZEROS), "iTXt": chunk(b"iTXt", b"key\0\1\0\0\0" + ZEROS),
    "texts of 65 MiB": chunk(b"tEXt", b"key\0" + bytes(2**20)) * 65,
    "checksum of a text": chunk(b"tEXt", b"key\0value", 7), "checksum of a time": chunk(b"tIME", bytes(7), 7),
    "checksum of a transparent colour": chunk(b"tRNS", bytes(6), 7), "checksum of a profile": chunk(b"iCCP", b"x", 7),
    "short gamma": chunk(b"gAMA", b"\0"), "short size": chunk(b"pHYs", b"\0"), "no method": chunk(b"iCCP", b"x\0\1y"),
    "a length beyond the end": struct.pack(">I4s", 2**31 - 1, b"tEXt")}
HEAD = 33  # bytes of a PNG up to the end of IHDR


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


@pytest.mark.parametrize("odd", [name for name in ODD_CHUNKS if name != "a length beyond the end"])
@pytest.mark.parametrize("place", ["before the pixels", "behind them"])
def test_the_pixels_of_a_png_decide_and_not_its_metadata(tmp_path: Path, odd: str, place: str) -> None:
    content = png(Image.fromarray(gradient()))
    cut = HEAD if place == "before the pixels" else len(content) - 12
    content = content[:cut] + ODD_CHUNKS[odd] + content[cut:]
    (tmp_path / "a.png").write_bytes(content)
    assert np.array_equal(decode_image(tmp_path / "a.png"), gradient())
    assert np.array_equal(decode_image(tmp_path / "a.tar", content=content), gradient())
    assert PngImagePlugin.MAX_TEXT_CHUNK == 2**20  # nobody else's limits are touched


def test_what_a_png_looks_like_survives_odd_metadata() -> None:
    content = png(Image.new("RGB", (2, 1), (255, 0, 0)))
    exif = Image.Exif()
    exif[0x0112] = 6
    more = [chunk(b"iCCP", b"swap\0\0" + zlib.compress(swapped_profile() + bytes(2**21))),  # larger than Pillow takes
            chunk(b"tRNS", struct.pack(">3H", 0, 0, 0)), chunk(b"eXIf", exif.tobytes()[6:]), ODD_CHUNKS["zTXt"]]
    seen = decode_image("a.png", content=content[:HEAD] + b"".join(more) + content[HEAD:])
    assert seen.size == (1, 2)
    assert abs(np.asarray(seen, int) - (0, 255, 0)).max() <= 2


@pytest.mark.parametrize("damage", ["header", "pixels", "length"])
def test_a_png_whose_pixels_are_damaged_stays_damaged(tmp_path: Path, damage: str) -> None:
    content = bytearray(png(Image.fromarray(gradient())))
    if damage == "length":
        content[HEAD:HEAD] = ODD_CHUNKS["a length beyond the end"]
    else:
        content[HEAD - 1 if damage == "header" else HEAD + 40] ^= 1
        content[HEAD:HEAD] = ODD_CHUNKS["zTXt"]
    (tmp_path / "a.png").write_bytes(content)
    assert reason(tmp_path / "a.png")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits")
def test_a_png_of_large_metadata_needs_little_memory(tmp_path: Path) -> None:
    content = png(Image.fromarray(gradient()))
    with open(tmp_path / "a.png", "wb") as file:  # 8 private chunks of 1 GiB, full of holes
        file.write(content[:HEAD])
        for _ in range(8):
            file.write(struct.pack(">I4s", 2**30, b"prVt"))
            file.seek(2**30 + 4, os.SEEK_CUR)
        file.write(content[HEAD:])
    code = ("import resource, sys; sys.path.insert(0, sys.argv[1]); from data.images import decode_image; "
            "resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30)); print(decode_image(sys.argv[2]).size)")
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code, root, tmp_path / "a.png"], capture_output=True, text=True,
                          check=True)
    assert done.stdout == "(24, 16)\n"


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such files")
def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    assert reason(tmp_path / "a.png") == reason(tmp_path / "b.png") == "cannot be read: no regular file"


def test_the_pixel_limit_is_the_callers(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(gradient()).save(path)
    assert decode_image(path, max_pixels=24 * 16).size == (24, 16)
    assert "more than the limit of 383 px" in reason(path, max_pixels=24 * 16 - 1)


@pytest.mark.parametrize("size", [(3, 8), (9446, 40)])
def test_tiny_and_very_wide_pictures_are_fine(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(gradient(*size)).save(path)
    assert np.array_equal(decode_image(path), gradient(*size))


def test_an_image_error_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(ImageError("a/b.jpg", "empty file (0 bytes)")))  # noqa: S301 (made here)
    assert (error.path, error.reason) == (Path("a/b.jpg"), "empty file (0 bytes)")
    assert str(error) == f"{error.path}: {error.reason}"


def test_torch_is_not_needed_to_open_pictures(tmp_path: Path) -> None:
    code = ("import sys; sys.path.insert(0, sys.argv[1]); import data.images, data.prepare.splits, data.class_mapping, "
            "data.prepare.integrity, data.prepare.dataset, data.demo; sys.exit('torch' in sys.modules)")
    root = Path(__file__).resolve().parents[2]
    assert subprocess.run([sys.executable, "-c", code, root], check=False, cwd=tmp_path).returncode == 0


def test_extensions_are_lower_case_with_a_dot() -> None:
    assert all(extension == extension.lower() and extension[0] == "." for extension in IMAGE_EXTENSIONS)
    assert {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"} <= IMAGE_EXTENSIONS


# ---- appearance ------------------------------------------------------------------------------------------------------

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
    """A profile called sRGB with the primaries red and green in each other's place."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = {bytes(profile[place:place + 4]): place for place in range(132, 132 + 12 * profile[131], 12)}
    red, green = tags[b"rXYZ"], tags[b"gXYZ"]
    profile[red + 4:red + 12], profile[green + 4:green + 12] = profile[green + 4:green + 12], profile[red + 4:red + 12]
    return bytes(profile)


def with_curve(curve: bytes) -> bytes:
    """The profile of sRGB, its name included, with another tone curve for all channels."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    start = profile.index(b"para")
    return profile[:start] + curve.ljust(32, b"\0") + profile[start + 32:]


def gamma(exponent: float) -> bytes:
    return struct.pack(">4sIIH", b"curv", 0, 1, round(exponent * 256))


LINEAR = struct.pack(">4sII", b"curv", 0, 0)


@pytest.mark.parametrize(("curve", "exponent"), [(LINEAR, 1.0), (gamma(1.8), 1.8), (gamma(2.6), 2.6)])
def test_a_profile_is_judged_by_its_curve_and_not_by_its_name(tmp_path: Path, curve: bytes, exponent: float) -> None:
    assert "sRGB" in ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(with_curve(curve))))
    light = (COLOURS / 255) ** exponent
    expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    for name in ("picture.png", "picture.tif"):
        seen = saved(tmp_path, Image.fromarray(COLOURS), name, icc_profile=with_curve(curve))
        assert abs(seen - expected).max() <= 2.5


def test_a_profile_of_another_name_that_means_srgb_changes_nothing(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes().replace(
        "sRGB".encode("utf-16-be"), "mine".encode("utf-16-be"))
    levels = np.arange(256, dtype=np.float64) / 255
    table = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4) * 65535
    curve = struct.pack(">4sII256H", b"curv", 0, 256, *table.round().astype(int))  # as scanners write it
    tabled = bytearray(profile + curve)
    for tag in (b"rTRC", b"gTRC", b"bTRC"):
        at = tabled.index(tag) + 4
        tabled[at:at + 8] = struct.pack(">II", len(profile), len(curve))
    tabled[:4] = struct.pack(">I", len(tabled))
    for variant in (profile, bytes(tabled)):
        assert np.array_equal(saved(tmp_path, Image.fromarray(COLOURS), icc_profile=variant), COLOURS)


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
