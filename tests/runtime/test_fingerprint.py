"""A model has one fingerprint in all its files, and any change of it has another."""

from __future__ import annotations

from pathlib import Path

import torch

from runtime.checkpoint import Checkpoint, read_checkpoint


def seen(input_size: int) -> dict[str, object]:
    return {"input_size": input_size, "crop_pct": 1.0, "interpolation": "bicubic", "mean": [0] * 3, "std": [1] * 3}


def of(weights: dict[str, torch.Tensor], **config: object) -> str:
    return Checkpoint(path=Path("x.pth"), model=weights, config=config).fingerprint


def test_both_files_of_a_run_have_the_same(trained: Path) -> None:
    assert read_checkpoint(trained / "model_best.pth").fingerprint == read_checkpoint(trained).fingerprint


def test_every_change_shows() -> None:
    weights = {"a": torch.arange(6.0), "count": torch.tensor(3)}
    prints = [of(weights, preprocessing=seen(96)), of(weights, preprocessing=seen(64)), of(weights),
              of({**weights, "a": torch.arange(6.0) + 1e-7}), of({**weights, "count": torch.tensor(4)}),
              of({**weights, "a": torch.arange(6.0).reshape(2, 3)}), of({"b": weights["a"], "count": weights["count"]}),
              of({**weights, "a": weights["a"].to(torch.bfloat16)})]
    assert len(set(prints)) == len(prints)
    assert {len(each) for each in prints} == {32}


def test_the_order_and_the_layout_of_weights_do_not_show() -> None:
    square = torch.arange(6.0).reshape(2, 3)
    assert of({"a": square, "b": square + 1}) == of({"b": square + 1, "a": square.t().contiguous().t()})
