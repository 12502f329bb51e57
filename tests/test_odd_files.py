"""Whatever a side file holds, or is: commands answer, or refuse it in one line, and write nowhere else.

Cases run in children that are forked after the imports, with limits of time and memory.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.class_mapping import read_class_mapping, write_class_mapping
from data.multilabel.annotations import AnnotationRules, read_annotations
from data.output_folder import new_folder
from data.prepare.integrity import SCAN_CACHE, scan_images
from evaluation.calibration import Calibration
from evaluation.thresholds import read_thresholds
from evaluation.unknown_scores import Scorer
from inference.journal import Journal
from inference.modes import MODES
from inference.records import write_results
from runtime.logbook import Logbook
from runtime.options import ResultOptions
from search.gallery import Gallery, write_gallery
from search.vectors import FeatureSpace, write_features
from tests.odd_files import spoil
from tools.build_gallery import main as build_gallery
from tools.compare_vectors import main as compare
from tools.evaluate_retrieval import main as evaluate
from tools.extract_cluster_features import main as cluster
from tools.merge_shards import main as merge
from tools.plot_log import main as plot
from tools.report import main as report
from utils import command, write_json

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no fork, and no pipes in folders")

NAMES = [f"{artist}/{number}.png" for artist in "abc" for number in range(2)]
ROWS = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
SECONDS, MEMORY = 20, 4 * 2**30  # of a case; beyond what the process has before
Work = Callable[[Path, Path, random.Random], int]


# ---- for each format: sound files, and a command that reads them -----------------------------------------------------


def make_vectors(folder: Path) -> None:
    write_features(folder, NAMES, ROWS, FeatureSpace())
    np.savez(folder / "x.npz", features=ROWS, image_names=np.array(NAMES))
    records = {name: {"features": row.tolist()} for name, row in zip(NAMES, ROWS, strict=True)}
    write_json(folder / "batch.json", records)
    write_json(folder / "one.json", {"classification": [], "features": ROWS[0].tolist()})
    write_json(folder / "rows.json", ROWS.tolist())
    write_json(folder / "clusters.json", {"clusters": [{"cluster_id": 0, "centroid": ROWS[0].tolist()}]})
    (folder / "x.jsonl").write_text("".join(json.dumps({"image": name, **record}) + "\n"
                                            for name, record in records.items()))


def file_of(folder: Path, rng: random.Random) -> str:
    """The folder's odd file, or what it belongs to."""
    name = (folder / "odd.name").read_text()
    return str(folder / ("features.npy" if name == "image_names.txt" else name))


def compared(folder: Path, output: Path, rng: random.Random) -> int:
    pair = [file_of(folder, rng), str(folder / "rows.json")]
    rng.shuffle(pair)
    return compare(["--query-vector", pair[0], "--reference-vectors", pair[1], "--metric",
                    rng.choice(["cosine", "dot", "l2"]), "--output", str(output / "s.json")])


def clustered(folder: Path, output: Path, rng: random.Random) -> int:
    how = rng.choice([["--num-clusters", "2"], ["--num-clusters", "auto", "--min-cluster-size", "2"],
                      ["--algorithm", "hdbscan", "--min-cluster-size", "2"],
                      ["--num-clusters", "2", "--algorithm", "minibatch"]])
    return cluster(["--features", file_of(folder, rng), "--output-dir", str(output), "--projection",
                    rng.choice(["tsne", "pca"]), *how])


def make_gallery(folder: Path) -> None:
    write_gallery(folder / "gallery", Gallery(space=FeatureSpace(model="0123"), images=NAMES,
                                              artists=[name[0] for name in NAMES], features=ROWS), overwrite=False)
    write_features(folder, NAMES, ROWS, FeatureSpace())


def exported(folder: Path, output: Path, rng: random.Random) -> int:
    return build_gallery(["--gallery", str(folder / "gallery"), "--export", str(output)])


