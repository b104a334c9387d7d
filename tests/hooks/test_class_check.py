"""What the class check says of a run: labels are errors, heads and names are warnings."""

from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from torch import nn

from mmquad.checks.head_classes import config_key, unlike_heads
from mmquad.compat import load_config
from mmquad.datasets import generate_shapes_imagenet
from mmquad.engine.launch import plan_test, plan_training, run_test, run_training
from mmquad.errors import SetupError
from mmquad.hooks.class_check import ClassCheckHook

CONFIG = Path(__file__).parents[2] / "configs/mmpretrain/quadmamba/quadmamba-demo_shapes.py"
ARCH = {"dim": 8, "depths": (1, 1), "ssm_ratio": 1.0, "quad_stages": (0,)}


def with_classes(count: int, kind: type = nn.Linear) -> nn.Module:
    module = kind(1, 1)
    module.num_classes = count
    return module


class STDCHead(nn.Linear):
    """Of the name of mmseg's, which learns boundaries."""


class GARPNHead(nn.Linear):
    """Of the name of mmdet's, which proposes regions."""


class Run(SimpleNamespace):
    """As much of a Runner as the hook looks at; warnings are kept."""

    def __init__(self, model: nn.Module | None = None, **more) -> None:
        self.warned: list[str] = []
        super().__init__(
            model=model or nn.Module(),
            logger=SimpleNamespace(warning=self.warned.append),
            cfg=ConfigDict(model={"head": {}}),
            val_loop=None,
            test_loop=None,
            **more,
        )


def loader(classes: str, **more) -> SimpleNamespace:
    """Of a data set whose classes are letters."""
    return SimpleNamespace(dataset=SimpleNamespace(metainfo={"classes": tuple(classes)}, **more))


def training(train: SimpleNamespace, val: SimpleNamespace | None = None, **more) -> Run:
    run = Run(train_dataloader=train, val_dataloader=val, **more)
    run.val_loop = SimpleNamespace(evaluator=SimpleNamespace(metrics=[])) if val else None
    ClassCheckHook().before_train(run)
    return run


def evaluation(test: SimpleNamespace, meta: object, **more) -> Run:
    run, hook = Run(test_dataloader=test, **more), ClassCheckHook()
    hook.after_load_checkpoint(run, {"meta": meta})
    hook.before_test(run)
    return run


def test_heads_of_another_number_of_classes_are_named_by_their_key():
    model = nn.ModuleDict({"head": with_classes(4)})
    assert training(loader("abcd"), model=model).warned == []
    (warning,) = training(loader("abcde"), model=model).warned
    assert "train_dataloader.dataset has 5 classes (a, b, c, d, e)" in warning
    assert "  model.head.num_classes=4\n" in warning
    (warning,) = training(loader("abcd"), loader("abc"), model=model).warned
    assert "val_dataloader.dataset has 3 classes" in warning
    (warning,) = evaluation(loader("abc"), None, model=model).warned
    assert "test_dataloader.dataset has 3 classes" in warning


