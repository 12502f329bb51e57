"""From a checkpoint and picture files to features and logits: one `Prediction` or `Failure` per file, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch.utils.data import BatchSampler

from data.image_list import Batch, ImageList, collate, full_batches
from data.loaders import Loading, make_loader
from data.transforms import Normalise, Preprocessing, Views
from evaluation.calibration import Calibration
from evaluation.unknown_scores import Scorer
from model.lsnet import LSNet
from model.style_network import StyleNetwork
from runtime.checkpoint import Checkpoint, published_checkpoint, read_checkpoint
from runtime.networks import check_input_size, feature_blocks, features_and_logits, load_weights, richest_kind
from runtime.options import ExpectedNetwork, FeatureKind, FeatureOptions, InferenceOptions, TrainedOptions
from runtime.placement import WORKERS, Placement, inductor_or_eager
from search.vectors import LARGEST_NUMBER, FeatureSpace
from utils import UserError

TASKS = {"classification": ("one artist per picture", "inference_artist.py"),
         "multilabel": ("several artists per picture", "predict_artist_multilabel.py")}
DEFAULT_OPTIONS = InferenceOptions()
NOT_FINITE = "the network's answer is not finite, or huge"  # the reason of a `Failure`
Item = TypeVar("Item")
Output = TypeVar("Output")


@dataclass(frozen=True, eq=False)
class Prediction:
    """The network's output for one picture.

    Attributes:
        path: the file.
        features: (D,) float32, not normalised, on the CPU.
        logits: (classes,) float32, on the CPU.
        classes: names in the order of the logits; empty where the checkpoint has none.
        added: features (E,) float32 of the kind that `Predictor.add_features` was asked for.
        score: that of `Predictor.score_with`.
    """

    path: Path
    features: torch.Tensor
    logits: torch.Tensor
    classes: Sequence[str]
    added: torch.Tensor | None = None
    score: float | None = None

    def top(self, count: int, threshold: float = 0.0) -> list[dict[str, Any]]:
        """The `count` most probable classes, those of probability ≥ `threshold`, the most probable first."""
        probabilities, ids = self.logits.softmax(0).topk(min(count, len(self.logits)))
        return [{"class_id": number, "class_name": self.classes[number], "probability": probability}
                for number, probability in zip(ids.tolist(), probabilities.tolist(), strict=True)
                if probability >= threshold]


class Failure(NamedTuple):
    """A file without an answer, and why: it is no readable picture, or the answer is not finite."""

    path: Path
    reason: str


def check_failures(answers: Sequence[Prediction | Failure], source: Path) -> None:
    """Raise a `UserError` if these answers of the network in `source`, of which none is sound, are not all of files."""
    if any(isinstance(answer, Failure) and answer.reason == NOT_FINITE for answer in answers):
        raise UserError(f"{source}, whose answers are all not finite, or huge", "a network that answers",
                        "take another checkpoint, or --amp off")


class Predictor:
    """A trained network with its classes and preprocessing, ready for picture files.

    Attributes:
        classes: class names; None where the checkpoint has none and no mapping was given.
        preprocessing: that of the network's evaluation.
        normalise: makes the network's input of pixels, see `Normalise`.
        fingerprint: tells this model from others; empty where no checkpoint was read.
        space: whose features those of `predict` are, and which.
        backend: what runs the network, and in which precision where that is not torch.
        task: what the network was trained for, see `Checkpoint.task`.
        pretrained: whether its training began with published weights, see `Checkpoint.pretrained`.
        source: the file of the checkpoint, beside which its calibration lies.
    """

    def __init__(self, network: torch.nn.Module, classes: Sequence[str] | None, preprocessing: Preprocessing,
                 placement: Placement, *, compile: bool = False, fingerprint: str = "",
                 task: str | None = None, pretrained: bool = False, feature_kind: FeatureKind = "pooled",
                 source: Path = Path("this network")) -> None:
        """Fold `network` for inference and move it to its device; see `from_checkpoint`."""
        network = network.eval()
        network = network.for_inference() if isinstance(network, LSNet | StyleNetwork) else network
        self.space = FeatureSpace(model=fingerprint, feature_kind=feature_kind,
                                  blocks=feature_blocks(network, feature_kind))
        self.kinds, self.width = [feature_kind], sum(self.space.blocks)
        self.backend = "torch"
        self.scorer: Scorer | None = None
        self.dtype = placement.amp or torch.float32
        self.network = placement.move_network(network).to(self.dtype)
        self.forward = torch.compile(features_and_logits, backend=inductor_or_eager) if compile else features_and_logits
        self.normalise = Normalise(preprocessing, placement.device, self.dtype, placement.memory_format)
        self.classes, self.preprocessing, self.placement = classes, preprocessing, placement
        self.fingerprint, self.task, self.pretrained, self.source = fingerprint, task, pretrained, source

    @classmethod
    def from_options(cls, options: TrainedOptions | FeatureOptions, *, uses_features: bool = False,
                     gallery: FeatureSpace | None = None) -> Predictor:
        """The predictor of a command's flags; see `from_checkpoint`.

        A command that `uses_features` gets those of --feature-kind, else of its `gallery`, else what is usual for the
        network.

        Raises:
            UserError: the flags name no network, or two, or one that cannot be read or downloaded.
        """
        kind: FeatureKind | None = "pooled"
        path = options.checkpoint
        if isinstance(options, FeatureOptions):
            options.check_source()
            if uses_features:
                kind = options.feature_kind or (gallery.feature_kind if gallery else None)
        checkpoint = read_checkpoint(path, options.class_csv) if path else published_checkpoint(str(options.model))
        return cls.of_checkpoint(checkpoint, model=options.model, feature_kind=kind, device=options.device,
                                 amp=options.amp, compile=options.compile)

    @classmethod
    def from_checkpoint(cls, path: str | Path, *, model: str | None = None, class_csv: str | Path | None = None,
                        feature_kind: FeatureKind | None = None, device: str = "auto", amp: str = "off",
                        compile: bool = False) -> Predictor:
        """The predictor of a checkpoint; architecture, classes and preprocessing come from the file.

        `FeatureOptions` documents the arguments: they are flags; `path` is --checkpoint.

        Raises:
            UserError: the file cannot be read or contradicts `model` or `class_csv`.
        """
        return cls.of_checkpoint(read_checkpoint(path, class_csv), model=model, feature_kind=feature_kind,
                                 device=device, amp=amp, compile=compile)

    @classmethod
    def of_checkpoint(cls, checkpoint: Checkpoint, *, model: str | None, feature_kind: FeatureKind | None,
                      device: str = "auto", amp: str = "off", compile: bool = False) -> Predictor:
        """The predictor of a checkpoint that was read; see `from_checkpoint`."""
        placement = Placement.resolve(device, amp=amp)
        spec = checkpoint.resolve(model)
        network = spec.architecture.create()
        check_input_size(network, spec.architecture.name, spec.preprocessing.input_size)
        load_weights(network, checkpoint.evaluated, checkpoint.path)
        return cls(network, spec.classes, spec.preprocessing, placement, compile=compile,
                   fingerprint=checkpoint.fingerprint, task=checkpoint.task, pretrained=checkpoint.pretrained,
                   feature_kind=feature_kind or checkpoint.feature_kind, source=checkpoint.path)

    def add_features(self) -> FeatureSpace:
        """From now on add the most features that there are to each prediction; which they are."""
        kind = richest_kind(self.network)
        self.kinds = [self.space.feature_kind, kind]
        return FeatureSpace(model=self.fingerprint, feature_kind=kind, blocks=feature_blocks(self.network, kind))

    def score_with(self, scorer: Scorer) -> None:
        """From now on add this score to each prediction; the probability is no other than its own."""
        if scorer.name == "probability":
            return
        self.scorer = scorer
        if scorer.needs_features:
            self.add_features()

    @property
    def num_classes(self) -> int:
        """Outputs of the network."""
        network: Any = self.network
        return network.num_classes

    @property
    def pooled_width(self) -> int | None:
        """Length of the pooled features; None where it is not known."""
        return feature_blocks(self.network, "pooled")[0]

    def calibrate(self, view: str) -> Calibration | None:
        """The calibration beside the checkpoint; its score is added to each prediction from now on.

        Raises:
            UserError: see `Calibration.beside` and `Scorer.read`.
        """
        calibration = Calibration.beside(self.source, self.fingerprint, view)
        if calibration:
            self.score_with(calibration.read_scorer(self.source))
        return calibration

    def check_expected(self, expected: ExpectedNetwork) -> None:
        """Raise a `UserError` unless the network is as the flags say."""
        for flag, said, found in (("--num-classes", expected.num_classes, self.num_classes),
                                  ("--feature-dim", expected.feature_dim, self.pooled_width),
                                  ("--input-size", expected.input_size, self.preprocessing.input_size)):
            if said not in (None, found):
                raise UserError(f"{flag} {said} for {self.source}", f"{found or 'a number'}, as it was trained",
                                "take the checkpoint that is meant, or leave the flag away")

    def check_task(self, task: str, checkpoint: Path) -> None:
        """Raise a `UserError` unless `checkpoint` was trained for `task`, or does not say for what."""
        if self.task and self.task != task:
            raise UserError(f"{checkpoint}, which was trained for {TASKS[self.task][0]}",
                            f"a network for {TASKS[task][0]}", f"use {TASKS[self.task][1]} for this one")

    def predict(self, paths: Sequence[Path], options: InferenceOptions = DEFAULT_OPTIONS, *,
                start: int = 0) -> Iterator[Prediction | Failure]:
        """One answer per path, in the order given.

        The network sees full batches of readable pictures; the last one is padded. So a file that cannot be read does
        not change the position of another one in its batch, nor the last bit of its answer.

        `start` leaves out so many paths; if they are whole batches of readable pictures, the other answers stay the
        same.

        Raises:
            UserError: see `answer`.
        """
        views = Views(self.preprocessing, options.view)
        pictures = ImageList(paths, views, max_pixels=options.max_pixels,
                             reduction=views.reduction if options.draft else None)
        return self.answer(pictures, batch_size=options.batch_size, num_workers=options.num_workers, start=start)

    def answer(self, pictures: ImageList, *, batch_size: int, num_workers: int | None,
               start: int = 0) -> Iterator[Prediction | Failure]:
        """`predict` for pictures of any kind of list, whose transform is `Views` of this network's preprocessing.

        Raises:
            UserError: the network answers, but no answer is finite; then it is raised before the first answer comes,
                unless `start` leaves some out.
        """
        paths = pictures.paths
        size = min(batch_size, len(paths)) or 1
        has_answered = start > 0
        held: list[Prediction | Failure] = []
        with Lanes(self.placement.choose_lanes(batches=-(-len(paths) // size))) as lanes:
            batches = BatchSampler(range(start, len(paths)), size, drop_last=False)
            loaded = self._load(pictures, batches, num_workers, lanes)
            for batch, outputs in lanes.map(self._average_views, full_batches(loaded, size)):
                answers = self._make_answers(batch, outputs, paths)
                held += answers
                has_answered = has_answered or any(isinstance(answer, Prediction) for answer in answers)
                if has_answered:
                    yield from held
                    held = []
        check_failures(held, self.source)
        yield from held

    def predict_batch(self, pictures: ImageList) -> list[Prediction | Failure]:
        """One answer per picture, all decoded and looked at together, in the calling thread.

        The transform of `pictures` is `Views` of this network's preprocessing.
        """
        batch = collate([pictures[index] for index in range(len(pictures))])
        return self._make_answers(batch, self._average_views(batch), pictures.paths)

    def _make_answers(self, batch: Batch, outputs: tuple[torch.Tensor, torch.Tensor],
                      paths: Sequence[Path]) -> list[Prediction | Failure]:
        """The answer to each picture of a batch, in the order of `paths`; features of all `kinds` lie side by side."""
        answers: dict[int, Prediction | Failure] = {
            index: Failure(paths[index], reason) for index, reason in batch.failures}
        for index, features, logits in zip(batch.indices.tolist(), *outputs, strict=False):  # padding has outputs, too
            if not (torch.cat([features, logits]).abs() <= LARGEST_NUMBER).all():
                answers[index] = Failure(paths[index], NOT_FINITE)
                continue
            added = features[self.width:] if len(self.kinds) > 1 else None
            score = float(self.scorer.score(logits[None].numpy(), None if added is None else added[None].numpy())[0]
                          ) if self.scorer else None
            answers[index] = Prediction(paths[index], features[:self.width], logits, self.classes or (), added, score)
        return [answers[index] for index in sorted(answers)]

    def _load(self, pictures: ImageList, batches: BatchSampler, num_workers: int | None,
              lanes: Lanes) -> Iterable[Batch]:
        """The decoded pictures of each batch. On the CPU, a core decodes a batch and then runs the network on one."""
        kind = self.placement.device.type
        if num_workers is None:
            num_workers = 0 if kind == "cpu" else WORKERS
        if num_workers or kind != "cpu":
            return make_loader(pictures, batches, Loading(
                batch_size=batches.batch_size, num_workers=min(num_workers, len(batches)), pin_memory=kind == "cuda"))
        return (batch for _, batch in lanes.map(lambda indices: collate([pictures[index] for index in indices]),
                                                batches))

    def _average_views(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Means of features and logits over the views, on the CPU; empty for a batch without a picture."""
        if not len(batch.images):
            return batch.images, batch.images
        features, logits = zip(*map(self.run, batch.images.unbind(1)), strict=True)
        return torch.stack(features).mean(0).cpu(), torch.stack(logits).mean(0).cpu()

    @torch.inference_mode()
    def run(self, pixels_BHWC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of all `kinds` (B, D) and logits (B, classes), float32, of one view of B pictures, (B, S, S, 3)."""
        features, logits = self.forward(self.network, self.normalise(pixels_BHWC), *self.kinds)
        return features.float(), logits.float()

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Those of `logits` (…, classes): of one artist per picture, or of each label by itself."""
        return logits.sigmoid() if self.task == "multilabel" else logits.softmax(-1)


class Lanes:
    """Threads that process batches side by side, each with its own part of the cores; a context manager.

    An operator on all cores waits for its slowest part: it takes twice as long when one core also decodes a picture.
    Lanes of one core each do not wait. One lane is the calling thread.
    """

    def __init__(self, count: int) -> None:
        """Divide the cores that torch uses in this thread among `count` lanes."""
        self.count, self.cores = count, torch.get_num_threads()
        self.pool = None if count == 1 else ThreadPoolExecutor(
            count, initializer=torch.set_num_threads, initargs=(max(1, self.cores // count),))

    def __enter__(self) -> Lanes:
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool:
            self.pool.shutdown(cancel_futures=True)
            torch.set_num_threads(self.cores)  # the lanes also changed the number that later threads start with

    def map(self, work: Callable[[Item], Output], items: Iterable[Item]) -> Iterator[tuple[Item, Output]]:
        """Each item with the output of `work`, in order.

        `items` is read in the calling thread, only as far ahead as keeps the lanes busy. So it may be the result of
        another `map` of these lanes.
        """
        if self.pool is None:
            yield from ((item, work(item)) for item in items)
            return
        waiting: deque[tuple[Item, Future[Output]]] = deque()
        for item in items:
            waiting.append((item, self.pool.submit(work, item)))
            while waiting and (len(waiting) > self.count or waiting[0][1].done()):
                yield _wait_for_first(waiting)
        while waiting:
            yield _wait_for_first(waiting)


def _wait_for_first(waiting: deque[tuple[Item, Future[Output]]]) -> tuple[Item, Output]:
    item, future = waiting.popleft()
    return item, future.result()
