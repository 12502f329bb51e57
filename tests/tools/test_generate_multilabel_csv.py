"""The annotation file of a folder, as users ask for it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from data.multilabel.annotations import Annotation, AnnotationRules, read_annotations
from tools.generate_multilabel_csv import main


@pytest.fixture
def mix(tmp_path: Path) -> Path:
    for name, labels in (("a", "one,(re:zero:1.4)"), ("sub/b", "画家\none\n"), ("c", None)):
        path = tmp_path / "mix" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(path)
        if labels:
            path.with_suffix(".txt").write_text(labels, encoding="utf-8")
    return tmp_path / "mix"


def generate(mix: Path, *more: object) -> int:
    return main(["--input-dir", str(mix), "--output-csv", str(mix.parent / "ann" / "all.csv"), *map(str, more)])


def read(mix: Path, delimiter: str = ",") -> list[Annotation]:
    return read_annotations(mix.parent / "ann" / "all.csv", AnnotationRules(root=mix, delimiter=delimiter))[0]


def test_the_documented_command_writes_what_training_reads(mix: Path, run_script) -> None:
    done = run_script("tools/generate_multilabel_csv.py", "--input-dir", mix, "--output-csv",
                      mix.parent / "ann" / "all.csv", "--recursive")
    assert done.returncode == 0, done.stderr
    assert "left out: c.png (no c.txt)" in done.stdout
    assert "2 pictures with 3 labels" in done.stdout
    assert read(mix) == [Annotation((mix / "a.png").as_posix(), {"one": 1.0, "re:zero": 1.4}),
                         Annotation((mix / "sub/b.png").as_posix(), {"画家": 1.0, "one": 1.0})]


def test_relative_paths_and_no_sub_folders(mix: Path) -> None:
    assert generate(mix, "--relative-paths", "--no-recursive") == 0
    assert read(mix) == [Annotation("a.png", {"one": 1.0, "re:zero": 1.4})]


def test_folders_are_labels_on_request(mix: Path, capsys: pytest.CaptureFixture) -> None:
    (mix / "画家 2" / "early").mkdir(parents=True)
    Image.new("RGB", (2, 2)).save(mix / "画家 2" / "early" / "d.png")
    assert generate(mix, "--labels-from", "folders", "--relative-paths") == 0
    assert read(mix) == [Annotation("sub/b.png", {"sub": 1.0}), Annotation("画家 2/early/d.png", {"画家 2": 1.0})]
    told = capsys.readouterr().out
    assert "left out: a.png (in no artist's folder)" in told
    assert "--labels-from folders" in told.splitlines()[-1]
    assert main(["--input-dir", str(mix / "sub"), "--output-csv", str(mix / "x.csv"), "--labels-from", "folders"]) == 2
    assert "expected a folder of pictures per artist" in capsys.readouterr().err


def test_the_delimiter_is_read_and_written(mix: Path) -> None:
    (mix / "a.txt").write_text("Bosch, H;x")
    assert generate(mix, "--label-delimiter", ";", "--relative-paths") == 0
    assert read(mix, ";") == [Annotation("a.png", {"Bosch, H": 1.0, "x": 1.0})]


def test_a_label_file_with_an_error_stops_or_is_skipped(mix: Path, capsys: pytest.CaptureFixture) -> None:
    (mix / "a.txt").write_text("(x:0)")
    assert generate(mix, "--recursive") == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "a.txt, line 1" in told
    assert not (mix.parent / "ann").exists()
    assert generate(mix, "--recursive", "--skip-invalid", "--relative-paths") == 3
    assert "a.txt, line 1" in capsys.readouterr().out
    assert [annotation.path for annotation in read(mix)] == ["sub/b.png"]


def test_an_earlier_file_is_replaced_only_on_request(mix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert generate(mix) == 0
    (mix / "a.txt").write_text("two")
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert generate(mix) == 2
    assert read(mix)[0].labels == {"one": 1.0, "re:zero": 1.4}
    assert generate(mix, "--overwrite") == 0
    assert read(mix)[0].labels == {"two": 1.0}


@pytest.mark.parametrize(("text", "flags", "labels"), [
    ("['b', 'a c']", ["--label-format", "json"], {"b": 1.0, "a c": 1.0}),
    (r"1girl miku_\(vocaloid\)", ["--label-format", "danbooru"], {"1girl": 1.0, "miku_(vocaloid)": 1.0}),
    (r"1girl, miku \(vocaloid\),", ["--normalize-tags"], {"1girl": 1.0, "miku_(vocaloid)": 1.0})])
def test_text_of_other_programs_needs_its_name(mix: Path, capsys: pytest.CaptureFixture, text: str, flags: list[str],
                                               labels: dict[str, float]) -> None:
    (mix / "a.txt").write_text(text)
    assert generate(mix) == 2
    assert "--label-format" in capsys.readouterr().err
    assert not (mix.parent / "ann").exists()
    assert generate(mix, *flags, "--relative-paths") == 0
    assert read(mix) == [Annotation("a.png", labels)]