def judged(folder: Path, output: Path, rng: random.Random) -> int:
    return evaluate(["--gallery", str(folder / "gallery"), "--features", str(folder), "--output",
                     str(output / "judged.json")])


def make_journal(folder: Path, number: int, count: int, mode: str = "both") -> Journal:
    journal = Journal.begin(folder, {"pictures": 3, "mode": mode, "shard": f"{number}/{count}", "model": "0123"})
    journal.extend(((name, {"classification": [{"class_id": 0, "class_name": "a", "probability": 0.5}],
                            "verdict": "possible", "features": row.tolist()} if row[0] > -0.5 else {"error": "cut"})
                    for name, row in zip(NAMES[3 * number - 3:3 * number], ROWS[3 * number - 3:], strict=False)),
                   batch_size=1)
    return journal


def make_shards(folder: Path) -> None:
    for number in (1, 2):
        make_journal(folder / f"shard_{number}_of_2", number, 2)


def merged(folder: Path, output: Path, rng: random.Random) -> int:
    return merge(["--input", str(folder), "--output", str(output), "--format", rng.choice(["json", "jsonl", "csv"]),
                  "--features-format", rng.choice(["npy", "npz"])])


def as_command(work: Callable[[], Any]) -> int:
    """The exit code of `work` in a command."""

    @command
    def main(argv: list[str] | None = None) -> int:
        work()
        return 0

    return main([])


def resumed(folder: Path, output: Path, rng: random.Random) -> int:
    def work() -> None:
        about = {"pictures": 3, "mode": "both", "shard": "1/1", "model": "0123"}
        journal = Journal.resume(folder / ".unfinished", about, batch_size=1)
        journal.extend([(f"new{number}.png", {"error": "cut"}) for number in range(journal.done, 3)], batch_size=1)
        write_results([journal], output, ResultOptions(), MODES["both"])

    return as_command(work)


def make_scored(folder: Path) -> None:
    scorer = Scorer("style", 2.0, {"mean": np.ones((1, 3)), "within": np.ones((2, 3)), "total": np.ones((2, 3)),
                                   "artists": np.ones((4, 2))})
    Calibration(fingerprint="abc", view="default", temperature=2.0, confident=0.9, possible=-4.0, error_rate=0.05,
                score="style").write(folder / "calibration.json", {"ece": 0.1}, scorer)


def calibrated(folder: Path, output: Path, rng: random.Random) -> int:
    def work() -> None:
        found = Calibration.beside(folder, "abc", "default")
        if found:
            score, = found.read_scorer(folder).score(np.ones((1, 2)), np.ones((1, 3), np.float32))
            assert found.verdict(0.5, score) in ("confident", "possible", "unknown")

    return as_command(work)


