"""Inference by Ray workers on any number of machines: the answers of a `Predictor`, in the order of the pictures.

Plain actors, not Ray Data: that does not keep the order, needs two more packages, and drops a whole batch whose worker
died more often than it may. Here pictures go out in pieces of whole batches. The piece of a dead worker goes to
another; if that dies too, its pictures go out one by one, and the one that kills again is named.
"""

from __future__ import annotations

import contextlib
import heapq
import logging
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from inference.exported_predictor import open_predictor
from inference.predictor import Failure, Prediction, Predictor, check_failures
from runtime.options import BackendOptions, FeatureOptions, InferenceOptions, RayOptions
from search.vectors import FeatureSpace
from utils import UserError

ROOT = Path(__file__).resolve().parent.parent  # workers import this project from where it lies here
ATTEMPTS = 2  # of a piece, and of each of its pictures
BATCHES = 4  # in a piece
WAITING = 4  # pieces per worker that may wait for an earlier one
PATIENCE = 5  # s for a cluster to answer
EMPTY_SETTINGS, TYPE = b"\0\0\0\4\0\0\0\0\0", slice(3, 4)  # a frame of HTTP/2, and the place of its type
KILLED = "the process that read it died, twice"
Answers = list[Prediction | Failure]


class Worker:
    """A predictor in a process of its own; Ray makes an actor of it."""

    def __init__(self, network: FeatureOptions, backend: BackendOptions, *, uses_features: bool,
                 space: FeatureSpace | None, calibrated: bool, fingerprint: str) -> None:
        """Open the network of the flags; see `open_predictor`.

        Raises:
            UserError: this machine has another network there.
        """
        self.predictor = open_predictor(network, backend, uses_features=uses_features, gallery=space)
        if self.predictor.fingerprint != fingerprint:
            raise UserError(f"another network as {network.checkpoint} on {socket.gethostname()}", "the same everywhere",
                            "copy the file, or name one on a file system that all machines share")
        if calibrated:
            self.predictor.calibrate(network.view)

    def predict(self, paths: Sequence[Path], options: InferenceOptions) -> Answers:
        """The answers to a piece, from batches of `options.batch_size` pictures, whose last one is padded.

        Class names are left out: the driver has them.
        """
        size = options.batch_size  # what is left out at the start makes a piece of one picture as long as a batch
        answers = self.predictor.predict([paths[0]] * size + [*paths], options, start=size)
        return [replace(answer, classes=()) if isinstance(answer, Prediction) else answer for answer in answers]


@dataclass(order=True)
class _Piece:
    """Consecutive pictures, and how often a worker has died of them.

    Attributes:
        start: place of the first picture; no two pieces have the same.
        paths: of the pictures.
        deaths: how often.
    """

    start: int
    paths: Sequence[Path]
    deaths: int = 0

    def again(self) -> list[_Piece]:
        """What to try after a worker's death; nothing where a single picture has had its attempts."""
        if self.deaths < ATTEMPTS:
            return [self]
        return [_Piece(self.start + place, [path]) for place, path in enumerate(self.paths) if len(self.paths) > 1]


@dataclass
class _Progress:
    """Where all pieces are.

    Attributes:
        waiting: a heap, the first piece in front.
        idle: workers.
        running: task → worker and piece.
        found: answers by the place of their first picture.
        deaths: of workers since a piece was last answered.
    """

    waiting: list[_Piece]
    idle: list[Any]
    running: dict[Any, tuple[Any, _Piece]] = field(default_factory=dict)
    found: dict[int, Answers] = field(default_factory=dict)
    deaths: int = 0


