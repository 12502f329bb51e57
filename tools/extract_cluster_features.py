"""Extract the feature vectors of a folder's pictures and group them with k-means.

Example: python tools/extract_cluster_features.py --images-dir new --checkpoint runs/lsnet_t/model_best.pth
--num-clusters 6 --output-dir results
"""

from __future__ import annotations

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.images import list_images
from runtime.arguments import Parser, add_options, flag, read_options
from runtime.clustering import kmeans_clusters
from runtime.logbook import progress
from runtime.options import InferenceOptions
from runtime.predictor import Predictor
from runtime.records import extract_features, write_features
from utils import EXIT_DONE, EXIT_PARTIAL, UserError, command, write_json


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to group."""

    images_dir: Path = flag(MISSING, "folder of pictures")
    recursive: bool = flag(True, "search its sub-folders too")
    num_clusters: int = flag(8, "number of groups", at_least=1)
    output_dir: Path = flag(MISSING, "folder for features.npy, image_names.txt and cluster_assignments.json")
    seed: int = flag(0, "seed of k-means' starting points", at_least=0, at_most=2**32 - 1)


def build_parser() -> Parser:
    """The flags of this command."""
    parser = Parser(prog="tools/extract_cluster_features.py", description=__doc__)
    add_options(parser, Options)
    add_options(parser, InferenceOptions)
    return parser


@command
def main(argv: list[str] | None = None) -> int:
    """Extract and group; 0, or 3 when some pictures could not be read."""
    arguments = build_parser().parse_args(argv)
    options, network = read_options(arguments, Options), read_options(arguments, InferenceOptions)
    if not options.images_dir.is_dir():
        raise UserError(f"no folder {options.images_dir}", "a folder of pictures", "check --images-dir")
    pictures = list_images(options.images_dir, recursive=options.recursive)
    if options.num_clusters > len(pictures):
        raise UserError(f"{len(pictures)} picture(s) in {options.images_dir}", f"at least --num-clusters "
                        f"{options.num_clusters}", "ask for fewer clusters or give more pictures")
    predictor = Predictor.from_checkpoint(network.checkpoint, model=network.model, class_csv=network.class_csv,
                                          device=network.device)
    answers = predictor.predict(pictures, batch_size=network.batch_size, num_workers=network.num_workers,
                                max_pixels=network.max_pixels)
    names, features, failures = extract_features(progress(answers, len(pictures)), options.images_dir)
    clusters = kmeans_clusters(features, names, options.num_clusters, seed=options.seed)
    write_features(options.output_dir, names, features)
    write_json(options.output_dir / "cluster_assignments.json", clusters)
    for failure in failures:
        print(f"not read: {failure.path} ({failure.reason})", file=sys.stderr)
    for cluster in clusters["clusters"]:
        print(f"cluster {cluster['cluster_id']}: {cluster['size']} pictures, such as {cluster['images'][0]}")
    print(f"results are in {options.output_dir}")
    return EXIT_PARTIAL if failures else EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
