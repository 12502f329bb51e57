"""report.html: what the files of a training run say, as one page that needs no other file."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.csv_files import read_table
from data.names import as_text
from drawing.confusion import CONFUSION
from drawing.plots import METRICS as TITLES
from drawing.plots import monitored, training_curves
from evaluation.report import COLUMNS, REPORT
from evaluation.thresholds import COLUMNS as LABEL_COLUMNS
from evaluation.thresholds import THRESHOLDS
from runtime.checkpoint import BEST
from runtime.logbook import METRICS
from runtime.next_step import PICTURES, command_line
from training.log import read_log
from utils import UserError, read_bytes, write_text

RESAMPLES = 1000
LARGEST_PICTURE = 2**21  # bytes of a drawing; the page stays below 5 MB
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Report of {{ runs[0].name }}</title>
<meta name="viewport" content="width=device-width"><meta http-equiv="Content-Security-Policy"
content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<style>
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem;
  color: light-dark(#222, #ddd); background: light-dark(#fff, #181a1d); overflow-wrap: anywhere }
h2 { margin: 2rem 0 .3rem } p { max-width: 50rem } img { max-width: 100%; background: #fff }
.wide { overflow-x: auto } table { border-collapse: collapse; overflow-wrap: normal }
th, td { padding: .2rem .7rem; text-align: left; border-bottom: 1px solid light-dark(#ddd, #444) }
button { font: inherit; font-weight: 600; color: inherit; background: none; border: 0; padding: 0; cursor: pointer }
pre { white-space: pre-wrap; background: light-dark(#f5f5f3, #26292d); padding: .6rem }
@media print { :root { color-scheme: light } .wide { overflow: visible } }
</style></head><body>
<h1>Report of {{ runs[0].name }}</h1>
<div class="wide"><table><tr><th>run<th>classes<th>epochs<th>best figure<th>accuracy (95 % interval)<th>mean recall
(95 % interval)</tr>
{% for run in runs %}<tr><td>{{ run.name }}<td>{{ (run.artists or run.labels)|length or "" }}
<td>{{ run.records[-1].epoch }}<td>{{ run.best }}<td>{{ run.accuracy }}<td>{{ run.balanced }}</tr>
{% endfor %}</table></div>
<p>Intervals: validation pictures drawn again {{ resamples }} times, within each artist for mean recall.
{% for name in others %}<br><strong>{{ name }} has other validation pictures: its figures cannot be
compared.</strong>{% endfor %}</p>
{% for title, picture in pictures %}<h2>{{ title }}</h2>
<img alt="{{ title }}" src="data:image/png;base64,{{ picture }}">{% endfor %}
{% if pairs %}<h2>Most often confused</h2><div class="wide"><table><tr><th>artist<th>taken for<th>times</tr>
{% for row in pairs %}<tr><td>{{ row[1] }}<td>{{ row[6] }}<td>{{ row[7] }}</tr>{% endfor %}</table></div>{% endif %}
<h2>{{ "Labels" if runs[0].labels else "Artists" }}</h2>{% if rows %}<div class="wide"><table id="artists"><thead><tr>
{% for name in columns %}<th><button>{{ name.replace("_", " ") }}</button>{% endfor %}</tr></thead><tbody>
{% for row in rows %}<tr>{% for cell in row %}<td>{{ cell }}{% endfor %}</tr>
{% endfor %}</tbody></table></div>{% else %}<p>The run has no table of its classes yet: it ended before its
first evaluation.</p>{% endif %}
{% if following %}<h2>Go on</h2><pre>{{ following }}</pre>{% endif %}
<script>
document.querySelectorAll("#artists button").forEach((button, column) => button.onclick = () => {
  const body = document.querySelector("#artists tbody"), cell = row => row.cells[column].textContent
  const sign = button.dataset.sign = button.dataset.sign === "1" ? -1 : 1
  body.append(...[...body.rows].sort((a, b) => sign * cell(a).localeCompare(cell(b), "en", { numeric: true })))
})
</script></body></html>
"""
_MOST_PAIRS = 20


