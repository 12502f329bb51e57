"""Class maps of the service: those of inference, beside running batches, within the same queue."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from data.transforms import Preprocessing
from drawing.class_maps import grey_map
from inference.explanations import ClassMaps
from inference.predictor import NOT_FINITE, Prediction, Predictor
from runtime.options import NEIGHBOURS, ExplainOptions, TrainedOptions
from runtime.placement import Placement
from serving.batching import Batcher, QueueFull, Upload
from serving.explainer import Explainer
from serving.service import Service
from tests.serving.test_service import upload
from utils import UserError

OPTIONS = TrainedOptions(checkpoint=Path("none"), batch_size=4)
NAMES = ["Ann", "Bob", "北斎"]


def predictor_of(name: str, size: int, classes: list[str] | None = NAMES, **arguments: Any) -> Predictor:
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=3, **arguments)
    how = Preprocessing(input_size=size, crop_pct=1.0, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
    return Predictor(network, classes, how, Placement.resolve("cpu"), fingerprint="f" * 16)


@pytest.fixture(scope="module", params=["test_efficientnet", "lsnet_t_artist"])
def predictor(request: pytest.FixtureRequest) -> Predictor:
    """A network with one exact map, and one whose maps hook its stages."""
    if request.param == "test_efficientnet":
        return predictor_of(request.param, 224)
    return predictor_of(request.param, 64, img_size=64)


@pytest.fixture
def batcher(predictor: Predictor) -> Iterator[Batcher]:
    batcher = Batcher(predictor, OPTIONS, capacity=100)
    yield batcher
    batcher.close()


def opened(address: str) -> Image.Image:
    kind, _, text = address.partition(",")
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_maps_are_those_of_inference(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(upload(3).content)
    options = ExplainOptions(explain=tmp_path, explain_artist="top3")
    expected = ClassMaps(predictor, options, OPTIONS)(tmp_path / "picture.png", {})
    explainer = Explainer(predictor, max_pixels=OPTIONS.max_pixels)
    overlay, values = (explainer.explain(upload(3), explainer.choose("top3"), form) for form in ("overlay", "values"))
    assert [each["class_name"] for each in overlay["maps"]] == expected.arrays["artists"].tolist()
    assert [each["probability"] for each in overlay["maps"]] == expected.arrays["probabilities"].tolist()
    assert [*overlay["box"]] == expected.arrays["box"].tolist()
    for number, tile in enumerate(expected.tiles[1:]):
        assert isinstance(tile.picture, Image.Image)
        assert np.array_equal(np.asarray(opened(overlay["maps"][number]["image"])), np.asarray(tile.picture))
        grey = grey_map(expected.arrays["maps"][number])
        assert np.array_equal(np.asarray(opened(values["maps"][number]["image"])), np.asarray(grey))
    named = explainer.explain(upload(3), explainer.choose("北斎"), "overlay")["maps"]
    assert named == [each for each in overlay["maps"] if each["class_name"] == "北斎"]


def test_batches_and_maps_run_side_by_side_and_are_as_each_alone(predictor: Predictor, batcher: Batcher) -> None:
    explainer = Explainer(predictor, max_pixels=OPTIONS.max_pixels)
    choose = explainer.choose("top1")
    alone = explainer.explain(upload(1), choose, "values")
    answer = batcher.submit([upload(2)])[0].result(60)
    assert isinstance(answer, Prediction)
    with ThreadPoolExecutor(2) as pool:
        batches = pool.map(lambda _: batcher.submit([upload(2)])[0].result(60), range(20))
        maps = [batcher.submit_work(lambda: explainer.explain(upload(1), choose, "values")) for _ in range(6)]
        answers = [*batches]
    assert all(each.result(60) == alone for each in maps)
    for each in answers:
        assert isinstance(each, Prediction)
        torch.testing.assert_close(each.logits, answer.logits)
    assert batcher.count_waiting() == 0
    assert not any(module._forward_hooks for module in predictor.network.modules())
    places = [{each.data_ptr() for each in network.parameters()} for network in (explainer.maps.predictor.network,
                                                                                predictor.network)]
    assert places[0] == places[1]


def test_other_work_takes_room_in_the_queue_and_gives_it_back(predictor: Predictor) -> None:
    gate, batcher = threading.Event(), Batcher(predictor, OPTIONS, capacity=2)
    first, second = (batcher.submit_work(lambda: gate.wait(60)) for _ in range(2))
    with pytest.raises(QueueFull):
        batcher.submit_work(gate.wait)
    with pytest.raises(QueueFull):
        batcher.submit([upload(1)])
    gate.set()
    assert first.result(60)
    assert second.result(60)
    batcher.submit_work(lambda: None).result(60)
    with pytest.raises(ZeroDivisionError):
        batcher.submit_work(lambda: 1 // 0).result(60)
    assert batcher.count_waiting() == 0
    batcher.close()


def test_a_damaged_picture_and_numbers_that_are_not_finite_are_errors() -> None:
    explainer = Explainer(predictor_of("test_efficientnet", 32), max_pixels=1000)
    choose = explainer.choose("top1")
    assert explainer.explain(Upload("a", b"x"), choose, "overlay")["error"] == "no picture in a known format"
    assert "more than the limit" in explainer.explain(upload(1), choose, "overlay")["error"]
    network: Any = explainer.maps.predictor.network
    network.classifier.bias.data.fill_(float("nan"))
    explainer.max_pixels = OPTIONS.max_pixels
    assert explainer.explain(upload(1), choose, "overlay")["error"] == NOT_FINITE


def test_networks_without_maps_say_what_works_instead(tmp_path: Path) -> None:
    blind = predictor_of("test_efficientnet", 32)
    network: Any = blind.network
    network.classifier.weight.data.zero_()
    blind.source = tmp_path / "secret.pth"
    for predictor, told in ((blind, "take a network with --head style"),
                            (predictor_of("test_efficientnet", 32, None), "start the service with one that does")):
        batcher = Batcher(predictor, OPTIONS, capacity=9)
        service = Service(predictor, batcher, neighbours=NEIGHBOURS)
        assert service.explainer is None
        assert service.describe()["explains"] is False
        assert told in service.unexplained
        assert "secret" not in service.unexplained
        batcher.close()


def test_an_artist_whom_the_network_does_not_know_is_told() -> None:
    explainer = Explainer(predictor_of("test_efficientnet", 32), max_pixels=1000)
    with pytest.raises(UserError, match="artist Anne, whom the network does not know; expected top1, top3 or one of 3"):
        explainer.choose("Anne")
