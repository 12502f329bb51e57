"""From the command line to frozen dataclasses: the parser of every command, and groups of flags declared as fields.

A group of flags is a frozen dataclass whose fields are made by `flag`; a command's flags are one such group, or a
dataclass of groups. `Parser(Group, prog=..., description=...).read(argv)` is a `Group`. A group that
extends another one may lack some of its flags: they are `fixed`.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import math
import operator
import sys
import textwrap
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from utils import UserError, check_writable, expand_wildcard

Group = TypeVar("Group")
Limits = Mapping[str, float]
# What every command understands in place of its own name for where it reads, and where it writes.
ALIASES = {"--input": ("--source-dir", "--images-dir", "--inputs", "--input-dir", "--data-path"),
           "--output": ("--output-dir", "--output-csv")}


class Parser(argparse.ArgumentParser, Generic[Group]):
    """An `ArgumentParser` of the flags of one dataclass; its errors are `UserError`s.

    `--a-b` and `--a_b` are the same flag, and no flag can be abbreviated. `ALIASES` name the one flag that they stand
    for, if there is one.

    Attributes:
        example: a command to type, with `python` in front; what follows "Example: " in the description.
    """

    def __init__(self, group: type[Group], *, prog: str, description: str | None, **defaults: Any) -> None:
        """Declare the flags of `group`, see `add_options`; `defaults` replaces the defaults of single fields."""
        about, _, example = (description or "").partition("\n\nExample: ")
        super().__init__(prog=prog, description=about, allow_abbrev=False, formatter_class=_HelpFormatter,
                         add_help=False)
        self.group, self.example = group, " ".join(example.split())
        self._common = add_options(self, group, **defaults)
        self._add_aliases()
        self._add_help()
        # argparse would name a missing flag before an unknown one, so `parse_args` looks for the missing ones itself.
        self._needed = [action for action in self._actions if action.required]
        for action in self._needed:
            action.required = False

    def _add_aliases(self) -> None:
        for alias, names in ALIASES.items():
            meant = [self._option_string_actions[name] for name in names if name in self._option_string_actions]
            if len(meant) == 1 and alias not in self._option_string_actions:
                meant[0].option_strings = [*meant[0].option_strings, alias]
                self._option_string_actions[alias] = meant[0]

    def _add_help(self) -> None:
        count = len(self._actions)
        section = self.add_argument_group("Help")
        everything = count == len(self._common)
        self._common.append(section.add_argument("-h", "--help", action="help", help=(
            "these flags" if everything else "the most used flags")))
        more = section.add_argument("--help-all", dest="help", action=_HelpAll, help=f"all {count} flags")
        if not everything:
            self._common.append(more)

    def format_help(self, *, everything: bool = False) -> str:
        """Usage, example, and the common flags or all, by group; groups with a needed flag come first."""
        head, flags = _HelpFormatter(self.prog), _HelpFormatter(self.prog)
        usage = [f"usage: python {self.prog}", *map(head.first_spelling, self._needed), "[flags]"]
        head.add_text(self.description)
        for section in sorted(self._action_groups, key=lambda each: not {*each._group_actions} & {*self._needed}):
            flags.start_section(section.title)
            flags.add_arguments([action for action in section._group_actions if everything or action in self._common])
            flags.end_section()
        example = f"\nExample:\n  {self.example}\n" if self.example else ""
        return f"{head.fold(usage)}\n\n{head.format_help()}{example}\n{flags.format_help()}"

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
            raise self._mistake(f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing", "")
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
            values = super()._get_values(action, arg_strings)
        except _WrongValue as error:
            raise self._mistake(f"{name_of(action)} {error.value}", error.expected) from error
        if isinstance(action.nargs, int) and values != sorted(values):
            raise self._mistake(f"{name_of(action)} {' '.join(arg_strings)}", "the smallest first")
        return values

    def error(self, message: str) -> NoReturn:
        """What only argparse itself finds."""
        raise self._mistake(message, "flags as --help names them")

    def _mistake(self, found: str, expected: str, hint: str = "") -> UserError:
        return UserError(found, expected, f"{hint}see python {self.prog} --help")


GIVEN = "given"
_NOT_GIVEN = object()


class _HelpFormatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=24, width=min(100, argparse.HelpFormatter(prog)._width))

    def _format_action_invocation(self, action: argparse.Action) -> str:
        """All spellings, then the value once; of a flag that is off, not the spelling that turns it off."""
        names = [name for name in action.option_strings if action.default is not False or not name.startswith("--no-")]
        return " ".join(filter(None, (", ".join(names), self._value(action))))

    def first_spelling(self, action: argparse.Action) -> str:
        """The flag as it is typed."""
        return " ".join((*action.option_strings[:1], self._value(action)))

    def _value(self, action: argparse.Action) -> str:
        return self._format_args(action, action.dest.upper() if action.option_strings else action.dest)

    def fold(self, words: Sequence[str]) -> str:
        """`words` on lines; none is broken."""
        lines = textwrap.wrap(" ".join(word.replace(" ", "\0") for word in words), self._width,
                              subsequent_indent=" " * 7, break_long_words=False, break_on_hyphens=False)
        return "\n".join(lines).replace("\0", " ")

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


class _HelpAll(argparse._HelpAction):
    def __call__(self, parser: Any, *_: object) -> None:
        print(parser.format_help(everything=True), end="")
        parser.exit()


class _WrongValue(Exception):
    """A value that a flag does not take."""

    def __init__(self, value: str, expected: str) -> None:
        super().__init__(value, expected)
        self.value, self.expected = value, expected


def name_of(action: argparse.Action) -> str:
    """The flag's first spelling, or the name of a positional argument."""
    return action.option_strings[0] if action.option_strings else action.dest


