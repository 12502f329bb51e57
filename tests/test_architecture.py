"""Every rule of `architecture_rules.py` on the whole tree, and on small broken sources that it must refuse."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.architecture_rules import (
    ROOT,
    Complaints,
    Source,
    circles,
    commands_parse_wire_print,
    dangerous_calls_have_one_owner,
    everything_public_is_documented,
    functions_stay_small,
    imports_point_down,
    namespace_ends_in_options,
)

PACKAGES = ("bench", "data", "detection", "drawing", "evaluation", "export", "inference", "model", "runtime", "search",
            "serving", "tests", "tools", "training")
COMMAND = '''"""Doc."""
from utils import command
def build_parser():
    """Doc."""
@command
def main(argv=None):
    """Doc."""
'''
BROKEN = {  # rule: (path, source, how the complaint begins)
    commands_parse_wire_print: [
        ("new.py", "", "1 has no build_parser"),
        ("tools/new.py", "def build_parser(): ...\ndef main(): ...", "1 has no main(argv"),
        ("new.py", COMMAND.replace("@command", ""), "6 main lacks @command"),
        ("new.py", f"{COMMAND}main()", "8 runs at import"),
        ("new.py", f"{COMMAND}SETTINGS = load()", "8 runs at import"),
        ("new.py", f"{COMMAND}sys.path.insert(0, 'x')", "8 runs at import"),
        ("new.py", f"{COMMAND}for x in range(3): print(x)", "8 runs at import"),
        ("new.py", f"{COMMAND}from PIL import Image", "8 imports PIL.Image"),
        ("new.py", f"{COMMAND}import csv", "8 imports csv"),
        ("new.py", f"{COMMAND}import torch.utils.data", "8 imports torch.utils.data"),
        ("new.py", f"{COMMAND}    open('x')", "8 calls open"),
        ("new.py", f"{COMMAND}    np.save('x', y)", "8 calls np.save"),
        ("new.py", f"{COMMAND}    Path('x').read_text()", "8 calls Path('x').read_text"),
        ("new.py", f"{COMMAND}    loss.backward()", "8 calls loss.backward"),
        ("new.py", f"{COMMAND}    for x in loader: pass", "8 loops over batches"),
        ("new.py", f"{COMMAND}    [x for x in batches()]", "8 loops over batches"),
    ],
    namespace_ends_in_options: [
        ("training/engine.py", "import argparse", "1 imports argparse"),
        ("data/new.py", "from argparse import Namespace", "1 imports argparse"),
        ("runtime/new.py", "x = parser.parse_args()", "1 calls parser.parse_args"),
        ("new.py", "def f(args: argparse.Namespace): ...", "1 args is a Namespace"),
        ("runtime/options.py", "@dataclass\nclass A: ...", "2 A is not a @dataclass(frozen"),
    ],
    imports_point_down: [
        ("utils.py", "import losses", "1 imports losses"),
        ("data/new.py", "from runtime import options", "1 imports runtime.options"),
        ("data/new.py", "from model.ska import ska", "1 imports model.ska"),
        ("losses.py", "def f():\n    import data", "2 imports data"),
        ("data/images.py", "import robust_utils", "1 imports robust_utils"),
        ("runtime/new.py", "from training.engine import Run", "1 imports training.engine.Run"),
        ("drawing/plots.py", "from search import vectors", "1 imports search.vectors into drawing"),
        ("search/neighbours.py", "from inference.predictor import Predictor", "1 imports inference.predictor"),
        ("evaluation/new.py", "if TYPE_CHECKING:\n    from training.engine import Run", "2 imports training"),
        ("training/new.py", "def f():\n    from inference.lanes import Lanes", "2 imports inference.lanes"),
        ("inference/new.py", "import bench.cost", "1 imports bench.cost"),
        ("detection/new.py", "from serving.app import x", "1 imports serving.app.x into detection"),
        ("training/new.py", "from detection import boxes", "1 imports detection.boxes into training"),
        ("training/engine.py", "import quickstart", "1 imports quickstart"),
        ("new.py", "import quickstart", "1 imports quickstart"),
        ("tools/new.py", "from tools.old import x", "1 imports tools.old"),
        ("quickstart.py", "from utils import command", "1 imports utils.command"),
        ("data/new.py", "from . import images", "1 imports relatively"),
        ("model/ska.py", "from model.ska_triton import ska", "1 imports ska_triton at the top"),
    ],
    dangerous_calls_have_one_owner: [
        ("training/engine.py", "torch.load('x')", "1 uses torch.load"),
        ("tools/new.py", "torch.save(x, 'x')", "1 uses torch.save"),
        ("training/engine.py", "from torch import load", "1 uses torch.load"),
        ("runtime/new.py", "with Image.open('x') as y: pass", "1 uses Image.open"),
        ("data/new.py", "import pickle", "1 uses pickle"),
        ("runtime/new.py", "def f():\n    import joblib", "2 uses joblib"),
        ("model/ska.py", "import triton.language as tl", "1 uses triton.language"),
        ("runtime/checkpoint.py", "f(x, weights_only=False)", "1 weights_only"),
        ("tests/new.py", "f(x, weights_only=False)", "1 weights_only"),
        ("search/vectors.py", "np.load(x, allow_pickle=True)", "1 allow_pickle"),
        ("training/engine.py", "from safetensors.torch import save_file", "1 uses safetensors.torch"),
        ("tests/new.py", "torch.serialization.add_safe_globals([])", "1 uses torch.serialization.add_safe_globals"),
        ("training/engine.py", "import csv", "1 uses csv"),
        ("bench/new.py", "np.save('x', y)", "1 uses np.save"),
        ("bench/new.py", "numpy.savez_compressed('x', y)", "1 uses numpy.savez_compressed"),
        ("training/engine.py", "x = 'class_id,class_name'", "1 knows the columns"),
        ("data/demo/artists.py", "x = {'.jpg', '.PNG'}", "1 lists image extensions"),
    ],
    functions_stay_small: [
        ("data/helpers.py", "", "1 a name that says nothing"),
        ("training/engine.py", "def f():\n" + "    pass\n" * 50, "1 f has 51 lines"),
        ("training/engine.py", "def f(x):\n" + "    if x: pass\n" * 10, "1 f has complexity 11"),
    ],
    everything_public_is_documented: [
        ("training/engine.py", "", "1 file has no docstring"),
        ("tests/new.py", "", "1 file has no docstring"),
        ("training/engine.py", "'''d'''\ndef f(): ...", "2 f has no docstring"),
        ("training/engine.py", "'''d'''\nclass A: ...", "2 A has no docstring"),
        ("training/engine.py", "'''d'''\nclass A:\n  '''d'''\n  def f(self): ...", "4 f has no docstring"),
    ],
}
ALLOWED = [
    ("new.py", COMMAND),
    ("tools/new.py", f"{COMMAND}sys.path.insert(0, str(Path(__file__).resolve().parent.parent))"),
    ("tests/new.py", "'''d'''\nImage.open('x'); torch.load('x'); import data.images, model"),
    ("model/ska.py", "'''d'''\ndef _f():\n    from model.ska_triton import ska"),
    ("model/__init__.py", "'''d'''\nfrom model.lsnet_artist import LSNetArtist"),
    ("runtime/checkpoint.py", "'''d'''\nimport argparse, pickle; torch.load('x', weights_only=True)"),
    ("data/demo/artists.py", "'''d'''\nimage.save('x.png'); ('.png', 'png')"),
    ("training/engine.py", "'''d'''\ndef _f():\n" + "    if x: pass\n" * 9),
]


@pytest.fixture(scope="module")
def sources() -> list[Source]:
    """Every Python file of the project: at the top, and below its packages."""
    files = [*ROOT.glob("*.py"), *(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))]
    return [Source(file.relative_to(ROOT).as_posix(), file.read_text(encoding="utf-8")) for file in sorted(files)]


@pytest.mark.parametrize("rule", BROKEN, ids=lambda rule: rule.__name__)
def test_the_project_keeps(rule: Callable[[Source], Complaints], sources: list[Source]) -> None:
    complaints = [f"{source.path}:{line} {text}" for source in sources for line, text in rule(source)]
    assert not complaints, "\n" + "\n".join(complaints)


def test_no_files_import_one_another_in_a_circle(sources: list[Source]) -> None:
    assert not circles(sources), "\n".join(circles(sources))


def test_a_circle_is_found() -> None:
    files = {"search/a.py": "from search.b import x", "search/b.py": "def f():\n    import search.c as c",
             "search/c.py": "from search import a", "search/d.py": "import search.a"}
    circle = "search.a -> search.b -> search.c -> search.a"
    assert circles([Source(path, text) for path, text in files.items()]) == [circle]


def expand(word: str) -> list[str]:
    """`a{b,c}` as `ab` and `ac`."""
    start, brace, rest = word.partition("{")
    inside, _, end = rest.partition("}")
    return [whole for part in inside.split(",") for whole in expand(start + part + end)] if brace else [word]


def test_the_map_names_the_files_of_every_room(sources: list[Source]) -> None:
    text, named, room = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"), dict[str, set[str]](), ""
    for line in text.partition("```text")[2].partition("```")[0].splitlines():
        room = room if line.startswith(("├", "└", " ")) else line.partition("/")[0]
        words = re.findall(r"[\w{},]+\.py", line)
        named.setdefault(room, set()).update(name for word in words for name in expand(word))
    for package in {*PACKAGES} - {"tests", "tools"}:
        files = {source.path.rpartition("/")[2] for source in sources if source.path.startswith(f"{package}/")}
        assert named[package] == files - {"__init__.py"}, package


def test_every_folder_with_sources_is_checked() -> None:
    folders = {file.parent.name for file in ROOT.glob("*/*.py") if not file.parent.name.startswith(".")}
    assert folders <= set(PACKAGES), "a new package needs its layer in architecture_rules.py, and its place here"


@pytest.mark.parametrize(("rule", "path", "text", "complaint"),
                         [(rule, *case) for rule, cases in BROKEN.items() for case in cases])
def test_a_broken_source_is_refused(rule: Callable[[Source], Complaints], path: str, text: str, complaint: str) -> None:
    found = [f"{line} {told}" for line, told in rule(Source(path, text))]
    assert any(told.startswith(complaint) for told in found), found


@pytest.mark.parametrize(("path", "text"), ALLOWED)
def test_what_is_allowed_passes(path: str, text: str) -> None:
    assert not [told for rule in BROKEN for _, told in rule(Source(path, text))]
