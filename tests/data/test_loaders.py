"""Order and augmentation are functions of seed, epoch and picture: workers, ranks and restarts change neither."""

from __future__ import annotations

import atexit
import os
import signal
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data.image_folder import ImageFolder
from data.image_list import Batch, Draw
from data.loaders import EvalBatches, Loading, TrainBatches, make_loader, sampling_weights
from data.transforms import Preprocessing, eval_transform
from runtime.options import AugmentationOptions
from training.augmentation import train_transform
from utils import seed_everything

PREPROCESSING = Preprocessing(input_size=16, crop_pct=0.875, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3)
AUGMENTATION = AugmentationOptions(scale=(0.1, 1.0), aa="rand-m9-mstd0.5-inc1", reprob=0.5)
COUNT, DAMAGED = 14, 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fourteen noise pictures of two classes; number 5 is damaged."""
    root = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        path = root / str(number // 8) / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)
        if number == DAMAGED:
            path.write_bytes(path.read_bytes()[:200])
    return root


def pictures(folder: Path) -> ImageFolder:
    return ImageFolder(folder, train_transform(PREPROCESSING, AUGMENTATION))


def epoch(folder: Path, *, number: int = 0, first_batch: int = 0, seed: int = 1, accumulation: int = 1,
          **loading: int) -> list[Batch]:
    options = Loading(**{"batch_size": 3, **loading})
    batches = TrainBatches(COUNT, options, seed=seed, accumulation=accumulation)
    batches.start(number, first_batch)
    return list(make_loader(pictures(folder), batches, options))


def assert_same(found: list[Batch], expected: list[Batch]) -> None:
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        for part, twin in zip(one[:3], other[:3], strict=True):
            assert torch.equal(part, twin)
        assert one.failures == other.failures


def dealt(length: int, *, seed: int = 0, number: int = 0, accumulation: int = 1, **loading: int) -> list[list[Draw]]:
    batches = TrainBatches(length, Loading(**loading), seed=seed, accumulation=accumulation)
    batches.start(number)
    return list(batches)


# ---- training --------------------------------------------------------------------------------------------------------


@given(st.integers(0, 200), st.integers(1, 9), st.integers(1, 4), st.integers(1, 3), st.integers(0, 3))
def test_ranks_share_the_batches_of_one_process(length: int, per_rank: int, ranks: int, steps: int, number: int):
    by_rank = [dealt(length, number=number, accumulation=steps, batch_size=per_rank, rank=rank, world_size=ranks)
               for rank in range(ranks)]
    alone = dealt(length, number=number, accumulation=steps, batch_size=per_rank * ranks)
    assert [[draw for part in parts for draw in part] for parts in zip(*by_rank, strict=True)] == alone
    drawn = [draw.index for batch in alone for draw in batch]
    assert len(set(drawn)) == len(drawn) == length - length % (per_rank * ranks * steps)
    assert len(alone) % steps == 0


def test_every_picture_is_drawn_over_the_epochs_and_each_epoch_differs() -> None:
    orders = [[draw.index for batch in dealt(10, number=number, batch_size=4) for draw in batch] for number in range(8)]
    assert {index for order in orders for index in order} == set(range(10))
    assert len({tuple(order) for order in orders}) == 8


def test_a_draws_seed_depends_on_seed_epoch_and_picture_only() -> None:
    def seeds(**how: int) -> dict[int, int]:
        return {draw.index: draw.seed for batch in dealt(12, **{"batch_size": 3, **how}) for draw in batch}

    assert seeds() == seeds(batch_size=12) == seeds(batch_size=2, accumulation=2)
    everything = [*seeds().values(), *seeds(number=1).values(), *seeds(seed=1).values()]
    assert len(set(everything)) == 36


def test_workers_change_nothing(folder: Path) -> None:
    seed_everything(3)
    alone = epoch(folder)
    seed_everything(4)  # what the process drew before has no part in it
    assert_same(epoch(folder, num_workers=2), alone)
    assert any(batch.failures for batch in alone)
    assert len({batch.images.sum().item() for batch in alone}) == len(alone)


def test_the_pictures_of_two_ranks_are_those_of_one(folder: Path) -> None:
    halves = [epoch(folder, rank=rank, world_size=2) for rank in (0, 1)]
    whole = epoch(folder, batch_size=6)
    joined = [Batch(*(torch.cat(parts) for parts in zip(*[pair[0][:3], pair[1][:3]], strict=True)),
                    pair[0].failures + pair[1].failures) for pair in zip(*halves, strict=True)]
    assert_same(joined, whole)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_start_inside_an_epoch_gives_its_rest(workers: int, folder: Path) -> None:
    assert_same(epoch(folder, number=2, first_batch=1, num_workers=workers), epoch(folder, number=2)[1:])


def test_workers_that_live_on_see_the_next_epoch(folder: Path) -> None:
    loading = Loading(batch_size=3, num_workers=2)
    batches = TrainBatches(COUNT, loading, seed=1)
    loader = make_loader(pictures(folder), batches, loading, lasting=True)
    for number, first_batch in ((0, 0), (1, 0), (1, 2), (0, 0)):
        batches.start(number, first_batch)
        assert len(loader) == 4 - first_batch
        assert_same(list(loader), epoch(folder, number=number, first_batch=first_batch))


def test_a_left_out_picture_is_drawn_no_more(folder: Path) -> None:
    dataset = pictures(folder)
    dataset.leave_out([dataset.path(DAMAGED)])
    loading = Loading(batch_size=13)
    batch, = make_loader(dataset, TrainBatches(len(dataset), loading, seed=0), loading)
    assert sorted(batch.indices.tolist()) == list(range(13))
    assert not batch.failures


def test_loading_leaves_the_global_generators_alone(folder: Path) -> None:
    seed_everything(0)
    undisturbed = torch.rand(3)
    seed_everything(0)
    epoch(folder, num_workers=1)
    epoch(folder)
    assert torch.equal(torch.rand(3), undisturbed)


@pytest.mark.skipif(os.name == "nt", reason="os.kill ends a process on Windows, whatever the signal")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_workers_outlive_a_signal_that_reaches_the_whole_group(signum: signal.Signals, folder: Path) -> None:
    """The first asks to finish the update and save; without its workers the process could not finish."""
    loading = Loading(batch_size=1, num_workers=2)
    loader = make_loader(pictures(folder), EvalBatches(COUNT, loading), loading)
    batches = iter(loader)
    for _ in range(2):  # each worker has begun when it has made its first batch
        next(batches)
    for worker in loader._processes:
        os.kill(worker.pid, signum)
    assert len(list(batches)) == COUNT - 2


def test_workers_end_with_a_process_that_still_holds_its_loader(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after an error: multiprocessing alone sends one SIGTERM, which they outlive, and waits for them."""
    at_exit: list[Callable[[], None]] = []
    monkeypatch.setattr(atexit, "register", at_exit.append)
    loading = Loading(batch_size=1, num_workers=2)
    loader = make_loader(pictures(folder), EvalBatches(COUNT, loading), loading, lasting=True)
    list(loader)
    workers = loader._processes
    assert [worker.is_alive() for worker in workers] == [True, True]
    at_exit[0]()
    for worker in workers:
        worker.join(20)
    assert [worker.exitcode for worker in workers] == [-signal.SIGKILL] * 2


