"""Two commands in one place: one is done whole, and the other says so or waits; never a mixture."""

from __future__ import annotations

import dataclasses
import importlib
import os
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from filelock import FileLock

from tests.conftest import Completed
from tests.kills import Command
from tests.pictures import write_data_set

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX")
SMALL = ["--num-workers", 0, "--device", "cpu", "--batch-size", 4]
COUNTED = ("model_best.pth", "best_checkpoint.pth", "model.safetensors", "config.json", "report.csv",
           "class_mapping.csv", "checkpoint.pth")  # of a run; times are in its other files
OFTEN = pytest.mark.parametrize("times", [1, pytest.param(20, marks=pytest.mark.exhaustive)])


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two commands that write to one place.

    Attributes:
        module: of both.
        first: the flags of one.
        second: those of the other.
        output: where both write.
        names: of files there that count; () for all.
    """

    module: str
    first: Sequence[object]
    second: Sequence[object]
    output: Path
    names: Sequence[str] = ()

    def start(self, number: int, stop_at: int = 0) -> Command:
        """Start the first or the second."""
        return Command(self.module, (self.first, self.second)[number], self.output.with_name(f"{number}.log"), stop_at)

    def contents(self) -> dict[str, bytes]:
        """The files that count. Nothing half-made lies beside them."""
        assert not list(self.output.parent.glob(".*"))
        assert not list(self.output.rglob("*.partial"))
        return {name: path.read_bytes() for path in self.output.rglob("*") if path.is_file()
                if (name := path.relative_to(self.output).as_posix()) in (self.names or (name,))}

    def clear(self) -> None:
        """Begin without an output."""
        shutil.rmtree(self.output, ignore_errors=True)
        for log in self.output.parent.glob("?.*"):
            log.unlink()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_data_set(tmp_path / "source", train=4, val=2)


def refuses(answer: tuple[int | None, str], module: str, output: Path) -> bool:
    code, text = answer
    line = next((line for line in text.splitlines() if "is writing" in line), "")
    name = f"{module.rpartition('.')[2]}.py"
    return code == 2 and line.startswith(f"{name}: found {output}, to which {name} (process ")


def try_pair(pair: Pair, times: int, most: int) -> None:
    """Run each of `times` rounds: together, and with the first stopped at one of `most` calls while it writes."""
    answer = pair.start(0).finish()
    assert answer[0] == 0, answer
    expected, randomly = pair.contents(), random.Random(0)
    for _ in range(times):
        pair.clear()
        both = [pair.start(0), pair.start(1)]
        answers = [command.finish() for command in both]
        assert sorted(code for code, _ in answers) in ([0, 0], [0, 2]), answers  # one after the other is no fault
        assert all(code == 0 or refuses((code, text), pair.module, pair.output) for code, text in answers), answers
        assert pair.contents() == expected

        pair.clear()
        stopped = pair.start(0, randomly.randint(most // 2, most))
        stopped.wait_for()
        assert refuses(pair.start(1).finish(), pair.module, pair.output)
        assert stopped.finish()[0] == 0
        assert pair.contents() == expected


# Every command that writes to a folder, or to a file that takes long, and the flag that names the place.
WRITING = {
    "prepare_dataset": ["--source-dir", "{source}/train", "--output-dir", "{place}"],
    "train_artist_style": ["--data-path", "{source}", "--output-dir", "{place}"],
    "train_artist_multilabel": ["--data-path", "{source}", "--train-ann", "a.csv", "--val-ann", "b.csv", "--output-dir",
                                "{place}"],
    "main": ["--model", "resnet18", "--data-path", "{source}", "--output-dir", "{place}"],
    "inference_artist": ["--checkpoint", "{network}", "--input", "{source}", "--output", "{place}"],
    "predict_artist_multilabel": ["--checkpoint", "{network}", "--inputs", "{labelled}/a.png", "--output",
                                  "{place}"],
    "tools.build_gallery": ["--checkpoint", "{network}", "--images-dir", "{source}", "--gallery", "{place}"],
    "tools.extract_cluster_features": ["--checkpoint", "{network}", "--images-dir", "{source}", "--output-dir",
                                       "{place}"],
    "tools.merge_shards": ["--input", "{source}", "--output", "{place}"],
    "tools.corrupt_dataset": ["--input-dir", "{source}/val", "--output-dir", "{place}"],
    "tools.make_demo_dataset": ["--output-dir", "{place}"],
    "tools.generate_multilabel_csv": ["--input-dir", "{labelled}", "--output-csv", "{place}"],
    "tools.split_multilabel_dataset": ["--input-dir", "{labelled}", "--train-csv", "{source}/t.csv", "--val-csv",
                                       "{place}"]}


@pytest.mark.parametrize("module", WRITING)
def test_each_command_asks_for_the_lock(module: str, source: Path, tmp_path: Path, trained: Path,
                                        capsys: pytest.CaptureFixture[str]) -> None:
    place, labelled = tmp_path / "place.csv", tmp_path / "labelled"
    labelled.mkdir()
    shutil.copy(source / "val" / "artist_0" / "val_0.png", labelled / "a.png")
    (labelled / "a.txt").write_text("hand", encoding="utf-8")
    checkpoint = trained / "model_best.pth"
    if module == "predict_artist_multilabel":
        checkpoint = Path(__file__).parent / "old_outputs" / "multilabel_run" / "best_checkpoint.pth"
    flags = [flag.format(source=source, place=place, network=checkpoint, labelled=labelled) for flag in WRITING[module]]
    before = {path for path in tmp_path.rglob("*") if path != tmp_path / ".place.csv.lock"}
    with FileLock(tmp_path / ".place.csv.lock"):
        assert importlib.import_module(module).main(flags) == 2
    told = capsys.readouterr().err
    assert f"found {place}, to which another command is writing" in told
    assert told.count("\n") == 1
    assert {path for path in tmp_path.rglob("*") if path != tmp_path / ".place.csv.lock"} == before


def test_shards_are_of_several_machines(source: Path, tmp_path: Path, trained: Path,
                                        capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--checkpoint", str(trained / "model_best.pth"), "--input", str(source), "--output", str(tmp_path / "out"),
             *map(str, SMALL), "--shard"]
    (tmp_path / "out").mkdir()
    main = importlib.import_module("inference_artist").main
    with FileLock(tmp_path / "out" / ".shard_1_of_2.lock"):
        assert main([*flags, "1/2"]) == 2
        assert main([*flags, "2/2"]) == 0
    assert "shard_1_of_2, to which another command is writing" in capsys.readouterr().err


@OFTEN
def test_data_sets(source: Path, tmp_path: Path, times: int) -> None:
    output = tmp_path / "place" / "out"
    output.parent.mkdir()
    flags = ["--source-dir", source / "train", "--output-dir", output, "--min-images", 3, "--workers", 0, "--overwrite"]
    try_pair(Pair("prepare_dataset", flags, flags, output), times, 30)


@OFTEN
def test_results(source: Path, tmp_path: Path, trained: Path, times: int) -> None:
    output = tmp_path / "place" / "results"
    output.parent.mkdir()
    flags = ["--mode", "both", "--input", source / "train", "--output", output, "--checkpoint",
             trained / "model_best.pth", *SMALL]
    try_pair(Pair("inference_artist", flags, [*flags, "--resume"], output), times, 16)


@pytest.mark.exhaustive
def test_runs(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "place" / "run"
    output.parent.mkdir()
    flags = ["--data-path", source, "--output-dir", output, "--model", "test_efficientnet", "--input-size", 32,
             "--epochs", 2, *SMALL]
    try_pair(Pair("train_artist_style", flags, flags, output, COUNTED), 20, 40)


@OFTEN
def test_a_gallery_waits(source: Path, tmp_path: Path, trained: Path, run_script: Callable[..., Completed],
                         times: int) -> None:
    earlier, gallery = tmp_path / "earlier", tmp_path / "place" / "gallery"
    gallery.parent.mkdir()
    network = ["--checkpoint", trained / "model_best.pth", *SMALL]
    built = run_script("tools/build_gallery.py", "--gallery", earlier, "--images-dir", source / "train", *network)
    assert built.returncode == 0, built.stderr
    for name in ("one", "two"):
        shutil.copytree(source / "val" / "artist_0", source / name)
    pair = Pair("tools.build_gallery", ["--gallery", gallery, "--add", source / "one", *network],
                ["--gallery", gallery, "--add", source / "two", *network], gallery)
    randomly = random.Random(0)
    for _ in range(times):
        pair.clear()
        shutil.copytree(earlier, gallery)
        first = pair.start(0, randomly.randint(5, 30))
        first.wait_for()
        second = pair.start(1)
        second.wait_for("waiting for")
        assert "waiting for build_gallery.py (process " in (tmp_path / "place" / "1.log").read_text()
        assert [first.finish()[0], second.finish()[0]] == [0, 0]
        table = (gallery / "pictures.csv").read_text(encoding="utf-8")
        assert table.count(",one,") == table.count(",two,") == 2
        assert run_script("tools/build_gallery.py", "--gallery", gallery, "--remove", "one").returncode == 0
