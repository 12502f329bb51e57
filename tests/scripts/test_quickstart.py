"""The three commands on a machine where nothing is installed, where something broke, and where all is in place."""

from __future__ import annotations

import ast
import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import quickstart

ROOT = Path(quickstart.__file__).parent


class Machine:
    """Stands in for the processes that quickstart.py starts: notes them, makes .venv, fails where told to."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.failing: list[str] = []

    def run(self, words: list[object], **settings: object) -> subprocess.CompletedProcess[str]:
        command = [str(word) for word in words][1:]
        self.commands.append(command)
        if command[:2] == ["-m", "venv"]:
            quickstart.PYTHON.parent.mkdir(parents=True, exist_ok=True)
            quickstart.PYTHON.touch()
        return subprocess.CompletedProcess(words, any(word in " ".join(command) for word in self.failing))

    def ran(self, *words: str) -> bool:
        return any(all(word in command for word in words) for command in self.commands)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Nothing installed; the script lies in an empty folder."""
    machine = Machine()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(quickstart, "__file__", str(tmp_path / "quickstart.py"))
    monkeypatch.setattr(subprocess, "run", machine.run)
    return machine


def ends_with_one_line(*arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        quickstart.main(list(arguments))
    assert isinstance(end.value.code, str)
    assert "\n" not in end.value.code
    return end.value.code


def test_an_old_python_can_read_the_file_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    ast.parse((ROOT / "quickstart.py").read_text(encoding="utf-8"), feature_version=(3, 6))
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    assert "expected 3.10 or newer" in ends_with_one_line("demo")


def test_the_first_call_installs_and_the_second_only_asks(machine: Machine) -> None:
    assert quickstart.main(["test"]) == 0
    assert machine.ran("venv", ".venv")
    assert machine.ran("pip", "install", "requirements-dev.txt")
    assert not machine.ran("--quiet")
    machine.commands.clear()
    assert quickstart.main(["test"]) == 0
    assert not machine.ran("venv")
    assert machine.ran("pip", "install", "--quiet", "requirements-dev.txt")


def test_an_interrupted_installation_goes_on(machine: Machine) -> None:
    machine.failing = ["pip install"]
    assert "pip could not install" in ends_with_one_line("test")
    assert not machine.ran("pytest")
    machine.failing, machine.commands = [], []
    assert quickstart.main(["test"]) == 0
    assert machine.ran("pip", "install", "requirements-dev.txt")
    assert not machine.ran("--quiet")


def test_a_half_made_venv_is_made_again(machine: Machine) -> None:
    quickstart.main(["test"])
    machine.failing, machine.commands = ["import pip"], []
    quickstart.main(["test"])
    assert machine.ran("venv", ".venv")


def test_a_python_without_venv_is_told_what_to_install(machine: Machine) -> None:
    machine.failing = ["-m venv"]
    assert "apt install python3-venv" in ends_with_one_line("demo")
    assert not machine.ran("pip")


def test_arguments_go_to_pytest_after_the_lint(machine: Machine) -> None:
    quickstart.main(["test", "-k", "name", "tests/model"])
    assert machine.commands[-3:] == [["-m", "ruff", "check", "."], ["-m", "pyrefly", "check"],
                                     ["-m", "pytest", "-q", "-n2", "--dist=loadfile", "-k", "name", "tests/model"]]
    machine.failing = ["pytest"]
    assert "pytest" in ends_with_one_line("test")


def test_an_unknown_argument_of_demo_is_refused(machine: Machine) -> None:
    with pytest.raises(SystemExit, match="2"):
        quickstart.main(["demo", "--fast"])
    assert not machine.commands


def test_a_step_that_fails_ends_the_demo(machine: Machine) -> None:
    machine.failing = ["prepare_dataset.py"]
    assert ends_with_one_line("demo") == "quickstart.py: prepare_dataset.py failed, see above"
    assert not machine.ran("train_artist_style.py")


def test_the_demo_ends_with_the_best_accuracy(machine: Machine, tmp_path: Path,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "my demo" / "run").mkdir(parents=True)
    (tmp_path / "my demo" / "run" / "metrics.jsonl").write_text('{"val_top1": 91.26}\n{"val_top1": 90}\n{"lr": 1}\n')
    assert quickstart.main(["demo", "--output-dir", "my demo"]) == 0
    printed = capsys.readouterr().out
    assert "Validation accuracy: 91.3 %" in printed
    assert f'"{Path(tmp_path, "my demo").as_posix()}/dataset"' in printed.replace("\\", "/")


def test_a_page_is_served_from_the_demo_which_is_made_once(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "demo" / "run").mkdir(parents=True)
    (tmp_path / "demo" / "run" / "metrics.jsonl").write_text('{"val_top1": 90}\n')
    for made in (True, False):
        machine.commands.clear()
        assert quickstart.main(["serve", "--port", "9000"]) == 0
        assert machine.ran("pip", "install", "requirements-serve.txt")
        assert machine.ran("train_artist_style.py") == made
        assert machine.commands[-1][0] == "serve_artist.py"
        assert machine.commands[-1][-2:] == ["--port", "9000"]
        (tmp_path / "demo" / "gallery").mkdir(exist_ok=True)
        (tmp_path / "demo" / "gallery" / "gallery.json").touch()
    machine.failing = ["serve_artist.py"]
    assert ends_with_one_line("serve") == "quickstart.py: serve_artist.py ended, see above"


@pytest.mark.parametrize("command", [
    *quickstart.DEMO.splitlines(), quickstart.SERVE, *quickstart.END.split("> {python} ")[1:]],
    ids=lambda command: command.partition(" ")[0])
def test_every_command_it_shows_is_one_the_script_understands(command: str) -> None:
    script, *words = command.format(demo="demo", picture="a.png").split()
    module = importlib.import_module(script.removesuffix(".py").replace("/", "."))
    module.build_parser().parse_args(words)


def test_on_a_real_machine(tmp_path: Path) -> None:
    shutil.copy(ROOT / "quickstart.py", tmp_path)
    (tmp_path / "requirements.txt").write_text("")
    for _ in range(2):
        run = subprocess.run([sys.executable, str(tmp_path / "quickstart.py"), "demo"], capture_output=True, text=True,
                             check=False, cwd=tmp_path.parent)
        assert run.returncode == 1
        assert run.stderr.endswith("quickstart.py: tools/make_demo_dataset.py failed, see above\n")
        assert (tmp_path / quickstart.PYTHON).exists()
