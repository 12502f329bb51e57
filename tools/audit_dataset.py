"""Look for labels that are likely wrong, copies, outliers and artists that look alike in a folder of artists' folders.

Example: python tools/audit_dataset.py --images-dir my_pictures --model tf_efficientnet_lite0 --pretrained
--output-dir my_audit
"""

from __future__ import annotations

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.names import as_text
from data.output_folder import check_apart, output_lock, replace_together
from data.picture_files import artist_of, find_pictures
from runtime.arguments import Parser, flag
from runtime.next_step import print_next
from runtime.options import FeatureOptions, FolderSearchOptions
from utils import EXIT_DONE, EXIT_PARTIAL, UserError, command

TABLE, PAGE, FIXES = "audit.csv", "audit.html", "fixes.csv"


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Audit."""

    images_dir: Path = flag(MISSING, "folder with one folder of pictures per artist")
    output_dir: Path = flag(MISSING, f"folder for {TABLE}, {PAGE} and {FIXES}", writes="folder")
    search: FolderSearchOptions
    network: FeatureOptions


def build_parser() -> Parser[Flags]:
    """The flags of this command."""
    return Parser(Flags, prog="tools/audit_dataset.py", description=__doc__)


@command
def main(argv: list[str] | None = None) -> int:
    """Audit; 0, or 3 when some pictures or folders could not be read."""
    flags = build_parser().read(argv)
    flags.network.check_source()
    check_apart(flags.output_dir, [flags.images_dir])
    found = find_pictures(flags.images_dir, exclude=flags.search.exclude).without_loose()
    if not found.images:
        raise UserError(f"no picture in an artist's folder in {flags.images_dir}", "one folder per artist",
                        "check --images-dir")

    from data.csv_files import write_rows
    from data.prepare.fix_list import write_fix_list
    from data.prepare.near_duplicates import find_same_pictures
    from evaluation.audit import audit, tabulate
    from evaluation.audit_page import write_page
    from inference.predictor import Predictor
    from inference.records import extract_folder, print_failures
    from runtime.progress import announced
    from search.standardisation import Standardisation

    predictor = Predictor.from_options(flags.network, uses_features=True)
    with output_lock(flags.output_dir):
        vectors, failures = extract_folder(predictor, found, flags.network)
        if not len(vectors.rows):
            raise UserError(f"no picture that can be read in {flags.images_dir}", "pictures", "check the path")
        places = {name: place for place, name in enumerate(vectors.names)}
        images = [image for image in found.images if as_text(found.name(image)) in places]
        same = find_same_pictures(images, workers=flags.network.num_workers, max_pixels=flags.network.max_pixels,
                                  progress=announced("comparing"))
        rows = Standardisation.fit(vectors.rows, predictor.space.widths(vectors.rows.shape[1])).apply(vectors.rows)
        audited = audit(vectors.names, [artist_of(name) or "" for name in vectors.names], rows,
                        [[places[as_text(found.name(image))] for image in group] for group in same])
        fixes = audited.fixes()
        with replace_together(flags.output_dir, (TABLE, PAGE, FIXES)) as building:
            write_rows(building / TABLE, tabulate(audited))
            write_page(building / PAGE, audited, flags.images_dir, max_pixels=flags.network.max_pixels)
            write_fix_list(building / FIXES, fixes)
    print_failures(failures)
    print(*audited.lines(), sep="\n")
    print(f"{PAGE}, {TABLE} and {FIXES} with {len(fixes)} changes are in {flags.output_dir}")
    print_next("prepare_dataset.py", "--source-dir", flags.images_dir, "--fix-list", flags.output_dir / FIXES,
               "--output-dir", "my_dataset")
    return EXIT_PARTIAL if failures else EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
