"""The table of released files, and telling which of them a file is."""

import runpy
import sys
from pathlib import Path

import pytest
import torch

from mmquad.analysis.zoo import read_metafiles
from mmquad.backbones import PlainMamba, Vim, VMamba
from mmquad.checkpoints import CheckpointMismatchError, file_sha256
from mmquad.releases.identify import identify_file
from mmquad.releases.known import RELEASES
from mmquad.releases.table import read_table

sys.path.append(str(Path(__file__).parents[1] / "backbones"))
from local_reference import localvmamba_shapes
from released_families import plainmamba_shapes, random_weights, vim_shapes, vmamba_shapes

ROOT = Path(__file__).parents[2]
TABLE = read_table(ROOT / "configs" / "checkpoints.yml")
TOOL = ROOT / "tools" / "model_converters" / "identify_checkpoint.py"


def test_every_row_leads_to_a_config_that_reports_the_same():
    reported = {
        model["Config"]: {k: v for r in model.get("Results", []) for k, v in r["Metrics"].items()}
        for content in read_metafiles(ROOT)
        for model in content["Models"]
    }
    archs = {r.backbone.__name__: r.archs for r in RELEASES.values()}
    assert len({row["url"] for row in TABLE}) == len(TABLE) > 40
    for row in TABLE:
        assert row["arch"] in archs[row["model"]]
        by_hand = row["url"].startswith("https://drive.google.com/file/d/")
        assert row["url"].endswith(row["file"]) != by_hand
        if "unsupported" in row:
            continue
        if row["file"] != "mask_rcnn_vssm_fpn_coco_base_epoch_12_bs8.pth":  # a second run
            assert row["metrics"] == reported[row["config"]], row["file"]
        assert row["config"] in reported


def saved(path: Path, content: dict) -> Path:
    torch.save(content, path)
    return path


@pytest.fixture(params=["vmamba", "vim", "plainmamba"])
def small(request, tmp_path: Path, monkeypatch) -> tuple[Path, list[dict]]:
    """A small classifier of a release, and a table in which its architecture has a name."""
    kinds = {
        "vmamba": (VMamba, vmamba_shapes(8, (1, 1, 1, 1), ssm_ratio=1), {}),
        "vim": (Vim, vim_shapes(16, 2, 196), {}),
        "plainmamba": (PlainMamba, plainmamba_shapes(16, 2, 1, (0,)), {"ema_x": torch.zeros(1)}),
    }
    kind, shapes, extra = kinds[request.param]
    weights = random_weights(shapes)
    release = next(r for r in RELEASES.values() if r.backbone is kind)
    arch = type(next(iter(release.archs.values())))(**release.arch(weights))
    monkeypatch.setitem(release.archs, "small", arch)
    if kind is PlainMamba:
        weights |= {
            f"{name.removesuffix('running_mean')}num_batches_tracked": torch.tensor(7)
            for name in weights
            if name.endswith("running_mean")
        }
        weights = {f"backbone.{k}": v for k, v in weights.items()}
        weights |= {"head.fc.weight": torch.randn(5, 16), "head.fc.bias": torch.randn(5)}
    config = "configs/mmpretrain/small.py"
    row = {"model": kind.__name__, "arch": "small", "config": config, "metrics": {}}
    other = row | {"file": "other.pth", "arch": "large"}
    path = saved(tmp_path / "small.pth", {"model": weights | extra, "epoch": 3})
    return path, [other, row | {"file": "same-arch.pth"}, row | {"file": "small.pth"}]


def test_a_file_is_told_by_its_weights_then_by_its_name(small: tuple):
    path, table = small
    found = identify_file(path, table)
    assert (found.task, found.known) == ("mmpretrain", False)
    assert [row["file"] for row in found.entries] == ["small.pth", "same-arch.pth"]
    assert found.conversion.matched == found.conversion.total
    assert {k.split(".")[0] for k in found.conversion.state_dict} == {"backbone", "head"}


def test_a_checksum_decides(small: tuple):
    path, table = small
    table[1]["sha256"] = file_sha256(path)
    found = identify_file(path, table)
    assert found.known
    assert found.entries == [table[1]]


def test_detectors_and_segmentors_are_told_by_their_heads(tmp_path: Path):
    weights = random_weights(vmamba_shapes(8, (1, 1, 1, 1), ssm_ratio=1))
    backbone = {f"backbone.{k}": v for k, v in weights.items() if "classifier" not in k}
    for i, c in enumerate((8, 16, 32, 64)):
        backbone |= {f"backbone.outnorm{i}.{p}": torch.ones(c) for p in ("weight", "bias")}
    for head, task in (("decode_head", "mmseg"), ("roi_head", "mmdet")):
        content = {"state_dict": backbone | {f"{head}.conv.weight": torch.ones(1)}}
        found = identify_file(saved(tmp_path / "file.pth", content), [])
        assert found.task == task
        assert found.entries == []
        assert f"{head}.conv.weight" in found.conversion.state_dict


def test_what_is_not_supported_says_why(tmp_path: Path):
    weights = {
        f"backbone.{k}": v for k, v in random_weights(plainmamba_shapes(8, 1, 1, ())).items()
    }
    weights["backbone.spm.stem.0.weight"] = torch.ones(1)
    path = saved(tmp_path / "l1_1x.pth", {"state_dict": weights})
    with pytest.raises(
        CheckpointMismatchError, match=r"'spm.stem.0.weight' is not a name(.|\n)*ViT"
    ):
        identify_file(path, TABLE)


def test_directions_that_no_file_holds_are_told_by_its_name(tmp_path: Path):
    shapes = localvmamba_shapes(8, [1])
    path = saved(tmp_path / "local_vssm_small.ckpt", {"state_dict": random_weights(shapes)})
    with pytest.raises(
        CheckpointMismatchError,
        match=r"--arch\)(.|\n)*of that name: LocalVMamba small, configs/\S+/localvmamba-small_",
    ):
        identify_file(path, TABLE)


def test_the_tool(tmp_path: Path, monkeypatch, capsys):
    weights = random_weights(vim_shapes(16, 2, 196))
    path = saved(tmp_path / "vim.pth", {"model": weights})
    monkeypatch.setattr(sys, "argv", [TOOL.name, str(path)])
    runpy.run_path(str(TOOL), run_name="__main__")
    printed = capsys.readouterr().out
    assert "model    Vim\n" in printed
    assert "none of the released files listed" in printed
    path.write_bytes(b"<html>404</html>")
    with pytest.raises(SystemExit, match="an HTML page"):
        runpy.run_path(str(TOOL), run_name="__main__")
