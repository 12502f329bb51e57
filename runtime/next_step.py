"""The last line of a command: what to type next."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.options import FeatureOptions

_ROOT = Path(__file__).resolve().parent.parent
_PLAIN = re.compile(r"[\w@+=:,./\\-]+")  # needs no quotes in PowerShell and cmd
PICTURES, CHECKPOINT = "YOUR_PICTURES", "YOUR_RUN/model_best.pth"  # in place of paths that only the user knows


def print_next(script: object, *words: object) -> None:
    """Print the command that calls `script`, its path below the project, with these flags and values."""
    print(f"next: {command_line(script, *words)}", flush=True)


def command_line(script: object, *words: object) -> str:
    """A command that can be typed in the current folder, quoted for the system's shell."""
    path = _ROOT / str(script)
    path = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return " ".join(map(_quoted, (interpreter(), path, *words)))


def interpreter() -> str:
    """The name by which a shell finds this interpreter, or its path."""
    return next((name for name in ("python", "python3") if shutil.which(name) == sys.executable), sys.executable)


def network_flags(options: FeatureOptions) -> list[object]:
    """The flags that name the same network again."""
    named: list[object] = [] if options.checkpoint is None else ["--checkpoint", options.checkpoint]
    return [*named, *(["--model", options.model] if options.model else []), *["--pretrained"] * options.pretrained]


def _quoted(word: object) -> str:
    text = str(word)
    if isinstance(word, Path) and text.startswith("-"):  # would be read as a flag
        text = os.path.join(".", text)
    if os.name != "nt":
        return shlex.quote(text)
    return text if _PLAIN.fullmatch(text) else f'"{text}"'
