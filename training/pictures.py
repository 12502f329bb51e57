"""Which pictures a run trains on and validates with: saved with it, and compared when it resumes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from runtime.checkpoint import Checkpoint
from utils import UserError, counted


@dataclass(frozen=True, eq=False)
class Pictures:
    """Digests of the pictures' paths below train/ and val/, or of the files of annotations, sorted.

    Attributes:
        train: (N,) int64.
        val: (M,) int64.
    """

    train: np.ndarray
    val: np.ndarray

    @classmethod
    def of(cls, train: Sequence[str], val: Sequence[str]) -> Pictures:
        """Those of these paths, damaged ones among them."""
        return cls(_digests(train), _digests(val))

    @classmethod
    def saved(cls, checkpoint: Checkpoint) -> Pictures | None:
        """Those that `checkpoint` was saved with; None where it does not say them."""
        saved = checkpoint.content.get("pictures")
        if not isinstance(saved, dict) or not all(_is_list(saved.get(side)) for side in ("train", "val")):
            return None
        return cls(*(np.unique(saved[side].numpy()) for side in ("train", "val")))

    def as_content(self) -> dict[str, Any]:
        """Tensors, for a checkpoint."""
        return {"train": torch.from_numpy(self.train), "val": torch.from_numpy(self.val)}

    def compare(self, checkpoint: Checkpoint, *, accept: bool) -> list[str]:
        """Lines for the log on what differs from the pictures of `checkpoint`; none where it does not say them.

        Args:
            checkpoint: of the run that resumes.
            accept: go on although pictures are gone or new.

        Raises:
            UserError: pictures are gone or new and that is not accepted; or one that was trained on now validates.
        """
        before = Pictures.saved(checkpoint)
        if before is None:
            return []
        moved = len(np.setdiff1d(np.intersect1d(before.train, self.val), before.val))
        if moved:
            raise UserError(f"{counted(moved, 'picture')} to validate with that {checkpoint.path} was trained on",
                            "the split that the run was begun with",
                            "restore it, or start anew: figures on such pictures would flatter")
        gone, new = (sum(len(np.setdiff1d(first, second)) for first, second in ((one.train, other.train),
                                                                                (one.val, other.val)))
                     for one, other in ((before, self), (self, before)))
        if not gone and not new:
            return []
        if not accept:
            raise UserError(f"a data set that lacks {counted(gone, 'picture')} and has {new} new since "
                            f"{checkpoint.path}",
                            "the pictures that the run was begun with",
                            "restore them, or add --accept-changed-data: then it goes on, but not exactly, and the "
                            "best figure so far no longer counts")
        return [f"no exact resume: {counted(gone, 'picture')} gone and {new} new since {checkpoint.path}; the best "
                "figure so far no longer counts"]


def _digests(names: Sequence[str]) -> np.ndarray:
    digests = [hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest() for name in names]
    return np.unique(np.frombuffer(b"".join(digests), "<i8").astype(np.int64))


def _is_list(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim == 1 and value.dtype == torch.int64
