"""Extract the feature vectors of a folder's pictures and group them, or group vectors that were extracted before.

Example: python tools/extract_cluster_features.py --images-dir new --checkpoint my_run/model_best.pth --num-clusters 6
--output-dir results
"""

from __future__ import annotations

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.images import list_images
from drawing.clusters import MAP, SHEET, cluster_map, cluster_sheet
from inference.predictor import Failure, Predictor
from inference.records import extract_features, tell_failures, write_features
from runtime.arguments import Parser, add_options, flag, read_options
from runtime.logbook import progress
from runtime.options import InferenceOptions
from search.clustering import ClusterOptions, group_features
from search.neighbours import normalised
from search.vectors import Vectors, read_vectors
from utils import EXIT_DONE, EXIT_PARTIAL, UserError, command, write_json


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to group."""

    images_dir: Path | None = flag(None, "folder of pictures; with --features, the one they were extracted from, for "
                                         "the PNGs")
    features: Path | None = flag(None, "group these vectors instead: features.npy with image_names.txt beside it, or "
                                       "another file or folder that tools/compare_vectors.py reads")
    recursive: bool = flag(True, "search the folder's sub-folders too")
    normalize: bool = flag(False, "group and draw features of length 1, so that only their direction counts")
    projection: Literal["tsne", "pca"] = flag("tsne", "how map.png brings features into the plane")
    output_dir: Path = flag(MISSING, "folder for cluster_assignments.json, clusters.png, map.png and the features",
                            writes="folder")


def build_parser() -> Parser:
    """The flags of this command."""
    parser = Parser(prog="tools/extract_cluster_features.py", description=__doc__)
    add_options(parser, Options)
    add_options(parser, ClusterOptions)
    add_options(parser, InferenceOptions, checkpoint=None)
    return parser


@command
def main(argv: list[str] | None = None) -> int:
    """Extract and group; 0, or 3 when some pictures could not be read."""
    arguments = build_parser().parse_args(argv)
    options, grouping, network = (read_options(arguments, group)
                                  for group in (Options, ClusterOptions, InferenceOptions))
    if options.images_dir and not options.images_dir.is_dir():
        raise UserError(f"no folder {options.images_dir}", "a folder of pictures", "check --images-dir")
    found, failures = (read_vectors([options.features]), []) if options.features else extract(options, network)
    if options.images_dir and found.names and not any((options.images_dir / name).is_file() for name in found.names):
        raise UserError(f"no {options.images_dir / found.names[0]}, nor another picture of {options.features}",
                        "the folder that the features were extracted from", "check --images-dir")
    features = normalised(found.rows) if options.normalize else found.rows
    groups = group_features(features, found.names, grouping)
    if not options.features:
        write_features(options.output_dir, found.names, found.rows)
    write_json(options.output_dir / "cluster_assignments.json", groups)
    if options.images_dir and groups["clusters"]:
        cluster_sheet(groups["clusters"], options.images_dir, options.output_dir / SHEET)
    cluster_map(features, found.names, groups["clusters"], options.output_dir / MAP, folder=options.images_dir,
                projection=options.projection, seed=grouping.seed)
    tell_failures(failures)
    for cluster in groups["clusters"]:
        print(f"cluster {cluster['cluster_id']}: {cluster['size']} pictures, such as {cluster['images'][0]}")
    if groups.get("unassigned"):
        print(f"in no cluster: {len(groups['unassigned'])} pictures, such as {groups['unassigned'][0]}")
    print(f"results are in {options.output_dir}")
    return EXIT_PARTIAL if failures else EXIT_DONE


def extract(options: Options, network: InferenceOptions) -> tuple[Vectors, list[Failure]]:
    """The features of the folder's pictures, and those that could not be read."""
    if options.images_dir is None or network.checkpoint is None:
        raise UserError("nothing to group", "--images-dir and --checkpoint, or --features", "add what is missing")
    pictures = list_images(options.images_dir, recursive=options.recursive)
    answers = Predictor.from_options(network).answer(pictures, network)
    names, features, failures = extract_features(progress(answers, len(pictures)), options.images_dir)
    return Vectors(names, features), failures


if __name__ == "__main__":
    sys.exit(main())
