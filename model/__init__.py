"""LSNet and its artist models; importing this package registers every preset with timm."""

from model.lsnet import LSNet, checkpoint_filter_fn
from model.lsnet_artist import LSNetArtist
from model.style_network import StyleNetwork

__all__ = ["LSNet", "LSNetArtist", "StyleNetwork", "checkpoint_filter_fn"]
