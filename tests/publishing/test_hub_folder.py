"""Exported folders say what they hold, work without the run they are from, and claim nothing."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from safetensors import safe_open

from mmquad.backbones import QuadMamba, VisionBackbone
from mmquad.checkpoints import file_sha256
from mmquad.compat import load_config
from mmquad.errors import SetupError
from mmquad.inference.model_loading import build_model
from mmquad.publishing import export_hub, hub_folder, read_metrics

CONFIGS = Path(__file__).parents[2] / "configs"
CONFIG = CONFIGS / "mmpretrain/quadmamba/quadmamba-demo_shapes.py"
OPTIONS = {
    "model.backbone.arch": {"dim": 8, "depths": (1, 1), "ssm_ratio": 1.0, "quad_stages": (0,)},
    "model.backbone.out_indices": (1,),
    "model.head.in_channels": 16,
}
CLASSES = ("disc", "square", "ring", "cross")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model, _ = build_model(CONFIG, cfg_options=OPTIONS)
    meta = {"dataset_meta": {"classes": CLASSES}, "cfg": "work_dir = '/home/me'"}
    torch.save({"state_dict": model.state_dict(), "meta": meta}, tmp_path / "epoch_3.pth")
    return tmp_path / "epoch_3.pth"


def export(checkpoint: Path, **more) -> Path:
    options = OPTIONS | more.pop("options", {})
    config = more.pop("config", CONFIG)
    return export_hub(config, checkpoint, checkpoint.parent / "hub", cfg_options=options, **more)


def front_matter(folder: Path) -> dict:
    _, front, _ = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front)


def test_a_folder_is_all_that_is_needed(checkpoint: Path):
    (checkpoint.parent / "hub").mkdir()  # an empty one will do
    metrics = {"accuracy/top1": 97.5}
    folder = export(checkpoint, metrics=metrics, name="shapes", license="apache-2.0")
    assert sorted(path.name for path in folder.parent.iterdir()) == ["epoch_3.pth", "hub"]
    names = ["README.md", "config.json", "config.py", "model.safetensors"]
    assert sorted(path.name for path in folder.iterdir()) == names

    facts = json.loads((folder / "config.json").read_text())
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["meta"]) == facts
    assert facts["name"] == "shapes"
    assert facts["model"] == "QuadMamba"
    assert facts["arch"]["dim"] == 8
    assert facts["dataset_meta"] == {"classes": list(CLASSES)}
    assert facts["metrics"] == metrics
    assert facts["source"] == "epoch_3.pth"
    assert facts["sha256"] == file_sha256(checkpoint)

    weights = torch.load(checkpoint)["state_dict"]
    model, _ = build_model(folder / "config.py", folder / "model.safetensors")
    assert facts["parameters"] == sum(p.numel() for p in model.parameters())
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[name])
    backbone = VisionBackbone.from_pretrained(folder)
    assert type(backbone) is QuadMamba
    assert torch.equal(backbone.norm1.weight, weights["backbone.norm1.weight"])


def test_the_card(checkpoint: Path):
    metrics = {"accuracy/top1": 97.5, "accuracy/top5": 100}
    folder = export(checkpoint, metrics=metrics, dataset="Shapes", name="x", license="apache-2.0")
    front = front_matter(folder)
    assert front["license"] == "apache-2.0"
    assert front["library_name"] == "mmquad"
    assert front["pipeline_tag"] == "image-classification"
    assert front["tags"] == ["state-space-model", "quadmamba", "mmpretrain"]
    (index,) = front["model-index"]
    (result,) = index["results"]
    assert result["dataset"] == {"type": "shapes", "name": "Shapes"}
    measured = {each["name"]: (each["type"], each["value"]) for each in result["metrics"]}
    assert measured == {"accuracy/top1": ("top1", 97.5), "accuracy/top5": ("top5", 100)}
    text = (folder / "README.md").read_text()
    for line in (
        "on QuadMamba as mmquad has it: 6,112 parameters in all.",
        "4 classes: disc, square, ring, cross.",
        "| mean (RGB) | 123.675, 116.28, 103.53 | 0.485, 0.456, 0.406 |",
        "| standard deviation | 58.395, 57.12, 57.375 | 0.229, 0.224, 0.225 |",
        "| accuracy/top1 | 97.5 |",
        "Measured on Shapes, with the test settings of `config.py`.",
        f"SHA-256 of `model.safetensors`: `{file_sha256(folder / 'model.safetensors')}`",
        f"`epoch_3.pth` (SHA-256 `{file_sha256(checkpoint)}`)",
        "Licence of the weights: apache-2.0.",
        "`LoadImageFromFile`, then `Resize`, then `PackInputs`",
    ):
        assert line in text
    assert "Nothing was measured" not in text


def test_the_class_that_reads_the_data_is_not_its_name(checkpoint: Path):
    """The demo's shapes are read by mmpretrain's ImageNet."""
    folder = export(checkpoint, metrics={"accuracy/top1": 97.5})
    assert "model-index" not in front_matter(folder)
    text = (folder / "README.md").read_text()
    assert "ImageNet" not in text
    assert "Measured on the test data of `config.py`, with its test settings." in text


def test_the_licence_of_a_release_stays(checkpoint: Path):
    content = torch.load(checkpoint)
    content["meta"]["licence"] = "CC-BY-NC-SA-4.0: non-commercial"
    torch.save(content, checkpoint)
    folder = export(checkpoint)
    assert "Licence of the weights: CC-BY-NC-SA-4.0: non-comm" in (folder / "README.md").read_text()
    folder.rename(folder.with_name("first"))
    weights = folder.with_name("first") / "model.safetensors"
    again = export_hub(CONFIG, weights, folder, license="other", cfg_options=OPTIONS)
    text = (again / "README.md").read_text()
    assert "Licence of the weights: other; of the release: CC-BY-NC-SA-4.0: non-commerc" in text


def test_nothing_is_claimed_that_was_not_given(checkpoint: Path):
    folder = export(checkpoint)
    front = front_matter(folder)
    assert "model-index" not in front
    assert "license" not in front
    text = (folder / "README.md").read_text()
    assert "Nothing was measured when this was exported." in text
    assert "Licence of the weights: not stated." in text
    assert text.count("# quadmamba-demo_shapes") == 1


def test_the_config_keeps_nothing_of_the_machine(checkpoint: Path):
    local = {"type": "Pretrained", "checkpoint": "/home/me/weights.pth"}
    remote = {"type": "Pretrained", "checkpoint": "hf://o/n"}
    normal = {"type": "Normal", "layer": "Linear", "std": 0.01}
    config = checkpoint.with_name("run.py")
    config.write_text(
        f"_base_ = {str(CONFIG)!r}\n"
        "work_dir, load_from, resume = '/home/me/run', '/home/me/weights.pth', True\n"
        f"model = dict(backbone=dict(init_cfg={[normal, local, remote]}),\n"
        f"             head=dict(init_cfg={local | {'_delete_': True}}))\n"
    )
    folder = export(checkpoint, config=config)
    assert "/home/me" not in (folder / "config.py").read_text()
    cfg = Config.fromfile(folder / "config.py")
    assert not {"work_dir", "load_from", "resume"} & set(cfg)
    assert cfg.model.head.init_cfg is None
    assert cfg.model.backbone.init_cfg == [normal, remote]
    for path in folder.iterdir():
        assert b"/home/me" not in path.read_bytes()


@pytest.mark.parametrize(
    ("leaf", "channels", "divisor", "step"),
    [
        ("mmpretrain/quadmamba/quadmamba-demo_shapes.py", "RGB", 1, "PackInputs"),
        ("mmdet/quadmamba/mask-rcnn_quadmamba-tiny_fpn_1x_coco.py", "RGB", 32, "PackDetInputs"),
        (
            "mmseg/quadmamba/upernet_quadmamba-tiny_8xb2-160k_ade20k-512x512.py",
            *("RGB", 1, "PackSegInputs"),
        ),
    ],
)
def test_preprocessing_of_every_host(leaf: str, channels: str, divisor: int, step: str):
    cfg = load_config(str(CONFIGS / leaf))
    how = hub_folder._preprocessing(cfg)
    assert (how["channels"], how["pad_size_divisor"]) == (channels, divisor)
    assert how["mean"] == [123.675, 116.28, 103.53]
    assert how["std"] == [58.395, 57.12, 57.375]
    assert how["pipeline"][-1]["type"] == step
    json.dumps(how)
    given = cfg.model.get("data_preprocessor") or cfg.data_preprocessor
    given.update({"to_rgb": False, "bgr_to_rgb": False})
    assert hub_folder._preprocessing(cfg)["channels"] == "BGR"


def test_metrics_of_a_file(tmp_path: Path):
    path = tmp_path / "20260101_000000.json"
    path.write_text(
        json.dumps({"mIoU": 46.5, "aAcc": 80, "data_time": 0.1, "time": 1.0, "step": 3})
    )
    assert read_metrics(path) == {"mIoU": 46.5, "aAcc": 80}
    for content, said in (
        ('{"mIoU": NaN}', "expected a number for 'mIoU', got nan"),
        ('{"mIoU": "46"}', "expected a number for 'mIoU', got '46'"),
        ('{"mIoU": true}', "got True"),
        ('{"time": 1.0}', "holds no metrics, only time"),
        ("[1]", "expected names and numbers, got .1."),
        ("{", "cannot be read"),
    ):
        path.write_text(content)
        with pytest.raises(SetupError, match=said):
            read_metrics(path)
    with pytest.raises(SetupError, match="cannot be read"):
        read_metrics(tmp_path / "absent.json")


def test_errors_leave_nothing_behind(checkpoint: Path, tmp_path: Path, monkeypatch):
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SetupError, match="expected a number for 'top1', got nan"):
        export(checkpoint, metrics={"top1": float("nan")})
    with pytest.raises(SetupError, match="does not exist"):
        export(tmp_path / "absent.pth")
    with pytest.raises(SetupError, match="does not fit"):
        export(checkpoint, options={"model.head.num_classes": 7})
    other = tmp_path / "other.py"
    other.write_text(
        "default_scope = 'mmpretrain'\n"
        "model = dict(type='ImageClassifier', backbone=dict(type='LeNet5', num_classes=3))\n"
    )
    with pytest.raises(SetupError, match="is a LeNet5; expected one of mmquad"):
        export_hub(other, None, tmp_path / "hub")
    other.unlink()
    monkeypatch.setattr(hub_folder, "model_card", lambda *facts: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(checkpoint)
    assert sorted(tmp_path.iterdir()) == before
    monkeypatch.undo()
    (tmp_path / "hub").touch()
    with pytest.raises(SetupError, match="exists and is no empty folder"):
        export(checkpoint)
    (tmp_path / "hub").unlink()
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub/notes.txt").touch()
    with pytest.raises(SetupError, match="exists and is no empty folder"):
        export(checkpoint)
    assert [path.name for path in (tmp_path / "hub").iterdir()] == ["notes.txt"]