def flag_name(field: str) -> str:
    """The first spelling of the flag of the dataclass field `field`."""
    return f"--{field.replace('_', '-')}"


def _hyphened(argument: str) -> str:
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value if argument.startswith("--") else argument


# ---- groups ----------------------------------------------------------------------------------------------------------


def flag(default: Any, help: str, *, names: Sequence[str] = (), writes: Literal["file", "folder"] | None = None,
         positional: bool = False, metavar: str | None = None, common: bool = False, **limits: float) -> Any:
    """A dataclass field that is a command-line flag.

    Args:
        default: the value when the flag is absent; `dataclasses.MISSING` makes the flag required.
        help: what it does, with unit and the meaning of special values.
        names: further spellings, such as timm's name for the same thing.
        writes: of a path where results go, what it names; `read_options` refuses one that cannot become that.
        positional: it is given by its place, not by its name.
        metavar: what stands for its value in the help.
        common: --help shows it; else only --help-all, unless it is required.
        limits: `zero_or_at_least`, `at_least`, `above`, `at_most`, `below` of a number. Those of a pair, smallest and
            largest, are those of both.
    """
    return dataclasses.field(default=default, metadata={
        "help": help, "names": tuple(names), "writes": writes, "positional": positional, "metavar": metavar,
        "common": common, "limits": limits})


def fixed(value: Any) -> Any:
    """A dataclass field that always is `value`, in place of a flag of the group that the dataclass extends."""
    return dataclasses.field(default=value, init=False)


