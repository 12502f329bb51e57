"""Eight pictures learned by heart: data, networks, losses and figures agree with one another."""

from __future__ import annotations

import pytest
import torch

from data.image_list import Draw
from detection.architecture import dense_network
from detection.coco import read_coco
from detection.datasets import DetectionImages, open_ade20k
from detection.learner import wrap
from detection.metrics import CocoMeter, OverlapMeter
from detection.scenes import Fit, Scenes
from tests.detection.sets import write_ade20k, write_coco

FIT = Fit(shortest=64, longest=96)


def learn(task, dataset, meter, *, updates, lr):
    """The figures on `dataset` after so many updates on all of it."""
    torch.manual_seed(0)
    network = dense_network(dense_task=task, backbone="lsnet_t", num_classes=4, channels=64, rois=64, anchor_scale=0.5)
    learner = wrap(network, task).train()
    optimizer = torch.optim.AdamW(learner.parameters(), lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, updates)
    for update in range(updates):
        scenes = Scenes(dataset[Draw((update * 4 + number) % len(dataset), update)].image for number in range(4))
        optimizer.zero_grad()
        loss = learner(scenes)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    learner.eval()
    with torch.inference_mode():
        for index in range(len(dataset)):
            meter.update(index, learner(Scenes([dataset[index].image])), torch.tensor([index]))
    return meter.result()


@pytest.mark.exhaustive
@pytest.mark.parametrize("task", ["boxes", "instances"])
def test_objects_of_eight_pictures(task, tmp_path):
    pytest.importorskip("faster_coco_eval", reason="the packages of requirements-detection.txt are not installed")
    # Of one shape: others are padded to a common size in training, but seen alone afterwards, and at 64 px the last
    # stage has two cells of the one and four of the other.
    path = write_coco(tmp_path, "pictures", 8, size=(64, 64))
    kinds = ("box", "mask") if task == "instances" else ("box",)
    coco = read_coco(path, path.with_suffix(""), masks=task == "instances")
    dataset = DetectionImages(coco, path.with_suffix(""), FIT)
    figures = learn(task, dataset, CocoMeter(dataset, kinds), updates=200, lr=1e-3)
    assert all(figures[f"{kind}_ap50"] >= 95 for kind in kinds)


@pytest.mark.exhaustive
def test_regions_of_eight_pictures(tmp_path):
    dataset, _ = open_ade20k(write_ade20k(tmp_path, train=8, val=1, size=(64, 64)), "training", FIT)
    figures = learn("semantic", dataset, OverlapMeter(dataset), updates=200, lr=1e-3)
    assert figures["miou"] >= 95
