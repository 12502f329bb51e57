"""--head-parallel: two processes learn what they learn with a whole classifier; runs go on on any number of them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import train_artist_style
from runtime.checkpoint import read_checkpoint
from runtime.networks import Architecture
from tests.forked import UNDRAWN, Script, finish, start_ranks
from tests.pictures import write_data_set
from training.pictures import Pictures
from training.scale import check_ranks
from utils import UserError

pytestmark = pytest.mark.skipif(os.name == "nt", reason="ranks of these tests are forked")
# No batch norm, so that the pictures of a batch do not see each other.
FLAGS = ("--model", "test_vit", "--input-size", "32", "--num-workers", "0")
LONG_TAIL = ("--logit-adjustment", 1, "--sampler", "sqrt", "--freeze-backbone", 1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five artists, 30 pictures to train and 11 to validate: ranks have other numbers of rows and batches."""
    root = write_data_set(tmp_path_factory.mktemp("parallel") / "data", artists=5, train=6, val=2)
    (root / "val" / "artist_0" / "val_9.png").write_bytes((root / "val" / "artist_1" / "val_0.png").read_bytes())
    return root


def launch(processes: int, data: Path, output: Path, *more: object) -> list[Script]:
    return start_ranks(processes, "train_artist_style.py", *FLAGS, "--data-path", data, "--output-dir", output, *more,
                       cwd=data.parent, env=UNDRAWN)


