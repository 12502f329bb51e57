"""Facts about this process: how it ends, its device, its random state, and files written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import functools
import glob
import hashlib
import json
import os
import random
import re
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    import numpy
    import torch

# `torch` and `numpy` are imported inside the functions that need them: a command that only sorts files starts at once.

EXIT_DONE, EXIT_FAILED, EXIT_USER, EXIT_PARTIAL = 0, 1, 2, 3
# Signals to end, besides Ctrl-C; a closed terminal sends SIGHUP, Ctrl-Break on Windows SIGBREAK.
ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]
LARGEST = 2**30  # bytes of a file that is read whole
LONGEST_PART = 2000  # letters of a part of a message: what a file holds may be of any length


class UserError(Exception):
    """What the user gave cannot work; told in three parts on one line of stderr, exit code 2.

    Args:
        found: what was met, with its path or value.
        expected: what would have been right; empty where `found` is a sentence that says all.
        action: what to do now.
    """

    def __init__(self, found: str, expected: str, action: str) -> None:
        super().__init__(found, expected, action)
        self.found, self.expected, self.action = found, expected, action

    def __str__(self) -> str:
        found, expected, action = (part if len(part) <= LONGEST_PART else f"{part[:LONGEST_PART]}…"
                                   for part in (self.found, self.expected, self.action))
        told = f"found {found}; expected {expected}; {action}" if expected else f"{found}; {action}"
        return " ".join(told.split())


class Interrupted(Exception):
    """A signal asked this process to stop and the work so far is saved; exit code 128 + `signum`."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum


class Stopped(Exception):
    """The machine ended the work; what is done is kept, as the message says; exit code 1."""


class Terminated(KeyboardInterrupt):
    """The signal `signum` asked this process to stop, as Ctrl-C does."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural unless it is one."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}{'es' if noun.endswith('s') else 's'}"


def signal_of(error: KeyboardInterrupt) -> signal.Signals:
    """The signal that raised `error`."""
    return signal.Signals(error.signum if isinstance(error, Terminated) else signal.SIGINT)


def command(main: Callable[[list[str] | None], int]) -> Callable[..., int]:
    """Turn a script's `main(argv) -> exit code` into one that reports a `UserError` as one line and returns 2.

    An `Interrupted` becomes 128 + n, as does a signal to end, which raises where the program is: what is half-made is
    tidied up, and locks are released. Anything else is a bug and keeps its traceback.
    """

    @functools.wraps(main)
    def entry(argv: list[str] | None = None) -> int:
        name = Path(sys.modules[main.__module__].__file__ or main.__module__).name
        if argv is None:
            _restart_with_utf8()
        _open_closed_streams()
        for stream in (sys.stdout, sys.stderr):
            # An artist's name must never end a run because a Windows console or a pipe speaks cp1252.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        try:
            try:
                with _signals_raise():
                    return main(argv)
            finally:
                sys.stdout.flush()
        except (OSError, MemoryError, RuntimeError, UserError, Interrupted, Stopped, KeyboardInterrupt) as error:
            ending = _ending(error)
            if ending is None:
                raise
            text, code = ending
            print(f"{name}: {text}", file=sys.stderr)
            return code

    return entry


def _restart_with_utf8() -> None:
    """Begin again in UTF-8 mode where the locale is ASCII, in which other names of files are no text."""
    if sys.getfilesystemencoding() == "ascii" and "utf8" not in sys._xoptions:
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def _open_closed_streams() -> None:
    """Give standard streams that are closed, as under pythonw, to the null device.

    On POSIX they get their numbers back: a file that got one would receive what libraries and other processes print.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDONLY if mode == "r" else os.O_WRONLY)
            os.set_inheritable(number, number < 3)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8"))


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """Inside the block those of `ENDING` that would end the process raise `Terminated`, as Ctrl-C raises its error."""

    def end(signum: int, frame: object) -> None:
        raise Terminated(signum)

    before = {}
    if threading.current_thread() is threading.main_thread():  # signals can be set nowhere else
        before = {number: signal.signal(number, end) for number in ENDING if signal.getsignal(number) == signal.SIG_DFL}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ending(error: BaseException) -> tuple[str, int] | None:
    """The line and the exit code with which a command ends for `error`; None for a bug."""
    if isinstance(error, UserError):
        return str(error), EXIT_USER
    if isinstance(error, Interrupted):
        return str(error), 128 + error.signum
    if isinstance(error, KeyboardInterrupt):
        signum = signal_of(error)
        return f"stopped by {signum.name}" if isinstance(error, Terminated) else "interrupted", 128 + signum
    if isinstance(error, Stopped):
        return str(error), EXIT_FAILED
    if isinstance(error, BrokenPipeError) and _reader_has_gone():
        return "stopped, because the program that reads its output has ended", EXIT_FAILED
    if isinstance(error, OSError) and is_disk_full(error):
        return (f"stopped, because the disk is full or a file may not grow ({error}); files that were whole before "
                "still are; make room, then go on with --resume or start again", EXIT_FAILED)
    if _is_short_of_handles(error):
        return ("stopped, because the system allows this process no more open files; raise the limit (ulimit -n 1024), "
                "or lower --num-workers", EXIT_FAILED)
    if is_out_of_memory(error):
        reason = " ".join(str(error).split())[:200]
        return (f"stopped, because the memory does not suffice ({reason or type(error).__name__}); files that were "
                "whole before still are; lower --batch-size, the input size or --num-workers", EXIT_FAILED)
    return None


