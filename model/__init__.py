"""LSNet and its artist models; importing this package registers every preset with timm."""

from model.lsnet import LSNet, checkpoint_filter_fn
from model.lsnet_artist import LSNetArtist

__all__ = ["LSNet", "LSNetArtist", "checkpoint_filter_fn"]
