"""From the command line to frozen dataclasses: the parser of every command, and groups of flags declared as fields.

A group of flags is a frozen dataclass whose fields are made by `flag`; a command's flags are one such group, or a
dataclass of groups. `Parser(Group, prog=..., description=...).read(argv)` is a `Group`.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import math
import operator
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from utils import UserError, check_writable

Group = TypeVar("Group")
Limits = Mapping[str, float]


class Parser(argparse.ArgumentParser, Generic[Group]):
    """An `ArgumentParser` of the flags of one dataclass; its errors are `UserError`s.

    `--a-b` and `--a_b` are the same flag, and no flag can be abbreviated.
    """

    def __init__(self, group: type[Group], *, prog: str, description: str | None, **defaults: Any) -> None:
        """Declare the flags of `group`, see `add_options`; `defaults` replaces the defaults of single fields."""
        super().__init__(prog=prog, description=description, allow_abbrev=False, formatter_class=_HelpFormatter)
        self.group = group
        add_options(self, group, **defaults)
        # argparse would name a missing flag before an unknown one, so `parse_args` looks for the missing ones itself.
        self._needed = [action for action in self._actions if action.required]
        self._set_required(False)

    def _set_required(self, required: bool) -> None:
        for action in self._needed:
            action.required = required

    def format_help(self) -> str:
        """The help, in which needed flags stand without brackets."""
        self._set_required(True)
        try:
            return super().format_help()
        finally:
            self._set_required(False)

    def read(self, argv: Sequence[str] | None = None) -> Group:
        """The flags of `argv`, or of the command line.

        Raises:
            UserError: a flag is unknown, missing or has a value that it does not take.
        """
        return read_options(self.parse_args(argv), self.group)

    def parse_args(  # type: ignore[override]  # argparse overloads it by the namespace's type
            self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        """As argparse's; an unknown flag is named before a missing one."""
        arguments = [_hyphened(argument) for argument in (sys.argv[1:] if args is None else args)]
        for argument in arguments:
            name, equals, value = argument.partition("=")
            action = self._option_string_actions.get(name)
            if equals and action is not None and action.nargs == 0:
                raise self._mistake(f"{name} with the value {value!r}", "no value")
        own = argparse.Namespace(**{action.dest: _NOT_GIVEN for action in self._actions if action.dest != "help"})
        found, unknown = self.parse_known_args(arguments, namespace or own)
        found.given = frozenset(name for name, value in vars(found).items() if value is not _NOT_GIVEN)
        for action in self._actions:
            if getattr(found, action.dest, None) is _NOT_GIVEN:
                setattr(found, action.dest, action.default)
        if unknown:
            close = difflib.get_close_matches(unknown[0].partition("=")[0], list(self._option_string_actions), n=1)
            raise self._mistake(f"the unknown argument {' '.join(unknown)}", "documented flags only",
                                f"did you mean {close[0]}? " if close else "")
        missing = [name_of(action) for action in self._needed if getattr(found, action.dest) is None]
        if missing:
            raise self._mistake(f"no {', '.join(missing)}", "it to be given")
        return found

    def _match_argument(self, action: argparse.Action, arg_strings_pattern: str) -> int:
        try:
            return super()._match_argument(action, arg_strings_pattern)
        except argparse.ArgumentError as error:
            counts: dict[Any, str] = {None: "one argument", "+": "at least one argument"}
            count = counts.get(action.nargs, f"{action.nargs} arguments")
            raise self._mistake(f"{name_of(action)} with too few values", count) from error

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        try:
            return super()._get_values(action, arg_strings)
        except _WrongValue as error:
            raise self._mistake(f"{name_of(action)} {error.value}", error.expected) from error

    def error(self, message: str) -> NoReturn:
        """What only argparse itself finds."""
        raise self._mistake(message, "flags as --help names them")

    def _mistake(self, found: str, expected: str, hint: str = "") -> UserError:
        return UserError(found, expected, f"{hint}see python {self.prog} --help")


GIVEN = "given"
_NOT_GIVEN = object()


class _HelpFormatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=min(100, argparse.HelpFormatter(prog)._width))


class _WrongValue(Exception):
    """A value that a flag does not take."""

    def __init__(self, value: str, expected: str) -> None:
        super().__init__(value, expected)
        self.value, self.expected = value, expected


def name_of(action: argparse.Action) -> str:
    """The flag's first spelling, or the name of a positional argument."""
    return action.option_strings[0] if action.option_strings else action.dest


def _hyphened(argument: str) -> str:
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value if argument.startswith("--") else argument


# ---- groups ----------------------------------------------------------------------------------------------------------


