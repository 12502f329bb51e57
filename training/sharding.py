"""A network whose weights are divided among ranks by torch's `fully_shard`, each gathered while it is needed.

**Source:** Rajbhandari et al., "ZeRO", SC 2020, arXiv 1910.02054, stage 3; Zhao et al., arXiv 2304.11277.
"""

from __future__ import annotations

import torch
from timm.utils import ModelEmaV3
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule as Sharded
from torch.distributed.fsdp import fully_shard

from model.style_network import StyleNetwork
from runtime.processes import world_size

__all__ = ["Sharded", "shard"]


def shard(network: torch.nn.Module, ema: ModelEmaV3 | None, device: torch.device) -> None:
    """Divide the weights of `network`, which is at `device`, and of its moving average among all ranks, in place.

    The moving average must exist before: a divided network cannot be copied.
    """
    mesh = init_device_mesh(device.type, (world_size(),))
    _shard(network, mesh)
    if ema:
        _shard(ema.module, mesh)
        ema.foreach = False  # torch's joint operators do not mix divided weights and whole buffers


def _shard(network: torch.nn.Module, mesh: DeviceMesh) -> None:
    """Divide each block of the network's stages, then what is left of the whole."""
    network.to(memory_format=torch.contiguous_format)  # fully_shard takes no weights with channels innermost
    for child in (network.backbone if isinstance(network, StyleNetwork) else network).children():
        for block in child if isinstance(child, torch.nn.Sequential | torch.nn.ModuleList) else ():
            if next(block.parameters(), None) is not None:
                fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)
