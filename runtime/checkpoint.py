"""Checkpoints: written whole, read without running code, loaded strictly. The only place that calls torch.load/save."""

from __future__ import annotations

import argparse
import contextlib
import errno
import functools
import hashlib
import json
import logging
import os
import pickle
import re
import shutil
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import safetensors
import safetensors.torch
import timm
import torch
from msgspec import Meta

from data.class_mapping import CLASS_MAPPING, first_difference, read_beside, read_class_mapping
from data.side_files import read_json
from data.transforms import Preprocessing
from runtime.export_folder import NETWORKS, is_export_folder
from runtime.networks import (
    Architecture,
    Count,
    Side,
    State,
    check_model_args,
    check_name,
    dense_sizes,
    head_weight,
    infer_architecture,
    is_lsnet,
    out_of_timm,
    strip_wrappers,
    takes_input_size,
)
from runtime.options import FeatureKind
from utils import UserError, atomic_path, is_disk_full, write_json

FORMAT = "lsnet-artist-1"
LATEST, BEST, BEST_ALIAS = "checkpoint.pth", "model_best.pth", "best_checkpoint.pth"
WEIGHTS, HUB_CONFIG = "model.safetensors", "config.json"
PICKLED = "pytorch_model.bin"  # the weights in a hub's older repositories, such as those of the published LSNets
WEIGHT_FILES = (WEIGHTS, PICKLED)  # of a folder, the first that is there
# What may lie beside weights and belongs to their answers; see evaluation/calibration.py and evaluation/thresholds.py.
CALIBRATION, STATISTICS, THRESHOLDS = "calibration.json", "calibration.npz", "thresholds.csv"
SIDE_FILES = (CLASS_MAPPING, CALIBRATION, STATISTICS, THRESHOLDS)
HUB = ("hf_hub:", "hf-hub:")
HUB_NAME = re.compile(r"hf[_-]hub:([^/@]+/[^/@]+)(?:@([^/]+))?(?:/(.+))?")  # repository, revision, path in it
WEIGHT_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".safetensors")
STATES = ("model", "state_dict", "model_ema", "state_dict_ema")  # where files hold weights, the first that there is
Plain = None | bool | int | float | str
# What torch.load raises for a file that is damaged or no pickle: its rebuild functions take what the file says.
DAMAGED = (ArithmeticError, AssertionError, AttributeError, EOFError, ImportError, LookupError, MemoryError, OSError,
           RuntimeError, TypeError, ValueError, pickle.UnpicklingError, struct.error, zipfile.BadZipFile)
SEEN = ("input_size", "crop_pct", "crop_mode", "interpolation", "mean", "std")
SAFE_LOADING = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # torch.load then never runs code
UNPACKED = 16  # times its own size that a file may unpack to; torch.save never compresses
LARGEST_CONFIG = 2**26  # bytes of a config.json


# ---- what a file says of its network ---------------------------------------------------------------------------------


class PretrainedCfg(msgspec.Struct, omit_defaults=True):
    """The part of timm's `pretrained_cfg` that says what the weights take and tell."""

    input_size: tuple[Literal[3], Side, Side] | None = None
    fixed_input_size: bool | None = None
    crop_pct: float | None = None
    crop_mode: Literal["center", "squash", "border"] | None = None
    interpolation: str | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    num_classes: Count | None = None
    label_names: list[str] | dict[str, str] | None = None


