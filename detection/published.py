"""Published detectors and segmenters: the keys of mmdetection's and mmsegmentation's files, and their arithmetic.

They put the background last; torchvision puts it first, and gives it box deltas and a mask, which nobody reads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from runtime.networks import DenseTask
from utils import UserError

Convert = Callable[[Tensor], Tensor]
NAMED = 5  # keys of a message


def _background_first(rows: Tensor) -> Tensor:
    return rows.roll(1, 0)


def _add_background(rows: Tensor) -> Tensor:
    return torch.cat([rows.new_zeros(1, *rows.shape[1:]), rows])


def _add_background_box(rows: Tensor) -> Tensor:
    return torch.cat([rows.new_zeros(4, *rows.shape[1:]), rows])


# Our key as a pattern, the published one, and what is done to the published tensor.
Rule = tuple[str, str, Convert | None]
SHARED: tuple[Rule, ...] = (
    (r"backbone\.body\.(?:model\.)?(.+)", r"backbone.\1", None),
    (r"backbone\.(neck\..+)", r"\1", None),
)
RULES: dict[DenseTask, tuple[Rule, ...]] = {
    "boxes": (
        *SHARED,
        (r"head\.classification_head\.conv\.(\d)\.0\.(.+)", r"bbox_head.cls_convs.\1.conv.\2", None),
        (r"head\.classification_head\.cls_logits\.(.+)", r"bbox_head.retina_cls.\1", None),
        (r"head\.regression_head\.conv\.(\d)\.0\.(.+)", r"bbox_head.reg_convs.\1.conv.\2", None),
        (r"head\.regression_head\.bbox_reg\.(.+)", r"bbox_head.retina_reg.\1", None),
    ),
    "instances": (
        *SHARED,
        (r"rpn\.head\.conv\.0\.0\.(.+)", r"rpn_head.rpn_conv.\1", None),
        (r"rpn\.head\.cls_logits\.(.+)", r"rpn_head.rpn_cls.\1", None),
        (r"rpn\.head\.bbox_pred\.(.+)", r"rpn_head.rpn_reg.\1", None),
        (r"roi_heads\.box_head\.fc6\.(.+)", r"roi_head.bbox_head.shared_fcs.0.\1", None),
        (r"roi_heads\.box_head\.fc7\.(.+)", r"roi_head.bbox_head.shared_fcs.1.\1", None),
        (r"roi_heads\.box_predictor\.cls_score\.(.+)", r"roi_head.bbox_head.fc_cls.\1", _background_first),
        (r"roi_heads\.box_predictor\.bbox_pred\.(.+)", r"roi_head.bbox_head.fc_reg.\1", _add_background_box),
        (r"roi_heads\.mask_head\.(\d)\.0\.(.+)", r"roi_head.mask_head.convs.\1.conv.\2", None),
        (r"roi_heads\.mask_predictor\.conv5_mask\.(.+)", r"roi_head.mask_head.upsample.\1", None),
        (r"roi_heads\.mask_predictor\.mask_fcn_logits\.(.+)", r"roi_head.mask_head.conv_logits.\1", _add_background),
    ),
    "semantic": (*SHARED, (r"head\.(.+)", r"decode_head.\1", None)),
}


def published_key(task: DenseTask, key: str) -> tuple[str, Convert | None]:
    """The published name of a network's own `key`, and what is done to the tensor there.

    Raises:
        KeyError: the network of this task has no such key.
    """
    for pattern, published, convert in RULES[task]:
        if match := re.fullmatch(pattern, key):
            return match.expand(published), convert
    raise KeyError(key)


def load_published(network: nn.Module, task: DenseTask, state: Mapping[str, Tensor], source: object) -> None:
    """Load a published `state` of the file `source`, all of it and nothing else.

    Raises:
        UserError: it lacks keys, has others, or tensors of other shapes, or numbers that are not finite; each named.
    """
    own, converted, problems = network.state_dict(), {}, []
    names = {key: published_key(task, key) for key in own}
    known = {published for published, _ in names.values()}
    problems += [f"lacks {name}" for name in dict.fromkeys(known) if name not in state]
    problems += [f"has the unknown {name}" for name in state if name not in known]
    for key, (name, convert) in names.items():
        if name not in state:
            continue
        found = state[name]
        value = convert(found) if convert and found.ndim else found
        if value.shape != own[key].shape:
            problems.append(f"has {name} of shape {tuple(found.shape)}, which makes {tuple(value.shape)} for "
                            f"{tuple(own[key].shape)}")
        elif not value.float().isfinite().all():
            problems.append(f"has numbers in {name} that are not finite")
        converted[key] = value
    if problems:
        more = f" and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
        raise UserError(f"{source}, which {', '.join(problems[:NAMED])}{more}",
                        f"every key of a published network for {task} with this backbone, and no other",
                        "check --task, --model and the file")
    network.load_state_dict(converted)


def published_classes(content: Mapping[str, Any]) -> list[str] | None:
    """The classes that a published file names, in the order of their rows; None where it names none."""
    meta = content.get("meta")
    names = meta.get("CLASSES") if isinstance(meta, Mapping) else None
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return None
    return list(names) or None
