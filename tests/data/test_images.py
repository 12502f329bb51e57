"""Which files are pictures, what is said of those that are not, and the odd ones that decode all the same."""

from __future__ import annotations

import contextlib
import pickle
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.images import IMAGE_EXTENSIONS, ImageError, decode_image

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


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_a_header_that_claims_300_megapixels_is_refused_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_that_claims(20_000, 15_000))
    assert reason(path) == "20000x15000 px, more than the limit of 200000000 px (--max-pixels)"
    assert "limit" not in reason(path, max_pixels=300_000_000)  # only then are its missing pixels noticed


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
