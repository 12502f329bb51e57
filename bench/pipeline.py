"""The speed of inference on a folder, compared with a plain loop and with the bound that the processor sets."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from data.image_list import ImageList, collate
from data.images import ImageError, decode_image
from data.transforms import Views, eval_transform
from inference.predictor import Predictor
from runtime.networks import features_and_logits
from runtime.options import TrainedOptions
from runtime.placement import count_cores
from utils import UserError

SAMPLE = 256  # images to measure core-seconds with


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round, s per image: durations of the plain loop and the pipeline, and a core's time for their two parts."""

    plain: float
    pipeline: float
    decoding: float
    network: float


@dataclass(frozen=True, kw_only=True)
class PipelineSpeed:
    """All measurements on a machine.

    Attributes:
        cores: of this process.
        rounds: one after another.
    """

    cores: int
    rounds: list[Round]

    def rate(self, part: str) -> float:
        """Images per second of `plain` or `pipeline`, or of one core that only does `decoding` or `network`."""
        return 1 / median(getattr(each, part) for each in self.rounds)

    @property
    def bound(self) -> float:
        """Images per second if all cores were busy with decoding or the network all the time."""
        return median(self.cores / (each.decoding + each.network) for each in self.rounds)

    @property
    def share(self) -> float:
        """Part of the bound that the pipeline reaches: the median over the rounds."""
        return median((each.decoding + each.network) / self.cores / each.pipeline for each in self.rounds)

    @property
    def times_as_fast(self) -> float:
        """Speed of the pipeline relative to the plain loop: the median over the rounds."""
        return median(each.plain / each.pipeline for each in self.rounds)


def measure_pipeline(paths: Sequence[Path], options: TrainedOptions, rounds: int) -> PipelineSpeed:
    """Run both on the images in turns, after a warm-up of each.

    The plain loop decodes, transforms, stacks a batch and runs the same network, folded, in float32 and not compiled.
    """
    predictor = Predictor.from_options(options)
    plain = Predictor.from_checkpoint(options.checkpoint, model=options.model, class_csv=options.class_csv,
                                      device=options.device)
    few = paths[:2 * options.batch_size]
    _run_plain_loop(plain, few, options.batch_size)
    list(predictor.predict(few, options))
    sample = paths[::max(1, len(paths) // SAMPLE)][:SAMPLE]
    measured = []
    for _ in range(rounds):
        plain_seconds = _seconds(lambda: _run_plain_loop(plain, paths, options.batch_size))
        pipeline_seconds = _seconds(lambda: list(predictor.predict(paths, options)))
        decoding, network = _core_seconds(predictor, sample, options)
        measured.append(Round(plain=plain_seconds / len(paths), pipeline=pipeline_seconds / len(paths),
                              decoding=decoding, network=network))
    return PipelineSpeed(cores=count_cores(), rounds=measured)


def _run_plain_loop(predictor: Predictor, paths: Sequence[Path], batch_size: int) -> None:
    transform = eval_transform(predictor.preprocessing)
    with torch.inference_mode():
        for start in range(0, len(paths), batch_size):
            try:
                images = torch.stack([transform(decode_image(path)) for path in paths[start:start + batch_size]])
            except ImageError as error:
                raise UserError(f"{error}", "pictures that can all be read, which the plain loop needs",
                                "move this one away") from error
            features_and_logits(predictor.network, predictor.placement.move_images(images))


def _core_seconds(predictor: Predictor, paths: Sequence[Path], options: TrainedOptions) -> tuple[float, float]:
    """The time that one core needs for decoding and for the network, s per image, each on one thread."""
    views = Views(predictor.preprocessing, options.view)
    pictures = ImageList(paths, views, max_pixels=options.max_pixels,
                         reduction=views.reduction if options.draft else None)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    samples = []
    decoding = _seconds(lambda: samples.extend(pictures[number] for number in range(len(paths))), time.process_time)
    pixels = collate(samples[:options.batch_size]).images
    predictor.run(pixels[:, 0])
    network = min(_seconds(lambda: predictor.run(pixels[:, 0]), time.process_time) for _ in range(5))
    torch.set_num_threads(threads)
    return decoding / len(paths), network / len(pixels) * pixels.shape[1]


def _seconds(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    start = clock()
    work()
    return clock() - start
