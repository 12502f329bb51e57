"""Copies are found however they were altered, and nothing else is taken for one."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import imagehash
import numpy as np
import pytest
from PIL import Image

import data.worker_pool
import prepare_dataset
from data.prepare import near_duplicates
from data.prepare.integrity import scan_images
from data.prepare.near_duplicates import (
    Looks,
    NearDuplicates,
    candidate_pairs,
    find_near_duplicates,
    look_at_image,
    scan_looks,
)
from tests.pictures import altered_copy, smooth_picture, stroke_picture


def search(images: Sequence[Image.Image]) -> NearDuplicates:
    """The near-duplicates among `images`; the path of each is its number."""
    looks = [look_at_image(image.convert("RGB")) for image in images]
    return find_near_duplicates(Looks(paths=[Path(str(number)) for number in range(len(images))],
                                      hashes=np.stack([look.hashes for look in looks]),
                                      thumbnails=np.stack([look.thumbnail for look in looks])))


def groups(images: Sequence[Image.Image]) -> list[list[int]]:
    return [[int(str(path)) for path in group] for group in search(images).groups]


def test_altered_copies_are_found_and_no_two_originals_joined() -> None:
    rng = np.random.default_rng(0)
    originals = [smooth_picture(rng) for _ in range(40)]
    whole = [altered_copy(image, rng, crop=False) for image in originals[:20]]
    cropped = [altered_copy(image, rng, crop=True) for image in originals[20:]]
    found = groups([*originals, *whole, *cropped])
    assert all(len(group) == 2 and group[1] == group[0] + 40 for group in found)
    assert sum(group[0] < 20 for group in found) == 20
    assert sum(group[0] >= 20 for group in found) >= 17


def test_a_small_picture_or_a_grey_one_is_still_the_same() -> None:
    image = smooth_picture(np.random.default_rng(1), (400, 300))
    assert groups([image, image.resize((40, 30)), image.convert("L"), Image.eval(image, lambda v: v // 2)]) == [
        [0, 1, 2, 3]]


@pytest.mark.parametrize("margin", [0.1, 0.2, 0.3])
@pytest.mark.parametrize("colour", ["white", "black"])
def test_a_frame_does_not_make_pictures_alike(margin: float, colour: str) -> None:
    rng = np.random.default_rng(2)
    framed = []
    for _ in range(20):
        page = Image.new("RGB", (160, 120), colour)
        inner = smooth_picture(rng, (round(160 * (1 - 2 * margin)), round(120 * (1 - 2 * margin))))
        page.paste(inner, (round(160 * margin), round(120 * margin)))
        framed.append(page)
    assert groups(framed) == []
    assert groups([*framed, altered_copy(framed[7], rng, crop=False)]) == [[7, 20]]


def test_empty_pictures_are_nobodys_copies() -> None:
    assert groups([Image.new("RGB", (64, 64), (grey, grey, grey)) for grey in (255, 254, 255, 128)]) == []


def test_patterns_are_not_compared() -> None:
    rng = np.random.default_rng(7)
    assert groups([*(stroke_picture(angle, rng) for angle in (0, 1, 2) for _ in range(15)),
                   Image.linear_gradient("L"), Image.linear_gradient("L").crop((10, 0, 256, 250))]) == []


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (2, 2), (31, 33)])
def test_pictures_of_any_size_have_a_look(size: tuple[int, int]) -> None:
    image = smooth_picture(np.random.default_rng(8), size)
    assert look_at_image(image).thumbnail.shape == (32, 32)
    assert groups([image, image]) in ([], [[0, 1]])


def panorama(count: int, step: int) -> list[Image.Image]:
    """Views into a wide picture, each moved by `step` px of 160."""
    wide = np.asarray(Image.fromarray(np.random.default_rng(3).integers(0, 256, (9, 100, 3), dtype=np.uint8)).resize(
        (1600, 120), Image.Resampling.BICUBIC))
    return [Image.fromarray(wide[:, number * step:number * step + 160]) for number in range(count)]


def test_a_long_chain_does_not_join_its_ends() -> None:
    views = panorama(30, 3)
    found = search(views)
    members = [[int(str(path)) for path in group] for group in found.groups]
    assert sorted(number for group in members for number in group) == sorted({n for group in members for n in group})
    assert max(group[-1] - group[0] for group in members) < 15
    assert found.parted
    group_of = {number: place for place, group in enumerate(members) for number in group}
    assert all(group_of.get(int(str(a)), -1) != group_of.get(int(str(b)), -2) for a, b in found.parted)


def test_a_short_chain_and_many_copies_of_one_picture_stay_whole() -> None:
    assert groups(panorama(5, 3)) == [[0, 1, 2, 3, 4]]
    rng = np.random.default_rng(4)
    image = smooth_picture(rng)
    assert groups([image, *(altered_copy(image, rng, crop=False) for _ in range(21))]) == [list(range(22))]


@pytest.mark.parametrize("bucket", [1000, 4, 0.01])  # one, two and three bands must agree
def test_candidates_are_all_pairs_within_the_distance(monkeypatch: pytest.MonkeyPatch, bucket: float) -> None:
    monkeypatch.setattr(near_duplicates, "_BUCKET", bucket)
    rng = np.random.default_rng(5)
    hashes = rng.integers(0, 2**64, (600, 3), dtype=np.uint64)
    for number in range(300):  # plant pairs of 0 to 11 bits
        bits = rng.choice(64, number % 12, replace=False)
        hashes[300 + number, 0] = hashes[number, number % 3] ^ np.bitwise_or.reduce(
            np.uint64(1) << bits.astype(np.uint64), initial=np.uint64(0))
    distance = np.bitwise_count(hashes[:, None, :] ^ hashes[None, :, :1]).min(-1)
    expected = np.argwhere(np.triu(np.minimum(distance, distance.T) <= 8, 1))
    assert len(expected) >= 225
    assert np.array_equal(candidate_pairs(hashes), expected)


def test_hashes_are_those_of_imagehash() -> None:
    rng = np.random.default_rng(7)
    for image in (smooth_picture(rng), smooth_picture(rng, (90, 400)), stroke_picture(0.3, rng)):
        whole = image.convert("L").resize((64, 64), Image.Resampling.LANCZOS, reducing_gap=2.0)
        views = [whole.resize((32, 32), Image.Resampling.LANCZOS, box=box)
                 for box in ((0, 0, 64, 64), (0, 0, 60.16, 60.16), (1.92, 1.92, 62.08, 62.08))]
        bits = np.stack([imagehash.phash(view).hash.ravel() for view in views])
        assert look_at_image(image).hashes[:3].tolist() == np.packbits(bits, axis=1).view(np.uint64).ravel().tolist()


def test_equal_hashes_meet_their_first_only() -> None:
    assert candidate_pairs(np.full((50, 6), 7, np.uint64)).tolist() == [[0, number] for number in range(1, 50)]
    assert candidate_pairs(np.empty((0, 6), np.uint64)).tolist() == []


def test_damaged_pictures_are_those_of_the_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.worker_pool, "_ITEMS_PER_PROCESS", 1)
    rng = np.random.default_rng(6)
    paths = [tmp_path / f"{number}.jpg" for number in range(6)]
    for path in paths:
        smooth_picture(rng).save(path)
    paths[1].write_bytes(b"")
    paths[4].unlink()
    damaged, looks = scan_looks(paths, workers=0, max_pixels=10**6)
    assert damaged == scan_images(paths, max_pixels=10**6)
    assert looks.paths == [paths[0], paths[2], paths[3], paths[5]]
    others = scan_looks(paths, workers=2, max_pixels=10**6)[1]
    assert np.array_equal(looks.hashes, others.hashes)
    assert np.array_equal(looks.thumbnails, others.thumbnails)


# ---- on real pictures: LSNET_ARTWORKS names a folder with one folder of pictures per artist --------------------------


@pytest.fixture
def artworks() -> Path:
    if not os.environ.get("LSNET_ARTWORKS"):
        pytest.skip("LSNET_ARTWORKS names no folder of artists' pictures")
    return Path(os.environ["LSNET_ARTWORKS"])


@pytest.mark.exhaustive
@pytest.mark.parametrize("part", [slice(7, None), slice(None)])
def test_copies_of_real_pictures(artworks: Path, part: slice) -> None:
    """The thresholds were chosen on the first seven artists."""
    artists = sorted(path for path in artworks.iterdir() if path.is_dir())[part]
    originals = [Image.open(path).convert("RGB") for artist in artists for path in sorted(artist.glob("*.jpg"))]
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(originals), 300, replace=False).tolist()
    copies = [altered_copy(originals[number], rng, crop=place % 2 == 1) for place, number in enumerate(chosen)]
    found = groups([*originals, *copies])
    group_of = {number: place for place, group in enumerate(found) for number in group}
    met = [group_of.get(number, -1) == group_of.get(len(originals) + place, -2) for place, number in enumerate(chosen)]
    joined = [here for group in found if len(here := [number for number in group if number < len(originals)]) > 1]
    print(f"\n{len(originals)} originals; found: {sum(met[::2])} of 150 whole, {sum(met[1::2])} of 150 cropped copies; "
          f"originals joined: {joined}")
    assert sum(met[::2]) >= 0.95 * 150
    assert sum(met[1::2]) >= 0.8 * 150
    assert sum(map(len, joined)) <= 0.005 * len(originals)


@pytest.mark.exhaustive
def test_saved_again_no_picture_faces_itself(artworks: Path, tmp_path: Path) -> None:
    """Of copies saved again that face their original across the split, none does so once they are looked for."""
    for path in artworks.glob("*/*.jpg"):
        (target := tmp_path / "raw" / path.relative_to(artworks)).parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    originals = sorted((tmp_path / "raw").glob("*/*.jpg"))[::5]
    for path in originals:
        Image.open(path).save(path.with_name(f"again_{path.name}"), quality=75)

    def facing(*flags: str) -> int:
        assert prepare_dataset.main(["--source-dir", str(tmp_path / "raw"), "--output-dir", str(tmp_path / "out"),
                                     "--hardlink", "--overwrite", *flags]) == 0
        lines = (tmp_path / "out" / "split_info.txt").read_text(encoding="utf-8").splitlines()[1:]
        side = {source: side for side, source, _ in (line.split("\t") for line in lines)}
        names = [path.relative_to(tmp_path / "raw") for path in originals]
        return sum(side[name.as_posix()] != side[name.with_name(f"again_{name.name}").as_posix()] for name in names)

    before, after = facing("--no-near-duplicates"), facing()
    print(f"\nof {len(originals)} copies {before} faced their original before, {after} do now")
    assert before >= 32
    assert after == 0
    info = json.loads((tmp_path / "out" / "dataset_info.json").read_text(encoding="utf-8"))
    assert info["num_near_duplicates"] == 2 * len(originals)
