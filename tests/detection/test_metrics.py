"""COCO's figures against pycocotools, overlaps against scikit-learn, and the same on any number of ranks."""

from __future__ import annotations

import contextlib
import copy
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score, balanced_accuracy_score, jaccard_score

from detection.coco import read_coco
from detection.datasets import DetectionImages, open_ade20k
from detection.masks import pack_pixels
from detection.metrics import FIGURES, CocoMeter, OverlapMeter, as_results, coco_figures
from detection.scenes import Fit
from tests.detection.sets import write_ade20k, write_coco
from tests.forked import finish, start_ranks
from utils import UserError

FIT = Fit(shortest=64, longest=96)


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    pytest.importorskip("faster_coco_eval", reason="the packages of requirements-detection.txt are not installed")
    return write_coco(tmp_path_factory.mktemp("coco"), "pictures", 9)


@pytest.fixture
def dataset(coco):
    return DetectionImages(read_coco(coco, coco.with_suffix(""), masks=True), coco.with_suffix(""), FIT)


def disturbed(dataset, index):
    """Detections near the objects of a picture, some missed, some wrong, with masks in their boxes."""
    picture, generator = dataset.pictures[index], torch.Generator().manual_seed(index)
    boxes = torch.tensor([each.box for each in picture.instances for _ in range(3)]).reshape(-1, 4)
    labels = torch.tensor([each.label for each in picture.instances for _ in range(3)])
    boxes = boxes + 4 * torch.randn(boxes.shape, generator=generator) * torch.tensor([1, 1, 0.3, 0.3])
    corners = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:].clamp(min=2)], 1)
    keep = torch.rand(len(corners), generator=generator) < 0.8
    wrong = torch.rand(len(corners), generator=generator) < 0.2
    return {"boxes": corners[keep], "labels": torch.where(wrong, (labels + 1) % 4, labels)[keep],
            "scores": torch.rand(len(corners), generator=generator)[keep],
            "masks": 0.45 + torch.rand(len(corners), 1, 28, 28, generator=generator)[keep]}


def random_case(seed):
    """Annotations of all sizes, with crowd regions, and detections near and far, both with boxes and masks."""
    rng, side = np.random.default_rng(seed), 256
    truth, found = [], []
    for image in range(12):
        for _ in range(int(rng.integers(0, 7))):
            size = np.exp(rng.uniform(np.log(6), np.log(160), 2))
            left, top = rng.uniform(0, side - size)
            crowd, category = int(rng.random() < 0.15), int(rng.integers(1, 5))
            box = [left, top, *size]
            truth.append({"id": len(truth) + 1, "image_id": image, "category_id": category, "bbox": box,
                          "area": float(size.prod() * rng.uniform(0.6, 1)), "iscrowd": crowd,
                          "segmentation": segmentation(box, side)})
            for _ in range(int(rng.integers(0, 4))):
                near = np.array(box) + rng.normal(0, 0.12, 4) * [*size, *size]
                near[:2], near[2:] = near[:2].clip(0, side - 4), near[2:].clip(4, None)
                near[2:] = np.minimum(near[2:], side - near[:2])
                found.append({"image_id": image, "score": float(rng.random()), "bbox": near.tolist(),
                              "category_id": category if rng.random() < 0.8 else int(rng.integers(1, 5)),
                              "segmentation": segmentation(near, side)})
    images = [{"id": image, "height": side, "width": side} for image in range(12)]
    categories = [{"id": number, "name": str(number)} for number in range(1, 5)]
    return {"images": images, "annotations": truth, "categories": categories}, found


def segmentation(box, side):
    pixels, (left, top, width, height) = np.zeros((side, side), bool), box
    pixels[round(top) : round(top + height), round(left) : round(left + width * 0.8)] = True
    return {"size": [side, side], "counts": pack_pixels(pixels)}


@pytest.mark.parametrize("kind", ["box", "mask"])
@pytest.mark.parametrize("seed", range(3))
def test_all_twelve_figures_equal_pycocotools(seed, kind):
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools, of requirements-dev.txt, is not installed")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    pytest.importorskip("faster_coco_eval", reason="the packages of requirements-detection.txt are not installed")
    truth, found = random_case(seed)
    figures = coco_figures(copy.deepcopy(truth), found, kind)
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = coco.COCO()
        theirs.dataset = copy.deepcopy(truth)
        theirs.createIndex()
        results = theirs.loadRes(copy.deepcopy(found))
        evaluation = cocoeval.COCOeval(theirs, results, {"box": "bbox", "mask": "segm"}[kind])
        evaluation.evaluate(), evaluation.accumulate(), evaluation.summarize()
    expected = dict(zip(FIGURES, evaluation.stats.tolist(), strict=True))
    assert min(expected.values()) > 0.05  # every figure has something to say
    assert len(set(expected.values())) > 8
    assert figures == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_pictures_dealt_to_ranks_give_the_same(dataset, ranks, monkeypatch):
    whole = CocoMeter(dataset, ("box", "mask"))
    for index in range(len(dataset)):
        whole.update(index, [disturbed(dataset, index)], torch.tensor([index]))
    expected = whole.result()
    assert expected["pictures"] == 9
    assert 5 < expected["box_ap"] < 95
    assert 0 < expected["mask_ap50"] < 95
    meters = [CocoMeter(dataset, ("box", "mask")) for _ in range(ranks)]
    for index in reversed(range(len(dataset))):
        meters[index % ranks].update(index, [disturbed(dataset, index)], torch.tensor([index]))
    monkeypatch.setattr("detection.metrics.gather", lambda _: [meter._found for meter in meters])
    assert meters[-1].result() == expected


