"""All weights divided among ranks by fully_shard: the updates of a network that every rank holds whole."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from runtime.divided_state import is_finite, own_moments, own_state, whole_optimizer, whole_state
from runtime.networks import load_weights, make_architecture
from runtime.options import OptimizerOptions
from runtime.processes import process_group, rank, world_size
from tests.conftest import ROOT
from tests.forked import finish, start_ranks
from tests.pictures import write_data_set
from tests.runtime.test_class_parallel import error
from tests.scripts.test_head_parallel import difference, launch, records
from training.optim import Clipping, make_ema, make_optimizer
from training.scale import ELEMENTWISE
from training.sharding import Sharded, shard
from utils import UserError

CPU = torch.device("cpu")


def compare(opt: str, limit: float, updates: int, lr: float) -> dict[str, float]:
    """Relative differences of weights, average and moments to DistributedDataParallel's, all float64."""
    torch.manual_seed(0)
    whole = make_architecture("test_vit", 5, input_size=32, feature_dim=None, drop_path_rate=0.0,
                              style_head=None).create().double()
    divided, options = copy.deepcopy(whole), OptimizerOptions(opt=opt, model_ema_decay=0.9)
    average, other = make_ema(whole, options), make_ema(divided, options)
    shard(divided, other, CPU)
    assert isinstance(divided, Sharded)
    parallel = DistributedDataParallel(whole)
    optimizers = [make_optimizer(network, options, lr) for network in (whole, divided)]
    for step in range(updates):
        inputs = torch.randn(2, world_size(), 3, 3, 32, 32, dtype=torch.float64)[:, rank()]
        labels = torch.randint(5, (2, world_size(), 3))[:, rank()]
        norms = []
        for forward, network, optimizer in zip((parallel, divided), (whole, divided), optimizers, strict=True):
            for batch in range(2):  # gradients of two batches, exchanged with the second
                if isinstance(network, Sharded):
                    network.set_requires_gradient_sync(batch == 1)
                nn.functional.cross_entropy(forward(inputs[batch]), labels[batch]).backward()
            norms.append(Clipping(network, "norm", limit)())
            optimizer.step()
            optimizer.zero_grad()
        assert norms[0].item() == pytest.approx(norms[1].item(), rel=1e-10)
        average.update(whole, step=step)
        other.update(divided, step=step)
    own = sum(parameter.to_local().numel() for parameter in divided.parameters() if isinstance(parameter, DTensor))
    found = {"share": own / sum(parameter.numel() for parameter in whole.parameters())}
    for name, one, two in (("weights", whole, divided), ("average", average.module, other.module)):
        state = whole_state(two)
        if rank() == 0:
            found[name] = max(error(state[key], value) for key, value in one.state_dict().items())
    stored = whole_optimizer(optimizers[1], divided)["state"]
    if rank() == 0:
        moments = optimizers[0].state_dict()["state"]
        found["moments"] = max(error(stored[index][key], value) for index, each in moments.items()
                               for key, value in each.items() if value.any())
    check_return(divided, optimizers[1], whole, optimizers[0])
    return found


def check_return(divided: nn.Module, divided_optimizer: torch.optim.Optimizer, whole: nn.Module,
                 optimizer: torch.optim.Optimizer) -> None:
    """What an undivided run stored is taken up by a divided one; a weight that is not finite is refused."""
    load_weights(divided, own_state(divided, whole.state_dict()), "this file")
    found = whole_state(divided, everywhere=True)
    assert all(torch.equal(found[name], value) for name, value in whole.state_dict().items())
    state = optimizer.state_dict()
    divided_optimizer.load_state_dict({**divided_optimizer.state_dict(), "state": own_moments(
        divided_optimizer, divided, state["state"])})
    returned = whole_optimizer(divided_optimizer, divided)["state"]
    assert rank() or all(torch.equal(returned[index][name], value) for index, each in state["state"].items()
                         for name, value in each.items())
    for row in (0, -1):  # of the first rank's part, and of the last one's
        spoilt = {**whole.state_dict(), "head.weight": whole.head.weight.detach().clone()}
        spoilt["head.weight"][row] = torch.nan
        with pytest.raises(UserError, match=r"head\.weight holds numbers that are not finite"):
            load_weights(divided, own_state(divided, spoilt), "this file")
    assert is_finite(divided)


def print_comparison(*opts: str) -> None:
    """Print, on the first rank, the differences after 20 updates without clipping, and after the first with it."""
    torch.set_num_threads(1)
    with process_group(CPU):
        found = [compare("adamw", 0.0, 20, 1e-5), *(compare(opt, 0.01, 1, 1e-3) for opt in opts)]
        if rank() == 0:
            print(json.dumps(found))


@pytest.mark.slow
@pytest.mark.parametrize("opts", [ELEMENTWISE[:1], pytest.param(ELEMENTWISE[1:], marks=pytest.mark.exhaustive)])
def test_the_updates_are_those_of_whole_networks(tmp_path: Path, opts: tuple[str, ...]) -> None:
    script = tmp_path / "ranks.py"
    script.write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
                      f"from tests.training.test_sharding import print_comparison; print_comparison(*{opts})")
    many, *first = json.loads(finish(start_ranks(2, script, cwd=tmp_path)))
    assert len(first) == len(opts)
    for found in (many, *first):
        assert max(found[name] for name in ("weights", "average", "moments")) < 1e-8
        assert found["share"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.slow
def test_a_divided_run_is_that_of_whole_networks_and_goes_on_elsewhere(tmp_path: Path) -> None:
    data = write_data_set(tmp_path / "data", artists=3, train=8, val=3)
    common = ("--epochs", 3, "--lr", "1e-4", "--mixup", 0.5)
    finish(launch(2, data, tmp_path / "whole", *common, "--batch-size", 2, "--accumulation-steps", 2))
    told = finish(launch(2, data, tmp_path / "divided", *common, "--batch-size", 2, "--accumulation-steps", 2, "--fsdp",
                         "--save-every", 2))
    assert "all weights are divided among 2 processes" in told
    for a, b in zip(records(tmp_path / "whole"), records(tmp_path / "divided"), strict=True):
        assert a["train_loss"] == pytest.approx(b["train_loss"], abs=1e-4)
        assert a["val_top1"] == b["val_top1"]
    assert difference(tmp_path / "whole" / "checkpoint.pth", tmp_path / "divided" / "checkpoint.pth") < 1e-3
    begun = tmp_path / "divided" / "checkpoint_2.pth"
    told = finish(launch(3, data, tmp_path / "three", *common, "--batch-size", 4, "--fsdp", "--resume", begun))
    assert "resumed" in told
    told = finish(launch(1, data, tmp_path / "one", *common, "--batch-size", 4, "--fsdp", "--resume", begun))
    assert "one process: nothing is divided" in told
