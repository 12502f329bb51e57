"""From text to weighted labels, and back.

The grammar: a delimiter separates labels (a comma unless the user names another), and one behind the last label is
nothing. Spaces around labels do not count. A label that is given twice has the sum of both weights. `(label:number)` is
`label` with that weight; any other text is a label of weight 1, whatever colons and parentheses it holds. So
`(re:zero:1.4)` is `re:zero` with 1.4, while `a:0.6`, `:)`, `(o)_(o)` and `user:2024` are labels as they stand. A label
that looks like a weighted one, `(a:2)`, is written `((a:2):1)`. A label cannot hold the delimiter, and there is no
quoting, because people get a second escape inside a CSV cell wrong; they name a delimiter that no label holds.

Other programs write lists (JSON, pandas), tags between spaces, or parentheses behind backslashes. Such text is read
where the user names its format, and refused otherwise: taken for the grammar it would give nonsense labels.
"""

from __future__ import annotations

import ast
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from data.names import line_problem, nfc
from data.side_files import parse_json
from utils import UserError

DEFAULT_DELIMITER = ","
Labels = Mapping[str, float]  # label → weight, in order of first mention
LabelFormat = Literal["csv", "danbooru", "json"]

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|[+-]?(nan|inf(inity)?)", re.IGNORECASE)
_LEAST_WEIGHT, _MOST_WEIGHT = 1e-30, 1e30  # float32 can hold them, their sums and their shares
_ESCAPE = re.compile(r"\\([()\[\]{}<>_:,'\"\\])")
_LIST = re.compile(r"\s*[\[{]\s*(['\"]|[\]}]\s*$)")
_QUOTED = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_PYTHON_LIST = re.compile(rf"\[\s*(?:{_QUOTED}\s*(?:,\s*{_QUOTED}\s*)*(?:,\s*)?)?\]", re.DOTALL)
SPACED_TAGS = "tags with spaces between them"
_BARE_WEIGHT = re.compile(r".*[^:\s]\s*:\s*[0-9]*\.[0-9]+")


@dataclass(frozen=True, kw_only=True)
class LabelGrammar:
    """How label text is read.

    Attributes:
        delimiter: separates labels.
        format: csv is the grammar above. danbooru: spaces separate tags where the text lacks the delimiter, and a
            backslash before a parenthesis and the like is none of the tag. json: a list of labels, as pandas writes it,
            too, or an object of weights by label. None is csv, but text that looks like another format is refused.
        normalize: labels get the normal form of tags: without backslash escapes, `_` in place of spaces.
    """

    delimiter: str = DEFAULT_DELIMITER
    format: LabelFormat | None = None
    normalize: bool = False



# ---- the grammar -----------------------------------------------------------------------------------------------------


def read_labels(text: str, grammar: LabelGrammar) -> dict[str, float]:
    """Label → weight of a text such as `(re:zero:1.4),artist_C`; none of an empty list. Labels come out in NFC.

    Raises:
        UserError: no label, an empty one, one that no line can hold, or a weight that is not a positive number; or the
            text is not in the format, or without one looks like another format.
    """
    check_delimiter(grammar.delimiter)
    weights: dict[str, float] = {}
    for entry in _split(text, grammar):
        label, weight = _parse_entry(entry.strip())
        if grammar.format == "danbooru" or grammar.normalize:
            label = _ESCAPE.sub(r"\1", label)
        label = nfc("_".join(label.split()) if grammar.normalize else label)
        _check_label(label, grammar.delimiter)
        weights[label] = _checked_weight(weights.get(label, 0.0) + _checked_weight(weight, entry), entry)
    return weights


def _split(text: str, grammar: LabelGrammar) -> list[str]:
    """The entries, each a label or a `(label:number)`."""
    if grammar.format is None and (foreign := _find_foreign(text, grammar)):
        raise looks_foreign(text, *foreign)
    if grammar.format == "json":
        return _list_entries(text)
    if grammar.format == "danbooru" and grammar.delimiter not in text:
        return text.split() or [text]
    entries = text.split(grammar.delimiter)
    return entries[:-1] if len(entries) > 1 and not entries[-1].strip() else entries


def format_labels(labels: Labels, delimiter: str = DEFAULT_DELIMITER) -> str:
    """The text that `read_labels` reads as `labels`, in the format csv; weights of 1 are omitted where possible.

    Raises:
        UserError: a label holds the delimiter, or cannot be a label.
    """
    check_delimiter(delimiter)
    for label in labels:
        _check_label(label, delimiter)
    grammar = LabelGrammar(delimiter=delimiter)
    return delimiter.join(
        label if weight == 1 and _parse_entry(label) == (label, 1.0) and not _find_foreign(label, grammar) else
        f"({label}:{repr(float(weight)).removesuffix('.0')})" for label, weight in labels.items())


