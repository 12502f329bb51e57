"""LSNet for artists: its features, between backbone and classifier, serve clustering and retrieval.

To add a model of your own, add a row to `PRESETS`; every command then knows it by its name.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from model.lsnet import LSNet, NormLinear, Preset, register_presets


class LSNetArtist(LSNet):
    """LSNet with *features* before the classifier: the pooled last stage, or a projection of it to `feature_dim`.

    `forward_head(..., pre_logits=True)` returns the features, (B, feature_dim).

    Args:
        num_classes: number of artists; with 0 there is no classifier, and `forward` returns the features.
        feature_dim: width of the features; with None or the last stage's width there is no projection.
        kwargs: further arguments of `LSNet`.
    """

    def __init__(self, num_classes: int = 1000, feature_dim: int | None = None, **kwargs: Any) -> None:
        super().__init__(num_classes=0, **kwargs)
        self.projection = nn.Identity()
        if feature_dim is not None and feature_dim != self.num_features:
            self.projection = nn.Sequential(NormLinear(self.num_features, feature_dim), nn.ReLU(inplace=True))
            self.head_hidden_size = feature_dim
        self.reset_classifier(num_classes)

    def _pool(self, x_BCHW: Tensor) -> Tensor:
        return self.projection(super()._pool(x_BCHW)) if self.global_pool else x_BCHW


PRESETS = {
    # name: widths and depths of the four stages, attention heads of the last
    "lsnet_t_artist": Preset((64, 128, 256, 384), (0, 2, 8, 10), 4, hf_hub_id="jameslahm/lsnet_t"),
    "lsnet_s_artist": Preset((96, 192, 320, 448), (1, 2, 8, 10), 4, hf_hub_id="jameslahm/lsnet_s"),
    "lsnet_b_artist": Preset((128, 256, 384, 512), (4, 6, 8, 10), 4, hf_hub_id="jameslahm/lsnet_b"),
    "lsnet_l_artist": Preset((160, 320, 480, 640), (6, 8, 12, 14), 4),
    "lsnet_xl_artist": Preset((192, 384, 576, 768), (8, 12, 16, 20), 6),
    "lsnet_xl_artist_448": Preset((192, 384, 576, 768), (8, 12, 16, 20), 6, img_size=448),
}
default_cfgs = {}
register_presets(LSNetArtist, PRESETS)
