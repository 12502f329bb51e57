"""A generator of odd side files: takes sound ones, and spoils one so that a reader has to refuse it, or to cope."""

from __future__ import annotations

import io
import json
import os
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

# Text that `json.dumps` would not write; placeholders until the text is made.
RAW = {"@nan": "NaN", "@inf": "-Infinity", "@far": "1e999", "@digits": "7" * 5000, "@wide": str(2**70),
       "@deep": "[" * 10_000 + "]" * 10_000, "@objects": '{"a":' * 10_000 + "1" + "}" * 10_000,
       "@minus": "-" + "9" * 30, "@twice": '{"epoch": 1, "epoch": 2}', "@half": '"\\ud800"', "@null": '"\\u0000"',
       "@open": "["}
VALUES: list[Any] = [*RAW, None, True, False, 0, -1, 1, 2**31, 2**63, 0.5, -0.0, 1e-320, 1e300, -1e300, 3.4e38, "",
                     "x", "x" * 100_000, "../../outside.txt", "/etc/hostname", "http://127.0.0.1:9/x", "a\nb", "石",
                     [], {}, [[]], [{}], {"": 0}, {"a.b": 1}, [1, "2"], [[1, 2], [3]]]
DTYPES = ["<f4", ">f4", "<f2", "<f8", "<f16", "<c8", "<i8", ">i2", "|u1", "|b1", "<U3", "|S4", "|O", "<M8[s]", "|V0",
          "<U0", "[('a', '<f4'), ('b', '<i4')]", "f4,f4", "<f", "", "<f999999999999", "(2,)<f4"]
SHAPES = ["()", "(0,)", "(8,)", "(6, 8)", "(8, 6)", "(6, 7)", "(6, 8, 1)", "(0, 8)", "(6, 0)", "(10**9, 10**9)",
          "(-6, -8)", f"({2**62}, {2**62})", f"({2**64}, 2)", "(6.0, 8)", "('6', 8)", "(True, 48)", "6", "None",
          "(6, 8", "(1000000, 2048)", "(0, 10000000000000)", "(100000000000000, 0)", f"({'9' * 5000},)"]


def spoil(file: Path, rng: random.Random) -> None:
    """Make `file` odd: its content by its ending, its bytes, or what it is at all."""
    by_ending = {".json": _json, ".jsonl": _lines, ".npy": _array, ".npz": _archive, ".csv": _table}
    ways = [by_ending.get(file.suffix, _bytes)] * 8 + [_bytes] * 3 + [_special]
    rng.choice(ways)(file, rng)


# ---- JSON ------------------------------------------------------------------------------------------------------------


def _json(file: Path, rng: random.Random) -> None:
    text = _as_text(_changed(json.loads(file.read_text()), rng), rng)
    encoding = rng.choice(["utf-8"] * 12 + ["utf-8-sig", "utf-16", "latin-1"])
    file.write_bytes(text.encode(encoding, "replace"))


def _lines(file: Path, rng: random.Random) -> None:
    lines = file.read_text().splitlines()
    sound = lines[0]
    for _ in range(rng.choice([1, 1, 2, 4])):
        place = rng.randrange(len(lines))
        odd = _as_text(_changed(json.loads(sound), rng), rng)
        lines[place] = rng.choice([odd] * 6 + ["", "\0" * 40, sound * 2])
        if rng.random() < 0.2:
            lines.insert(place, sound)
        elif rng.random() < 0.2 and len(lines) > 1:
            del lines[place]
    file.write_text("\n".join(lines) + rng.choice(["\n", "\n", "", "\r\n"]))


def _changed(value: Any, rng: random.Random) -> Any:
    """`value` with one node, perhaps the root, replaced, left out or added."""
    if not value or not isinstance(value, list | dict) or rng.random() < 0.15:
        return rng.choice(VALUES)
    key = rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
    way = rng.random()
    if way < 0.7:
        value[key] = _changed(value[key], rng)
    elif way < 0.85:
        del value[key]
    elif isinstance(value, dict):
        key = rng.choice(["features", "clusters", "error", "a.b", "", "x" * 5000, "epoch", "@digits"])
        value[key] = rng.choice(VALUES)
    else:
        value.append(rng.choice(VALUES))
    return value


def _as_text(value: Any, rng: random.Random) -> str:
    text = json.dumps(value)
    for mark, raw in RAW.items():
        text = text.replace(f'"{mark}"', raw)
    return text[:rng.randrange(len(text) + 1)] if rng.random() < 0.1 else text


