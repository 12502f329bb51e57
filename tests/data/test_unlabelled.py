"""Pictures without labels: the teacher gets the view that the student gets, and pictures keep their sides."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from data.image_list import Draw, collate
from data.loaders import EvalBatches, Loading, make_loader
from data.transforms import Preprocessing
from data.unlabelled import UnlabelledFolder, hold_out, open_unlabelled
from runtime.options import AugmentationOptions
from training.augmentation import train_transform
from utils import UserError

STUDENT = Preprocessing(input_size=32, crop_pct=1.0, interpolation="bicubic", mean=(0.0,) * 3, std=(1.0,) * 3)
TEACHER = Preprocessing(input_size=64, crop_pct=1.0, interpolation="bicubic", mean=(0.0,) * 3, std=(1.0,) * 3)
AUGMENTATION = AugmentationOptions(color_jitter=0.3)


@pytest.fixture
def images(tmp_path: Path) -> UnlabelledFolder:
    """Four soft pictures: one loose, the others in folders of two depths."""
    for number, name in enumerate(("loose.png", "a/1.png", "a/2.png", "b/c/3.png")):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((5, 4), 90 + number).convert("RGB").resize((150, 120), Image.Resampling.BICUBIC).save(path)
    found = open_unlabelled(tmp_path, train_transform(STUDENT, AUGMENTATION), seed=7, max_pixels=10**6)
    found.teacher_transform = train_transform(TEACHER, AUGMENTATION)
    return found


def test_every_picture_counts_in_whatever_folder(images: UnlabelledFolder) -> None:
    assert images.names == ["a/1.png", "a/2.png", "b/c/3.png", "loose.png"]
    assert images.classes == []
    assert images.counts().shape == (0,)


def test_student_and_teacher_see_the_same_view(images: UnlabelledFolder) -> None:
    for seed in range(5):
        sample = images[Draw(0, seed)]
        assert isinstance(sample.target, torch.Tensor)
        assert sample.target.shape == (3, 64, 64)
        reduced = torch.nn.functional.avg_pool2d(sample.target, 2)
        assert (reduced - sample.image).abs().mean() < 0.02
        others = images[Draw(0, seed + 100)].image
        assert (reduced - others).abs().mean() > 0.05


def test_known_features_are_those_of_the_view_that_is_drawn(images: UnlabelledFolder) -> None:
    views = 3
    images.features = torch.arange(views * 4.0).reshape(views, 4, 1)
    seen = {}  # what a pass over one view shows, as the teacher's pass does
    for view in range(views):
        plain = open_unlabelled(images.root, images.transform, seed=7, max_pixels=10**6)
        loading = Loading(batch_size=3)
        for batch in make_loader(plain, EvalBatches(4, loading, seed=(7, view)), loading):
            seen |= {(view, number): image for number, image in zip(batch.indices.tolist(), batch.images, strict=True)}
    drawn = set()
    for seed in range(40):
        sample = images[Draw(seed % 4, seed * 11)]
        view, number = divmod(int(sample.target), 4)
        assert number == seed % 4
        assert torch.equal(sample.image, seen[view, number])
        drawn.add(view)
    assert drawn == {0, 1, 2}


def test_a_damaged_picture_is_a_value(images: UnlabelledFolder) -> None:
    images.path(1).write_bytes(b"no picture")
    images.features = torch.zeros(1, 4, 2)
    batch = collate([images[number] for number in range(4)])
    assert batch.targets.shape == (3, 2)
    assert [number for number, _ in batch.failures] == [1]
    images.leave_out({images.path(1)})
    assert images.names == ["a/1.png", "b/c/3.png", "loose.png"]


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(UserError, match="no picture in"):
        open_unlabelled(tmp_path, torch.ones, seed=0, max_pixels=10**6)


def test_new_pictures_move_no_other_to_the_other_side() -> None:
    names = [f"artist/{number}.png" for number in range(2000)]
    train, val = hold_out(names, 0.1)
    assert sorted(train + val) == sorted(names)
    assert 150 < len(val) < 250
    fewer_train, fewer_val = hold_out(names[::3], 0.1)
    assert {*fewer_val} == {*names[::3]} & {*val}
    assert {*fewer_train} <= {*train}


def test_few_pictures_have_both_sides() -> None:
    for count in range(3, 30):
        train, val = hold_out([f"{number}.png" for number in range(count)], 0.01)
        assert len(train) >= 2
        assert len(val) >= 1
    with pytest.raises(UserError, match="at least three"):
        hold_out(["a.png", "b.png"], 0.1)
