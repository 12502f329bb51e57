"""Commands that are killed or stopped before any fsync, rename, new folder or deletion."""

from __future__ import annotations

import importlib
import itertools
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from tests.forked import CONTEXT
from utils import EXIT_USER

CALLS = ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir", "link")  # of `os`; `pathlib` and `shutil`, too


@dataclass(frozen=True)
class Case:
    """A command, and what its killed run must not change.

    Attributes:
        module: of the command.
        arguments: of the run that is killed, and of the undisturbed one.
        again: of the run after the kill, where they differ; if that is refused, `arguments` follow.
        start: the folder with which each run begins; it is copied to `work`.
        work: where the command works: arguments name paths in it.
        same: names below `work` whose bytes count; None for all, and then there may be no others.
        codes: exit codes that the second run may have.
        calls: the functions of `os` before whose calls it is killed.
        every: it is killed before each call of so many, from the first.
    """

    module: str
    arguments: Sequence[object]
    start: Path
    work: Path
    again: Sequence[object] | None = None
    same: Sequence[str] | None = None
    codes: Sequence[int] = (0,)
    calls: Sequence[str] = CALLS
    every: int = 1


def kill_everywhere(case: Case) -> tuple[int, list[str]]:
    """How many points there are, and what was wrong after which kill."""
    reader, writer = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_run, args=(case, writer))
    process.start()
    writer.close()
    answer = reader.recv()
    process.join()
    return answer


def _run(case: Case, writer: Connection) -> None:
    main = importlib.import_module(case.module).main
    for number, mode in enumerate((os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)):
        os.dup2(os.open(os.devnull, mode), number)
    _copy_start(case)
    main([str(argument) for argument in case.arguments])  # here, so that no later run has anything to import
    writer.send(_kill_everywhere(case, main))


def _kill_everywhere(case: Case, main: Callable[[list[str]], int]) -> tuple[int, list[str]]:
    _copy_start(case)
    code, told = _fork(case, case.arguments, main)
    if code:
        return 0, [f"undisturbed: {code} {told}"]
    wrong, expected = [], contents(case)
    for number in itertools.count(1, case.every):
        _copy_start(case)
        code, told = _fork(case, case.arguments, main, kill_at=number)
        if code != -signal.SIGKILL:
            break
        code, more = _fork(case, case.arguments if case.again is None else case.again, main)
        if code == EXIT_USER and case.again is not None:  # the killed run has changed nothing yet
            code, more = _fork(case, case.arguments, main)
        if code not in case.codes:
            wrong.append(f"killed before {told}: {code} {more}")
        found = contents(case)
        wrong += [f"killed before {told}: {name} differs" for name in sorted(expected.keys() | found.keys())
                  if found.get(name) != expected.get(name)]
    return number - 1, wrong


def contents(case: Case) -> dict[str, bytes]:
    """The files below the case's folder that count, hidden ones too, and its folders."""
    return {name: path.read_bytes() if path.is_file() else b"" for path in case.work.rglob("*")
            if (name := path.relative_to(case.work).as_posix()) in (case.same or (name,))}


def _copy_start(case: Case) -> None:
    if case.work.exists():
        shutil.rmtree(case.work)
    shutil.copytree(case.start, case.work)


class Command:
    """A command in a process of its own, which may stop itself (SIGSTOP) before a call of `CALLS`."""

    def __init__(self, module: str, arguments: Sequence[object], log: Path, stop_at: int = 0) -> None:
        """Start it; what it prints goes to the file `log`."""
        self._log, self._stopped = log, log.with_suffix(".stopped")
        self._process = CONTEXT.Process(target=_command, args=(module, [*map(str, arguments)], log, stop_at,
                                                               self._stopped))
        self._process.start()

    def wait_for(self, text: str = "") -> None:
        """Return when it has printed `text`; without, when it has stopped itself or ended."""
        while self._process.is_alive() and not (text in self._read() if text else self._stopped.exists()):
            time.sleep(0.01)

    def finish(self) -> tuple[int | None, str]:
        """Let it go on; its exit code and what it printed."""
        if self._process.is_alive():
            os.kill(self._process.pid, signal.SIGCONT)
        self._process.join(300)
        return self._process.exitcode, self._read()

    def _read(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""


def _command(module: str, arguments: list[str], log: Path, stop_at: int, stopped: Path) -> None:
    def stop(call: str) -> None:
        stopped.write_text(call, encoding="utf-8")
        os.kill(os.getpid(), signal.SIGSTOP)

    main = importlib.import_module(module).main
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    _print_to(log)
    sys.argv = [f"{module.rpartition('.')[2]}.py"]
    count_calls(CALLS, stop_at, stop)
    sys.exit(main(arguments))


def _print_to(log: Path) -> None:
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
    os.dup2(1, 2)


def _fork(case: Case, arguments: Sequence[object], main: Callable[[list[str]], int],
          kill_at: int = 0) -> tuple[int, str]:
    """The exit code of the command in a process of its own, and the call that killed it or what it printed."""
    log = case.work.with_name("log.txt")

    def die(call: str) -> None:
        log.write_text(call, encoding="utf-8")
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if not child:
        code = 70
        try:
            _print_to(log)
            count_calls(case.calls, kill_at, die)
            code = main([str(argument) for argument in arguments])
        except BaseException:  # noqa: BLE001  # the child must end here
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, log.read_text(encoding="utf-8", errors="replace")[-1500:]


def count_calls(names: Sequence[str], last: int, end: Callable[[str], None]) -> None:
    """Before call number `last` of the functions of `os`, let `end` end or stop this process."""
    numbers = iter(range(1, 1 << 30))

    def counted(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            if next(numbers) == last:
                end(f"{name}({', '.join(map(str, arguments))}), call {last}")
            # What is flushed matters after a power cut only, and takes a busy disk long.
            return None if name == "fsync" else real(*arguments, **named)

        return call

    os.sync = lambda: None
    for name in names:
        setattr(os, name, counted(name, getattr(os, name)))
