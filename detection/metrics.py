"""Figures of dense tasks, the same on any number of ranks: COCO's average precision, and overlap of regions.

faster-coco-eval computes COCO's figures; they equal pycocotools' on the same files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from detection.datasets import DetectionImages, SegmentationImages
from detection.detectors import whole_masks
from detection.masks import library, pack_pixels
from detection.scenes import IGNORED
from runtime.processes import gather, on_first_rank
from utils import UserError

Kind = Literal["box", "mask"]
IOU_TYPES: dict[Kind, str] = {"box": "bbox", "mask": "segm"}
# COCO's twelve: average precision over thresholds, at 0.5 and 0.75, of small, medium and large objects; recall of at
# most 1, 10 and 100 detections, and by size.
FIGURES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large",
           "ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large")


class CocoMeter:
    """Collects detections, and compares them with the annotations of a dataset.

    Attributes:
        kinds: what is compared: boxes, or boxes and masks.
    """

    def __init__(self, dataset: DetectionImages, kinds: Sequence[Kind]) -> None:
        self.dataset, self.kinds = dataset, kinds
        self._found: dict[int, list[dict[str, Any]]] = {}  # by picture

    def update(self, number: int, outputs: Sequence[Mapping[str, Tensor]], targets: Tensor) -> None:
        """Count the detections of pictures `targets` (B,): for each `boxes`, `scores`, `labels` and perhaps `masks`."""
        for index, found in zip(targets.tolist(), outputs, strict=True):
            picture = self.dataset.pictures[index]
            self._found[index] = as_results(found, index, (picture.height, picture.width),
                                            range(1, len(self.dataset.classes) + 1), masks="mask" in self.kinds)

    def result(self) -> dict[str, float]:
        """COCO's twelve figures of each kind in percent, such as `box_ap50`, and `pictures`; the same on every rank.

        A figure of which there is no object, such as of large ones, is left out.

        Raises:
            UserError: no picture was counted on any rank, or none has an object.
        """
        found = {index: results for part in gather(self._found) for index, results in part.items()}
        if not found:
            raise UserError("no picture to evaluate that can be read", "at least one", "see the list above")
        return {**on_first_rank(lambda: self._figures(found)), "pictures": len(found)}

    def _figures(self, found: Mapping[int, list[dict[str, Any]]]) -> dict[str, float]:
        truth = self._truth(sorted(found))
        if not any(not each["iscrowd"] for each in truth["annotations"]):
            raise UserError("validation pictures without a single object", "annotations to compare with",
                            "add pictures to validate on")
        detections = [each for index in sorted(found) for each in found[index]]
        return {f"{kind}_{name}": 100 * value for kind in self.kinds
                for name, value in coco_figures(truth, detections, kind).items()}

    def _truth(self, indices: Sequence[int]) -> dict[str, Any]:
        """The annotations of these pictures in COCO's format, by numbers of their own."""
        images, annotations = [], []
        for index in indices:
            picture = self.dataset.pictures[index]
            images.append({"id": index, "height": picture.height, "width": picture.width})
            for each in picture.instances:
                entry: dict[str, Any] = {"id": len(annotations) + 1, "image_id": index, "category_id": each.label + 1,
                                         "bbox": list(each.box), "area": each.area, "iscrowd": int(each.is_crowd)}
                if each.mask is not None:
                    entry["segmentation"] = {"size": [picture.height, picture.width], "counts": each.mask}
                annotations.append(entry)
        categories = [{"id": number, "name": name} for number, name in enumerate(self.dataset.classes, 1)]
        return {"images": images, "annotations": annotations, "categories": categories}


def as_results(found: Mapping[str, Tensor], image_id: int, size: tuple[int, int], category_ids: Sequence[int], *,
               masks: bool) -> list[dict[str, Any]]:
    """The detections of one picture of this height and width as entries of COCO's results, the best first.

    Masks are run lengths in COCO's text form, as bytes.
    """
    packed = [pack_pixels(mask.cpu().numpy()) for mask in whole_masks(found, size)] if masks else []
    entries = []
    for number, (box, score, label) in enumerate(zip(*(found[name].tolist() for name in ("boxes", "scores", "labels")),
                                                     strict=True)):
        left, top, right, bottom = box
        entries.append({"image_id": image_id, "category_id": category_ids[label],
                        "bbox": [left, top, right - left, bottom - top], "score": score})
        if masks:
            entries[-1]["segmentation"] = {"size": list(size), "counts": packed[number]}
    return entries


def coco_figures(truth: dict[str, Any], detections: list[dict[str, Any]], kind: Kind) -> dict[str, float]:
    """COCO's twelve figures in [0, 1] of `detections`, entries of its results; those of no object are left out."""
    package = library()
    annotations = package.COCO(truth)
    if detections:
        results = annotations.loadRes([dict(each) for each in detections])
    else:
        results = package.COCO({**truth, "annotations": []})
    evaluation = package.COCOeval_faster(annotations, results, IOU_TYPES[kind])
    evaluation.run()
    return {name: float(value) for name, value in zip(FIGURES, evaluation.stats, strict=False) if value >= 0}


# ---- regions ---------------------------------------------------------------------------------------------------------


class OverlapMeter:
    """Counts the pixels of each class by the class that the network names, at the size of the label maps.

    Attributes:
        confusions: (classes, classes) int64, true by named, of all ranks; `result` sets it.
    """

    confusions: np.ndarray

    def __init__(self, dataset: SegmentationImages) -> None:
        self.dataset, self._pictures = dataset, 0
        self._own = np.zeros((len(dataset.classes),) * 2, np.int64)

    def update(self, number: int, outputs: Sequence[Tensor], targets: Tensor) -> None:
        """Count pictures `targets` (B,), for each of which the network names classes (H, W)."""
        classes = len(self._own)
        for index, named in zip(targets.tolist(), outputs, strict=True):
            true = torch.from_numpy(self.dataset.labels(index, (named.shape[0], named.shape[1]))).long()
            counted = true != IGNORED
            pairs = classes * true[counted] + named.cpu()[counted]
            self._own += pairs.bincount(minlength=classes**2).reshape(classes, classes).numpy()
            self._pictures += 1

    def result(self) -> dict[str, float]:
        """`miou`, `aacc` and `macc` in percent, and `pictures`; the same on every rank.

        The mean of the intersections over unions is that of the classes that are there or named, the mean accuracy that
        of those that are there.

        Raises:
            UserError: no pixel was counted on any rank.
        """
        parts = gather((self._own, self._pictures))
        self.confusions = np.sum([confusions for confusions, _ in parts], axis=0)
        if not self.confusions.any():
            raise UserError("no picture to evaluate that can be read and has pixels of a class", "at least one",
                            "see the list above")
        hits, true, named = self.confusions.diagonal(), self.confusions.sum(1), self.confusions.sum(0)
        union = true + named - hits
        return {"miou": 100 * float((hits[union > 0] / union[union > 0]).mean()),
                "aacc": 100 * float(hits.sum() / true.sum()),
                "macc": 100 * float((hits[true > 0] / true[true > 0]).mean()),
                "pictures": sum(pictures for _, pictures in parts)}
