"""Inference decodes JPEGs whole, as evaluation does; --draft, which changes answers, has to be asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from data.images import decode_image
from data.transforms import Preprocessing, eval_transform
from inference.predictor import Prediction, Predictor
from runtime.options import InferenceOptions
from runtime.placement import Placement

HOW = Preprocessing(input_size=32, crop_pct=0.875, interpolation="bicubic", mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))


@pytest.mark.parametrize("size", [(80, 60), (320, 240), (801, 603)])
def test_answers_are_those_of_evaluation_whatever_the_size(tmp_path: Path, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg", quality=90)
    torch.manual_seed(0)
    network = timm.create_model("test_efficientnet", num_classes=5).eval()
    predictor = Predictor(network, list("abcde"), HOW, Placement.resolve("cpu"))
    pixels = eval_transform(HOW)(decode_image(tmp_path / "a.jpg"))[None]
    logits = predictor.network(pixels)
    whole, = predictor.predict([tmp_path / "a.jpg"])
    reduced, = predictor.predict([tmp_path / "a.jpg"], InferenceOptions(draft=True))
    assert isinstance(whole, Prediction)
    assert isinstance(reduced, Prediction)
    torch.testing.assert_close(whole.logits, logits[0].detach(), atol=1e-6, rtol=1e-5)
    assert torch.equal(whole.logits, reduced.logits) == (size == (80, 60))
