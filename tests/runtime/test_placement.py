"""Networks and pictures get the requested memory format, and forward passes run in the requested precision."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from runtime import placement as module
from runtime.placement import WORKERS, Placement
from utils import UserError


def innermost(tensor: torch.Tensor) -> bool:
    return tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()


@pytest.mark.parametrize(("requested", "expected"), [(None, True), (True, True), (False, False)])
def test_channels_lie_innermost_on_the_cpu_unless_refused(requested: bool | None, expected: bool) -> None:
    placement = Placement.resolve("cpu", channels_last=requested)
    network = placement.move_network(nn.Conv2d(3, 8, 3))
    images = placement.move_images(torch.randn(2, 3, 5, 5))
    assert placement.device == torch.device("cpu")
    assert innermost(network.weight) is innermost(images) is innermost(network(images)) is expected


def test_a_gpu_keeps_planes_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert Placement.resolve("cuda:0").memory_format == torch.contiguous_format
    assert Placement.resolve("cuda:0", channels_last=True).memory_format == torch.channels_last


@pytest.mark.parametrize(("amp", "dtype", "text"), [("off", torch.float32, "cpu in float32"),
                                                    ("auto", torch.float32, "cpu in float32"),
                                                    ("bf16", torch.bfloat16, "cpu in bf16")])
def test_the_forward_pass_runs_in_the_precision_asked_for(amp: str, dtype: torch.dtype, text: str) -> None:
    placement = Placement.resolve("cpu", amp=amp)
    network, images = placement.move_network(nn.Conv2d(3, 8, 3)), placement.move_images(torch.randn(2, 3, 5, 5))
    with placement.autocast():
        assert network(images).dtype == dtype
    assert network(images).dtype == network.weight.dtype == torch.float32
    assert not placement.make_scaler().is_enabled()
    assert str(placement) == text


@pytest.mark.parametrize(("computes", "expected"), [(True, torch.bfloat16), (False, None)])
def test_auto_is_bf16_on_gpus_that_compute_it(computes: bool, expected: torch.dtype | None,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: computes or including_emulation)
    assert Placement.resolve("cuda:0", amp="auto").amp == expected


def test_fp16_is_for_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="found --amp fp16 on the CPU"):
        Placement.resolve("cpu", amp="fp16")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    placement = Placement.resolve("cuda:0", amp="fp16")
    assert placement.amp == torch.float16
    assert str(placement) == "cuda:0 in fp16"


def test_a_device_that_is_not_here_is_refused() -> None:
    with pytest.raises(UserError, match="found --device npu"):
        Placement.resolve("npu")


@pytest.mark.parametrize(("kind", "processor", "policy", "requested", "expected"), [
    ("cpu", 2, "", None, 0), ("cpu", 4, "active", None, 0), ("cpu", 16, "", None, WORKERS), ("cpu", 2, "", 3, 3),
    ("cpu", 2, "PASSIVE", None, WORKERS), ("cpu", 2, "passive", 0, 0), ("cuda", 2, "", None, WORKERS),
    ("cuda", 16, "", 0, 0)])
def test_few_cores_decode_in_between(kind: str, processor: int, policy: str, requested: int | None, expected: int,
                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "count_cores", lambda: processor)
    monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    placement = Placement(device=torch.device(kind), memory_format=torch.channels_last)
    assert placement.choose_workers(requested) == expected


@pytest.mark.parametrize(("threads", "batches", "lanes"), [(2, 9, 2), (4, 3, 3), (64, 99, module.MOST_LANES),
                                                           (1, 9, 1), (4, 0, 1)])
def test_lanes_are_one_per_core_and_no_more_than_batches(threads: int, batches: int, lanes: int,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert Placement(device=torch.device("cpu"), memory_format=torch.channels_last).choose_lanes(batches) == lanes
    assert Placement(device=torch.device("cuda"), memory_format=torch.channels_last).choose_lanes(batches) == 1


FAULTS = """
import resource, sys, torch
if sys.argv[1] == "keep":
    from runtime.placement import Placement
    Placement.resolve("cpu")
def fill():
    for size in (20, 40, 80):
        torch.ones(size << 18)  # MiB
fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the setting")
def test_memory_that_is_freed_on_the_cpu_is_not_cleared_again() -> None:
    def page_faults(mode: str) -> int:
        done = subprocess.run([sys.executable, "-c", FAULTS, mode], cwd=Path(module.__file__).parent.parent, check=True,
                              capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        return int(done.stdout)

    assert page_faults("keep") < page_faults("plain") / 4
