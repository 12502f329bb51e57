"""Extract the feature vectors of a folder's pictures and group them, or group vectors that were extracted before.

Example: python tools/extract_cluster_features.py --images-dir my_dataset/val --checkpoint my_run/model_best.pth
--output-dir my_clusters
"""

from __future__ import annotations

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.output_folder import output_lock, replace_together
from data.picture_files import find_pictures
from runtime.arguments import Parser, flag
from runtime.next_step import print_next
from runtime.options import ClusterOptions, FeatureOptions, FolderSearchOptions
from search.neighbours import normalised
from search.vectors import FEATURES, NAMES, SPACE, FeatureSpace, Vectors, missing_pictures, read_vectors, write_features
from utils import EXIT_DONE, EXIT_PARTIAL, UserError, command, counted, write_json

ASSIGNMENTS = "cluster_assignments.json"


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What to group."""

    images_dir: Path | None = flag(None, "folder of pictures; with --features, the one they were extracted from, for "
                                         "the PNGs", common=True)
    features: Path | None = flag(None, "group these vectors instead: features.npy with image_names.txt beside it, or "
                                       "another file or folder that tools/compare_vectors.py reads", common=True)
    recursive: bool = flag(True, "also search the sub-folders of the folder")
    normalize: bool | None = flag(None, "scale features to length 1 before they are grouped and drawn, so that only "
                                        "their direction counts (default: with --num-clusters auto, and for "
                                        "standardised features)")
    projection: Literal["tsne", "pca"] = flag("tsne", "how map.png projects the features onto the plane")
    output_dir: Path = flag(MISSING, "folder for cluster_assignments.json, clusters.png, map.png and the features",
                            writes="folder")
    search: FolderSearchOptions
    clusters: ClusterOptions
    network: FeatureOptions


def build_parser() -> Parser[Flags]:
    """The flags of this command."""
    return Parser(Flags, prog="tools/extract_cluster_features.py", description=__doc__)


@command
def main(argv: list[str] | None = None) -> int:
    """Extract and group; 0, or 3 when some pictures or folders could not be read, or pictures are missing."""
    flags = build_parser().read(argv)
    if flags.images_dir and not flags.images_dir.is_dir():
        raise UserError(f"no folder {flags.images_dir}", "a folder of pictures", "check --images-dir")
    with output_lock(flags.output_dir):
        return group(flags)


def group(flags: Flags) -> int:
    """Group, write and print; the exit code."""
    failures: list[tuple[Path, str]] = []
    if flags.features:
        found = read_vectors([flags.features])
    else:
        found, failures = extract(flags)
    missing = missing_pictures(flags.images_dir, found.names) if flags.images_dir else []
    from drawing.clusters import MAP, SHEET, cluster_map, cluster_sheet
    from inference.records import print_failures
    from search.clustering import group_features
    from search.standardisation import STANDARDISATION, comparable
    features, standardisation = comparable(found, flags.clusters.pca)
    normalize = flags.normalize
    if normalize is None:
        normalize = flags.clusters.num_clusters == "auto" or standardisation is not None
    features = normalised(features) if normalize else features
    groups = group_features(features, found.names, flags.clusters)
    feature_files = () if flags.features else (FEATURES, SPACE, NAMES, STANDARDISATION)
    with replace_together(flags.output_dir, (*feature_files, ASSIGNMENTS, SHEET, MAP)) as folder:
        if not flags.features:
            write_features(folder, found.names, found.rows, found.space or FeatureSpace())
            if standardisation:
                standardisation.write(folder)
        write_json(folder / ASSIGNMENTS, groups)
        if flags.images_dir and groups["clusters"]:
            cluster_sheet(groups["clusters"], flags.images_dir, folder / SHEET)
        cluster_map(features, found.names, groups["clusters"], folder / MAP, folder=flags.images_dir,
                    projection=flags.projection, seed=flags.clusters.seed)
    print_failures(failures)
    for cluster in groups["clusters"]:
        print(f"cluster {cluster['cluster_id']}: {counted(cluster['size'], 'picture')}, such as {cluster['images'][0]}")
    if groups.get("unassigned"):
        print(f"in no cluster: {counted(len(groups['unassigned']), 'picture')}, such as {groups['unassigned'][0]}")
    if missing:
        print(f"{len(missing)} of {counted(len(found.names), 'picture')} are not in {flags.images_dir} and drawn "
              f"blank, such as {missing[0]}", file=sys.stderr)
    print(f"results are in {flags.output_dir}")
    vectors = flags.features or flags.output_dir
    print_next("tools/compare_vectors.py", "--query-vector", vectors, "--reference-vectors", vectors)
    return EXIT_PARTIAL if failures or missing else EXIT_DONE


def extract(flags: Flags) -> tuple[Vectors, list[tuple[Path, str]]]:
    """The features of the folder's pictures, and the pictures and folders that could not be read."""
    if flags.images_dir is None:
        raise UserError("nothing to group", "--images-dir and a network, or --features", "add what is missing")
    flags.network.check_source()
    from inference.predictor import Predictor
    from inference.records import extract_folder
    pictures = find_pictures(flags.images_dir, recursive=flags.recursive, exclude=flags.search.exclude)
    return extract_folder(Predictor.from_options(flags.network, uses_features=True), pictures, flags.network)


if __name__ == "__main__":
    sys.exit(main())
