"""The configs of several families: every leaf is sound, one per family and library trains a step.

That every leaf builds, with the parameters listed, is tested with the model index.
"""

import copy
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from config_steps import CONFIGS, batch, build, ease, load
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper

from mmquad.releases.known import RELEASES

FAMILIES = (
    "vmamba",
    "vim",
    "plainmamba",
    "mambavision",
    "spatialmamba",
    "groupmamba",
    "efficientvmamba",
)
LEAVES = sorted(path for family in FAMILIES for path in CONFIGS.glob(f"*/{family}/*.py"))
# The smallest of each family and library.
TRAINED = [
    "mmpretrain/vmamba/vmamba-vanilla-tiny_8xb128_in1k",
    "mmpretrain/vim/vim-tiny_8xb128_in1k",
    "mmpretrain/plainmamba/plainmamba-l1_8xb256_in1k",
    "mmpretrain/efficientvmamba/efficientvmamba-tiny_16xb128_in1k",
    "mmdet/efficientvmamba/mask-rcnn_efficientvmamba-tiny_fpn_1x_coco",
    "mmdet/efficientvmamba/retinanet_efficientvmamba-tiny_fpn_1x_coco",
    "mmseg/efficientvmamba/upernet-c256_efficientvmamba-tiny_8xb2-160k_ade20k-512x512",
    "mmpretrain/groupmamba/groupmamba-tiny_8xb128_in1k",
    "mmdet/groupmamba/mask-rcnn_groupmamba-tiny_fpn_1x_coco",
    "mmseg/groupmamba/upernet_groupmamba-tiny_8xb2-160k_ade20k-512x512",
    "mmpretrain/spatialmamba/spatialmamba-tiny_8xb128_in1k",
    "mmdet/spatialmamba/mask-rcnn_spatialmamba-tiny_fpn_1x_coco",
    "mmseg/spatialmamba/upernet_spatialmamba-tiny_8xb2-160k_ade20k-512x512",
    "mmpretrain/mambavision/mambavision-tiny_32xb128_in1k",
    "mmdet/mambavision/cascade-mask-rcnn_mambavision-tiny_fpn_amp-ms-3x_coco",
    "mmseg/mambavision/upernet_mambavision-tiny_16xb1-160k_ade20k-512x512",
    "mmdet/vmamba/mask-rcnn_vmamba-tiny-s1l8_fpn_1x_coco",
    "mmdet/vim/mask-rcnn_vim-tiny_sfp_1x_coco",
    "mmdet/plainmamba/mask-rcnn_plainmamba-l1_sfp_1x_coco",
    "mmseg/vmamba/upernet_vmamba-vanilla-tiny_8xb2-160k_ade20k-512x512",
    "mmseg/vim/upernet_vim-tiny_4xb8-60k_ade20k-512x512",
    "mmseg/plainmamba/upernet_plainmamba-l1_8xb2-160k_ade20k-512x512",
]


def shorten(cfg: Config) -> Config:
    """The same with as few blocks as the out indices leave, and few boxes, for speed."""
    cfg = copy.deepcopy(cfg)
    backbone = cfg.model.backbone
    name = backbone.type.removeprefix("mmquad.")
    archs = next(r.archs for r in RELEASES.values() if r.backbone.__name__ == name)
    arch = archs[backbone.arch]._asdict()
    if "depths" in arch:
        arch["depths"] = (1, 1, 1, 1)
    else:
        arch["depth"] = 4
        if len(backbone.get("out_indices", (-1,))) == 4:
            backbone.out_indices = (0, 1, 2, 3)
    backbone.arch = arch
    backbone.drop_path_rate = 0.0  # of two samples a branch may drop both
    ease(cfg)
    return cfg


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: path.stem)
def test_leaf_documents_itself_and_adds_up(path: Path):
    text = path.read_text()
    assert text.startswith(('"""', 'r"""'))
    assert len(text.splitlines()) <= 30
    cfg = load(str(path.relative_to(CONFIGS).with_suffix("")))
    assert cfg.default_scope == path.parts[-3]
    assert cfg.train_dataloader.worker_init_fn.type == "mmquad.seed_worker"
    gpus = int(text.split(f"{path.name} ")[1].split()[0])
    assert cfg.train_dataloader.batch_size * gpus == cfg.auto_scale_lr.base_batch_size
    assert "Published: " in text


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_one_training_step_and_one_prediction(name: str):
    torch.manual_seed(0)
    np.random.seed(0)
    cfg = shorten(load(name))
    model = build(cfg)
    model.init_weights()
    with torch.no_grad():
        for parameter in model.backbone.parameters():  # no gradient is then next to nothing
            parameter.add_(0.1 * torch.randn_like(parameter))
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0)
    wrapper = OptimWrapper(optimizer)
    model.train()
    losses = model.train_step(batch(cfg, 64, 96), wrapper)
    assert losses
    assert all(torch.as_tensor(loss).isfinite().all() for loss in losses.values())
    moved = {key for key, old in before.items() if not old.equal(model.state_dict()[key])}
    still = [k for k in before if k.startswith("backbone.") and k not in moved]
    # A class block reads one token, after no other: nothing decays.
    assert [k for k in still if not re.search(r"class_block\..*A_log$", k)] == []
    model.eval()
    assert len(model.test_step(batch(cfg, 65, 80))) == 2


