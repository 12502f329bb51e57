"""The index of a tar agrees with tarfile, and notices what tarfile passes over."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from data.tar_files import Member, TarError, find_member, index_tar, is_file, read_member

NAMES = ["a.jpg", "./Anna/0001.jpg", "葛飾 北斎/富嶽.png", f"{'long/' * 30}{'name' * 30}.jpg", "Œuvres/a.b.c.jpg"]


def write_tar(path: Path, names: Iterable[str], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for number, name in enumerate(names):
            member = tarfile.TarInfo(name)
            member.size = 300 * number
            tar.addfile(member, io.BytesIO(bytes([number]) * member.size))
    return path


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_names_and_contents_are_those_of_tarfile(tmp_path: Path, form: int) -> None:
    path = write_tar(tmp_path / "t.tar", NAMES, form)
    members = index_tar(path).members
    with tarfile.open(path) as tar:
        expected = {member.name.removeprefix("./"): (member.offset_data, member.size) for member in tar}
        assert members == expected
        for name, member in members.items():
            assert read_member(path, member) == tar.extractfile(NAMES[list(members).index(name)]).read()  # type: ignore[union-attr]  # regular files


def test_ustar_prefixes_and_binary_sizes_are_read(tmp_path: Path) -> None:
    name = f"{'folder/' * 15}picture.jpg"
    path = write_tar(tmp_path / "t.tar", [name], tarfile.USTAR_FORMAT)
    assert list(index_tar(path).members) == [name]
    member = tarfile.TarInfo("huge.jpg")
    member.size = 2**34
    path.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(TarError, match=r"cut off: huge\.jpg"):
        index_tar(path)


def test_a_tar_that_is_cut_off_anywhere_is_noticed(tmp_path: Path) -> None:
    content = write_tar(tmp_path / "t.tar", NAMES).read_bytes()
    end = len(content.rstrip(b"\0"))
    for length in range(0, end, 256):
        path = tmp_path / f"{length}.tar"
        path.write_bytes(content[:length])
        with pytest.raises(TarError, match="cut off"):
            index_tar(path)


@pytest.mark.parametrize("place", [0, 120, 512, 640])
def test_a_damaged_header_is_noticed(tmp_path: Path, place: int) -> None:
    path = write_tar(tmp_path / "t.tar", ["a.jpg", "b.jpg"], tarfile.USTAR_FORMAT)  # headers at 0 and 512
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(TarError):
        index_tar(path)


@pytest.mark.parametrize("name", ["../a.jpg", "a/../../b.jpg", "/etc/a.jpg", "a/..", "C:/a.jpg", "..\\a.jpg"])
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(TarError, match="leads out"):
        index_tar(write_tar(tmp_path / "t.tar", ["a.jpg", name]))


def test_links_and_devices_have_no_content(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        for name, kind in (("hard.jpg", tarfile.LNKTYPE), ("soft.jpg", tarfile.SYMTYPE), ("pipe", tarfile.FIFOTYPE),
                           ("folder", tarfile.DIRTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
    index = index_tar(tmp_path / "t.tar")
    assert index.members == {}
    assert index.passed_over == {"hard.jpg": "a hard link in a tar", "soft.jpg": "a symbolic link in a tar",
                                 "pipe": "a pipe in a tar"}


def test_a_path_leads_into_a_tar_and_a_tar_within_it(tmp_path: Path) -> None:
    inner = write_tar(tmp_path / "inner.tar", ["a.jpg", "Anna/b.jpg"])
    with tarfile.open(tmp_path / "outer.TAR", "w") as tar:
        tar.add(inner, "in.tar")
    found = find_member(tmp_path / "outer.TAR" / "in.tar" / "Anna" / "b.jpg")
    assert found
    assert read_member(*found) == b"\x01" * 300
    assert find_member(inner) is None
    (tmp_path / "folder.tar").mkdir()
    assert find_member(tmp_path / "folder.tar" / "a.jpg") is None
    assert is_file(inner / "a.jpg")
    assert not is_file(inner / "c.jpg")
    with pytest.raises(TarError, match="no such file"):
        find_member(inner / "c.jpg")
    with pytest.raises(TarError, match="shorter"):
        read_member(inner, Member(10**6, 1))


def test_a_changed_tar_is_indexed_again(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "t.tar", ["a.jpg"])
    assert list(index_tar(path).members) == ["a.jpg"]
    write_tar(path, ["a.jpg", "b.jpg", "c.jpg"])
    assert list(index_tar(path).members) == ["a.jpg", "b.jpg", "c.jpg"]
