"""Scripts in processes of their own, forked from one that has imported the heavy packages once.

Importing torch and timm takes six seconds of processor time; a fork of a process that has done so takes none. Only
packages of others are imported beforehand: a script must still import everything of this project itself.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from PIL import Image

if os.name == "posix":
    import resource

UNDRAWN = {"TESTS_UNDRAWN": "1"}  # in a training's environment: without its drawings, more than half of its time
FILE_LIMIT = "TESTS_FILE_LIMIT"  # in a script's environment: bytes that a file may have, as where a disk is full
ROOT = Path(__file__).resolve().parent.parent
CONTEXT = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
if os.name == "posix":
    CONTEXT.set_forkserver_preload(["torch", "torchvision.transforms.v2", "timm", "sklearn.cluster", "sklearn.manifold",
                                    "sklearn.metrics", "matplotlib.figure", "torch.utils.tensorboard"])


class Script:
    """A running script, with the part of `subprocess.Popen` that tests use; `stdout` has its standard error too."""

    def __init__(self, script: str | Path, *arguments: object, cwd: Path, env: Mapping[str, str] | None = None) -> None:
        """Start `script`, a path below the project's root."""
        reader, writer = CONTEXT.Pipe(duplex=False)
        self._process = CONTEXT.Process(target=_run, args=(
            str(ROOT / script), list(map(str, arguments)), str(cwd), dict(env or {}), os.devnull, writer, writer))
        self._process.start()
        writer.close()
        self.stdout = os.fdopen(os.dup(reader.fileno()), encoding="utf-8", errors="replace")
        reader.close()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """As `subprocess` counts: negative for a signal."""
        return self._process.exitcode

    poll = returncode.fget

    def wait(self, timeout: float = 300) -> int:
        """The exit code, once the script has ended; a script that prints more than a pipe holds does not end."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        return self._process.exitcode

    def communicate(self, timeout: float = 300) -> tuple[str, None]:
        """The rest of the output, once the script has ended."""
        rest = self.stdout.read()
        self.wait(timeout)
        self.stdout.close()
        return rest, None

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the script's process alone."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._process.kill()


def start_ranks(processes: int, script: str | Path, *arguments: object, cwd: Path,
                env: Mapping[str, str] | None = None, own: Sequence[Sequence[object]] = ()) -> list[Script]:
    """Start `script` as the ranks of one run, as a launcher would; `own` are further arguments of each rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [Script(script, *arguments, *(own[rank] if own else ()), cwd=cwd, env={
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), **(env or {})}) for rank in range(processes)]


def finish(ranks: list[Script]) -> str:
    """What all ranks printed, once each has ended well."""
    output = [rank.communicate(200)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * len(ranks), output
    return "".join(output)


def run(script: str | Path, *arguments: object, cwd: Path, stdin: str = "", timeout: float = 300,
        env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `script`, a path below the project's root, to its end."""
    with tempfile.TemporaryDirectory() as folder:
        given, out, err = (Path(folder, name) for name in ("in", "out", "err"))
        given.write_text(stdin, encoding="utf-8", newline="")
        process = CONTEXT.Process(target=_run, args=(str(ROOT / script), list(map(str, arguments)), str(cwd),
                                                     dict(env or {}), str(given), str(out), str(err)))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(str(script), timeout)
        return subprocess.CompletedProcess([str(script), *map(str, arguments)], process.exitcode, *(
            path.read_text(encoding="utf-8") if path.exists() else "" for path in (out, err)))


def leave_drawings_out(patch: pytest.MonkeyPatch) -> None:
    """Let trainings in this process draw neither curves nor confusions, and write no page."""
    patch.setattr("training.engine.training_curves", lambda records, path: Path(path).touch())
    patch.setattr("evaluation.report.confusion_picture", lambda *values: Image.new("RGB", (1, 1)).save(values[-1]))
    patch.setattr("training.trainer.report_ended_run", lambda *values: [])


def _run(script: str, arguments: list[str], cwd: str, env: dict[str, str], given: str, out: str | Connection,
         err: str | Connection) -> None:
    multiprocessing.set_start_method(None, force=True)  # the script's own processes start as they would elsewhere
    # The next script need not compile the project again, which takes half a second; on a full disk Python cuts files.
    sys.dont_write_bytecode = FILE_LIMIT in env
    os.chdir(cwd)
    os.environ.update(env)
    if FILE_LIMIT in env:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(env[FILE_LIMIT]), resource.RLIM_INFINITY))
    os.dup2(os.open(given, os.O_RDONLY), 0)
    for number, target in ((1, out), (2, err)):
        handle = os.open(target, os.O_WRONLY | os.O_CREAT, 0o600) if isinstance(target, str) else target.fileno()
        os.dup2(handle, number)
    if isinstance(out, Connection):
        out.close()  # the same as `err`
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False, buffering=1)
    sys.argv = [script, *arguments]
    sys.path[0] = str(Path(script).parent)
    if UNDRAWN.keys() <= env.keys():
        leave_drawings_out(pytest.MonkeyPatch())
    runpy.run_path(script, run_name="__main__")
