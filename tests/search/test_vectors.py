"""Vectors are read with their names from every file that the commands write, and what does not fit is refused."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from search.vectors import (
    FEATURES,
    NAMES,
    _map_array,
    missing_pictures,
    read_vectors,
    same_rows,
)
from utils import UserError

ONE, MANY = np.array([1.0, 2.0]), np.array([[1.0, 2.0], [3.0, 4.0]])


def read(*paths: Path) -> dict[str, list[float]]:
    found = read_vectors(paths)
    assert found.rows.dtype == np.float32
    return dict(zip(found.names, found.rows.tolist(), strict=True))


def as_json(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int32])
def test_one_vector_is_called_like_its_file(tmp_path: Path, kind: type) -> None:
    np.save(tmp_path / "query.npy", ONE.astype(kind))
    assert read(tmp_path / "query.npy") == {f"{tmp_path.as_posix()}/query.npy": [1, 2]}


def test_the_rows_of_a_matrix_are_called_like_the_lines_beside_it(tmp_path: Path) -> None:
    np.save(tmp_path / "features.npy", MANY)
    np.save(tmp_path / "other.npy", MANY)
    (tmp_path / "image_names.txt").write_text("a/1.jpg\n石.jpg\n", encoding="utf-8")
    named = {"a/1.jpg": [1, 2], "石.jpg": [3, 4]}
    assert read(tmp_path / "features.npy") == read(tmp_path) == named
    nameless = (tmp_path / "other.npy").as_posix()
    assert read(tmp_path / "other.npy") == {f"{nameless}[0]": [1, 2], f"{nameless}[1]": [3, 4]}
    (tmp_path / "other.txt").write_text("x\ny\n")
    assert list(read(tmp_path / "other.npy")) == ["x", "y"]


def test_one_matrix_stays_on_disk(tmp_path: Path) -> None:
    np.save(tmp_path / "features.npy", MANY.astype(np.float32))
    assert isinstance(read_vectors([tmp_path]).rows, np.memmap)


def test_archives_have_names_inside(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", features=MANY, image_names=np.array(["a", "b"]))
    assert read(tmp_path / "x.npz") == {"a": [1, 2], "b": [3, 4]}


@pytest.mark.parametrize(("content", "found"), [
    ({"classification": [], "features": [1, 2]}, {"x.json": [1, 2]}),
    ({"a.jpg": {"features": [1, 2]}, "b.jpg": {"error": "truncated"}, "c.jpg": {"features": [3, 4]}},
     {"a.jpg": [1, 2], "c.jpg": [3, 4]}),
    ({"num_clusters": 1, "clusters": [{"cluster_id": 0, "size": 2, "centroid": [1, 2], "images": ["a", "b"]}]},
     {"cluster 0": [1, 2]}),
    ([1, 2], {"x.json": [1, 2]}),
    ([[1, 2], [3, 4]], {"x.json[0]": [1, 2], "x.json[1]": [3, 4]}),
])
def test_json_of_every_command_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: object,
                                       found: dict) -> None:
    monkeypatch.chdir(tmp_path)
    assert read(as_json(Path("x.json"), content)) == found


def test_json_lines_are_read(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"image": "a.jpg", "features": [1, 2]}\n{"image": "b.jpg", "error": "bad"}\n')
    assert read(tmp_path / "x.jsonl") == read(tmp_path) == {"a.jpg": [1, 2]}


def test_a_folder_is_its_features_or_else_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    as_json(Path("b.json"), [5, 6])
    assert read(Path(".")) == {"b.json": [5, 6]}
    np.save("z.npy", ONE)
    np.save("a.npy", ONE + 2)
    assert list(read(Path(".")).items()) == [("a.npy", [3, 4]), ("z.npy", [1, 2])]
    np.save("features.npy", MANY)
    assert list(read(Path("."))) == ["features.npy[0]", "features.npy[1]"]
    assert list(read(Path("b.json"), Path("z.npy"))) == ["b.json", "z.npy"]


def refused(*paths: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_vectors(paths)
    return str(caught.value)


def test_vectors_of_different_lengths_are_named_with_their_files(tmp_path: Path) -> None:
    two, three = tmp_path / "two.npy", tmp_path / "three.npy"
    np.save(two, ONE)
    np.save(three, np.ones(3))
    told = refused(two, three)
    assert f"vectors of 3 numbers in {three}" in told
    assert f"expected 2, as in {two}" in told


@pytest.mark.parametrize(("name", "content", "told"), [
    ("missing.npy", None, "no "), ("notes.txt", b"1 2", "no file of vectors"), ("bad.npy", b"junk", "that can be read"),
    ("bad.npz", b"junk", "that can be read"), ("bad.json", b"{", "that can be read"),
    ("text.json", b'{"features": ["a"]}', "that can be read"), ("number.json", b"3", "that can be read"),
    ("ragged.json", b"[[1, 2], [3]]", "that can be read"), ("empty.json", b"{}", "no vector in"),
    ("classes.json", b'{"a.jpg": {"classification": []}}', "no vector in"),
    ("nan.json", b"[[1, 2], [3, NaN]]", "the number NaN, which is not finite"),
])
def test_what_holds_no_vectors_is_refused(tmp_path: Path, name: str, content: bytes | None, told: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert told in refused(tmp_path / name)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object))
    assert "that can be read" in refused(tmp_path / "objects.npy")


def header(shape: str, descr: str = "'<f4'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize("content", [
    header("(3, 2)") + bytes(23), header("(3, 2)") + bytes(25), header("(-3, -2)") + bytes(24), header("()") + bytes(4),
    header("(2, 3, 4)") + bytes(96), header("(10**9, 10**9)") + bytes(24), header(f"({2**62}, 4)"),
    header("((((") + bytes(24),
    header("(3, 2)", "'<c8'") + bytes(48), header("(3, 2)", "'|O'") + bytes(48), header("(3, 2)", "'|b1'") + bytes(6),
    header("(3, 2)", "[('a', '<f4')]") + bytes(24), header("(3, 0)"), header("(100000000000000, 5)", "'<U0'"),
    header("(2,)", "'<U1'") + bytes(8), b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(24)], ids=range(16))
def test_a_header_that_disagrees_with_the_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    assert "holds no vectors that can be read" in refused(tmp_path / "x.npy")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300, 1e16, -1e16])
@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_numbers_that_no_cosine_can_be_made_of_are_refused(tmp_path: Path, value: float, name: str) -> None:
    rows = np.ones((5, 3))
    rows[3, 1] = value
    with open(tmp_path / name, "wb") as file:
        np.save(file, rows) if name == "x.npy" else np.savez(file, features=rows)
    assert "not finite, or huge, in row 3 of" in refused(tmp_path / name)


def test_features_of_a_million_pictures_open_without_being_read(tmp_path: Path) -> None:
    start = header("(1000000, 2048)")
    with open(tmp_path / "features.npy", "wb") as file:
        file.write(start)
        file.truncate(len(start) + 4 * 1_000_000 * 2048)  # bytes, none of which is on the disk
    found = _map_array(tmp_path / "features.npy")
    assert found.shape == (1_000_000, 2048)
    assert isinstance(found, np.memmap)
    assert not found[-1].any()


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_may_not_unpack_to_many_times_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                          kind: int) -> None:
    (np.savez if kind == zipfile.ZIP_STORED else np.savez_compressed)(tmp_path / "x.npz", features=np.zeros((1000, 99)))
    assert len(read(tmp_path / "x.npz")) == 1000
    monkeypatch.setattr("search.vectors.MOST_UNPACKED", 1000)
    if kind == zipfile.ZIP_STORED:
        assert len(read(tmp_path / "x.npz")) == 1000
    else:
        assert "features unpacks to" in refused(tmp_path / "x.npz")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes in folders")
@pytest.mark.parametrize("name", ["features.npy", "x.npz", "x.json", "x.jsonl", "image_names.txt"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, name: str) -> None:
    np.save(tmp_path / "features.npy", MANY)
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    assert "no regular file" in refused(tmp_path / ("features.npy" if name.endswith("txt") else name))


@pytest.mark.parametrize("content", [
    {"clusters": [{"centroid": [1, 2]}]}, {"clusters": {}}, {"a.jpg": {"features": "no"}}, {"a.jpg": 3}, [1, "2"],
    [[1, 2], 3], {"features": [True]}, {"features": [10**400]}, {"features": [[1, 2]]}, [[]]], ids=str)
def test_json_of_another_type_is_refused(tmp_path: Path, content: object) -> None:
    assert "holds no vectors that can be read" in refused(as_json(tmp_path / "x.json", content))


def test_json_lines_are_checked_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"image": "a", "features": [1, 2]}\n{"image": 3}\n')
    assert "holds no vectors that can be read" in refused(tmp_path / "x.jsonl")


def test_the_same_row_of_the_same_file_is_known(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", MANY)
    np.save(tmp_path / "b.npy", np.vstack([MANY, MANY]))
    queries, references = read_vectors([tmp_path / "b.npy"]), read_vectors([tmp_path, tmp_path / "b.npy"])
    assert list(same_rows(queries, references)) == [[2, 6], [3, 7], [4, 8], [5, 9]]
    assert list(same_rows(references, read_vectors([tmp_path / "a.npy"]))) == [[0], [1], *[[]] * 8]


def test_pictures_of_features_are_looked_for_in_their_folder_only(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").touch()
    assert missing_pictures(tmp_path, ["a/1.png", "a/2.png"]) == ["a/2.png"]
    for names, told in ((["a/2.png", "b.png"], "nor another picture"), (["a/1.png", "../x.png"], "does not lie in"),
                        (["a/1.png", "/etc/x.png"], "does not lie in")):
        with pytest.raises(UserError, match=told):
            missing_pictures(tmp_path, names)


def test_names_of_another_run_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "features.npy", MANY)
    (tmp_path / "image_names.txt").write_text("a\n")
    assert "1 names for the 2 rows" in refused(tmp_path)


def rows_by_name(output: Path) -> dict[str, list[float]]:
    features = np.load(output / FEATURES)
    names = (output / NAMES).read_text(encoding="utf-8").splitlines()
    assert features.dtype == np.float32
    return dict(zip(names, features.tolist(), strict=True))


def test_names_keep_signs_at_which_only_python_breaks_lines(tmp_path: Path) -> None:
    np.save(tmp_path / "features.npy", MANY)
    (tmp_path / "image_names.txt").write_bytes("a\u2028b\x0b.png\r\nc\x85.png".encode())
    assert list(read_vectors([tmp_path]).names) == ["a\u2028b\x0b.png", "c\x85.png"]
    np.save(tmp_path / "other.npy", MANY)
    (tmp_path / "other.txt").write_bytes("\ufeffx\x0c\ny\n".encode())
    assert list(read_vectors([tmp_path / "other.npy"]).names) == ["x\x0c", "y"]
