"""What is done with answers beside the result files: pictures sorted into folders, and tagged by sidecars."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from data.picture_files import Inputs
from inference.sidecars import SidecarOptions, write_sidecars
from inference.sorting import SortOptions, sort_pictures
from utils import EXIT_DONE, EXIT_PARTIAL, UserError

Tagged = Iterable[tuple[Path, Sequence[str]]]  # pictures that could be read and their artists, the surest first


def file_pictures(tagged: Tagged, names: Collection[str], sorting: SortOptions, sidecars: SidecarOptions,
                  places: Mapping[Path, Path]) -> int:
    """Sort and tag pictures as the options say, and print what was done; 3 if that failed for some, else 0.

    `names` are those of all artists, and `places` where a sidecar goes that does not lie beside its picture: see
    `write_sidecars`.

    Raises:
        UserError: see `sort_pictures` and `write_sidecars`.
    """
    tagged, failed = [*tagged], 0
    if sidecars.sidecars:
        tags = write_sidecars(tagged, names, sidecars, {} if sidecars.beside else places)
        print(*tags.lines(), sep="\n")
        failed += len(tags.failed)
    if sorting.sort_into:
        files = sort_pictures([(path, tags[0] if tags else None) for path, tags in tagged], sorting.sort_into, sorting)
        print(*files.lines(dry_run=sorting.dry_run), sep="\n")
        failed += len(files.failed)
    return EXIT_PARTIAL if failed else EXIT_DONE


def place_sidecars(found: Inputs, output: Path) -> dict[Path, Path]:
    """Where pictures lie in the folder NAME_sidecars beside the file `output`, NAME.json; see `place_pictures`."""
    return place_pictures(found, output.with_name(f"{output.stem}_sidecars"), "sidecars",
                          "add --beside, or predict them one after the other")


def place_pictures(found: Inputs, folder: Path, files: str, action: str) -> dict[Path, Path]:
    """Where pictures would lie in `folder`: a picture of a folder as in that folder, others by their names.

    Raises:
        UserError: two would be one, so would their `files`; with what to do, `action`.
    """
    names = {image: each.name(image) for each in found.folders for image in each.images}
    places = {image: folder / names.get(image, image.name) for image in found.images}
    pictures: dict[Path, Path] = {}
    for image, place in places.items():
        if (other := pictures.setdefault(place, image)) != image:
            raise UserError(f"the pictures {other} and {image}, whose {files} would have one name",
                            "names that differ", action)
    return places
