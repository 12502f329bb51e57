"""How a command ends: its exit code, one line for the user, and tracebacks for bugs only."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from utils import EXIT_DONE, EXIT_FAILED, EXIT_USER, Interrupted, UserError, command

ROOT = Path(__file__).resolve().parent.parent


def ending(raised: BaseException | None) -> Callable[[list[str] | None], int]:
    @command
    def main(argv: list[str] | None = None) -> int:
        if raised:
            raise raised
        return EXIT_DONE

    return main


@pytest.mark.parametrize(("raised", "code", "told"), [
    (None, 0, ""),
    (UserError("a  file\nx", "a folder", "choose another"), EXIT_USER,
     "test_commands_end.py: found a file x; expected a folder; choose another\n"),
    (Interrupted(15, "saved; --resume auto goes on"), 143, "test_commands_end.py: saved; --resume auto goes on\n"),
    (KeyboardInterrupt(), 130, "test_commands_end.py: interrupted\n")])
def test_a_command_ends_with_a_code_and_one_line(raised: BaseException | None, code: int, told: str,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    assert ending(raised)([]) == code
    assert capsys.readouterr() == ("", told)


@pytest.mark.parametrize("bug", [ValueError("x"), SystemExit(7), RuntimeError(),
                                 RuntimeError("shapes requested and given differ")])
def test_a_bug_keeps_its_traceback(bug: BaseException) -> None:
    with pytest.raises(type(bug)) as caught:
        ending(bug)([])
    assert caught.value is bug


SPEAKING = """
import sys, utils
__file__ = "speaking.py"
@utils.command
def main(argv=None):
    print("齐白石")
    raise utils.UserError("é", "e", "e")
sys.exit(main())
"""


def test_a_name_no_console_knows_ends_no_command() -> None:
    script = subprocess.run([sys.executable, "-c", SPEAKING], cwd=ROOT, capture_output=True, check=False,
                            env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert script.returncode == EXIT_USER
    assert script.stdout.strip() == rb"\u9f50\u767d\u77f3"
    assert rb"found \xe9" in script.stderr


TALKING = """
import utils
__file__ = "talking.py"
@utils.command
def main(argv=None):
    import sys
    print("x" * 100_000) if sys.argv[1:] else print("a line")
    raise SystemExit(0)
raise SystemExit(main())
"""


@pytest.mark.skipif(os.name == "nt", reason="a closed pipe is another error there")
@pytest.mark.parametrize("much", [[], ["much"]])
def test_a_reader_that_leaves_early_ends_a_command_without_a_traceback(much: list[str]) -> None:
    with subprocess.Popen([sys.executable, "-c", TALKING, *much], cwd=ROOT, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as script:
        script.stdout.close()
        told = script.stderr.read().decode()
    assert script.returncode == EXIT_FAILED
    assert told == "talking.py: stopped, because the program that reads its output has ended\n"


def test_another_broken_pipe_is_a_bug() -> None:
    with pytest.raises(BrokenPipeError):
        ending(BrokenPipeError())([])
