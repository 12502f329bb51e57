"""docs/flags.md, made from the parsers of all commands; `python -m tests.flag_tables` writes it."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

from runtime.arguments import ALIASES, Parser

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted(path.relative_to(ROOT).as_posix() for place in ("*.py", "tools/*.py") for path in ROOT.glob(place)
                 if "def build_parser(" in path.read_text(encoding="utf-8"))
HEAD = """# Flags

[中文](zh/flags.md) · [Back to README](../README.md)

`python train_artist_style.py --help` shows an example and the most used flags, `--help-all` all of them; so does every
command. Every flag can be written with hyphens or underscores (`--num-workers`, `--num_workers`), but not abbreviated.
Names in one cell mean the same, except that a form with `no-` turns a switch off. Every command also takes `--input`
for `--source-dir`, `--images-dir`, `--inputs`, `--input-dir` or `--data-path`, and `--output` for `--output-dir` or
`--output-csv`, if it has only one of them.

`python -m tests.flag_tables` writes this file from the commands themselves. Do not edit it.
"""


def parser_of(script: str) -> argparse.ArgumentParser:
    """The parser of the command with the path `script`."""
    return importlib.import_module(script.removesuffix(".py").replace("/", ".")).build_parser()


def markdown() -> str:
    """The text of docs/flags.md: for each command its groups and flags, in the order of --help-all."""
    return HEAD + "".join(f"\n### {script}\n\n{one_line(about(script))}\n{tables(parser_of(script))}"
                          for script in sorted(SCRIPTS, key=lambda script: ("/" in script, script)))


def about(script: str) -> str:
    """The first sentence of what the command says about itself."""
    return (parser_of(script).description or "").strip().partition("\n\n")[0].partition(".\n")[0]


def tables(parser: argparse.ArgumentParser) -> str:
    """The Markdown tables of `parser`'s groups, or of its sub-commands, without what every command has."""
    inner = [each for action in parser._actions if isinstance(action, argparse._SubParsersAction)
             for each in action.choices.items()]
    if inner:
        return "".join(f"\n**{name}**\n{table}" for name, each in inner if (table := tables(each)))
    needed = parser._needed if isinstance(parser, Parser) else []
    parts = []
    for group in sorted(parser._action_groups, key=lambda each: not {*each._group_actions} & {*needed}):
        rows = [row(action, action in needed) for action in group._group_actions if action.dest != "help"]
        if rows:
            title = f"\n**{group.title}**\n" if isinstance(parser, Parser) else ""
            parts.append(f"{title}\n| flag | default | meaning |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n")
    return "".join(parts)


def row(action: argparse.Action, needed: bool) -> str:
    """One line of a table; the default is taken out of the help text, where it stands last."""
    text = one_line(action.help or "").replace("%%", "%")
    told = re.fullmatch(r"(.*?)(?: \(default: ((?:[^()]|\([^()]*\))*)\))?", text)
    assert told is not None
    default = "required" if needed else told[2] or ("off" if action.default is False else "none")
    value = "" if action.nargs == 0 else " " + parser_value(action)
    names = [name + (value if not number else "") for number, name in enumerate(spellings(action))]
    cells = (", ".join(f"`{name.strip()}`" for name in names), marked(default), marked(told[1]))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def spellings(action: argparse.Action) -> list[str]:
    """The names of a flag without those that all commands understand, or that of a positional argument."""
    names = action.option_strings or [action.dest]
    return [name for name in names if name not in ALIASES or name == names[0]]


def parser_value(action: argparse.Action) -> str:
    """What stands for the value of `action` in its help."""
    return argparse.HelpFormatter("")._format_args(action, action.dest.upper()) if action.option_strings else ""


def one_line(text: str) -> str:
    """`text` without line ends."""
    return " ".join(text.split())


def marked(text: str) -> str:
    """`text` as Markdown: flags and file names as code, nothing else by chance."""
    parts = re.split(r"((?<![\w-])--[A-Za-z][\w-]*|\b[\w./]+\.(?:py|pth|csv|json|txt|npy|npz|png|html|onnx)\b)", text)
    return "".join(f"`{part}`" if number % 2 else re.sub(r"([*_<\[\]])", r"\\\1", part)
                   for number, part in enumerate(parts))


def flags_of(parser: argparse.ArgumentParser) -> Iterator[list[str]]:
    """For each flag of `parser` its spellings, the one to document first."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from flags_of(each)
        elif not isinstance(action, argparse._HelpAction) and action.option_strings:
            yield [name for name in action.option_strings if name.startswith("--")]


if __name__ == "__main__":
    (ROOT / "docs" / "flags.md").write_text(markdown(), encoding="utf-8", newline="\n")
