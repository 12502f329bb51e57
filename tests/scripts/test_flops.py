"""The published figures, and the details of small networks."""

from __future__ import annotations

import re

import pytest

import flops
from detection.architecture import dense_network


def rows(text: str) -> dict[str, list[str]]:
    return {cells[0]: cells[1:] for line in text.splitlines() if len(cells := re.split("  +", line.strip())) > 1}


PUBLISHED = {"lsnet_t": ["11.41", "11.37", "0.32", "0.3"], "lsnet_s": ["16.15", "16.10", "0.54", "0.5"],
             "lsnet_b": ["23.31", "23.25", "1.24", "1.3"]}


@pytest.mark.parametrize(("flags", "names"), [
    (["--model", "lsnet_t"], ["lsnet_t"]), pytest.param([], list(PUBLISHED), marks=pytest.mark.exhaustive)])
def test_the_published_figures(run_script, flags: list[str], names: list[str]) -> None:
    done = run_script("flops.py", *flags)
    assert (done.returncode, done.stderr) == (0, "")
    found = rows(done.stdout)
    assert {name: found[name][:4] for name in names} == {name: PUBLISHED[name] for name in names}
    assert max(map(len, done.stdout.splitlines()[:-1])) <= 80  # the last line has a path


def test_details_of_each_network(capsys: pytest.CaptureFixture[str]) -> None:
    assert flops.main(["--model", "test_resnet", "lsnet_t_artist", "--resolution", "64", "--num-classes", "5",
                       "--detail"]) == 0
    text = capsys.readouterr().out
    found = rows(text)
    assert found["lsnet_t_artist"][0] == "output"
    assert [found[f"blocks{stage}"][0] for stage in (2, 3, 4)] == ["128 x 4 x 4", "256 x 2 x 2", "384 x 1 x 1"]
    assert found["head"][0] == "5"
    assert found["fc"][0] == "5"
    assert max(map(len, text.splitlines()[:-1])) <= 80  # the last line has a path


def test_unfolded_networks_cost_more(capsys: pytest.CaptureFixture[str]) -> None:
    figures = []
    for fold in ("--fuse", "--no-fuse"):
        flops.main(["--model", "lsnet_t", "--resolution", "64", fold])
        figures.append(rows(capsys.readouterr().out)["lsnet_t"])
    assert figures[1][1] == "–"
    assert float(figures[1][2]) >= float(figures[0][2])
    assert float(figures[1][4]) > float(figures[0][4])


def test_an_unknown_model_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert flops.main(["--model", "lsnet_q"]) == 2
    assert "unknown model lsnet_q" in capsys.readouterr().err


@pytest.mark.parametrize(("task", "parts"), [("boxes", ["backbone", "head"]), ("semantic", ["backbone", "head"]),
                                             ("instances", ["backbone", "rpn", "roi_heads"])])
def test_detectors_and_segmenters(task: str, parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert flops.main(["--model", "lsnet_t", "--task", task, "--resolution", "64", "96", "--detail"]) == 0
    text = capsys.readouterr().out
    found = rows(text)
    network = dense_network(dense_task=task, backbone="lsnet_t", num_classes=150 if task == "semantic" else 80)
    summary = re.split("  +", next(line for line in text.splitlines() if line.startswith("lsnet_t ")))
    assert float(summary[1]) == pytest.approx(sum(each.numel() for each in network.parameters()) / 1e6, abs=0.01)
    assert float(summary[2]) < float(summary[1])
    assert float(summary[3]) == pytest.approx(sum(float(found[part][2]) for part in parts
                                                  if part != "roi_heads") / 1000, abs=0.02)
    assert "One picture of 64 x 96 px" in text
    assert ("without the heads" in text) == (task == "instances")


def test_a_classifier_sees_squares(capsys: pytest.CaptureFixture[str]) -> None:
    for sides, found in ((["64", "96"], "--resolution 64 96 with --task classes"), (["1000"] * 3, "--resolution 1000")):
        assert flops.main(["--resolution", *sides]) == 2
        assert found in capsys.readouterr().err