def test_heads_that_differ_by_design():
    """HTC, Panoptic FPN, (Cascade) RPN, STDC, trackers, distillation; and what is no number."""
    heads = {
        "semantic_head": with_classes(183),
        "rpn_head": nn.ModuleDict({"stages": nn.ModuleList([with_classes(1)])}),
        "auxiliary_head": nn.ModuleList([with_classes(3), with_classes(2, STDCHead)]),
        "teacher": with_classes(80),
        "detector": nn.ModuleDict({"bbox_head": with_classes(1)}),
        "reid": nn.ModuleDict({"head": with_classes(380)}),
        "proposals": with_classes(1, GARPNHead),
        "backbone": with_classes(1000),
        "bbox_head": with_classes(2),
        "fusion_head": with_classes(3),
        "other": with_classes(0),
        "flag": with_classes(True),
        "none": with_classes(None),
    }
    panoptic = {"classes": "abc", "thing_classes": "ab", "stuff_classes": "c"}
    model = nn.ModuleDict(heads)
    assert unlike_heads(model, panoptic) == {}
    assert unlike_heads(model, {"classes": "abc"}) == {"bbox_head": 2}


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("", "model.num_classes"),
        ("head", "model.head.num_classes"),
        ("roi_head.bbox_head.1", "model.roi_head.bbox_head.1.num_classes"),
        ("roi_head.mask_head.1", "model.roi_head.mask_head.num_classes"),
        ("roi_head.mask_head.1.loss_cls", "model.roi_head.mask_head.loss_cls.num_classes"),
        ("head.layers.3.fc", "model.head.num_classes"),
    ],
)
def test_the_key_of_a_head(name: str, key: str):
    mask_head = {"loss_cls": {"num_classes": 3}}
    roi_head = {"bbox_head": [{}, {}], "mask_head": mask_head}
    assert config_key({"head": {}, "roi_head": roi_head}, name) == key


def test_validation_and_training_must_agree():
    training(loader("ab"), loader("ab"))
    with pytest.raises(SetupError, match=r"val_dataloader\.dataset mean other .* train_dataloader"):
        training(loader("ab"), loader("ba"))
    (warning,) = training(loader("ab"), loader("xb")).warned
    assert "1 of the 2 classes of val_dataloader.dataset" in warning
    # classes that a model is told with each image have no numbers
    assert training(loader("ab"), loader("ba", return_classes=True)).warned == []
    assert training(loader("ab", return_classes=True), loader("ba")).warned == []


@pytest.mark.parametrize("meta", [{"classes": ("a", "b")}, {"CLASSES": ["a", "b"]}])
def test_checkpoint_and_test_data_must_agree(meta: dict):
    meta = {"dataset_meta": meta}
    assert evaluation(loader("ab"), meta).warned == []
    with pytest.raises(SetupError, match=r"test_dataloader\.dataset mean other .* the checkpoint"):
        evaluation(loader("ba"), meta)
    assert "2 of the 2 classes" in evaluation(loader("xy"), meta).warned[0]
    assert evaluation(loader("ba", return_classes=True), meta).warned == []
    # a training that is resumed goes on with the labels of its checkpoint, a new one has its own
    for resumed in (True, False):
        run, hook = Run(train_dataloader=loader("ba"), _resume=resumed), ClassCheckHook()
        hook.after_load_checkpoint(run, {"meta": meta})
        if resumed:
            with pytest.raises(SetupError, match=r"train_dataloader\.dataset .* the checkpoint"):
                hook.before_train(run)
        else:
            hook.before_train(run)


@pytest.mark.parametrize("meta", [None, {}, {"dataset_meta": None}, {"dataset_meta": {}}, 3])
def test_checkpoints_that_say_nothing_of_classes(meta: object):
    assert evaluation(loader("ab"), meta).warned == []


def test_the_metric_reads_a_file_of_its_own():
    names = [{"id": 1, "name": "b"}, {"id": 2, "name": "a"}]
    api = SimpleNamespace(dataset={"categories": names})
    evaluator = SimpleNamespace(metrics=[SimpleNamespace(_coco_api=api)])
    for kind, run in (("val", Run()), ("test", Run())):
        run.train_dataloader = run.val_dataloader = run.test_dataloader = loader("ab")
        setattr(run, f"{kind}_loop", SimpleNamespace(evaluator=evaluator))
        look = getattr(ClassCheckHook(), "before_train" if kind == "val" else "before_test")
        with pytest.raises(SetupError, match=rf"{kind}_evaluator\.ann_file"):
            look(run)


