"""Galleries in Milvus, a server or a file of Milvus Lite: pictures in one collection, artists in another.

An artist counts once a row with its number stands among the artists, which is written after the artist's pictures;
pictures of other numbers are passed over. So a change is seen artist by artist, whole or not at all. No filter holds a
text that a user chose: artists and images are asked for by numbers.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import secrets
import tempfile
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import numpy as np

from data.names import nfc
from data.output_folder import confirm_replacement
from data.side_files import parse_json
from search.gallery import CALIBRATION_FILES, Gallery, GalleryOutline, check_removable, check_space
from search.gallery_search import GallerySearch, Search
from search.gallery_store import Also, Files, GalleryStore, write_files
from search.hnsw import CANDIDATES, LINKS, Graph
from search.milvus_client import connect, library
from search.milvus_lock import ServerLock
from search.milvus_rows import CHUNK_ARTISTS, LONGEST_NAME, Marker, PictureRows, chunks, image_key
from search.milvus_search import MilvusGallery, MilvusSearch
from search.standardisation import STANDARDISATION, Standardisation
from search.vectors import LONGEST, FeatureSpace, check_numbers
from utils import UserError, read_bytes

PREFIX = "milvus:"
LONGEST_TEXT, LONGEST_VECTOR = 60_000, 32_768  # bytes, numbers: Milvus takes little more
MESSAGE, ANSWER = 2**24, 2**27  # bytes that are sent, and received, at a time
FLUSHED = 1000  # pictures
AGAIN = "give another name behind the #, or build the gallery again with --overwrite"


Result = TypeVar("Result")


class _About(msgspec.Struct):
    """What the row `gallery` of the first collection says."""

    format: Literal["lsnet-gallery-milvus-1"]
    space: FeatureSpace
    feature_dim: Annotated[int, msgspec.Meta(ge=1, le=LONGEST)]
    components: Annotated[int, msgspec.Meta(ge=1)] | None
    generation: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{8}$")]


class _Calibrated(msgspec.Struct):
    """What the row `calibration` says: of which state the files are, and the fingerprint of its rows."""

    state: str
    fingerprint: str


class _Pending(msgspec.Struct):
    """Numbers of artists whose pictures are being written or deleted."""

    numbers: list[int]


class MilvusStore(GalleryStore):
    """A gallery in Milvus, under a name: rows of small files, and collections of pictures and artists."""

    def __init__(self, place: str) -> None:
        self._place, self.milvus = place, connect(place.removeprefix(PREFIX))

    def __str__(self) -> str:
        return self._place

    # ---- reading -----------------------------------------------------------------------------------------------------

    def check_place(self) -> None:
        """See `GalleryStore`."""
        if self._exists():
            self._check_ours()

    def lock(self, *, wait: bool = False) -> AbstractContextManager[None]:
        """See `GalleryStore`; a file of Milvus Lite is open in one process only."""
        return contextlib.nullcontext() if self.milvus.is_lite else ServerLock(self.milvus, self._prepare, wait=wait)

    def read_space(self) -> FeatureSpace | None:
        """See `GalleryStore`."""
        return self._read_about().space

    def check_space(self, space: FeatureSpace) -> None:
        """See `GalleryStore`."""
        about = self._read_about()
        check_space(self, about.space, space, artists=self._count_artists(about))

    def read_outline(self) -> GalleryOutline:
        """See `GalleryStore`."""
        return self._steady(self._read_state)[0]

    def read(self, space: FeatureSpace | None = None) -> Gallery:
        """See `GalleryStore`; the rows come into memory, in the order in which they were added."""
        return self._steady(functools.partial(self._read_rows, space=space))

    def _read_rows(self, about: _About, space: FeatureSpace | None) -> Gallery:
        gallery, _ = self._read_state(about, space)
        artists, count = gallery.names, max(1, ANSWER // (4 * gallery.feature_dim + 1000))
        last = max((marker.last for marker in gallery.markers.values()), default=0)
        found = PictureRows.join([self._rows_of(about, artists.keys(), f"row >= {start} and row < {start + count}")
                            for start in range(0, last + 1, count)])
        order = np.argsort(found.rows, kind="stable")
        numbers = found.numbers[order].tolist()
        if len(order) != gallery.pictures:
            raise UserError(f"{len(order)} pictures in {self}", f"{gallery.pictures}, as its artists say",
                            "run this again if another command was changing it, or build it again")
        return Gallery(space=gallery.space, images=[found.images[row] for row in order.tolist()],
                       artists=[artists[number] for number in numbers], features=found.features[order],
                       components=gallery.components, standardisation=gallery.standardisation)

    def read_calibration(self) -> Files:
        """See `GalleryStore`."""
        gallery, files = self._steady(self._read_state)
        return {name: files[name] for name in CALIBRATION_FILES if name in files and gallery.fingerprint}

    def search(self, *, neighbours: int, space: FeatureSpace | None = None, exact: bool = False,
               also: Callable[[Path, GalleryOutline], Also]) -> tuple[Search, Also]:
        """See `GalleryStore`; exact reads all rows into memory."""
        gallery, files = self._steady(functools.partial(self._read_state, space=space))
        with tempfile.TemporaryDirectory() as folder:
            write_files(Path(folder), files)
            more = also(Path(folder), gallery)
        if exact:
            return GallerySearch(self.read(space), neighbours=neighbours), more
        return MilvusSearch(gallery, self.milvus, neighbours=neighbours, reopen=functools.partial(
            self._steady, lambda about: self._read_state(about, space)[0])), more

    def _exists(self) -> bool:
        return self.milvus.ask("has_collection", self.milvus.name)

    def _check_ours(self) -> None:
        found = {each["name"] for each in self.milvus.ask("describe_collection", self.milvus.name)["fields"]}
        if found != {"key", "text", "vector"}:
            raise UserError(f"the collection {self.milvus.name} with the fields {', '.join(sorted(found))} in "
                            f"{self.milvus.uri}", "one that tools/build_gallery.py made, or none of this name",
                            "choose another name behind a #")

    def _read_about(self) -> _About:
        about = None
        if self._exists():
            self._check_ours()
            about = self._read_record("gallery", _About)
        if about is None:
            raise UserError(f"no gallery {self.milvus.name} in {self.milvus.uri}",
                            "one that tools/build_gallery.py made",
                            "check the address and the name behind the #, or build the gallery")
        return about

    def _read_record(self, key: str, kind: type[Any]) -> Any:
        found = self.milvus.rows(self.milvus.name, ["text"], f'key == "{key}"')
        if not found:
            return None
        try:
            return parse_json(found[0]["text"].encode(), kind)
        except ValueError as error:
            raise UserError(f"the row {key} of {self}, which is not as it should be ({error})",
                            "a gallery that this version of tools/build_gallery.py made", AGAIN) from error

    def _steady(self, read: Callable[[_About], Result]) -> Result:
        """`read(about)`, of one generation: another command may replace the whole gallery meanwhile."""
        while True:
            about = self._read_about()
            try:
                result = read(about)
            except UserError:
                if self._read_about().generation == about.generation:
                    raise
            else:
                if self._read_about().generation == about.generation:
                    return result

    def _read_state(self, about: _About, space: FeatureSpace | None = None) -> tuple[MilvusGallery, Files]:
        """What is known of the gallery, and its small files; without a fingerprint these are of other pictures."""
        if space is not None:
            self.check_space(space)
        markers, files = self._read_markers(about), self._read_files(about)
        fitted = self._read_standardisation(about, files)
        told = self._read_record(f"{about.generation}/calibration", _Calibrated)
        fingerprint = told.fingerprint if told and told.state == _state(markers) else ""
        return MilvusGallery(
            space=about.space, components=about.components, standardisation=fitted, markers=markers,
            collections=self._collections(about), feature_dim=about.feature_dim, fingerprint=fingerprint), files

    def _count_artists(self, about: _About) -> int:
        return self.milvus.rows(self._collections(about)[1], ["count(*)"], "")[0]["count(*)"]

    def _read_markers(self, about: _About) -> dict[str, Marker]:
        rows = self.milvus.rows(self._collections(about)[1], ["artist", "number", "pictures", "last"], "pictures > 0")
        found = {row["artist"]: Marker(number=row["number"], pictures=row["pictures"], last=row["last"])
                 for row in rows}
        return dict(sorted(found.items()))

    def _read_files(self, about: _About) -> Files:
        parts: dict[str, dict[str, str]] = defaultdict(dict)
        for row in self.milvus.rows(self.milvus.name, ["key", "text"], f'key like "{about.generation}/file/%"'):
            _, _, name, number = row["key"].split("/")
            if name in (*CALIBRATION_FILES, STANDARDISATION):
                parts[name][number] = row["text"]
        return {name: base64.b64decode("".join(text for _, text in sorted(found.items()))) for name, found in
                parts.items()}

    def _read_standardisation(self, about: _About, files: Files) -> Standardisation | None:
        if about.components is None:
            return None
        with tempfile.TemporaryDirectory() as folder:
            write_files(Path(folder), {name: files[name] for name in files if name == STANDARDISATION})
            if fitted := Standardisation.read(Path(folder), about.feature_dim):
                return fitted
        raise UserError(f"no {STANDARDISATION} in {self}", "the whole gallery", AGAIN)

    def _collections(self, about: _About) -> tuple[str, str]:
        """The names of the collections of pictures and of artists."""
        return (pictures := f"{self.milvus.name}_{about.generation}"), f"{pictures}_artists"

    def _rows_of(self, about: _About, numbers: Collection[int], condition: str) -> PictureRows:
        """The pictures that meet the `condition`, of artists of these `numbers`."""
        raw = "vector" if about.components is None else "features"
        rows = [row for row in self.milvus.rows(self._collections(about)[0], ["number", "row", "image", raw], condition)
                if row["number"] in numbers]
        return PictureRows(numbers=np.array([row["number"] for row in rows], np.int64),
                     rows=np.array([row["row"] for row in rows], np.int64), images=[row["image"] for row in rows],
                     features=np.array([row[raw] for row in rows], np.float32).reshape(-1, about.feature_dim))

    # ---- writing -----------------------------------------------------------------------------------------------------

    def write(self, gallery: Gallery, *, overwrite: bool, sources: Sequence[Path] = (),
              calibration: Callable[[Path], None] | None = None) -> None:
        """See `GalleryStore`: in new collections, which replace the earlier ones once they are whole."""
        with self.lock():
            self._prepare()
            if (earlier := self._read_record("gallery", _About)) and not overwrite:
                confirm_replacement(self, "holds an earlier gallery")
            self._drop_collections(but=earlier)
            gallery = gallery.standardised()
            about = _About(format="lsnet-gallery-milvus-1", space=gallery.space, feature_dim=gallery.feature_dim,
                           components=gallery.components, generation=secrets.token_hex(4))
            self._create_collections(about, gallery)
            markers: dict[str, Marker] = {}
            order = np.argsort(gallery.numbers, kind="stable")
            for rows in chunks(gallery.numbers[order], order):
                self._add_artists(about, gallery, PictureRows.of(gallery, rows, rows), markers, replaced={})
            self._flush(about)
            if gallery.standardisation:
                self._put_files(about, gallery.standardisation.write)
            if calibration:
                self._put_calibration(about, calibration, markers, gallery.fingerprint)
            self._put("gallery", about)
            self._drop_collections(but=about)

    def change(self, *, added: Gallery | None = None, removed: str | None = None, space: FeatureSpace | None = None,
               sources: Sequence[Path] = ()) -> Mapping[str, int]:
        """See `GalleryStore`; the standardisation stays."""
        with self.lock(wait=True):
            about = self._read_about()
            gallery, _ = self._read_state(about, added.space if added else space)
            markers = dict(gallery.markers)
            self._tidy(about, markers)
            if added:
                self._add(about, gallery, added, markers)
            else:
                check_removable(removed or "", gallery.sizes)
                self._remove(about, [nfc(removed or "")], markers)
            self._delete_files(about, CALIBRATION_FILES)
            if added and len(added.images) >= FLUSHED:  # Milvus Lite compares fresh rows one by one
                self._flush(about)
            return {artist: marker.pictures for artist, marker in sorted(markers.items())}

    def calibrate(self, gallery: Gallery, calibration: Callable[[Path], None], *, added: Gallery | None = None,
                  removed: str | None = None, sources: Sequence[Path] = ()) -> None:
        """See `GalleryStore`."""
        with self.lock(wait=True):
            if added or removed:
                self.change(added=added, removed=removed, sources=sources)
            about = self._read_about()
            self._put_calibration(about, calibration, self._read_markers(about), gallery.fingerprint)

    def write_index(self) -> Graph:
        """See `GalleryStore`."""
        raise UserError(f"--index with {self}", "a folder: Milvus keeps an index of its own", "leave --index away")

    def _prepare(self) -> None:
        """Make the first collection, unless it is there."""
        if self._exists():
            return self._check_ours()
        schema = self._schema(("key", "VARCHAR", {"max_length": 200, "is_primary": True}),
                              ("text", "VARCHAR", {"max_length": 65_535}), ("vector", "FLOAT_VECTOR", {"dim": 2}))
        self._create(self.milvus.name, schema, {"vector": "FLAT"})

    def _create_collections(self, about: _About, gallery: Gallery) -> None:
        width = np.asarray(gallery.comparable(gallery.features[:1])).shape[1]
        for found in (width, gallery.feature_dim):
            if not 2 <= found <= LONGEST_VECTOR:
                raise UserError(f"features of {found} numbers for {self}", f"2 to {LONGEST_VECTOR}, as Milvus takes",
                                "keep this gallery in a folder")
        pictures, artists = self._collections(about)
        numbers: tuple[Any, ...] = tuple((name, "INT64", {}) for name in ("number", "row", "key"))
        texts: tuple[Any, ...] = tuple((name, "VARCHAR", {"max_length": LONGEST_NAME}) for name in ("artist", "image"))
        vectors: list[Any] = [("vector", "FLOAT_VECTOR", {"dim": width})]
        if gallery.components is not None:
            vectors.append(("features", "FLOAT_VECTOR", {"dim": gallery.feature_dim}))
        key = ("id", "INT64", {"is_primary": True, "auto_id": True})
        self._create(pictures, self._schema(key, *numbers, *texts, *vectors), {"vector": "HNSW", "features": "FLAT"})
        name = ("artist", "VARCHAR", {"max_length": LONGEST_NAME, "is_primary": True})
        counts: tuple[Any, ...] = tuple((name, "INT64", {}) for name in ("number", "pictures", "last"))
        self._create(artists, self._schema(name, *counts, vectors[0]), {"vector": "HNSW"})

    def _schema(self, *fields: tuple[str, str, Mapping[str, Any]]) -> Any:
        pymilvus = library()
        schema = pymilvus.MilvusClient.create_schema(enable_dynamic_field=False)
        for name, kind, settings in fields:
            schema.add_field(name, getattr(pymilvus.DataType, kind), **settings)
        return schema

    def _create(self, name: str, schema: Any, indexes: Mapping[str, str]) -> None:
        index = library().MilvusClient.prepare_index_params()
        for vector in (each.name for each in schema.fields if each.name in indexes and each.params.get("dim")):
            settings = {"M": LINKS, "efConstruction": CANDIDATES} if indexes[vector] == "HNSW" else {}
            index.add_index(vector, index_type=indexes[vector], metric_type="COSINE", params=settings)
        self.milvus.ask("create_collection", name, schema=schema, index_params=index, consistency_level="Strong")

    def _drop_collections(self, but: _About | None) -> None:
        """Drop what earlier galleries of this name and builds that were killed have left, `but` this one."""
        kept = {self.milvus.name, *(self._collections(but) if but else ())}
        for name in self.milvus.ask("list_collections"):
            if name not in kept and _is_generation(name, self.milvus.name):
                self.milvus.ask("drop_collection", name)
        stale = f'key like "%/%" and not (key like "{but.generation}/%")' if but else 'key like "%/%"'
        self.milvus.ask("delete", self.milvus.name, filter=stale)

    def _flush(self, about: _About) -> None:
        for name in self._collections(about):
            self.milvus.ask("flush", name)

    def _add(self, about: _About, gallery: MilvusGallery, added: Gallery, markers: dict[str, Marker]) -> None:
        """Add the pictures of `added`; those of the same name are replaced. `markers` follows."""
        start = 1 + max(marker.last for marker in markers.values())
        replaced = self._find_replaced(about, added, markers)
        order = np.argsort(added.numbers, kind="stable")
        for chunk in chunks(added.numbers[order], order):
            rows = PictureRows.of(added, chunk, start + chunk)
            artists = {added.artists[row] for row in chunk.tolist()} & markers.keys()
            self._add_artists(about, gallery, rows.with_earlier(self._kept(about, artists, markers, added.images)),
                              markers, replaced={artist: markers[artist] for artist in artists})
        others = replaced - {*added.artists}
        for artist in sorted(others):
            kept = self._kept(about, {artist}, markers, added.images)
            if len(kept.rows):
                self._add_artists(about, gallery, kept, markers, replaced={artist: markers[artist]})
            else:
                self._remove(about, [artist], markers)

    def _find_replaced(self, about: _About, added: Gallery, markers: Mapping[str, Marker]) -> set[str]:
        """The artists of pictures that `added` replaces."""
        artists, found = {marker.number: artist for artist, marker in markers.items()}, set()
        keys, images = [*map(image_key, added.images)], {*added.images}
        for start in range(0, len(keys), CHUNK_ARTISTS):
            condition = f"key in [{', '.join(map(str, keys[start:start + CHUNK_ARTISTS]))}]"
            found |= {artists[row["number"]] for row in self.milvus.rows(
                self._collections(about)[0], ["number", "image"], condition)
                if row["image"] in images and row["number"] in artists}
        return found

    def _kept(self, about: _About, artists: set[str], markers: Mapping[str, Marker],
              replaced: Sequence[str]) -> PictureRows:
        """The pictures of `artists` but those whose names are `replaced`."""
        names = {markers[artist].number: artist for artist in artists}
        if not names:
            return PictureRows.none(about.feature_dim)
        found = self._rows_of(about, names.keys(), f"number in [{', '.join(map(str, names))}]")
        images = {*replaced}
        kept = np.array([image not in images for image in found.images], bool)
        return replace(found.select(np.flatnonzero(kept)), artists=[
            names[number] for number in found.numbers[kept].tolist()])

    def _add_artists(self, about: _About, gallery: GalleryOutline, rows: PictureRows, markers: dict[str, Marker],
                     replaced: Mapping[str, Marker]) -> None:
        """Write all pictures of some artists, then their markers, then delete the pictures that these `replaced`."""
        check_numbers(f"the features for {self}", rows.features)
        rows = rows.numbered()
        groups: dict[str, list[int]] = defaultdict(list)
        for row, artist in enumerate(rows.artists):
            groups[artist].append(row)
        new = {artist: Marker(number=int(rows.numbers[places[0]]), pictures=len(places),
                              last=int(rows.rows[places].max())) for artist, places in groups.items()}
        means = np.stack([rows.features[places].mean(axis=0, dtype=np.float64) for places in groups.values()])
        pending = self._announce(about, [marker.number for marker in (*new.values(), *replaced.values())])
        pictures, artists = self._collections(about)
        compared = np.asarray(gallery.comparable(rows.features))
        self._insert("insert", pictures, rows.as_milvus(compared, raw=gallery.components is not None),
                     width=compared.shape[1] + rows.features.shape[1])
        vectors = np.asarray(gallery.comparable(means.astype(np.float32)))
        self._insert("upsert", artists, [{"artist": artist, "number": marker.number, "pictures": marker.pictures,
                                          "last": marker.last, "vector": vector}
                                         for (artist, marker), vector in zip(new.items(), vectors, strict=True)],
                     width=compared.shape[1])
        markers |= new
        self._delete_pictures(about, [marker.number for marker in replaced.values()])
        self._withdraw(pending)

    def _insert(self, method: str, collection: str, rows: Sequence[Mapping[str, Any]], width: int) -> None:
        size = max(1, MESSAGE // (4 * width + 1000))
        for start in range(0, len(rows), size):
            self.milvus.ask(method, collection, list(rows[start:start + size]))

    def _remove(self, about: _About, artists: Sequence[str], markers: dict[str, Marker]) -> None:
        gone = [markers.pop(artist).number for artist in artists]
        pending = self._announce(about, gone)
        self.milvus.ask("delete", self._collections(about)[1], filter=_numbered(gone))
        self._delete_pictures(about, gone)
        self._withdraw(pending)

    def _delete_pictures(self, about: _About, numbers: Collection[int]) -> None:
        if numbers:
            self.milvus.ask("delete", self._collections(about)[0], filter=_numbered(numbers))

    def _announce(self, about: _About, numbers: Sequence[int]) -> str:
        """Note the `numbers` whose pictures a killed process may leave without a marker; the key of the note."""
        key = f"{about.generation}/pending/{secrets.token_hex(8)}"
        self._put(key, _Pending(numbers=[*numbers]))
        return key

    def _withdraw(self, key: str) -> None:
        self.milvus.ask("delete", self.milvus.name, filter=f'key == "{key}"')

    def _tidy(self, about: _About, markers: Mapping[str, Marker]) -> None:
        """Delete the pictures that killed processes left without a marker."""
        counted = {marker.number for marker in markers.values()}
        condition = f'key like "{about.generation}/pending/%"'
        for row in self.milvus.rows(self.milvus.name, ["key"], condition):
            if pending := self._read_record(row["key"], _Pending):
                self._delete_pictures(about, [number for number in pending.numbers if number not in counted])
            self._withdraw(row["key"])

    # ---- small files -------------------------------------------------------------------------------------------------

    def _put(self, key: str, record: msgspec.Struct) -> None:
        self._put_texts({key: msgspec.json.encode(record).decode()})

    def _put_texts(self, texts: Mapping[str, str]) -> None:
        self._insert("upsert", self.milvus.name, [{"key": key, "text": text, "vector": [1.0, 0.0]}
                                                  for key, text in texts.items()], width=LONGEST_TEXT // 4)

    def _put_files(self, about: _About, write: Callable[[Path], None]) -> None:
        """Keep the files that `write` makes in a folder."""
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder))
            for file in sorted(Path(folder).iterdir()):
                text = base64.b64encode(read_bytes(file)).decode()
                self._put_texts({f"{about.generation}/file/{file.name}/{start // LONGEST_TEXT:06}":
                                 text[start:start + LONGEST_TEXT] for start in range(0, len(text), LONGEST_TEXT)})

    def _delete_files(self, about: _About, names: Sequence[str]) -> None:
        told = " or ".join(f'key like "{about.generation}/file/{name}/%"' for name in names)
        self.milvus.ask("delete", self.milvus.name, filter=f'key == "{about.generation}/calibration" or {told}')

    def _put_calibration(self, about: _About, calibration: Callable[[Path], None], markers: Mapping[str, Marker],
                         fingerprint: str) -> None:
        self._delete_files(about, CALIBRATION_FILES)
        self._put_files(about, calibration)
        self._put(f"{about.generation}/calibration", _Calibrated(state=_state(markers), fingerprint=fingerprint))


def _state(markers: Mapping[str, Marker]) -> str:
    told = msgspec.json.encode(sorted(marker.number for marker in markers.values()))
    return hashlib.blake2b(told, digest_size=16).hexdigest()


def _numbered(numbers: Collection[int]) -> str:
    return f"number in [{', '.join(map(str, numbers))}]"


def _is_generation(collection: str, name: str) -> bool:
    rest = collection.removeprefix(f"{name}_").removesuffix("_artists")
    return collection.startswith(f"{name}_") and len(rest) == 8 and not set(rest) - set("0123456789abcdef")
