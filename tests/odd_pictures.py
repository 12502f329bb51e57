"""Folders of odd pictures: formats, damage, special files, names, system folders and results of ours, with their fate.

Fates are known by construction: a file holds a picture, is called like one but holds none, or is neither.
"""

from __future__ import annotations

import io
import os
import shutil
import stat
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, PngImagePlugin

from data.images import EXTENSION_FORMATS
from data.picture_files import SYSTEM_FOLDERS
from tests.pictures import stroke_picture

Fate = Literal["used", "damaged", "passed over"]
MAX_PIXELS = 1_000_000  # what the commands are told; `_bombs` claim more
OLD = Path(__file__).resolve().parent / "old_outputs"
# Mode → a mode from which Pillow converts to it.
MODES = {"1": "L", "L": "L", "LA": "L", "La": "LA", "P": "RGB", "PA": "P", "RGB": "RGB", "RGBA": "RGB", "RGBa": "RGBA",
         "RGBX": "RGB", "CMYK": "RGB", "I": "L", "I;16": "L", "I;16L": "I", "I;16B": "I", "F": "L", "YCbCr": "RGB",
         "HSV": "RGB", "LAB": "RGB"}
READ = {*EXTENSION_FORMATS.values(), "MPO"}  # a file of several JPEGs begins as one
SYSTEM = ("@eaDir/anna", "#recycle", ".thumbnails", "System Volume Information", "__MACOSX", "lost+found",
          "$RECYCLE.BIN", "anna/@eaDir", "anna/sub/.git")
RESULTS = ("results/batch_results.json", "results/contact_sheet.png", "anna/groups/cluster_assignments.json",
           "anna/groups/clusters.png", "runs/one/model_best.pth", "runs/one/curves.png",
           "runs/one/tensorboard/events.out.tfevents.1", "old/.lsnet_output.json", "old/train/anna/1.png")
OTHERS = ("anna/notes.txt", "anna/raw.dng", "anna/.hidden.png", "anna/._1.jpg", "bob/README", "Thumbs.db", "loose.txt",
          "bob/clip.mp4", "bob/page.html", "bob/photo.jpg.part", "bob/sidecar.xmp", "bob/empty")
ARTISTS = {"anna", "bob", "画\u3000家", "é"}
NAMES = ("photo", "a.gif", "a.gif.png", "A.gif.PNG", "\u00e8.png", "e\u0300.png", "photo.jpg_large", "photo.php?id=3",
         "a b.png", " b", "-n", "--help.png", "é.png", "e\u0301.png", "画.png", "\u3000", "no\u00a0break.png",
         "\u202egnp.exe", "join\u200der.png", "%s{}$(x)`x`.png", "CON.png", "aux", "a:b.png", "dot.png.",
         "space.png ", "UPPER.PNG", "a\\b.png", "@list.png", "*.png", "[a].png", "~", "\ufeff", "a;b,c\".png", "'",
         "#1.png", "<b>&amp;.png", "x" * 251 + ".png", "x" * 255, "画" * 83 + ".png", "𝒳.png", "0", "null.png",
         "a.jpg.png.webp.gif", "ß.png", "SS.png", "\u212b.png", "\u00c5.png")
BAD_NAMES = ("line\nbreak.png", "tab\t.png", "return\r.png", "esc\x1b[31m.png", "\x7f", "para\u2029graph.png",
             "bad\udcff\udcfe.png", "\udce9")  # the last two: bytes that are no UTF-8


def write_odd_pictures(root: Path, *, many: bool) -> dict[str, Fate]:
    """Fill `root` with pictures of `ARTISTS`, and what belongs to none of them; path below `root` → fate.

    `many` are some hundred pictures, with whole folders of results of ours.
    """
    fates: dict[str, Fate] = {}
    parts = [("anna", _formats(many)), ("bob", _odd_names(many)), ("bob/cut", _damaged(many)), ("bob/size", _bombs()),
             ("bob/text", _odd_pngs()), (".", _ordinary())]
    for folder, files in parts:
        for name, content, fate in files:
            path = root / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            fates[path.relative_to(root).as_posix()] = fate
    fates |= _write_special(root / "bob", root)
    picture = _encoded(Image.new("RGB", (8, 8), "red"), "PNG")
    system = [*SYSTEM, *(f"anna/{name.upper()}" for name in SYSTEM_FOLDERS if many)]
    for name in [*(f"{folder}/1.png" for folder in system), *RESULTS, *OTHERS]:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        is_picture = name.startswith(tuple(system)) or path.suffix in (".png", ".jpg", ".dng")
        path.write_bytes(picture if is_picture else b"" if path.name == "empty" else b"text")
        fates[name] = "passed over"
    for name in ("clusters", "gallery", "interrupted", "multilabel_run", "results", "run", "shards") if many else ():
        shutil.copytree(OLD / name, root / "anna" / "ours" / name)
        fates |= {path.relative_to(root).as_posix(): "passed over"
                  for path in (root / "anna" / "ours" / name).rglob("*") if path.is_file()}
    return fates


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return file.getvalue()


