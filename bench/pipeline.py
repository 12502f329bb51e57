"""How fast a folder is answered: the pipeline beside a plain loop by turns, and beside what the processor could do."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from data.image_list import collate
from data.images import ImageError, decode_image
from data.transforms import eval_transform
from inference.predictor import Predictor
from inference.views import ViewList, Views
from runtime.networks import features_and_logits
from runtime.options import InferenceOptions
from runtime.placement import cores
from utils import UserError

SAMPLE = 256  # pictures by which core-seconds are measured


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One turn of all that is measured, s per picture: durations of the whole, and core-seconds of its two parts."""

    plain: float
    pipeline: float
    decoding: float
    network: float


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """What was measured.

    Attributes:
        cores: of this process.
        turns: one after another.
    """

    cores: int
    turns: list[Turn]

    def rate(self, part: str) -> float:
        """Pictures per second: of `plain` or `pipeline`, or of one core that does nothing but `decoding`, `network`."""
        return 1 / median(getattr(turn, part) for turn in self.turns)

    @property
    def bound(self) -> float:
        """Pictures per second if all cores were busy decoding or in the network all the time."""
        return median(self.cores / (turn.decoding + turn.network) for turn in self.turns)

    @property
    def share(self) -> float:
        """Part of the bound that the pipeline reaches: the median over the turns."""
        return median((turn.decoding + turn.network) / self.cores / turn.pipeline for turn in self.turns)

    @property
    def times_as_fast(self) -> float:
        """The pipeline beside the plain loop: the median over the turns."""
        return median(turn.plain / turn.pipeline for turn in self.turns)


def measure_pipeline(paths: Sequence[Path], options: InferenceOptions, rounds: int) -> Pipeline:
    """Answer the pictures with both by turns, after each was warmed up.

    The plain loop opens, transforms, batches and asks: this network, folded, in float32 and not compiled.
    """
    predictor = Predictor.from_options(options)
    plain = Predictor.from_checkpoint(options.checkpoint, model=options.model, class_csv=options.class_csv,
                                      device=options.device)
    few = paths[:2 * options.batch_size]
    _plain_loop(plain, few, options.batch_size)
    list(predictor.answer(few, options))
    turns = [Turn(plain=_seconds(lambda: _plain_loop(plain, paths, options.batch_size)) / len(paths),
                  pipeline=_seconds(lambda: list(predictor.answer(paths, options))) / len(paths),
                  **_core_seconds(predictor, paths[::max(1, len(paths) // SAMPLE)][:SAMPLE], options))
             for _ in range(rounds)]
    return Pipeline(cores=cores(), turns=turns)


def _plain_loop(predictor: Predictor, paths: Sequence[Path], batch_size: int) -> None:
    transform = eval_transform(predictor.preprocessing)
    with torch.inference_mode():
        for start in range(0, len(paths), batch_size):
            try:
                images = torch.stack([transform(decode_image(path)) for path in paths[start:start + batch_size]])
            except ImageError as error:
                raise UserError(f"{error}", "pictures that can all be read, which the plain loop needs",
                                "move this one away") from error
            features_and_logits(predictor.network, predictor.placement.images(images))


def _core_seconds(predictor: Predictor, paths: Sequence[Path], options: InferenceOptions) -> dict[str, float]:
    """What decoding and the network each cost one core, s per picture; both on one thread."""
    pictures = ViewList(paths, Views(predictor.preprocessing, options.view), max_pixels=options.max_pixels,
                        draft=options.draft)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    samples = []
    decoding = _seconds(lambda: samples.extend(pictures[number] for number in range(len(paths))), time.process_time)
    pixels = collate(samples[:options.batch_size]).images
    predictor.look(pixels[:, 0])
    network = min(_seconds(lambda: predictor.look(pixels[:, 0]), time.process_time) for _ in range(5))
    torch.set_num_threads(threads)
    return {"decoding": decoding / len(paths), "network": network / len(pixels) * pixels.shape[1]}


def _seconds(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    start = clock()
    work()
    return clock() - start