class Saved(msgspec.Struct):
    """What our trainers' `config`, or a folder's config.json, says of the network; other entries do not count."""

    architecture: Annotated[str, Meta(max_length=200)] | None = None
    num_classes: Count | None = None
    model_args: dict[str, Any] | None = None
    preprocessing: dict[str, Any] | None = None
    pretrained_cfg: PretrainedCfg = msgspec.field(default_factory=PretrainedCfg)
    label_names: list[str] | dict[str, str] | None = None
    task: Literal["classification", "multilabel", "distillation", "detection", "segmentation"] | None = None
    options: dict[str, Plain | list[Plain]] | None = None
    feature_kind: FeatureKind | None = None

    @property
    def classes(self) -> list[str] | None:
        """Class names in the order of their ids; raises a `ValueError` for a dict that leaves ids out."""
        names = self.label_names or self.pretrained_cfg.label_names
        if isinstance(names, dict):
            if missing := {str(number) for number in range(len(names))} - names.keys():
                raise ValueError(f"label_names without {min(missing)}")
            return [names[str(number)] for number in range(len(names))]
        return names or None


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """The network that weights belong to.

    Attributes:
        architecture: what builds it.
        classes: class names in the order of the head's rows, where anyone knows them.
        preprocessing: what it sees.
    """

    architecture: Architecture
    classes: list[str] | None
    preprocessing: Preprocessing


