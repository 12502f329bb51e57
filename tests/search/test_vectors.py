"""Vectors are read with their names from every file that the commands write, and what does not fit is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from search.vectors import FEATURES, NAMES, read_vectors, write_features
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
    ("nan.json", b"[[1, 2], [3, NaN]]", "nan.json[1], row 1 of"),
])
def test_what_holds_no_vectors_is_refused(tmp_path: Path, name: str, content: bytes | None, told: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert told in refused(tmp_path / name)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object))
    assert "that can be read" in refused(tmp_path / "objects.npy")


def test_names_of_another_run_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "features.npy", MANY)
    (tmp_path / "image_names.txt").write_text("a\n")
    assert "1 names for the 2 rows" in refused(tmp_path)


def rows_by_name(output: Path) -> dict[str, list[float]]:
    features = np.load(output / FEATURES)
    names = (output / NAMES).read_text(encoding="utf-8").splitlines()
    assert features.dtype == np.float32
    return dict(zip(names, features.tolist(), strict=True))


@pytest.mark.parametrize("name", ["a\nb.png", "a\r\nb.png", "a\u2028b.png", "a\x85b.png", "a\x0bb.png"])
def test_a_line_break_in_a_name_shifts_no_row(name: str, tmp_path: Path) -> None:
    write_features(tmp_path, ["before.png", name, "after.png"], np.arange(3, dtype=np.float32)[:, None])
    assert rows_by_name(tmp_path) == {"before.png": [0.0], "a b.png": [1.0], "after.png": [2.0]}
