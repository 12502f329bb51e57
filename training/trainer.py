"""From flags to a finished run: what all trainers do alike, and `TrainerSpec`, what each of them adds."""

from __future__ import annotations

import contextlib
import copy
import functools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from data.image_folder import ImageFolder
from data.image_list import LabelledImages
from data.loaders import Loading
from data.output_folder import output_lock
from data.train_val import check_two_classes, find_damaged, leave_out, name_missing, open_train, open_val
from data.transforms import Preprocessing, eval_transform
from evaluation.class_parallel import divide_evaluation
from evaluation.evaluator import Evaluation, Evaluator
from evaluation.validation_answers import PictureFiles, keep_answers
from runtime.checkpoint import BEST, Checkpoint, check_classes, is_published, read_checkpoint
from runtime.class_parallel import divide_classifier
from runtime.logbook import Logbook
from runtime.networks import Architecture, check_input_size, load_weights
from runtime.next_step import print_next
from runtime.options import FolderTrainerOptions, ProbeOptions, ScaleOptions, TrainerOptions
from runtime.placement import WORKERS, Placement
from runtime.processes import on_every_rank, on_first_rank, process_group, rank, world_size
from runtime.progress import progress
from training.augmentation import train_transform
from training.engine import Run, Task
from training.own_split import OwnSplit, find_split
from training.pictures import Pictures
from training.probe import check_counts, check_probe, fit_probe, probe_architecture
from training.recipe import (
    PROBE_FLAGS,
    Recipe,
    choose_recipe,
    choose_small_recipe,
    complete,
    describe_recipe,
    saved_recipe,
)
from training.report_page import report_ended_run
from training.run_folder import closing_lines, find_checkpoint, open_output
from training.scale import check_ranks, check_scale, divides_all, divides_head, scale_network, without_probe
from training.start import (
    DEFAULT_MODEL,
    adapt_network,
    add_distillation_head,
    changed_flags,
    check_beginning,
    choose_architecture,
    choose_loading,
    choose_preprocessing,
    create_network,
    describe_beginning,
    describe_start,
    load_pretrained,
)
from training.time_left import Cheaper
from utils import EXIT_DONE, UserError, counted

NOT_MEASURED = "not measured, for want of pictures to validate on"
Options = TypeVar("Options", bound=TrainerOptions)
ClassFolderOptions = TypeVar("ClassFolderOptions", bound=FolderTrainerOptions)
Images = TypeVar("Images", bound=LabelledImages)


