"""Artist models: where features come from, and their width."""

from __future__ import annotations

import pytest
import timm
import torch

from model.lsnet import LSNet
from model.lsnet_artist import LSNetArtist
from tests.model import golden

TINY = {"embed_dim": (16, 16, 24, 32), "depth": (0, 1, 2, 2), "num_heads": 2, "img_size": 64, "num_classes": 5}


@torch.no_grad()
@pytest.mark.parametrize("feature_dim", [None, 32])
def test_features_are_pooled_where_no_other_width_is_asked_for(feature_dim):
    network, x = golden.fill(LSNetArtist(**TINY, feature_dim=feature_dim)), golden.pictures(64)
    plain = LSNet(**TINY).double().eval()
    plain.load_state_dict(network.state_dict())
    final = network.forward_features(x)
    torch.testing.assert_close(network.forward_head(final, pre_logits=True), final.mean((2, 3)))
    torch.testing.assert_close(network(x), plain(x))


@torch.no_grad()
@pytest.mark.parametrize("feature_dim", [8, 100])
def test_features_are_projected_to_another_width(feature_dim):
    network, x = golden.fill(LSNetArtist(**TINY, feature_dim=feature_dim, distillation=True)), golden.pictures(64)
    assert (network.num_features, network.head_hidden_size) == (32, feature_dim)
    final = network.forward_features(x)
    features = network.forward_head(final, pre_logits=True)
    expected = network.projection[0].l(network.projection[0].bn(final.mean((2, 3)))).relu()
    torch.testing.assert_close(features, expected)
    torch.testing.assert_close(network(x), (network.head(features) + network.head_dist(features)) / 2)
    torch.testing.assert_close(network.for_inference()(x), network(x))
    network.reset_classifier(0)
    torch.testing.assert_close(network(x), features)
    network.reset_classifier(9)
    assert network(x).shape == (2, 9)


def test_pretrained_weights_of_other_artists_keep_the_features():
    source = golden.fill(LSNetArtist(**TINY, feature_dim=8))
    arguments = {**TINY, "feature_dim": 8, "num_classes": 3, "img_size": 128}
    overlay = {"state_dict": source.state_dict(), "num_classes": 5}
    network = timm.create_model("lsnet_t_artist", pretrained=True, pretrained_cfg_overlay=overlay, **arguments)
    source.set_input_size(128)
    x = golden.pictures(128)
    features = [m.forward_head(m.forward_features(x), pre_logits=True) for m in (source, network.double().eval())]
    torch.testing.assert_close(features[0], features[1], rtol=1e-4, atol=1e-5)
