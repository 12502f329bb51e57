"""Flags: both spellings parse, every mistake is one line in three parts, and groups come back as they went in."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Literal

import pytest

from runtime.arguments import Parser, as_config, fixed, flag
from tests.conftest import ROOT
from utils import UserError


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Flags of every kind. Only the first line is a title."""

    data_path: Path = flag(MISSING, "where pictures are")
    num_workers: int = flag(2, "processes, 0 for none", at_least=0, at_most=99, names=("--workers", "-j"))
    scale: tuple[float, float] = flag((0.25, 1.0), "share, 0 to 100 % of the area", above=0, at_most=1)
    drop: float = flag(0.0, "probability", at_least=0, below=1)
    fit: Literal["crop", "pad"] | None = flag(None, "shape")
    pin_mem: bool = flag(True, "lock pages")
    dry: bool | None = flag(None, "insist or not")
    name: str = flag("x_y", "a name")
    input_size: int | None = flag(None, "px", at_least=32)
    files: tuple[Path, ...] = flag((), "one or more")
    groups: int | Literal["auto"] | None = flag(None, "how many, or by itself", at_least=1)


def parser(**defaults: object) -> Parser[Sample]:
    return Parser(Sample, prog="train.py", description=None, **defaults)


def parse(*arguments: str) -> Sample:
    return parser().read(["--data-path", "d", *arguments])


def refused(*arguments: str) -> UserError:
    with pytest.raises(UserError) as caught:
        parse(*arguments)
    assert "\n" not in str(caught.value)
    assert caught.value.action.endswith("see python train.py --help")
    return caught.value


def test_defaults_survive() -> None:
    assert parse() == Sample(data_path=Path("d"))
    assert isinstance(parse().scale, tuple)
    hash(parse())


@pytest.mark.parametrize("arguments", [
    ["--num-workers", "3"], ["--num_workers", "3"], ["--num_workers=3"], ["--workers", "3"], ["-j", "3"], ["-j3"]])
def test_every_spelling_of_a_flag_parses(arguments: list[str]) -> None:
    assert parse(*arguments).num_workers == 3


def test_underscores_in_values_stay() -> None:
    assert parse("--name", "a_b").name == "a_b"
    assert parse("--name=a_b--c_d").name == "a_b--c_d"
    assert parser().read(["--data_path=x_y/z_1"]).data_path == Path("x_y/z_1")


@pytest.mark.parametrize(("arguments", "found"), [
    (["--no-pin-mem"], {"pin_mem": False}), (["--no_pin_mem"], {"pin_mem": False}), (["--dry"], {"dry": True}),
    (["--no-dry"], {"dry": False}), (["--scale", "0.5", "1"], {"scale": (0.5, 1)}), (["--fit", "pad"], {"fit": "pad"}),
    (["--input-size", "32"], {"input_size": 32}), (["--drop", "1e-3"], {"drop": 0.001}),
    (["--num-workers", "99"], {"num_workers": 99}), (["--files", "a", "b"], {"files": (Path("a"), Path("b"))}),
    (["--groups", "3"], {"groups": 3}), (["--groups", "auto"], {"groups": "auto"})])
def test_values_arrive_in_their_types(arguments: list[str], found: dict[str, object]) -> None:
    assert parse(*arguments) == dataclasses.replace(parse(), **found)


@pytest.mark.parametrize(("arguments", "found", "expected"), [
    (["--num-workers", "-1"], "--num-workers -1", "a whole number, at least 0, at most 99"),
    (["--num-workers", "100"], "--num-workers 100", "a whole number, at least 0, at most 99"),
    (["--groups", "automatic"], "--groups automatic", "a whole number, at least 1, or auto"),
    (["--num-workers", "1.5"], "--num-workers 1.5", "a whole number, at least 0, at most 99"),
    (["--num_workers", "9" * 400], f"--num-workers {'9' * 400}", "a whole number, at least 0, at most 99"),
    (["-j", "two"], "--num-workers two", "a whole number, at least 0, at most 99"),
    (["--drop", "1"], "--drop 1", "a number, at least 0, below 1"),
    (["--drop", "nan"], "--drop nan", "a number, at least 0, below 1"),
    (["--drop=-inf"], "--drop -inf", "a number, at least 0, below 1"),
    (["--scale", "0", "1"], "--scale 0", "a number, above 0, at most 1"),
    (["--input-size", "31"], "--input-size 31", "a whole number, at least 32"),
    (["--fit", "paad"], "--fit 'paad'", "one of crop, pad"),
    (["--name"], "--name with too few values", "one argument"),
    (["--scale", "1"], "--scale with too few values", "2 arguments"),
    (["--name", "--dry"], "--name with too few values", "one argument"),
    (["--pin-mem=3"], "--pin-mem with the value '3'", "no value"),
    (["--bogus", "3"], "the unknown argument --bogus 3", "documented flags only")])
def test_a_mistake_is_told_in_three_parts(arguments: list[str], found: str, expected: str) -> None:
    error = refused(*arguments)
    assert (error.found, error.expected.replace("'", "")) == (found, expected)  # argparse quotes choices up to 3.12


@pytest.mark.parametrize(("mistyped", "meant"), [
    ("--num-worker", "--num-workers"), ("--fits", "--fit"), ("--num_wrokers=a/long/path/to/nowhere", "--num-workers"),
    ("--pin-men", "--pin-mem"), ("--zzz", None), ("stray", None), ("-q", None)])
