"""A folder's run: interrupted anywhere and gone on with, or in shards, it leaves the files of an undisturbed one."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from data.images import list_images
from inference.folder_run import FolderOptions, run_folder
from inference.journal import UNFINISHED, Journal
from inference.predictor import Failure, Predictor, Result
from inference.records import describe_each
from inference.result_files import write_results
from inference.shards import find_shards
from runtime.options import InferenceOptions, ResultOptions
from tests.inference.test_predictor import predictor
from tests.pictures import stroke_picture
from utils import Interrupted, UserError

WHAT = {"mode": "both", "top_k": 2, "threshold": 0.0}
NETWORK = InferenceOptions(checkpoint=Path("none"), batch_size=3, num_workers=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven pictures, the third and the seventh of them damaged."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(11):
        stroke_picture(number, rng, 70).save(folder / f"{number:02}.png")
    for number in (2, 6):
        (folder / f"{number:02}.png").write_bytes(b"damaged")
    return folder


def run(network: Predictor, folder: Path, output: Path, **options: object) -> Journal:
    return run_folder(network, list_images(folder), folder, output, functools.partial(describe_each, **WHAT), what=WHAT,
                      options=FolderOptions(**options), network=NETWORK)


def files(journals: list[Journal], output: Path) -> dict[str, bytes]:
    write_results(journals, output, ResultOptions(), has_features=True)
    return {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def expected(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    output = tmp_path_factory.mktemp("undisturbed")
    found = files([run(predictor(), folder, output)], output)
    assert sorted(found) == ["batch_results.json", "features.npy", "image_names.txt"]
    return found


class Stopped(Predictor):
    """Ctrl-C after so many answers."""

    after = 0

    def predict(self, *arguments: object, **options: object) -> Iterator[Result | Failure]:
        for number, answer in enumerate(super().predict(*arguments, **options)):
            if number == self.after:
                raise KeyboardInterrupt
            yield answer


@pytest.mark.parametrize("after", [0, 1, 4, 5, 7, 10])
def test_an_interrupted_run_goes_on_to_the_same_bytes(folder: Path, tmp_path: Path, after: int,
                                                      expected: dict[str, bytes]) -> None:
    stopped = predictor()
    stopped.__class__, stopped.after = Stopped, after
    with pytest.raises(Interrupted, match=f"stopped after {after // 3 * 3} of 11"):
        run(stopped, folder, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [UNFINISHED]
    journal = run(predictor(), folder, tmp_path, resume=True)
    assert journal.done == 11
    assert files([journal], tmp_path) == expected


def test_what_was_answered_is_not_asked_again(folder: Path, tmp_path: Path) -> None:
    run(predictor(), folder, tmp_path)
    silent = predictor()
    silent.look = None
    assert run(silent, folder, tmp_path, resume=True).done == 11


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_shards_merge_to_the_undivided_run(folder: Path, tmp_path: Path, count: int,
                                           expected: dict[str, bytes]) -> None:
    for number in range(count, 0, -1):
        run(predictor(), folder, tmp_path, shard=f"{number}/{count}")
    merged = files(find_shards([tmp_path]), tmp_path / "merged")
    assert merged["image_names.txt"] == expected["image_names.txt"]
    features = [np.frombuffer(each["features.npy"][128:], np.float32) for each in (merged, expected)]
    np.testing.assert_allclose(*features, rtol=1e-4, atol=1e-6)


def test_a_folder_that_changed_is_not_gone_on_with(folder: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes((folder / "00.png").read_bytes())
    run(predictor(), tmp_path, tmp_path / "out")
    (tmp_path / "b.png").rename(tmp_path / "c.png")
    with pytest.raises(UserError, match="digest of names"):
        run(predictor(), tmp_path, tmp_path / "out", resume=True)
