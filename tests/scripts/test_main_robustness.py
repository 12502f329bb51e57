"""The robustness protocols through main.py, on generated folders whose figures are computed by hand."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image

from main import main
from robust_utils import alexnet_errors, wordnet_ids
from tests.conftest import ROOT

IDS = wordnet_ids("imagenet_1k")
# A network that likes three classes in this order, whatever it sees. ImageNet-A has the second, ImageNet-R all three.
SHARED = sorted(set(wordnet_ids("imagenet_a")) & set(wordnet_ids("imagenet_r")))
FAVOURITE, SECOND = next(wnid for wnid in wordnet_ids("imagenet_r") if wnid not in SHARED), SHARED[7]


@pytest.fixture(scope="module")
def stubborn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a network of 1000 classes that always answers FAVOURITE, and SECOND where it may not."""
    network = timm.create_model("test_resnet", num_classes=1000)
    with torch.no_grad():
        for parameter in network.fc.parameters():
            parameter.zero_()
        network.fc.bias[IDS.index(FAVOURITE)], network.fc.bias[IDS.index(SECOND)] = 2, 1
    path = tmp_path_factory.mktemp("stubborn") / "stubborn.pth"
    torch.save({"model": network.state_dict()}, path)
    return path


def tree(root: Path, classes: Sequence[str], **more: int) -> Path:
    """One picture for each of `classes`, made in random order, and as many as `more` says of single ones."""
    picture = Image.new("RGB", (32, 32), (90, 120, 150))
    for wnid in random.Random(1).sample(list(classes), len(classes)):
        (root / wnid).mkdir(parents=True)
        for number in range(more.get(wnid, 1)):
            picture.save(root / wnid / f"{number}.bmp")
    return root


def test_protocols_give_the_figures_computed_by_hand(stubborn: Path, tmp_path: Path, capsys) -> None:
    """Masked: a favourite outside of ImageNet-A's classes does not count there. Folders come in any order."""
    val = tree(tmp_path / "data" / "val", IDS[::100], **{IDS[200]: 3})
    folders = {
        "--ina_path": tree(tmp_path / "a", wordnet_ids("imagenet_a"), **{SECOND: 3}),
        "--inr-path": tree(tmp_path / "r", wordnet_ids("imagenet_r"), **{FAVOURITE: 5, SECOND: 2}),
        "--insk-path": tree(tmp_path / "sketch", [FAVOURITE, SECOND, "n01440764"], **{FAVOURITE: 2}),
        "--inc-path": tmp_path / "c"}
    for severity, count in enumerate((9, 4, 3, 1, 0), 1):  # recognised: 9, 4, 3, 1 of one more each, and 0 of 1
        classes = [FAVOURITE, "n01440764"] if count else ["n01440764"]
        tree(tmp_path / "c" / "fog" / str(severity), classes, **{FAVOURITE: count})
    flags = ["--eval", "--model", "test_resnet", "--resume", stubborn, "--data-path", val.parent, "--output-dir",
             tmp_path / "out", "--input-size", 32, "-j", 0, *(part for pair in folders.items() for part in pair)]
    assert main(list(map(str, flags))) == 0
    told = capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "robustness.json").read_text())
    assert found["clean"]["top1"] == 0
    assert found["imagenet_a"] == {"top1": pytest.approx(100 * 3 / 202), "pictures": 202, "classes": 200, "missing": []}
    assert found["imagenet_r"]["top1"] == pytest.approx(100 * 5 / 205)
    assert found["imagenet_r"]["missing"] == []
    assert found["imagenet_sketch"]["top1"] == 50
    assert len(found["imagenet_sketch"]["missing"]) == 997
    assert found["imagenet_c"]["corruptions"]["fog"]["top1"] == pytest.approx(
        {"1": 90, "2": 80, "3": 75, "4": 50, "5": 0})
    assert found["imagenet_c"]["mce"] is None
    assert "998 classes of fog/1" in found["imagenet_c"]["missing"]
    assert "ImageNet-A top-1 1.485 of 202 pictures, 200 classes" in told
    assert all(len(line) <= 80 for line in told.splitlines() if line.startswith(("fog", "ImageNet-C:")))
    page = (ROOT / "docs" / "plain-lsnet.md").read_text(encoding="utf-8")
    blocks = re.findall("^```json\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    shown = json.loads(next(block for block in blocks if "imagenet_c" in block))
    assert shown.keys() <= found.keys() | {"adversarial"}
    for name in ("clean", "imagenet_a", "imagenet_c"):
        assert shown[name].keys() == found[name].keys()
    assert shown["imagenet_c"]["corruptions"]["fog"].keys() == found["imagenet_c"]["corruptions"]["fog"].keys()


@pytest.mark.slow
def test_a_whole_imagenet_c_has_the_mce_computed_by_hand(tmp_path: Path, monkeypatch, capsys) -> None:
    """ImageNet of six classes; the network always answers the fourth, which has 1 to 5 of 6 to 10 pictures."""
    few = tuple(IDS[:6])
    monkeypatch.setattr("robust_utils.wordnet_ids", lambda name: few)
    network = timm.create_model("test_resnet", num_classes=6)
    with torch.no_grad():
        for parameter in network.fc.parameters():
            parameter.zero_()
        network.fc.bias[3] = 1
    torch.save(network.state_dict(), tmp_path / "bare.pth")
    val = tree(tmp_path / "data" / "val", few)
    shares = []
    for place, corruption in enumerate(alexnet_errors()):
        counts = [5, 5, 5, 5, 5] if place % 2 else [5, 4, 3, 2, 1]
        for severity, count in enumerate(counts, 1):
            tree(tmp_path / "c" / corruption / str(severity), few, **{few[3]: count})
        shares.append(sum(count / (5 + count) for count in counts) / 5)
    flags = ["--eval", "--model", "test_resnet", "--resume", tmp_path / "bare.pth", "--data-path", val.parent,
             "--output-dir", tmp_path, "--input-size", 32, "-j", 0, "--inc_path", tmp_path / "c"]
    assert main(list(map(str, flags))) == 0
    found = json.loads((tmp_path / "robustness.json").read_text())["imagenet_c"]
    expected = [100 * (1 - share) / error for share, error in zip(shares, alexnet_errors().values(), strict=True)]
    assert [each["ce"] for each in found["corruptions"].values()] == pytest.approx(expected)
    assert found["mce"] == pytest.approx(sum(expected) / 15)
    assert found["missing"] == []
    assert f"{sum(expected) / 15:.1f}" in capsys.readouterr().out.splitlines()[-3]