class TrainerSpec(ABC, Generic[Options, Images]):
    """The datasets, the task and the evaluation of one trainer.

    Attributes:
        task: the value of `task` in its checkpoints; None for classification.
        has_recipe: whether a run that begins with weights chooses what no flag says.
        has_labels: whether the training images have classes.
        augmentation: of the training images.
        data_path: --data-path, or the split that an earlier run made of it.
        split: of --data-path, where no folder holds it.
    """

    task: str | None = None
    has_recipe = True
    has_labels = True

    def __init__(self, options: Options) -> None:
        self.options, self.augmentation = options, options.augmentation
        self.data_path = options.data.data_path
        self.split: OwnSplit | None = None

    def with_options(self, options: Options) -> TrainerSpec[Options, Images]:
        """The same with other options."""
        changed = copy.copy(self)
        changed.options, changed.augmentation = options, options.augmentation
        return changed

    def find_data(self, checkpoint: Checkpoint | None) -> list[str]:
        """Find, or plan, the data set that `open_train` and `open_val` open; lines for the log."""
        return []

    @abstractmethod
    def open_train(self) -> tuple[Images, list[str]]:
        """The training images, whose `classes` are the network's; lines for the log."""

    @abstractmethod
    def open_val(self, classes: list[str]) -> tuple[Images, list[str]]:
        """The validation images, in the ids of `classes`; lines for the log."""

    def check_train(self, train_set: Images) -> None:
        """Raise a `UserError` if nothing can be learned from the training images that are left."""
        if self.has_labels:
            check_two_classes(train_set)

    def choose_network(self, outputs: int, checkpoint: Checkpoint | None,
                       source: Checkpoint | None) -> tuple[Architecture, Preprocessing]:
        """The network and its preprocessing: of `checkpoint`, of `source` (--finetune-from), or of the flags."""
        options = self.options
        fit = "squash" if options.run.finetune else options.data.fit
        if source:
            has_teacher = options.distillation.kind != "none"
            return adapt_network(source, options.model, fit, outputs, has_teacher=has_teacher)
        architecture = choose_architecture(options.model, outputs, checkpoint)
        return architecture, choose_preprocessing(options.model, fit, architecture, checkpoint)

    def set_train_transform(self, train_set: Images, preprocessing: Preprocessing) -> None:
        """Let `train_set` make of its images what the network trains on."""
        train_set.transform = train_transform(preprocessing, self.augmentation)

    def set_eval_transform(self, val_set: Images, preprocessing: Preprocessing) -> None:
        """Let `val_set` make of its images what the network is evaluated on."""
        val_set.transform = eval_transform(preprocessing)

    def load_source(self, network: torch.nn.Module, source: Checkpoint, classes: list[str]) -> str:
        """Give `network`, of these classes, the weights of --finetune-from; a line for the log."""
        return load_pretrained(network, source, classes)

    @property
    def scan_folders(self) -> list[Path]:
        """Where the result of the search for damaged images is kept: in the first of them that can be written."""
        output = self.options.run.output_dir
        return [output] if self.split else [self.data_path, output]

    def count_outputs(self, classes: list[str]) -> int:
        """The width of the network's outputs."""
        return len(classes)

    def begin(self, run: Run, logbook: Logbook) -> None:
        """What is to be done once before the first update, or the first after a resume."""

    @abstractmethod
    def make_task(self, train_set: Images, preprocessing: Preprocessing, placement: Placement) -> Task:
        """What a network at `placement` learns from images made with `preprocessing`."""

    @abstractmethod
    def make_evaluation(self, classes: list[str]) -> Evaluation:
        """How --eval evaluates a network of these classes."""

    @abstractmethod
    def find_classes(self, checkpoint: Checkpoint) -> list[str]:
        """The classes of a checkpoint for --eval; raises a `UserError` if the dataset contradicts them."""

    @property
    def probe(self) -> ProbeOptions:
        """Whether a linear probe is asked for, and how."""
        return getattr(self.options, "probe", ProbeOptions())

    @property
    def scale(self) -> ScaleOptions:
        """How the network is divided among processes, which only the artist trainer asks."""
        return getattr(self.options, "scale", ScaleOptions())

    @property
    def named_recipe(self) -> str | None:
        """The value of --recipe, which only the artist trainers have."""
        return self.options.named_recipe.recipe if hasattr(self.options, "named_recipe") else None

    @abstractmethod
    def next_step(self, path: Path, val_set: Images, *, evaluated: bool) -> Sequence[object]:
        """The script to call after a run, or an evaluation, of the network in the file `path`, and its flags."""

    def prepare_network(self, network: torch.nn.Module, preprocessing: Preprocessing) -> torch.nn.Module:
        """The form of the network that --eval evaluates."""
        return network

    def finish_evaluation(self, evaluator: Evaluator, val_set: Images, figures: dict[str, float], meter: Any) -> None:
        """The rest of --eval, once `val_set` is evaluated: what to print, write or evaluate more."""


class FolderSpec(TrainerSpec[ClassFolderOptions, ImageFolder]):
    """A trainer on train/ and val/ with one folder per class.

    Attributes:
        makes_split: whether it splits a --data-path that has one folder per class itself.
    """

    makes_split = False

    def find_data(self, checkpoint: Checkpoint | None) -> list[str]:
        """See `find_split`."""
        if not self.makes_split:
            return []
        found = find_split(self.options, checkpoint)
        if isinstance(found, OwnSplit):
            self.split = found
        else:
            self.data_path = found
        if found == self.options.data.data_path or (self.split and self.split.new):
            return []
        return [f"goes on with the split that the run began with, of {self.options.data.data_path}"]

    def open_train(self) -> tuple[ImageFolder, list[str]]:
        """The images of train/."""
        if self.split:
            return self.split.open("train"), []
        images = open_train(self.data_path, max_pixels=self.options.data.max_pixels,
                            exclude=self.options.search.exclude)
        return images, images.passed_over

    def open_val(self, classes: list[str]) -> tuple[ImageFolder, list[str]]:
        """The images of val/."""
        if self.split:
            return self.split.open("val", classes), []
        images = open_val(self.data_path, classes, max_pixels=self.options.data.max_pixels,
                          exclude=self.options.search.exclude)
        return images, images.passed_over


# ---- the run ---------------------------------------------------------------------------------------------------------


