"""What docs/faq.md answers, tried."""

import re
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch.nn.parallel import DistributedDataParallel
from torch.utils.flop_counter import FlopCounterMode

import mmquad.scans.library as scan_tables
from mmquad.backbones import QuadMamba
from mmquad.checkpoints import CheckpointMismatchError
from mmquad.compat import load_config
from mmquad.scans.cache import _DEFAULT_MEGABYTES, TableCache

TINY = {"dim": 8, "depths": (1, 1, 1, 1), "ssm_ratio": 1}
FAQ = (Path(__file__).parents[1] / "docs" / "faq.md").read_text()


@pytest.mark.parametrize("library", ["mmdet", "mmseg", "mmpretrain"])
def test_the_scope_is_all_a_registry_needs(library: str):
    registry = pytest.importorskip(f"{library}.registry").MODELS
    init_default_scope(library)
    assert isinstance(registry.build({"type": "mmquad.QuadMamba", "arch": TINY}), QuadMamba)
    with pytest.raises(KeyError, match=f"QuadMamba is not in the {library}::model registry"):
        registry.build({"type": "QuadMamba"})


def test_configs_that_inherit_from_mmseg_load(tmp_path: Path):
    path = tmp_path / "config.py"
    path.write_text('_base_ = "mmseg::_base_/models/upernet_r50.py"\n')
    assert load_config(str(path)).model.type == "EncoderDecoder"


@pytest.fixture
def one_process(tmp_path: Path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("out_indices", "find_unused", "fits"),
    [((0, 1, 2, 3), False, False), ((3,), False, True), ((0, 1, 2, 3), True, True)],
)
def test_ddp_wants_every_returned_map_used(one_process, out_indices, find_unused: bool, fits: bool):
    model = QuadMamba(TINY, out_indices=out_indices)
    model = DistributedDataParallel(model, find_unused_parameters=find_unused)

    def steps():
        for _ in range(2):
            last = model(torch.randn(1, 3, 32, 32))[-1]
            (last * torch.randn_like(last)).sum().backward()

    if fits:
        steps()
    else:
        with pytest.raises(RuntimeError, match="Expected to have finished reduction"):
            steps()


def test_tables_take_the_memory_that_is_said(monkeypatch):
    cache = TableCache(2**30)
    monkeypatch.setattr(scan_tables, "table_cache", cache)
    with torch.device("meta"):
        model = QuadMamba("tiny").eval()
    grids = [(200, 336), (100, 168), (50, 84), (25, 42)]
    for stage, grid in zip(model.stages, grids, strict=True):
        for block in stage:
            block.mixer.scan.tables(*grid, torch.device("cpu"))
    said = re.search(r"800 x 1344 that is (\d+) MiB. The cache holds (\d+) MiB at most", FAQ)
    assert said
    assert round(cache.bytes / 2**20) == int(said[1])
    assert int(said[2]) == _DEFAULT_MEGABYTES


def test_four_channels(tmp_path: Path):
    pytest.importorskip("mmdet")
    from mmdet.registry import MODELS

    init_default_scope("mmdet")
    (code,) = [c for c in re.findall(r"```python\n(.*?)```", FAQ, re.DOTALL) if "in_channels" in c]
    root = Path(__file__).parents[1]
    path = tmp_path / "four.py"
    base = root / "configs/mmdet/quadmamba/mask-rcnn_quadmamba-demo_fpn_shapes.py"
    path.write_text(f'_base_ = "{base}"\n{code}')
    cfg: Config = load_config(str(path))
    preprocessor = MODELS.build(cfg.model.data_preprocessor)
    images = preprocessor({"inputs": [torch.randint(0, 255, (4, 40, 50)).byte()]})["inputs"]
    backbone = MODELS.build(cfg.model.backbone)
    assert backbone(images)[0].shape[0] == 1
    assert backbone.stem(images).shape[-1] == backbone.dims[0]
    assert cfg.train_pipeline[0].color_type == "unchanged"


def test_weights_of_other_channels_are_refused(tmp_path: Path):
    path = tmp_path / "three.pth"
    torch.save(QuadMamba(TINY).state_dict(), path)
    pretrained = {"type": "Pretrained", "checkpoint": str(path)}
    with pytest.raises(CheckpointMismatchError, match="stem"):
        QuadMamba(TINY, in_channels=4, init_cfg=pretrained).init_weights()


def test_the_flop_counter_counts_the_scan():
    with FlopCounterMode(display=False) as counter:
        QuadMamba(TINY)(torch.randn(1, 3, 32, 32))
    counts = {str(op): count for op, count in counter.get_flop_counts()["Global"].items()}
    assert counts["mmquad.directional_scan"] > 0
