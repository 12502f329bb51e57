"""Corruptions: harder with each strength, the same for the same seed, and what they say they are."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.corruptions import CORRUPTIONS, STRENGTHS, corrupt, write_corrupted
from data.image_folder import ImageFolder
from data.images import decode_image


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    """Waves of several lengths and colours, (200, 256)."""
    y, x = np.mgrid[:200, :256]
    waves = [np.sin(x / 3) * np.cos(y / 5), np.sin((x + y) / 17), np.cos(x / 40 - y / 9)]
    return Image.fromarray((127 + 70 * np.stack(waves, -1)).astype(np.uint8))


def values(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=np.float64)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_each_strength_is_further_from_the_picture(picture: Image.Image, kind: str, seed: int) -> None:
    corrupted = [corrupt(picture, kind, strength, seed=seed) for strength in STRENGTHS]
    assert all((image.size, image.mode) == (picture.size, "RGB") for image in corrupted)
    errors = [np.square(values(image) - values(picture)).mean() for image in corrupted]
    assert errors[0] > 0.1
    assert errors == sorted(errors)
    assert len(set(errors)) == 5


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_the_seed_decides(picture: Image.Image, kind: str) -> None:
    same = {corrupt(picture, kind, 3, seed=5).tobytes() for _ in range(2)}
    others = {corrupt(picture, kind, 3, seed=seed).tobytes() for seed in range(8)}
    assert len(same) == 1
    assert len(others) == {"noise": 8, "brightness": 2}.get(kind, 1)


def test_corruptions_are_what_they_say(picture: Image.Image) -> None:
    grey = Image.new("RGB", (256, 256), (128, 128, 128))
    assert values(corrupt(grey, "noise", 2, seed=0)).std() == pytest.approx(0.07 * 255, rel=0.01)
    assert values(corrupt(picture, "contrast", 2, seed=0)).std() == pytest.approx(0.5 * values(picture).std(), rel=0.03)
    means = {round(values(corrupt(grey, "brightness", 1, seed=seed)).mean()) for seed in range(8)}
    assert means == {102, 160}
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=12)
    assert corrupt(picture, "jpeg", 4, seed=0).tobytes() == Image.open(file).convert("RGB").tobytes()
    edge = Image.fromarray(np.where(np.arange(256) < 128, 0, 255).astype(np.uint8)[None].repeat(256, 0)).convert("RGB")
    slope = np.diff(values(corrupt(edge, "blur", 4, seed=0))[128, :, 0])
    assert np.sqrt((slope / slope.sum() * (np.arange(255) - 127) ** 2).sum()) == pytest.approx(3.0, rel=0.05)
    thumbnail = picture.resize((205, 160), Image.Resampling.BICUBIC, reducing_gap=3)
    assert corrupt(picture, "rescale", 1, seed=0).tobytes() == thumbnail.resize(
        picture.size, Image.Resampling.BICUBIC).tobytes()
    small = picture.resize((30, 24))
    assert corrupt(small, "rescale", 5, seed=0).tobytes() == small.tobytes()  # a thumbnail already


def test_a_data_set_depends_on_seed_and_names_only(picture: Image.Image, tmp_path: Path) -> None:
    for name in ("a/1.jpg", "a/2.png", "b/sub/3.webp", "b/broken.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / "in" / name)
    (tmp_path / "in" / "b" / "broken.png").write_bytes(b"")
    pictures = ImageFolder(tmp_path / "in")

    def written(name: str, **how: object) -> dict[str, bytes]:
        settings = {"kinds": ["noise", "blur"], "short_side": 64, "seed": 0, "max_pixels": 10**6} | how
        failures = write_corrupted(tmp_path / name, pictures.root, pictures.names, workers=0, **settings)
        assert failures == {"b/broken.png": "empty file (0 bytes)"}
        files = (path for path in (tmp_path / name).rglob("*") if path.is_file())
        return {path.relative_to(tmp_path / name).as_posix(): path.read_bytes() for path in files}

    first = written("first")
    assert set(first) == {f"{kind}/{strength}/val/{name}" for kind in ("noise", "blur") for strength in STRENGTHS
                          for name in ("a/1.jpg", "a/2.png.jpg", "b/sub/3.webp.jpg")}
    assert decode_image(tmp_path / "first" / "blur" / "1" / "val" / "a" / "1.jpg").size == (82, 64)
    assert written("alone", kinds=["noise"]) == {name: first[name] for name in first if name.startswith("noise")}
    assert first["noise/1/val/a/1.jpg"] != first["noise/1/val/a/2.png.jpg"]
    assert written("reseeded", seed=1)["noise/1/val/a/1.jpg"] != first["noise/1/val/a/1.jpg"]