def run_trainer(spec: TrainerSpec[Any, Any]) -> int:
    """Train, or evaluate with --eval; the exit code."""
    options = spec.options.run
    check_beginning(spec.options.model, options, spec.named_recipe)
    if spec.probe.linear_probe:
        check_probe(spec.options, spec.probe)
    elif spec.probe != ProbeOptions():
        raise UserError("--probe-views or --feature-kind without --linear-probe", "a probe", "add --linear-probe")
    check_scale(spec.options, spec.scale)
    placement = Placement.resolve(options.device, channels_last=options.channels_last, amp=options.amp)
    with process_group(placement.device) as line, contextlib.ExitStack() as held:
        if not options.eval:  # before the checkpoint is read: another run might go on from it meanwhile
            on_first_rank(lambda: held.enter_context(output_lock(options.output_dir)))
        checkpoint = find_checkpoint(options)
        if checkpoint and checkpoint.is_ours and checkpoint.config.get("task") != spec.task:
            raise UserError(f"{checkpoint.path} of another trainer", "a checkpoint of this one",
                            "resume it where it was begun, or start from its weights with --finetune-from")
        if options.eval:
            evaluate_checkpoint(spec, checkpoint, placement)
        else:
            spec, run, lines = prepare_run(spec, checkpoint, placement)
            train(spec, run, [line, *lines] if line else lines, checkpoint)
    return EXIT_DONE


def prepare_run(spec: TrainerSpec[Any, Any], checkpoint: Checkpoint | None,
                placement: Placement) -> tuple[TrainerSpec[Any, Any], Run, list[str]]:
    """`spec` with the flags that a recipe chose; a run at its beginning, or where `checkpoint` stopped; log lines.

    Raises:
        UserError: flags, dataset and checkpoint contradict one another.
    """
    data_lines = spec.find_data(checkpoint)
    train_set, train_lines = on_every_rank(spec.open_train)
    spec.check_train(train_set)  # before the scan, which takes time
    classes, run_options = train_set.classes, spec.options.run
    source = (read_checkpoint(run_options.finetune_from, run_options.class_csv)
              if run_options.finetune_from and not checkpoint else None)
    spec, recipe = _with_recipe(spec, train_set, checkpoint, source, placement)
    options = spec.options
    val_set, val_lines = on_every_rank(lambda: spec.open_val(classes))
    lines = [*data_lines, *train_lines, *val_lines]
    if checkpoint:
        check_classes(checkpoint, classes, "the data set")
        lines += changed_flags(checkpoint, options.as_config())
    architecture, preprocessing = spec.choose_network(spec.count_outputs(classes), checkpoint, source)
    architecture = add_distillation_head(architecture, options.distillation.kind)
    if spec.probe.linear_probe:
        kind = spec.probe.feature_kind or (source.feature_kind if source else "both")
        architecture = probe_architecture(architecture, kind)
    train_fit = options.data.fit or "crop" if options.run.finetune else preprocessing.fit
    train_preprocessing = replace(preprocessing, fit=train_fit)
    spec.set_train_transform(train_set, train_preprocessing)
    spec.set_eval_transform(val_set, preprocessing)
    pictures = Pictures.of(train_set.names, val_set.names)
    check_ranks(options, architecture, classes, pictures, [train_set.layout, val_set.layout])
    changes = pictures.compare(checkpoint, accept=options.run.accept_changed_data) if checkpoint else []
    lines += [*changes, *_leave_out_damaged(spec, train_set, val_set)]
    loading = choose_loading(options.data, len(train_set), options.optimizing.accumulation_steps, placement)
    if loading.batch_size < options.data.batch_size:
        lines.append(f"batches of {counted(loading.batch_size, 'picture')}: the data set has no more for --batch-size "
                     f"{options.data.batch_size}")
    if recipe:
        lines.append(describe_recipe(recipe, options.given, preprocessing.input_size, len(train_set)))
    network, beginning = _begin_network(spec, architecture, checkpoint, source, train_set)
    beginning += scale_network(network, spec.scale)
    check_input_size(network, architecture.name, preprocessing.input_size)
    optimizing = replace(options.optimizing, model_ema=False) if spec.probe.linear_probe else options.optimizing
    run = Run(task=_make_task(spec, train_set, val_set, train_preprocessing, placement),
              network=placement.move_network(network), architecture=architecture,
              config=_make_config(spec, architecture, preprocessing), train_set=train_set, val_set=val_set,
              loading=loading, optimizing=optimizing, options=options.run, placement=placement,
              pictures=pictures, cheaper=_cheaper(spec, architecture, preprocessing, checkpoint),
              fsdp=divides_all(spec.scale), sample_rate=spec.scale.head_sample_rate)
    return spec, run, [*lines, *beginning, *([run.restore(checkpoint, exact=not changes)] if checkpoint else [])]