@dataclass(kw_only=True)
class Checkpoint:
    """What a file says, whoever wrote it.

    Attributes:
        path: the file.
        model: weights in the published key layout, without wrappers' prefixes.
        classes: class names in the order of the head's rows, where the file knows them.
        config: what training used (`architecture`, `model_args`, `preprocessing`, …); empty in files of other programs.
        content: everything the file holds, for a resume; `format` is missing in files of other programs.

    Raises:
        UserError: an entry of `config` has another type, or is out of range.
    """

    path: Path
    model: State
    classes: list[str] | None = None
    config: dict[str, Any] = field(default_factory=dict)
    content: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check `config`."""
        try:
            # msgspec takes a tensor for a dict.
            if any(isinstance(entry, torch.Tensor) for entry in (self.config, *dict(self.config).values())):
                raise ValueError("a tensor among plain data")
            self.saved = msgspec.convert(self.config, Saved)
            self.classes = msgspec.convert(self.classes, list[str] | None) or self.saved.classes
            self.model_args = check_model_args(self.saved.model_args or {})
            self._preprocessing()
        except (AttributeError, RuntimeError, TypeError, ValueError) as error:
            raise self._refuse(str(error)) from error

    def _refuse(self, reason: str) -> UserError:
        return UserError(f"{self.path}, whose description of the network is not usable ({reason[:300]})",
                         "what this project's trainers or timm's save_for_hf write", "choose another file")

    @property
    def is_ours(self) -> bool:
        """Whether this project's trainers wrote the file."""
        return isinstance(mark := self.content.get("format"), str) and mark == FORMAT

    @property
    def task(self) -> str | None:
        """What the network answers: `classification` (one artist), `multilabel` (several), None where no one says."""
        if self.saved.task == "distillation":  # it has features only
            return None
        return self.saved.task or ("classification" if self.saved.preprocessing else None)

    @property
    def pretrained(self) -> bool:
        """Whether the training that wrote the file began with published weights, as far as it says."""
        return (self.saved.options or {}).get("pretrained") is True

    @property
    def feature_kind(self) -> FeatureKind:
        """The kind of features that commands take without a flag: a trained network's own, both of weights alone."""
        return self.saved.feature_kind or ("both" if self.saved.architecture is None else "pooled")

    @property
    def evaluated(self) -> State:
        """The weights that evaluation uses: the moving average's where our trainers kept one, else the model's."""
        return self.content.get("model_ema") or self.model if self.is_ours else self.model

    @functools.cached_property
    def fingerprint(self) -> str:
        """A digest, 32 hexadecimal digits, of the evaluated weights and of the preprocessing.

        It tells one model's features from another's, and is the same for every file of one model: model_best.pth and
        the model.safetensors beside it agree.
        """
        seen = self.config.get("preprocessing") or self._own_preprocessing()
        digest = hashlib.blake2b(json.dumps(seen, sort_keys=True).encode(), digest_size=16)
        for name, tensor in sorted(self.evaluated.items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def _own_preprocessing(self) -> dict[str, Any] | None:
        """What the folder's `pretrained_cfg` says otherwise than timm's: two folders of equal weights may differ."""
        own = msgspec.to_builtins(self.saved.pretrained_cfg)
        if not own or self.saved.architecture is None:
            return None
        usual = msgspec.to_builtins(Architecture(name=self.saved.architecture, num_classes=0).pretrained_cfg)
        return {key: own[key] for key in SEEN if key in own and own[key] != usual.get(key)} or None

    def resolve(self, name: str | None = None, *, dense: bool = False) -> NetworkSpec:
        """The network the weights belong to: as the file or folder says, else read off the tensors.

        The class_mapping.csv beside a file that names no classes counts, if it has as many as the head.

        Args:
            name: the model's name, as the user gives it for a file that does not say it.
            dense: take a network of `detection/`, which most commands can do nothing with.

        Raises:
            UserError: `name` contradicts the file, or is missing; the file contradicts its own tensors.
        """
        if "dense_task" in self.model_args and not dense:
            raise UserError(f"{self.path}, which finds objects or regions", "a network that names artists",
                            "give it to train_detection.py or train_segmentation.py, with --eval --resume")
        architecture = self._architecture(name)
        classes = self.classes or read_beside(self.path, architecture.num_classes)
        if classes is not None and len(classes) != architecture.num_classes:
            raise UserError(f"{len(classes)} classes for {self.path}, whose head has {architecture.num_classes}",
                            "the class mapping it was trained with", "use the class_mapping.csv of its output folder")
        return NetworkSpec(architecture=architecture, classes=classes,
                           preprocessing=self._preprocessing() or self._timm_preprocessing(architecture))

    def _architecture(self, name: str | None) -> Architecture:
        saved = self.saved.architecture
        if saved and name and name != saved:
            raise UserError(f"--model {name} for {self.path}, which holds {saved}", f"--model {saved}",
                            "correct the flag or leave it away")
        found = saved or name
        if not found:
            raise UserError(f"{self.path}, which does not say its architecture", "the model's name",
                            "add --model, for example --model lsnet_t_artist")
        check_name(found)
        if "dense_task" in self.model_args:
            return self._dense_architecture(found)
        inferred = infer_architecture(found, self.model)
        arguments = {**self.model_args} if self.saved.model_args is not None else inferred.model_args
        own = self.saved.pretrained_cfg
        fixed = takes_input_size(found) and own.fixed_input_size is not False
        if own.input_size and fixed and "img_size" not in self.model_args:
            arguments["img_size"] = own.input_size[-1]
        return Architecture(name=found, num_classes=self._count_classes(found, arguments), model_args=arguments)

    def _dense_architecture(self, name: str) -> Architecture:
        classes, channels = dense_sizes(self.model_args["dense_task"], self.model)
        for what, said, found in (("classes", self.saved.num_classes, classes),
                                  ("channels", self.model_args.get("channels"), channels)):
            if said != found:
                raise self._refuse(f"{said} {what}, but tensors of {found}")
        return Architecture(name=name, num_classes=classes, model_args=self.model_args)

    def _count_classes(self, name: str, arguments: dict[str, Any]) -> int:
        """The rows of the head, with which the file's own numbers must agree; takes `num_classes` from `arguments`."""
        told = [arguments.pop("num_classes", None), self.saved.num_classes, self.saved.pretrained_cfg.num_classes]
        said = next((count for count in told if count is not None), None)
        head = head_weight(name, self.model)
        rows = 0 if head is None else len(head)
        if said is not None and said != rows:
            raise self._refuse(f"{said} classes, but a head of {rows}")
        width = arguments.get("feature_dim")
        if head is not None and width is not None and tuple(head.shape[1:]) != (width,):
            raise self._refuse(f"feature_dim {width}, but a head of shape {tuple(head.shape)}")
        return rows

    def _preprocessing(self) -> Preprocessing | None:
        return None if self.saved.preprocessing is None else Preprocessing.from_dict(self.saved.preprocessing)

    def _timm_preprocessing(self, architecture: Architecture) -> Preprocessing:
        """That of the folder's `pretrained_cfg`, else timm's for the model."""
        own = msgspec.to_builtins(self.saved.pretrained_cfg)
        arguments = architecture.model_args
        is_free = False in (own.get("fixed_input_size"), arguments.get("strict_img_size")) or (
            arguments.get("dynamic_img_size"))  # then img_size is that of the first training
        size = None if is_free and "input_size" in own else arguments.get("img_size")
        try:
            found = Preprocessing.from_pretrained_cfg({**architecture.pretrained_cfg, **own}, input_size=size)
            return Preprocessing.from_dict(found.as_dict())
        except ValueError as error:
            raise self._refuse(str(error)) from error


# ---- reading ---------------------------------------------------------------------------------------------------------


def read_checkpoint(path: str | os.PathLike[str], class_csv: str | os.PathLike[str] | None = None) -> Checkpoint:
    """Read a `.pth` or `.safetensors` file, or the `model.safetensors` of a folder in timm's hub layout, on the CPU.

    `hf_hub:OWNER/NAME`, or `hf-hub:…`, is such a folder on the Hugging Face hub, downloaded once with the `SIDE_FILES`
    in it; `@REVISION` and then `/PATH`, of a folder or file in it, may follow.

    Only tensors and plain Python come out of a `.pth` (and the `Namespace` of older trainers); NumPy's scalars become
    numbers and paths text; code never runs. `class_csv` is a class_mapping.csv for a file that names no classes.

    Raises:
        UserError: no such file, a damaged one, one that wants to run code, or one without weights; it contradicts
            `class_csv`.
    """
    path = Path(path)
    if is_hub_name(path):
        path = download(path, (WEIGHTS,), (PICKLED,))
    if path.is_dir():
        path = path / (PICKLED if (path / PICKLED).is_file() and not (path / WEIGHTS).is_file() else WEIGHTS)
    if not path.is_file() or path.name in NETWORKS.values():
        action = ("name the run it was exported from; only inference_artist.py and predict_artist_multilabel.py take "
                  "exported networks" if is_export_folder(path.parent) else "check the path")
        found = f"{path}, an exported network" if path.is_file() else f"no file {path}"
        raise UserError(found, "a checkpoint (.pth or .safetensors)", action)
    checkpoint = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    return checkpoint if class_csv is None else _name_classes(checkpoint, class_csv)


def is_hub_name(path: Path) -> bool:
    """Whether `path` is no path, but the name of a model on the Hugging Face hub."""
    return path.as_posix().startswith(HUB)


def published_checkpoint(name: str) -> Checkpoint:
    """The published weights of the network `name`, as their bare file; timm downloads them once.

    Raises:
        UserError: see `create_published`.
    """
    return Checkpoint(path=Path(name), model=create_published(name).state_dict())


def create_pretrained(architecture: Architecture) -> torch.nn.Module:
    """A network on the CPU with published weights, all but its head and projection; timm downloads them once.

    Raises:
        UserError: see `create_published`.
    """
    name, arguments = architecture.in_timm()
    arguments["pretrained" if name == architecture.name else "pretrained_backbone"] = True
    return _create_pretrained(architecture.name, lambda: timm.create_model(
        name, num_classes=architecture.num_classes, **arguments))


def create_published(name: str) -> torch.nn.Module:
    """The network `name` as it was published, with weights and head, on the CPU; timm downloads it once.

    Raises:
        UserError: timm knows no such model, or no weights for it; or they cannot be had.
    """
    return _create_pretrained(name, lambda: timm.create_model(name, pretrained=True))


def is_published(name: str) -> bool:
    """Whether there are published weights of the model `name`."""
    cfg = timm.get_pretrained_cfg(name)
    return cfg is not None and bool(cfg.has_weights)


def _create_pretrained(name: str, create: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    check_name(name)
    cfg = timm.get_pretrained_cfg(name)
    if cfg is None or not is_published(name):
        others = [other for other in ("lsnet_t_artist", "lsnet_s_artist", "lsnet_b_artist") if is_lsnet(name)]
        raise UserError(f"--pretrained for {name}, of which nobody published weights",
                        f"a model that has them, such as {', '.join(others) or 'those of timm.list_pretrained()'}",
                        "choose one, start from a file with --finetune-from, or train from scratch")
    forced, log = os.environ.get(SAFE_LOADING), logging.getLogger("huggingface_hub")
    level = log.level
    os.environ[SAFE_LOADING] = "1"  # timm does not always ask for it
    log.setLevel(logging.ERROR)  # it reports every retry
    try:
        return create()
    except DAMAGED as error:
        files = cfg.hf_hub_filename or "model.safetensors or pytorch_model.bin"
        place = f"{files} of https://huggingface.co/{cfg.hf_hub_id}" if cfg.hf_hub_id else str(cfg.url)
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(f"the weights of {name}, which cannot be downloaded ({reason[:200]})", place,
                        f"fetch that file where there is a network; a trainer takes it as --finetune-from FILE --model "
                        f"{name}, other commands as --checkpoint FILE --model {name}") from error
    finally:
        log.setLevel(level)
        if forced is None:
            del os.environ[SAFE_LOADING]
        else:
            os.environ[SAFE_LOADING] = forced


def _name_classes(checkpoint: Checkpoint, class_csv: str | os.PathLike[str]) -> Checkpoint:
    classes = read_class_mapping(class_csv)
    check_classes(checkpoint, classes, class_csv)
    return replace(checkpoint, classes=classes)


def _read_pickle(path: Path) -> Checkpoint:
    content = _unpickle(path)
    content = dict(content) if isinstance(content, Mapping) else {}
    states = {key: _tensors(path, content[key]) for key in STATES if isinstance(content.get(key), Mapping)}
    key = next((key for key in STATES if states.get(key)), None)
    tensors = states[key] if key else _tensors(path, content)
    if not tensors:
        raise UserError(f"{path}, which holds no weights", "a state dict, or a dict with it under 'model'",
                        "choose a checkpoint of a trainer")
    if path.name == PICKLED and key is None:
        return _from_hub(path, tensors)
    if content.get("format") is not None:
        return Checkpoint(path=path, model=tensors, classes=content.get("classes"), config=content.get("config") or {},
                          content={**content, "model_ema": states.get("model_ema")})
    names = content.get("classes")
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return Checkpoint(path=path, model=tensors, classes=names if is_list else None,
                      config=_config_of_arguments(content.get("args")),
                      content={**content, "model_ema": states.get("model_ema")} if key else {})


def _tensors(path: Path, state: Mapping[Any, Any]) -> State:
    """The tensors of a state dict, without the prefixes of wrappers.

    Raises:
        UserError: one is no dense tensor of real numbers on the CPU whose elements the file holds.
    """
    found: State = {}
    for name, value in state.items():
        if isinstance(name, str) and isinstance(value, torch.Tensor):
            tensor = dense(value)
            if tensor is None:
                raise UserError(f"{path}, whose {name[:200]} is sparse, quantised, complex, or without its numbers",
                                "dense tensors of real numbers", "choose another file")
            found[name] = tensor
    return strip_wrappers(found)


def dense(tensor: torch.Tensor) -> torch.Tensor | None:
    """`tensor` without attributes that a file gave it; None unless it is dense, real, and all its elements exist."""
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter) or tensor.is_nested:
        return None
    plain = torch.Tensor.detach(tensor)
    if plain.layout is not torch.strided or plain.device.type != "cpu" or plain.is_quantized or plain.is_complex():
        return None
    return plain if plain.numel() * plain.element_size() <= plain.untyped_storage().nbytes() else None


def download(hub_name: Path, *choices: tuple[str, ...]) -> Path:
    """The folder, or the file of weights, that a name on the hub means, in the cache of downloads.

    What is downloaded of a folder are config.json, the `SIDE_FILES`, and of `choices` the first whose files are there.

    Raises:
        UserError: it is no such name, or cannot be downloaded.
    """
    from huggingface_hub import snapshot_download

    name = hub_name.as_posix()
    parts = HUB_NAME.fullmatch(name)
    if parts is None:
        raise UserError(name, "hf_hub:OWNER/NAME, with @REVISION and /PATH behind it if needed", "correct it")
    repository, revision, inside = parts[1], parts[2], PurePosixPath(parts[3] or "")
    is_file = inside.suffix in WEIGHT_SUFFIXES
    beside, folder = inside.parent if is_file else inside, Path()
    try:
        for files in ((inside.name,),) if is_file else choices:
            wanted = [str(beside / file) for file in (HUB_CONFIG, *files, *SIDE_FILES)]
            folder = Path(snapshot_download(repository, revision=revision, allow_patterns=wanted))
            if (folder / beside / files[0]).is_file():
                break
        return folder / inside
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{name}, which cannot be downloaded ({reason})", "OWNER/NAME of a public model, or of one "
                        "that this machine may read", "check the name and the connection") from error


