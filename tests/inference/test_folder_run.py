"""A folder's run: interrupted anywhere and gone on with, or in shards, it leaves the files of an undisturbed one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from data.picture_files import find_pictures
from inference.folder_run import Shard, find_shards, run_folder
from inference.journal import UNFINISHED, Journal
from inference.modes import MODES, InferenceRequest
from inference.predictor import Failure, Prediction, Predictor
from inference.records import write_results
from runtime.options import FolderOptions, ResultOptions, TrainedOptions
from tests.inference.test_predictor import predictor
from tests.pictures import stroke_picture
from utils import Interrupted, UserError

REQUEST = InferenceRequest(mode=MODES["both"], top_k=2)
NETWORK = TrainedOptions(checkpoint=Path("none"), batch_size=3, num_workers=0)


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
    return run_folder(network, find_pictures(folder).images, folder, output, REQUEST, options=FolderOptions(**options),
                      network=NETWORK)


def files(journals: list[Journal], output: Path) -> dict[str, bytes]:
    write_results(journals, output, ResultOptions(), REQUEST.mode)
    return {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def expected(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    output = tmp_path_factory.mktemp("undisturbed")
    found = files([run(predictor(), folder, output)], output)
    assert sorted(found) == ["batch_results.json", "features.json", "features.npy", "image_names.txt"]
    return found


class Stopped(Predictor):
    """Ctrl-C after so many answers."""

    after = 0

    def predict(self, *arguments: object, **options: object) -> Iterator[Prediction | Failure]:
        for number, answer in enumerate(super().predict(*arguments, **options)):
            if number == self.after:
                raise KeyboardInterrupt
            yield answer


@pytest.mark.parametrize("after", [0, 1, 4, 5, 7, 10])
def test_an_interrupted_run_goes_on_to_the_same_bytes(folder: Path, tmp_path: Path, after: int,
                                                      expected: dict[str, bytes]) -> None:
    stopped = predictor()
    stopped.__class__, stopped.after = Stopped, after
    with pytest.raises(Interrupted, match=f"after {after // 3 * 3} of 11"):
        run(stopped, folder, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [UNFINISHED]
    journal = run(predictor(), folder, tmp_path, resume=True)
    assert journal.done == 11
    assert files([journal], tmp_path) == expected


def test_what_was_answered_is_not_asked_again(folder: Path, tmp_path: Path) -> None:
    run(predictor(), folder, tmp_path)
    silent = predictor()
    silent.run = None
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


# ---- shards ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 5, 6, 23, 24])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_are_consecutive_whole_batches(length: int, count: int) -> None:
    pictures = [Path(str(number)) for number in range(length)]
    parts = [Shard(number, count).part(pictures, 3) for number in range(1, count + 1)]
    assert [picture for part in parts for picture in part] == pictures
    assert all(len(part) % 3 == 0 or part[-1] == pictures[-1] for part in parts)
    assert max(map(len, parts)) - min(map(len, parts)) < 6


def test_a_shard_is_written_as_a_fraction() -> None:
    assert Shard.parse("2/4") == Shard(2, 4)


@pytest.mark.parametrize("text", ["0/4", "5/4", "2", "a/b", "2/4/6", "-1/4", "1/0", "9" * 5000 + "/1"])
def test_what_is_no_shard_is_told(text: str) -> None:
    with pytest.raises(UserError, match="i/n with i from 1 to n"):
        Shard.parse(text)


def make(folder: Path, number: int, count: int, done: int = 2, **more: object) -> Journal:
    journal = Journal.begin(Shard(number, count).folder(folder), {
        "pictures": 2, "shard": f"{number}/{count}", "mode": "classify", **more})
    journal.extend([(f"{number}{each}.png", {}) for each in range(done)], batch_size=1)
    return journal


def test_shards_are_found_in_order_wherever_they_lie(tmp_path: Path) -> None:
    for number in range(1, 12):
        make(tmp_path / str(number % 2), number, 11)
    found = find_shards([tmp_path / "0", tmp_path / "1"])
    assert [name for journal in found for name, _ in journal.entries()] == [
        f"{number}{each}.png" for number in range(1, 12) for each in range(2)]


@pytest.mark.parametrize(("made", "told"), [
    ([], "no shard"), ([(1, 3), (3, 3)], "shard_1_of_3 to shard_3_of_3"), ([(1, 2), (2, 2), (1, 3)], "each once"),
    ([(1, 2), (2, 2, 1)], "with 1 of 2 pictures"), ([(1, 1, 2, "x"), (2, 2, 2, "y")], "each once")])
def test_what_is_missing_or_unfinished_is_told(tmp_path: Path, made: list, told: str) -> None:
    for arguments in made:
        make(tmp_path, *arguments[:3])
    with pytest.raises(UserError, match=told):
        find_shards([tmp_path])


def test_shards_of_a_mode_that_there_is_not_are_told(tmp_path: Path) -> None:
    make(tmp_path, 1, 1, mode="all")
    with pytest.raises(UserError, match=r"the mode all in .*; expected one of classify"):
        find_shards([tmp_path])


def test_shards_with_features_of_several_lengths_are_not_mixed(tmp_path: Path) -> None:
    for number in (1, 2):
        make(tmp_path, number, 2, done=0, pictures=1).extend([("a.png", {"features": [1.0] * number})], batch_size=1)
    with pytest.raises(UserError, match="shard_2_of_2, which differs"):
        find_shards([tmp_path])


def test_a_shard_of_an_absurd_number_is_none(tmp_path: Path) -> None:
    (tmp_path / f"shard_1_of_{'9' * 100}").mkdir()
    with pytest.raises(UserError, match="no shard in"):
        find_shards([tmp_path])


def test_shards_of_two_runs_are_not_mixed(tmp_path: Path) -> None:
    make(tmp_path, 1, 2, model="one")
    make(tmp_path, 2, 2, model="other")
    with pytest.raises(UserError, match="shard_2_of_2, which differs"):
        find_shards([tmp_path])
