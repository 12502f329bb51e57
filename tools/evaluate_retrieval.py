"""Judge features: do the nearest pictures share the artist, do clusters, and does a gallery name the right one?

Example: python tools/evaluate_retrieval.py --images-dir my_dataset/val --checkpoint my_run/model_best.pth
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.output_folder import output_lock
from data.picture_files import find_pictures
from runtime.arguments import Parser, flag
from runtime.next_step import CHECKPOINT, PICTURES, network_flags, print_next
from runtime.options import NEIGHBOURS, ClusterOptions, FeatureOptions, FolderSearchOptions
from runtime.text_table import RULE, format_table
from search.engines import open_store
from search.gallery_search import Search, gallery_accuracy
from search.neighbours import normalised
from search.retrieval import format_retrieval, read_labels, retrieval_figures
from search.standardisation import comparable
from search.vectors import Vectors, missing_pictures, read_vectors
from utils import EXIT_DONE, EXIT_PARTIAL, UserError, command, counted, write_json


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What to judge."""

    features: Path | None = flag(None, "vectors with names, such as the output folder of inference (default: those "
                                       "that the network of --checkpoint, or --model, extracts from --images-dir)",
                                 common=True)
    labels: Path | None = flag(None, "text file with the artist of each vector on a line (default: the first folder of "
                                     "its name)")
    images_dir: Path | None = flag(None, "folder of the pictures: also compare clusters of the features with clusters "
                                         "of the pixels", common=True)
    num_clusters: int | None = flag(None, "number of clusters (default: that of artists)", at_least=1)
    seed: int = flag(0, "seed of k-means", at_least=0, at_most=2**32 - 1)
    gallery: str | None = flag(None, "also let this gallery of the same model name the artists, a folder or milvus:URI",
                               metavar="PLACE", common=True)
    exact: bool = flag(False, "for --gallery: compare with every picture, without an index")
    output: Path | None = flag(None, "write the figures as JSON", writes="file", common=True)
    search: FolderSearchOptions
    network: FeatureOptions


def build_parser() -> Parser[Flags]:
    """The flags of this command."""
    return Parser(Flags, prog="tools/evaluate_retrieval.py", description=__doc__)


@command
def main(argv: list[str] | None = None) -> int:
    """Evaluate, print and write; 0, or 3 when some pictures or folders could not be read."""
    flags = build_parser().read(argv)
    search = open_store(flags.gallery).open_search(neighbours=NEIGHBOURS, exact=flags.exact) if flags.gallery else None
    found, failures = (read_vectors([flags.features]), []) if flags.features else extract(flags, search)
    artists = read_labels(found.names, flags.labels)
    labels = np.unique(artists, return_inverse=True)[1]
    rows = comparable(found)[0]
    figures: dict[str, Any] = {"pictures": len(artists), "artists": int(labels.max()) + 1,
                               "retrieval": retrieval_figures(rows, labels)}
    print(f"{counted(figures['pictures'], 'picture')} by {counted(figures['artists'], 'artist')}")
    print(format_retrieval(figures["retrieval"]))
    if flags.images_dir:
        figures["clusters"] = compare_clusters(rows, found.names, labels, flags.images_dir, flags)
        rows = [(kind, f"{each['ari']:.3f}", f"{each['purity']:.3f}") for kind, each in figures["clusters"].items()]
        print(*format_table([("k-means of", "ARI", "purity"), RULE, *rows]), sep="\n")
    if search:
        if found.space:
            search.gallery.space.check(found.space, flags.features or flags.images_dir, flags.gallery)
        accuracy = figures["gallery"] = gallery_accuracy(search, found.rows, artists)
        rows = [(f"gallery, by {way}", f"{accuracy[way]:.1f}", f"{accuracy[f'balanced_{way}']:.1f}")
                for way in ("neighbours", "mean")]
        print(*format_table([("", "top-1, %", "mean over artists, %"), RULE, *rows]), sep="\n")
    if flags.output:
        with output_lock(flags.output, wait=True):
            write_json(flags.output, figures)
    from inference.records import print_failures
    print_failures(failures)
    network = network_flags(flags.network) or ["--checkpoint", CHECKPOINT]
    print_next("tools/build_gallery.py", *(("--add", PICTURES, "--gallery", flags.gallery) if flags.gallery else
                                           ("--images-dir", PICTURES, "--gallery", "my_gallery")), *network)
    return EXIT_PARTIAL if failures else EXIT_DONE


def extract(flags: Flags, search: Search | None) -> tuple[Vectors, list[tuple[Path, str]]]:
    """The features of the artists' pictures in --images-dir, and the pictures and folders that cannot be read."""
    if flags.images_dir is None:
        raise UserError("no features to judge", "--features, or --images-dir and a network", "add what is missing")
    flags.network.check_source()
    from inference.predictor import Predictor
    from inference.records import extract_folder
    predictor = Predictor.from_options(flags.network, uses_features=True,
                                       gallery=search.gallery.space if search else None)
    pictures = find_pictures(flags.images_dir, exclude=flags.search.exclude).without_loose()
    return extract_folder(predictor, pictures, flags.network)


def compare_clusters(rows: np.ndarray, names: Sequence[str], labels: np.ndarray, folder: Path,
                     flags: Flags) -> dict[str, dict[str, float]]:
    """How far clusters of features of length 1, and of the pixels of `folder`'s pictures, agree with the artists."""
    from search.clustering import agreement, group_features, group_numbers, pixel_features
    missing_pictures(folder, names)
    grouping = ClusterOptions(num_clusters=flags.num_clusters or int(labels.max()) + 1, seed=flags.seed)
    kinds = {"features": normalised(rows), "PCA of pixels": pixel_features(folder, names)}
    return {kind: agreement(labels, group_numbers(group_features(values, names, grouping), names))
            for kind, values in kinds.items()}


if __name__ == "__main__":
    sys.exit(main())