class NumpyType(str):
    """The letters of a NumPy dtype, such as f8. NumPy's own constructors never see what a file says."""

    order = "<"

    def __new__(cls, letters: str, *_: object) -> NumpyType:
        """As a pickle calls `numpy.dtype`."""
        return super().__new__(cls, letters)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """As a pickle completes a dtype: with its byte order."""
        self.order = ">" if state[1] == ">" else "<"


def _numpy_scalar(kind: NumpyType, data: bytes) -> Any:
    """The number or text that a pickle makes by calling NumPy's `scalar`."""
    if not isinstance(kind, NumpyType) or not re.fullmatch(r"b1|[iu][1248]|f[248]|U\d{1,4}", kind):
        raise ValueError(f"a NumPy scalar of type {kind}")
    return np.frombuffer(data, f"{kind.order}{kind}")[0].item()


def _posix_path(*parts: str) -> str:
    return PurePosixPath(*parts).as_posix()


def _windows_path(*parts: str) -> str:
    return PureWindowsPath(*parts).as_posix()


# Beyond torch's own list, what a pickle may name, and what is called in its place.
SAFE: list[Any] = [
    (argparse.Namespace, "argparse.Namespace"), (NumpyType, "numpy.dtype"),
    *((_numpy_scalar, f"numpy.{module}.multiarray.scalar") for module in ("core", "_core")),
    *((function, f"{module}.{name}") for module in ("pathlib", "pathlib._local") for name, function in (
        ("Path", _posix_path), ("PosixPath", _posix_path), ("PurePosixPath", _posix_path),
        ("WindowsPath", _windows_path), ("PureWindowsPath", _windows_path)))]


