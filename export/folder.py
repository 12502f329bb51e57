"""From a trained network to the folder of each format, checked before it is kept."""

from __future__ import annotations

import copy
import dataclasses
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from data.class_mapping import CLASS_MAPPING, write_class_mapping
from data.output_folder import new_folder
from data.transforms import Preprocessing
from export.check import Answers, Run, answer, check_equal, check_loss, format_loss
from export.graph import PixelNetwork, write_onnx
from export.options import ExportOptions
from export.pictures import GENERATED_PICTURES, Pictures
from export.precision import quantise, write_openvino
from export.published import make_published
from export.source import Source
from export.tags import RATINGS, TAGS, write_tags
from inference.exported import ExportedNetwork
from runtime.checkpoint import save_published
from runtime.export_folder import (
    CONFIG,
    FEATURES,
    INPUT,
    NETWORKS,
    PREPROCESS,
    PROBABILITIES,
    SCORE_FEATURES,
    Backend,
    Export,
)
from utils import write_json, write_text

CHECKED = 64  # pictures on which every number is compared
MEASURED = 5000  # pictures, at most, on which top-1 is
CALIBRATED = 128  # training pictures
EXAMPLE = "example.py"
LOADERS: dict[Backend, tuple[str, str]] = {  # what example.py imports, and how it runs the network
    "onnx": ("onnxruntime", 'session = onnxruntime.InferenceSession(\n'
                            '        HERE / "model.onnx", providers=["CPUExecutionProvider"])\n'
                            '    probabilities = session.run(["probabilities"], {"pixels": pixels})[0]'),
    "openvino": ("openvino", 'network = openvino.Core().compile_model(HERE / "model.xml", "CPU")\n'
                             '    probabilities = network(pixels)["probabilities"]')}


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """One export.

    Attributes:
        source: the network.
        options: what is asked for.
        validation: pictures to check the exported network on.
        training: pictures to calibrate int8 on; None for other precisions.
        folder: gets the files.
    """

    source: Source
    options: ExportOptions
    validation: Pictures
    training: Pictures | None
    folder: Path

    @property
    def is_tagger(self) -> bool:
        """Whether the network takes pictures as WD-14 taggers do."""
        return self.options.format == "wd-tagger"

    @property
    def seen(self) -> Preprocessing:
        """What the network sees of a picture."""
        return self.source.predictor.preprocessing

    def answers(self, run: Run, pictures: Pictures, seen: Preprocessing | None = None) -> Answers:
        """The answers of `run` to `pictures`, of which it sees what the network does, or `seen`."""
        return answer(run, pictures, seen or self.seen, self.source.classes)


def export(options: ExportOptions) -> Iterator[str]:
    """Make the folder --output; what there is to tell of it, line by line.

    Raises:
        UserError: the network cannot be exported so, or what was exported answers otherwise; nothing is left then.
    """
    source, data = Source.read(options), options.data_path
    validation = Pictures.below(_part(source, data, "val")) if data else GENERATED_PICTURES
    training = Pictures.below(_part(source, data, "train")) if data and options.precision == "int8" else None
    write = {"onnx": _write_onnx, "openvino": _write_openvino, "wd-tagger": _write_tagger,
             "published": _write_published}[options.format]
    with new_folder(options.output, made_by="export_model.py", overwrite=options.overwrite,
                    sources=[data] if data else []) as folder:
        lines = write(Job(source=source, options=options, validation=validation, training=training, folder=folder))
        write_class_mapping(folder / CLASS_MAPPING, source.classes)
    yield from lines
    files = sorted(path for path in options.output.iterdir() if not path.name.startswith("."))
    size = sum(path.stat().st_size for path in files) / 1e6
    yield f"written: {options.output} ({', '.join(path.name for path in files)}; {size:.1f} MB)"


def _part(source: Source, data_path: Path, name: Literal["train", "val"]) -> Path:
    """Where the pictures of one side lie; those of several labels may lie anywhere below --data-path."""
    return data_path if source.is_multilabel and not (data_path / name).is_dir() else data_path / name


# ---- the formats -----------------------------------------------------------------------------------------------------


def _write_onnx(job: Job) -> list[str]:
    path = job.folder / NETWORKS["onnx"]
    _make_network(job, path, half=job.options.precision == "fp16")
    lines = _check(job, path, "onnx")
    _describe(job, "onnx")
    return lines


def _write_openvino(job: Job) -> list[str]:
    onnx, path = job.folder / NETWORKS["onnx"], job.folder / NETWORKS["openvino"]
    _make_network(job, onnx, half=False)
    write_openvino(onnx, path, half=job.options.precision == "fp16")
    onnx.unlink()
    lines = _check(job, path, "openvino")
    _describe(job, "openvino")
    return lines


