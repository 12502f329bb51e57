"""run_multigpu_linux.sh without a number of GPUs; run_multigpu.bat, as far as it can be judged without Windows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT


def start(folder: Path, gpus: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the launcher beside a Python that sees `gpus` GPUs and prints the other commands that it is given."""
    shutil.copy(ROOT / "run_multigpu_linux.sh", folder)
    for trainer in ("train_artist_style.py", "main.py"):
        (folder / trainer).touch()
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True, exist_ok=True)
    python.write_text(f'#!/bin/sh\nif [ "$1" = -c ]; then echo {gpus}; else printf "%s\\n" "$@"; fi\n')
    python.chmod(0o755)
    return subprocess.run(["bash", str(folder / "run_multigpu_linux.sh"), *arguments], capture_output=True, text=True,
                          check=False)


@pytest.mark.skipif(os.name == "nt", reason="a bash script")
def test_without_a_number_all_gpus_are_used(tmp_path: Path) -> None:
    for trainer, named in (("train_artist_style.py", []), ("main.py", ["main.py"])):
        words = start(tmp_path, 3, *named, "--data-path", "a (b)").stdout.splitlines()
        assert "--nproc_per_node=3" in words
        assert words[-3:] == [str(tmp_path / trainer), "--data-path", "a (b)"]


@pytest.mark.skipif(os.name == "nt", reason="a bash script")
@pytest.mark.parametrize(("gpus", "arguments", "told"), [
    (2, (), "found no flags for train_artist_style.py; expected --data-path"), (2, ("2",), "found no flags for"),
    (2, ("main.py",), "found no flags for main.py"), (0, ("--data-path", "x"), "found no GPU that PyTorch sees"),
    (2, ("0", "--data-path", "x"), "found 0; expected the number of GPUs")])
def test_what_is_missing_is_told(tmp_path: Path, gpus: int, arguments: tuple[str, ...], told: str) -> None:
    done = start(tmp_path, gpus, *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert told in done.stderr
    assert "bash run_multigpu_linux.sh 2 --data-path" in done.stderr


def test_no_value_stands_in_a_block_of_the_batch_file() -> None:
    """In a block, or in the set of a FOR, a parenthesis of a path would end it; and cmd loses labels without CRLF."""
    lines = (ROOT / "run_multigpu.bat").read_text(encoding="ascii").splitlines()
    code = [line for line in lines if not line.startswith("rem")]
    assert [line for line in code if re.search(r"\(\s*$|^\s*\)", line)] == []
    assert [line for line in code if re.search(r"%(FLAGS|\*)", line)] == [
        "set FLAGS=%*", "set FLAGS=%FLAGS:* =%", "set FLAGS=%FLAGS:* =%",
        'start "rank %RANK%" /b "%PYTHON%" "%HERE%%TRAINER%" %FLAGS%', '"%PYTHON%" "%HERE%%TRAINER%" %FLAGS%']
    labels = {line[1:] for line in code if line.startswith(":")}
    assert {target for line in code for target in re.findall(r"goto (\w+)", line)} <= labels
    assert "*.bat text eol=crlf" in (ROOT / ".gitattributes").read_text()