class RayPredictor:
    """Asks workers; has the part of a `Predictor` that a run over a folder needs."""

    def __init__(self, options: RayOptions, predictor: Predictor, network: FeatureOptions, backend: BackendOptions, *,
                 uses_features: bool, space: FeatureSpace | None, calibrated: bool) -> None:
        """Connect to a cluster, or start one here.

        `predictor` is what the workers will open from the same flags; `calibrated` says whether it is.

        Raises:
            UserError: Ray is not installed, or the cluster cannot be reached.
        """
        self.ray = connect(options.ray or "local")
        self.predictor, self.device = predictor, predictor.placement.device.type
        checkpoint = network.checkpoint
        if checkpoint and checkpoint.exists():
            checkpoint = checkpoint.resolve()
        self.arguments: dict[str, Any] = {"uses_features": uses_features, "space": space, "calibrated": calibrated,
                                          "fingerprint": predictor.fingerprint}
        self.network, self.backend = replace(network, checkpoint=checkpoint), backend
        kind = "GPU" if self.device == "cuda" else "CPU"
        self.count = options.ray_workers or int(self.ray.cluster_resources().get(kind, 0))
        if not self.count:
            raise UserError(f"a cluster without a {kind}", "one that the workers can run on",
                            "start Ray with resources, or give --ray-workers")

    def predict(self, paths: Sequence[Path], options: InferenceOptions, *,
                start: int = 0) -> Iterator[Prediction | Failure]:
        """One answer per path, in the order given, from `start` on, which is a whole number of batches.

        Raises:
            UserError: workers die whatever they read, or refuse; or no answer is finite, as of `Predictor.answer`.
        """
        size = min(options.batch_size, len(paths)) or 1
        step = BATCHES * size
        waiting = [_Piece(begin, [Path(os.path.abspath(path)) for path in paths[begin:begin + step]])
                   for begin in range(start, len(paths), step)]
        classes, has_answered = self.predictor.classes or (), start > 0
        held: list[Prediction | Failure] = []
        try:
            for place, answer in enumerate(self._in_order(waiting, replace(options, batch_size=size), start), start):
                held.append(replace(answer, path=paths[place], classes=classes) if isinstance(answer, Prediction)
                            else Failure(paths[place], answer.reason))
                has_answered = has_answered or isinstance(answer, Prediction)
                if has_answered:
                    yield from held
                    held = []
            check_failures(held, self.predictor.source)
            yield from held
        finally:
            self.ray.shutdown()

    def _in_order(self, waiting: list[_Piece], options: InferenceOptions,
                  place: int) -> Iterator[Prediction | Failure]:
        """The answers to all pieces, the first of which begins at `place`."""
        at = _Progress(waiting, [self._start() for _ in range(min(self.count, len(waiting)))])
        while at.waiting or at.running or at.found:
            while at.waiting and at.idle and (
                    at.waiting[0].start == place or len(at.found) < WAITING * self.count):
                worker, piece = at.idle.pop(), heapq.heappop(at.waiting)
                at.running[worker.predict.remote(piece.paths, options)] = worker, piece
            done, _ = self.ray.wait([*at.running], num_returns=1) if at.running else ([], [])
            for task in done:
                self._take(at, task)
            while place in at.found:
                answers = at.found.pop(place)
                place += len(answers)
                yield from answers

    def _take(self, at: _Progress, task: Any) -> None:
        """Note what became of a task that has ended."""
        worker, piece = at.running.pop(task)
        answers = self._collect(task)
        if answers is not None:
            at.idle.append(worker)
            at.deaths, at.found[piece.start] = 0, answers
            return
        at.deaths += 1
        if at.deaths > 2 * ATTEMPTS * (self.count + 1):
            raise UserError(f"{at.deaths} workers that died one after another, whatever they read",
                            "memory and a device for each",
                            "give fewer --ray-workers or a smaller --batch-size; with --resume it then goes on")
        piece.deaths += 1
        again = piece.again()
        for part in again:
            heapq.heappush(at.waiting, part)
        if not again:
            at.found[piece.start] = [Failure(piece.paths[0], KILLED)]
        at.idle.append(self._start())

    def _start(self) -> Any:
        """A new worker."""
        remote = self.ray.remote(num_cpus=1, num_gpus=int(self.device == "cuda"), max_restarts=0)(Worker)
        return remote.remote(self.network, self.backend, **self.arguments)

    def _collect(self, task: Any) -> Answers | None:
        """The answers of a task; None if its worker died."""
        errors = self.ray.exceptions
        try:
            return self.ray.get(task)
        except errors.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, UserError):
                raise cause from error
            raise UserError(f"a worker that failed ({' '.join(str(cause).split())[:300]})", "one that answers",
                            "run the same command without --ray to see why; what is done is kept") from error
        except (errors.RayActorError, errors.OutOfMemoryError, errors.WorkerCrashedError) as error:
            if refused := _refusal(error):
                raise UserError(f"a worker that did not start ({refused})", "one that answers",
                                "run the same command without --ray to see why") from error
            return None


def _refusal(error: BaseException) -> str:
    """What a worker's __init__ raised, on one line; empty where it died otherwise."""
    text = str(error)
    if "creation task" not in text:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def _greet(connection: socket.socket) -> None:
    """Raise an `OSError` unless the server speaks HTTP/2, as the head of a cluster does; Ray itself asks for ever.

    **Source:** RFC 9113, sections 3.4 and 6.5: either side begins with a frame of the type SETTINGS.
    """
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + EMPTY_SETTINGS)
    with connection.makefile("rb") as answer:
        if answer.read(len(EMPTY_SETTINGS))[TYPE] != EMPTY_SETTINGS[TYPE]:
            raise OSError("another program's port")


def _no_answer(address: str, error: Exception) -> UserError:
    return UserError(f"--ray {address}, which does not answer ({' '.join(str(error).split())[:200]})",
                     "local, or HOST:PORT of a cluster's head", "start it with ray start --head, or check the address")


def connect(address: str) -> Any:
    """Ray, connected to the cluster at `address`, or to one that is started here for `local`.

    Raises:
        UserError: it is not installed, or the cluster cannot be reached.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError("--ray without the package ray", "it installed on every machine",
                        "pip install -r requirements-ray.txt") from error
    if address not in ("local", "auto"):
        try:
            host, _, port = address.rpartition(":")
            with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
                if os.environ.get("RAY_USE_TLS", "0").lower() not in ("1", "true"):  # Ray's own variable
                    _greet(connection)
        except (OSError, ValueError) as error:
            raise _no_answer(address, error) from error
    before = signal.getsignal(signal.SIGTERM)
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR,
                 runtime_env={"env_vars": environment}, include_dashboard=False if address == "local" else None)
    except (OSError, ValueError, RuntimeError) as error:
        raise _no_answer(address, error) from error
    except Exception as error:
        if type(error) is not Exception:  # which Ray raises itself where a node takes more than 30 s to start
            raise
        raise _no_answer(address, error) from error
    with contextlib.suppress(ValueError):  # outside the main thread
        signal.signal(signal.SIGTERM, before)  # Ray's own handler would leave without a line
    return ray
