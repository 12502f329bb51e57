"""The fingerprint of a model: features of two models cannot be compared, and their files look alike."""

from __future__ import annotations

import hashlib
import json

import torch

from runtime.checkpoint import Checkpoint


def fingerprint(checkpoint: Checkpoint) -> str:
    """A digest, 32 hexadecimal digits, of the weights that evaluation uses and of what is done to a picture before.

    The same model has it in every file: model_best.pth and the model.safetensors beside it agree.
    """
    digest = hashlib.blake2b(json.dumps(checkpoint.config.get("preprocessing"), sort_keys=True).encode(),
                             digest_size=16)
    for name, tensor in sorted(checkpoint.evaluated.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
