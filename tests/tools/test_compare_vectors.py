"""The similarity of vectors, as users ask for it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from search.vectors import FeatureSpace, write_features
from tools.compare_vectors import main

VECTORS = {"vector1": [1, 0], "vector2": [3, 4], "vector3": [0, 10]}


@pytest.fixture
def refs(tmp_path: Path) -> Path:
    """refs/vector1.npy to vector3.npy, and query.npy = (2, 0) beside the folder."""
    (tmp_path / "refs").mkdir()
    for name, values in VECTORS.items():
        np.save(tmp_path / "refs" / f"{name}.npy", np.array(values, np.float32))
    np.save(tmp_path / "query.npy", np.array([2, 0], np.float32))
    return tmp_path / "refs"


def compare(refs: Path, *more: object) -> dict:
    output = refs.parent / "similarity.json"
    assert main(["--query-vector", str(refs.parent / "query.npy"), "--reference-vectors", str(refs), "--output",
                 str(output), *map(str, more)]) == 0
    return json.loads(output.read_text(encoding="utf-8"))


def named(answer: dict, key: str) -> list[tuple[str, float]]:
    return [(Path(result["name"]).stem, pytest.approx(result[key])) for result in answer["results"]]


def test_the_documented_command_writes_the_documented_json(refs: Path, tmp_path: Path, run_script) -> None:
    done = run_script("tools/compare_vectors.py", "--query-vector", tmp_path / "query.npy", "--reference-vectors",
                      refs / "vector1.npy", refs / "vector2.npy", "--top-k", 3, "--normalize", "--output",
                      tmp_path / "results" / "similarity.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "results" / "similarity.json").read_text(encoding="utf-8")) == {
        "query": (tmp_path / "query.npy").as_posix(), "metric": "cosine", "top_k": 3, "results": [
            {"name": (refs / "vector1.npy").as_posix(), "cosine_similarity": 1.0},
            {"name": (refs / "vector2.npy").as_posix(), "cosine_similarity": pytest.approx(0.6)}]}
    assert done.stdout.index("vector1.npy") < done.stdout.index("vector2.npy")


@pytest.mark.parametrize(("flags", "key", "expected"), [
    ([], "cosine_similarity", [("vector1", 1), ("vector2", 0.6), ("vector3", 0)]),
    (["--top-k", 1], "cosine_similarity", [("vector1", 1)]),
    (["--metric", "dot"], "dot_product", [("vector2", 6), ("vector1", 2), ("vector3", 0)]),
    (["--metric", "dot", "--normalize"], "dot_product", [("vector1", 1), ("vector2", 0.6), ("vector3", 0)]),
    (["--metric", "l2"], "l2_distance", [("vector1", 1), ("vector2", 17**0.5), ("vector3", 104**0.5)]),
    (["--metric", "l2", "--normalize"], "l2_distance", [("vector1", 0), ("vector2", 0.8**0.5), ("vector3", 2**0.5)]),
])
def test_metrics_as_by_hand(refs: Path, flags: list, key: str, expected: list) -> None:
    assert named(compare(refs, *flags), key) == expected


def test_several_queries_have_an_answer_each(refs: Path, tmp_path: Path, capsys) -> None:
    np.save(tmp_path / "query.npy", np.array([[1, 0], [0, 1]], np.float32))
    (tmp_path / "query.txt").write_text("east\nnorth\n")
    answers = compare(refs, "--top-k", 1)
    assert [(answer["query"], named(answer, "cosine_similarity")[0][0]) for answer in answers] == [
        ("east", "vector1"), ("north", "vector3")]
    assert "cosine similarity to north" in capsys.readouterr().out


def test_a_row_is_not_compared_with_itself_but_with_equal_ones(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[3, 1], [3, 1], [0, 1]], np.float32))
    output = tmp_path / "s.json"
    assert main(["--query-vector", str(tmp_path / "a.npy"), "--reference-vectors", str(tmp_path / "a.npy"),
                 str(tmp_path), "--top-k", "3", "--output", str(output)]) == 0
    found = [[int(result["name"][-2]) for result in answer["results"]] for answer in json.loads(output.read_text())]
    assert found == [[1, 1, 2], [0, 0, 2], [0, 1, 0]]
    np.save(tmp_path / "a.npy", np.array([[3, 1]], np.float32))
    assert main(["--query-vector", str(tmp_path / "a.npy"), "--reference-vectors", str(tmp_path), "--output",
                 str(output)]) == 0
    assert json.loads(output.read_text())["results"] == []


def test_cosines_end_at_one(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 7)).astype(np.float32)
    for name, sign in (("a", 1), ("b", 1), ("c", -1)):
        np.save(tmp_path / f"{name}.npy", sign * rows)
    assert main(["--query-vector", str(tmp_path / "a.npy"), "--reference-vectors", str(tmp_path / "b.npy"),
                 str(tmp_path / "c.npy"), "--top-k", "120", "--output", str(tmp_path / "s.json")]) == 0
    cosines = [result["cosine_similarity"] for answer in json.loads((tmp_path / "s.json").read_text())
               for result in answer["results"]]
    assert max(cosines) == 1
    assert min(cosines) == -1


@pytest.mark.parametrize(("broken", "told"), [
    (lambda refs: np.save(refs.parent / "query.npy", np.ones(3)), r"3 numbers in \S*query.npy; expected 2"),
    (lambda refs: np.save(refs / "vector2.npy", np.ones(5)), r"5 numbers in \S*vector2.npy; expected 2"),
    (lambda refs: (refs.parent / "query.npy").unlink(), r"no \S*query.npy"),
])
def test_what_does_not_fit_is_named(refs: Path, capsys, broken, told: str) -> None:
    broken(refs)
    output = refs.parent / "out.json"
    assert main(["--query-vector", str(refs.parent / "query.npy"), "--reference-vectors", str(refs), "--output",
                 str(output)]) == 2
    found = capsys.readouterr().err
    assert found.count("\n") == 1
    assert re.search(told, found), found
    assert not output.exists()


def test_features_of_two_networks_or_kinds_are_not_compared(tmp_path: Path, capsys) -> None:
    for name, space in (("a", FeatureSpace(model="1")), ("b", FeatureSpace(model="2")),
                        ("c", FeatureSpace(model="1", feature_kind="style"))):
        write_features(tmp_path / name, ["x"], np.ones((1, 2), np.float32), space)
    for other, told in (("b", "features of another network"), ("c", "pooled ones")):
        assert main(["--query-vector", str(tmp_path / other), "--reference-vectors", str(tmp_path / "a")]) == 2
        assert told in capsys.readouterr().err
