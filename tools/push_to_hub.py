"""Share a trained network on the Hugging Face hub, with class names, calibration, thresholds and a model card.

Example: python tools/push_to_hub.py --checkpoint my_run --repository OWNER/NAME --dry-run my_repository
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import MISSING, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.output_folder import new_folder
from runtime.arguments import Parser, flag
from runtime.next_step import PICTURES, print_next
from utils import EXIT_DONE, command


@dataclass(frozen=True, kw_only=True)
class PushOptions:
    """What to share."""

    checkpoint: Path = flag(MISSING, "output folder of a training")
    repository: str = flag(MISSING, "its name on the hub, OWNER/NAME; it is made where there is none",
                           names=("--repo",))
    export: Path | None = flag(None, "share this folder of tools/export_model.py, made from the same network, too")
    private: bool = flag(False, "make a new repository private")
    dry_run: Path | None = flag(None, "write the files of the repository to this folder instead, and do not connect",
                                writes="folder")
    overwrite: bool = flag(False, "replace the folder of an earlier --dry-run without asking")


def build_parser() -> Parser[PushOptions]:
    """The flags of this command."""
    return Parser(PushOptions, prog="tools/push_to_hub.py", description=__doc__)


@command
def main(argv: list[str] | None = None) -> int:
    """Share; 0."""
    options = build_parser().read(argv)

    from export.hub import SharedRun, check_access, upload
    if options.dry_run is None:
        check_access(options.repository)
    run = SharedRun.read(options.checkpoint, options.export)
    if options.dry_run:
        with new_folder(options.dry_run, made_by="push_to_hub.py", overwrite=options.overwrite,
                        sources=[run.folder]) as folder:
            run.write(folder, options.repository)
        print(f"written, not uploaded: {options.dry_run}; say in its README.md under which license it may be used")
        print_next("tools/push_to_hub.py", "--checkpoint", options.checkpoint, "--repository", options.repository)
        return EXIT_DONE
    with tempfile.TemporaryDirectory() as scratch:
        run.write(Path(scratch), options.repository)
        print(f"uploaded: {upload(Path(scratch), options.repository, private=options.private)}")
    print("say in its README.md under which license it may be used")
    print_next("inference_artist.py", "--checkpoint", f"hf-hub:{options.repository}", "--input", PICTURES)
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
