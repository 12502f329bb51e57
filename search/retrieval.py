"""How well features find pictures of the same artist: leave-one-out retrieval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.names import nfc
from data.picture_files import artist_of
from data.side_files import read_text, split_lines
from search.neighbours import normalised, vote
from utils import UserError, counted

RANKS = (1, 5, 10)
NEIGHBOURS = 20  # that vote in `knn`
SIMILARITIES = 2**22  # held at a time: 16 MiB


def retrieval_figures(features: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Leave-one-out retrieval by cosine similarity, exactly; time grows with the square of N, memory with N.

    Args:
        features: (N, D) float32.
        labels: (N,) int64, the artist of each row.

    Returns:
        in percent: `recall1`, `recall5`, `recall10` (pictures with one of the same label among the nearest 1, 5, 10),
        `map` (mean over pictures of the average precision of the ranking of all others), `knn` (pictures whose label
        wins the vote of the 20 nearest); and `queries`, the number of pictures whose label another picture has too:
        only they count.

    Raises:
        UserError: no label has two pictures.
    """
    sizes = np.bincount(labels)
    queries = np.flatnonzero(sizes[labels] > 1)
    if not len(queries):
        raise UserError(f"{counted(len(labels), 'picture')}, none of which shares its artist with another",
                        "two of one artist", "give more pictures")
    unit = normalised(features)
    at_once = max(1, SIMILARITIES // len(unit))
    sums = np.sum([_sums(unit, labels, queries[start:start + at_once])
                   for start in range(0, len(queries), at_once)], axis=0)
    names = (*(f"recall{rank}" for rank in RANKS), "map", "knn")
    return {**dict(zip(names, (100 * sums / len(queries)).tolist(), strict=True)), "queries": len(queries)}


def _sums(unit: np.ndarray, labels: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """The figures summed over `queries`, rows of `unit`."""
    similarities = unit[queries] @ unit.T
    similarities[np.arange(len(queries)), queries] = -np.inf  # a picture is not its own neighbour
    order = np.argsort(-similarities, axis=1, kind="stable")[:, :-1]
    same = labels[order] == labels[queries][:, None]
    precision = np.cumsum(same, axis=1) / np.arange(1, same.shape[1] + 1)
    average = (precision * same).sum(axis=1) / same.sum(axis=1)
    near = order[:, :NEIGHBOURS]
    votes = vote(labels[near], np.take_along_axis(similarities, near, 1), np.ones(labels.max() + 1))
    named = np.array([found[0] for found, _ in votes])
    return np.array([*(same[:, :rank].any(axis=1).sum() for rank in RANKS), average.sum(),
                     (named == labels[queries]).sum()], np.float64)


def read_labels(names: Sequence[str], file: Path | None) -> list[str]:
    """The artist of each picture: the lines of `file`, or the first folder of each of `names`.

    Raises:
        UserError: there is no such file, it has another number of lines, or a name has no folder.
    """
    if file is None:
        artists = [artist_of(name) for name in names]
        if None in artists:
            raise UserError(f"{names[artists.index(None)]}, a name without a folder that would tell the artist",
                            "names as Artist/1.jpg", "add --labels")
        return [artist for artist in artists if artist is not None]
    labels = split_lines(read_text(file, expected="a UTF-8 text file", action="check --labels"))
    if len(labels) != len(names):
        raise UserError(f"{len(labels)} lines in {file} for {len(names)} vectors", "one label per vector", "correct it")
    return [nfc(label) for label in labels]


def format_retrieval(figures: dict[str, float]) -> str:
    """The figures as one line."""
    return (f"retrieval: recall@1 {figures['recall1']:.3f} @5 {figures['recall5']:.3f} "
            f"@10 {figures['recall10']:.3f} mAP {figures['map']:.3f} kNN {figures['knn']:.3f}")