def _picture(number: int) -> Image.Image:
    """Picture `number`, which looks like no other one."""
    return stroke_picture(number, np.random.default_rng(number), 24)


Files = Iterator[tuple[str, bytes, Fate]]


def _ordinary() -> Files:
    for number, name in enumerate((
            "loose.png", "anna/sub/sub/1.png", "bob/sub/1.png", "bob/folder.png/1.png",
            *(f"{folder}/{number}.png" for folder in ("画\u3000家", "é", "e\u0301") for number in range(2))), 700):
        yield name, _encoded(_picture(number), "PNG"), "used"


def _formats(many: bool) -> Files:
    """`many`: every mode in every format that Pillow writes it in, with all extensions; else some in those we read."""
    Image.init()
    for number, (mode, base) in enumerate([*MODES.items()][::None if many else 2], 100):
        image = _picture(number).convert(base).convert(mode)
        for kind in Image.SAVE if many else sorted({*EXTENSION_FORMATS.values()} & Image.SAVE.keys()):
            try:
                content = _encoded(image, kind)
            except (OSError, ValueError, KeyError, AttributeError, TypeError):  # Pillow does not write this
                continue
            known = [extension for extension, name in EXTENSION_FORMATS.items() if name == kind]
            others = [extension for extension, name in Image.EXTENSION.items() if name == kind] or [f".{kind.lower()}"]
            for extension in known if many else known[:1]:
                yield f"{mode.replace(';', '_')}{extension}", content, "used"
            for extension in [*others, f".{kind}_"] if many else []:
                yield f"{mode.replace(';', '_')} other/{extension[1:]}{extension}", content, _fate(kind, extension)


def _fate(kind: str, extension: str) -> Fate:
    """That of a file of an unusual extension; PPM and TGA have no signature by which they could be known."""
    if extension in EXTENSION_FORMATS:
        return "used" if kind in READ else "damaged"
    return "used" if kind in READ - {"PPM", "TGA"} else "passed over"


def _odd_names(many: bool) -> Files:
    names = NAMES + BAD_NAMES
    for number, name in enumerate(names if many else names[::3] + names[:9], 200):
        yield name, _encoded(_picture(number), ("PNG", "JPEG", "WEBP")[number % 3]), "used"
    for number, (name, kind) in enumerate((("really a jpeg.png", "JPEG"), ("really a gif.jpg", "GIF"),
                                           ("really tga.png", "TGA"), ("really ppm.tif", "PPM")), 300):
        yield name, _encoded(_picture(number), kind), "used"


# ---- damage ----------------------------------------------------------------------------------------------------------


