"""Batches formed across requests: pictures wait in one bounded queue, and lanes of the CPU take what waits."""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from PIL import Image

from data.image_list import ImageList
from data.images import Reduction, decode_image
from data.transforms import Transform, Views
from inference.predictor import Failure, Prediction, Predictor
from runtime.options import InferenceOptions
from runtime.placement import MOST_LANES

Answer = Prediction | Failure
Result = TypeVar("Result")
GPU_LANES = 2  # one decodes while the network of the other runs


class Upload(NamedTuple):
    """A picture of a request: its name, which is never opened, and its bytes."""

    name: str
    content: bytes


Waiting = tuple[Upload, Future[Answer]]


class QueueFull(Exception):
    """More pictures wait than may."""


class UploadList(ImageList):
    """Pictures whose bytes are at hand."""

    def __init__(self, uploads: Sequence[Upload], transform: Transform, *, max_pixels: int,
                 reduction: Reduction | None) -> None:
        """See `ImageList`; the paths are names."""
        super().__init__([Path(upload.name) for upload in uploads], transform, max_pixels=max_pixels,
                         reduction=reduction)
        self.uploads = uploads

    def picture(self, index: int) -> Image.Image:
        """Picture `index`, decoded; raises `ImageError`."""
        return decode_image(self.paths[index], content=self.uploads[index].content, max_pixels=self.max_pixels,
                            reduction=self.reduction)


class Batcher:
    """The one predictor of a service, fed in batches.

    A lane takes the pictures that wait, up to a batch, decodes them one after the other and runs the network once. It
    waits for no batch to fill: while all lanes work, the next ones gather.
    """

    def __init__(self, predictor: Predictor, options: InferenceOptions, *, capacity: int,
                 note: Callable[[int], None] = lambda size: None) -> None:
        """Start the lanes; `note` is told the size of each batch."""
        self.predictor, self.options, self.capacity, self.note = predictor, options, capacity, note
        self.views = Views(predictor.preprocessing, options.view)
        self.lock = threading.Lock()
        self.waiting: deque[Waiting] = deque()
        self.others = 0  # pieces of other work that wait or run
        cores = torch.get_num_threads()
        lanes = predictor.placement.choose_lanes(MOST_LANES) if predictor.placement.device.type == "cpu" else GPU_LANES
        self.lanes = ThreadPoolExecutor(lanes, "lane", torch.set_num_threads, (max(1, cores // lanes),))

    def submit(self, uploads: Sequence[Upload]) -> list[Future[Answer]]:
        """The answers to come, one per picture; all are taken or none.

        Raises:
            QueueFull: there is no room for them.
        """
        futures: list[Future[Answer]] = [Future() for _ in uploads]
        with self.lock:
            self._check_room(len(uploads))
            self.waiting.extend(zip(uploads, futures, strict=True))
        for _ in uploads:  # those that find nothing left to do end at once
            batch: list[Waiting] = []
            self.lanes.submit(self._run_batch, batch).add_done_callback(functools.partial(_settle, batch))
        return futures

    def submit_work(self, work: Callable[[], Result]) -> Future[Result]:
        """The result to come of other work on one picture, done by a lane in its turn; it has room like a picture.

        Raises:
            QueueFull: there is none.
        """
        with self.lock:
            self._check_room(1)
            self.others += 1
        future = self.lanes.submit(work)
        future.add_done_callback(self._end_work)
        return future

    def count_waiting(self) -> int:
        """Pictures that wait, and those of other work that also run."""
        return len(self.waiting) + self.others

    def _check_room(self, count: int) -> None:
        if self.count_waiting() + count > self.capacity:
            raise QueueFull

    def _end_work(self, done: Future[Any]) -> None:
        with self.lock:
            self.others -= 1

    def close(self) -> None:
        """Answer what waits, then end the lanes."""
        self.lanes.shutdown()

    def _run_batch(self, batch: list[Waiting]) -> Sequence[Answer]:
        """Fill `batch`, which is empty, with what waits, and answer it."""
        with self.lock:
            while self.waiting and len(batch) < self.options.batch_size:
                upload, future = self.waiting.popleft()
                if future.set_running_or_notify_cancel():  # else its client has left
                    batch.append((upload, future))
        if not batch:
            return []
        self.note(len(batch))
        return self.predictor.predict_batch(UploadList(
            [upload for upload, _ in batch], self.views, max_pixels=self.options.max_pixels,
            reduction=self.views.reduction if self.options.draft else None))


def _settle(batch: Sequence[Waiting], done: Future[Sequence[Answer]]) -> None:
    """Give each picture of a batch its answer, or all of them the error of the batch."""
    if error := done.exception():
        for _, future in batch:
            future.set_exception(error)
        return
    for (_, future), answer in zip(batch, done.result(), strict=True):
        future.set_result(answer)