def _write_tagger(job: Job) -> list[str]:
    path = job.folder / NETWORKS["onnx"]
    write_tags(job.folder / TAGS, job.source.classes, danbooru=job.options.danbooru_names)
    _make_network(job, path, half=job.options.precision == "fp16")
    lines = _check(job, path, "onnx")
    write_json(job.folder / CONFIG, job.source.config(None))
    if job.seen.fit != "pad":
        told = f"its clients pad pictures with white; this network was trained with --fit {job.seen.fit}"
        padded = dataclasses.replace(job.seen, fit="pad")
        lines.append(_measure(job, told, lambda pictures: job.answers(job.source.run, pictures, padded)))
    return lines


def _write_published(job: Job) -> list[str]:
    published = make_published(job.source)
    save_published(job.folder, published.network, job.source.architecture.name)
    write_json(job.folder / CONFIG, published.config)
    if not published.is_resampled:
        return []
    told = (f"its clients build it for {published.preprocessing.input_size} px: position biases of "
            f"{job.seen.input_size} px were re-sampled")
    return [_measure(job, told, lambda pictures: job.answers(published.run, pictures, published.preprocessing))]


# ---- their parts -----------------------------------------------------------------------------------------------------


def _make_network(job: Job, path: Path, *, half: bool) -> None:
    """Write the ONNX file, in int8 if that is asked for."""
    form = job.source.form(half=half, is_tagger=job.is_tagger, leading=len(RATINGS) if job.is_tagger else 0)
    network = PixelNetwork(copy.deepcopy(job.source.predictor.network), job.seen, form)
    write_onnx(network, job.seen.input_size, path)
    if job.training is not None:
        batches = job.training.sample(CALIBRATED).batches(job.seen)
        quantise(path, (_for_tagger(pixels) if job.is_tagger else pixels for pixels, _ in batches))


def _check(job: Job, path: Path, backend: Backend) -> list[str]:
    """What the exported network in the file `path` loses; raises a `UserError` if that is too much."""
    network = ExportedNetwork(path, backend, threads=torch.get_num_threads())
    run = _tagger_run(network) if job.is_tagger else _own_run(network)
    precision, lines = job.options.precision, []
    if precision != "int8":
        pictures = job.validation.sample(CHECKED)
        lines.append(check_equal(job.answers(job.source.run, pictures), job.answers(run, pictures), precision, path,
                                 pictures.where))
    if precision != "fp32" and job.validation.files:
        pictures = job.validation.sample(MEASURED)
        lines.append(check_loss(job.answers(job.source.run, pictures), job.answers(run, pictures), pictures.where,
                                job.options.max_top1_loss))
    return lines


def _measure(job: Job, told: str, answers: Callable[[Pictures], Answers]) -> str:
    """`told` with what it costs, which is known where there are validation pictures."""
    if not job.validation.files:
        return f"{told}; what that costs is not known: add --data-path to measure it"
    pictures = job.validation.sample(MEASURED)
    return f"{told}; {format_loss(job.answers(job.source.run, pictures), answers(pictures), pictures.where)}"


def _own_run(network: ExportedNetwork) -> Run:
    def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
        found = network.run(pixels)
        features = [found[name] for name in (FEATURES, SCORE_FEATURES) if name in found]
        return {PROBABILITIES: found[PROBABILITIES], FEATURES: np.concatenate(features, 1)}
    return run


def _tagger_run(network: ExportedNetwork) -> Run:
    own = _own_run(network)

    def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
        found = own(_for_tagger(pixels))
        return found | {PROBABILITIES: found[PROBABILITIES][:, len(RATINGS):]}
    return run


def _for_tagger(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels[..., ::-1], dtype=np.float32)


def _describe(job: Job, backend: Backend) -> None:
    """Write what programs must know besides the network, and an example."""
    predictor, folder = job.source.predictor, job.folder
    write_json(folder / CONFIG, job.source.config(Export(
        backend=backend, precision=job.options.precision, fingerprint=predictor.fingerprint,
        feature_kind=predictor.space.feature_kind, feature_blocks=list(predictor.space.blocks))))
    write_json(folder / PREPROCESS, describe_preprocessing(job.seen))
    for path in job.source.side_files():
        shutil.copyfile(path, folder / path.name)
    write_example(folder / EXAMPLE, backend)


def write_example(path: Path, backend: Backend) -> None:
    """Write a program that names the artists of pictures without this project."""
    package, load = LOADERS[backend]
    template = Path(__file__).with_name("example.txt").read_text(encoding="utf-8")
    write_text(path, template.replace("PACKAGE", package).replace("LOAD", load))


def describe_preprocessing(seen: Preprocessing) -> dict[str, Any]:
    """What preprocess.json says to other programs; normalisation is part of the network."""
    return {"input_name": INPUT, "input_size": seen.input_size, "fit": seen.fit, "crop_pct": seen.crop_pct,
            "resize_to": int(seen.input_size / seen.crop_pct), "interpolation": seen.interpolation,
            "colour_order": "RGB", "layout": "NHWC", "dtype": "uint8", "transparency_over": "white"}
