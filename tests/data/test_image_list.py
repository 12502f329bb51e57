"""A picture by path: the same augmentation wherever it is drawn, and a damaged file that is a value and no gap."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import functional

from data.image_list import Batch, Draw, ImageList, Sample, collate, full_batches, refill
from utils import UserError, seed_everything


def noisy(image: Image.Image) -> torch.Tensor:
    return functional.to_tensor(image) + torch.rand(())


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Three readable pictures and, at place 1, a damaged one."""
    found = [tmp_path / f"{number}.png" for number in range(4)]
    for number, path in enumerate(found):
        Image.new("RGB", (4, 4), (60 * number, 0, 0)).save(path)
    found[1].write_bytes(found[1].read_bytes()[:50])
    return found


def test_the_seed_of_a_draw_decides_and_leaves_no_trace(paths: list[Path]) -> None:
    pictures = ImageList(paths, noisy)
    seed_everything(0)
    undisturbed = torch.rand(3)
    seed_everything(0)
    first, again, other = (pictures[Draw(2, seed)].image for seed in (7, 7, 8))
    assert torch.equal(torch.rand(3), undisturbed)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_place_takes_the_transform_as_it_is(paths: list[Path]) -> None:
    sample = ImageList(paths, functional.to_tensor)[2]
    assert (sample.index, sample.target, sample.reason) == (2, 0, "")
    assert sample.image[0, 0, 0].item() == pytest.approx(120 / 255)


@pytest.mark.parametrize("key", [1, Draw(1, 5)])
def test_a_damaged_file_is_a_value(paths: list[Path], key: int | Draw) -> None:
    sample = ImageList(paths, noisy)[key]
    assert (sample.index, sample.target, sample.image) == (1, 0, None)
    assert sample.reason


def test_a_picture_above_the_limit_and_a_missing_one_are_values(paths: list[Path]) -> None:
    paths[3].unlink()
    pictures = ImageList(paths, noisy, max_pixels=15)
    assert pictures[0].image is None
    assert "4x4 px" in pictures[0].reason
    assert pictures[3].image is None


def test_a_fault_of_the_transform_is_no_damaged_file(paths: list[Path]) -> None:
    pictures = ImageList(paths, lambda image: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pictures[0]


def test_a_failure_shifts_nothing_in_its_batch(paths: list[Path]) -> None:
    pictures = ImageList(paths, functional.to_tensor)
    pictures.target = lambda index: 10 * index
    batch = collate([pictures[index] for index in (3, 1, 0)])
    assert batch.indices.tolist() == [3, 0]
    assert batch.targets.tolist() == [30, 0]
    assert batch.images[:, 0, 0, 0].tolist() == pytest.approx([180 / 255, 0])
    assert [index for index, _ in batch.failures] == [1]
    assert batch.targets.dtype == batch.indices.dtype == torch.int64


def test_a_batch_of_failures_is_empty() -> None:
    batch = collate([Sample(4, 0, None, "truncated"), Sample(2, 0, None, "gone")])
    assert len(batch.images) == len(batch.targets) == len(batch.indices) == 0
    assert batch.failures == [(4, "truncated"), (2, "gone")]


def test_a_batch_with_failures_is_refilled_from_its_readable_pictures() -> None:
    batch = Batch(torch.arange(2.0).view(2, 1), torch.tensor([7, 8]), torch.tensor([3, 5]), [(4, "gone"), (6, "gone")])
    full = refill(batch, 5)
    assert full.indices.tolist() == [3, 5, 3, 5, 3]
    assert full.targets.tolist() == [7, 8, 7, 8, 7]
    assert full.images.flatten().tolist() == [0, 1, 0, 1, 0]
    assert refill(full, 5) is full
    with pytest.raises(UserError, match="no picture can be read any more"):
        refill(Batch(torch.empty(0), torch.tensor([]), torch.tensor([]), [(4, "gone")]), 2)


@given(readable=st.lists(st.booleans(), max_size=30), size=st.integers(1, 5), loaded=st.integers(1, 5))
def test_full_batches_hold_every_picture_once_in_order(readable: list[bool], size: int, loaded: int) -> None:
    samples = [Sample(index, index, torch.full((1, 2), float(index)) if good else None, "" if good else f"no {index}")
               for index, good in enumerate(readable)]
    starts = range(0, len(samples), min(loaded, size))
    found = list(full_batches((collate(samples[start:start + starts.step]) for start in starts), size))
    joined = [index for batch in found for index in sorted([*batch.indices.tolist(), *dict(batch.failures)])]
    assert joined == [*range(len(readable))]
    assert [failure for batch in found for failure in batch.failures] == [
        (index, f"no {index}") for index, good in enumerate(readable) if not good]
    with_images = [batch for batch in found if len(batch.indices)]
    assert all(batch.images.shape == (size, 1, 2) for batch in with_images)
    assert all(len(batch.indices) == size for batch in with_images[:-1])
    for batch in with_images:
        assert torch.equal(batch.images[:len(batch.indices), 0, 0], batch.indices.float())
        assert torch.equal(batch.targets, batch.indices)
        assert not batch.images[len(batch.indices):].any()
