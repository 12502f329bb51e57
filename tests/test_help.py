"""Help and a wrong flag answer at once: no command imports a heavy package before it has parsed its flags."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.test_readme import SCRIPTS

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


def test_no_command_needs_a_heavy_package_for_its_help() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == SCRIPTS
    assert done.stderr.count("found the unknown argument --no-such-flag") == len(SCRIPTS) - 1
