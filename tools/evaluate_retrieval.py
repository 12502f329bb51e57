"""Judge features: do the nearest pictures share the artist, do clusters, and does a gallery name the right one?

Example: python tools/evaluate_retrieval.py --features my_results/batch --images-dir my_dataset/val
"""

from __future__ import annotations

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from runtime.arguments import Parser, flag
from runtime.options import NEIGHBOURS, ClusterOptions
from runtime.text_table import RULE, format_table
from search.gallery import read_gallery
from search.gallery_search import GallerySearch, gallery_accuracy
from search.neighbours import normalised
from search.retrieval import format_retrieval, read_labels, retrieval_figures
from search.vectors import Vectors, missing_pictures, read_vectors
from utils import EXIT_DONE, command, write_json


@dataclass(frozen=True, kw_only=True)
class Flags:
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


def build_parser() -> Parser[Flags]:
    """The flags of this command."""
    return Parser(Flags, prog="tools/evaluate_retrieval.py", description=__doc__)


@command
def main(argv: list[str] | None = None) -> int:
    """Evaluate, print and write."""
    flags = build_parser().read(argv)
    found = read_vectors([flags.features])
    artists = read_labels(found.names, flags.labels)
    labels = np.unique(artists, return_inverse=True)[1]
    figures: dict[str, Any] = {"pictures": len(artists), "artists": int(labels.max()) + 1,
                               "retrieval": retrieval_figures(found.rows, labels)}
    print(f"{figures['pictures']} pictures by {figures['artists']} artists")
    print(format_retrieval(figures["retrieval"]))
    if flags.images_dir:
        figures["clusters"] = compare_clusters(found, labels, flags.images_dir, flags)
        rows = [(kind, f"{each['ari']:.3f}", f"{each['purity']:.3f}") for kind, each in figures["clusters"].items()]
        print(*format_table([("k-means of", "ARI", "purity"), RULE, *rows]), sep="\n")
    if flags.gallery:
        search = GallerySearch(read_gallery(flags.gallery), neighbours=NEIGHBOURS)
        accuracy = figures["gallery"] = gallery_accuracy(search, found.rows, artists)
        rows = [(f"gallery, by {way}", f"{accuracy[way]:.1f}", f"{accuracy[f'balanced_{way}']:.1f}")
                for way in ("neighbours", "mean")]
        print(*format_table([("", "top-1, %", "mean over artists, %"), RULE, *rows]), sep="\n")
    if flags.output:
        write_json(flags.output, figures)
    return EXIT_DONE


def compare_clusters(found: Vectors, labels: np.ndarray, folder: Path,
                     flags: Flags) -> dict[str, dict[str, float]]:
    """How far clusters of features of length 1, and of the pixels of `folder`'s pictures, agree with the artists."""
    from search.clustering import agreement, group_features, group_numbers, pixel_features
    missing_pictures(folder, found.names)
    grouping = ClusterOptions(num_clusters=flags.num_clusters or int(labels.max()) + 1, seed=flags.seed)
    kinds = {"features": normalised(found.rows), "PCA of pixels": pixel_features(folder, found.names)}
    return {kind: agreement(labels, group_numbers(group_features(rows, found.names, grouping), found.names))
            for kind, rows in kinds.items()}


if __name__ == "__main__":
    sys.exit(main())
