"""The split into training and validation pictures: a function of names, contents and a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from data.names import nfc
from data.prepare.artist_folders import Picture


@dataclass(frozen=True, kw_only=True)
class SplitRule:
    """How pictures are split.

    Attributes:
        val_ratio: share of each artist's pictures for validation, in (0, 1).
        min_images: artists with fewer usable pictures are left out.
        seed: another seed gives another choice.
    """

    val_ratio: float
    min_images: int
    seed: int


@dataclass(kw_only=True)
class Split:
    """Where every picture goes.

    Attributes:
        rule: the rule of the split.
        train: artist → pictures, artists in code-point order.
        val: the same artists; an artist with a single picture has none here.
        left_out: artist → number of usable pictures, of artists with too few.
        damaged: source path → reason of pictures that cannot be used.
        duplicates: source path of a second copy within an artist → source path of the copy that was kept.
        conflicts: groups of source paths of equal files of several artists; all of them train.
        passed_over: source path of a folder, or of a file that is none of these → the reason.
    """

    rule: SplitRule
    train: dict[str, list[Picture]] = field(default_factory=dict)
    val: dict[str, list[Picture]] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    duplicates: dict[str, str] = field(default_factory=dict)
    conflicts: list[list[str]] = field(default_factory=list)
    passed_over: dict[str, str] = field(default_factory=dict)

    def sides(self) -> dict[str, dict[str, list[Picture]]]:
        """Both sides by folder name."""
        return {"train": self.train, "val": self.val}


def split_artists(artists: Mapping[str, Sequence[Picture]], rule: SplitRule, *, damaged: Mapping[str, str],
                  copies: Sequence[Sequence[Picture]]) -> Split:
    """Split the usable pictures into training and validation.

    Of equal files of one artist the first is kept. Equal files of several artists train for each of them, because in
    validation they would have two right answers. Each artist gives the rule's share of its pictures, rounded, to
    validation: at least one, never all. A hash of seed and source path chooses them, so other artists and the order
    on disk have no influence, and an added picture has little.

    `damaged` has the reason of each source path that cannot be used, `copies` the groups of usable pictures whose files
    are equal.
    """
    split = Split(rule=rule, damaged=dict(damaged))
    for group in copies:
        kept: dict[str, str] = {}
        for picture in group:
            first = kept.setdefault(picture.artist, picture.source)
            if first != picture.source:
                split.duplicates[picture.source] = first
    unused = split.damaged.keys() | split.duplicates.keys()
    usable = {artist: [picture for picture in pictures if picture.source not in unused]
              for artist, pictures in sorted(artists.items())}
    split.left_out = {artist: len(pictures) for artist, pictures in usable.items() if len(pictures) < rule.min_images}
    for group in copies:
        owners = {picture.source: picture.artist for picture in group
                  if picture.source not in unused and picture.artist not in split.left_out}
        if len(set(owners.values())) > 1:
            split.conflicts.append(list(owners))
    train_only = {source for group in split.conflicts for source in group}
    for artist, pictures in usable.items():
        if artist not in split.left_out:
            chosen = _choose_val(pictures, train_only, rule)
            split.val[artist] = [picture for picture in pictures if picture.source in chosen]
            split.train[artist] = [picture for picture in pictures if picture.source not in chosen]
    return split


def _choose_val(pictures: Sequence[Picture], train_only: set[str], rule: SplitRule) -> set[str]:
    """The source paths of an artist's validation pictures."""
    if len(pictures) < 2:
        return set()
    free = sorted((picture for picture in pictures if picture.source not in train_only),
                  key=lambda picture: hashlib.blake2b(f"{rule.seed}/{nfc(picture.source)}".encode(),
                                                      digest_size=16).digest())
    wanted = max(1, min(len(pictures) - 1, int(len(pictures) * rule.val_ratio + 0.5)))
    return {picture.source for picture in free[:wanted]}
