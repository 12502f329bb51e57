"""Made sets are read by the trainers' readers, are the same for a seed, and pages name what they show."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.dense_sets import ON_DISK, SHAPES, constant_figures
from data.images import decode_image
from detection.coco import read_coco
from detection.datasets import open_ade20k
from detection.masks import unpack
from tests.forked import run
from tools import make_detection_set

pytest.importorskip("faster_coco_eval", reason="the packages of requirements-detection.txt are not installed")


def make(*words: object) -> int:
    return make_detection_set.main(list(map(str, words)))


@pytest.fixture(scope="module")
def textures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("textures")
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 256, (40, 90, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    return folder


def test_shapes_as_a_newcomer_makes_them(textures: Path, tmp_path: Path) -> None:
    done = run("tools/make_detection_set.py", "--textures", textures, "--output-dir", "set", "--train", 6, "--val", 3,
               "--size", 96, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    root = tmp_path / "set"
    for side, folder, count in (("train", "training", 6), ("val", "validation", 3)):
        coco = read_coco(root / f"{side}.json", root / "images" / folder, masks=True)
        regions, lines = open_ade20k(root, folder, ON_DISK)
        assert (coco.notes, lines) == ([], [])
        assert len(coco.pictures) == len(regions) == count
        assert coco.classes == list(SHAPES)
        assert regions.classes == ["background", *SHAPES]
        for index, picture in enumerate(coco.pictures):
            labels = regions.labels(index, (picture.height, picture.width))
            for each in picture.instances:
                mask = unpack(each.mask or b"", picture.height, picture.width).astype(bool)
                assert (labels[mask] == each.label + 1).all()
                left, top, width, height = map(int, each.box)
                assert mask[top:top + height, left:left + width].sum() == mask.sum() == each.area
            assert (labels > 0).sum() == sum(each.area for each in picture.instances)
    assert "of 100 boxes, or one class" in done.stdout


def test_a_seed_draws_the_same_set_again(tmp_path: Path) -> None:
    for name, seed in (("one", 5), ("two", 5), ("other", 6)):
        assert make("--output-dir", tmp_path / name, "--train", 2, "--val", 1, "--size", 64, "--seed", seed) == 0
    one, two, other = ((tmp_path / name / "images" / "training" / "0001.png").read_bytes()
                       for name in ("one", "two", "other"))
    assert one == two != other


def test_a_constant_answer_scores_little_but_something(tmp_path: Path) -> None:
    assert make("--output-dir", tmp_path / "set", "--train", 4, "--val", 2, "--size", 64) == 0
    figures = constant_figures(tmp_path / "set")
    assert list(figures) == ["box_ap", "box_ap50", "mask_ap", "mask_ap50", "miou"]
    assert 0 < figures["miou"] < 25
    assert figures["box_ap50"] < 50


def test_pages_show_pictures_of_two_artists_of_their_own_side(data_set: Path, tmp_path: Path) -> None:
    assert make("--pages-of", data_set, "--output-dir", tmp_path / "pages", "--train", 3, "--val", 2, "--size",
                160) == 0
    shown = json.loads((tmp_path / "pages" / "sources.json").read_text())
    assert len(shown) == 10
    for side, folder in (("train", "training"), ("val", "validation")):
        root = tmp_path / "pages" / "images" / folder
        for picture in read_coco(tmp_path / "pages" / f"{side}.json", root).pictures:
            sources = [shown[f"{folder}/{picture.name}/{number}"] for number in (0, 1)]
            assert {source.split("/")[0] for source in sources} == {side}
            assert len({source.split("/")[1] for source in sources}) == 2
            page = decode_image(root / picture.name)
            for source, each in zip(sources, picture.instances, strict=True):
                left, top, width, height = map(int, each.box)
                original = decode_image(data_set / source).resize((width, height))
                assert np.array_equal(np.asarray(page.crop((left, top, left + width, top + height))), original)


@pytest.mark.parametrize(("words", "found"), [
    (["--textures", "empty"], "no picture in empty"), (["--pages-of", "empty"], "empty"),
    (["--pages-of", "x", "--textures", "y"], "--textures with --pages-of"), (["--size", "8"], "--size 8"),
    (["--textures", "absent"], "absent")])
def test_wrong_input_is_one_line(words: list[str], found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                 capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    assert make("--output-dir", "out", *words) == 2
    said = capsys.readouterr().err
    assert found in said
    assert said.count("\n") == 1
    assert not Path("out").exists()