def decays(name: str) -> dict[str, float]:
    """Weight decay of every parameter, as the config's constructor gives it."""
    cfg = shorten(load(name))
    model = build(cfg)
    names = {parameter: name for name, parameter in model.named_parameters()}
    settings = copy.deepcopy(cfg.optim_wrapper) | {"type": "OptimWrapper"}
    settings.pop("loss_scale", None)  # of mixed precision, which needs a GPU
    wrapper = build_optim_wrapper(model, settings)
    return {
        names[parameter]: group["weight_decay"]
        for group in wrapper.optimizer.param_groups
        for parameter in group["params"]
    }


@pytest.mark.parametrize("name", [n for n in TRAINED if "tiny" in n or "l1_" in n])
def test_weight_decay_spares_norms_positions_and_state_space_parameters(name: str):
    words = ("A_log", "D_skip", "dt_bias", "direction_B", "positions.", "class_token.", "norm")
    for parameter, decay in decays(name).items():
        if parameter.startswith("backbone.") and any(word in parameter for word in words):
            assert decay == 0, parameter
        if parameter.endswith(("in_proj.weight", "x_proj")):
            assert decay > 0, parameter


@pytest.mark.parametrize(
    ("name", "decayed", "spared"),
    [
        (
            "mmpretrain/vmamba/vmamba-vanilla-tiny_8xb128-released-decay_in1k",
            ("A_log", "dt_bias", "x_proj"),
            ("norm1.weight", "norm.bias", "stem.norm.weight", "conv.bias"),
        ),
        (
            "mmdet/vmamba/mask-rcnn_vmamba-vanilla-tiny_fpn_released-decay-1x_coco",
            ("A_log", "dt_bias", "D_skip", "stem.norm.weight", "conv.bias"),
            ("norm1.weight", "mixer.norm.bias", "backbone.norm0.weight"),
        ),
        (
            "mmseg/vmamba/upernet_vmamba-vanilla-tiny_8xb2-released-decay-160k_ade20k-512x512",
            ("A_log", "dt_bias", "D_skip", "stem.norm.weight", "conv.bias", ".bn.weight"),
            ("norm1.weight", "mixer.norm.bias", "backbone.norm0.weight"),
        ),
    ],
)
def test_released_decay(name: str, decayed: tuple[str, ...], spared: tuple[str, ...]):
    found = decays(name)
    for endings, expected in ((decayed, True), (spared, False)):
        for ending in endings:
            matching = {k: v for k, v in found.items() if k.endswith(ending)}
            assert matching, ending
            matching = {
                k: v for k, v in matching.items() if "stem.norm" in ending or "stem" not in k
            }
            assert all((v > 0) == expected for v in matching.values()), ending


def test_recipes_differ_where_the_papers_do():
    vim = load("mmseg/vim/upernet_vim-tiny_4xb8-60k_ade20k-512x512")
    assert vim.train_cfg.val_interval == vim.default_hooks.checkpoint.interval == 6000
    assert vim.train_cfg.max_iters == vim.param_scheduler[1].end == 60000
    assert (vim.optim_wrapper.optimizer.lr, vim.optim_wrapper.optimizer.weight_decay) == (2e-4, 0.1)
    assert vim.model.test_cfg == {"mode": "slide", "crop_size": (512, 512), "stride": (341, 341)}
    l3 = load("mmpretrain/plainmamba/plainmamba-l3_4xb256_in1k")
    assert (l3.optim_wrapper.optimizer.lr, l3.optim_wrapper.clip_grad) == (1e-3, {"max_norm": 1.0})
    l1, l2 = (load(f"mmpretrain/plainmamba/plainmamba-{size}_8xb256_in1k") for size in ("l1", "l2"))
    assert [(c.param_scheduler[0].end, c.param_scheduler[1].begin) for c in (l1, l2)] == [
        (15, 15),
        (20, 20),
    ]
    assert [any(h.type == "EMAHook" for h in c.custom_hooks) for c in (l1, l2)] == [False, True]
    small = load("mmpretrain/vim/vim-small_8xb64_in1k")
    assert small.optim_wrapper.clip_grad is None
    assert small.auto_scale_lr.base_batch_size == 512
    fine = load("mmpretrain/vim/vim-tiny-stride8_8xb128-ft_in1k")
    assert fine.train_cfg.max_epochs == 30
    assert fine.optim_wrapper.optimizer.lr == 1e-5
    vmamba = load("mmpretrain/vmamba/vmamba-vanilla-tiny_8xb128_in1k")
    assert vmamba.optim_wrapper.optimizer.lr == 1e-3
    assert vmamba.model.neck.type == "GlobalAveragePooling"