def check_delimiter(delimiter: str) -> None:
    """Refuse a delimiter that weighted labels may hold.

    Raises:
        UserError: it is empty, or holds a letter, a digit, white space other than a tab, or one of ().:+-.
    """
    if not delimiter or any(sign.isalnum() or (sign.isspace() and sign != "\t") or sign in "().:+-"
                            for sign in delimiter):
        raise UserError(f"the delimiter {delimiter!r}", "signs such as , ; | or a tab; no letters, digits, spaces or "
                        "().:+-, which labels and weights need", "name another --label-delimiter")


def _parse_entry(entry: str) -> tuple[str, float]:
    if entry.startswith("(") and entry.endswith(")"):
        label, colon, number = entry[1:-1].rpartition(":")
        if colon and _NUMBER.fullmatch(number.strip()):
            return label.strip(), float(number)
    return entry, 1.0


def _check_label(label: str, delimiter: str) -> None:
    if not label.strip():
        raise UserError("an empty label", "a name between two delimiters", "write it, or remove a delimiter")
    if delimiter in label:
        raise UserError(f"the label {label!r}, which holds the delimiter {delimiter!r}", "a delimiter that no label "
                        "holds", "name another --label-delimiter")
    if line_problem(label):
        raise UserError(f"the label {label!r}, which holds a control character", "a name on one line", "rename it")


def _checked_weight(weight: float, entry: str) -> float:
    if not (math.isfinite(weight) and _LEAST_WEIGHT <= weight <= _MOST_WEIGHT):
        raise UserError(f"the weight {weight:g} of {entry.strip()!r}", "a number above 0",
                        "correct it, or add a weight of its own if this is a label: ((a:0):1)")
    return weight


def weight_notes(labels: Iterable[str]) -> list[str]:
    """One line if some `labels` end like `a:0.7`: a label here, a weight in other programs."""
    found = dict.fromkeys(label for label in labels if _BARE_WEIGHT.fullmatch(label))
    first = next(iter(found), None)
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return [] if first is None else [
        f"note: {first!r}{more} is taken for a label as it stands; a weight is written ({first})"]


# ---- other programs' formats -----------------------------------------------------------------------------------------


def is_list(text: str) -> bool:
    """Whether `text` begins like a list of quoted labels, in JSON or Python."""
    return bool(_LIST.match(text))


def looks_foreign(text: str, what: str, name: LabelFormat) -> UserError:
    """The error of a text that looks like `what`, which the format `name` reads."""
    return UserError(f"{text[:60]!r}, which looks like {what}", "labels with the delimiter between them",
                     f"give --label-format {name} to read it as such, or --label-format csv to take it as it stands")


def _find_foreign(text: str, grammar: LabelGrammar) -> tuple[str, LabelFormat] | None:
    if is_list(text):
        return "a list of JSON or pandas", "json"
    if not grammar.normalize and _ESCAPE.search(text):
        return "tags with backslash escapes", "danbooru"
    words = _spaced_words(text, grammar.delimiter)
    return (SPACED_TAGS, "danbooru") if words and all("_" in word for word in words) else None


def _spaced_words(text: str, delimiter: str) -> list[str]:
    """The words of a text without delimiter and weight; none if it is a single one."""
    words = text.split()
    is_plain = delimiter not in text and _parse_entry(text.strip())[0] == text.strip()
    return words if len(words) > 1 and is_plain else []


def find_spaced_tags(files: Sequence[Sequence[str]], delimiter: str) -> set[str]:
    """The lines that look like tags with spaces between them, judged by the other files.

    Each word of such a line holds `_`, or is a label of its own in most of the files without this line; lines whose
    words partly hold `_` count as labels, too. `Vincent van Gogh` is one label.

    Args:
        files: the lines of each file.
        delimiter: separates labels; a line with it is none of tags.
    """
    spaced = [{line: words for line in file if (words := _spaced_words(line, delimiter))} for file in files]
    repeats = Counter(line for lines in spaced for line in lines)
    holders: Counter[str] = Counter()
    for file, lines in zip(files, spaced, strict=True):
        labels = {entry.strip() for line in file if line not in lines for entry in line.split(delimiter)}
        labels.update(word for words in lines.values() if any("_" in word for word in words) for word in words)
        holders.update(labels)
    found: set[str] = set()
    for line, words in {line: words for lines in spaced for line, words in lines.items()}.items():
        others = len(files) - repeats[line]
        own = repeats[line] if any("_" in word for word in words) else 0
        if all("_" in word or 2 * (holders[word] - own) > others for word in words):
            found.add(line)
    return found


def _list_entries(text: str) -> list[str]:
    kind: Any = list[str] | dict[str, float]
    try:
        try:
            content = parse_json(text, kind)
        except ValueError:
            if not _PYTHON_LIST.fullmatch(text.strip()):
                raise
            content = [ast.literal_eval(item) for item in re.findall(_QUOTED, text)]
    except (ValueError, SyntaxError) as error:
        raise UserError(f"{text[:60]!r}, which is no list of labels ({error})",
                        'JSON: ["a", "b"], or {"a": 0.7, "b": 0.3} with weights; or a list as pandas writes it',
                        "correct it, or see --label-format") from error
    return content if isinstance(content, list) else [f"({label}:{weight!r})" for label, weight in content.items()]
