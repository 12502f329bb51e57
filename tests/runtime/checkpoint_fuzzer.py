"""Odd checkpoints by number: flipped bits, cut files, odd types, tensors and arguments; and a child that reads one."""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import os
import pickle
import random
import resource
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import safetensors.torch
import timm
import torch

from runtime.checkpoint import FORMAT, read_checkpoint
from runtime.networks import load_weights
from utils import UserError

SECONDS, BYTES = 60, 16 << 30
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND
PREPROCESSING = {"input_size": 64, "crop_pct": 0.9, "interpolation": "bicubic", "mean": [0.5] * 3, "std": [0.5] * 3}
VALUES: list[Any] = [
    None, True, -1, 0, 3, 10**9, 10**30, 2.5, float("nan"), float("inf"), "", "x", "a" * 100_000, b"x", [], [[]], {},
    {"a": {"b": 1}}, {1: 2}, (1, 2), [1, "a"], torch.ones(2), torch.tensor(1), np.float64(1.5), np.dtype("f4"),
    PurePosixPath("/etc/passwd"), argparse.Namespace(model=3), "hf-hub:timm/resnet18", "local-dir:/tmp",
    "resnet18.nope", "https://localhost/x.pth", {"url": "https://localhost/x.pth"}, 1 + 2j, {3, 4}, range(3), os.system,
    torch.float16]
NAMES = ["checkpoint_path", "pretrained", "pretrained_cfg", "cache_dir", "pretrained_cfg_overlay", "img_size",
         "in_chans", "feature_dim", "distillation", "drop_path_rate", "global_pool", "num_classes", "embed_dim",
         "features_only", "scriptable", "act_layer", "window_size", "init_values", "no_such_thing",
         "device", "dtype", "patch_size"]


def odd_tensors() -> list[torch.Tensor]:
    """Tensors that are no weights."""
    return [torch.eye(3).to_sparse(), torch.empty(4, 4, device="meta"), torch.zeros(1).expand(10**9, 384),
            torch.zeros(1).expand(10**12), torch.tensor(1.0), torch.zeros(0, 3), torch.ones(3, dtype=torch.complex64),
            torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8), torch.full((3, 48), float("nan")),
            torch.ones(3, 48, dtype=torch.float64), torch.ones(3, 48).bool(), torch.eye(4).to_sparse_csr(),
            torch.ones(48, 3).t(), torch.nn.Parameter(torch.ones(2))]


def base() -> dict[str, Any]:
    """A whole checkpoint of a small network, as our trainers write it."""
    torch.manual_seed(0)
    network = timm.create_model("lsnet_t_artist", num_classes=3, img_size=64, feature_dim=48)
    return {"format": FORMAT, "model": dict(network.state_dict()), "model_ema": None, "classes": ["a", "b", "c"],
            "epoch": 1, "config": {"architecture": "lsnet_t_artist", "num_classes": 3, "model_args": {
                "img_size": 64, "feature_dim": 48}, "preprocessing": dict(PREPROCESSING)}}


def write_odd(folder: Path, content: dict[str, Any], number: int) -> Path:
    """Write odd checkpoint `number` to `folder`; its path."""
    rng = random.Random(number)
    kind = number % 5
    content = {**content, "model": dict(content["model"]), "config": copy.deepcopy(content["config"])}
    path = folder / "odd.pth"
    if kind == 0:
        torch.save(content, path, _use_new_zipfile_serialization=rng.random() < 0.5)
        return _damage(path, rng)
    if kind == 1:
        place: Any = rng.choice([content, content["config"], content["config"]["preprocessing"]])
        place[rng.choice([*place, "args", "state_dict", "pretrained_cfg", "task", "label_names", "options"])] = (
            rng.choice(VALUES))
    elif kind == 2:
        key = rng.choice([*content["model"], "strange", "head.l.weight", "projection.0.l.weight",
                          "blocks4.3.mixer.m.attention_biases"])
        content["model"][key] = rng.choice(odd_tensors())
    elif kind == 3:
        plain = [True, False, None, 0.1, 1, 3, 64, 48, 4096, [64, 64], "avg", "max", "", "token"]
        arguments = {rng.choice(NAMES): rng.choice(rng.choice([VALUES, plain])) for _ in range(rng.randint(1, 3))}
        content["config"]["model_args"] = {**content["config"]["model_args"], **arguments}
    else:
        return _write_folder(folder, content, rng)
    unpicklable = pickle.PicklingError, AttributeError, RuntimeError, TypeError
    with contextlib.suppress(*unpicklable):  # then there is no file
        torch.save(content, path, _use_new_zipfile_serialization=rng.random() < 0.7)
    return path


def _damage(path: Path, rng: random.Random) -> Path:
    data = bytearray(path.read_bytes())
    way = rng.randrange(4)
    if way == 0:
        data = data[:rng.choice([1, 2, 3, 4, 10, rng.randrange(len(data))])]
    elif way == 1:
        data = bytearray(pickle.dumps(rng.choice([os.system, [1], {"model": 1}, object]), protocol=rng.randrange(6)))
    for _ in range(rng.choice([1, 1, 8]) if way > 1 else 0):
        # Half of the flips hit the pickle, which is at the beginning.
        place = rng.randrange(min(len(data), 20_000) if rng.random() < 0.5 else len(data))
        data[place] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    return path


def _write_folder(folder: Path, content: dict[str, Any], rng: random.Random) -> Path:
    config = {**content["config"], "label_names": content["classes"]}
    for _ in range(rng.randint(1, 2)):
        config[rng.choice([*config, "pretrained_cfg", "args"])] = rng.choice(VALUES)
    entry = rng.choice(["input_size", "mean", "crop_pct", "interpolation", "file"])
    config["pretrained_cfg"] = rng.choice([{}, {entry: rng.choice(VALUES)}, config.get("pretrained_cfg")])
    text = rng.choice([json.dumps(config, default=str, skipkeys=True)] * 4 + [
        "[" * 10_000, '{"num_classes": ' + "1" * 5000 + "}", "[1]", "{"])
    (folder / "config.json").write_text(text)
    safetensors.torch.save_file(content["model"], folder / "model.safetensors")
    return folder


# ---- a child that reads one ------------------------------------------------------------------------------------------


def read_in_child(path: Path) -> int:
    """Read `path` in a fork of this process: 0 it loaded, 2 it was refused in one line, anything else is a fault."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        signal.alarm(5 * SECONDS)
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
        with _watched():
            code = _read(path)
    finally:
        if code == 1:
            traceback.print_exc()
        os._exit(code)


def _read(path: Path) -> int:
    try:
        checkpoint = read_checkpoint(path)
        spec = checkpoint.resolve()
        load_weights(spec.architecture.create(), checkpoint.evaluated, checkpoint.path)
        return 0 if checkpoint.fingerprint else 1
    except UserError as error:
        return 2 if "\n" not in str(error) and len(str(error)) < 2000 else 3


@contextlib.contextmanager
def _watched() -> Iterator[None]:
    """End the process with code 7 when something is opened for writing, run or fetched."""
    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        is_written = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
        if is_written or event.startswith(("os.system", "subprocess", "socket.connect", "urllib", "os.exec")):
            print(event, arguments, file=sys.stderr, flush=True)
            os._exit(7)

    sys.addaudithook(watch)
    yield
