"""The split into training and validation pictures: a function of names, contents and a seed."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from data.names import nfc
from data.prepare.artist_folders import Picture
from utils import UserError, counted


@dataclass(frozen=True, kw_only=True)
class SplitRule:
    """How pictures are split.

    Attributes:
        val_ratio: share of each artist's pictures for validation, in (0, 1).
        min_images: artists with fewer usable pictures are left out.
        seed: another seed gives another choice.
        group_by: what the pictures are grouped by, see `read_groups`.
        leave_groups_out: groups for validation; if there are any, nothing else is, whatever the share.
    """

    val_ratio: float = 0.2
    min_images: int = 10
    seed: int = 0
    group_by: str | None = None
    leave_groups_out: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Links:
    """Which pictures are kept on one side.

    Attributes:
        copies: groups of usable pictures whose files are equal.
        near_duplicates: groups of usable pictures that are one picture; None if they were not looked for.
        groups: source path → group, of the pictures that have one; None without `--group-by`.
        parted: pairs of near-duplicates, source paths, that are in no common group.
    """

    copies: Sequence[Sequence[Picture]] = ()
    near_duplicates: Sequence[Sequence[Picture]] | None = None
    groups: Mapping[str, str] | None = None
    parted: Sequence[tuple[str, str]] = ()


@dataclass(kw_only=True)
class Split:
    """Where every picture goes.

    Attributes:
        rule: the rule of the split.
        train: artist → pictures, artists in code-point order.
        val: the same artists; an artist with a single picture or a single group has none here.
        left_out: artist → number of usable pictures, of artists with too few.
        damaged: source path → reason of pictures that cannot be used.
        duplicates: source path of a second copy within an artist → source path of the copy that was kept.
        conflicts: groups of source paths of equal files of several artists; all of them train, unless they are in a
            group that is left out.
        near_duplicates: groups of source paths of pictures that are one picture, each group on one side; None if they
            were not looked for.
        parted: pairs of near-duplicates, source paths, that may lie on both sides.
        groups: group → side, of the pictures that have a group; None without `--group-by`.
        passed_over: source path of a folder, or of a file that is none of these → the reason.
    """

    rule: SplitRule
    train: dict[str, list[Picture]] = field(default_factory=dict)
    val: dict[str, list[Picture]] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    duplicates: dict[str, str] = field(default_factory=dict)
    conflicts: list[list[str]] = field(default_factory=list)
    near_duplicates: list[list[str]] | None = None
    parted: list[tuple[str, str]] = field(default_factory=list)
    groups: dict[str, str] | None = None
    passed_over: dict[str, str] = field(default_factory=dict)

    def sides(self) -> dict[str, dict[str, list[Picture]]]:
        """Both sides by folder name."""
        return {"train": self.train, "val": self.val}

    def side_of(self) -> dict[str, str]:
        """Source path → the folder name of its side."""
        return {picture.source: side for side, artists in self.sides().items()
                for pictures in artists.values() for picture in pictures}

    def not_measured(self) -> list[str]:
        """Artists without a picture to validate with."""
        return [artist for artist, pictures in self.val.items() if not pictures]


def split_artists(artists: Mapping[str, Sequence[Picture]], rule: SplitRule, *, damaged: Mapping[str, str],
                  links: Links) -> Split:
    """Split the usable pictures into training and validation.

    Of equal files of one artist the first is kept. Equal files of several artists train for each of them, because in
    validation they would have two right answers. Each artist gives the rule's share of its pictures, rounded, to
    validation: at least one, never all. A hash of seed and source path chooses them, so other artists and the order
    on disk have no influence, and an added picture has little. What is linked goes to one side as a whole, and the
    other pictures stay where they are without the links.

    `damaged` has the reason of each source path that cannot be used.

    Raises:
        UserError: groups are left out, or each artist has a single one, so that an artist does not train or nobody
            validates.
    """
    split = Split(rule=rule, damaged=dict(damaged), duplicates=_second_copies(links.copies))
    unused = split.damaged.keys() | split.duplicates.keys()
    usable = {artist: [picture for picture in pictures if picture.source not in unused]
              for artist, pictures in sorted(artists.items())}
    split.left_out = {artist: len(pictures) for artist, pictures in usable.items() if len(pictures) < rule.min_images}
    kept = {artist: pictures for artist, pictures in usable.items() if artist not in split.left_out}
    owners = {picture.source: artist for artist, pictures in kept.items() for picture in pictures}
    split.conflicts = [group for group in _kept(links.copies, owners) if len({owners[name] for name in group}) > 1]
    near = _kept(links.near_duplicates or [], owners)
    series = _members(links.groups or {}, owners)
    blocks = _join([*split.conflicts, *near, *series.values()])
    if rule.leave_groups_out:
        asked = {name for group in rule.leave_groups_out for name in series.get(group, ())}
        chosen = {name for block in blocks if not asked.isdisjoint(block) for name in block}
    else:
        chosen = _choose_val(kept, blocks, rule, equal={name for group in split.conflicts for name in group},
                             ambiguous={name for group in near if len({owners[name] for name in group}) > 1
                                        for name in group})
    for artist, pictures in kept.items():
        split.val[artist] = [picture for picture in pictures if picture.source in chosen]
        split.train[artist] = [picture for picture in pictures if picture.source not in chosen]
    split.near_duplicates = None if links.near_duplicates is None else near
    split.parted = [pair for pair in links.parted if owners.keys() >= set(pair)]
    split.groups = None if links.groups is None else {
        group: "val" if names[0] in chosen else "train" for group, names in series.items()}
    _check_sides(split)
    return split


def _second_copies(copies: Iterable[Sequence[Picture]]) -> dict[str, str]:
    """Source path of a second equal file of an artist → that of the first."""
    second: dict[str, str] = {}
    for group in copies:
        kept: dict[str, str] = {}
        for picture in group:
            first = kept.setdefault(picture.artist, picture.source)
            if first != picture.source:
                second[picture.source] = first
    return second


def _kept(groups: Iterable[Sequence[Picture]], owners: Collection[str]) -> list[list[str]]:
    """The source paths in `owners` of each group that has two of them."""
    kept = ([picture.source for picture in group if picture.source in owners] for group in groups)
    return [group for group in kept if len(group) > 1]


def _members(groups: Mapping[str, str], owners: Iterable[str]) -> dict[str, list[str]]:
    """Group → source paths, groups in code-point order."""
    members: dict[str, list[str]] = defaultdict(list)
    for name in owners:
        if name in groups:
            members[groups[name]].append(name)
    return dict(sorted(members.items()))


def _join(groups: Sequence[Sequence[str]]) -> list[list[str]]:
    """What `groups` join, directly or through others, each sorted."""
    if not groups:
        return []
    from scipy.cluster.hierarchy import DisjointSet  # slow to import

    joined = DisjointSet(name for group in groups for name in group)
    for group in groups:
        for name in group[1:]:
            joined.merge(group[0], name)
    return sorted(sorted(subset) for subset in joined.subsets())


def _choose_val(artists: Mapping[str, Sequence[Picture]], blocks: Sequence[Sequence[str]], rule: SplitRule, *,
                equal: Collection[str], ambiguous: Collection[str]) -> set[str]:
    """The source paths of the validation pictures.

    Pictures in no block are drawn as if there were none. Then the blocks are taken in the order of a hash, those of
    several artists first, if that brings their artists nearer to their shares. An artist with nothing to validate gets
    the smallest block that holds at most half of its pictures.

    Args:
        artists: artist → its pictures.
        blocks: source paths of pictures that go to one side.
        rule: the rule of the split.
        equal: pictures that train, and are not drawn.
        ambiguous: pictures that train, with all of their block.
    """
    owners = {picture.source: artist for artist, pictures in artists.items() for picture in pictures}
    total = {artist: len(pictures) for artist, pictures in artists.items()}
    linked = {name for block in blocks for name in block}
    chosen = {name for pictures in artists.values() for name in _draw(pictures, equal, rule) if name not in linked}
    have = Counter(owners[name] for name in chosen)
    free = [(block, Counter(owners[name] for name in block)) for block in blocks
            if not any(name in equal or name in ambiguous for name in block)]
    for block, sizes in sorted(free, key=lambda pair: (-len(pair[1]), _lot(pair[0][0], rule))):
        gain = sum(abs(have[artist] - (share := _share(total[artist], rule))) - abs(have[artist] + size - share)
                   for artist, size in sizes.items())
        if gain > 0 and all(have[artist] + size < total[artist] for artist, size in sizes.items()):
            chosen.update(block)
            have.update(sizes)
    for block, sizes in sorted(free, key=lambda pair: (len(pair[0]), _lot(pair[0][0], rule))):
        if not all(have[artist] for artist in sizes) and all(
                2 * (have[artist] + size) <= total[artist] for artist, size in sizes.items()):
            chosen.update(block)
            have.update(sizes)
    return chosen


def _draw(pictures: Sequence[Picture], equal: Collection[str], rule: SplitRule) -> list[str]:
    """The source paths of an artist's share, drawn from the pictures that are not in `equal`."""
    free = sorted((picture.source for picture in pictures if picture.source not in equal),
                  key=lambda name: _lot(name, rule))
    return free[:_share(len(pictures), rule)]


def _share(count: int, rule: SplitRule) -> int:
    """How many of an artist's pictures validate."""
    return max(1, min(count - 1, int(count * rule.val_ratio + 0.5))) if count > 1 else 0


def _lot(name: str, rule: SplitRule) -> bytes:
    return hashlib.blake2b(f"{rule.seed}/{nfc(name)}".encode(), digest_size=16).digest()


def _check_sides(split: Split) -> None:
    for group in split.rule.leave_groups_out:
        if group not in (split.groups or {}):
            raise UserError(f"no usable picture in the group {group} of --leave-groups-out",
                            f"one, of an artist with at least {split.rule.min_images}", "leave it out of the flag")
    missing = [artist for artist, pictures in split.train.items() if not pictures]
    if missing:
        raise UserError(f"no picture to train of {counted(len(missing), 'artist')}, such as {missing[0]}: "
                        "--leave-groups-out takes them all", "a group of each artist in train/",
                        "leave fewer groups out, or leave the artist out with --artist-map")
    if split.groups is not None and split.val and not any(split.val.values()):
        raise UserError("no artist with two groups by --group-by that can be on both sides, so that val/ is empty",
                        "one artist at the least", "group otherwise, or name groups with --leave-groups-out")
