"""--compile where torch finds no working compiler: a line says so, and the network runs uncompiled."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import inference_artist
import train_artist_style
from bench import workload
from runtime import placement


def test_an_error_of_the_compiler_is_told_once(monkeypatch: pytest.MonkeyPatch,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    def fail(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> None:
        raise RuntimeError("no compiler\nis here")

    monkeypatch.setattr("torch._dynamo.lookup_backend", lambda name: fail)
    placement._tell_no_compiler.cache_clear()
    x, graph = torch.randn(5, 5), torch.fx.symbolic_trace(torch.nn.Tanh())
    for _ in range(2):
        assert torch.equal(placement.inductor_or_eager(graph, [x])(x), x.tanh())
    assert capsys.readouterr().err == "--compile: torch cannot compile here (no compiler); going on without\n"


@pytest.mark.exhaustive  # it imports all of inductor
def test_the_answer_is_that_of_the_network_and_is_told_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                                            capsys: pytest.CaptureFixture[str]) -> None:
    from torch._inductor import config

    def network(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.gelu(x).sum(1)

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # nothing that was compiled before
    placement._tell_no_compiler.cache_clear()
    x, compiled = torch.randn(5, 5), torch.compile(network, backend=placement.inductor_or_eager)
    with config.patch({"cpp.cxx": ("/nonexistent/c++",)}):
        assert torch.equal(compiled(x), network(x))
        with torch.no_grad():  # compiled once more
            assert torch.equal(compiled(x), network(x))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("--compile: torch cannot compile here (")


def test_every_command_compiles_so(data_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backends: list[object] = []

    def note(function: object, *, backend: object = "inductor", **_: object) -> object:
        backends.append(backend)
        return function

    monkeypatch.setattr(torch, "compile", note)
    small = ["--num-workers", "0", "--batch-size", "8", "--compile"]
    assert train_artist_style.main(["--data-path", str(data_set), "--output-dir", str(tmp_path / "run"), "--model",
                                    "test_resnet", "--input-size", "32", "--epochs", "1", *small]) == 0
    assert len(backends) == 2
    assert inference_artist.main(["--checkpoint", str(tmp_path / "run" / "model_best.pth"), "--input",
                                  str(data_set / "val"), "--output", str(tmp_path / "out"), *small]) == 0
    workload._compile(torch.nn.Identity())
    assert backends == [placement.inductor_or_eager] * 4
