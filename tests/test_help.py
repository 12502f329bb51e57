"""Help answers at once, fits a screen and begins with what most need; its example runs; names of folders are shared."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.arguments import ALIASES, Parser, name_of
from tests.flag_tables import SCRIPTS
from utils import UserError

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "timm", "torchvision", "sklearn", "matplotlib")
PROGRAM = f"""
import importlib, sys
for script in {SCRIPTS}:
    module = importlib.import_module(script.removesuffix(".py").replace("/", "."))
    assert module.build_parser().format_help().startswith("usage: ")
    if script != "quickstart.py":  # which has commands of its own
        assert module.main(["--no-such-flag"]) == 2, script
    loaded = [name for name in {HEAVY} if name in sys.modules]
    assert not loaded, (script, loaded)
    print(script)
"""
OURS = [script for script in SCRIPTS if script != "quickstart.py"]  # which needs nothing installed, so has argparse's
LINES, COLUMNS = 60, 80


def test_no_command_needs_a_heavy_package_for_its_help() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == SCRIPTS
    assert done.stderr.count("found the unknown argument --no-such-flag") == len(SCRIPTS) - 1


@pytest.fixture
def parser(script: str, monkeypatch: pytest.MonkeyPatch) -> Parser:
    """That of `script`, in a terminal of usual width."""
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    return importlib.import_module(script.removesuffix(".py").replace("/", ".")).build_parser()


def given_as_needed(parser: Parser) -> list[str]:
    """A command line with nothing but what `parser` insists on."""
    return [word for action in parser._needed for word in (*action.option_strings[:1], "given")]


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_fits_a_screen(parser: Parser, script: str) -> None:
    lines = parser.format_help().splitlines()
    assert sum(max(1, -(-len(line) // COLUMNS)) for line in lines) <= LINES
    assert [line for line in lines if len(line) > COLUMNS and f"python {script}" not in line] == []


@pytest.mark.parametrize("script", OURS)
def test_help_names_what_is_needed_and_common_and_help_all_everything(
        parser: Parser, script: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for flag in ("--help", "--help-all"):
        with pytest.raises(SystemExit, match="0"):
            parser.read([flag])
        told.append(set(re.findall(r"^  ([^\s,]+)", capsys.readouterr().out, re.MULTILINE)))
    common = {name_of(action) for action in parser._common}
    everything = {name_of(action) for action in parser._actions}
    assert [everything & names for names in told] == [common, everything]
    assert {name_of(action) for action in parser._needed} <= common
    flags = [action for action in parser._actions if action.dest != "help"]
    assert len(common) >= min(3, len(flags))
    assert ("--help-all" in common) == (len(flags) > len(common - {"-h", "--help-all"}))


@pytest.mark.parametrize("script", OURS)
def test_the_example_is_a_command_that_the_parser_takes(
        parser: Parser, script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"Example:\n  {parser.example}\n" in parser.format_help()
    python, path, *arguments = shlex.split(parser.example)
    assert (python, path) == ("python", script)
    parser.read(arguments)


@pytest.mark.parametrize("script", OURS)
def test_input_and_output_stand_for_a_commands_own_names(parser: Parser, script: str, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    needed = given_as_needed(parser)
    for alias, names in ALIASES.items():
        meant = [action for action in parser._actions if {*names} & {*action.option_strings}]
        own = [action for action in parser._actions if action.option_strings[:1] == [alias]]
        if own or len(meant) != 1:
            assert [action for action in parser._actions if alias in action.option_strings] == own
            continue
        value = getattr(parser.parse_args([*needed, alias, "x_y"]), meant[0].dest)
        assert value in (Path("x_y"), ["x_y"])
        assert parser.parse_args([*needed, alias, "x_y"]).given >= {meant[0].dest}


@pytest.mark.parametrize("script", OURS)
def test_no_flag_can_be_abbreviated(parser: Parser, script: str) -> None:
    for name in (*ALIASES, "--help-all"):
        with pytest.raises(UserError, match=f"the unknown argument {name[:-1]}"):
            parser.parse_args([*given_as_needed(parser), f"{name[:-1]}=x"])