def _unpickle(path: Path) -> Any:
    damaged = UserError(f"{path}, which is damaged or no checkpoint", "model_best.pth, another whole .pth or "
                        f".safetensors file, or a folder with {HUB_CONFIG} and {WEIGHTS}", "copy or download it again")
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if sum(entry.file_size for entry in archive.infolist()) > UNPACKED * path.stat().st_size:
                    raise damaged
        with torch.serialization.safe_globals(SAFE), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols, just before the file is refused
            return torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGED as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if wanted is None:
            raise damaged from error
        raise UserError(f"{path}, which asks for {wanted[1][:200]}", "tensors and plain Python only",
                        "this file could run code and is not loaded; ask its author for .safetensors") from error


def _config_of_arguments(arguments: Any) -> dict[str, Any]:
    """What the `args` of another trainer tell: its model's name."""
    values = arguments if isinstance(arguments, Mapping) else getattr(arguments, "__dict__", {})
    name = values.get("model")
    return {"architecture": name} if isinstance(name, str) else {}


def _read_safetensors(path: Path) -> Checkpoint:
    try:
        state = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, *DAMAGED) as error:
        raise UserError(f"{path}, which is damaged or no safetensors file ({str(error)[:300]})",
                        "a whole .safetensors file", "copy or download it again") from error
    return _from_hub(path, _tensors(path, state))


