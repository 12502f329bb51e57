"""Judge features: do the nearest pictures share the artist, do clusters, and does a gallery name the right one?

Example: python tools/evaluate_retrieval.py --features my_results/batch --images-dir my_dataset/val
"""

from __future__ import annotations

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from runtime.arguments import Parser, add_options, flag, read_options
from runtime.text_table import RULE, format_table
from search.agreement import agreement, pixel_features
from search.clustering import ClusterOptions, group_features, group_numbers
from search.gallery import read_gallery
from search.gallery_search import NEIGHBOURS, GallerySearch, gallery_accuracy
from search.neighbours import normalised
from search.retrieval import headline, read_labels, retrieval_figures
from search.vectors import Vectors, read_vectors
from utils import EXIT_DONE, command, write_json


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to judge."""

    features: Path = flag(MISSING, "vectors with names, such as the output folder of inference")
    labels: Path | None = flag(None, "text file with the artist of each vector on a line (default: the first folder of "
                                     "its name)")
    images_dir: Path | None = flag(None, "folder of the pictures: also compare clusters of the features with clusters "
                                         "of the pixels")
    num_clusters: int | None = flag(None, "number of these clusters (default: that of artists)", at_least=1)
    seed: int = flag(0, "seed of k-means", at_least=0, at_most=2**32 - 1)
    gallery: Path | None = flag(None, "also let this gallery of the same model name the artists")
    output: Path | None = flag(None, "write the figures as JSON", writes="file")


def build_parser() -> Parser:
    """The flags of this command."""
    parser = Parser(prog="tools/evaluate_retrieval.py", description=__doc__)
    add_options(parser, Options)
    return parser


@command
def main(argv: list[str] | None = None) -> int:
    """Judge, print and write."""
    options = read_options(build_parser().parse_args(argv), Options)
    found = read_vectors([options.features])
    artists = read_labels(found.names, options.labels)
    labels = np.unique(artists, return_inverse=True)[1]
    figures = {"pictures": len(artists), "artists": int(labels.max()) + 1,
               "retrieval": retrieval_figures(found.rows, labels)}
    print(f"{figures['pictures']} pictures by {figures['artists']} artists")
    print(headline(figures["retrieval"]))
    if options.images_dir:
        figures["clusters"] = judge_clusters(found, labels, options)
        rows = [(kind, f"{each['ari']:.3f}", f"{each['purity']:.3f}") for kind, each in figures["clusters"].items()]
        print(*format_table([("k-means of", "ARI", "purity"), RULE, *rows]), sep="\n")
    if options.gallery:
        search = GallerySearch(read_gallery(options.gallery), neighbours=NEIGHBOURS)
        figures["gallery"] = gallery_accuracy(search, found.rows, artists)
        rows = [(f"gallery, by {way}", f"{figures['gallery'][way]:.1f}", f"{figures['gallery'][f'balanced_{way}']:.1f}")
                for way in ("neighbours", "mean")]
        print(*format_table([("", "top-1, %", "mean over artists, %"), RULE, *rows]), sep="\n")
    if options.output:
        write_json(options.output, figures)
    return EXIT_DONE


def judge_clusters(found: Vectors, labels: np.ndarray, options: Options) -> dict[str, dict[str, float]]:
    """How far clusters of features of length 1, and of the pixels, agree with the artists."""
    grouping = ClusterOptions(num_clusters=options.num_clusters or int(labels.max()) + 1, seed=options.seed)
    kinds = {"features": normalised(found.rows), "PCA of pixels": pixel_features(options.images_dir, found.names)}
    return {kind: agreement(labels, group_numbers(group_features(rows, found.names, grouping), found.names))
            for kind, rows in kinds.items()}


if __name__ == "__main__":
    sys.exit(main())
