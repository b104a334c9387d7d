"""Whose weights a file holds."""

import pytest

from mmquad.releases.families import family_of, split_model


@pytest.mark.parametrize(
    ("names", "family"),
    [
        (["layers.0.blocks.1.op.score_predictor.in_conv.0.weight"], "QuadMamba (released)"),
        (["layers.0.blocks.1.op.x_proj_weight", "classifier.head.weight"], "VMamba"),
        (["layers.0.blocks.0.self_attention.A_logs"], "VMamba"),
        (
            ["layers.0.blocks.0.op.A_logs", "layers.0.blocks.0.conv_branch.0.bias"],
            "EfficientVMamba",
        ),
        (["block1.0.attn.mamba_g1.A_logs", "patch_embed1.proj.weight"], "GroupMamba"),
        (
            [
                "layers.0.blocks.0.self_attention.A_logs",
                "layers.0.blocks.0.self_attention.state_fusion.alpha",
            ],
            "SpatialMamba",
        ),
        (["layers.0.blocks.0.attn.relative_position_bias_table"], "Swin Transformer"),
        (["stages.0.blocks.0.attn.w_msa.relative_position_bias_table"], "Swin Transformer"),
        (["cls_token", "blocks.0.attn.qkv.weight"], "ViT (DeiT)"),
        (["layers.3.mixer.A_log"], "Vim"),
        (["layers.3.mamba.A_log"], "PlainMamba"),
        (["levels.0.blocks.0.conv1.bias", "patch_embed.conv_down.1.bias"], "MambaVision"),
        (["layers.3.mixer.A_log_1", "layers.3.mixer.in_proj.weight"], "LocalVim"),
        (["backbone.stem.conv.weight", "backbone.stages.0.mixer.ssm.A_log"], "mmquad"),
        (["downsample_layers.0.0.weight", "stages.0.0.gamma"], "ConvNeXt"),
        (["layer1.0.conv1.weight", "bn1.weight"], "ResNet"),
        (["backbone.stem.conv1.weight", "backbone.stages.0.0.mixer.conv.weight"], "mmquad"),
        (["linear.weight"], None),
        ([], None),
    ],
)
def test_families(names: list[str], family: str | None):
    assert family_of(names) == family


def test_backbones_are_split_from_heads():
    own = {"backbone.a": 1, "backbone.b.c": 2, "head.fc.weight": 3, "ema_backbone_a": 4}
    assert split_model(own) == ({"a": 1, "b.c": 2}, {"head.fc.weight": 3})
    assert split_model({"a": 1, "head.weight": 3}) == ({"a": 1, "head.weight": 3}, {})
