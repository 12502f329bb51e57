"""Make what pictures meet on the web of any folder of class folders: recompressed, rescaled, blurred, noisy, …

Example: python tools/corrupt_dataset.py --input-dir my_dataset/val --output-dir my_corrupted
"""

from __future__ import annotations

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.corruptions import KINDS, STRENGTHS, Kind, write_corrupted
from data.images import DEFAULT_MAX_PIXELS
from data.names import as_text
from data.output_folder import new_folder
from runtime.arguments import Parser, flag
from runtime.next_step import CHECKPOINT, print_next
from runtime.options import MOST_WORKERS, FolderSearchOptions
from runtime.progress import progress
from utils import EXIT_DONE, EXIT_PARTIAL, command, counted


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Corrupted copies."""

    input_dir: Path = flag(MISSING, "folder with one folder of pictures per class, such as a val/")
    output_dir: Path = flag(MISSING, "folder to make, with <kind>/<strength>/val/<class>/ in it; an earlier output is "
                                     "only replaced after a question")
    kinds: tuple[Kind, ...] | None = flag(None, f"which of {', '.join(KINDS)} (default: all)", metavar="KIND",
                                          common=True)
    short_side: int = flag(256, "larger pictures are reduced to this short side first, px", at_least=1, metavar="PX",
                           common=True)
    seed: int = flag(0, "seed of noise and directions, together with each picture's name", at_least=0)
    workers: int | None = flag(None, "processes that work; 0 works in this one (default: one per processor)",
                               at_least=0, at_most=MOST_WORKERS)
    max_pixels: int = flag(DEFAULT_MAX_PIXELS, "pictures whose header claims more count as damaged", at_least=1)
    overwrite: bool = flag(False, "replace an earlier output without asking", common=True)
    search: FolderSearchOptions


def build_parser() -> Parser[Flags]:
    """The flags of this command."""
    return Parser(Flags, prog="tools/corrupt_dataset.py", description=__doc__)


@command
def main(argv: list[str] | None = None) -> int:
    """Write the pictures; 0, or 3 when some, or folders of them, could not be read."""
    flags = build_parser().read(argv)
    import torch

    from data.image_folder import ImageFolder

    images = ImageFolder(flags.input_dir, transform=torch.as_tensor, exclude=flags.search.exclude)
    for line in images.passed_over:
        print(line)
    names = images.names
    kinds = flags.kinds or KINDS
    with new_folder(flags.output_dir, made_by="corrupt_dataset.py", overwrite=flags.overwrite,
                    sources=[flags.input_dir]) as folder:
        failures = write_corrupted(folder, flags.input_dir, names, kinds=kinds, short_side=flags.short_side,
                                   seed=flags.seed, max_pixels=flags.max_pixels, workers=flags.workers,
                                   progress=progress)
    for name, reason in failures.items():
        print(f"left out: {as_text(name)} ({reason})", file=sys.stderr)
    print(f"{counted(len(names) - len(failures), 'picture')} in {len(kinds)} x {len(STRENGTHS)} forms are in "
          f"{flags.output_dir}, such as {flags.output_dir / kinds[0] / '1'}")
    print_next("train_artist_style.py", "--eval", "--resume", CHECKPOINT, "--data-path",
               flags.output_dir / kinds[0] / "1")
    return EXIT_PARTIAL if failures or images.unreadable else EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