def _make_task(spec: TrainerSpec[Any, Any], train_set: LabelledImages, val_set: LabelledImages,
               preprocessing: Preprocessing, placement: Placement) -> Task:
    """The task of `spec`, whose evaluations keep what the network answers to each picture, where these have labels."""
    task = spec.make_task(train_set, preprocessing, placement)
    if not spec.has_labels:
        return task
    return replace(task, evaluation=keep_answers(
        task.evaluation, val_set, placement, with_features=not spec.options.run.compile,
        files=functools.cache(lambda: PictureFiles.of(spec.data_path, train_set, val_set))))


def train(spec: TrainerSpec[Any, Any], run: Run, lines: list[str], checkpoint: Checkpoint | None) -> None:
    """Open the output folder, log `lines`, and train to the end, or fit a probe; a finished run is left as it is."""
    folder, evaluation, probe = run.options.output_dir, run.task.evaluation, spec.probe
    position = run.state.position
    first_best = position.best_metric
    if checkpoint and run.finished:
        done = f"finished already: {checkpoint.path} has {run.finished}"
        with Logbook(None, is_writer=rank() == 0) as logbook:
            for line in [*lines, done]:
                logbook.log(line)
        _print_next(spec, run)
        return
    if probe.linear_probe:
        check_counts(run.train_set.counts(), run.train_set.classes)
    # Everything that can be refused has been: only now is the output folder touched.
    opened = on_first_rank(lambda: [*open_output(folder, run.train_set.classes, checkpoint, spec.data_path),
                                    *(spec.split.write(folder) if spec.split else [])])
    with Logbook(folder, is_writer=rank() == 0, first_epoch=position.epoch) as logbook:
        for line in [*lines, *opened, *([] if probe.linear_probe else [run.summary()])]:
            logbook.log(line)
        logbook.hyperparameters(run.config["options"], evaluation.monitor)
        if probe.linear_probe:
            fit_probe(run, probe.probe_views or 0, logbook, epoch=1)
        else:
            if run.options.head_init == "probe" and not checkpoint:
                fit_probe(run, probe.probe_views or 0, logbook, epoch=0)
            spec.begin(run, logbook)
            run.fit(logbook)
        best = position.best_metric
        report = report_ended_run(folder, spec.data_path, run.train_set, run.val_set) if rank() == 0 else []
        for line in [*report, *closing_lines(folder, evaluation.title, best, improved=best > first_best)]:
            logbook.log(line)
    _print_next(spec, run)


def _print_next(spec: TrainerSpec[Any, Any], run: Run) -> None:
    best = run.options.output_dir / BEST
    if rank() == 0 and best.exists():
        print_next(*spec.next_step(best, run.val_set, evaluated=False))


def evaluate_checkpoint(spec: TrainerSpec[Any, Any], checkpoint: Checkpoint | None, placement: Placement) -> None:
    """Print the figures of a checkpoint on the validation images.

    Raises:
        UserError: there is no checkpoint, or it contradicts the dataset.
    """
    if checkpoint is None:
        raise UserError("--eval without a checkpoint", "the checkpoint to evaluate",
                        "add --resume, for example --resume OUTPUT_DIR/model_best.pth")
    data, data_lines = spec.options.data, spec.find_data(checkpoint)
    classes = spec.find_classes(checkpoint)
    architecture, preprocessing = spec.choose_network(len(classes), checkpoint, None)
    val_set, lines = spec.open_val(classes)
    spec.set_eval_transform(val_set, preprocessing)
    network = architecture.create()
    check_input_size(network, architecture.name, preprocessing.input_size)
    load_weights(network, checkpoint.evaluated, checkpoint.path)
    if divides_head(spec.scale):
        divide_classifier(network)
    network = placement.move_network(spec.prepare_network(network, preprocessing))
    loading = Loading(batch_size=data.batch_size, num_workers=placement.choose_workers(data.num_workers), rank=rank(),
                      world_size=world_size())
    evaluation = divide_evaluation(spec.make_evaluation(classes), lambda: network, min(5, len(classes)))
    meter = evaluation.make_meter()
    with Logbook(None, is_writer=rank() == 0) as logbook:
        for line in [*data_lines, *lines, *name_missing(val_set, NOT_MEASURED)]:
            logbook.log(line)
        evaluator = Evaluator(network=network, classes=classes, preprocessing=preprocessing, loading=loading,
                              placement=placement, logbook=logbook)
        figures = evaluator.evaluate(val_set, meter, network=evaluation.wrap_model(network))
        logbook.log(evaluation.format_line(figures))
        spec.finish_evaluation(evaluator, val_set, figures, meter)
    if rank() == 0:
        print_next(*spec.next_step(checkpoint.path, val_set, evaluated=True))


