"""A page about a run, as training writes it and as a user asks for it."""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data.csv_files import write_rows
from data.train_val import open_train, open_val
from drawing.inline import jpeg_text
from evaluation.report import COLUMNS
from inference.explanations import ClassMaps
from inference.predictor import Predictor
from runtime.checkpoint import read_checkpoint, save_checkpoint
from runtime.options import ExplainOptions, InferenceOptions
from tests.conftest import MODEL, Completed
from tests.pictures import write_annotated_set
from tools.report import main
from training.report_maps import ReportMaps
from training.report_page import report_ended_run, write_report_page
from training.reported_run import ReportedRun

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SECTIONS = ["What was trained on what", "Curves", "Confusion", "Most often confused", "Surest errors", "Reliability",
            "Map of the validation pictures", "The same picture on both sides", "Artists", "Go on"]
ROWS = [(0, "<b>A & B</b>", 40, 90, "0.5", "0.8000", "C", 18), (1, "C", 4, 10, "0.5", "0.4000", "<b>A & B</b>", 6)]


def make_run(folder: Path, rows: list[tuple[object, ...]]) -> Path:
    """A run's files: one epoch, and a table of artists."""
    folder.mkdir()
    (folder / "metrics.jsonl").write_text('{"epoch": 1, "train_loss": 1.5, "lr": 0.1, "val_top1": 62.5}\n')
    write_rows(folder / "report.csv", [COLUMNS, *rows])
    return folder


def add_answers(run: Path, classes: list[str], files: list[str], **other: object) -> None:
    """Answers that take each picture of class n for one of class n + 1."""
    count = len(classes)
    (run / "validation.json").write_text(json.dumps({
        "task": "classification", "classes": classes, "made": {}, "folder": "/elsewhere", "mapped": [], "train": [],
        "pictures": [{"name": file, "file": file, "labels": [number % count], "own": [0.1],
                      "answers": [[(number + 1) % count, 0.9]]} for number, file in enumerate(files)], **other}))