def make_log(folder: Path) -> None:
    figures = {"train_loss": 2.0, "val_loss": 1.0, "val_top1": 50.0, "lr": 0.1}
    lines = [json.dumps({"epoch": epoch, **figures}) for epoch in (1, 2, 3)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def logged(folder: Path, output: Path, rng: random.Random) -> int:
    return as_command(lambda: Logbook._drop_records_after(folder / "metrics.jsonl", 2))


def make_tables(folder: Path) -> None:
    write_class_mapping(folder / "class_mapping.csv", ["a", "b"])
    (folder / "thresholds.csv").write_text("class_id,class_name,threshold,ap,f1\n0,a,0.5,1,1\n1,b,0.25,,\n")
    (folder / "pictures.csv").write_text("image_path,labels\n1.png,a;b\n2.png,(a:0.5)\n")
    write_json(folder / SCAN_CACHE, {"made_with": {"format": 1}, "files": {"/x": [1, 2, None], "/y": [1, 2, "cut"]}})
    with new_folder(folder / "earlier", made_by="a test", overwrite=True) as building:
        (building / "x.txt").write_text("x")


def tabled(folder: Path, output: Path, rng: random.Random) -> int:
    def work() -> None:
        if (folder / "odd.name").read_text() == "earlier/.lsnet_output.json":
            with new_folder(folder / "earlier", made_by="a test", overwrite=True):
                pass
        scan_images([folder / "nothing.png"], cache=folder / SCAN_CACHE)
        read_thresholds(folder / "thresholds.csv", ["a", "b"])
        read_class_mapping(folder / "class_mapping.csv")
        read_annotations(folder / "pictures.csv", AnnotationRules(root=folder, delimiter=";"))

    return as_command(work)


def plotted(folder: Path, output: Path, rng: random.Random) -> int:
    return plot([str(folder / "metrics.jsonl"), "--output", str(output / "curves.png")])


def make_report(folder: Path) -> None:
    make_log(folder)
    columns = "id,artist,train_count,support,precision,recall,most_often_taken_for,times_taken_for\n"
    (folder / "report.csv").write_text(f"{columns}0,a,3,2,1,0.5,b,1\n1,b,3,1,0.5,1,,0\n")
    pictures = [{"name": name, "file": name, "labels": [label], "own": [0.4], "answers": [[0, 0.6], [1, 0.4]]}
                for name, label in zip(NAMES, (0, 1, 0, 1, 0, 1), strict=True)]
    write_json(folder / "validation.json", {
        "task": "classification", "classes": ["a", "b"], "made": {"date": "today"}, "folder": "/x",
        "pictures": pictures, "mapped": [0, 1, 2, 3, 4, 5], "train": ["a/x.png"]})
    np.save(folder / "validation.npy", ROWS)


def reported(folder: Path, output: Path, rng: random.Random) -> int:
    return report([str(folder), "--data-path", str(folder), "--output", str(output / "page.html")])


VECTORS = [*["features.npy"] * 4, *["x.npz"] * 2, "image_names.txt", "batch.json", "one.json", "clusters.json",
           "x.jsonl"]
GALLERY = ["gallery/gallery.json", "gallery/features.npy", "gallery/pictures.csv"]
JOURNAL = ["about.json", "records.jsonl", "features.f32"]
SHARDS = [f"shard_{number}_of_2/{name}" for number in (1, 2) for name in JOURNAL]
# Weight, what makes the sound files, those to spoil, and the command that reads them.
FORMATS: dict[str, tuple[int, Callable[[Path], Any], list[str], Work]] = {
    "vectors": (30, make_vectors, VECTORS, compared),
    "clusters": (4, make_vectors, VECTORS, clustered),
    "gallery, exported": (10, make_gallery, GALLERY, exported),
    "gallery, judged": (10, make_gallery, [*GALLERY, "features.npy"], judged),
    "shards": (15, make_shards, SHARDS, merged),
    "journal": (10, lambda folder: make_journal(folder / ".unfinished", 1, 1),
                [f".unfinished/{name}" for name in JOURNAL], resumed),
    "calibration": (8, lambda folder: Calibration(
        fingerprint="abc", view="default", temperature=2.0, confident=0.9, possible=0.4, error_rate=0.05).write(
            folder / "calibration.json", {"ece": 0.1}), ["calibration.json"], calibrated),
    "calibration with a score": (8, make_scored, ["calibration.json", "calibration.npz"], calibrated),
    "log, drawn": (3, make_log, ["metrics.jsonl"], plotted),
    "log, gone on with": (4, make_log, ["metrics.jsonl"], logged),
    "report": (8, make_report, [*["validation.json"] * 3, "validation.npy", "report.csv", "metrics.jsonl"], reported),
    "tables": (6, make_tables, ["class_mapping.csv", "thresholds.csv", "pictures.csv", SCAN_CACHE,
                                "earlier/.lsnet_output.json"], tabled)}


# ---- running them ----------------------------------------------------------------------------------------------------


def run_case(seed: int, place: Path, kind: str, sound: Path) -> str | None:
    """Read the files of `sound`, one of them made odd by `seed`, in `place`; says what was wrong, or None."""
    _, _, files, work = FORMATS[kind]
    rng = random.Random(seed)
    folder, output, outside = place / "in", place / "out", place / "outside.txt"
    shutil.copytree(sound, folder)
    outside.write_text("untouched")
    name = rng.choice(files)
    (folder / "odd.name").write_text(name)
    spoil(folder / name, rng)
    told, printed = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(printed):
        try:
            code = work(folder, output, rng)
        except Exception:  # noqa: BLE001  # any at all is what is looked for
            return f"{name}: {traceback.format_exc()}"
    lines = [line for line in told.getvalue().splitlines() if "Warning" not in line and not line.startswith("  ")]
    if code not in (0, 2, 3) or (code == 2 and (len(lines) != 1 or len(lines[0]) > 6100)):
        return f"{name}: exit code {code}: {told.getvalue()[:2000]}"
    if code == 2 and output.exists() and any(output.iterdir()):
        return f"{name}: refused, and wrote {[path.name for path in output.iterdir()]}"
    if outside.read_text() != "untouched" or {path.name for path in place.iterdir()} - {"in", "out", "outside.txt"}:
        return f"{name}: wrote outside the output: {[path.name for path in place.iterdir()]}"
    return None


def run_in_child(seeds: list[int], place: Path, kind: str) -> list[str]:
    """The complaints about the cases of `seeds`, which share a child process."""
    complaints: list[str] = []
    (place / "sound").mkdir()
    FORMATS[kind][1](place / "sound")
    while seeds:
        report = place / "report"
        child = os.fork()
        if not child:
            try:
                _run_all(seeds, place, kind, report)
            finally:
                os._exit(1)
        status = os.waitpid(child, 0)[1]
        lines = [json.loads(line) for line in report.read_text().splitlines()]
        complaints += [f"{kind}, seed {seed}: {told}" for seed, told in lines if told]
        if status:
            complaints.append(f"{kind}, seed {seeds[len(lines)]}: ended with status {status}")
            seeds = seeds[len(lines) + 1:]
        else:
            seeds = []
    return complaints


def _run_all(seeds: list[int], place: Path, kind: str, report: Path) -> None:
    import resource

    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY,) * 2)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    with open(report, "w") as file:
        for seed in seeds:
            signal.alarm(SECONDS)
            told = run_case(seed, place / f"{kind} {seed}", kind, place / "sound")
            print(json.dumps([seed, told]), file=file, flush=True)
            if not told:
                shutil.rmtree(place / f"{kind} {seed}")
    os._exit(0)


def run_cases(count: int, place: Path, kind: str) -> None:
    share = FORMATS[kind][0] * count // sum(weight for weight, *_ in FORMATS.values())
    complaints = run_in_child(list(range(share)), place, kind)
    assert not complaints, f"{len(complaints)} of {share}:\n" + "\n".join(complaints[:20])


linux = pytest.mark.skipif(sys.platform != "linux", reason="reads the memory in use from /proc")


@linux
@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind not in ("clusters", "log, drawn")])
def test_odd_files_are_answered_or_refused(tmp_path: Path, kind: str) -> None:
    run_cases(150, tmp_path, kind)


@linux
@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", FORMATS)
def test_ten_thousand_odd_files_are_answered_or_refused(tmp_path: Path, kind: str) -> None:
    run_cases(10_000, tmp_path, kind)


@pytest.mark.parametrize("kind", FORMATS)
def test_the_sound_files_are_read(tmp_path: Path, kind: str) -> None:
    _, make, files, work = FORMATS[kind]
    make(tmp_path)
    (tmp_path / "odd.name").write_text(files[0])
    assert work(tmp_path, tmp_path / "out", random.Random(0)) == (3 if kind == "shards" else 0)  # pictures were cut