def _from_hub(path: Path, state: State) -> Checkpoint:
    """The weights of `path`, and what the config.json beside it, where there is one, says of them."""
    beside = path.with_name(HUB_CONFIG)
    hub: dict[str, Any] = {}
    if beside.is_file():
        hub = read_json(beside, dict[str, Any], expected="timm's config.json", action="copy it again",
                        most=LARGEST_CONFIG)
        hub["architecture"], hub["model_args"] = out_of_timm(hub.get("architecture"), hub.get("model_args"))
        if "preprocessing" not in hub:  # older folders have the entries of `pretrained_cfg` at the top
            hub.setdefault("pretrained_cfg", dict(hub))
    return Checkpoint(path=path, model=state, config=hub)


def check_classes(checkpoint: Checkpoint, classes: list[str], source: object) -> None:
    """Raise a `UserError` naming the first difference unless the checkpoint's classes are `classes` of `source`."""
    if checkpoint.classes is not None and (difference := first_difference(classes, checkpoint.classes)):
        raise UserError(f"{source}, which contradicts {checkpoint.path}: {difference}",
                        "the classes it was trained with",
                        "use the class_mapping.csv and the data set that belong to this checkpoint")


# ---- writing ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _atomic_weights(path: Path) -> Iterator[Path]:
    """`atomic_path` for the writers of torch and safetensors, whose error for want of room becomes an OSError."""
    with atomic_path(path) as partial:
        try:
            yield partial
        except (RuntimeError, safetensors.SafetensorError) as error:
            if is_disk_full(error):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
            raise


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write `content`, tensors and plain Python, atomically."""
    with _atomic_weights(path) as partial:
        torch.save({"format": FORMAT, **content}, partial)


def publish_best(folder: Path, content: dict[str, Any], network: torch.nn.Module, architecture: Architecture) -> None:
    """Write the weights that scored best: both documented names, and timm's hub layout beside them.

    Args:
        folder: output folder.
        content: what model_best.pth holds; `model` are the weights.
        network: the network they belong to, for its feature length.
        architecture: what `timm.create_model` needs.
    """
    save_checkpoint(folder / BEST, content)
    with atomic_path(folder / BEST_ALIAS) as partial:
        partial.unlink(missing_ok=True)
        try:
            os.link(folder / BEST, partial)
        except OSError:  # a file system without hard links
            shutil.copyfile(folder / BEST, partial)
    with _atomic_weights(folder / WEIGHTS) as partial:
        safetensors.torch.save_file({key: value.contiguous() for key, value in content["model"].items()}, partial,
                                    metadata={"format": "pt"})
    config = content["config"]
    width: Any = network.head_hidden_size
    write_json(folder / HUB_CONFIG, describe_network(
        architecture, width, content["classes"], Preprocessing.from_dict(config["preprocessing"]),
        task=config.get("task"), feature_kind=config.get("feature_kind")))


def describe_network(architecture: Architecture, width: int, classes: list[str] | None, preprocessing: Preprocessing, *,
                     task: str | None, feature_kind: FeatureKind | None) -> dict[str, Any]:
    """What config.json says of a network in timm's hub layout; `width` is that of its features."""
    name, arguments = architecture.in_timm()
    return {"architecture": name, "model": name, "num_classes": architecture.num_classes, "num_features": width,
            "model_args": arguments, "preprocessing": preprocessing.as_dict(), "label_names": classes,
            "task": task or "classification", **({"feature_kind": feature_kind} if feature_kind else {}),
            "pretrained_cfg": {**architecture.pretrained_cfg, "num_classes": architecture.num_classes,
                               **preprocessing.as_pretrained_cfg()}}


def save_published(folder: Path, network: Any, name: str) -> None:
    """Write best_checkpoint.pth as other programs read the published artist models: weights, and a `Namespace`.

    Args:
        folder: gets the file.
        network: an artist preset.
        name: of the preset.
    """
    told = argparse.Namespace(model=name, num_classes=network.num_classes, feature_dim=network.head_hidden_size)
    with _atomic_weights(folder / BEST_ALIAS) as partial:
        torch.save({"model": network.state_dict(), "args": told}, partial)