@dataclass(frozen=True, kw_only=True)
class Run:
    """What the files in a run's folder say.

    Attributes:
        folder: of the run.
        name: of the folder.
        records: of metrics.jsonl.
        artists: rows of report.csv without its header; none where there is no such file.
        labels: the same of thresholds.csv, which a multi-label run has instead.
    """

    folder: Path
    name: str
    records: list[dict[str, Any]]
    artists: list[list[str]]
    labels: list[list[str]]

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Read a run.

        Raises:
            UserError: the folder has no metrics.jsonl, or a file of it is malformed.
        """
        if not (folder / METRICS).exists():
            raise UserError(f"no {METRICS} in {folder}", "the output folder of a training run, evaluated at least once",
                            "check the path, or train on")
        table = folder / REPORT
        artists = [row for _, row in read_table(table, COLUMNS)] if table.exists() else []
        for row in artists:
            if not (row[3].isdecimal() and len(row[3]) < 10 and _is_share(row[5] or "0")):
                raise UserError(f"support {row[3]} and recall {row[5]} in {table}", "a count, and a share of 0 to 1",
                                "evaluate the run again")
        labels = folder / THRESHOLDS
        return cls(folder=folder, name=as_text(folder.resolve().name), records=read_log(folder / METRICS),
                   artists=artists,
                   labels=[row for _, row in read_table(labels, LABEL_COLUMNS)] if labels.exists() else [])

    @property
    def best(self) -> str:
        """The best monitored figure, in words."""
        key = monitored(self.records)
        return f"{TITLES[key][0]} {max(each[key] for each in self.records if each.get(key) is not None):.2f}" if (
            key) else ""

    @property
    def validation(self) -> list[tuple[str, str]]:
        """Artists and their numbers of validation pictures, or labels, which tell data sets apart."""
        return sorted([(row[1], row[3]) for row in self.artists] + [(row[1], "") for row in self.labels])

    @property
    def accuracy(self) -> str:
        """Top-1 with its interval."""
        support, recall = self._counts()
        if not support.sum():
            return ""
        share = (support * recall).sum() / support.sum()
        drawn = np.random.default_rng(0).binomial(support.sum(), min(share, 1), RESAMPLES) / support.sum()
        return _interval(share, drawn)

    @property
    def balanced(self) -> str:
        """Recall, mean over artists with validation pictures, with its interval."""
        support, recall = self._counts()
        if not support.sum():
            return ""
        support, recall, rng = support[support > 0], recall[support > 0], np.random.default_rng(0)
        drawn = np.array([(rng.binomial(support, recall) / support).mean() for _ in range(RESAMPLES)])
        return _interval(recall.mean(), drawn)

    @property
    def following(self) -> list[object]:
        """The command that uses the best network, and its flags; empty where there is none."""
        best = self.folder / BEST
        if not best.exists():
            return []
        if self.labels:
            return ["predict_artist_multilabel.py", "--checkpoint", best, "--inputs", PICTURES, "--output",
                    "labels.json"]
        return ["inference_artist.py", "--checkpoint", best, "--input", PICTURES]

    def _counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Validation pictures of each artist, and the share that is recognised."""
        support = np.array([int(row[3]) for row in self.artists], np.int64)
        return support, np.array([float(row[5] or 0) for row in self.artists])


def _interval(share: float, drawn: np.ndarray) -> str:
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{share:.1%} ({low:.1%} to {high:.1%})"


def _is_share(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False


def write_report_page(path: Path, runs: Sequence[Run]) -> list[str]:
    """Write the page about the first of `runs`, compared with the others; names of those with other pictures."""
    import jinja2  # slow to import

    first = runs[0]
    others = [run.name for run in runs[1:] if run.validation != first.validation]
    pairs = sorted((row for row in first.artists if row[7].isdecimal() and int(row[7])), key=lambda row: -int(row[7]))
    page = jinja2.Environment(autoescape=True).from_string(_PAGE)
    write_text(path, page.render(runs=runs, resamples=RESAMPLES, others=others, pictures=_pictures(first),
                                 pairs=pairs[:_MOST_PAIRS], columns=COLUMNS if first.artists else LABEL_COLUMNS,
                                 rows=first.artists or first.labels,
                                 following=command_line(*first.following) if first.following else ""))
    return others


def _pictures(run: Run) -> list[tuple[str, str]]:
    """Title and PNG in base64 of each drawing."""
    with tempfile.TemporaryDirectory() as folder:
        curves, found = Path(folder) / "curves.png", []
        if len(run.records) > 1:  # a probe has one
            training_curves(run.records, curves)
            found.append(("Curves", read_bytes(curves)))
    confusion = run.folder / CONFUSION
    if confusion.exists() and confusion.stat().st_size <= LARGEST_PICTURE:
        found.append(("Confusion", read_bytes(confusion)))
    return [(title, base64.b64encode(content).decode()) for title, content in found]