def _is_short_of_handles(error: BaseException) -> bool:
    """Whether `error`, of any library that opens files, says that too many are open."""
    return getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE) or "Too many open files" in str(error)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error`, Python's or torch's, says that the memory of the machine or of a GPU does not suffice."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in words))


def is_disk_full(error: BaseException) -> bool:
    """Whether `error`, of any library that writes, says that there is no room: disk, quota or a limit of file sizes."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    # NumPy's short write, torch's and safetensors' writers
    return any(words in str(error) for words in ("requested and", "unexpected pos", "PytorchStreamWriter failed",
                                                 "No space left", "os error 28", "File too large", "os error 27"))


def _reader_has_gone() -> bool:
    """Whether nobody reads what is printed, as after `| head`; then nothing more is tried, not at exit either."""
    try:
        print(flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


# ---- files -----------------------------------------------------------------------------------------------------------


def check_regular_file(path: str | os.PathLike[str]) -> int:
    """The size of a file in bytes, or of the one that a link names; to be asked before a file is opened for reading.

    Raises:
        OSError: it is missing, or no regular file: reading a pipe may wait, and a device give bytes, for ever.
    """
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "no regular file", str(path))
    return status.st_size


def read_bytes(path: str | os.PathLike[str], most: int = LARGEST) -> bytes:
    """The content of a regular file of at most so many bytes.

    Raises:
        OSError: it cannot be read, is larger, or see `check_regular_file`.
    """
    if check_regular_file(path) > most:
        raise OSError(errno.EFBIG, f"larger than {most >> 20} MiB", str(path))
    return Path(path).read_bytes()


def expand_wildcard(text: str) -> list[str]:
    """The paths that a pattern with *, ? or [...] fits, sorted; a path without one, or of something there, is itself.

    Shells of Windows leave patterns to the command.

    Raises:
        UserError: nothing fits the pattern.
    """
    if not glob.has_magic(text) or os.path.lexists(text):
        return [text]
    found = sorted(glob.glob(text))
    if not found:
        raise UserError(f"nothing that fits {text}", "a pattern of files that are there", "check the path")
    return found


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well, it becomes `path` in one step.

    The content is flushed to disk before the rename and the folder after it, so a kill or a power cut at any moment
    leaves either the old file or the new one. The temporary name is fixed: a later write replaces what a kill left.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)  # opening a link or a pipe there would write elsewhere, or wait
    try:
        with open(partial, "wb"):
            mode = partial.stat().st_mode  # the usual one; a writer that makes the file anew may choose a narrower
        yield partial
        os.chmod(partial, mode)
        with open(partial, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(target.parent)


def check_writable(folder: Path, what: str) -> None:
    """Raise a `UserError` about `what` unless this user may write to `folder`, or make it where it is not there."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{what}, where {there} may not be written to", "a folder that this user may write to",
                        "choose another one, or ask for the right")


def sync_folder(folder: Path) -> None:
    """Flush the names in `folder` to disk, where the system can."""
    if os.name == "nt":  # Windows has no handle for a folder; os.replace is journalled by NTFS.
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def text_stream(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """Yield a file to write text to as it comes; when the block ends well, it becomes `path` in one step.

    UTF-8, line feeds, and escapes, as in JSON, for bytes of names that are no Unicode.
    """
    with atomic_path(path) as partial, open(partial, "w", encoding="utf-8", errors="backslashreplace",
                                            newline="\n") as file:
        yield file


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` atomically, see `text_stream`."""
    with text_stream(path) as file:
        file.write(text)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as indented UTF-8 JSON, atomically. NaN and infinity are refused: they are not JSON."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def write_array(path: str | os.PathLike[str], array: numpy.ndarray) -> None:
    """Write `array` as .npy, atomically."""
    import numpy

    with atomic_path(path) as partial, open(partial, "wb") as file:
        numpy.save(file, array)


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, numpy.ndarray]) -> None:
    """Write `arrays`, by name, as .npz, atomically."""
    import numpy

    with atomic_path(path) as partial, open(partial, "wb") as file:
        numpy.savez(file, **arrays)  # type: ignore[arg-type]  # its own flag is no name of ours


# ---- random state ----------------------------------------------------------------------------------------------------


def mix_seed(*parts: int) -> int:
    """A seed in [0, 2^63) that depends on every one of `parts` and on their order, on any machine."""
    digest = hashlib.blake2b(repr(tuple(int(part) for part in parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators (torch: every device)."""
    import numpy
    import torch

    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextlib.contextmanager
