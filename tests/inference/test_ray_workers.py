"""Ray workers: the answers of one process, in order; dead workers are survived, and pictures that kill are named."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import types
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

import inference.ray_workers
import inference_artist
from inference.predictor import NOT_FINITE, Failure, Prediction
from inference.ray_workers import KILLED, RayPredictor, Worker, connect
from runtime.options import BackendOptions, FeatureOptions, InferenceOptions, RayOptions
from tests.pictures import write_data_set
from tests.small_runs import write_run
from utils import UserError


class Died(Exception):
    """As Ray says that an actor died."""


class Raised(Exception):
    """As Ray says that a task raised an error."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class FakeRay(types.ModuleType):
    """The part of Ray that is used, in this process; the latest task ends first, so that order must be made."""

    exceptions = types.SimpleNamespace(RayTaskError=Raised, RayActorError=Died, OutOfMemoryError=MemoryError,
                                       WorkerCrashedError=Died)

    def __init__(self, answer: Any) -> None:
        super().__init__("ray")
        self.answer, self.workers, self.is_shut = answer, 0, False

    def init(self, **options: Any) -> None:
        self.options = options

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}

    def shutdown(self) -> None:
        self.is_shut = True

    def remote(self, **options: Any) -> Any:
        def start(*arguments: Any, **named: Any) -> Any:
            self.workers += 1
            return types.SimpleNamespace(predict=types.SimpleNamespace(
                remote=lambda paths, options: (paths[0].name, len(paths), lambda: self.answer(paths, options))))

        return lambda worker: types.SimpleNamespace(remote=start)

    def wait(self, tasks: list[Any], num_returns: int) -> tuple[list[Any], list[Any]]:
        return tasks[-1:], tasks[:-1]

    def get(self, task: Any) -> Any:
        return task[2]()


PATHS = [Path(f"{number:03}.png") for number in range(100)]
PREDICTOR: Any = types.SimpleNamespace(
    classes=["a", "b"], fingerprint="f", source=Path("x.pth"),
    placement=types.SimpleNamespace(device=torch.device("cpu")))


def predict(monkeypatch: pytest.MonkeyPatch, answer: Any, *, start: int = 0,
            paths: Sequence[Path] = PATHS) -> tuple[FakeRay, list[Prediction | Failure]]:
    """What is answered where workers answer a piece by `answer`, in batches of 3."""
    ray = FakeRay(answer)
    monkeypatch.setitem(sys.modules, "ray", ray)
    workers = RayPredictor(RayOptions(ray="local"), PREDICTOR, FeatureOptions(), BackendOptions(), uses_features=False,
                           space=None, calibrated=False)
    return ray, [*workers.predict(paths, InferenceOptions(batch_size=3), start=start)]


def tell(paths: Sequence[Path], options: InferenceOptions) -> list[Prediction | Failure]:
    return [Prediction(path, torch.zeros(1), torch.tensor([float(path.stem)]), ()) for path in paths]


@pytest.mark.parametrize(("start", "count"), [(0, 100), (60, 100), (0, 1), (0, 0)])
def test_answers_come_in_the_order_of_the_pictures(monkeypatch: pytest.MonkeyPatch, start: int, count: int) -> None:
    ray, found = predict(monkeypatch, tell, start=start, paths=PATHS[:count])
    assert [answer.path for answer in found] == PATHS[start:count]
    assert [answer.logits.item() for answer in found] == [*range(start, count)]
    assert all(answer.classes == ["a", "b"] for answer in found)
    assert ray.is_shut
    assert ray.workers <= 2


