"""From folders of artists to a network in one command: the trainer splits them itself, and resumes on that split."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import train_artist_multilabel
from data.prepare.dataset import read_split_info
from runtime.checkpoint import read_checkpoint
from runtime.next_step import interpreter
from tests.conftest import MODEL, ROOT
from tests.pictures import smooth_picture
from train_artist_style import main
from training import engine
from training.engine import Run

FAST = ["--model", MODEL, "--input-size", "32", "--batch-size", "8", "--num-workers", "0", "--device", "cpu"]


@pytest.fixture(autouse=True, scope="module")
def without_drawings() -> Iterator[None]:
    """They take longer than the training of these runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "training_curves", lambda *arguments: None)
        yield


def copy_artists(data_set: Path, folder: Path) -> Path:
    """Three artists with eight pictures each, one with two, and a loose picture."""
    shutil.copytree(data_set / "train", folder)
    (folder / "Rare").mkdir()
    for number, name in enumerate(("Rare/0.png", "Rare/1.png", "loose.png")):
        shutil.copy(data_set / "val" / "artist_0" / f"val_{number}.png", folder / name)
    return folder


@pytest.fixture
def artists(tmp_path: Path, data_set: Path) -> Path:
    return copy_artists(data_set, tmp_path / "my artists")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data_set: Path) -> Path:
    """The output folder of two unbroken epochs on such pictures. Tests leave it as it is."""
    folder = tmp_path_factory.mktemp("whole")
    assert train(copy_artists(data_set, folder / "artists"), folder / "run", "--epochs", 2) == 0
    return folder / "run"


def train(data: Path, run: Path, *flags: object) -> int:
    return main(["--data-path", str(data), "--output-dir", str(run), *FAST, *map(str, flags)])


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_folders_become_a_split_and_a_network(artists: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    artists = artists.relative_to(tmp_path)
    run = artists / "run"  # a second start passes over what the first one wrote
    assert train(artists, run, "--epochs", 1) == 0
    printed = capsys.readouterr().out
    assert "left out: the artist Rare (2 usable pictures, fewer than 3)\n" in printed
    assert "passed over: 1 (a picture in no artist's folder): loose.png\n" in printed
    files = read_split_info(run / "split")
    assert {side: len(names) for side, names in files.items()} == {"train": 18, "val": 6}
    for side, names in files.items():
        for name, source in names.items():
            assert (run / "split" / side / name).samefile(artists / source)
    assert printed.splitlines()[-1] == (
        f"next: {interpreter()} {ROOT / 'tools/calibrate.py'} --checkpoint 'my artists/run/model_best.pth' --data-path "
        "'my artists/run/split'")
    assert "next:" not in (run / "train_log.txt").read_text(encoding="utf-8")
    first = tree(run / "split")
    smooth_picture(np.random.default_rng(0)).save(artists / "artist_0" / "new.png")
    assert train(artists, run, "--epochs", 1) == 0
    assert tree(run / "previous_1" / "split") == first
    assert "artist_0/new.png" in read_split_info(run / "split")["train"].values()
    assert "the artist run " not in capsys.readouterr().out
    assert main(["--data-path", str(artists), "--eval", "--resume", str(run / "previous_1" / "model_best.pth")]) == 0
    assert "* top-1" in capsys.readouterr().out


@pytest.mark.parametrize("links", [True, False])
def test_a_resume_takes_the_split_of_its_run(artists: Path, whole: Path, tmp_path: Path, monkeypatch, capsys,
                                             *, links: bool) -> None:
    """Bit for bit, as the unbroken run ends, and whatever was added meanwhile."""
    if not links:
        def refuse(*paths: object) -> None:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

        monkeypatch.setattr(os, "link", refuse)
    train_epoch = Run.train_epoch

    def interrupt(run: Run, *arguments: object) -> dict[str, float]:
        if run.state.position.epoch == 1:
            raise KeyboardInterrupt
        return train_epoch(run, *arguments)

    broken = tmp_path / "broken"
    with monkeypatch.context() as patch:
        patch.setattr(Run, "train_epoch", interrupt)
        assert train(artists, broken, "--epochs", 2, "--resume", "auto") == 130
    before = tree(broken / "split")
    assert (broken / "split" / "train").exists() == links
    smooth_picture(np.random.default_rng(0)).save(artists / "artist_0" / "new.png")
    capsys.readouterr()
    assert train(artists, broken, "--epochs", 2, "--resume", "auto") == 0
    assert f"goes on with the split that the run began with, of {artists}\n" in capsys.readouterr().out
    after = tree(broken / "split")
    after.pop(".image_scan.json", None)
    assert after == before
    one, other = (read_checkpoint(run / "checkpoint.pth").content for run in (whole, broken))
    assert one["best_metric"] == other["best_metric"]
    assert all(torch.equal(one["model"][key], other["model"][key]) for key in one["model"])


def test_what_is_no_folder_of_artists_is_refused_and_nothing_is_lost(artists: Path, whole: Path, tmp_path: Path,
                                                                         capsys) -> None:
    run, one = Path(shutil.copytree(whole, tmp_path / "run")), tmp_path / "one"
    shutil.copytree(artists / "artist_0", one / "artist_0")
    shutil.copytree(artists / "Rare", one / "Rare")
    before = tree(run)
    for folder, complaint in (
            (one, "1 artist with at least 3 usable pictures"), (artists / "artist_0", "no artist folder in"),
            (tmp_path / "missing", "no folder"), (run / "split" / "train", "in the split of --output-dir")):
        capsys.readouterr()
        assert train(folder, run, "--epochs", 1) == 2
        assert complaint in capsys.readouterr().err
        assert tree(run) == before
    for picture in sorted((artists / "artist_0").iterdir())[:-2]:
        picture.write_bytes(b"damaged")
    shutil.rmtree(artists / "artist_1")
    assert train(artists, run, "--epochs", 1) == 2
    told = capsys.readouterr()
    assert "left out: artist_0/train_0.png (no picture in a known format)\n" in told.out
    assert "(pictures by folder: artist_2 8, Rare 2, artist_0 2)" in told.err
    assert tree(run) == before


def test_a_folder_of_the_users_is_not_replaced(artists: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "run" / "split").mkdir(parents=True)
    (tmp_path / "run" / "split" / "notes.txt").write_text("mine")
    assert train(artists, tmp_path / "run", "--epochs", 1) == 2
    assert "which no run made" in capsys.readouterr().err
    assert tree(tmp_path / "run") == {"split/notes.txt": b"mine"}


def test_the_split_that_a_run_reads_stays_where_it_is(whole: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    before = tree(run / "split")
    assert train(run / "split", run, "--epochs", 1) == 0
    assert {name: content for name, content in tree(run / "split").items() if name in before} == before
    assert (run / "previous_1" / "model_best.pth").exists()


def test_the_multilabel_trainer_says_what_it_needs_instead(artists: Path, capsys) -> None:
    assert train_artist_multilabel.main(["--data-path", str(artists)]) == 2
    told = capsys.readouterr().err
    assert told.startswith("train_artist_multilabel.py: found no --train-ann and --val-ann; expected ")
    assert f"tools/split_multilabel_dataset.py --input-dir {artists}; folders of one artist each" in told
