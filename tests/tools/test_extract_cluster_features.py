"""Features of a folder and their groups, as users ask for them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tools.extract_cluster_features import main


def test_the_documented_command_leaves_the_documented_files(trained: Path, data_set: Path, tmp_path: Path,
                                                            run_script) -> None:
    done = run_script("tools/extract_cluster_features.py", "--images-dir", data_set / "val", "--model",
                      "lsnet_t_artist", "--checkpoint", trained / "model_best.pth", "--num-clusters", 3, "--output-dir",
                      tmp_path)
    assert done.returncode == 0, done.stderr
    names = (tmp_path / "image_names.txt").read_text().splitlines()
    features = dict(zip(names, np.load(tmp_path / "features.npy"), strict=True))
    content = json.loads((tmp_path / "cluster_assignments.json").read_text())
    assert sorted(name for cluster in content["clusters"] for name in cluster["images"]) == names
    for cluster in content["clusters"]:
        assert cluster["size"] == len(cluster["images"])
        mean = np.mean([features[name] for name in cluster["images"]], axis=0)
        np.testing.assert_allclose(cluster["centroid"], mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("clusters", "folder"), [(13, "val"), (2, "nowhere")])
def test_what_cannot_be_grouped_is_said(trained: Path, data_set: Path, tmp_path: Path, capsys, clusters: int,
                                        folder: str) -> None:
    assert main(["--images-dir", str(data_set / folder), "--checkpoint", str(trained / "model_best.pth"),
                 "--num-clusters", str(clusters), "--output-dir", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_damaged_picture_is_listed(trained: Path, data_set: Path, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, picture in enumerate((data_set / "val").rglob("*.png")):
        (folder / f"{number}.png").write_bytes(picture.read_bytes())
    (folder / "bad.png").write_bytes(b"")
    assert main(["--images-dir", str(folder), "--checkpoint", str(trained / "model_best.pth"), "--num-clusters", "2",
                 "--output-dir", str(tmp_path / "out"), "--workers", "0"]) == 3
    assert "bad.png" in capsys.readouterr().err