def _with_recipe(spec: TrainerSpec[Any, Any], train_set: LabelledImages, checkpoint: Checkpoint | None,
                 source: Checkpoint | None, placement: Placement) -> tuple[TrainerSpec[Any, Any], Recipe | None]:
    """`spec` with the flags that a recipe chooses, or that the run of `checkpoint` has; the recipe, if one chose."""
    if spec.scale != ScaleOptions():
        spec = spec.with_options(without_probe(spec.options))
    options = spec.options
    is_asked = spec.has_recipe or options.run.head_init is not None
    start = describe_start(options, source, train_set.classes) if is_asked and not checkpoint else None
    if not spec.has_recipe:
        return spec, None
    if checkpoint:
        return spec.with_options(complete(options, saved_recipe(checkpoint, options))), None
    if start and spec.probe.linear_probe:
        start = replace(start, head_init="probe")
    recipe = (choose_small_recipe(len(train_set), start, has_shares=hasattr(options, "long_tail")) if spec.named_recipe
              else choose_recipe(len(train_set), placement.device.type, start) if start else None)
    values = asdict(recipe) if recipe else {}
    if spec.probe.linear_probe:
        values, recipe = {name: value for name, value in values.items() if name in PROBE_FLAGS}, None
    return spec.with_options(complete(options, values)), recipe


def _make_config(spec: TrainerSpec[Any, Any], architecture: Architecture,
                 preprocessing: Preprocessing) -> dict[str, Any]:
    """What checkpoints say of the network besides its architecture."""
    config: dict[str, Any] = {"preprocessing": preprocessing.as_dict(), "options": spec.options.as_config()}
    if spec.task:
        config["task"] = spec.task
    if spec.probe.linear_probe or not spec.has_labels:
        config["feature_kind"] = architecture.model_args.get("style_head", "pooled")
    return config


def _begin_network(spec: TrainerSpec[Any, Any], architecture: Architecture, checkpoint: Checkpoint | None,
                   source: Checkpoint | None, train_set: LabelledImages) -> tuple[torch.nn.Module, list[str]]:
    """The network with its first weights, which `checkpoint` will replace; lines for the log."""
    pretrained = spec.options.model.pretrained and not checkpoint
    network = create_network(architecture, spec.options.run, pretrained=pretrained)
    if source:
        return network, [spec.load_source(network, source, train_set.classes)]
    if not (spec.has_labels or pretrained):
        return network, []
    return network, [] if checkpoint else describe_beginning(
        architecture.name, len(train_set), pretrained=pretrained, probe=spec.probe.linear_probe,
        small=spec.named_recipe is not None or not spec.has_recipe)


def _cheaper(spec: TrainerSpec[Any, Any], architecture: Architecture, preprocessing: Preprocessing,
             checkpoint: Checkpoint | None) -> Cheaper | None:
    """What to advise where the run takes hours; nothing for a trainer without a probe, whose users expect that."""
    if not spec.has_recipe:
        return None
    options, name = spec.options, architecture.name if is_published(architecture.name) else DEFAULT_MODEL
    begins = options.model.pretrained or options.run.finetune_from
    return Cheaper(probe="--linear-probe" if begins else f"--model {name} --pretrained --linear-probe",
                   input_size=None if checkpoint else preprocessing.input_size)


def _leave_out_damaged(spec: TrainerSpec[Any, Any], train_set: LabelledImages, val_set: LabelledImages) -> list[str]:
    """Lines that name the damaged images, which are left out, and the classes that then have none."""
    data, datasets = spec.options.data, [train_set, val_set]
    checked = spec.split is not None and spec.split.new is not None
    lines = leave_out(datasets, {} if checked else on_first_rank(lambda: find_damaged(
        datasets, spec.scan_folders, max_pixels=data.max_pixels, progress=progress,
        workers=WORKERS if data.num_workers is None else data.num_workers)))
    lines += leave_out(datasets, on_first_rank(lambda: {
        path: reason for dataset in datasets for path, reason in dataset.find_unfit().items()}))
    spec.check_train(train_set)
    return [*lines, *name_missing(train_set, "not learned, for want of pictures to train on"),
            *name_missing(val_set, NOT_MEASURED)]
