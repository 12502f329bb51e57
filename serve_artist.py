"""Serve a page and a JSON API that name artists, extract features and search a gallery.

Example: python serve_artist.py --checkpoint my_run/model_best.pth --gallery my_gallery
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runtime.arguments import Parser, flag
from runtime.options import NEIGHBOURS, FeatureOptions
from serving.options import ServiceOptions
from utils import EXIT_DONE, UserError, command

if TYPE_CHECKING:
    from inference.predictor import Predictor
    from serving.service import Service

PACKAGES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What is asked."""

    gallery: str | None = flag(None, "folder, or milvus:URI, that tools/build_gallery.py filled with the same network; "
                                     "needed with --pretrained", metavar="PLACE", common=True)
    neighbours: int = flag(NEIGHBOURS, "nearest pictures of the gallery that vote for the artist", at_least=1)
    calibration: bool = flag(True, "use the calibration.json beside the checkpoint, where there is one")
    open: bool = flag(False, "open the page in this machine's browser", common=True)
    service: ServiceOptions
    network: FeatureOptions


def build_parser() -> Parser[Flags]:
    """The flags of this command."""
    return Parser(Flags, prog="serve_artist.py", description=__doc__, batch_size=8)


@command
def main(argv: list[str] | None = None) -> int:
    """Serve until a signal ends it, once every request that was accepted is answered."""
    flags = build_parser().read(argv)
    check_flags(flags)
    key = flags.service.read_key()
    from serving.app import make_app
    from serving.server import listen, serve
    with listen(flags.service) as socket:
        service = make_service(flags)
        serve(make_app(service, flags.service, key), socket, open_page=flags.open)
    return EXIT_DONE


def check_flags(flags: Flags) -> None:
    """Raise a `UserError` if a package is missing or the flags contradict each other."""
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise UserError(f"no package {missing[0].replace('_', '-')}", "those of requirements-serve.txt",
                        "run pip install -r requirements-serve.txt")
    flags.network.check_source()
    if flags.network.pretrained and not flags.gallery:
        raise UserError("--pretrained without --gallery", "a gallery, as the published network knows no artists",
                        "build one with tools/build_gallery.py, or train on your artists first")
    if flags.service.writable and not flags.gallery:
        raise UserError("--writable without --gallery", "a gallery to write to", "leave it away, or add --gallery")


def make_service(flags: Flags) -> Service:
    """The service of the flags.

    Raises:
        UserError: the network can answer nothing, or calibration or gallery are of another network.
    """
    from inference.predictor import Predictor
    from search.engines import open_store
    from serving.batching import Batcher
    from serving.service import Service
    store = open_store(flags.gallery) if flags.gallery else None
    predictor = Predictor.from_options(flags.network, uses_features=True,
                                       gallery=store.read_space() if store else None)
    check_use(flags, predictor)
    calibration = None
    if flags.network.checkpoint and flags.calibration and predictor.task != "multilabel":
        calibration = predictor.calibrate(flags.network.view)
    batcher = Batcher(predictor, flags.network, capacity=flags.service.queue)
    return Service(predictor, batcher, calibration=calibration, store=store, neighbours=flags.neighbours)


def check_use(flags: Flags, predictor: Predictor) -> None:
    """Raise a `UserError` if the network can neither name artists nor search."""
    if predictor.classes is None and not flags.gallery:
        raise UserError(f"{flags.network.checkpoint}, which does not name its artists", "a class mapping, or a gallery",
                        "add --class-csv OUTPUT_DIR/class_mapping.csv of its training, or --gallery")


if __name__ == "__main__":
    sys.exit(main())
