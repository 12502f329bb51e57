"""From the command line to frozen dataclasses: the parser of every command, and groups of flags declared as fields.

A group of flags is a frozen dataclass whose fields are made by `flag`. `add_options(parser, Group)` gives the parser
one argument per field and `read_options(namespace, Group)` turns what was parsed into the group.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import math
import re
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from utils import UserError

Group = TypeVar("Group")


def number(kind: type, *, at_least: float | None = None, above: float | None = None, at_most: float | None = None,
           below: float | None = None, words: Sequence[str] = ()) -> Callable[[str], Any]:
    """An argparse `type` that takes a finite `kind` (int or float) between the limits and says so otherwise.

    One of `words` it takes as it is.
    """
    limits = (("at least", at_least), ("above", above), ("at most", at_most), ("below", below))
    expected = "a whole number" if kind is int else "a number"
    expected += "".join(f", {word} {limit}" for word, limit in limits if limit is not None)
    expected += "".join(f", or {word}" for word in words)

    def convert(text: str) -> Any:
        if text in words:
            return text
        try:
            value = kind(text)
            finite = math.isfinite(value)
        except (ValueError, OverflowError):
            finite = False
        inside = (finite
                  and (at_least is None or value >= at_least) and (above is None or value > above)
                  and (at_most is None or value <= at_most) and (below is None or value < below))
        if not inside:
            raise argparse.ArgumentTypeError(f"{text}; expected {expected}")
        return value

    return convert


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that takes `--a-b` and `--a_b` alike, no abbreviations, and tells errors as `UserError`s."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_HelpFormatter, **settings)

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        """As argparse's, after the underscores in the names of long flags became hyphens."""
        arguments = list(sys.argv[1:] if args is None else args)
        for place, argument in enumerate(arguments):
            if argument.startswith("--"):
                name, equals, value = argument.partition("=")
                arguments[place] = name.replace("_", "-") + equals + value
        return super().parse_known_args(arguments, namespace)

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print as a `UserError` in its three parts."""
        action = f"see python {self.prog} --help"
        if message.startswith("unrecognized arguments: "):
            unknown = message.partition(": ")[2]
            close = difflib.get_close_matches(re.split("[ =]", unknown)[0], list(self._option_string_actions), n=1)
            action = f"did you mean {close[0]}? {action}" if close else action
            raise UserError(f"the unknown argument {unknown}", "documented flags only", action)
        if message.startswith("the following arguments are required: "):
            raise UserError(f"no {message.partition(': ')[2]}", "it to be given", action)
        name, _, told = message.removeprefix("argument ").partition(": ")
        told = re.sub(r"invalid choice: (.*) \(choose from (.*)\)", r"\1; expected one of \2", told)
        told = re.sub("^expected", "with too few values; expected", told)
        told = re.sub("ignored explicit argument (.*)", r"with the value \1; expected no value", told)
        value, _, expected = told.partition("; expected ")
        raise UserError(f"{name.partition('/')[0]} {value}", expected or "a value of the kind --help names", action)


class _HelpFormatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=min(100, argparse.HelpFormatter(prog)._width))


def flag(default: Any, help: str, *, names: Sequence[str] = (), writes: Literal["file", "folder"] | None = None,
         **limits: float) -> Any:
    """A dataclass field that is a command-line flag.

    Args:
        default: the value when the flag is absent; `dataclasses.MISSING` makes the flag required.
        help: what it does, with unit and the meaning of special values.
        names: further spellings, such as timm's name for the same thing.
        writes: of a path where results go, what it names; `read_options` refuses one that cannot become that.
        limits: `at_least`, `above`, `at_most`, `below` of a number.
    """
    return dataclasses.field(default=default, metadata={"help": help, "names": tuple(names), "writes": writes,
                                                       "limits": limits})


def add_options(parser: argparse.ArgumentParser, group: type, **defaults: Any) -> None:
    """Give `parser` one argument per field of the dataclass `group`; `defaults` replaces a field's own default."""
    title = (group.__doc__ or group.__name__).partition("\n")[0].rstrip(".")
    section = parser.add_argument_group(title)
    hints = get_type_hints(group)
    for field in dataclasses.fields(group):
        default = defaults.get(field.name, field.default)
        settings = _argument(hints[field.name], field.metadata["limits"])
        required = default is dataclasses.MISSING
        silent = required or default is None or default is False or default == ()
        shown = "" if silent else f" (default: {_shown(default)})"
        added = section.add_argument(f"--{field.name.replace('_', '-')}", *field.metadata["names"], dest=field.name,
                                     required=required, default=None if required else default, **settings)
        # Not given to add_argument: up to Python 3.10, BooleanOptionalAction adds the default a second time.
        added.help = (field.metadata["help"] + shown).replace("%", "%%")


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _argument(hint: Any, limits: dict[str, float]) -> dict[str, Any]:
    """The argparse settings of a field's type.

    The types are bool, int, float, str, Path, Literal, a tuple of so many of one (`tuple[float, float]`) or of one and
    more (`tuple[Path, ...]`), each also `| None`, and a number or a word (`int | Literal["auto"]`).
    """
    words: tuple[str, ...] = ()
    if get_origin(hint) in (Union, types.UnionType):
        parts = [part for part in get_args(hint) if part is not type(None)]
        words = get_args(parts[1]) if len(parts) > 1 else ()
        hint = parts[0]
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    if get_origin(hint) is Literal:
        return {"choices": get_args(hint)}
    if get_origin(hint) is tuple:
        count = "+" if Ellipsis in get_args(hint) else len(get_args(hint))
        return {"nargs": count, **_argument(get_args(hint)[0], limits)}
    return {"type": number(hint, words=words, **limits) if hint in (int, float) else hint}


def read_options(namespace: argparse.Namespace, group: type[Group]) -> Group:
    """The parsed flags of one group.

    Raises:
        UserError: where results shall go is something else.
    """
    for field in dataclasses.fields(group):  # type: ignore[arg-type]
        if field.metadata["writes"]:
            check_target(f"--{field.name.replace('_', '-')}", getattr(namespace, field.name), field.metadata["writes"])
    values = {field.name: getattr(namespace, field.name) for field in dataclasses.fields(group)}  # type: ignore[arg-type]
    return group(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def check_target(flag: str, target: Path | None, kind: Literal["file", "folder"]) -> None:
    """Raise a `UserError` if `target`, the value of `flag`, can become no file, or no folder; None is well."""
    if target is None:
        return
    if kind == "file" and target.is_dir():
        raise UserError(f"{flag} {target}, which is a folder", "a file to write", "add its name behind the folder")
    for folder in (target, *target.parents) if kind == "folder" else target.parents:
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{flag} {target}, where {folder} is a file", "a folder, which is made if it is not there",
                            "choose another name")


def as_config(*groups: Any) -> dict[str, Any]:
    """The values of option groups as one flat dict of plain Python, for checkpoints and logs."""
    return {field.name: str(value) if isinstance(value := getattr(group, field.name), Path) else value
            for group in groups for field in dataclasses.fields(group)}
