"""One answer per picture, whatever the others are, and the figures of the network itself."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from data.images import decode_image
from data.transforms import Preprocessing, eval_transform
from inference.predictor import Failure, Lanes, Prediction, Predictor
from runtime.options import InferenceOptions
from runtime.placement import Placement
from tests.pictures import stroke_picture
from utils import UserError

HOW = Preprocessing(input_size=64, crop_pct=0.875, interpolation="bicubic", mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.2))
IN_PAIRS, IN_THREES = InferenceOptions(batch_size=2), InferenceOptions(batch_size=3)


def small_network() -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model("lsnet_t_artist", embed_dim=(16, 16, 24, 32), depth=(0, 1, 2, 2), num_heads=2, img_size=64,
                             num_classes=3)


def predictor(**options: object) -> Predictor:
    amp = str(options.pop("amp", "off"))
    return Predictor(small_network(), ("a", "b", "c"), HOW, Placement.resolve("cpu", amp=amp), **options)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(7):
        stroke_picture(number, rng, 70 + 10 * number).save(folder / f"{number}.png")
    return sorted(folder.iterdir())


def logits(answers: list[Prediction | Failure]) -> torch.Tensor:
    return torch.stack([answer.logits for answer in answers if isinstance(answer, Prediction)])


def test_answers_are_those_of_the_plain_network(pictures: list[Path]) -> None:
    answers = list(predictor().predict(pictures, IN_THREES))
    network = small_network().eval()
    images = torch.stack([eval_transform(HOW)(decode_image(path)) for path in pictures])
    with torch.no_grad():
        features = network.forward_head(network.forward_features(images), pre_logits=True)
        expected = network(images)
    assert [answer.path for answer in answers] == pictures
    torch.testing.assert_close(logits(answers), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.stack([answer.features for answer in answers]), features, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("amp", ["off", "bf16"])
@pytest.mark.parametrize("batch_size", [2, 3])
def test_a_damaged_picture_at_any_place_changes_no_bit_of_another_answer(pictures: list[Path], tmp_path: Path,
                                                                        amp: str, batch_size: int) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"\xff\xd8\xff broken")
    network = predictor(amp=amp)
    options = InferenceOptions(batch_size=batch_size)
    alone = list(network.predict(pictures, options))
    for place in range(len(pictures) + 1):
        mixed = list(network.predict([*pictures[:place], bad, *pictures[place:]], options))
        failure = mixed.pop(place)
        assert isinstance(failure, Failure)
        assert failure.path == bad
        assert [answer.path for answer in mixed] == pictures
        assert torch.equal(logits(mixed), logits(alone))
        assert all(torch.equal(one.features, other.features) for one, other in zip(mixed, alone, strict=True))


def test_the_end_alone_is_what_it_is_in_the_whole(pictures: list[Path]) -> None:
    network = predictor()
    whole = list(network.predict(pictures, IN_THREES))
    for start in (3, 6):
        end = list(network.predict(pictures, IN_THREES, start=start))
        assert [answer.path for answer in end] == pictures[start:]
        assert torch.equal(logits(end), logits(whole[start:]))
    assert not list(network.predict(pictures, IN_THREES, start=7))
    assert not list(network.predict([]))


def test_workers_change_nothing(pictures: list[Path]) -> None:
    network = predictor()
    assert torch.equal(logits(list(network.predict(pictures, InferenceOptions(batch_size=3, num_workers=2)))),
                       logits(list(network.predict(pictures, IN_THREES))))


def test_the_network_runs_once_for_features_and_logits(pictures: list[Path]) -> None:
    network = predictor()
    calls = []
    network.network.patch_embed.register_forward_hook(lambda *_: calls.append(1))
    list(network.predict(pictures, IN_THREES))
    assert len(calls) == 3


def test_several_views_are_averaged_and_stay_consistent(pictures: list[Path]) -> None:
    network = predictor()
    single, several = (list(network.predict(pictures, InferenceOptions(batch_size=3, view=view)))
                       for view in ("default", "multicrop"))
    assert not torch.allclose(logits(single), logits(several))
    head = small_network().eval().get_classifier()
    with torch.no_grad():  # the head is linear: the mean of the logits is the logits of the mean
        expected = head(torch.stack([answer.features for answer in several]))
    torch.testing.assert_close(logits(several), expected, rtol=1e-4, atol=1e-5)


def test_bfloat16_is_close(pictures: list[Path]) -> None:
    exact, rough = (logits(list(predictor(amp=amp).predict(pictures, IN_THREES))) for amp in ("off", "bf16"))
    assert rough.dtype == torch.float32
    assert not torch.equal(exact, rough)
    torch.testing.assert_close(rough.softmax(1), exact.softmax(1), rtol=0, atol=0.02)


@pytest.mark.exhaustive
def test_a_compiled_network_answers_alike(pictures: list[Path]) -> None:
    compiled = list(predictor(compile=True).predict(pictures, IN_THREES))
    torch.testing.assert_close(logits(compiled), logits(list(predictor().predict(pictures, IN_THREES))), rtol=1e-4,
                               atol=1e-5)


# ---- answers that are not finite -------------------------------------------------------------------------------------


def spoiled(network: Predictor, numbers: set[int], part: int, value: float) -> Predictor:
    """`network`, whose features (`part` 0) or logits (1) hold `value` for the pictures of these numbers."""
    seen, run = iter(range(100)), network.run

    def spoil(pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = [output.clone() for output in run(pixels)]
        for row in range(len(pixels)):
            if next(seen) in numbers:
                outputs[part][row, 1] = value
        return tuple(outputs)

    network.run = spoil  # type: ignore[method-assign]  # in place of a network that is not finite
    return network


@pytest.mark.parametrize("part", [0, 1])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e16])
def test_an_answer_that_is_not_finite_is_a_failure_and_changes_no_other(pictures: list[Path], part: int,
                                                                        value: float) -> None:
    sound = list(predictor().predict(pictures[:4], IN_PAIRS))
    found = list(spoiled(predictor(), {0, 2}, part, value).predict(pictures[:4], IN_PAIRS))
    assert [answer.path for answer in found] == pictures[:4]
    assert [isinstance(answer, Failure) and "not finite" in answer.reason for answer in found] == [
        True, False, True, False]
    assert torch.equal(logits(found), logits(sound[1::2]))


def test_a_network_that_gives_nothing_else_is_refused_before_the_first_answer(pictures: list[Path],
                                                                              tmp_path: Path) -> None:
    files = [tmp_path / "gone.png", *pictures[:3]]
    network = spoiled(predictor(source=Path("net.pth")), set(range(100)), 1, float("nan"))
    with pytest.raises(UserError, match=r"net\.pth, whose answers are all not finite"):
        next(network.predict(files, IN_PAIRS))
    assert all(isinstance(answer, Failure) for answer in network.predict(files, IN_PAIRS, start=2))  # a run goes on
    assert [type(answer) for answer in network.predict(files[:1])] == [Failure]  # the network was not asked


# ---- lanes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3])
def test_results_come_in_order_whoever_is_done_first(count: int) -> None:
    waits = [0.05, 0.0, 0.03, 0.0, 0.01, 0.02]
    with Lanes(count) as lanes:
        assert [*lanes.map(lambda item: threading.Event().wait(item) or -item, waits)] == [(x, -x) for x in waits]


def test_lanes_work_at_the_same_time() -> None:
    meeting = threading.Barrier(2, timeout=60)
    with Lanes(2) as lanes:
        assert sorted(place for _, place in lanes.map(lambda _: meeting.wait(), range(2))) == [0, 1]


def test_one_map_feeds_another() -> None:
    with Lanes(2) as lanes:
        doubled = (found for _, found in lanes.map(lambda item: 2 * item, range(20)))
        assert [found for _, found in lanes.map(lambda item: item + 1, doubled)] == [*range(1, 41, 2)]


@pytest.mark.parametrize("count", [1, 2])
def test_items_are_read_as_they_are_needed(count: int) -> None:
    read = []
    items = (read.append(item) or item for item in range(100))
    with Lanes(count) as lanes:
        for done, _ in enumerate(lanes.map(lambda item: item, items), start=1):
            assert len(read) <= done + count


def test_each_lane_has_its_part_of_the_cores_and_gives_it_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        with Lanes(2) as lanes:
            assert {found for _, found in lanes.map(lambda _: torch.get_num_threads(), range(4))} == {2}
            assert torch.get_num_threads() == 4
        found: list[int] = []
        later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        later.start()
        later.join()
        assert found == [4]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2])
def test_an_error_in_a_lane_is_the_caller_s_and_ends_the_rest(count: int) -> None:
    begun = []

    def work(item: int) -> None:
        begun.append(item)
        if item == 1:
            raise ValueError("one")

    with pytest.raises(ValueError, match="one"), Lanes(count) as lanes:
        list(lanes.map(work, range(100)))
    assert len(begun) < 10