# ---- arrays ----------------------------------------------------------------------------------------------------------


def _array(file: Path, rng: random.Random) -> None:
    file.write_bytes(_array_bytes(rng))


def _array_bytes(rng: random.Random) -> bytes:
    values = np.random.default_rng(rng.randrange(2**32)).normal(size=48)
    if rng.random() < 0.4:
        values[rng.randrange(48)] = rng.choice([np.nan, np.inf, -np.inf, 1e30, 1e300, 1e-45, 0])
    if rng.random() < 0.3:
        values *= rng.choice([0, 1e-40, 1e-25, 1e14, 1e38])
    with np.errstate(over="ignore"):
        data = values.astype("<f4").tobytes()
    data = rng.choice([data, data, data, data * 2, data[:-1], b"", bytes(1000)])
    dtype, shape = rng.choice(["<f4", "<f4", rng.choice(DTYPES)]), rng.choice(["(6, 8)", rng.choice(SHAPES)])
    descr = dtype if dtype.startswith("[") else repr(dtype)
    order = rng.choice(["False", "True", "2"])
    header = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    if rng.random() < 0.1:
        header = rng.choice([b"", b"{", b"((((", b"'''", b"{}", b"[" * 5000, b"\xff" * 50, b"__import__('os')",
                             header[:-4]])
    header += b" " * (-len(header) % 64) + b"\n"
    version = rng.choice([1] * 8 + [2, 3, 0, 255])
    length = len(header) if rng.random() < 0.95 else rng.randrange(2**16)
    return b"\x93NUMPY" + bytes([version, 0]) + length.to_bytes(2 if version == 1 else 4, "little") + header + data


def _archive(file: Path, rng: random.Random) -> None:
    names = io.BytesIO()
    np.save(names, np.array([f"a/{row}.png" for row in range(rng.choice([6, 6, 6, 5, 8]))]))
    members = {"features.npy": _array_bytes(rng), "image_names.npy": rng.choice([names.getvalue(), _array_bytes(rng)])}
    if rng.random() < 0.2:
        members.pop(rng.choice(list(members)))
    if rng.random() < 0.1:
        members["../../outside.txt"] = b"x"
    kind = rng.choice([zipfile.ZIP_STORED] * 3 + [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
    with zipfile.ZipFile(file, "w", kind) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    if rng.random() < 0.5:
        _flip(file, rng)


# ---- other files -----------------------------------------------------------------------------------------------------


def _table(file: Path, rng: random.Random) -> None:
    rows = [line.split(",") for line in file.read_text().splitlines()]
    for _ in range(rng.choice([1, 1, 3])):
        row = rng.choice(rows)
        cell = rng.choice(["", "-1", "0", "1", "nan", "inf", "1e400", "9" * 5000, "²", "٣", "x" * 200_000, '"', "a\0b",
                           "../../x", "1_0", " 0", "True", "0.5"])
        way = rng.random()
        if way < 0.7 and row:
            row[rng.randrange(len(row))] = cell
        elif way < 0.8:
            row.append(cell)
        elif way < 0.9:
            rows.insert(rng.randrange(len(rows)), list(row))
        else:
            rows.remove(row)
            rows = rows or [[]]
    file.write_text("\n".join(map(",".join, rows)) + rng.choice(["\n", ""]))


def _bytes(file: Path, rng: random.Random) -> None:
    content = file.read_bytes()
    way = rng.randrange(5)
    if way == 0:
        file.write_bytes(content[:rng.randrange(len(content) + 1)])
    elif way == 1:
        file.write_bytes(rng.choice([b"", b"\0", b"\xef\xbb\xbf", bytes(5000), rng.randbytes(500), b"\n" * 50,
                                     b"PK\x03\x04"]))
    elif way == 2:
        file.write_bytes(content + rng.choice([b"\0", content, b"\n{", rng.randbytes(100)]))
    else:
        _flip(file, rng)


def _flip(file: Path, rng: random.Random) -> None:
    content = bytearray(file.read_bytes())
    for _ in range(rng.choice([1, 1, 2, 8])):
        if content:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    file.write_bytes(content)


def _special(file: Path, rng: random.Random) -> None:
    file.unlink()
    way = rng.randrange(7)
    if way == 0:
        os.mkfifo(file)
    elif way == 1:
        file.mkdir()
    elif way in (2, 3, 4):
        file.symlink_to(["/dev/zero", "loop" if file.name != "loop" else "x", "../outside.txt"][way - 2])
    elif way == 5:
        with open(file, "wb") as sparse:
            sparse.truncate(2**33)
