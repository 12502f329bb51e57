"""Records of several hands, batches, and what happens when a lane fails or the disk is full; without a process."""

from __future__ import annotations

import errno
import io
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from data.transforms import Preprocessing
from inference.label_records import LabelChoice, make_label_record
from inference.predictor import Failure, Prediction, Predictor
from runtime.options import NEIGHBOURS, TrainedOptions
from runtime.placement import Placement
from search.engines import FolderStore
from search.gallery import Gallery, read_gallery, write_gallery
from serving.batching import Batcher, QueueFull, Upload
from serving.service import Question, Service
from tests.pictures import stroke_picture
from utils import UserError

OPTIONS = TrainedOptions(checkpoint=Path("none"), batch_size=4)
NAMES = ["Ann", "Bob", "Cy"]


def upload(number: int) -> Upload:
    buffer = io.BytesIO()
    stroke_picture(number, np.random.default_rng(number)).save(buffer, "png")
    return Upload(f"{number}.png", buffer.getvalue())


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    torch.manual_seed(0)
    network = timm.create_model("test_efficientnet", num_classes=3)
    how = Preprocessing(input_size=32, crop_pct=1.0, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
    return Predictor(network, NAMES, how, Placement.resolve("cpu"), fingerprint="f" * 16, task="multilabel")


@pytest.fixture
def gallery(predictor: Predictor, tmp_path: Path) -> Path:
    rows = np.random.default_rng(0).normal(size=(3, sum(predictor.space.blocks))).astype(np.float32)
    write_gallery(tmp_path / "gallery", Gallery.of_folder(predictor.space, tmp_path, ["A/1", "A/2", "B/1"], rows),
                  overwrite=False)
    return tmp_path / "gallery"


def test_records_of_several_hands_are_those_of_prediction(predictor: Predictor) -> None:
    batcher = Batcher(predictor, OPTIONS, capacity=9)
    answer = batcher.submit([upload(1)])[0].result(60)
    assert isinstance(answer, Prediction)
    record = Service(predictor, batcher, neighbours=NEIGHBOURS).record(upload(1), answer, Question(
        parts=("classify",), top_k=2, threshold=0.1))
    choice = LabelChoice(top_k=2, thresholds=torch.full((3,), 0.1).double(), ratio="all", raw=False)
    assert record == {"name": "1.png", "labels": make_label_record(answer, choice)["labels"]}
    batcher.close()


def test_batches_form_while_lanes_work_and_all_are_answered(predictor: Predictor,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    gate, inner = threading.Event(), predictor.predict_batch
    monkeypatch.setattr(predictor, "predict_batch", lambda pictures: gate.wait(60) and inner(pictures))
    batcher = Batcher(predictor, OPTIONS, capacity=100, note=sizes.append)
    futures = [future for number in range(20) for future in batcher.submit([upload(number)])]
    left = batcher.submit([upload(99)])[0]
    assert left.cancel()  # its client leaves while it waits
    gate.set()
    batcher.close()  # what was accepted is answered
    assert [future.result(0).path.name for future in futures] == [f"{number}.png" for number in range(20)]
    assert sum(sizes) == 20
    assert max(sizes) == OPTIONS.batch_size


def test_a_full_queue_takes_all_pictures_of_a_request_or_none(predictor: Predictor,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    gate, inner = threading.Event(), predictor.predict_batch
    monkeypatch.setattr(predictor, "predict_batch", lambda pictures: gate.wait(60) and inner(pictures))
    batcher = Batcher(predictor, OPTIONS, capacity=2)
    with pytest.raises(QueueFull):
        batcher.submit([upload(1)] * 3)
    assert not batcher.waiting
    gate.set()
    batcher.close()


def test_what_fails_in_a_lane_is_raised_to_its_requests_and_the_next_is_answered(
        predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    batcher = Batcher(predictor, OPTIONS, capacity=9)
    with monkeypatch.context() as patch:
        patch.setattr(predictor, "predict_batch", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            batcher.submit([upload(1)])[0].result(60)
    good, bad = batcher.submit([upload(1), Upload("x", b"")])
    assert isinstance(good.result(60), Prediction)
    assert isinstance(bad.result(60), Failure)
    batcher.close()


def test_a_full_disk_leaves_the_gallery_as_it_was(predictor: Predictor, gallery: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    batcher = Batcher(predictor, OPTIONS, capacity=9)
    service = Service(predictor, batcher, store=FolderStore(gallery), neighbours=NEIGHBOURS)
    answers = [future.result(60) for future in batcher.submit([upload(1)])]
    with monkeypatch.context() as patch:
        patch.setattr("search.gallery.write_json", full)
        with pytest.raises(UserError, match="No space left"):
            service.add("New", [upload(1)], answers)
    assert service.artists() == [{"artist": "A", "pictures": 2}, {"artist": "B", "pictures": 1}]
    assert list(read_gallery(gallery).sizes) == ["A", "B"]
    Service(predictor, batcher, store=FolderStore(gallery), neighbours=NEIGHBOURS).add("New", [upload(1)], answers)
    assert list(read_gallery(gallery).sizes) == ["A", "B", "New"]
    assert [path.name for path in gallery.parent.iterdir() if not path.name.startswith(".")] == ["gallery"]
    batcher.close()
