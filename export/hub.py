"""A run as a repository on the Hugging Face hub: its folder with a model card, and the upload."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from data.class_mapping import CLASS_MAPPING, write_class_mapping
from data.side_files import read_json
from evaluation.calibration import Calibration
from evaluation.thresholds import read_thresholds
from runtime.checkpoint import (
    BEST,
    BEST_ALIAS,
    CALIBRATION,
    HUB_CONFIG,
    STATISTICS,
    THRESHOLDS,
    WEIGHTS,
    Checkpoint,
    read_checkpoint,
)
from runtime.export_folder import NETWORKS, PREPROCESS, ExportFolder, read_export_folder
from runtime.logbook import board_title
from utils import UserError, write_json, write_text

CARD = "README.md"
LISTED = 100  # artists in the card
_WORDS = {"loss": "loss, nats", "share_error": "error of a share, mean",
          "coverage": "labels to list, the best first, until all of a picture are, mean"}
OURS = "a clone of this project"


@dataclass(frozen=True, kw_only=True, eq=False)
class SharedRun:
    """What is shared of a run.

    Attributes:
        folder: the run's.
        checkpoint: its best weights.
        classes: names in the order of the logits.
        exported: the same network for ONNX Runtime or OpenVINO, where that is shared, too.
    """

    folder: Path
    checkpoint: Checkpoint
    classes: list[str]
    exported: ExportFolder | None

    @classmethod
    def read(cls, path: Path, export: Path | None) -> SharedRun:
        """The run in the folder `path`, or of the best checkpoint in it, and the folder of its `export`.

        Raises:
            UserError: that is no run, names no classes, or `export` or a file beside it is of another network.
        """
        folder = path if path.is_dir() else path.parent
        if (not path.is_dir() and path.name not in (BEST, BEST_ALIAS, WEIGHTS)) or not (folder / HUB_CONFIG).is_file():
            raise UserError(f"{path}, which is not the best checkpoint of a run", "the output folder of a training, "
                            f"with {HUB_CONFIG} and {WEIGHTS}", "name that folder")
        checkpoint = read_checkpoint(folder)
        classes = checkpoint.resolve().classes
        if not classes:
            raise UserError(f"{folder}, which does not name its classes", "a class mapping",
                            f"put its {CLASS_MAPPING} there")
        exported = read_export_folder(export) if export else None
        if exported and exported.export.fingerprint != checkpoint.fingerprint:
            raise UserError(f"{export}, exported from another network than {folder}", "its own export",
                            "run tools/export_model.py again")
        Calibration.beside(checkpoint.path, checkpoint.fingerprint, None)
        if (folder / THRESHOLDS).is_file():
            read_thresholds(folder / THRESHOLDS, classes)
        return cls(folder=folder, checkpoint=checkpoint, classes=classes, exported=exported)

    def write(self, folder: Path, repository: str) -> None:
        """Write the files of the repository, which will have this name, to `folder`."""
        for name in (HUB_CONFIG, WEIGHTS, CALIBRATION, STATISTICS, THRESHOLDS):
            if (self.folder / name).is_file():
                shutil.copyfile(self.folder / name, folder / name)
        write_class_mapping(folder / CLASS_MAPPING, self.classes)
        if self.exported:
            network = self.exported.network
            for name in {PREPROCESS, network.name, network.with_suffix(".bin").name}:
                if (self.exported.path / name).is_file():
                    shutil.copyfile(self.exported.path / name, folder / name)
            config, export = (read_json(path / HUB_CONFIG, dict, expected="what was just read", action="try again")
                              for path in (folder, self.exported.path))
            write_json(folder / HUB_CONFIG, {**config, "export": export["export"]})
        write_text(folder / CARD, self.card(repository))

    def card(self, repository: str) -> str:
        """The README.md of the repository: a model card whose licence is left to its author."""
        several = self.checkpoint.task == "multilabel"
        command = "predict_artist_multilabel.py" if several else "inference_artist.py"
        flags = "--inputs pictures --output labels.json" if several else "--input pictures"
        names = [f"- {' '.join(name.split())}" for name in self.classes[:LISTED]]
        if len(self.classes) > LISTED:
            names.append(f"- and {len(self.classes) - LISTED} more, see {CLASS_MAPPING}")
        size = self.checkpoint.resolve().preprocessing.input_size
        lines = [
            "---", "library_name: timm", "pipeline_tag: image-classification", "tags:", "- art", "- artist-style",
            "# license: to be chosen by the author", "---", "", f"# {repository.rpartition('/')[2]}", "",
            f"{self.checkpoint.saved.architecture}, {size} px: names {'the artists' if several else 'the artist'} of a "
            f"picture among {len(self.classes)}.", "",
            "## Accuracy", "", *self.figures(), "", "## License", "", "Not stated by the author yet.", "",
            "## Use", "", f"With {OURS}:", "", "```bash",
            f"python {command} --checkpoint hf-hub:{repository} {flags}", "```", "", "```python",
            "from inference.api import load", f'load("hf-hub:{repository}").predict(["picture.jpg"])', "```", "",
            f"With timm (presets of LSNet are registered by `import model` in {OURS}):", "", "```python", "import timm",
            f'network = timm.create_model("hf-hub:{repository}", pretrained=True).eval()', "```", "",
            *self.runtime(repository), "## Artists", "", *names]
        return "\n".join(lines) + "\n"

    def figures(self) -> list[str]:
        """The figures of the best epoch's validation, as a table."""
        best = self.folder / BEST
        found = read_checkpoint(best).content.get("metrics") if best.is_file() else None
        rows = [f"| {_words(name)} | {value:.3f} |" for name, value in (found or {}).items()
                if isinstance(value, float)]
        return ["| figure on the validation pictures | value |", "| --- | --- |", *rows] if rows else ["Not known."]

    def runtime(self, repository: str) -> list[str]:
        """How to run the exported network, where there is one."""
        if not self.exported or self.exported.export.backend != "onnx":
            return []
        return [
            "With onnxruntime:", "", "```python", "import onnxruntime", "from huggingface_hub import hf_hub_download",
            f'path = hf_hub_download("{repository}", "{NETWORKS["onnx"]}")',
            "session = onnxruntime.InferenceSession(path)",
            f"# pixels: (pictures, S, S, 3) uint8, RGB, as {PREPROCESS} says",
            'probabilities = session.run(["probabilities"], {"pixels": pixels})[0]', "```", ""]


