"""Weights that do not fit are refused; mmengine alone would only log."""

import copy
from pathlib import Path

import pytest
import torch

from mmquad.compat import load_config
from mmquad.datasets import generate_shapes_imagenet
from mmquad.engine.launch import plan_test, plan_training, run_test, run_training
from mmquad.errors import SetupError

CONFIG = Path(__file__).parents[2] / "configs/mmpretrain/quadmamba/quadmamba-demo_shapes.py"
ARCH = {"dim": 8, "depths": (1, 1, 1, 1), "ssm_ratio": 1.0}


@pytest.fixture(scope="module")
def weights() -> dict:
    from mmpretrain.registry import MODELS

    model = copy.deepcopy(load_config(str(CONFIG)).model)
    model.backbone.arch, model.head.in_channels = ARCH, 64
    model._scope_ = "mmpretrain"
    return MODELS.build(model).state_dict()


@pytest.fixture
def options(tmp_path: Path) -> dict:
    """Of a test or a training of the tiny model on four images."""
    tiny = {"model.backbone.arch": ARCH, "model.head.in_channels": 64}
    return {
        "data_root": str(generate_shapes_imagenet(tmp_path / "data", 4, 4)),
        "work_dir": str(tmp_path / "work"),
        "cfg_options": tiny | {"train_cfg.max_epochs": 1},
    }


def evaluate(content: object, options: dict, tta: bool = False) -> dict:
    checkpoint = Path(options["work_dir"]).with_name("weights.pth")
    torch.save(content, checkpoint)
    return run_test(plan_test(str(CONFIG), str(checkpoint), tta=tta, **options))


def train(options: dict, **changes) -> Path:
    run_training(plan_training(str(CONFIG), **{**options, **changes}))
    return Path(options["work_dir"])


@pytest.mark.parametrize("tta", [False, True])
def test_weights_that_fit(weights: dict, options: dict, tta: bool):
    assert 0 <= evaluate({"state_dict": weights}, options, tta)["accuracy/top1"] <= 100


@pytest.mark.parametrize("tta", [False, True])
def test_missing_and_misshapen_weights(weights: dict, options: dict, tta: bool):
    wrong = dict(weights)
    wrong["extra"] = wrong.pop("head.fc.bias")
    wrong["head.fc.weight"] = torch.zeros(7, 64)
    with pytest.raises(SetupError) as raised:
        evaluate({"state_dict": wrong}, options, tta)
    assert "weights.pth does not fit ImageClassifier" in str(raised.value)
    for part in ("head.fc.bias", "extra", "head.fc.weight: model (4, 64), checkpoint (7, 64)"):
        assert part in str(raised.value)


def test_parts_that_the_model_was_built_without(weights: dict, options: dict, monkeypatch):
    """A head that only trains: named, and not used."""
    content = weights | {
        "auxiliary_head.0.conv.weight": torch.zeros(2),
        "neck.fc.bias": torch.ones(1),
    }
    expected = evaluate(weights, options)
    assert evaluate(content, options) == expected
    log = max(Path(options["work_dir"]).rglob("*.log"), key=lambda path: path.stat().st_mtime)
    assert "has weights of auxiliary_head, neck, which this model was built" in log.read_text()
    # with layers that the model lacks, the weights were trained for another one
    deeper = {name.replace("stages.3.", "stages.4."): value for name, value in weights.items()}
    for more in ({"head.fc.scale": torch.ones(1)}, deeper):
        with pytest.raises(SetupError, match="unexpected in the checkpoint"):
            evaluate(weights | more, options)
    monkeypatch.setenv("MMQUAD_CHECKS", "-weights")
    assert evaluate(weights | {"head.fc.scale": torch.ones(1)}, options) == expected


def test_weights_of_a_training_that_diverged(weights: dict, options: dict):
    """They would give the accuracy of one class for all images."""
    content = weights | {"head.fc.bias": torch.full((4,), torch.nan)}
    with pytest.raises(SetupError, match=r"1 entries of .* hold NaN or infinity.*head\.fc\.bias"):
        evaluate(content, options)


def test_settings_of_a_converted_file(weights: dict, options: dict):
    content = {"state_dict": weights, "meta": {"settings": {"quadtree": "released"}}}
    with pytest.raises(SetupError, match="quadtree='released' there, 'paper' in this model"):
        evaluate(content, options)


def test_weights_in_other_places_are_found(weights: dict, options: dict):
    wrapped = {f"module.{name}": value for name, value in weights.items()}
    expected = evaluate(weights, options)
    for content in ({"state_dict": wrapped}, {"model": weights}, {"module": wrapped}):
        assert evaluate(content, options) == expected


def test_what_is_no_dictionary_of_weights(options: dict):
    with pytest.raises(SetupError, match=r"weights\.pth holds a list; expected a dictionary"):
        evaluate([1, 2], options)


def test_training_begins_with_weights_of_its_backbone_only(weights: dict, options: dict):
    other = {"layer1.0.conv1.weight": torch.zeros(8), "bn1.weight": torch.zeros(8)}
    wider = weights | {"backbone.stem.conv1.weight": torch.zeros(9, 3, 3, 3)}
    path = Path(options["work_dir"]).with_name("begin.pth")
    start = options["cfg_options"] | {"load_from": str(path)}
    for wrong, problem in ((other, "no entry starts with prefix"), (wider, "wrong shape")):
        torch.save({"state_dict": wrong}, path)
        with pytest.raises(SetupError, match=problem):
            train(options, cfg_options=start)
    # a head for other classes is new, and norms of inner stages are those of detectors
    torch.save({"model": weights | {"head.fc.weight": torch.zeros(7, 64)}}, path)
    train(options, cfg_options=start | {"model.backbone.out_indices": (2, 3)})


def test_resumption_needs_the_state_of_a_training(weights: dict, options: dict):
    work_dir = train(options)
    longer = options["cfg_options"] | {"train_cfg.max_epochs": 2}
    best = next(work_dir.glob("best_*.pth"))  # weights alone
    with pytest.raises(SetupError, match=r"Cannot resume: .*best_.* without the state of a train"):
        train(options, resume=str(best), cfg_options=longer)
    wider = longer | {"model.backbone.arch": ARCH | {"dim": 16}, "model.head.in_channels": 128}
    with pytest.raises(SetupError, match="wrong shape"):
        train(options, resume="auto", cfg_options=wider)
    assert (train(options, resume="auto", cfg_options=longer) / "epoch_2.pth").is_file()
