"""selected_tags.csv: ratings first, names as they are or as Danbooru writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.tags import write_tags
from utils import UserError


@pytest.mark.parametrize(("danbooru", "names"), [
    (True, ["kate_greenaway", "齐白石"]), (False, ["Kate  Greenaway", "齐白石"])])
def test_artists_follow_four_ratings(danbooru: bool, names: list[str], tmp_path: Path) -> None:
    write_tags(tmp_path / "tags.csv", ["Kate  Greenaway", "齐白石"], danbooru=danbooru)
    assert (tmp_path / "tags.csv").read_text(encoding="utf-8").splitlines() == [
        "tag_id,name,category,count", "0,general,9,0", "1,sensitive,9,0", "2,questionable,9,0", "3,explicit,9,0",
        f"4,{names[0]},4,0", f"5,{names[1]},4,0"]


def test_names_that_become_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="A b and a_B, which are both a_b as Danbooru writes names"):
        write_tags(tmp_path / "tags.csv", ["A b", "c", "a_B"], danbooru=True)
    assert not any(tmp_path.iterdir())
