"""The backbones of others that tables put beside those here: what papers call them, and configs."""

from pathlib import Path

__all__ = ["CLASSIFIERS", "CONTROLS", "control_name"]

# By the part of a config's file name.
CONTROLS = {
    "resnet18": "ResNet-18",
    "resnet50": "ResNet-50",
    "resnet101": "ResNet-101",
    "pvt-tiny": "PVT-T",
    "pvt-small": "PVT-S",
    "pvt-medium": "PVT-M",
    "swin-tiny": "Swin-T",
    "swin-small": "Swin-S",
    "swin-base": "Swin-B",
    "convnext-tiny": "ConvNeXt-T",
    "convnext-small": "ConvNeXt-S",
    "deit-small": "DeiT-S",
    "mambaout-tiny": "MambaOut-T",
    "regnety-4gf": "RegNetY-4G",
    "regnety-8gf": "RegNetY-8G",
    "regnety-16gf": "RegNetY-16G",
}

# mmpretrain's configs of those that it has.
CLASSIFIERS = {
    "ResNet-18": "mmpretrain::resnet/resnet18_8xb32_in1k.py",
    "ResNet-50": "mmpretrain::resnet/resnet50_8xb32_in1k.py",
    "ResNet-101": "mmpretrain::resnet/resnet101_8xb32_in1k.py",
    "Swin-T": "mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py",
    "Swin-S": "mmpretrain::swin_transformer/swin-small_16xb64_in1k.py",
    "Swin-B": "mmpretrain::swin_transformer/swin-base_16xb64_in1k.py",
    "ConvNeXt-T": "mmpretrain::convnext/convnext-tiny_32xb128_in1k.py",
    "ConvNeXt-S": "mmpretrain::convnext/convnext-small_32xb128_in1k.py",
    "DeiT-S": "mmpretrain::deit/deit-small_4xb256_in1k.py",
}


def control_name(config: str | Path) -> str | None:
    """What papers call the backbone of a config of ``controls``; None for other configs.

    Example:
        >>> control_name("configs/mmdet/controls/mask-rcnn_swin-tiny_fpn_1x_coco.py")
        'Swin-T'
    """
    config = Path(config)
    if config.parent.name != "controls":
        return None
    parts = config.stem.split("_")
    return next(name for part, name in CONTROLS.items() if part in parts)
