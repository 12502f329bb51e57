"""Two annotation files from one folder, as users ask for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data.multilabel.annotations import AnnotationRules, read_annotations
from tests.pictures import stroke_picture
from tools.split_multilabel_dataset import main


@pytest.fixture
def mix(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for number in range(24):
        path = tmp_path / "mix" / ("sub" if number % 2 else "") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        stroke_picture(number / 8, generator).save(path)
        path.with_suffix(".txt").write_text(f"(hand {number % 3}:1.5)\nhand {number % 4}", encoding="utf-8")
    (tmp_path / "mix" / "0.txt").write_text("once", encoding="utf-8")
    return tmp_path / "mix"


def arguments(mix: Path) -> list[str]:
    return ["--input-dir", str(mix), "--train-csv", str(mix.parent / "train.csv"), "--val-csv",
            str(mix.parent / "val.csv"), "--val-ratio", "0.2", "--min-label-count", "5", "--relative-paths",
            "--recursive", "--workers", "0"]


def read(mix: Path) -> list[dict[str, dict[str, float]]]:
    rules = AnnotationRules(root=mix)
    return [dict(read_annotations(mix.parent / name, rules)[0]) for name in ("train.csv", "val.csv")]


def test_the_documented_command_puts_every_label_on_both_sides(mix: Path, run_script) -> None:
    done = run_script("tools/split_multilabel_dataset.py", *arguments(mix))
    assert done.returncode == 0, done.stderr
    assert "dropped: the label once (1 picture)" in done.stdout
    assert "left out: 0.png (all its labels are rare)" in done.stdout
    train, val = read(mix)
    assert len(train) + len(val) == 23
    assert not train.keys() & val.keys()
    assert all((mix / name).is_file() for name in [*train, *val])
    for side in (train, val):
        assert {label for labels in side.values() for label in labels} == {f"hand {number}" for number in range(4)}


def test_the_seed_repeats_and_changes_the_split(mix: Path) -> None:
    assert main(arguments(mix)) == 0
    first = read(mix)
    assert main([*arguments(mix), "--overwrite"]) == 0
    assert read(mix) == first
    assert main([*arguments(mix), "--overwrite", "--seed", "1"]) == 0
    assert read(mix) != first


def test_damaged_pictures_are_listed_and_copies_stay_on_one_side(mix: Path, capsys: pytest.CaptureFixture) -> None:
    (mix / "2.png").write_bytes(b"bad")
    (mix / "copy.png").write_bytes((mix / "4.png").read_bytes())
    (mix / "copy.txt").write_text("hand 0")
    assert main(arguments(mix)) == 3
    told = capsys.readouterr().out
    assert "left out: 2.png (no picture in a known format)" in told
    assert "left out: copy.png (same file as 4.png, labelled otherwise)" in told
    assert not {"2.png", "copy.png"} & (read(mix)[0].keys() | read(mix)[1].keys())


def test_tags_are_split_in_their_normal_form(mix: Path) -> None:
    assert main([*arguments(mix), "--normalize-tags", "--label-format", "csv"]) == 0
    assert {label for side in read(mix) for labels in side.values() for label in labels} == {
        f"hand_{number}" for number in range(4)}


@pytest.mark.parametrize(("more", "told"), [
    (["--min-label-count", "99"], "lower --min-label-count"), (["--val-ratio", "1"], "--val-ratio 1"),
    (["--label-delimiter", "a"], "--label-delimiter"), (["--input-dir", "nowhere"], "nowhere"),
    (["--val-csv", "{mix}/0.txt"], "ends in .csv")])
def test_bad_input_gets_one_line_and_no_file(mix: Path, capsys: pytest.CaptureFixture, more: list[str],
                                             told: str) -> None:
    assert main([*arguments(mix), *(word.format(mix=mix) for word in more)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert told in error
    assert not list(mix.parent.glob("*.csv"))