def test_pictures_that_kill_are_named_and_all_others_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []

    def answer(paths: Sequence[Path], options: InferenceOptions) -> list[Prediction | Failure]:
        tries.append(len(paths))
        if {"007.png", "008.png", "099.png"} & {path.name for path in paths}:
            raise Died
        return tell(paths, options)

    ray, found = predict(monkeypatch, answer)
    assert {place: answer.reason for place, answer in enumerate(found) if isinstance(answer, Failure)} == {
        7: KILLED, 8: KILLED, 99: KILLED}
    assert [answer.path for answer in found] == PATHS
    # Of 9 pieces, one of 12 pictures and the last, of 4, go out twice, then one by one, and what kills again twice.
    assert len(tries) == 7 + 2 * 2 + (10 + 2 * 2) + (3 + 2)
    assert ray.workers == 2 + 2 * 2 + 3 * 2


def test_a_worker_killed_once_costs_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[Path] = []

    def answer(paths: Sequence[Path], options: InferenceOptions) -> list[Prediction | Failure]:
        if paths[0].name == "048.png" and not killed:
            killed.append(paths[0])
            raise Died
        return tell(paths, options)

    ray, found = predict(monkeypatch, answer)
    assert (len(killed), ray.workers) == (1, 3)
    assert [answer.logits.item() for answer in found] == [*range(100)]


@pytest.mark.parametrize("start", [0, 60])
def test_a_network_without_a_finite_answer_is_refused(monkeypatch: pytest.MonkeyPatch, start: int) -> None:
    def answer(paths: Sequence[Path], options: InferenceOptions) -> list[Prediction | Failure]:
        return [Failure(path, NOT_FINITE) for path in paths]

    if start:  # there were answers before
        assert len(predict(monkeypatch, answer, start=start)[1]) == 40
        return
    with pytest.raises(UserError, match=r"x\.pth, whose answers are all not finite"):
        predict(monkeypatch, answer)


def raising(error: Exception) -> Any:
    def answer(paths: Sequence[Path], options: InferenceOptions) -> None:
        raise error

    return answer


@pytest.mark.parametrize(("error", "told"), [
    (Died(), "13 workers that died one after another"), (MemoryError(), "workers that died one after another"),
    (Raised(UserError("another network", "the same", "copy it")), "another network"),
    (Raised(MemoryError("no room\nfor this")), r"a worker that failed \(no room for this\)"),
    (Died("died because of an error raised in its creation task, x\n  File y\nUserError: z"), "start .UserError: z.")])
def test_workers_that_only_die_end_the_run_with_a_line(monkeypatch: pytest.MonkeyPatch, error: Exception,
                                                       told: str) -> None:
    with pytest.raises(UserError, match=told):
        predict(monkeypatch, raising(error))


def test_ray_that_is_missing_or_does_not_answer_gets_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install -r requirements-ray\.txt"):
        connect("local")
    monkeypatch.setitem(sys.modules, "ray", FakeRay(tell))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        for address in (f"127.0.0.1:{unused.getsockname()[1]}", "nowhere"):
            with pytest.raises(UserError, match=f"--ray {address}, which does not answer"):
                connect(address)


@pytest.mark.parametrize(("said", "taken"), [(b"HTTP/1.0 400 Bad Request\r\n\r\n", False), (b"", False),
                                             (b"\0\0\6\4\0\0\0\0\0\0\5\0\0\x40\0", True)])
def test_a_port_of_another_program_gets_a_line(monkeypatch: pytest.MonkeyPatch, said: bytes, taken: bool) -> None:
    monkeypatch.setitem(sys.modules, "ray", FakeRay(tell))
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        def serve() -> bytes:
            connection, _ = server.accept()
            with connection, connection.makefile("rwb") as stream:
                greeting = stream.read(33)
                stream.write(said)
            return greeting

        greeting = pool.submit(serve)
        with contextlib.nullcontext() if taken else pytest.raises(UserError, match="another program's port"):
            connect(address)
        assert greeting.result() == b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"


