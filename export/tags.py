"""selected_tags.csv, by which clients of WD-14 taggers know what each probability is of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data.csv_files import write_rows
from utils import UserError

TAGS = "selected_tags.csv"
COLUMNS = ("tag_id", "name", "category", "count")
# Many clients take the first four rows for ratings, whatever they are, and list no categories but these.
RATINGS = ("general", "sensitive", "questionable", "explicit")
RATING, CHARACTER = 9, 4


def write_tags(path: Path, classes: Sequence[str], *, danbooru: bool) -> None:
    """Write the ratings, and `classes` as characters, which clients list with their names, in the order of ids.

    Raises:
        UserError: two names become one as Danbooru writes them.
    """
    names = [danbooru_name(name) for name in classes] if danbooru else list(classes)
    if twice := next((name for number, name in enumerate(names) if name in names[:number]), None):
        both = [old for old, new in zip(classes, names, strict=True) if new == twice]
        raise UserError(f"{' and '.join(both[:2])}, which are both {twice} as Danbooru writes names",
                        "names that stay different", "leave --danbooru-names away, or rename one")
    rows = [*((name, RATING) for name in RATINGS), *((name, CHARACTER) for name in names)]
    write_rows(path, [COLUMNS, *((number, name, category, 0) for number, (name, category) in enumerate(rows))])


def danbooru_name(name: str) -> str:
    """`name` in lower case, with _ for spaces."""
    return "_".join(name.lower().split())
