"""What tools/export_model.py is asked for. Needs no torch, so that --help and a wrong flag answer at once."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Literal

from runtime.arguments import flag
from runtime.export_folder import Precision
from runtime.options import CHECKPOINT
from utils import UserError

Format = Literal["onnx", "openvino", "wd-tagger", "published"]
PACKAGES: dict[Format, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("onnx", "onnxscript", "onnxruntime", "openvino"),
    "wd-tagger": ("onnx", "onnxscript", "onnxruntime"), "published": ()}


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Export."""

    checkpoint: Path = flag(MISSING, CHECKPOINT)
    output: Path = flag(MISSING, "folder to make", writes="folder")
    format: Format = flag(
        "onnx", "onnx: for ONNX Runtime; openvino: for OpenVINO; wd-tagger: an ONNX file with selected_tags.csv, as "
                "clients of WD-14 taggers read it; published: as other programs read the published LSNet artist models",
        common=True)
    precision: Precision = flag("fp32", "of the numbers in the network: fp32, fp16, or int8, which is calibrated on "
                                        "training pictures", common=True)
    data_path: Path | None = flag(
        None, "folder with train/ and val/: val/ checks the exported network and measures what it loses, train/ "
              "calibrates int8 (default: generated pictures check it)", common=True)
    max_top1_loss: float = flag(1.0, "most top-1 that fp16 or int8 may lose on the validation pictures, percentage "
                                     "points", at_least=0, at_most=100)
    danbooru_names: bool = flag(False, "with wd-tagger: write names as Danbooru does, in lower case with _ for spaces")
    calibration: bool = flag(True, "use the calibration.json beside the checkpoint, where there is one")
    model: str | None = flag(None, "architecture; checked against the checkpoint, needed only for files that do not "
                                   "say it")
    class_csv: Path | None = flag(None, "class_mapping.csv; checked against the checkpoint, needed only for files that "
                                        "do not name their artists and have no class_mapping.csv beside them",
                                  names=("--class-mapping",))
    overwrite: bool = flag(False, "replace an earlier export without asking", common=True)

    def check(self) -> None:
        """Raise a `UserError` if the flags contradict each other."""
        if self.format == "published" and self.precision != "fp32":
            raise UserError(f"--precision {self.precision} with --format published", "fp32, as its clients read it",
                            "leave the flag away, or take --format onnx")
        if self.precision == "int8" and self.data_path is None:
            raise UserError("--precision int8 without --data-path", "the training pictures, on which it is calibrated",
                            "name the folder that holds train/ and val/")
        if self.danbooru_names and self.format != "wd-tagger":
            raise UserError(f"--danbooru-names with --format {self.format}", "--format wd-tagger",
                            "leave the flag away")
