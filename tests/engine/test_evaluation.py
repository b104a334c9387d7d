"""Options of the test tool mean what they mean in the host's own tool."""

import pytest
from mmengine.config import Config

from mmquad.engine.evaluation import add_result_file, add_tta, add_visualization
from mmquad.errors import SetupError


def config(scope: str, **more) -> Config:
    pipeline = [{"type": "LoadImageFromFile"}, {"type": "Pack"}]
    return Config(
        {
            "default_scope": scope,
            "model": {"type": "Model"},
            "default_hooks": {"visualization": {"type": "VisualizationHook"}},
            "visualizer": {"type": "Visualizer"},
            "test_dataloader": {"dataset": {"dataset": {"pipeline": pipeline}}},
            "test_evaluator": {"type": "Metric"},
            **more,
        }
    )


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("mmdet", {"draw": True, "test_out_dir": "drawn"}),
        ("mmseg", {"draw": True}),
        ("mmpretrain", {"enable": True, "out_dir": "drawn"}),
    ],
)
def test_show_dir(scope: str, expected: dict):
    cfg = config(scope)
    add_visualization(cfg, show=False, show_dir="drawn")
    hook = cfg.default_hooks.visualization
    assert expected.items() <= dict(hook).items()
    assert hook.show is False
    assert cfg.visualizer.get("save_dir") == ("drawn" if scope == "mmseg" else None)


def test_default_tta_flips_and_wraps_the_model():
    cfg = config("mmdet")
    add_tta(cfg)
    assert cfg.model.type == "DetTTAModel"
    assert cfg.model.module == {"type": "Model"}
    load, augment = cfg.test_dataloader.dataset.dataset.pipeline
    assert load.type == "LoadImageFromFile"
    flips, pack = augment.transforms
    assert [flip.prob for flip in flips] == [1.0, 0.0]
    assert "flip_direction" in pack[0].meta_keys


def test_tta_of_the_config_wins():
    cfg = config("mmpretrain", tta_model={"type": "Mine"}, tta_pipeline=[{"type": "MyTTA"}])
    add_tta(cfg)
    assert cfg.model.type == "Mine"
    assert cfg.test_dataloader.dataset.dataset.pipeline == [{"type": "MyTTA"}]


def test_tta_of_segmentation_must_be_configured():
    with pytest.raises(SetupError, match="tta_pipeline"):
        add_tta(config("mmseg"))


@pytest.mark.parametrize(
    ("scope", "dump"), [("mmdet", "DumpDetResults"), ("mmpretrain", "DumpResults")]
)
def test_out_adds_a_dump(scope: str, dump: str):
    cfg = config(scope)
    add_result_file(cfg, "results.pkl")
    assert [metric["type"] for metric in cfg.test_evaluator] == ["Metric", dump]
    assert cfg.test_evaluator[1]["out_file_path"] == "results.pkl"


def test_out_as_a_folder_is_for_segmentation_only():
    cfg = config("mmseg")
    add_result_file(cfg, "maps")
    assert cfg.test_evaluator.output_dir == "maps"
    assert cfg.test_evaluator.keep_results is True
    with pytest.raises(SetupError, match=r"must end in \.pkl"):
        add_result_file(config("mmdet"), "maps")