def test_zero_label():
    on, off = (loader("ab", reduce_zero_label=value) for value in (True, False))
    assert training(on, on).warned == training(on, loader("ab")).warned == []
    (warning,) = training(on, off).warned
    assert "val_dataloader.dataset.reduce_zero_label is False, that of train_dataloader" in warning
    parts = SimpleNamespace(metainfo={"classes": ("a", "b")}, datasets=[on.dataset, off.dataset])
    for val in (on, off):
        assert training(SimpleNamespace(dataset=parts), val).warned == []  # who knows
    for value, count in ((True, 0), (False, 1), (None, 0)):
        warned = evaluation(on, {"dataset_meta": {"reduce_zero_label": value}}).warned
        assert len(warned) == count
        assert all("that of the checkpoint is False" in warning for warning in warned)


def test_the_switch(monkeypatch):
    monkeypatch.setenv("MMQUAD_CHECKS", "-labels")
    assert training(loader("ab"), loader("ba")).warned == []
    assert len(training(loader("ab"), loader("xy")).warned) == 1
    monkeypatch.setenv("MMQUAD_CHECKS", "0")
    model = nn.ModuleDict({"head": with_classes(4)})
    assert training(loader("ab"), loader("xy"), model=model).warned == []


def test_a_training_and_a_test_of_a_real_runner(tmp_path: Path, monkeypatch):
    """Heads only warn; names in another order than the folders', or the checkpoint's, end it."""
    data = generate_shapes_imagenet(tmp_path / "data", 4, 4)
    options = {
        "model.backbone.arch": ARCH,
        "model.backbone.out_indices": (1,),
        "model.head.in_channels": 16,
        "custom_hooks": [{"type": "mmquad.ClassCheckHook"}],
        "train_cfg.max_epochs": 1,
        "train_dataloader.batch_size": 2,
    }
    more = {"data_root": str(data), "work_dir": str(tmp_path / "work")}
    options["model.head.num_classes"] = 7
    run_training(plan_training(str(CONFIG), cfg_options=options, **more))
    log = next((tmp_path / "work").rglob("*.log")).read_text()
    assert "model.head.num_classes=7" in log
    checkpoint = str(tmp_path / "work/epoch_1.pth")
    names = sorted(path.name for path in (data / "val").iterdir())
    backwards = {"test_dataloader.dataset.metainfo": {"classes": names[::-1]}}

    def test(changes: dict) -> dict:
        return run_test(plan_test(str(CONFIG), checkpoint, cfg_options=options | changes, **more))

    with pytest.raises(SetupError, match=r"Folders of test_dataloader\.dataset get other labels"):
        test(backwards)
    meta = torch.load(checkpoint, weights_only=False)
    meta["meta"]["dataset_meta"]["classes"] = meta["meta"]["dataset_meta"]["classes"][::-1]
    torch.save(meta, checkpoint)
    with pytest.raises(SetupError, match="mean other classes than in the checkpoint"):
        test({})
    monkeypatch.setenv("MMQUAD_CHECKS", "-labels")
    assert "accuracy/top1" in test(backwards)


def test_classes_of_a_library_segmentation_data_set():
    """mmseg renumbers label maps by name, so another order is right as long as all agree."""
    from mmseg.datasets import BaseSegDataset

    class Ours(BaseSegDataset):
        METAINFO: ClassVar = {"classes": ("a", "b"), "palette": [[0, 0, 0], [1, 1, 1]]}

    def data(classes: tuple[str, ...]) -> SimpleNamespace:
        with DefaultScope.overwrite_default_scope("mmseg"):
            dataset = Ours(metainfo={"classes": classes}, pipeline=[], lazy_init=True)
        return SimpleNamespace(dataset=dataset)

    assert data(("b", "a")).dataset.label_map == {0: 1, 1: 0}
    assert training(data(("b", "a")), data(("b", "a"))).warned == []
    with pytest.raises(SetupError, match="label 0: 'a' here, 'b'"):
        training(data(("b", "a")), data(("a", "b")))


def test_the_configs_here_have_it():
    assert {"type": "mmquad.ClassCheckHook"} in load_config(str(CONFIG)).custom_hooks