def flag(default: Any, help: str, *, names: Sequence[str] = (), writes: Literal["file", "folder"] | None = None,
         positional: bool = False, metavar: str | None = None, **limits: float) -> Any:
    """A dataclass field that is a command-line flag.

    Args:
        default: the value when the flag is absent; `dataclasses.MISSING` makes the flag required.
        help: what it does, with unit and the meaning of special values.
        names: further spellings, such as timm's name for the same thing.
        writes: of a path where results go, what it names; `read_options` refuses one that cannot become that.
        positional: it is given by its place, not by its name.
        metavar: what stands for its value in the help.
        limits: `at_least`, `above`, `at_most`, `below` of a number.
    """
    return dataclasses.field(default=default, metadata={
        "help": help, "names": tuple(names), "writes": writes, "positional": positional, "metavar": metavar,
        "limits": limits})


def add_options(parser: argparse.ArgumentParser, group: type, **defaults: Any) -> None:
    """Give `parser` one argument per field of the dataclass `group`; a field that is a dataclass is a group of its own.

    A field called `given` is no flag: it gets the names of the flags on the command line, a frozenset.

    `defaults` replaces the defaults of single fields.
    """
    title = (group.__doc__ or group.__name__).partition("\n")[0].rstrip(".")
    section = parser.add_argument_group(title)
    hints = get_type_hints(group)
    for field in dataclasses.fields(group):
        if field.name == GIVEN:
            continue
        if dataclasses.is_dataclass(hints[field.name]):
            add_options(parser, hints[field.name], **defaults)
            continue
        default = defaults.get(field.name, field.default)
        required = default is dataclasses.MISSING
        silent = required or default is None or default is False or default == ()
        names = [f"--{field.name.replace('_', '-')}", *field.metadata["names"]]
        settings: dict[str, Any] = {"dest": field.name, "required": required,
                                    **_argument(hints[field.name], field.metadata["limits"])}
        if field.metadata["metavar"]:
            settings["metavar"] = field.metadata["metavar"]
        if field.metadata["positional"]:
            names, settings = [field.name], {"type": settings["type"]}
        added = section.add_argument(*names, default=None if required else default, **settings)
        # Not given to add_argument: up to Python 3.10, BooleanOptionalAction adds the default a second time.
        added.help = (field.metadata["help"] + ("" if silent else f" (default: {_shown(default)})")).replace("%", "%%")


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _argument(hint: Any, limits: Limits) -> dict[str, Any]:
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
        return {"type": _one_of(get_args(hint)), "choices": get_args(hint)}
    if get_origin(hint) is tuple:
        count = "+" if Ellipsis in get_args(hint) else len(get_args(hint))
        return {"nargs": count, **_argument(get_args(hint)[0], limits)}
    return {"type": _number(hint, limits, words) if hint in (int, float) else hint}


def _one_of(words: Sequence[str]) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if text not in words:
            raise _WrongValue(repr(text), f"one of {', '.join(words)}")
        return text

    return convert


def _number(kind: type[int] | type[float], limits: Limits, words: Sequence[str]) -> Callable[[str], Any]:
    """An argparse `type` that takes a finite `kind` within the limits, or one of `words`."""
    allowed = {"at_least": operator.ge, "above": operator.gt, "at_most": operator.le, "below": operator.lt}
    expected = "a whole number" if kind is int else "a number"
    expected += "".join(f", {name.replace('_', ' ')} {limits[name]}" for name in allowed if name in limits)
    expected += "".join(f", or {word}" for word in words)

    def convert(text: str) -> Any:
        if text in words:
            return text
        try:
            value = kind(text)
            if math.isfinite(value) and all(allowed[name](value, limit) for name, limit in limits.items()):
                return value
        except (ValueError, OverflowError):
            pass
        raise _WrongValue(text, expected)

    return convert


def read_options(namespace: argparse.Namespace, group: type[Group]) -> Group:
    """The parsed flags of one group, and of the groups in it.

    Raises:
        UserError: where results shall go is something else.
    """
    hints, values = get_type_hints(group), {}
    for field in dataclasses.fields(group):  # type: ignore[arg-type]  # a TypeVar cannot be bound to dataclasses
        if dataclasses.is_dataclass(hints[field.name]):
            values[field.name] = read_options(namespace, hints[field.name])
            continue
        value = getattr(namespace, field.name)
        if field.metadata.get("writes"):
            _check_target(f"--{field.name.replace('_', '-')}", value, field.metadata["writes"])
        values[field.name] = tuple(value) if isinstance(value, list) else value
    return group(**values)


def _check_target(name: str, target: Path | None, kind: Literal["file", "folder"]) -> None:
    """Raise a `UserError` if `target`, the value of the flag `name`, can become no file, or no folder."""
    if target is None:
        return
    if kind == "file" and target.is_dir():
        raise UserError(f"{name} {target}, which is a folder", "a file to write", "add its name behind the folder")
    for folder in (target, *target.parents) if kind == "folder" else target.parents:
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{name} {target}, where {folder} is a file", "a folder, which is made if it is not there",
                            "choose another name")
    check_writable(target if kind == "folder" else target.parent, f"{name} {target}")


def as_config(*groups: Any) -> dict[str, Any]:
    """The values of option groups as one flat dict of plain Python, for checkpoints and logs."""
    return {field.name: str(value) if isinstance(value := getattr(group, field.name), Path) else value
            for group in groups for field in dataclasses.fields(group)}