@pytest.mark.parametrize("aa", ["none", "rand-m9-mstd0.5-inc1", "augmix-m3", "3a"])
def test_what_workers_need_can_travel_to_spawned_processes(aa: str, folder: Path) -> None:
    """As on Windows and macOS, where processes start with nothing."""
    augmentation = AugmentationOptions(**{**vars(AUGMENTATION), "aa": aa})
    for fit in ("crop", "pad", "squash"):
        preprocessing = Preprocessing(**{**vars(PREPROCESSING), "fit": fit})
        for transform in (train_transform(preprocessing, augmentation), eval_transform(preprocessing)):
            loading = Loading(batch_size=2, num_workers=1)
            loader = make_loader(ImageFolder(folder, transform), EvalBatches(COUNT, loading), loading)
            assert ForkingPickler.dumps((loader.dataset, loader.collate_fn, loader.worker_init_fn))


# ---- evaluation ------------------------------------------------------------------------------------------------------


@given(st.integers(0, 60), st.integers(1, 9), st.integers(1, 4))
def test_ranks_take_turns_at_the_whole_batches_of_one_process(length: int, size: int, ranks: int) -> None:
    alone = list(EvalBatches(length, Loading(batch_size=size)))
    assert [index for batch in alone for index in batch] == list(range(length))
    by_rank = [EvalBatches(length, Loading(batch_size=size, rank=rank, world_size=ranks)) for rank in range(ranks)]
    assert sum(map(len, by_rank)) == len(alone)
    for rank, batches in enumerate(by_rank):
        assert list(batches) == alone[rank::ranks]


def test_evaluation_is_the_same_with_workers_and_each_time(folder: Path) -> None:
    dataset = ImageFolder(folder, eval_transform(PREPROCESSING))
    alone = Loading(batch_size=4)
    expected = list(make_loader(dataset, EvalBatches(COUNT, alone), alone))
    assert [len(batch.indices) for batch in expected] == [4, 3, 4, 2]
    assert [index for index, _ in expected[1].failures] == [DAMAGED]
    shared = Loading(batch_size=4, num_workers=2)
    loader = make_loader(dataset, EvalBatches(COUNT, shared), shared)
    for _ in range(2):
        assert_same(list(loader), expected)


def drawn(targets: np.ndarray, sampler: str, *, epochs: int = 1) -> list[list[Draw]]:
    """The epochs' draws, one picture per batch, so that none is left over."""
    batches = TrainBatches(len(targets), Loading(batch_size=1), seed=3, weights=sampling_weights(sampler, targets))
    found = []
    for number in range(epochs):
        batches.start(number)
        found.append([draw for batch in batches for draw in batch])
    return found


@pytest.mark.parametrize(("sampler", "shares"), [("shuffle", [96, 24, 6]), ("balanced", [1, 1, 1]),
                                                 ("sqrt", [4, 2, 1])])
def test_samplers_draw_classes_in_their_proportions(sampler: str, shares: list[int]) -> None:
    targets = np.repeat([0, 1, 2], [96, 24, 6])
    expected = np.asarray(shares) / sum(shares) * 126
    found = [np.bincount(targets[[draw.index for draw in draws]], minlength=3)
             for draws in drawn(targets, sampler, epochs=20)]
    assert {counts.sum() for counts in found} == {126}
    np.testing.assert_allclose(np.mean(found, axis=0), expected, atol=2)


def test_what_is_drawn_again_is_augmented_anew() -> None:
    targets = np.repeat([0, 1], [60, 4])
    (draws,) = drawn(targets, "balanced")
    copies = np.bincount([draw.index for draw in draws], minlength=64)
    assert set(copies[60:]) == {8}  # 32 draws for 4 pictures
    assert set(copies[:60]) == {0, 1}
    assert len({draw.seed for draw in draws}) == len(draws) == 64


def test_every_picture_comes_in_some_epoch() -> None:
    targets = np.repeat([0, 1], [60, 4])
    seen = {draw.index for draws in drawn(targets, "balanced", epochs=12) for draw in draws}
    assert len(seen) == 64
