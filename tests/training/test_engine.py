"""The training loop: what a step does, what an epoch leaves behind, and how a run stops and goes on."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from data.loaders import Loading
from data.train_val import open_train, open_val
from data.transforms import Preprocessing, eval_transform
from evaluation.evaluator import Evaluation, evaluate_loader
from evaluation.metrics import ClassificationMeter
from losses import ClassificationLoss
from runtime.checkpoint import BEST, LATEST, read_checkpoint
from runtime.logbook import Logbook
from runtime.networks import Architecture, load_weights
from runtime.options import AugmentationOptions, OptimizerOptions, RunOptions
from runtime.placement import Placement
from runtime.processes import StopSignal
from tests.pictures import write_data_set
from training.augmentation import train_transform
from training.engine import Run, Task
from utils import Interrupted, UserError

PREPROCESSING = Preprocessing(input_size=32, crop_pct=1.0, interpolation="bilinear", mean=(0.5, 0.5, 0.5),
                              std=(0.5, 0.5, 0.5))
ARCHITECTURE = Architecture(name="lsnet_t_artist", num_classes=3, model_args={"img_size": 32})
SILENT = Logbook(None, is_writer=False)


class Toy(nn.Module):
    """A classifier without batch norm or dropout, on which sums of gradients can be checked."""

    head_hidden_size = 48

    def __init__(self, *extra: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 3), *extra)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)


@pytest.fixture(scope="module")
def data_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data_set(tmp_path_factory.mktemp("pictures"))


def with_state() -> Toy:
    """A toy with everything a resume can lose: running statistics and random dropping."""
    return Toy(nn.BatchNorm1d(3), nn.Dropout(0.3))


def make_run(data_path: Path, output: Path, *, network: Callable[[], nn.Module] = Toy, batch_size: int = 4,
             workers: int = 0, augment: bool = True, criterion: nn.Module | None = None, run: dict | None = None,
             **optimizing) -> Run:
    torch.manual_seed(0)
    augmentation = AugmentationOptions() if augment else AugmentationOptions(scale=(1, 1), ratio=(1, 1), hflip=0,
                                                                             color_jitter=0)
    train_set = open_train(data_path, max_pixels=10**6)
    val_set = open_val(data_path, train_set.classes, max_pixels=10**6)
    train_set.transform, val_set.transform = train_transform(PREPROCESSING, augmentation), eval_transform(PREPROCESSING)
    evaluation = Evaluation(make_meter=lambda: ClassificationMeter(3), monitor="top1", title="top-1",
                            format_line=lambda figures: f"* {figures['top1']}")
    task = Task(criterion=criterion or ClassificationLoss(), evaluation=evaluation)
    placement = Placement.resolve("cpu")
    return Run(task=task, network=placement.move_network(network()), architecture=ARCHITECTURE,
               config={"preprocessing": PREPROCESSING.as_dict()}, train_set=train_set,
               val_set=val_set, loading=Loading(batch_size=batch_size, num_workers=workers),
               optimizing=OptimizerOptions(**{"epochs": 3, "warmup_epochs": 0, **optimizing}),
               options=RunOptions(output_dir=output, **(run or {})), placement=placement)


def first_batches(run: Run, count: int) -> tuple:
    batches = iter(run.train_loader)
    return tuple(next(batches) for _ in range(count))


def test_the_first_loss_is_that_of_guessing(data_path: Path, tmp_path: Path) -> None:
    run = make_run(data_path, tmp_path, network=ARCHITECTURE.create, batch_size=24)
    loss, _ = run.update(first_batches(run, 1))
    assert loss.item() == pytest.approx(math.log(3), abs=0.1)


@pytest.mark.slow
def test_eight_pictures_can_be_learnt_by_heart(tmp_path: Path) -> None:
    data_path = write_data_set(tmp_path / "few", artists=2, train=4)
    run = make_run(data_path, tmp_path, network=ARCHITECTURE.create, batch_size=8, epochs=30, augment=False)
    batches = first_batches(run, 1)
    losses = [run.update(batches)[0].item() for _ in range(30)]
    assert losses[-1] < 0.02 < losses[0]


def test_accumulated_steps_move_the_weights_as_one_large_batch_does(data_path: Path, tmp_path: Path) -> None:
    moved = []
    for batch_size, accumulation in ((16, 1), (4, 4)):
        run = make_run(data_path, tmp_path, batch_size=batch_size, accumulation_steps=accumulation, opt="sgd",
                       weight_decay=0.0, augment=False)
        run.update(first_batches(run, accumulation))
        moved.append(run.state.network.layers[2].weight.detach())
    fresh = make_run(data_path, tmp_path).state.network.layers[2].weight
    assert not torch.allclose(fresh, moved[0], atol=1e-4)
    torch.testing.assert_close(moved[0], moved[1], atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize(("workers", "ema"), [(2, True), (0, False)])
def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(data_path: Path, tmp_path: Path, workers: int,
                                                                  ema: bool) -> None:
    def start(name: str) -> Run:
        return make_run(data_path, tmp_path / name, network=with_state, batch_size=8, model_ema=ema, workers=workers)

    whole = start("whole")
    whole.fit(SILENT)
    broken = start("broken")
    update = broken.update

    def interrupt_in_epoch_2(batches):
        if (broken.state.position.epoch, broken.state.position.step) == (1, 1):
            os.kill(os.getpid(), signal.SIGTERM)
        return update(batches)

    broken.update = interrupt_in_epoch_2
    with pytest.raises(Interrupted):
        broken.fit(SILENT)
    again = start("broken")
    again.restore(read_checkpoint(tmp_path / "broken" / LATEST))
    assert (again.state.position.epoch, again.state.position.step) == (1, 2)
    again.fit(SILENT)
    for name in (LATEST, BEST):
        one, other = (read_checkpoint(tmp_path / folder / name).content for folder in ("whole", "broken"))
        assert_same(one, other)


def assert_same(one: object, other: object) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    else:
        assert one == other


def test_interruption_leaves_a_checkpoint_and_names_the_signal(data_path: Path, tmp_path: Path) -> None:
    run = make_run(data_path, tmp_path)
    with StopSignal() as stop:
        stop.signum = signal.SIGINT
        run.train_epoch(SILENT, stop)
    assert run.state.position.step == 0, "no update is begun"


def test_a_loss_that_is_not_finite_stops_the_run_with_epoch_step_and_files(data_path: Path, tmp_path: Path) -> None:
    class Broken(nn.Module):
        def forward(self, outputs, targets, images):
            return outputs.sum() * torch.nan

    run = make_run(data_path, tmp_path, criterion=Broken())
    with pytest.raises(UserError, match=r"loss nan in epoch 1, step 1, with artist_\d/train_\d.png"):
        run.fit(SILENT)
    assert not (tmp_path / LATEST).exists(), "weights that are no numbers must not replace a good checkpoint"


def test_weights_that_are_not_finite_replace_no_checkpoint(data_path: Path, tmp_path: Path) -> None:
    class Broken(nn.Module):
        def forward(self, outputs, targets, images):
            return (outputs * 0).abs().sqrt().sum()  # 0, with a gradient of 0 times infinity

    run = make_run(data_path, tmp_path, batch_size=24, criterion=Broken())
    run.save(LATEST)
    before = (tmp_path / LATEST).read_bytes()
    with pytest.raises(UserError, match="not finite"):
        run.fit(SILENT)
    assert (tmp_path / LATEST).read_bytes() == before
    assert not (tmp_path / BEST).exists()


def test_answers_that_are_not_finite_are_no_figures(data_path: Path, tmp_path: Path) -> None:
    run = make_run(data_path, tmp_path, network=with_state)
    run.state.network.layers[3].running_var[:] = -1  # only evaluation reads it
    with pytest.raises(UserError, match=r"answers are not finite \(loss nan\)"):
        evaluate_loader(run.state.network, run.val_loader, ClassificationMeter(3), run.placement, SILENT)


def test_the_best_model_holds_the_weights_that_scored(data_path: Path, tmp_path: Path) -> None:
    run = make_run(data_path, tmp_path, batch_size=8, lr=0.01)
    run.fit(SILENT)
    best = read_checkpoint(tmp_path / BEST)
    network = Toy()
    load_weights(network, best.model, best.path)
    figures = evaluate_loader(network, run.val_loader, ClassificationMeter(3), run.placement, SILENT)
    assert figures["top1"] == best.content["best_metric"] == run.state.position.best_metric
    assert best.content["metrics"] == figures


def test_checkpoints_are_kept_and_evaluations_done_as_often_as_asked(data_path: Path, tmp_path: Path) -> None:
    run = make_run(data_path, tmp_path, epochs=5, run={"save_every": 2, "eval_every": 3})
    with Logbook(tmp_path) as logbook:
        run.fit(logbook)
    assert sorted(path.name for path in tmp_path.glob("checkpoint_*.pth")) == ["checkpoint_2.pth", "checkpoint_4.pth"]
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2, 3, 4, 5]
    assert [record["epoch"] for record in records if "val_top1" in record] == [3, 5]


def test_a_file_of_weights_only_is_no_place_to_resume_from(data_path: Path, tmp_path: Path) -> None:
    run = make_run(data_path, tmp_path, epochs=1)
    run.fit(SILENT)
    with pytest.raises(UserError, match="weights only"):
        make_run(data_path, tmp_path).restore(read_checkpoint(tmp_path / BEST))


def test_a_picture_that_vanishes_during_the_run_is_named_and_left_out(tmp_path: Path) -> None:
    data_path = write_data_set(tmp_path / "data")
    run = make_run(data_path, tmp_path / "out", epochs=1)
    victim = data_path / "train" / "artist_1" / "train_3.png"
    victim.write_bytes(b"gone")
    with Logbook(tmp_path / "out") as logbook:
        run.fit(logbook)
    assert "train_3.png" in (tmp_path / "out" / "train_log.txt").read_text()
