"""Networks by name, and what their one pass answers."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch

from runtime.networks import (
    Architecture,
    WithFeatures,
    check_name,
    classifier_names,
    feature_blocks,
    features_and_logits,
    make_architecture,
    strip_wrappers,
    takes_input_size,
)
from utils import UserError


@pytest.mark.parametrize("architecture", [
    Architecture(name="lsnet_t_artist", num_classes=5, model_args={"img_size": 64}),
    Architecture(name="lsnet_t_artist", num_classes=5, model_args={"img_size": 64, "feature_dim": 32}),
    Architecture(name="test_resnet", num_classes=5),
    Architecture(name="test_vit", num_classes=5, model_args={"img_size": 64}),
])
def test_one_pass_gives_what_the_network_gives(architecture: Architecture) -> None:
    network = architecture.create().eval()
    images = torch.randn(3, 3, 64, 64)
    with torch.inference_mode():
        features, logits = features_and_logits(network, images)
        torch.testing.assert_close(logits, network(images))
        torch.testing.assert_close(network.get_classifier()(features), logits)
    assert features.shape == (3, architecture.model_args.get("feature_dim", network.num_features))


def test_an_unknown_name_is_answered_with_the_closest() -> None:
    with pytest.raises(UserError, match=r"lsnet_b_artist"):
        check_name("lsnet_b_artis")


def test_only_networks_built_for_one_size_are_told_it() -> None:
    assert takes_input_size("lsnet_b")
    assert takes_input_size("vit_tiny_patch16_224")
    assert not takes_input_size("resnet18")
    assert make_architecture("resnet18", 3, input_size=96).model_args == {}
    assert make_architecture("vit_tiny_patch16_224", 3, input_size=96, drop_path_rate=0.1).model_args == {
        "img_size": 96, "drop_path_rate": 0.1}


def test_arguments_a_model_does_not_take_are_the_users_error() -> None:
    with pytest.raises(UserError, match="no_such_thing"):
        Architecture(name="lsnet_t_artist", num_classes=3, model_args={"no_such_thing": 1}).create()
    with pytest.raises(UserError, match="projection"):
        make_architecture("resnet18", 3, feature_dim=64)


def test_wrappers_are_stripped_only_where_every_key_has_them() -> None:
    assert strip_wrappers({"_orig_mod.module.a": 1, "_orig_mod.module.b": 2}) == {"a": 1, "b": 2}
    assert strip_wrappers({"module.a": 1, "b": 2}) == {"module.a": 1, "b": 2}


def test_classifiers_are_named_as_timm_names_them() -> None:
    assert classifier_names(Architecture(name="lsnet_t_artist", num_classes=3).create()) == ("head.l",)
    assert classifier_names(Architecture(name="test_resnet", num_classes=3).create()) == ("fc",)


@pytest.mark.parametrize("name", ["lsnet_t_artist", "resnet18", "repvit_m0_9", "mobilenetv4_conv_small"])
def test_the_features_that_training_sees_are_those_of_inference(name: str) -> None:
    network = timm.create_model(name, num_classes=3).eval()
    images = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        network.training = True  # of the network itself; its layers stay in evaluation mode
        logits, features = WithFeatures(network)(images)
        network.eval()
        torch.testing.assert_close(logits, network(images))
        torch.testing.assert_close(features, features_and_logits(network, images)[0])


def test_both_heads_of_a_student_read_the_features() -> None:
    network = timm.create_model("lsnet_t", num_classes=3, distillation=True).train()
    (logits, taught), features = WithFeatures(network)(torch.randn(2, 3, 224, 224))
    assert logits.shape == taught.shape == (2, 3)
    assert features.shape == (2, 384)


@pytest.mark.parametrize("name", ["test_efficientnet", pytest.param("lsnet_t_artist", marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("feature_dim", [None, 6])
def test_kinds_of_features_of_one_pass(name: str, feature_dim: int | None) -> None:
    plain: Any = timm.create_model(name, num_classes=3).eval()
    headed: Any = timm.create_model("style_network", backbone=name, num_classes=3, feature_dim=feature_dim).eval()
    headed.backbone.load_state_dict(plain.state_dict(), strict=False)
    images = torch.randn(2, *plain.pretrained_cfg["input_size"])
    with torch.inference_mode():
        style, pooled = (features_and_logits(plain, images, kind)[0] for kind in ("style", "pooled"))
        both, logits = features_and_logits(plain, images, "both")
        torch.testing.assert_close(both, torch.cat([style, pooled], 1))
        torch.testing.assert_close(logits, plain(images))
        for kind, expected in (("style", style), ("both", both)):
            features, logits = features_and_logits(headed, images, kind)
            torch.testing.assert_close(features, expected)
            torch.testing.assert_close(logits, headed(images))
            assert feature_blocks(headed, kind) == feature_blocks(plain, kind)
            assert sum(feature_blocks(plain, kind)) == expected.shape[1]
        own, logits = features_and_logits(headed, images)
        torch.testing.assert_close(logits, headed(images))
        assert feature_blocks(headed, "pooled") == [own.shape[1]] == [feature_dim or pooled.shape[1]]
