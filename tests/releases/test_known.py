"""Which release weights belong to, or which other model they are."""

import pytest
import torch

from mmquad.checkpoints import CheckpointMismatchError
from mmquad.releases.known import RELEASES, release_of


@pytest.mark.parametrize("family", ["Swin Transformer", "ViT (DeiT)", "mmquad"])
def test_other_families_are_named(family: str):
    names = {
        "Swin Transformer": ["layers.0.blocks.0.attn.relative_position_index"],
        "ViT (DeiT)": ["cls_token", "blocks.0.attn.proj.bias"],
        "mmquad": ["stem.conv1.weight", "stages.0.0.mixer.norm.weight"],
    }[family]
    with pytest.raises(CheckpointMismatchError) as raised:
        release_of({name: torch.zeros(1) for name in names})
    assert f"These are weights of: {family}" in str(raised.value)
    assert names[0] in str(raised.value)


def test_every_release_can_be_told_by_its_names():
    names = {
        "QuadMamba (released)": "layers.0.blocks.0.op.score_predictor.in_conv.0.weight",
        "VMamba": "layers.0.blocks.0.self_attention.A_logs",
        "Vim": "layers.0.mixer.A_b_log",
        "PlainMamba": "layers.0.mamba.direction_Bs",
        "EfficientVMamba": "layers.0.blocks.0.conv_branch.0.weight",
        "GroupMamba": "block4.2.attn.mamba_g4.Ds",
        "SpatialMamba": "layers.0.blocks.0.self_attention.state_fusion.alpha",
        "MambaVision": "model.levels.3.blocks.0.mixer.A_log",
    }
    for family, name in names.items():
        names = [name, "patch_embed.conv_down.0.weight"]
        assert release_of({name: torch.zeros(1) for name in names}) is RELEASES[family]
