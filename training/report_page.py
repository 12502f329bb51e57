"""report.html: what a training run did and what its network gets wrong, as one page that needs no other file."""

from __future__ import annotations

import base64
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.image_list import LabelledImages
from data.images import DEFAULT_MAX_PIXELS
from data.names import as_text
from data.prepare.near_duplicates import find_same_pictures
from data.tar_files import is_file
from data.worker_pool import Progress
from drawing.confusion import CONFUSION
from drawing.inline import inline_jpeg
from drawing.palette import GROUPS, SMALL_GROUPS
from drawing.plots import training_curves
from evaluation.mistakes import RESAMPLES, Mistake, confused_pairs, find_mistakes, recognised, reliability
from evaluation.report import COLUMNS, REPORT
from evaluation.thresholds import COLUMNS as LABEL_COLUMNS
from evaluation.thresholds import THRESHOLDS
from evaluation.validation_answers import PictureFiles, ValidationAnswers, picture_path
from runtime.next_step import command_line
from training.report_maps import ReportMaps
from training.reported_run import ReportedRun
from training.run_folder import CURVES, REPORT_PAGE
from utils import UserError, counted, read_bytes, write_text

# Limits that keep the page below 5 MB, in bytes as they stand in it.
_LARGEST_PLOT, _ALL_PICTURES, _ALL_ROWS = 600_000, 2_400_000, 1_200_000
_SIDE = 144  # of a picture, px
MOST_SHOWN, _MOST_PAIRS, _OF_A_PAIR, _MOST_COPIES = 48, 10, 3, 20
QUICK, MOST_SEARCHED = 1000, 40_000  # pictures among which copies are sought: at the end of a training, and on demand
QUICK_MAPS, MOST_MAPS = 12, 60  # class maps, likewise
_TEMPLATE = Path(__file__).with_suffix(".html")


@dataclass(frozen=True, kw_only=True)
class ShownPicture:
    """A picture on the page.

    Attributes:
        name: what is written below it.
        file: its path below the data set's folder.
        lines: kind (`own` for its label, `new` for an answer) and text.
        label: whose class map is shown with it.
    """

    name: str
    file: str
    lines: Sequence[tuple[str, str]] = ()
    label: int | None = None


@dataclass(kw_only=True)
class PictureSource:
    """Draws the pictures of a data set for a page, while there is room on it.

    Attributes:
        folder: of the data set; None where nobody has named it.
        maps: draws class maps; None where there are none.
        max_pixels: pictures with more are not shown, px.
        missing: how many could not be read.
    """

    folder: Path | None
    maps: ReportMaps | None = None
    max_pixels: int = DEFAULT_MAX_PIXELS
    missing: int = 0
    _room: int = _ALL_PICTURES
    _drawn: dict[str, str] = field(default_factory=dict)
    _mapped: dict[tuple[str, int], str] = field(default_factory=dict)

    def draw(self, picture: ShownPicture) -> dict[str, Any]:
        """The picture as the page takes it, without `image` or `map` where that cannot be drawn or has no room."""
        path = picture_path(self.folder, picture.file)
        if picture.file not in self._drawn:
            image = inline_jpeg(path, _SIDE, self.max_pixels) if path else ""
            self.missing += not image
            self._room -= len(image)
            self._drawn[picture.file] = image if self._room >= 0 else ""
        image = self._drawn[picture.file]
        return {"name": picture.name, "lines": picture.lines, "image": image,
                "map": self._map(path, picture.file, picture.label) if path and image else ""}

    def _map(self, path: Path, file: str, label: int | None) -> str:
        if self.maps is None or label is None:
            return ""
        if (file, label) not in self._mapped:
            drawn = self.maps.draw(path, label, _SIDE, self.max_pixels)
            self._room -= len(drawn)
            self._mapped[file, label] = drawn if self._room >= 0 else ""
        return self._mapped[file, label]