def records(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def difference(one: Path, other: Path) -> float:
    """The largest between the weights of two checkpoints, their averages and their moments."""
    first, second = read_checkpoint(one).content, read_checkpoint(other).content
    found = [(a - second[part][name]).abs().max().item() for part in ("model", "model_ema")
             for name, a in first[part].items()]
    found += [(a - second["optimizer"]["state"][index][name]).abs().max().item()
              for index, moments in first["optimizer"]["state"].items() for name, a in moments.items()]
    return max(found)


@pytest.mark.slow
def test_a_divided_classifier_learns_what_a_whole_one_does_and_goes_on_elsewhere(data: Path, tmp_path: Path) -> None:
    common = ("--epochs", 3, *LONG_TAIL)
    finish(launch(2, data, tmp_path / "whole", *common, "--batch-size", 6))
    told = finish(launch(2, data, tmp_path / "divided", *common, "--batch-size", 6, "--head-parallel", "--dist-eval",
                         "--save-every", 2, "--eval-retrieval"))
    assert "the classifier's 5 rows are divided among 2 processes, 2 on the first" in told
    for a, b in zip(records(tmp_path / "whole"), records(tmp_path / "divided"), strict=True):
        assert a["train_loss"] == pytest.approx(b["train_loss"], abs=1e-5)
        assert a["val_loss"] == pytest.approx(b["val_loss"], abs=1e-5)
        assert (a["val_top1"], a["val_top5"]) == (b["val_top1"], b["val_top5"])
        assert "val_recall1" in b
    assert difference(tmp_path / "whole" / "checkpoint.pth", tmp_path / "divided" / "checkpoint.pth") < 1e-4
    answers = [json.loads((tmp_path / name / "validation.json").read_text()) for name in ("whole", "divided")]
    for one, other in zip(*(found["pictures"] for found in answers), strict=True):
        assert [number for number, _ in one["answers"]] == [number for number, _ in other["answers"]]
        assert one["own"] == pytest.approx(other["own"], abs=1e-5)
    begun = tmp_path / "divided" / "checkpoint_2.pth"
    for processes, batch in ((1, 12), (3, 4), (4, 3)):  # the third epoch, which all end with the same weights
        output = tmp_path / str(processes)
        finish(launch(processes, data, output, *common, "--batch-size", batch, "--head-parallel", "--resume", begun))
        assert difference(output / "checkpoint.pth", tmp_path / "whole" / "checkpoint.pth") < 1e-4
    done = [finish(launch(processes, data, tmp_path / "unused", "--eval", "--head-parallel", "--resume",
                          tmp_path / "divided" / "model_best.pth")) for processes in (1, 2)]
    assert done[0].partition("* top-1")[2].splitlines()[0] == done[1].partition("* top-1")[2].splitlines()[0] != ""


@pytest.mark.parametrize(("flags", "found"), [
    ("--mixup 0.2", "--head-parallel with --mixup or --cutmix"), ("--linear-probe", "--linear-probe"),
    ("--teacher-model test_vit", "a teacher"), ("--contrastive-weight 1", "--contrastive-weight"),
    ("--pretrained --head-init probe", "--head-init probe"), ("--compile", "--compile"), ("--amp fp16", "fp16"),
    ("--opt lamb", "--opt lamb, which needs whole weights"), ("--fsdp", "--fsdp with --head-parallel"),
    ("--no-head-parallel --head-sample-rate 0.5", "--head-sample-rate without --head-parallel")])
def test_what_cannot_go_together_is_refused(data: Path, tmp_path: Path, flags: str, found: str,
                                            capsys: pytest.CaptureFixture) -> None:
    output = tmp_path / "run"
    assert train_artist_style.main([*FLAGS, "--data-path", str(data), "--output-dir", str(output), "--head-parallel",
                                    *flags.split()]) == 2
    told = capsys.readouterr().err
    assert found in told
    assert told.count("\n") == 1
    assert not output.exists()


@pytest.mark.slow
def test_a_process_without_a_class_is_refused(data: Path, tmp_path: Path) -> None:
    ranks = launch(6, data, tmp_path / "run", "--epochs", 1, "--batch-size", 2, "--head-parallel")
    told = [rank.communicate(200)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [2] * 6
    assert "5 classes on 6 processes, of which one would have none" in told[0]
    assert not [*(tmp_path / "run").glob("*.pth")]


@pytest.mark.parametrize(("name", "value"), [
    ("--batch-size", 2), ("--head-sample-rate", 0.5), ("--opt", "sgd"), ("the model", "b"),
    ("the digest of the pictures' names", "0")])
def test_processes_that_disagree_say_in_what(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    compared: list[dict] = []

    def gather(said: dict) -> list[dict]:
        compared.append(said)
        assert name in said
        return [said, said, {**said, name: value}]

    monkeypatch.setattr("training.scale.gather", gather)
    monkeypatch.setattr("training.scale.world_size", lambda: 3)
    options = train_artist_style.build_parser().read(["--data-path", "here"])
    with pytest.raises(UserError, match=f"{name} is .* on rank 0, but {value} on rank 2"):
        check_ranks(options, Architecture(name="a", num_classes=2), ["x", "y"], Pictures.of(["x/1"], ["y/1"]))
    assert not {"--data-path", "--output-dir", "--class-csv", "--num-workers", "--device"} & {*compared[0]}


@pytest.mark.slow
def test_real_processes_that_disagree_all_end_with_one_line(data: Path, tmp_path: Path) -> None:
    ranks = start_ranks(2, "train_artist_style.py", *FLAGS, "--data-path", data, "--output-dir", tmp_path / "run",
                        "--epochs", 1, "--head-parallel", cwd=tmp_path, env=UNDRAWN,
                        own=[["--batch-size", 4], ["--batch-size", 8]])
    told = [rank.communicate(200)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [2, 2]
    lines = [line for line in "".join(told).splitlines() if "processes that disagree" in line]
    assert lines
    assert all("--batch-size is 4 on rank 0, but 8 on rank 1" in line for line in lines)
    assert not [*(tmp_path / "run").glob("*.pth")]


@pytest.mark.slow
def test_sampled_artists_are_those_of_one_process_and_of_a_run_that_goes_on(tmp_path: Path) -> None:
    data = write_data_set(tmp_path / "data", artists=20, train=2, val=1)
    common = ("--epochs", 2, "--head-parallel", "--head-sample-rate", 0.3, "--eval-every", 2)
    told = finish(launch(1, data, tmp_path / "one", *common, "--batch-size", 8, "--save-every", 1))
    assert "each update reads the artists of its pictures, and 30 % of the others" in told
    finish(launch(2, data, tmp_path / "two", *common, "--batch-size", 4))
    assert difference(tmp_path / "one" / "checkpoint.pth", tmp_path / "two" / "checkpoint.pth") < 1e-4
    finish(launch(1, data, tmp_path / "again", *common, "--batch-size", 8, "--resume",
                  tmp_path / "one" / "checkpoint_1.pth"))
    assert difference(tmp_path / "one" / "checkpoint.pth", tmp_path / "again" / "checkpoint.pth") == 0
    assert records(tmp_path / "one")[1]["val_loss"] == records(tmp_path / "again")[0]["val_loss"]


@pytest.mark.slow
def test_a_style_head_learns_the_same_divided(data: Path, tmp_path: Path) -> None:
    common = ("--epochs", 2, "--head", "style", "--feature-dim", 8, "--batch-size", 6, "--lr", "1e-4")
    finish(launch(2, data, tmp_path / "whole", *common))
    for flag in ("--head-parallel", "--fsdp"):
        finish(launch(2, data, tmp_path / flag[2:], *common, flag))
        for a, b in zip(records(tmp_path / "whole"), records(tmp_path / flag[2:]), strict=True):
            assert a["train_loss"] == pytest.approx(b["train_loss"], abs=1e-4)
        assert difference(tmp_path / "whole" / "checkpoint.pth", tmp_path / flag[2:] / "checkpoint.pth") < 1e-3
