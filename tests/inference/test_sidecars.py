"""Sidecars: read back as they were written, and never in place of what somebody wrote by hand."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.multilabel.grammar import LabelGrammar, read_labels
from data.multilabel.label_files import read_label_files
from data.names import line_problem, nfc
from data.picture_files import expand_inputs
from inference.filing import place_sidecars
from inference.sidecars import SidecarOptions, SidecarOutcome, format_tags, format_xmp, write_sidecars
from utils import UserError

TAGS = ["Doe, Jane", "\"Q\" (o'b)", "re:zero", "(a:2)", "a_b c_d", "画家", "<b>&amp;"]


def pictures(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"\xff\xd8\xff")
    return [folder / name for name in names]


def write(tagged: dict[Path, list[str]], overwrite: bool = False, kind: str = "txt") -> SidecarOutcome:
    options = SidecarOptions(sidecars=kind, beside=True, overwrite_sidecars=overwrite)  # type: ignore[arg-type]  # parametrised
    return write_sidecars(tagged.items(), TAGS, options, {})


def test_text_files_give_the_tags_back_and_pictures_of_one_stem_have_their_own(tmp_path: Path) -> None:
    found = pictures(tmp_path, "a.jpg", "b.jpg", "b.png", "c.jpg")
    tagged = dict(zip(found, (TAGS, TAGS[:1], TAGS[1:3], []), strict=True))
    outcome = write(tagged)
    assert (outcome.written, outcome.without, outcome.delimiter) == (3, 1, "|")
    read = read_label_files(tmp_path, recursive=False, grammar=LabelGrammar(delimiter="|"), skip_invalid=False)
    assert {row.path: [*row.labels] for row in read.annotations} == {
        path.name: tags for path, tags in tagged.items() if tags}
    assert (tmp_path / "a.txt").is_file()
    assert (tmp_path / "b.png.txt").is_file()
    assert write(tagged).there == 3


@given(st.lists(st.text(min_size=1).map(nfc).filter(
    lambda tag: tag == tag.strip() and not line_problem(tag) and "," not in tag), min_size=1, unique=True))
def test_any_tags_are_read_as_they_were_written(tags: list[str]) -> None:
    assert [*read_labels(format_tags(tags, ",").strip("\n"), LabelGrammar(format="csv"))] == tags


def test_what_somebody_wrote_stays_or_is_kept_as_a_backup(tmp_path: Path) -> None:
    picture, = pictures(tmp_path, "a.jpg")
    own = tmp_path / "a.caption"
    own.write_text("mine")
    assert write({picture: ["D"]}).kept == [own]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.caption", "a.jpg"]
    for tag, text in (("D", "mine"), ("E", "D\n")):
        assert write({picture: [tag]}, overwrite=True).written == 1
        assert own.read_text() == f"{tag}\n"
        assert text in [backup.read_text() for backup in tmp_path.glob("a.caption.bak*")]
    assert write({picture: ["E"]}, overwrite=True).written == 0
    assert len([*tmp_path.glob("*.bak*")]) == 2


@pytest.mark.parametrize(("before", "after"), [
    ("1girl, solo", "1girl, solo, D, re:zero\n"), ("solo,\n", "solo, D, re:zero\n"), ("", "D, re:zero\n"),
    ("solo\nred\n", "solo\nred\nD\nre:zero\n"), ("re:zero, x\r\n", "re:zero, x, D\n"),
    ("D, re:zero", "D, re:zero")])
def test_a_text_file_is_extended_once_and_kept_as_a_backup(before: str, after: str, tmp_path: Path) -> None:
    picture, = pictures(tmp_path, "a.jpg")
    own = tmp_path / "a.txt"
    own.write_bytes(before.encode())
    options = SidecarOptions(sidecars="txt", beside=True, extend_sidecars=True)
    for written in (int(before != after), 0):
        assert write_sidecars([(picture, ["D", "re:zero"])], ["D", "re:zero"], options, {}).written == written
        assert own.read_bytes().decode() == after
    assert [file.read_bytes().decode() for file in tmp_path.glob("*.bak*")] == [before] * (before != after)


@pytest.mark.parametrize("before", [b'["a", "b"]', b"caf\xe9"])
def test_what_cannot_be_extended_stays_and_is_told(before: bytes, tmp_path: Path) -> None:
    picture, = pictures(tmp_path, "a.jpg")
    (tmp_path / "a.txt").write_bytes(before)
    options = SidecarOptions(sidecars="txt", extend_sidecars=True)
    assert [path for path, _ in write_sidecars([(picture, ["D"])], ["D"], options, {}).failed] == [picture]
    assert (tmp_path / "a.txt").read_bytes() == before
    with pytest.raises(UserError, match="between commas"):
        write_sidecars([], ["Doe, Jane"], options, {})
    for flags in ({"sidecars": "xmp"}, {"sidecars": "txt", "overwrite_sidecars": True}, {}):
        with pytest.raises(UserError, match="--extend-sidecars"):
            SidecarOptions(extend_sidecars=True, **flags).check([])


def test_xmp_holds_the_tags_as_keywords(tmp_path: Path) -> None:
    picture, = pictures(tmp_path, "a.jpg")
    write({picture: [*TAGS, "x\uffff"]}, kind="xmp")
    text = (tmp_path / "a.jpg.xmp").read_text(encoding="utf-8")
    space = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li"
    assert [item.text for item in ElementTree.fromstring(text).iter(space)] == [*TAGS, "x\ufffd"]
    assert text == format_xmp([*TAGS, "x\uffff"])


def test_inputs_have_places_of_their_own(tmp_path: Path) -> None:
    pictures(tmp_path, "in/sub/a.jpg", "b.jpg", "other/b.jpg")
    found = expand_inputs([str(tmp_path / "in"), str(tmp_path / "b.jpg")], recursive=True)
    assert [*place_sidecars(found, tmp_path / "out.json").values()] == [
        tmp_path / "out_sidecars/sub/a.jpg", tmp_path / "out_sidecars/b.jpg"]
    found = expand_inputs([str(tmp_path / "other"), str(tmp_path / "b.jpg")], recursive=True)
    with pytest.raises(UserError, match="one name"):
        place_sidecars(found, tmp_path / "out.json")


def test_tags_without_a_delimiter_and_flags_without_sidecars_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="rename an artist"):
        write_sidecars([], [",;|\t"], SidecarOptions(sidecars="txt"), {})
    for options in (SidecarOptions(beside=True), SidecarOptions(overwrite_sidecars=True)):
        with pytest.raises(UserError, match="without --sidecars"):
            options.check([])


def test_a_sidecar_that_cannot_be_written_is_told_and_the_others_are_written(tmp_path: Path) -> None:
    first, second = pictures(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "a.txt").mkdir()
    outcome = write({first: ["D"], second: ["D"]})
    assert ([path for path, _ in outcome.failed], outcome.written) == ([first], 1)
    assert next(outcome.lines()).startswith(f"no sidecar: {first}")