def write_report_page(path: Path, runs: Sequence[ReportedRun], *, folder: Path | None,
                      most_searched: int = MOST_SEARCHED, most_maps: int = MOST_MAPS,
                      progress: Progress | None = None) -> list[str]:
    """Write the page about the first of `runs`, compared with the others.

    Args:
        path: the page.
        runs: at least one.
        folder: of the first one's data set, for its pictures; None for a page without.
        most_searched: copies across the sides are sought among so many pictures at most.
        most_maps: so many class maps at most are drawn.
        progress: see `map_ordered`.

    Returns:
        lines on what the page lacks, and on runs that cannot be compared.
    """
    import jinja2  # slow to import

    run = runs[0]
    source = PictureSource(folder=folder, maps=ReportMaps.of(run, most_maps) if folder else None)
    others = [(each.name, reason) for each in runs[1:] if (reason := run.differs(each))]
    values: dict[str, Any] = {"pairs": _table_pairs(run), "shown": [], "copies": None, "copies_shown": []}
    notes: list[str] = []
    if run.answers:
        values |= _answered(run, run.answers, source)
        values["copies"], notes = _find_copies(run.answers, folder, most_searched, progress)
        values["copies_shown"] = [[source.draw(picture) for picture in group]
                                  for group in (values["copies"] or [])[:_MOST_COPIES]]
        if folder is None:
            notes = ["The page has no pictures: tools/report.py takes the folder of the data set as --data-path."]
        elif source.missing:
            notes.append(f"{counted(source.missing, 'picture')} could not be read in {folder}.")
    rows, left_out = _fit_rows(run.artists or run.labels)
    page = jinja2.Environment(autoescape=True).from_string(_TEMPLATE.read_text(encoding="utf-8"))
    write_text(path, page.render(
        run=run, runs=runs, resamples=RESAMPLES, others=others, notes=notes, plots=_plots(run), rows=rows,
        left_out=left_out, columns=COLUMNS if run.artists else LABEL_COLUMNS,
        table=REPORT if run.artists else THRESHOLDS,
        following=[command_line(*command) for command in run.following], **values))
    return [*notes, *(f"{name} has {reason}: its figures cannot be compared" for name, reason in others)]


def report_ended_run(run: Path, data_path: Path, train_set: LabelledImages, val_set: LabelledImages) -> list[str]:
    """Write report.html of the run that ends; a line where that cannot be done, because the network matters more.

    Args:
        run: its folder.
        data_path: where its data set is.
        train_set: the training images.
        val_set: the validation images.
    """
    try:
        write_report_page(run / REPORT_PAGE, [ReportedRun.read(run)], most_searched=QUICK, most_maps=QUICK_MAPS,
                          folder=PictureFiles.of(data_path, train_set, val_set).folder)
    except (ArithmeticError, AttributeError, ImportError, LookupError, MemoryError, OSError, RuntimeError, TypeError,
            UserError, ValueError) as error:
        return [f"no {REPORT_PAGE} ({as_text(str(error) or type(error).__name__)}); tools/report.py writes it"]
    return []


# ---- from answers ----------------------------------------------------------------------------------------------------


def pictures_to_show(answers: ValidationAnswers, mistakes: Sequence[Mistake]) -> list[ShownPicture]:
    """The pictures of the surest errors, in the order in which the page shows them."""
    return [_show_mistake(answers, mistake) for mistake in mistakes[:MOST_SHOWN]]


def _answered(run: ReportedRun, answers: ValidationAnswers, source: PictureSource) -> dict[str, Any]:
    """What the page shows of the answers."""
    mistakes = find_mistakes(answers)
    surest = [source.draw(picture) for picture in pictures_to_show(answers, mistakes)]
    pairs = [{"one": answers.classes[one], "other": answers.classes[other], "count": len(found),
              "missed": [source.draw(_show_mistake(answers, mistake)) for mistake in found[:_OF_A_PAIR]],
              "right": [source.draw(_show(answers, place)) for place in recognised(answers, other)[:_OF_A_PAIR]]}
             for (one, other), found in list(confused_pairs(mistakes).items())[:_MOST_PAIRS]]
    bins = reliability(answers)
    answered = sum(count for *_, count in bins)
    return {"mistakes": len(mistakes), "pairs": pairs, "bins": bins, "answered": answered,
            "shown": surest, "maps": any(item["map"] for item in surest),
            "error": sum(count * abs(mean - share) for mean, share, count in bins) / answered,
            **_map(run, answers, {mistake.place for mistake in mistakes})}


def _show(answers: ValidationAnswers, place: int) -> ShownPicture:
    picture = answers.pictures[place]
    return ShownPicture(name=picture.name, file=picture.file)


