"""What the service answers: one network, its batches, and the gallery that it searches and may change."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch

from data.names import as_text, nfc
from evaluation.calibration import Calibration
from inference.journal import Record
from inference.label_records import LabelChoice, make_label_record
from inference.modes import MODES, InferenceRequest
from inference.predictor import Failure, Prediction, Predictor
from inference.records import make_record
from search.gallery import Gallery
from search.gallery_search import Search
from search.gallery_store import GalleryStore
from serving.batching import Answer, Batcher, Upload
from serving.explainer import Explainer
from utils import UserError

Part = Literal["classify", "features", "search"]
LONGEST_NAME = 200  # letters of an artist's name
# The mode of inference whose records hold a part; a search is not made by `make_record`.
_MODES = {"classify": MODES["classify"], "features": MODES["cluster"]}


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of each picture of a request.

    Attributes:
        parts: what its record holds.
        top_k: artists, and pictures of the gallery, at most.
        threshold: least probability, or confidence, of an artist that is named, 0 to 1.
    """

    parts: tuple[Part, ...]
    top_k: int = 5
    threshold: float = 0.0


class Service:
    """The answers to questions about pictures; safe to ask from many threads.

    Attributes:
        parts: what can be asked.
        store: of the gallery; None without one.
        search: the search in it.
        explainer: makes class maps; None where the network has none.
        unexplained: why, and what works instead.
    """

    def __init__(self, predictor: Predictor, batcher: Batcher, *, calibration: Calibration | None = None,
                 store: GalleryStore | None = None, neighbours: int) -> None:
        """Read the gallery.

        Raises:
            UserError: it is not of this network, or the network can answer nothing.
        """
        self.predictor, self.batcher, self.calibration = predictor, batcher, calibration
        self.store, self.neighbours = store, neighbours
        self.changing = threading.Lock()
        self.search = self._read() if store else None
        self.explainer, self.unexplained = self._make_explainer()
        can: dict[Part, bool] = {"classify": predictor.classes is not None, "features": True,
                                 "search": self.search is not None}
        self.parts: tuple[Part, ...] = tuple(part for part in get_args(Part) if can[part])

    def _make_explainer(self) -> tuple[Explainer | None, str]:
        if self.predictor.classes is None:
            return None, "the network names no artists, so it has no class maps; start the service with one that does"
        try:
            return Explainer(self.predictor, max_pixels=self.batcher.options.max_pixels), ""
        except UserError as error:
            return None, f"no class maps: {error}"

    @property
    def is_multilabel(self) -> bool:
        """Whether the network names several artists per picture."""
        return self.predictor.task == "multilabel"

    def describe(self) -> dict[str, Any]:
        """What can be asked, of which network."""
        return {"parts": self.parts, "task": self.predictor.task or "classification",
                "artists": [*(self.predictor.classes or ())], "calibrated": self.calibration is not None,
                "explains": self.explainer is not None, "network": self.predictor.fingerprint,
                "feature_kind": self.predictor.space.feature_kind, "feature_dim": sum(self.predictor.space.blocks)}

    def record(self, upload: Upload, answer: Answer, question: Question) -> Record:
        """The record of one picture, with its `name`; as inference_artist.py and predict_artist_multilabel.py write."""
        record: Record = {"name": as_text(upload.name)}
        if isinstance(answer, Failure):
            return {**record, "error": answer.reason}
        for part in question.parts:
            record |= self._part(part, answer, question)
        return record

    def _part(self, part: Part, answer: Prediction, question: Question) -> Record:
        if part == "search":
            search = self.search
            return search.find(answer.features.numpy()[None], question.top_k)[0] if search else {}
        if part == "classify" and self.is_multilabel:
            thresholds = torch.full((len(answer.classes),), question.threshold, dtype=torch.float64)
            choice = LabelChoice(top_k=question.top_k, thresholds=thresholds, ratio="all", raw=False)
            return {"labels": make_label_record(answer, choice)["labels"]}
        return make_record(answer, InferenceRequest(
            mode=_MODES[part], top_k=question.top_k, threshold=question.threshold, calibration=self.calibration,
            space=self.predictor.space))

    # ---- the gallery -------------------------------------------------------------------------------------------------

    def artists(self) -> list[dict[str, Any]]:
        """The gallery's artists and how many pictures each has."""
        sizes = self.search.gallery.sizes if self.search else {}
        return [{"artist": artist, "pictures": count} for artist, count in sizes.items()]

    def add(self, artist: str, uploads: Sequence[Upload], answers: Sequence[Answer]) -> Record:
        """Add an artist's pictures; those of the same name are replaced. Says how many were `added`, and `failures`.

        Raises:
            UserError: no picture can be read, or the name is no name; from an OSError: the gallery cannot be written.
        """
        artist = check_artist(artist)
        rows = {f"{artist}/{_file_name(upload.name)}": answer.features.numpy()
                for upload, answer in zip(uploads, answers, strict=True) if isinstance(answer, Prediction)}
        failures = [{"name": as_text(upload.name), "error": answer.reason}
                    for upload, answer in zip(uploads, answers, strict=True) if isinstance(answer, Failure)]
        if not rows:
            reason = failures[0]["error"] if failures else "none was sent"
            raise UserError(f"no picture that can be read ({reason})", "at least one", "send others")
        with self.changing, self._store.lock(wait=True):
            self._store.change(added=Gallery(
                space=self.predictor.space, images=[*rows], artists=[artist] * len(rows),
                features=np.stack([*rows.values()])))
            self.search = self._read()
        return {"artist": artist, "added": len(rows), "failures": failures}

    def remove(self, artist: str) -> None:
        """Remove an artist; raises a `UserError` if there is none of that name, or no other."""
        with self.changing, self._store.lock(wait=True):
            self._store.change(removed=artist, space=self.predictor.space)
            self.search = self._read()

    @property
    def _store(self) -> GalleryStore:
        if self.store is None:
            raise UserError("no gallery", "one to change", "start the service with --gallery")
        return self.store

    def _read(self) -> Search:
        return self._store.open_search(neighbours=self.neighbours, space=self.predictor.space)


def check_artist(name: str) -> str:
    """`name` in composed form.

    Raises:
        UserError: it is empty, too long, or holds a slash or control characters.
    """
    name = nfc(name.strip())
    if not 0 < len(name) <= LONGEST_NAME or name in (".", "..") or set(name) & set("/\\") or as_text(name) != name:
        raise UserError(f"the artist's name {name[:LONGEST_NAME]!r}",
                        f"1 to {LONGEST_NAME} letters without slashes and control characters", "choose another one")
    return name


def _file_name(name: str) -> str:
    """The last part of a name that a client sent, in composed form."""
    return nfc(as_text(name.replace("\\", "/").rpartition("/")[2])) or "picture"