def test_a_head_that_encrypts_is_not_greeted_in_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", FakeRay(tell))
    monkeypatch.setenv("RAY_USE_TLS", "1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        connect(f"127.0.0.1:{server.getsockname()[1]}")
        connection, _ = server.accept()
        with connection:
            assert connection.recv(1) == b""


@pytest.mark.parametrize(("error", "kind"), [
    (Exception("The current node timed out during startup."), UserError), (ConnectionError("no GCS"), UserError),
    (KeyError("a bug"), KeyError)])
def test_a_cluster_that_does_not_start_gets_a_line(monkeypatch: pytest.MonkeyPatch, error: Exception,
                                                   kind: type[Exception]) -> None:
    def refuse(ray: FakeRay, **options: Any) -> None:
        raise error

    monkeypatch.setattr(FakeRay, "init", refuse)
    monkeypatch.setitem(sys.modules, "ray", FakeRay(tell))
    with pytest.raises(kind, match=str(error.args[0])):
        connect("local")


@pytest.mark.parametrize(("flags", "told"), [
    (["--ray", "local"], "--ray with the single picture"), (["--ray-workers", "2"], "--ray-workers without --ray")])
def test_flags_that_do_not_fit_are_refused(tmp_path: Path, flags: list[str], told: str,
                                           capsys: pytest.CaptureFixture) -> None:
    picture = write_data_set(tmp_path / "data", artists=1, train=1, val=0) / "train" / "artist_0" / "train_0.png"
    assert inference_artist.main(["--checkpoint", "none.pth", "--input", str(picture), *flags]) == 2
    assert told in capsys.readouterr().err


def test_a_worker_answers_what_the_predictor_does(tmp_path: Path) -> None:
    checkpoint = write_run(tmp_path / "run") / "model_best.pth"
    paths = sorted((write_data_set(tmp_path / "data", train=3, val=0) / "train").rglob("*.png"))
    network = FeatureOptions(checkpoint=checkpoint, batch_size=4, num_workers=0)
    whole = inference.ray_workers.open_predictor(network, BackendOptions())
    arguments: dict[str, Any] = {"uses_features": False, "space": None, "calibrated": False}
    worker = Worker(network, BackendOptions(), fingerprint=whole.fingerprint, **arguments)
    expected = [*whole.predict(paths, network)]
    found = [answer for begin in (0, 4, 8) for answer in worker.predict(paths[begin:begin + 4], network)]
    assert [answer.path for answer in found] == paths
    assert all(torch.equal(one.logits, other.logits) for one, other in zip(found, expected, strict=True))
    with pytest.raises(UserError, match="another network"):
        Worker(network, BackendOptions(), fingerprint="other", **arguments)


class Killed(Worker):
    """A worker that one picture kills whenever it is read, and another one the first time."""

    def predict(self, paths: Sequence[Path], options: InferenceOptions) -> list[Prediction | Failure]:
        for path in paths:
            first = path.parent.parent.parent / "first"
            if path.name == "killer.png" or (path.name == "train_7.png" and not first.exists()):
                first.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().predict(paths, options)


@pytest.mark.exhaustive
def test_a_cluster_on_this_machine_writes_the_files_of_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                   capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("ray", reason="the package of requirements-ray.txt is not installed")
    checkpoint, data = write_run(tmp_path / "run") / "model_best.pth", write_data_set(tmp_path / "data")
    common = ["--mode", "both", "--checkpoint", str(checkpoint), "--input", str(data / "train"), "--batch-size", "2"]
    cluster = [*common, "--ray", "local", "--ray-workers", "2"]
    assert inference_artist.main([*common, "--output", str(tmp_path / "plain")]) == 0
    monkeypatch.setattr("inference.ray_workers.Worker", Killed)
    assert inference_artist.main([*cluster, "--output", str(tmp_path / "ray")]) == 0
    plain, ray = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("plain", "ray"))
    assert plain == ray
    assert (data / "first").exists(), "a worker was killed"
    killer = data / "train" / "artist_1" / "killer.png"
    killer.write_bytes((data / "val" / "artist_1" / "val_0.png").read_bytes())
    capsys.readouterr()
    assert inference_artist.main([*cluster, "--output", str(tmp_path / "killed")]) == 3
    assert f"not read: artist_1/killer.png ({KILLED})" in capsys.readouterr().err