def isolated_random(seed: int) -> Iterator[None]:
    """Inside the block the CPU generators start from `seed`; after it they are as if nothing had been drawn."""
    import numpy
    import torch

    states = random.getstate(), numpy.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        numpy.random.set_state(states[1])
        torch.set_rng_state(states[2])


# ---- device ----------------------------------------------------------------------------------------------------------


def resolve_device(name: str) -> torch.device:
    """The device called `auto`, `cpu`, `cuda`, `cuda:N` or `mps`; `auto` takes the first GPU there is, else the CPU.

    Among several processes, `cuda` is the GPU of this one's LOCAL_RANK.

    Raises:
        UserError: the name is none of these, or this machine has no such device.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if not re.fullmatch("cpu|mps|cuda(:(0|[1-9][0-9]*))?", name):
        raise UserError(f"--device {name}", "auto, cpu, cuda, cuda:N or mps", "name one of these")
    asked = name
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    kind, _, index = name.partition(":")
    if kind == "cuda" and int(index) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        if not count:
            raise UserError(f"--device {asked} where torch finds no CUDA device", "one",
                            "use --device cpu, or check the driver and the CUDA build of torch")
        raise UserError(f"--device {name} on a machine with {counted(count, 'CUDA device')}", f"an index below {count}",
                        "name another one, or use --device auto")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UserError("--device mps on a machine without it", "an Apple GPU", "use --device auto or --device cpu")
    return torch.device(name)


def peak_memory(device: torch.device) -> int:
    """Bytes at the peak: allocated on a CUDA device, else resident in this process (0 on systems without a count)."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
