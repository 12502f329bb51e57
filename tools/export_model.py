"""Make a folder of a trained network that other programs use without this project: ONNX, OpenVINO, taggers, loaders.

Example: python tools/export_model.py --checkpoint my_run/model_best.pth --data-path my_dataset --output my_export
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from export.options import PACKAGES, ExportOptions
from runtime.arguments import Parser
from runtime.export_folder import NETWORKS, check_packages, read_export_folder
from runtime.next_step import PICTURES, print_next
from utils import EXIT_DONE, command


def build_parser() -> Parser[ExportOptions]:
    """The flags of this command."""
    return Parser(ExportOptions, prog="tools/export_model.py", description=__doc__)


@command
def main(argv: list[str] | None = None) -> int:
    """Export; 0."""
    options = build_parser().read(argv)
    options.check()
    check_packages(*PACKAGES[options.format])

    from export.folder import export
    for line in export(options):
        print(line, flush=True)
    if options.format in NETWORKS:  # the others are for other programs
        script, flag = (("predict_artist_multilabel.py", "--inputs")
                         if read_export_folder(options.output).task == "multilabel" else
                         ("inference_artist.py", "--input"))
        print_next(script, "--checkpoint", options.output, flag, PICTURES)
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
