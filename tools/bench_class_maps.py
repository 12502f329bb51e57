"""Measure whether the class maps of a network are true: on collages of a split's validation pictures, and otherwise.

Example: python tools/bench_class_maps.py --checkpoint my_run/model_best.pth --data-path my_dataset
"""

from __future__ import annotations

import sys
from dataclasses import MISSING, asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.output_folder import output_lock
from data.picture_files import find_pictures
from runtime.arguments import Parser, flag
from runtime.next_step import print_next
from runtime.options import TrainedOptions
from utils import EXIT_DONE, UserError, command, write_json

if TYPE_CHECKING:
    from inference.predictor import Predictor


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What is measured."""

    data_path: Path = flag(MISSING, "the split that the network was trained on; its pictures in val/ are used")
    cases: int = flag(240, "collages of each kind", at_least=1, common=True)
    grids: int = flag(60, "collages for --explain-grid", at_least=1)
    pictures: int = flag(48, "pictures for the curves and the correlation, and for the speed", at_least=1, common=True)
    rounds: int = flag(3, "turns of the speed", at_least=1)
    seed: int = flag(1, "of the collages and of random maps", at_least=0, common=True)
    json: Path | None = flag(None, "write the figures as JSON", writes="file", metavar="FILE", common=True)
    inference: TrainedOptions


def build_parser() -> Parser[Flags]:
    """The flags of this command."""
    return Parser(Flags, prog="tools/bench_class_maps.py", description=__doc__)


@command
def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    flags = build_parser().read(argv)
    from bench.class_maps import CHANCE, Collages, few, find_artists, measure_curves, measure_speed, name_parts
    from evaluation.class_maps import check_maps
    from inference.predictor import Predictor

    predictor = Predictor.from_options(flags.inference)
    check_maps(predictor.network, predictor.preprocessing.input_size, predictor.source)
    pictures = find_validation(flags, predictor)
    collages, figures = Collages(predictor, pictures), {}
    for kind, chance in CHANCE.items():
        figures[kind] = find_artists(predictor, collages, kind, flags.cases, flags.seed)
        print(f"{kind:14} {figures[kind]:6.1%} of {flags.cases} maps highest on the artist's part (chance "
              f"{chance:.1%})")
    figures["grid"] = name_parts(predictor, pictures, flags.grids, flags.seed)
    print(f"{'grid':14} {figures['grid']:6.1%} of the cells of {flags.grids} collages name their artist (chance "
          f"{1 / len(predictor.classes or ()):.1%})")
    curves = measure_curves(predictor, few(pictures, flags.pictures), flags.seed)
    print(f"deletion       {curves.deletion:.3f}, random {curves.random_deletion:.3f} (lower is better)")
    print(f"insertion      {curves.insertion:.3f}, random {curves.random_insertion:.3f} (higher is better)")
    print(f"shuffled       {curves.correlation:.3f} is the correlation with maps of shuffled weights")
    plain, mapped = measure_speed(predictor, few(pictures, flags.pictures), flags.inference, flags.rounds)
    print(f"speed          {plain:.1f} pictures/s, with sheets {mapped:.1f} ({mapped / plain:.0%})")
    if flags.json:
        with output_lock(flags.json, wait=True):
            write_json(flags.json, {**figures, **asdict(curves), "pictures_per_second": plain,
                                    "pictures_per_second_with_sheets": mapped})
    script, *pictures_of = ["predict_artist_multilabel.py", "--recursive", "--output", "labels.json", "--inputs"] if (
        predictor.task == "multilabel") else ["inference_artist.py", "--input"]
    print_next(script, "--checkpoint", flags.inference.checkpoint, *pictures_of, flags.data_path / "val", "--explain",
               "my_maps")
    return EXIT_DONE


def find_validation(flags: Flags, predictor: Predictor) -> dict[int, list[Path]]:
    """The validation pictures of each class that has some; raises a `UserError` if fewer than four have."""
    found, numbers = find_pictures(flags.data_path / "val"), {name: number for number, name in
                                                             enumerate(predictor.classes or ())}
    pictures: dict[int, list[Any]] = {}
    for image in found.images:
        if (number := numbers.get(found.artist(image))) is not None:
            pictures.setdefault(number, []).append(image)
    if len(pictures) < 4:
        raise UserError(f"{flags.data_path / 'val'} with pictures of {len(pictures)} of the network's artists",
                        "four or more, for collages", "give the split that the network was trained on")
    return pictures


if __name__ == "__main__":
    sys.exit(main())
