"""Checkpoints: written whole, read without running code, loaded strictly. The only place that calls torch.load/save."""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import pickle
import shutil
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from data.class_mapping import first_difference
from runtime.networks import Architecture, State, infer_architecture, strip_wrappers
from utils import UserError, atomic_path, write_json

FORMAT = "lsnet-artist-1"
LATEST, BEST, BEST_ALIAS = "checkpoint.pth", "model_best.pth", "best_checkpoint.pth"
WEIGHTS, HUB_CONFIG = "model.safetensors", "config.json"
PICKLED = "pytorch_model.bin"  # the weights in a hub's older repositories, such as those of the published LSNets
HUB = "hf_hub:"
ZIP, PICKLE = b"PK", b"\x80"  # how files of torch.save begin


@dataclass(kw_only=True)
class Checkpoint:
    """What a file says, whoever wrote it.

    Attributes:
        path: the file.
        model: weights in the published key layout, without wrappers' prefixes.
        classes: class names in the order of the head's rows, where the file knows them.
        config: what training used (`architecture`, `model_args`, `preprocessing`, …); empty in files of other programs.
        content: everything the file holds, for a resume; `format` is missing in files of other programs.
    """

    path: Path
    model: State
    classes: list[str] | None = None
    config: dict[str, Any] = field(default_factory=dict)
    content: dict[str, Any] = field(default_factory=dict)

    @property
    def is_ours(self) -> bool:
        """Whether this project's trainers wrote the file."""
        return self.content.get("format") == FORMAT

    @property
    def task(self) -> str | None:
        """What the network answers: `classification` (one artist), `multilabel` (several), None where no one says."""
        return self.config.get("task", "classification" if "preprocessing" in self.config else None)

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
        digest = hashlib.blake2b(json.dumps(self.config.get("preprocessing"), sort_keys=True).encode(), digest_size=16)
        for name, tensor in sorted(self.evaluated.items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def architecture(self, name: str | None = None) -> Architecture:
        """The network the weights belong to: as saved, or read off the tensors of an older file named by the user.

        Raises:
            UserError: `name` contradicts the file, or is missing for a file that does not say.
        """
        saved = self.config.get("architecture")
        if saved and name and name != saved:
            raise UserError(f"--model {name} for {self.path}, which holds {saved}", f"--model {saved}",
                            "correct the flag or leave it away")
        found = saved or name
        if not found:
            raise UserError(f"{self.path}, which does not say its architecture", "the model's name",
                            "add --model, for example --model lsnet_t_artist")
        if "model_args" not in self.config:
            return infer_architecture(found, self.model)
        return Architecture(name=found, num_classes=self.config["num_classes"], model_args=self.config["model_args"])


# ---- reading ---------------------------------------------------------------------------------------------------------


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a `.pth` or `.safetensors` file, or the `model.safetensors` of a folder in timm's hub layout, on the CPU.

    `hf_hub:OWNER/NAME` (or `…/NAME@REVISION`) is such a folder on the Hugging Face hub, downloaded once.

    Only tensors and plain Python come out of a `.pth` (and the `Namespace` of older trainers); code never runs.

    Raises:
        UserError: no such file, a damaged one, one that wants to run code, or one without weights.
    """
    path = Path(path)
    if path.as_posix().startswith(HUB):
        path = _download(path.as_posix().removeprefix(HUB))
    if path.is_dir():
        path = path / (PICKLED if (path / PICKLED).is_file() and not (path / WEIGHTS).is_file() else WEIGHTS)
    if not path.is_file():
        raise UserError(f"no file {path}", "a checkpoint (.pth or .safetensors)", "check the path")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    content = _unpickle(path)
    state = content.get("model", content.get("state_dict", content)) if isinstance(content, Mapping) else {}
    tensors = {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise UserError(f"{path}, which holds no weights", "a state dict, or a dict with it under 'model'",
                        "choose a checkpoint of a trainer")
    if path.name == PICKLED and state is content:
        return _from_hub(path, tensors)
    arguments = content.get("args")
    config = content.get("config") or _config_of_namespace(arguments)
    return Checkpoint(path=path, model=strip_wrappers(tensors), classes=content.get("classes"), config=config,
                      content=content if state is not content else {})


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    repository, _, revision = name.partition("@")
    try:
        for weights in (WEIGHTS, PICKLED):
            wanted = [HUB_CONFIG, weights]
            folder = Path(snapshot_download(repository, revision=revision or None, allow_patterns=wanted))
            if (folder / weights).is_file():
                break
        return folder
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{HUB}{name}, which cannot be downloaded ({reason})", "OWNER/NAME of a public model, or of "
                        "one that this machine may read", "check the name and the connection") from error


def _unpickle(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols, just before the file is refused
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not _start(path).startswith((ZIP, PICKLE)):
            raise UserError(f"{path}, which is no checkpoint", "model_best.pth, a .safetensors file, or a folder with "
                            f"{HUB_CONFIG} and {WEIGHTS}", "check the name") from error
        unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(path) if _start(path) == ZIP else []
        names = ", ".join(name for name in unsafe if name != "argparse.Namespace") or "code or a damaged pickle"
        raise UserError(f"{path}, which asks for {names}", "tensors and plain Python only",
                        "this file could run code and is not loaded; ask its author for .safetensors") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, struct.error) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path}, which is damaged or no checkpoint ({reason})", "a whole .pth file",
                        "copy or download it again") from error


def _start(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(2)


def _config_of_namespace(arguments: Any) -> dict[str, Any]:
    """What the `args` of an older trainer tell: its model's name."""
    name = getattr(arguments, "model", None)
    return {"architecture": name} if isinstance(name, str) else {}


def _read_safetensors(path: Path) -> Checkpoint:
    try:
        state = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"{path}, which is damaged or no safetensors file ({error})", "a whole .safetensors file",
                        "copy or download it again") from error
    return _from_hub(path, state)