def _damaged(many: bool) -> Files:
    """Files cut at several places, others that are no pictures, and a cut one of each odd name."""
    for number, kind in enumerate(sorted({*EXTENSION_FORMATS.values()} & Image.SAVE.keys()), 400):
        content = _encoded(_picture(number), kind)
        extension = next(each for each, name in EXTENSION_FORMATS.items() if name == kind)
        for place in (1, 3, 9, 30, len(content) // 3, len(content) // 2, len(content) * 3 // 4) if many else (30,):
            yield f"{kind} {place}{extension}", content[:place], "damaged"
    png = _encoded(_picture(450), "PNG")
    yield "no ending", png[:99], "damaged"
    yield "new\nline.png", png[:99], "damaged"
    yield "bad\udcff.jpg", png[:99], "damaged"
    yield "flipped.png", png[:60] + bytes([png[60] ^ 1]) + png[61:], "damaged"
    for name, content in (("empty.jpg", b""), ("text.png", b"hello"), ("page.jpg", b"<html>"),
                          ("zeros.gif", bytes(999)), ("pointer.png", b"version https://git-lfs.github.com/spec/v1\noid"),
                          ("phone.heic", b"\0\0\0\x1cftypheic\0\0\0\0mif1heic"), ("new.jxl", b"\xff\n" + bytes(30)),
                          ("new", b"\xff\n" + bytes(30)), ("ghost.png", b"%!PS-Adobe-3.0 EPSF-3.0\n"),
                          ("deep.tif", b"II*\0\x08\0\0\0\xff\xff")):
        yield name, content, "damaged"


def _bombs() -> Files:
    """Small files that claim many pixels."""
    side = struct.pack(">I", 60_000)
    yield "bomb.png", _png((b"IHDR", side * 2 + b"\x08\x02\0\0\0"), (b"IDAT", zlib.compress(bytes(999)))), "damaged"
    header = struct.pack("<IIiiHHIIiiII", 54, 40, 60_000, 60_000, 1, 24, *[0] * 6)
    yield "bomb.bmp", b"BM" + bytes(8) + header, "damaged"
    yield "bomb.gif", b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;", "damaged"
    jpeg = _encoded(_picture(500), "JPEG")
    start = jpeg.index(b"\xff\xc0") + 5
    yield "bomb.jpg", jpeg[:start] + b"\xff\xdc\xff\xdc" + jpeg[start + 4:], "damaged"
    yield "bomb.ppm", b"P6 60000 60000 255\n" + bytes(99), "damaged"
    yield "digits.ppm", b"P6 " + b"9" * 99 + b" 9 255\n" + bytes(99), "damaged"
    yield "bomb.tga", bytes([0, 0, 10, *[0] * 9, 255, 255, 255, 255, 24, 0]) + bytes(99), "damaged"
    yield "real.png", _encoded(Image.new("1", (2000, 2000)), "PNG"), "damaged"
    yield "real", _encoded(Image.new("1", (2000, 2000)), "TIFF", compression="group4"), "damaged"
    yield "wide.webp", _encoded(Image.new("L", (16_000, 100)), "WEBP"), "damaged"


def _png(*chunks: tuple[bytes, bytes]) -> bytes:
    packed = (struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
              for kind, body in (*chunks, (b"IEND", b"")))
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def _odd_pngs() -> Files:
    """Sound pixels with odd metadata."""
    text = PngImagePlugin.PngInfo()
    text.add_text("a", "x" * 2_000_000, zip=True)
    yield "long.png", _encoded(_picture(600), "PNG", pnginfo=text), "used"
    text = PngImagePlugin.PngInfo()
    text.add_text("a", "bc")
    content = _encoded(_picture(601), "PNG", pnginfo=text)
    yield "sum.png", content.replace(b"a\0bc", b"a\0bd"), "used"
    yield "profile.png", _encoded(_picture(602), "PNG", icc_profile=bytes(2_000_000)), "used"
    frames = [_picture(603), _picture(604)]
    yield "moving.png", _encoded(frames[0], "PNG", save_all=True, append_images=frames), "used"
    yield "moving.gif", _encoded(frames[1], "GIF", save_all=True, append_images=frames), "used"
    yield "tail.jpg", _encoded(_picture(605), "JPEG") + bytes(5000), "used"


# ---- what is no regular file -----------------------------------------------------------------------------------------


def _write_special(folder: Path, root: Path) -> dict[str, Fate]:
    fates: dict[str, Fate] = {}
    for ending, fate in ((".png", "damaged"), ("", "passed over")):
        os.mkfifo(folder / f"pipe{ending}")
        os.mknod(folder / f"socket{ending}", stat.S_IFSOCK | 0o600)
        for name, target in (("broken", "nowhere"), ("loop", f"loop{ending}"), ("zero", "/dev/zero"),
                             ("memory", "/proc/self/mem"), ("long", "x" * 300)):
            (folder / f"{name}{ending}").symlink_to(target)
        fates |= {f"{folder.name}/{name}{ending}": fate
                  for name in ("pipe", "socket", "broken", "loop", "zero", "memory", "long")}
    (folder / "linked.png").symlink_to("sub/1.png")
    fates[f"{folder.name}/linked.png"] = "used"
    for name, target in (("again", "."), ("all", ".."), ("a sub", "sub"), ("hers", str(root / "anna" / "sub"))):
        (folder / name).symlink_to(target, target_is_directory=True)
    return fates | {f"{folder.name}/hers/sub/1.png": "used", f"{folder.name}/hers/.git/1.png": "passed over"}
