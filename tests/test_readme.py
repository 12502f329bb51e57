r"""Both READMEs say what the scripts do: flags, commands, files and links exist, and the two languages agree.

What README.md and README.zh-CN.md keep to, so that this can be checked:

- A script's flags stand in a table below a heading, and before the next one, that consists of the script's path, as in
  `### tools/compare_vectors.py`. The first column holds the flags in backticks, a flag and its further spellings or its
  `--no-` form in one cell. Every script has such a section; one without flags needs no table. A line there that begins
  with a link to another script's section, as in `[train.py](#trainpy): ...`, shares the flags of its table.
- Commands stand in fenced blocks, whose fences begin their lines. A line of a command may go on with `\`, a backtick or
  `^` at its end. What follows the name of a script up to the end of the command is that script's.
- A flag in backticks in running text, such as `--lr`, is a flag of some script.
- The tree of the project is the fenced block marked `tree`: `├──` and `└──` before a name, four characters for each
  level, `#` before a remark. A folder without entries of its own stands for all that is in it.
- The two files have the same headings by level, blocks by mark, and flags by script in the same order.
"""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LANGUAGES = ("README.md", "README.zh-CN.md")
SCRIPTS = sorted(path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.py"), *(ROOT / "tools").glob("*.py"))
                 if "def build_parser(" in path.read_text(encoding="utf-8"))
FLAG = re.compile(r"--[A-Za-z][\w-]*")
LAUNCHER = {"--nnodes", "--node-rank", "--master-addr", "--master-port", "--max-restarts"}  # torchrun's own
Flags = Mapping[str, list[list[str]]]  # script: for each flag its spellings, the one to document first


@dataclass
class Document:
    """What is checked of a Markdown file."""

    levels: list[int] = field(default_factory=list)  # of the headings
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
                document.levels.append(len(heading[1]))
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
def flags() -> Flags:
    return {script: spellings(importlib.import_module(script.removesuffix(".py").replace("/", ".")).build_parser())
            for script in SCRIPTS}


def spellings(parser: argparse.ArgumentParser) -> list[list[str]]:
    found = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found += [names for inner in action.choices.values() for names in spellings(inner)]
        elif not isinstance(action, argparse._HelpAction) and action.option_strings:
            found.append([name for name in action.option_strings if name.startswith("--")])
    return found


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


def faults_of_commands(document: Document, flags: Flags, root: Path) -> list[str]:
    faults = []
    for _, text in document.blocks:
        for command in re.sub(r"[ \t][\\`^][ \t]*\n", " ", text).splitlines():
            words = [word.replace("\\", "/").removeprefix("./") for word in command.partition(" #")[0].split()]
            script = next((word for word in words if word in flags), "quickstart.py")
            if script != "quickstart.py":  # its test passes everything on to pytest
                known = {name for names in flags[script] for name in names}
                given = [match[0] for word in words[words.index(script):] if (match := FLAG.match(word))]
                faults += [f"{script} has no {name}: {command}" for name in given if hyphened(name) not in known]
    return faults


def hyphened(name: str) -> str:
    return name.replace("_", "-")


def faults_of_prose(document: Document, flags: Flags, root: Path) -> list[str]:
    known = {"--help", "--help-all"} | LAUNCHER.union(
        name for several in flags.values() for names in several for name in names)
    codes = [code for line in document.prose for code in re.findall(r"`([^`]+)`", line)]
    return [f"no script has {match[0]}" for code in codes
            if (match := FLAG.match(code)) and hyphened(match[0]) not in known]


