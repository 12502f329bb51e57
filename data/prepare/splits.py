"""Which pictures of which artist are trained on and which validate: a function of names, contents and a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from data.prepare.artist_folders import Picture, nfc


@dataclass(frozen=True, kw_only=True)
class SplitRule:
    """How pictures are dealt to the two sides.

    Attributes:
        val_ratio: share of each artist's pictures that validates, in (0, 1).
        min_images: artists with fewer usable pictures are left out.
        seed: another seed gives another choice.
    """

    val_ratio: float
    min_images: int
    seed: int


@dataclass(kw_only=True)
class Split:
    """What becomes of every picture.

    Attributes:
        rule: the rule that decided.
        train: artist → pictures, artists by code point.
        val: the same artists; an artist with a single picture has none here.
        left_out: artist → number of usable pictures, where it is too small.
        damaged: source path → reason of pictures that cannot be used.
        duplicates: source path of a second copy within an artist → source path of the copy that was kept.
        conflicts: groups of source paths whose files are equal but belong to different artists; all are trained on.
    """

    rule: SplitRule
    train: dict[str, list[Picture]] = field(default_factory=dict)
    val: dict[str, list[Picture]] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    duplicates: dict[str, str] = field(default_factory=dict)
    conflicts: list[list[str]] = field(default_factory=list)

    def sides(self) -> dict[str, dict[str, list[Picture]]]:
        """Both sides by folder name."""
        return {"train": self.train, "val": self.val}


def split_artists(artists: Mapping[str, Sequence[Picture]], rule: SplitRule, *, damaged: Mapping[str, str],
                  copies: Sequence[Sequence[Picture]]) -> Split:
    """Deal the usable pictures to the two sides.

    Of equal files of one artist the first is kept. Equal files of several artists are trained on by each: as a
    validation picture they would have two right answers. Each artist gives the rule's share of its pictures, rounded,
    to validation: at least one, never all. Which ones is decided by a hash of seed and source path, so neither other
    artists nor a folder's order on disk change it, and a picture added later hardly does.

    Args:
        artists: artist → pictures.
        rule: ratio, least number and seed.
        damaged: source path → reason of pictures that cannot be used.
        copies: groups of usable pictures whose files are equal.
    """
    split = Split(rule=rule, damaged=dict(damaged))
    for group in copies:
        kept: dict[str, str] = {}
        for picture in group:
            first = kept.setdefault(picture.artist, picture.source)
            if first != picture.source:
                split.duplicates[picture.source] = first
    unused = split.damaged.keys() | split.duplicates.keys()
    distinct = {artist: [picture for picture in pictures if picture.source not in unused]
                for artist, pictures in sorted(artists.items())}
    split.left_out = {artist: len(pictures) for artist, pictures in distinct.items() if len(pictures) < rule.min_images}
    for group in copies:
        holders = {picture.source: picture.artist for picture in group
                   if picture.source not in unused and picture.artist not in split.left_out}
        if len(set(holders.values())) > 1:
            split.conflicts.append(list(holders))
    train_only = {source for group in split.conflicts for source in group}
    for artist, pictures in distinct.items():
        if artist in split.left_out:
            continue
        free = sorted((picture for picture in pictures if picture.source not in train_only),
                      key=lambda picture: _lot(picture, rule.seed))
        wanted = max(1, min(len(pictures) - 1, int(len(pictures) * rule.val_ratio + 0.5)))
        chosen = {picture.source for picture in free[:wanted if len(pictures) > 1 else 0]}
        split.val[artist] = [picture for picture in pictures if picture.source in chosen]
        split.train[artist] = [picture for picture in pictures if picture.source not in chosen]
    return split


def _lot(picture: Picture, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}/{nfc(picture.source)}".encode(), digest_size=16).digest()