def _from_hub(path: Path, state: State) -> Checkpoint:
    """The weights of `path`, and what the config.json beside it, where there is one, says of them."""
    beside = path.with_name(HUB_CONFIG)
    hub: dict[str, Any] = {}
    if beside.is_file():
        try:
            hub = json.loads(beside.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{beside}, which is not JSON ({error})", "timm's config.json", "copy it again") from error
    return Checkpoint(path=path, model=strip_wrappers(state), classes=hub.get("label_names"), config=hub)


def check_classes(checkpoint: Checkpoint, classes: list[str], source: object) -> None:
    """Raise a `UserError` naming the first difference unless the checkpoint's classes are `classes` of `source`."""
    if checkpoint.classes is not None and (difference := first_difference(classes, checkpoint.classes)):
        raise UserError(f"{source}, which contradicts {checkpoint.path}: {difference}",
                        "the classes it was trained with",
                        "use the class_mapping.csv and the data set that belong to this checkpoint")


# ---- writing ---------------------------------------------------------------------------------------------------------


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write `content`, tensors and plain Python, atomically."""
    with atomic_path(path) as partial:
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
    with atomic_path(folder / WEIGHTS) as partial:
        safetensors.torch.save_file({key: value.contiguous() for key, value in content["model"].items()}, partial,
                                    metadata={"format": "pt"})
    preprocessing = content["config"]["preprocessing"]
    size = preprocessing["input_size"]
    write_json(folder / HUB_CONFIG, {
        "architecture": architecture.name, "num_classes": architecture.num_classes,
        "num_features": network.head_hidden_size, "model_args": architecture.model_args,
        "preprocessing": preprocessing, "label_names": content["classes"],
        "task": content["config"].get("task", "classification"),
        "pretrained_cfg": {**architecture.pretrained_cfg, "num_classes": architecture.num_classes,
                           "input_size": [3, size, size], **{key: preprocessing[key] for key in (
                               "crop_pct", "interpolation", "mean", "std")}}})
