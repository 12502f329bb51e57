"""JSON becomes what was asked for, or an error; only regular files are read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
from msgspec import Meta

from data.side_files import LONGEST_LINE, parse_json, read_json, read_lines, read_text, split_lines
from utils import UserError

needs_posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes in folders")


@dataclass(frozen=True)
class Entry:
    name: str
    share: Annotated[float, Meta(ge=0, le=1)] = 0.0


def test_what_fits_is_read_and_further_keys_are_passed_over() -> None:
    assert parse_json('{"name": "石", "share": 1, "more": []}', Entry) == Entry("石", 1.0)
    assert parse_json('\ufeff{"name": "a"}'.encode(), Entry) == Entry("a")
    assert parse_json('["a\\udcff.png", {"x": null}]', list[Any]) == ["a\udcff.png", {"x": None}]


@pytest.mark.parametrize("text", [
    "", "{", "[]", "null", '{"name": 3}', '{"name": "a", "share": "0.5"}', '{"name": "a", "share": 2}',
    '{"name": "a", "share": NaN}', '{"name": "a", "share": 1e999}', '{"name": "a", "share": -Infinity}',
    '{"name": "a", "name": "b"}', '{"name": "a"} {}', "[" * 100_000 + "]" * 100_000, '{"a":' * 10_000,
    '{"name": "a", "share": ' + "9" * 5000 + "}", f'{{"name": "a", "share": {2**70}}}', b"\xff\xfe{}"],
    ids=lambda text: str(text)[:20])
def test_what_does_not_fit_is_refused(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(text, Entry)
    (tmp_path / "x.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=r"x.json, which cannot be read .*; expected an entry; mend it"):
        read_json(tmp_path / "x.json", Entry, expected="an entry", action="mend it")


@needs_posix
def test_pipes_devices_and_folders_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    for name, told in (("pipe", "no regular file"), ("zero", "no regular file"), ("folder", "directory")):
        for read in (read_text, lambda path, **told: read_json(path, Entry, **told)):
            with pytest.raises(UserError, match=told):
                read(tmp_path / name, expected="text", action="give it")
        with pytest.raises(OSError, match=told):
            list(read_lines(tmp_path / name))


def test_a_file_or_line_of_absurd_size_is_not_read_whole(tmp_path: Path) -> None:
    with open(tmp_path / "huge", "wb") as file:
        file.write(b"a\n")
        file.truncate(2**34)  # bytes, none of which is on the disk
    with pytest.raises(UserError, match="larger than 1024 MiB"):
        read_text(tmp_path / "huge", expected="text", action="give it")
    assert [len(line) for line in read_lines(tmp_path / "huge")] == [2, LONGEST_LINE]


@pytest.mark.parametrize(("text", "lines"), [
    ("", []), ("a", ["a"]), ("a\n", ["a"]), ("a\r\nb\r\n", ["a", "b"]), ("a\n\nb\n\n", ["a", "", "b", ""]),
    ("a\u2028b\x0bc\x0cd\x1c\x85e\n\u2029f", ["a\u2028b\x0bc\x0cd\x1c\x85e", "\u2029f"])])
def test_lines_end_with_line_feeds_only(text: str, lines: list[str]) -> None:
    assert split_lines(text) == lines