def test_true_answers_are_perfect(dataset):
    meter = CocoMeter(dataset, ("box", "mask"))
    for index, picture in enumerate(dataset.pictures):
        corners = torch.tensor([each.box for each in picture.instances])
        corners[:, 2:] += corners[:, :2]
        meter.update(index, [{"boxes": corners, "scores": torch.ones(len(corners)),
                              "labels": torch.tensor([each.label for each in picture.instances]),
                              "masks": torch.ones(len(corners), 1, 28, 28)}], torch.tensor([index]))
    figures = meter.result()
    assert figures["box_ap"] == pytest.approx(100)
    assert figures["mask_ap"] < 100  # a mask that fills its box is right for boxes only


def test_no_detections_are_no_error(dataset):
    meter = CocoMeter(dataset, ("box",))
    empty = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.int64)}
    meter.update(0, [empty], torch.tensor([0]))
    assert meter.result()["box_ap"] == 0


def test_nothing_to_compare_with_is_an_error(dataset):
    with pytest.raises(UserError, match="no picture to evaluate"):
        CocoMeter(dataset, ("box",)).result()
    meter = CocoMeter(dataset, ("box",))
    dataset.pictures[0] = replace(dataset.pictures[0], instances=())
    meter.update(0, [{"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0)}],
                 torch.tensor([0]))
    with pytest.raises(UserError, match="without a single object"):
        meter.result()


def test_results_name_the_ids_of_the_file(dataset):
    found = {"boxes": torch.tensor([[1.0, 2, 11, 22]]), "scores": torch.tensor([0.5]), "labels": torch.tensor([2])}
    assert as_results(found, 31, (96, 64), dataset.category_ids, masks=False) == [
        {"image_id": 31, "category_id": 20, "bbox": [1.0, 2.0, 10.0, 20.0], "score": 0.5}]


# ---- regions ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def regions(tmp_path):
    return open_ade20k(write_ade20k(tmp_path, train=1, val=5), "validation", FIT)[0]


def named(regions, index):
    """The true classes, every fifth pixel another one."""
    numbers = np.asarray(Image.open(regions.maps[index])).astype(int)
    answer = torch.from_numpy(np.where(numbers == 0, 1, numbers - 1))
    wrong = torch.rand(answer.shape, generator=torch.Generator().manual_seed(index)) < 0.2
    return torch.where(wrong, (answer + 1) % 3, answer)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_overlaps_equal_scikit_learn_on_any_number_of_ranks(regions, ranks, monkeypatch):
    meters = [OverlapMeter(regions) for _ in range(ranks)]
    true, answers = [], []
    for index in range(len(regions)):
        answer = named(regions, index)
        meters[index % ranks].update(index, [answer], torch.tensor([index]))
        numbers = np.asarray(Image.open(regions.maps[index])).astype(int)
        true.append(numbers[numbers > 0] - 1)
        answers.append(answer.numpy()[numbers > 0])
    true, answers = np.concatenate(true), np.concatenate(answers)
    monkeypatch.setattr("detection.metrics.gather", lambda _: [(meter._own, meter._pictures) for meter in meters])
    there = sorted({*true, *answers})
    assert meters[0].result() == pytest.approx({
        "miou": 100 * jaccard_score(true, answers, labels=there, average="macro"),
        "aacc": 100 * accuracy_score(true, answers), "macc": 100 * balanced_accuracy_score(true, answers),
        "pictures": 5})


def test_regions_without_a_pixel_of_a_class_are_an_error(regions):
    with pytest.raises(UserError, match="no picture to evaluate"):
        OverlapMeter(regions).result()


# ---- real ranks ------------------------------------------------------------------------------------------------------

SCRIPT = '''
import json, sys, torch
from pathlib import Path
from runtime.processes import process_group, rank, world_size
from detection.coco import read_coco
from detection.datasets import DetectionImages
from detection.metrics import CocoMeter
from detection.scenes import Fit
from tests.detection.test_metrics import disturbed

path = Path(sys.argv[1])
with process_group(torch.device("cpu")):
    dataset = DetectionImages(read_coco(path, path.with_suffix(""), masks=True), path.with_suffix(""),
                              Fit(shortest=64, longest=96))
    meter = CocoMeter(dataset, ("box", "mask"))
    for index in range(rank(), len(dataset), world_size()):
        meter.update(index, [disturbed(dataset, index)], torch.tensor([index]))
    Path(f"{sys.argv[2]}_{rank()}").write_text(json.dumps(meter.result()))
'''


@pytest.mark.slow
def test_real_ranks_agree(coco, tmp_path):
    script = tmp_path / "ranks.py"
    script.write_text(f"import sys; sys.path.insert(0, {str(Path(__file__).resolve().parents[2])!r})\n{SCRIPT}")
    told = set()
    for count in (1, 2, 3):
        finish(start_ranks(count, script, coco, tmp_path / str(count), cwd=tmp_path))
        told |= {(tmp_path / f"{count}_{rank}").read_text() for rank in range(count)}
    assert len(told) == 1