def add_options(parser: argparse.ArgumentParser, group: type, **defaults: Any) -> list[argparse.Action]:
    """Give `parser` one argument per field of the dataclass `group`; a field that is a dataclass is a group of its own.

    Returns the arguments that are common.

    A field called `given` is no flag: it gets the names of the flags on the command line, a frozenset. Nor is one that
    `fixed` made.

    `defaults` replaces the defaults of single fields.
    """
    title = (group.__doc__ or group.__name__).partition("\n")[0].rstrip(".")
    section = parser.add_argument_group(title)
    hints = get_type_hints(group)
    common: list[argparse.Action] = []
    for field in dataclasses.fields(group):
        if field.name == GIVEN or not field.init:
            continue
        if dataclasses.is_dataclass(hints[field.name]):
            common += add_options(parser, hints[field.name], **defaults)
            continue
        default = defaults.get(field.name, field.default)
        required = default is dataclasses.MISSING
        silent = required or default is None or default is False or default == ()
        names = [flag_name(field.name), *field.metadata["names"]]
        settings: dict[str, Any] = {"dest": field.name, "required": required,
                                    **_argument(hints[field.name], field.metadata["limits"])}
        if metavar := field.metadata["metavar"] or (field.metadata["writes"] or "").upper():
            settings["metavar"] = metavar
        if field.metadata["positional"]:
            names, settings = [field.name], {"type": settings["type"]}
        added = section.add_argument(*names, default=None if required else default, **settings)
        # Not given to add_argument: up to Python 3.10, BooleanOptionalAction adds the default a second time.
        added.help = (field.metadata["help"] + ("" if silent else f" (default: {_shown(default)})")).replace("%", "%%")
        if required or field.metadata["common"]:
            common.append(added)
    return common


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
    metavar = {int: "N", float: "X", Path: "PATH", str: None}[hint]
    return {"type": _number(hint, limits, words) if hint in (int, float) else _text(hint),
            "metavar": metavar and "|".join((metavar, *words))}


def _one_of(words: Sequence[str]) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if text not in words:
            raise _WrongValue(repr(text), f"one of {', '.join(words)}")
        return text

    return convert


def _text(kind: type[str] | type[Path]) -> Callable[[str], Any]:
    """An argparse `type` that takes any text but none: `Path("")` would be the current folder."""

    def convert(text: str) -> Any:
        if not text:
            raise _WrongValue('""', "a value (an unset variable of the shell gives none)")
        return kind(text)

    return convert


def _number(kind: type[int] | type[float], limits: Limits, words: Sequence[str]) -> Callable[[str], Any]:
    """An argparse `type` that takes a finite `kind` within the limits, or one of `words`."""
    allowed = {"zero_or_at_least": lambda value, limit: value == 0 or value >= limit, "at_least": operator.ge,
               "above": operator.gt, "at_most": operator.le, "below": operator.lt}
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
        if not field.init:
            continue
        if dataclasses.is_dataclass(hints[field.name]):
            values[field.name] = read_options(namespace, hints[field.name])
            continue
        value = getattr(namespace, field.name)
        if field.metadata.get("writes"):
            check_target(flag_name(field.name), value, field.metadata["writes"])
        if hints[field.name] == tuple[Path, ...]:
            value = [Path(path) for given in value for path in expand_wildcard(str(given))]
        values[field.name] = tuple(value) if isinstance(value, list) else value
    return group(**values)


def check_target(name: str, target: Path | None, kind: Literal["file", "folder"]) -> None:
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


def check_value(group: type, name: str, value: Any) -> Any:
    """`value`, of a file, for the flag `name` of the dataclass `group`, as the command line reads it.

    Raises:
        ValueError: it takes no such value; the message says which it takes.
    """
    field = next(field for field in dataclasses.fields(group) if field.name == name)
    settings = _argument(get_type_hints(group)[name], field.metadata["limits"])
    if "action" in settings:
        if not isinstance(value, bool):
            raise ValueError("true or false")
        return value
    try:
        if "nargs" not in settings:
            return settings["type"](str(value))
        if not isinstance(value, list | tuple) or settings["nargs"] not in ("+", len(value)):
            raise ValueError(f"{settings['nargs']} values")
        return tuple(settings["type"](str(part)) for part in value)
    except _WrongValue as error:
        raise ValueError(error.expected) from error


def flag_text(name: str, value: Any) -> str:
    """A flag and its value as on the command line."""
    text = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{'' if value else 'no-'}{text}"
    return f"--{text} {value:g}" if isinstance(value, float) else f"--{text} {_shown(value)}"


def as_config(*groups: Any) -> dict[str, Any]:
    """The values of option groups as one flat dict of plain Python, for checkpoints and logs."""
    return {field.name: str(value) if isinstance(value := getattr(group, field.name), Path) else value
            for group in groups for field in dataclasses.fields(group)}