def _show_mistake(answers: ValidationAnswers, mistake: Mistake) -> ShownPicture:
    picture = answers.pictures[mistake.place]
    lines = [(kind, f"{answers.classes[label[0]]} {label[1]:.0%}")
             for kind, label in (("own", mistake.missed), ("new", mistake.told)) if label]
    label = mistake.told or mistake.missed
    return ShownPicture(name=picture.name, file=picture.file, lines=lines, label=label[0] if label else None)


def _map(run: ReportedRun, answers: ValidationAnswers, wrong: set[int]) -> dict[str, Any]:
    """A dot for each picture whose features were kept, coloured by its first label; the largest have a colour."""
    features = answers.read_features(run.folder)
    if len(features) < 2:
        return {"dots": []}
    from drawing.clusters import PROJECTIONS, project  # scikit-learn is slow to import

    plane, used = project(features, "tsne", 0)
    names = [answers.classes[labels[0]] if (labels := answers.pictures[place].labels) else "" for place in
             answers.mapped]
    colours = {name: colour for (name, _), colour in zip(Counter(names).most_common(), GROUPS, strict=False)}
    dots = [{"x": x, "y": y, "colour": colours.get(name, SMALL_GROUPS), "wrong": place in wrong,
             "title": answers.pictures[place].name} for (x, y), name, place in
            zip(plane.tolist(), names, answers.mapped, strict=True)]
    rest = len({*names} - {*colours})
    key = [(colour, name or "no label") for name, colour in colours.items()]
    return {"dots": dots, "projection": PROJECTIONS[used],
            "key": [*key, (SMALL_GROUPS, f"{rest} others")] if rest else key}


def _find_copies(answers: ValidationAnswers, folder: Path | None, most: int,
                 progress: Progress | None) -> tuple[list[list[ShownPicture]] | None, list[str]]:
    """Groups of pictures that are one, on both sides; None where they were not sought, and a line why."""
    labels = {file: "train" for file in answers.train}
    labels |= {picture.file: ", ".join(answers.classes[label] for label in picture.labels)
               for picture in answers.pictures}
    paths = {path: file for file in labels if (path := picture_path(folder, file)) and is_file(path)}
    if folder is None or not answers.train or len(paths) > most:
        return None, [f"Copies across the sides were not sought among {counted(len(labels), 'picture')}; "
                      "tools/report.py seeks them." if answers.train and most < MOST_SEARCHED else
                      "Copies across the sides were not sought among so many pictures."]
    found = find_same_pictures([*paths], workers=0 if len(paths) <= QUICK else None, max_pixels=DEFAULT_MAX_PIXELS,
                               progress=progress)
    train = {*answers.train}
    groups = [[paths[path] for path in group] for group in found]
    return [[ShownPicture(name=file, file=file, lines=[("soft", "train")] if file in train else [
        ("own", f"validation: {labels[file]}")]) for file in group]
        for group in groups if len({file in train for file in group}) == 2], []


# ---- from the run's files --------------------------------------------------------------------------------------------


def _table_pairs(run: ReportedRun) -> list[Mapping[str, Any]]:
    """The most frequent confusions as report.csv has them, of runs without answers."""
    rows = sorted((row for row in run.artists if row[7].isdecimal() and int(row[7])), key=lambda row: -int(row[7]))
    return [{"one": row[1], "other": row[6], "count": row[7]} for row in rows[:_MOST_PAIRS]]


def _fit_rows(rows: Sequence[Sequence[str]]) -> tuple[Sequence[Sequence[str]], int]:
    """As many of the first rows as the page has room for, and how many are left out."""
    room = _ALL_ROWS
    for number, row in enumerate(rows):
        room -= 12 + sum(4 + 2 * len(cell.encode()) for cell in row)  # some signs are escaped
        if room < 0:
            return rows[:number], len(rows) - number
    return rows, 0


def _plots(run: ReportedRun) -> list[tuple[str, str]]:
    """Title and PNG in base64 of each drawing; the curves are drawn where the run has none."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        curves = run.folder / CURVES
        if len(run.records) > 1 and not curves.exists():  # a probe has one
            training_curves(run.records, curves := Path(folder) / CURVES)
        for title, plot in (("Curves", curves), ("Confusion", run.folder / CONFUSION)):
            if plot.exists() and plot.stat().st_size <= _LARGEST_PLOT:
                found.append((title, base64.b64encode(read_bytes(plot)).decode()))
    return found
