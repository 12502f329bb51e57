"""What commands say where flags, counts and devices are wrong."""

from __future__ import annotations

import pytest
import torch

from prepare_dataset import main
from utils import UserError, counted, resolve_device


def test_an_unknown_flag_is_named_before_a_missing_one(capsys) -> None:
    assert main(["--sourcedir", "x"]) == 2
    assert capsys.readouterr().err.endswith("did you mean --source-dir? see python prepare_dataset.py --help\n")
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("prepare_dataset.py: --source-dir, --output-dir are missing; see python")


def test_one_is_singular() -> None:
    assert [counted(number, "picture") for number in (0, 1, 2)] == ["0 pictures", "1 picture", "2 pictures"]
    assert counted(2, "class") == "2 classes"


@pytest.mark.parametrize(("devices", "name", "told"), [
    (0, "cuda", "found --device cuda where torch finds no CUDA device; expected one; use --device cpu"),
    (1, "cuda:3", "found --device cuda:3 on a machine with 1 CUDA device; expected an index below 1; name")])
def test_a_gpu_that_is_not_there(devices: int, name: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    with pytest.raises(UserError) as refused:
        resolve_device(name)
    assert str(refused.value).startswith(told)
