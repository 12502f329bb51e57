"""Rules 1 to 6 of ARCHITECTURE.md as functions from one `Source` to complaints (line, what is wrong and what to do).

They read the syntax tree and never import the file. `test_architecture.py` runs them and shows that each can fail.
"""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Each room may import the rooms of the lines before its own; rooms of one line are blind to one another.
ORDER = (
    ("utils",),
    ("data", "model", "losses", "robust_utils"),
    ("runtime",),
    ("drawing", "search"),
    ("evaluation",),
    ("training", "inference"),
    ("detection", "export", "serving"),
    ("bench",),
)
RANKS = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}
COMMANDS = len(ORDER)  # the rank of every other file at the top, and of tools/
ALSO_ALLOWED = {("robust_utils", "data")}
FUNCTION_LINES, COMPLEXITY = 50, 10
# Where argparse ends; old checkpoints hold a Namespace, too.
NAMESPACE_ROOMS = ("runtime/options.py", "runtime/arguments.py", "runtime/checkpoint.py")
OWNERS = (  # what is called or imported, the only file that may, what others do instead
    (r"torch\.(load|save)", "runtime/checkpoint.py", "use read_checkpoint and save_checkpoint"),
    (r"(.*\.)?Image\.open", "data/images.py", "use decode_image of data/images.py"),
    (r"(pickle|dill|joblib|marshal|shelve)(\..*)?", "runtime/checkpoint.py", "store tensors and plain Python instead"),
    (r"safetensors(\..*)?", "runtime/checkpoint.py", "use read_checkpoint and publish_best"),
    (r"triton(\..*)?", "model/ska_triton.py", "a machine without Triton imports everything else"),
    (r"csv(\..*)?", "data/csv_files.py", "use read_rows and write_rows of data/csv_files.py"),
    (r"(np|numpy)\.savez?\w*", "utils.py", "use utils.write_array"),
    (r"(.*\.)?add_safe_globals", "", "it acts on the whole process; use torch.serialization.safe_globals in a with"),
)
IMAGE_SUFFIX = re.compile(r"\.(jpe?g|png|webp|bmp|gif|tiff?)", re.IGNORECASE)
FORMATS = re.compile(r"(PIL|csv|pickle|safetensors|torchvision|torch\.utils\.data|argparse)(\..*)?")
FORMAT_CALLS = re.compile(r"open|json\.\w+|(np|numpy)\.(load|save\w*)|.*\.(open|(read|write)_(text|bytes))")
UPDATES = re.compile(r".*\.(backward|zero_grad|step)")
Complaints = Iterator[tuple[int, str]]
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Source:
    """One file: its path below the root, `/`-separated, and its text."""

    path: str
    text: str

    @functools.cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @property
    def room(self) -> str:
        """The folder at the top, or the name of a file there."""
        return self.path.removesuffix(".py").partition("/")[0]

    @property
    def module(self) -> str:
        """Dotted name, as others import it."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def is_test(self) -> bool:
        return self.room == "tests"

    @property
    def is_command(self) -> bool:
        return not self.is_test and self.room not in RANKS and self.path not in ("hubconf.py", "tools/__init__.py")

    @property
    def stands_alone(self) -> bool:
        """Runs before anything is installed, so it has the standard library only."""
        return self.path == "quickstart.py"

    def nodes(self, *kinds: type[ast.AST]) -> Iterator[ast.AST]:
        return (node for node in ast.walk(self.tree) if isinstance(node, kinds))

    def imports(self) -> Iterator[tuple[ast.stmt, str]]:
        """Every import as (statement, dotted name down to what is imported); relative ones start with a dot."""
        for node in self.nodes(ast.Import, ast.ImportFrom):
            start = "." * node.level + f"{node.module or ''}." if isinstance(node, ast.ImportFrom) else ""
            yield from ((node, start + alias.name) for alias in node.names)

    def calls(self) -> Iterator[tuple[int, str]]:
        return ((node.lineno, ast.unparse(node.func)) for node in self.nodes(ast.Call))


# ---- the rules -------------------------------------------------------------------------------------------------------


def commands_parse_wire_print(source: Source) -> Complaints:
    """Rule 1."""
    if not source.is_command:
        return
    functions = {node.name: node for node in source.tree.body if isinstance(node, ast.FunctionDef)}
    if "build_parser" not in functions:
        yield 1, "has no build_parser(): make one that returns the Parser, so that tests and documents can read it"
    main = functions.get("main")
    if main is None or [ast.unparse(default) for default in main.args.defaults] != ["None"]:
        yield 1, "has no main(argv=None): make one that returns the exit code"
    elif not source.stands_alone and "command" not in map(ast.unparse, main.decorator_list):
        yield main.lineno, "main lacks @command: without it a user's error shows a traceback"
    for statement in source.tree.body:
        if not _rests_at_import(statement, source):
            yield statement.lineno, "runs at import: move it into a function"
    if not source.stands_alone:
        yield from _formats_and_loops(source)


def _rests_at_import(node: ast.stmt, source: Source) -> bool:
    if isinstance(node, ast.If):
        return ast.unparse(node.test) in ("__name__ == '__main__'", "TYPE_CHECKING")
    if isinstance(node, ast.Assign | ast.AnnAssign):
        calls = {ast.unparse(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)}
        return all(re.fullmatch(r"Path|Path\(__file__\)\.resolve|frozenset", call) for call in calls)
    if isinstance(node, ast.Expr):
        way_to_root = source.room == "tools" and ast.unparse(node).startswith("sys.path.insert(")
        return isinstance(node.value, ast.Constant) or way_to_root
    return isinstance(node, ast.Import | ast.ImportFrom | ast.ClassDef | FUNCTIONS[0] | FUNCTIONS[1])


def _formats_and_loops(source: Source) -> Complaints:
    for node, name in source.imports():
        if FORMATS.fullmatch(name):
            yield node.lineno, f"imports {name}: a command knows no format; call the module that owns it"
    for line, name in source.calls():
        if FORMAT_CALLS.fullmatch(name):
            yield line, f"calls {name}: reading and writing belongs to the format's owner or utils.write_*"
        if UPDATES.fullmatch(name):
            yield line, f"calls {name}: updates belong to training/engine.py"
    for node in source.nodes(ast.For, ast.comprehension):
        if re.search(r"loader|batch", ast.unparse(node.iter)):
            yield node.iter.lineno, "loops over batches: that belongs to training/engine.py or inference/predictor.py"


def namespace_ends_in_options(source: Source) -> Complaints:
    """Rule 2."""
    if source.is_test or source.path in NAMESPACE_ROOMS:
        if source.path == "runtime/options.py":
            for node in source.nodes(ast.ClassDef):
                if "dataclass(frozen=True, kw_only=True)" not in map(ast.unparse, node.decorator_list):
                    yield node.lineno, f"{node.name} is not a @dataclass(frozen=True, kw_only=True)"
        return
    advice = "below runtime/options.py travel option groups; take one of those"
    for node in source.nodes(ast.arg):
        if node.annotation and "Namespace" in ast.unparse(node.annotation):
            yield node.lineno, f"{node.arg} is a Namespace: {advice}"
    if not source.is_command:
        yield from ((node.lineno, f"imports {name}: {advice}") for node, name in source.imports()
                    if name.partition(".")[0] == "argparse")
        yield from ((line, f"calls {name}: {advice}") for line, name in source.calls() if name.endswith(".parse_args"))


def imports_point_down(source: Source) -> Complaints:
    """Rule 3, between rooms; `circles` looks inside them."""
    if source.is_test:
        return
    here, commands = RANKS.get(source.room, COMMANDS), {path.stem for path in ROOT.glob("*.py")} | {"tools"}
    for node, name in source.imports():
        room = name.partition(".")[0]
        there = RANKS.get(room, COMMANDS if room in commands else -1)
        if not room:
            yield node.lineno, "imports relatively: write the name from the root, as in `from model.ska import ska`"
        elif source.stands_alone and room not in sys.stdlib_module_names | {"__future__"}:
            yield node.lineno, f"imports {name}: this file runs before anything is installed"
        elif (there >= here and (room != source.room or room == "tools")
              and (source.room, room) not in ALSO_ALLOWED):
            yield node.lineno, (f"imports {name} into {source.room}: imports point down, and rooms of one rank are "
                                "blind to each other; move what both need below, or pass it as an argument")
        elif name.startswith("model.ska_triton") and not _is_deferred(source, node):
            yield node.lineno, "imports ska_triton at the top: do it inside a function, for machines without Triton"


def _is_deferred(source: Source, node: ast.stmt) -> bool:
    return any(node in ast.walk(function) for function in source.nodes(*FUNCTIONS))


def circles(sources: Sequence[Source]) -> list[str]:
    """Files that import one another in a circle, each circle as `a -> b -> a`; imports inside functions count too."""
    modules = {source.module for source in sources if not source.is_test}
    graph = {source.module: {target for _, name in source.imports() if (target := _imported(name, modules))}
             - {source.module} for source in sources if not source.is_test}
    done: set[str] = set()
    return [circle for module in sorted(graph) for circle in _circles_from(module, graph, (), done)]


def _imported(name: str, modules: set[str]) -> str | None:
    """The module of the project that the dotted `name` of an import reaches, if any."""
    return next((candidate for candidate in (name, name.rpartition(".")[0]) if candidate in modules), None)


def _circles_from(module: str, graph: Mapping[str, set[str]], path: tuple[str, ...], done: set[str]) -> Iterator[str]:
    if module in path:
        yield " -> ".join([*path[path.index(module):], module])
    elif module not in done:
        for target in sorted(graph[module]):
            yield from _circles_from(target, graph, (*path, module), done)
        done.add(module)


def dangerous_calls_have_one_owner(source: Source) -> Complaints:
    """Rule 4. In tests only what is unsafe is refused; they build and open files of every kind."""
    for node in source.nodes(ast.keyword):
        if f"{node.arg}={ast.unparse(node.value)}" in ("weights_only=False", "allow_pickle=True"):
            yield node.value.lineno, f"{ast.unparse(node)} runs code from a file: allow single types, or refuse it"
    uses = [*source.calls(), *((node.lineno, name) for node, name in source.imports())]
    for pattern, owner, advice in OWNERS:
        if source.path != owner and not (source.is_test and owner):
            yield from ((line, f"uses {name}: {advice}") for line, name in uses if re.fullmatch(pattern, name))
    if source.is_test:
        return
    texts = {node.value: node.lineno for node in source.nodes(ast.Constant) if isinstance(node.value, str)}
    header = texts.get("class_id,class_name")
    if header and source.path != "data/class_mapping.py":
        yield header, "knows the columns of class_mapping.csv: use data/class_mapping.py"
    for node in source.nodes(ast.List, ast.Set, ast.Tuple):
        suffixes = [item for item in node.elts if isinstance(item, ast.Constant) and isinstance(item.value, str)
                    and IMAGE_SUFFIX.fullmatch(item.value)]
        if len(suffixes) > 1 and source.path != "data/images.py":
            yield node.lineno, "lists image extensions: use IMAGE_EXTENSIONS of data/images.py"


def functions_stay_small(source: Source) -> Complaints:
    """Rule 5."""
    if Path(source.path).stem.strip("_") in ("common", "helper", "helpers", "misc"):
        yield 1, "a name that says nothing about what is inside: name the noun"
    branches = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.match_case)
    for node in source.nodes(*FUNCTIONS):
        length = node.end_lineno - node.lineno + 1
        complexity = 1 + sum(isinstance(inner, branches) for inner in ast.walk(node))
        if length > FUNCTION_LINES:
            yield node.lineno, f"{node.name} has {length} lines, at most {FUNCTION_LINES}: split it"
        if complexity > COMPLEXITY:
            yield node.lineno, f"{node.name} has complexity {complexity}, at most {COMPLEXITY}: split it"


def everything_public_is_documented(source: Source) -> Complaints:
    """Rule 6. A test's name says what it shows, so tests need a docstring for the file only."""
    public: list[ast.AST] = [source.tree]
    if not source.is_test:
        for node in public:  # grows while it is read: a public class adds its methods
            if isinstance(node, ast.Module | ast.ClassDef):
                public += [inner for inner in node.body if isinstance(inner, (*FUNCTIONS, ast.ClassDef))
                           and not inner.name.startswith("_")]
    for node in public:
        if not ast.get_docstring(node):
            yield getattr(node, "lineno", 1), f"{getattr(node, 'name', 'file')} has no docstring: say what it is for"