def _words(name: str) -> str:
    """A figure of an evaluation in words, with its unit."""
    words = _WORDS.get(name) or board_title(f"val_{name}").removeprefix("validation/")
    if name.startswith(("macro_", "micro_")) and not words.endswith("%"):
        return f"{words.replace('f1', 'F1').replace('map', 'mAP')}, %"
    return words


def check_access(repository: str) -> None:
    """Raise a `UserError` unless `repository` can be a name on the hub, this machine is online and has a token."""
    from huggingface_hub import constants, get_token
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
        if "/" not in repository:
            raise ValueError("no owner")
    except ValueError as error:
        raise UserError(f"--repository {repository}", "OWNER/NAME of letters, digits, -, _ and .",
                        "correct it") from error
    if constants.HF_HUB_OFFLINE:
        raise UserError("HF_HUB_OFFLINE, which forbids connections", "a machine that may connect to the hub",
                        "unset it, or write the folder with --dry-run")
    if get_token() is None:
        raise UserError("no token of the Hugging Face hub", "one that may write", "run hf auth login, or write the "
                        "folder with --dry-run")


def upload(folder: Path, repository: str, *, private: bool) -> str:
    """Upload the files of `folder`, and make the repository where there is none; its address.

    Raises:
        UserError: the hub cannot be reached, or refuses.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError

    try:
        api = HfApi()
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=repository, commit_message="Upload a trained network",
                          ignore_patterns=[".*"])
        return str(address)
    except (*HfHubHTTPError.__bases__, ValueError) as error:  # OSError, and all errors of the HTTP library it uses
        reason = " ".join(str(error).split())[:300]
        for secret in filter(None, (get_token(), os.environ.get("HF_TOKEN"))):
            reason = reason.replace(secret, "…")
        raise UserError(f"{repository}, to which nothing was uploaded ({reason})", "a repository that this token may "
                        "write to", "check name, token and connection, or write the folder with --dry-run") from None