def test_the_closest_flag_is_suggested_and_none_is_abbreviated(mistyped: str, meant: str | None) -> None:
    suggestion = f"did you mean {meant}? " if meant else ""
    assert refused(mistyped).action == f"{suggestion}see python train.py --help"


def test_a_required_flag_is_named() -> None:
    with pytest.raises(UserError, match=r"^--data-path is missing; see"):
        parser().read([])


def test_a_commands_own_default_replaces_the_groups() -> None:
    options = parser(data_path=Path("here"), drop=0.5).read([])
    assert options == Sample(data_path=Path("here"), drop=0.5)
    assert "(default: 0.5)" in parser(drop=0.5).format_help(everything=True)


def test_help_tells_what_a_flag_does_and_its_default() -> None:
    text = " ".join(parser().format_help(everything=True).split())
    assert "Flags of every kind. Only the first line is a title:" in text
    for told in ("where pictures are --num-workers", "processes, 0 for none (default: 2)", "lock pages (default: on)",
                 "share, 0 to 100 % of the area (default: 0.25 1.0)", "probability (default: 0.0)",
                 "px", "a name (default: x_y)"):
        assert told in text
    assert text.count("(default:") == 5
    assert max(map(len, parser().format_help(everything=True).splitlines())) <= 100


def test_the_usage_shows_which_flags_are_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        parser().read(["--help"])
    usage = " ".join(capsys.readouterr().out.split())
    assert usage.startswith("usage: python train.py --data-path PATH [flags]")


def test_groups_become_plain_python_for_checkpoints() -> None:
    assert as_config(parse("--fit", "pad")) == {
        "data_path": "d", "num_workers": 2, "scale": (0.25, 1.0), "drop": 0.0, "fit": "pad", "pin_mem": True,
        "dry": None, "name": "x_y", "input_size": None, "files": (), "groups": None}


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Where results go."""

    output: Path | None = flag(None, "a folder", writes="folder")
    report: Path | None = flag(None, "a file", writes="file")


@pytest.mark.parametrize(("flags", "told"), [
    (["--output", "{here}/file"], "--output {here}/file, where {here}/file is a file"),
    (["--output", "{here}/file/below/it"], "where {here}/file is a file"),
    (["--report", "{here}/file/x.json"], "where {here}/file is a file"),
    (["--report", "{here}"], "--report {here}, which is a folder"),
    (["--output", "{here}", "--report", "{here}/file"], ""), (["--output", "{here}/new/one"], ""), ([], "")])
def test_where_nothing_can_be_written_is_told_before_any_work(tmp_path: Path, flags: list[str], told: str) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    parser = Parser(Targets, prog="p.py", description=None)
    given = [flag.format(here=tmp_path) for flag in flags]
    if not told:
        assert parser.read(given)
        return
    with pytest.raises(UserError, match=re.escape(told.format(here=tmp_path))):
        parser.read(given)


@dataclass(frozen=True, kw_only=True)
class Nested:
    """Groups in a group, and a positional argument."""

    log: Path = flag(MISSING, "a log", positional=True)
    targets: Targets


def test_groups_nest_and_share_one_parser(tmp_path: Path) -> None:
    parser = Parser(Nested, prog="p.py", description=None, report=tmp_path / "r.txt")
    assert parser.read(["x.log", "--output", str(tmp_path)]) == Nested(
        log=Path("x.log"), targets=Targets(output=tmp_path, report=tmp_path / "r.txt"))
    assert "Where results go:" in parser.format_help(everything=True)
    with pytest.raises(UserError, match=r"^log is missing; see"):
        parser.read([])


def test_an_unknown_flag_is_named_before_a_missing_one() -> None:
    with pytest.raises(UserError, match=r"the unknown argument --datapath x.*did you mean --data-path"):
        parser().read(["--datapath", "x"])


@pytest.mark.skipif(os.name != "posix" or not shutil.which("setpriv"), reason="needs setpriv, to be another user")
def test_where_one_may_not_write_is_refused_before_the_work(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o555)
    for parent in [tmp_path, *tmp_path.parents][:4]:
        parent.chmod(parent.stat().st_mode | 0o055)
    code = ("from pathlib import Path; from utils import check_writable\n"
            f"check_writable(Path({str(folder / 'new' / 'run')!r}), '--output-dir x')")
    done = subprocess.run(["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-c", code], cwd=ROOT,
                          capture_output=True, text=True, check=False)
    assert f"found --output-dir x, where {folder} may not be written to" in done.stderr


@dataclass(frozen=True, kw_only=True)
class Narrower(Sample):
    """Flags of every kind but two."""

    num_workers: int = fixed(3)
    fit: Literal["pad"] = fixed("pad")


def test_a_fixed_field_is_no_flag_and_has_its_value() -> None:
    narrower = Parser(Narrower, prog="train.py", description=None)
    found = narrower.read(["--data-path", "d", "--drop", "0.5"])
    assert (found.num_workers, found.fit, found.drop) == (3, "pad", 0.5)
    assert as_config(found)["num_workers"] == 3
    for name in ("--num-workers", "-j", "--fit"):
        with pytest.raises(UserError, match="unknown argument"):
            narrower.read(["--data-path", "d", name, "1"])
