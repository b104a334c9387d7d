"""Whose weights a file holds, and where in it they are."""

import pytest
import torch

from mmquad.checkpoints import CheckpointMismatchError
from mmquad.checkpoints.families import family_of, find_state_dict, split_model

WEIGHTS = {"a": torch.zeros(1), "b": torch.ones(2)}


@pytest.mark.parametrize(
    ("names", "family"),
    [
        (["layers.0.blocks.1.op.score_predictor.in_conv.0.weight"], "QuadMamba (released)"),
        (["layers.0.blocks.1.op.x_proj_weight", "classifier.head.weight"], "VMamba"),
        (["layers.0.blocks.0.self_attention.A_logs"], "VMamba"),
        (["layers.0.blocks.0.attn.relative_position_bias_table"], "Swin Transformer"),
        (["stages.0.blocks.0.attn.w_msa.relative_position_bias_table"], "Swin Transformer"),
        (["cls_token", "blocks.0.attn.qkv.weight"], "ViT (DeiT)"),
        (["layers.3.mixer.A_log"], "Vim"),
        (["layers.3.mamba.A_log"], "PlainMamba"),
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


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        {"model": WEIGHTS, "optimizer": {"state": {}}, "epoch": 3},
        {"state_dict": {"model": {"module": WEIGHTS}}},
        {"model": {f"module.{k}": v for k, v in WEIGHTS.items()}},
        {"model": {f"_orig_mod.module.{k}": v for k, v in WEIGHTS.items()}},
        {"model_ema": {"a": torch.ones(1)}, "model": WEIGHTS},
    ],
    ids=["bare", "model", "nested", "ddp", "compiled", "two"],
)
def test_weights_are_found(content: dict):
    found = find_state_dict(content)
    assert list(found) == ["a", "b"]
    assert all(found[name] is WEIGHTS[name] for name in WEIGHTS)


def test_a_key_names_one_of_several():
    content = {"model": WEIGHTS, "ema": {"model": {"c": torch.zeros(1)}}}
    assert list(find_state_dict(content, "ema")) == list(find_state_dict(content, "ema.model"))
    assert list(find_state_dict(content, "ema")) == ["c"]
    with pytest.raises(
        CheckpointMismatchError, match=r"no 'teacher'; its keys are .'model', 'ema'"
    ):
        find_state_dict(content, "teacher")


def test_no_weights():
    with pytest.raises(CheckpointMismatchError, match=r"no weights found.*\['epoch', 'best'\]"):
        find_state_dict({"epoch": 3, "best": {"a": torch.zeros(1)}})