def faults_of_tree(document: Document, flags: Flags, root: Path) -> list[str]:
    trees = [text for mark, text in document.blocks if mark == "tree"]
    if len(trees) != 1:
        return [f"{len(trees)} blocks are marked tree, not one"]
    named, way = [], []
    for line in trees[0].splitlines():
        if entry := re.match(r"((?:│   |    )*)[├└]── ([^#]*)", line):
            way[len(entry[1]) // 4:] = [entry[2].strip().rstrip("/")]
            named.append("/".join(way))
    opened = {path.rpartition("/")[0] for path in named}
    missing = [f"the tree names {path}, which does not exist" for path in named if not (root / path).exists()]
    return missing + [f"the tree does not name {script}" for script in flags if script not in named
                      and ("/" not in script or script.partition("/")[0] in opened)]


def faults_of_links(document: Document, flags: Flags, root: Path) -> list[str]:
    targets = [target for line in document.prose for target in re.findall(r"\]\(([^)#]+)[^)]*\)", line)]
    return [f"the link {target} leads nowhere" for target in targets
            if not re.match(r"\w+:", target) and not (root / target).exists()]


CHECKS = (faults_of_tables, faults_of_commands, faults_of_prose, faults_of_tree, faults_of_links)


def differences(first: Document, second: Document) -> list[str]:
    pairs = {"levels of headings": (first.levels, second.levels), "flags in the tables": (first.tables, second.tables),
             "marks of blocks": ([mark for mark, _ in first.blocks], [mark for mark, _ in second.blocks])}
    return [f"different {what}: {one} and {other}" for what, (one, other) in pairs.items() if one != other]


# ---- the READMEs -----------------------------------------------------------------------------------------------------


def test_the_scripts_are_found() -> None:
    assert {"quickstart.py", "prepare_dataset.py", "train_artist_style.py", "inference_artist.py"} <= set(SCRIPTS)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("language", LANGUAGES)
def test_what_a_readme_says_is_so(language: str, check: Callable[..., list[str]], flags: Flags) -> None:
    faults = check(parsed((ROOT / language).read_text(encoding="utf-8"), SCRIPTS), flags, ROOT)
    assert not faults, "\n" + "\n".join(faults)


def test_the_languages_have_the_same_parts() -> None:
    english, chinese = (parsed((ROOT / name).read_text(encoding="utf-8"), SCRIPTS) for name in LANGUAGES)
    assert not differences(english, chinese)


# ---- the checks can fail ---------------------------------------------------------------------------------------------

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
```tree
├── main.py
├── notes/
│   └── rules.md   # text
└── tools/
```
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with one script, one tool and one document."""
    for path in ("main.py", "notes/rules.md", "tools/one.py"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    return tmp_path


def test_a_sound_document_passes(root: Path) -> None:
    assert not [fault for check in CHECKS for fault in check(parsed(SOUND, FLAGS), FLAGS, root)]


@pytest.mark.parametrize(("sound", "broken", "fault"), [
    ("### main.py", "### Main", "main.py has no section"),
    ("| `--lr`, `--rate`", "| `--rate`", "main.py: --lr is in the parser, not in the table"),
    ("| `--lr`, ", "| `--lr`, `--batch`, ", "main.py: --batch is in the table, not in the parser"),
    ("--lr 1 \\", "--lt 1 \\", "main.py has no --lt: torchrun"),
    ("--no_pin_mem", "--no_pin", "main.py has no --no_pin: torchrun"),
    ("[main.py](#mainpy): its flags.\n", "", "tools/one.py: --lr is in the parser, not in the table"),
    ("`--lr 1`", "`--lt 1`", "no script has --lt"),
    ("```tree", "```text", "0 blocks are marked tree"),
    ("rules.md   #", "rule.md   #", "the tree names notes/rule.md, which does not exist"),
    ("├── main.py\n", "", "the tree does not name main.py"),
    ("└── tools/\n", "└── tools/\n    └── two.py\n", "the tree does not name tools/one.py"),
    ("(notes/rules.md", "(notes/rule.md", "the link notes/rule.md leads nowhere"),
])
def test_a_broken_document_is_refused(root: Path, sound: str, broken: str, fault: str) -> None:
    assert sound in SOUND
    document = parsed(SOUND.replace(sound, broken), FLAGS)
    faults = [told for check in CHECKS for told in check(document, FLAGS, root)]
    assert any(told.startswith(fault) for told in faults), faults


@pytest.mark.parametrize(("sound", "broken"), [("# Title", "## Title"), ("```bash", "```cmd"), ("`--lr`, ", "")])
def test_languages_that_differ_are_refused(sound: str, broken: str) -> None:
    assert len(differences(parsed(SOUND, FLAGS), parsed(SOUND.replace(sound, broken), FLAGS))) == 1