def page_of(run: Path) -> str:
    return html.unescape((run / "report.html").read_text(encoding="utf-8"))


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained run that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_training_writes_a_page_that_needs_no_other_file(trained: Path) -> None:
    page = (trained / "report.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in page
    assert not re.search(r"""\s(src|href)=["']?(?!["']?data:)|url\(|@import|https?:""", page)
    assert [title for title in re.findall("<h2>(.*?)</h2>", page)] == SECTIONS
    assert "data:image/jpeg" in page
    assert "not shown" not in page
    assert re.search("hardware<td>.+software<td>PyTorch .+best evaluation<td>20", page)
    assert "24 to train, 12 to validate" in page
    assert "--epochs<td>2<" in page
    commands = [html.unescape(command) for command in re.findall("<pre>(.*?)</pre>", page)]
    assert [re.search(r"(\w+)\.py ", command)[1] for command in commands] == ["inference_artist", "calibrate", "report"]


def test_the_answers_are_those_of_the_best_evaluation(trained: Path, data_set: Path) -> None:
    answers, run = ReportedRun.read(trained).answers, ReportedRun.read(trained)
    assert [picture.name for picture in answers.pictures] == [
        path.relative_to(data_set / "val").as_posix() for path in sorted((data_set / "val").glob("*/*"))]
    right = [picture.labels[0] == picture.answers[0][0] for picture in answers.pictures]
    assert 100 * np.mean(right) == pytest.approx(max(record["val_top1"] for record in run.records))
    assert len(answers.read_features(trained)) == len(answers.mapped) == 12
    assert all((data_set / picture.file).is_file() for picture in answers.pictures)
    assert sorted(answers.train) == sorted(path.relative_to(data_set).as_posix() for path in data_set.glob("train/*/*"))


def test_a_user_asks_for_a_page_without_pictures_and_with_them(copied: Path, data_set: Path,
                                                               run_script: Callable[..., Completed]) -> None:
    done = run_script("tools/report.py", copied)
    assert done.returncode == 0, done.stderr
    assert "The page has no pictures" in done.stdout
    assert "next: " in done.stdout.splitlines()[-1]
    assert "data:image/jpeg" not in page_of(copied)
    assert "Surest errors" in page_of(copied)
    assert main([str(copied), "--data-path", str(data_set)]) == 0
    assert page_of(copied).count("data:image/jpeg") == len(re.findall('<img alt="(?:class map)?"', page_of(copied)))


def test_pictures_that_are_gone_are_said(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert main([str(copied), "--data-path", str(tmp_path / "empty")]) == 0
    assert re.search(r"\d+ pictures could not be read in", capsys.readouterr().out)
    assert "not shown" in page_of(copied)
    assert main([str(copied), "--data-path", str(tmp_path / "none")]) == 2
    assert "no folder" in capsys.readouterr().err


def test_copies_on_both_sides_are_found(copied: Path, data_set: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(data_set, tmp_path / "data"))
    shutil.copy(data / "train/artist_1/train_3.png", data / "val/artist_2/val_1.png")
    assert main([str(copied), "--data-path", str(data)]) == 0
    page = page_of(copied)
    assert "1 found." in page
    group = page[page.index("The same picture on both sides"):page.index("<h2>Artists")]
    assert re.findall("<small>(.*?)</small>", group) == ["train/artist_1/train_3.png", "val/artist_2/val_1.png"]
    assert "validation: artist_2" in group


def test_a_file_names_no_file_outside_the_data_set(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for path in (tmp_path / "secret.png", tmp_path / "data" / "own.png"):
        Image.new("RGB", (8, 8)).save(path)
    run = make_run(tmp_path / "run", ROWS)
    add_answers(run, ["A", "C"], ["../secret.png", str(tmp_path / "secret.png"), "own.png"], folder=str(tmp_path))
    assert main([str(run), "--data-path", str(tmp_path / "data")]) == 0
    assert len(set(re.findall('base64,([^"]+)', page_of(run)))) == 1


@pytest.mark.parametrize("change", [{"classes": ["A"]}, {"mapped": [7]}, {"pictures": []}, {"task": "other"}])
def test_answers_that_contradict_themselves_are_refused(change: dict[str, Any], tmp_path: Path,
                                                        capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run", ROWS)
    add_answers(run, ["A", "C"], ["x.png", "y.png"])
    content = json.loads((run / "validation.json").read_text())
    (run / "validation.json").write_text(json.dumps({**content, **change}))
    assert main([str(run)]) == 2
    assert "validation.json" in capsys.readouterr().err
    assert not (run / "report.html").exists()


def test_a_page_that_cannot_be_written_is_a_line_and_no_failure(copied: Path, data_set: Path) -> None:
    train_set = open_train(data_set, max_pixels=1000 * 1000)
    sets = train_set, open_val(data_set, train_set.classes, max_pixels=1000 * 1000)
    (copied / "report.html").unlink()
    assert report_ended_run(copied, data_set, *sets) == []
    assert (copied / "report.html").exists()
    (copied / "validation.json").write_text("{")
    line, = report_ended_run(copied, data_set, *sets)
    assert line.startswith("no report.html (")
    assert line.endswith("tools/report.py writes it")


def test_the_surest_errors_have_maps_of_what_was_told(copied: Path, data_set: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    content = json.loads((copied / "validation.json").read_text())
    for picture in content["pictures"]:  # as if all were taken for the next artist
        picture |= {"answers": [[(picture["labels"][0] + 1) % 3, 0.9]], "own": [0.1]}
    (copied / "validation.json").write_text(json.dumps(content))
    monkeypatch.setattr("training.report_page.MOST_SHOWN", 5)
    asked: list[int] = []
    inner = ReportMaps.draw
    monkeypatch.setattr(ReportMaps, "draw", lambda maps, *what: asked.append(what[1]) or inner(maps, *what))
    write_report_page(copied / "report.html", [ReportedRun.read(copied)], folder=data_set, most_maps=7)
    page = page_of(copied)
    assert asked[:5] == [picture["answers"][0][0] for picture in content["pictures"][:5]]
    drawn = {*re.findall('alt="class map" src="data:image/jpeg;base64,([^"]+)"', page)}
    assert len(drawn) == 7  # of 5 errors and 9 of pairs, in part the same
    assert "The second picture is the class map" in page
    maps = ReportMaps.of(ReportedRun.read(copied), 1)
    expected = ClassMaps(Predictor.from_checkpoint(copied / "model_best.pth"), ExplainOptions(
        explain=copied, explain_artist=f"artist_{asked[0]}"), InferenceOptions())
    tile = expected(data_set / content["pictures"][0]["file"], {}).tiles[1].picture
    assert jpeg_text(tile, 144) in drawn
    assert maps.draw(data_set / content["pictures"][0]["file"], asked[0], 144, 10**6) in drawn
    assert maps.draw(data_set / content["pictures"][0]["file"], asked[0], 144, 10**6) == ""  # only one was allowed


def test_a_network_without_maps_or_with_other_classes_has_a_page_without(copied: Path, data_set: Path) -> None:
    checkpoint = read_checkpoint(copied / "model_best.pth")
    weights = {name: each.zero_() if name == "classifier.weight" else each for name, each in checkpoint.model.items()}
    save_checkpoint(copied / "model_best.pth", {**checkpoint.content, "model": weights, "model_ema": None})
    assert ReportMaps.of(ReportedRun.read(copied), 9) is None
    assert main([str(copied), "--data-path", str(data_set)]) == 0
    assert "class map" not in page_of(copied)


def test_ten_thousand_artists_stay_below_five_megabytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = [f"<i>{'name ' * 12}{number}" for number in range(10_000)]
    files = [f"{number}.png" for number in range(150)]
    for file in files:
        Image.fromarray(rng.integers(0, 256, (150, 300, 3), dtype=np.uint8)).save(tmp_path / file)
    run = make_run(tmp_path / "run", [(number, name, 5, 1, "0", "0", names[number - 1], 1)
                                      for number, name in enumerate(names)])
    add_answers(run, names, files * 10)
    assert main([str(run), "--data-path", str(tmp_path)]) == 0
    assert (run / "report.html").stat().st_size <= 5e6
    assert re.search(r"\d+ more are\sin report.csv", page_of(run))


def test_intervals_agree_with_pictures_drawn_again(tmp_path: Path) -> None:
    run = ReportedRun.read(make_run(tmp_path / "run", ROWS))
    right = np.repeat([1, 0, 1, 0], [72, 18, 4, 6])
    drawn = right[np.random.default_rng(1).integers(0, 100, (20000, 100))].mean(1)
    share, *ends = (float(each) for each in re.findall(r"[\d.]+(?=%)", run.accuracy))
    assert share == pytest.approx(76)
    assert ends == pytest.approx((100 * np.percentile(drawn, [2.5, 97.5])).tolist(), abs=1.01)
    assert run.balanced.startswith("60.0% (")


def test_names_are_escaped_and_other_pictures_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, same = make_run(tmp_path / "run", ROWS), make_run(tmp_path / "same", ROWS)
    other = make_run(tmp_path / "other", ROWS[:1])
    add_answers(run, ["<b>A & B</b>", "C"], ["<script>alert(1)</script>.png", "y.png"])
    assert main([str(run), "--compare", str(same), str(other)]) == 0
    told = capsys.readouterr().out
    assert "other has other validation pictures" in told
    assert "same has" not in told
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "<b>A" not in page
    assert "&lt;b&gt;A &amp; B" in page
    assert "<script>alert" not in page


def test_other_pictures_are_named_though_they_are_as_many(trained: Path, copied: Path,
                                                          capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(copied), "--compare", str(trained)]) == 0
    assert "cannot be compared" not in capsys.readouterr().out
    content = read_checkpoint(copied / "checkpoint.pth").content
    content["pictures"]["val"][0] += 1
    save_checkpoint(copied / "checkpoint.pth", content)
    assert main([str(trained), "--compare", str(copied), "--output", str(copied / "page.html")]) == 0
    assert "run has other validation pictures (11 of 12 pictures are the same)" in capsys.readouterr().out


def test_a_multi_label_run_gets_a_page(tmp_path: Path, run_script: Callable[..., Completed]) -> None:
    data, run = write_annotated_set(tmp_path / "data"), tmp_path / "run"
    done = run_script("train_artist_multilabel.py", "--model", MODEL, "--data-path", data / "pictures", "--train-ann",
                      data / "train.csv", "--val-ann", data / "val.csv", "--output-dir", run, "--input-size", 32,
                      "--epochs", 1, "--batch-size", 8, "--num_workers", 0)
    assert done.returncode == 0, done.stderr
    found, page = ReportedRun.read(run), page_of(run)
    share, low, high = (float(each) for each in re.findall(r"[\d.]+(?=%)", found.accuracy))
    assert share == pytest.approx(found.records[0]["val_macro_map"], abs=0.051)
    assert low < share < high
    assert f"macro mAP (95 % interval)</tr> <tr><td>run<td>{MODEL}" in " ".join(page.split())
    assert "data:image/jpeg" in page
    assert "not shown" not in page
    assert "<h2>Labels" in page
    assert "predict_artist_multilabel.py" in page


def test_a_run_without_an_evaluation_and_a_wrong_table_are_refused(tmp_path: Path,
                                                                   capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "no metrics.jsonl" in capsys.readouterr().err
    run = make_run(tmp_path / "run", [(0, "A", 1, 3, "", "nan", "", 0)])
    assert main([str(run)]) == 2
    assert "recall nan" in capsys.readouterr().err
    assert not (run / "report.html").exists()


def test_an_interrupted_run_gets_a_page(copied: Path) -> None:
    for name in ("report.html", "model_best.pth", "best_checkpoint.pth", "report.csv", "validation.json",
                 "validation.npy", "confusion.png", "curves.png"):
        (copied / name).unlink()
    (copied / "metrics.jsonl").write_text('{"epoch": 1, "train_loss": 1.5, "lr": 0.1}\n{"epoch": 2, "train_lo')
    assert main([str(copied)]) == 0
    page = page_of(copied)
    assert "it ended before its first evaluation" in " ".join(page.split())
    assert "epochs<td>1 of 2<" in page


def test_a_run_without_classes_gets_a_page_without_their_table(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [])
    (run / "report.csv").unlink()
    assert main([str(run)]) == 0
    page = page_of(run)
    assert "top-1 62.50" in page
    assert not re.search("<h2>Artists|first evaluation|interval", page)


# ---- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (apt install chromium)")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_in_a_browser_and_its_table_sorts(browser: Any, scheme: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [(0, "Ä", 40, 9, "1", "0.8", "", 0), (1, "B", 4, 10, "", "", "", 0),
                                      (2, "Z", 100, 1, "1", "0.25", "", 0)])
    add_answers(run, ["Ä", "B", "Z"], ["1.png", "2.png", "3.png"])
    assert main([str(run)]) == 0
    page = browser.new_context(color_scheme=scheme, viewport={"width": 390, "height": 800}).new_page()
    complaints: list[str] = []
    page.on("request", lambda request: complaints.append(request.url) if not request.url.startswith(
        ("file:", "data:")) else None)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto((run / "report.html").as_uri())
    column = page.locator("#artists tbody td:nth-child(3)")
    assert column.all_inner_texts() == ["40", "4", "100"]
    page.get_by_role("button", name="train count").click()
    assert column.all_inner_texts() == ["4", "40", "100"]
    page.get_by_role("button", name="train count").click()
    assert column.all_inner_texts() == ["100", "40", "4"]
    page.get_by_role("button", name="artist", exact=True).click()
    assert page.locator("#artists tbody td:nth-child(2)").all_inner_texts() == ["Ä", "B", "Z"]
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(24, 26, 29)")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert not complaints
    page.context.close()
