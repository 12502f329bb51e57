r"""The manual says what the scripts do: flags, commands, files, links and pictures exist, and both languages agree.

What README.md, README.zh-CN.md, docs/ and docs/zh/ keep to, so that this can be checked:

- docs/flags.md is what tests/flag_tables.py makes of the parsers. docs/zh/flags.md is written by hand: a script's flags
  stand in a table below a heading, and before the next one, that consists of the script's path, as in
  `### tools/compare_vectors.py`. The first column holds the flags in backticks, a flag and its further spellings or its
  `--no-` form in one cell. Every script has such a section; one without flags needs no table. A line there that begins
  with a link to another script's section, as in `[train.py](#trainpy): ...`, shares the flags of its table.
- Commands stand in fenced blocks, whose fences begin their lines. A line of a command may go on with `\`, a backtick or
  `^` at its end. What follows the name of a script up to the end of the command is that script's, which must take it.
- A flag in backticks in running text, such as `--lr`, is a flag of some script; a path there that ends in `.py`, `.sh`
  or `.bat` exists, unless it is one that a command writes.
- A link leads to a file or a heading that exists. A picture has at most 300 kB.
- Each README names every script. A page and its translation have the same headings by level and blocks by mark.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.flag_tables import ROOT, SCRIPTS, flags_of, markdown, parser_of
from utils import UserError

READMES = ("README.md", "README.zh-CN.md")
PAGES = sorted(path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").glob("*.md"))
MANUAL = (*READMES, *(f"{folder}/{page}" for folder in ("docs", "docs/zh") for page in PAGES))
LINKED = (*MANUAL, "ARCHITECTURE.md", "BENCHMARKS.md", "CHANGELOG.md", "CONTRIBUTING.md")
PAIRS = (READMES, *((f"docs/{page}", f"docs/zh/{page}") for page in PAGES if page != "flags.md"))
WRITTEN = {"example.py"}  # by an export
PICTURE_KB = 300
FLAG = re.compile(r"--[A-Za-z][\w-]*")
LAUNCHER = {"--nnodes", "--node-rank", "--master-addr", "--master-port", "--max-restarts",
            "--standalone", "--requeue"}  # torchrun's and SLURM's own
Flags = Mapping[str, list[list[str]]]  # script: for each flag its spellings, the one to document first


@dataclass
class Document:
    """What is checked of a Markdown file."""

    headings: list[tuple[int, str]] = field(default_factory=list)  # level and text
    blocks: list[tuple[str, str]] = field(default_factory=list)  # mark and text of the fenced blocks
    tables: dict[str, list[str]] = field(default_factory=dict)  # script: flags of its table
    shares: dict[str, str] = field(default_factory=dict)  # script: the one whose table it shares
    prose: list[str] = field(default_factory=list)  # the lines outside blocks


def parsed(text: str, scripts: Collection[str]) -> Document:
    document, section, parts = Document(), "", re.split(r"^(```.*)$", text, flags=re.MULTILINE)
    for number in range(0, len(parts), 4):  # text, opening fence, block, closing fence
        for line in parts[number].splitlines():
            document.prose.append(line)
            if heading := re.fullmatch(r"(#+) +(.*)", line):
                document.headings.append((len(heading[1]), heading[2]))
                section = heading[2].strip("` ")
                if section in scripts:
                    document.tables[section] = []
            elif line.startswith("|") and section in scripts:
                document.tables[section] += FLAG.findall(line.split("|")[1])
            elif section in scripts and (link := re.match(r"\[`?([\w./]+)`?\]\(#", line)):
                document.shares[section] = link[1]
        if number + 2 < len(parts):
            document.blocks.append((parts[number + 1].strip("` "), parts[number + 2]))
    return document


@pytest.fixture(scope="module")
def parsers() -> dict[str, argparse.ArgumentParser]:
    return {script: parser_of(script) for script in SCRIPTS}


@pytest.fixture(scope="module")
def flags(parsers: dict[str, argparse.ArgumentParser]) -> Flags:
    return {script: list(flags_of(parser)) for script, parser in parsers.items()}


# ---- the checks: each returns complaints -----------------------------------------------------------------------------


def faults_of_tables(document: Document, flags: Flags, root: Path) -> list[str]:
    faults = [f"{script} has no section with its path as heading" for script in flags if script not in document.tables]
    for script, listed in document.tables.items():
        known = {name for names in flags[script] for name in names}
        faults += [f"{script}: {name} is in the table, not in the parser" for name in listed if name not in known]
        everything = [*listed, *document.tables.get(document.shares.get(script, ""), [])]
        faults += [f"{script}: {names[0]} is in the parser, not in the table" for names in flags[script]
                   if names[0] not in everything]
    return faults


def commands(document: Document, flags: Flags) -> Iterable[tuple[str, list[str], str]]:
    """Script, arguments and whole text of the documented commands."""
    for mark, text in document.blocks:
        for command in re.sub(r"[ \t][\\`^][ \t]*\n", " ", text).splitlines():
            line = command.partition(" #")[0].removesuffix(" &")
            words = [word.removeprefix("./") for word in
                     (shlex.split(line) if mark in ("bash", "batch", "powershell") else line.split())]
            script = next((word for word in words if word.replace("\\", "/") in flags), "quickstart.py")
            if script != "quickstart.py":  # its test passes everything on to pytest
                yield script, words[words.index(script) + 1:], command


def faults_of_commands(document: Document, flags: Flags, root: Path) -> list[str]:
    known = {script: {name for names in several for name in names} for script, several in flags.items()}
    return [f"{script} has no {match[0]}: {command}" for script, words, command in commands(document, flags)
            for word in words if (match := FLAG.match(word)) and hyphened(match[0]) not in known[script]]


def hyphened(name: str) -> str:
    return name.replace("_", "-")


def faults_of_prose(document: Document, flags: Flags, root: Path) -> list[str]:
    known = {"--help", "--help-all"} | LAUNCHER.union(
        name for several in flags.values() for names in several for name in names)
    codes = [code for line in document.prose for code in re.findall(r"`([^`]+)`", line)]
    return [f"no script has {match[0]}" for code in codes
            if (match := FLAG.match(code)) and hyphened(match[0]) not in known]


def faults_of_paths(document: Document, flags: Flags, root: Path) -> list[str]:
    codes = [code for line in document.prose for code in re.findall(r"`([\w./]+\.(?:py|sh|bat))`", line)]
    return [f"{code} does not exist" for code in codes if code not in WRITTEN and not (root / code).exists()]


def faults_of_links(document: Document, flags: Flags, root: Path) -> list[str]:
    faults, own = [], anchors(document)
    for picture, target, place in (found for line in document.prose
                                   for found in re.findall(r"(!?)\[[^\]]*\]\(([^)#]*)(?:#([^)]*))?\)", line)):
        if re.match(r"\w+:", target):
            continue
        path = root / target
        if target and not path.exists():
            faults.append(f"the link {target} leads nowhere")
        elif (place and path.suffix == ".md") or (place and not target):
            there = anchors(parsed(path.read_text(encoding="utf-8"), ())) if target else own
            faults += [] if place in there else [f"{target}#{place} is no heading"]
        elif picture and path.stat().st_size > PICTURE_KB * 1000:
            faults.append(f"the picture {target} has {path.stat().st_size // 1000} kB, more than {PICTURE_KB}")
    return faults


def anchors(document: Document) -> set[str]:
    """What GitHub makes of headings: small letters and digits of any script, hyphens for spaces."""
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).strip().lower() for _, text in document.headings]
    return {re.sub(r"[^\w\- ]", "", text).replace(" ", "-") for text in plain}


CHECKS = (faults_of_commands, faults_of_prose, faults_of_paths)


def differences(first: Document, second: Document) -> list[str]:
    pairs = {"levels of headings": ([level for level, _ in first.headings], [level for level, _ in second.headings]),
             "marks of blocks": ([mark for mark, _ in first.blocks], [mark for mark, _ in second.blocks])}
    return [f"different {what}: {one} and {other}" for what, (one, other) in pairs.items() if one != other]


def document_of(name: str) -> Document:
    return parsed((ROOT / name).read_text(encoding="utf-8"), SCRIPTS)


# ---- the manual ------------------------------------------------------------------------------------------------------


def test_the_scripts_are_found() -> None:
    assert {"quickstart.py", "prepare_dataset.py", "train_artist_style.py", "inference_artist.py"} <= set(SCRIPTS)


def test_the_pages_are_those_of_both_languages() -> None:
    assert sorted(path.name for path in (ROOT / "docs" / "zh").glob("*.md")) == PAGES


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", MANUAL)
def test_what_a_page_says_is_so(name: str, check: Callable[..., list[str]], flags: Flags) -> None:
    faults = check(document_of(name), flags, ROOT)
    assert not faults, "\n" + "\n".join(faults)


@pytest.mark.parametrize("name", LINKED)
def test_links_lead_somewhere_and_pictures_are_small(name: str, flags: Flags) -> None:
    faults = faults_of_links(document_of(name), flags, (ROOT / name).parent)
    assert not faults, "\n" + "\n".join(faults)


@pytest.mark.parametrize("name", MANUAL)
def test_a_script_takes_the_commands_that_name_it(
        name: str, parsers: dict[str, argparse.ArgumentParser], flags: Flags, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for script, words, command in commands(document_of(name), flags):
        try:
            parsers[script.replace("\\", "/")].parse_args(words)
        except UserError as error:
            pytest.fail(f"{command}: {error}")


def test_the_table_of_flags_is_that_of_the_parsers() -> None:
    assert (ROOT / "docs" / "flags.md").read_text(encoding="utf-8") == markdown(), "python -m tests.flag_tables"


def test_the_chinese_table_of_flags_has_every_flag_and_no_other(flags: Flags) -> None:
    faults = faults_of_tables(document_of("docs/zh/flags.md"), flags, ROOT)
    assert not faults, "\n" + "\n".join(faults)


@pytest.mark.parametrize("name", READMES)
def test_a_readme_names_every_script(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert [script for script in SCRIPTS if script not in text] == []


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[0])
def test_a_page_and_its_translation_have_the_same_parts(pair: tuple[str, str]) -> None:
    assert not differences(*map(document_of, pair))


# ---- the checks can fail ---------------------------------------------------------------------------------------------

EVERY = (faults_of_tables, *CHECKS, faults_of_links)
FLAGS = {"main.py": [["--lr", "--rate"], ["--pin-mem", "--no-pin-mem"]], "tools/one.py": [["--lr", "--rate"]]}
SOUND = """# Title
See [the rules](notes/rules.md#one) and [elsewhere](https://example.org); `--lr 1` and `pip --upgrade`.
### main.py
| flag | meaning |
| --- | --- |
| `--lr`, `--rate` | not `--rate` |
| `--pin-mem`, `--no-pin-mem` | |
```bash
torchrun --nproc_per_node=2 main.py --lr 1 \\
  --no_pin_mem  # --remark
```
### `tools/one.py`
[main.py](#mainpy): its flags.
See `tools/one.py`, [the title](#title) and ![a picture](notes/small.png).
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with one script, one tool, one document and one picture."""
    for path in ("main.py", "notes/rules.md", "notes/small.png", "tools/one.py"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("# One" if path.endswith(".md") else "", encoding="ascii")
    return tmp_path


def test_a_sound_document_passes(root: Path) -> None:
    assert not [fault for check in EVERY for fault in check(parsed(SOUND, FLAGS), FLAGS, root)]


@pytest.mark.parametrize(("sound", "broken", "fault"), [
    ("### main.py", "### Main", "main.py has no section"),
    ("| `--lr`, `--rate`", "| `--rate`", "main.py: --lr is in the parser, not in the table"),
    ("| `--lr`, ", "| `--lr`, `--batch`, ", "main.py: --batch is in the table, not in the parser"),
    ("--lr 1 \\", "--lt 1 \\", "main.py has no --lt: torchrun"),
    ("--no_pin_mem", "--no_pin", "main.py has no --no_pin: torchrun"),
    ("[main.py](#mainpy): its flags.\n", "", "tools/one.py: --lr is in the parser, not in the table"),
    ("`--lr 1`", "`--lt 1`", "no script has --lt"),
    ("`tools/one.py`, [", "`tools/two.py`, [", "tools/two.py does not exist"),
    ("(notes/rules.md", "(notes/rule.md", "the link notes/rule.md leads nowhere"),
    ("rules.md#one", "rules.md#two", "notes/rules.md#two is no heading"),
    ("(#title)", "(#tittle)", "#tittle is no heading"),
])
def test_a_broken_document_is_refused(root: Path, sound: str, broken: str, fault: str) -> None:
    assert sound in SOUND
    document = parsed(SOUND.replace(sound, broken), FLAGS)
    faults = [told for check in EVERY for told in check(document, FLAGS, root)]
    assert any(told.startswith(fault) for told in faults), faults


@pytest.mark.parametrize(("sound", "broken"), [("# Title", "## Title"), ("```bash", "```cmd")])
def test_languages_that_differ_are_refused(sound: str, broken: str) -> None:
    assert len(differences(parsed(SOUND, FLAGS), parsed(SOUND.replace(sound, broken), FLAGS))) == 1


def test_a_large_picture_is_refused(root: Path) -> None:
    (root / "notes" / "small.png").write_bytes(bytes(PICTURE_KB * 1000 + 1))
    faults = faults_of_links(parsed(SOUND, FLAGS), FLAGS, root)
    assert faults == ["the picture notes/small.png has 300 kB, more than 300"]
