"""What the hosts' ``tools/test.py`` do to a config for ``--show``, ``--tta`` and ``--out``."""

import copy
from pathlib import Path

from mmengine.config import Config, ConfigDict

from mmquad.checks.data_paths import datasets
from mmquad.errors import SetupError

__all__ = ["add_result_file", "add_tta", "add_visualization"]

_FLIPS = [{"type": "RandomFlip", "prob": 1.0}, {"type": "RandomFlip", "prob": 0.0}]
_DET_META_KEYS = (
    "img_id",
    "img_path",
    "ori_shape",
    "img_shape",
    "scale_factor",
    "flip",
    "flip_direction",
)


def add_visualization(
    cfg: Config, *, show: bool, show_dir: str | None, wait_time: float = 2.0
) -> None:
    """Draw every prediction of the test into a window and/or ``show_dir``."""
    hook = (cfg.get("default_hooks") or {}).get("visualization")
    if hook is None:
        raise SetupError("--show and --show-dir need default_hooks.visualization in the config.")
    hook["show"] = show
    hook["wait_time"] = wait_time
    hook["enable" if cfg.default_scope == "mmpretrain" else "draw"] = True
    if show_dir is None:
        return
    if cfg.default_scope == "mmdet":
        hook["test_out_dir"] = show_dir
    elif cfg.default_scope == "mmseg":
        cfg.visualizer["save_dir"] = show_dir
    else:
        hook["out_dir"] = show_dir


def add_tta(cfg: Config) -> None:
    """Test with the config's ``tta_model`` and ``tta_pipeline``, or with flips if it has none."""
    if cfg.default_scope == "mmseg" and ("tta_model" not in cfg or "tta_pipeline" not in cfg):
        raise SetupError("--tta needs tta_model and tta_pipeline in an mmseg config.")
    pipelines = [d for _, d in datasets(cfg.test_dataloader.dataset, "test_dataloader.dataset")]
    is_detection = cfg.default_scope == "mmdet"
    if "tta_model" not in cfg:
        if is_detection:
            nms = {"type": "nms", "iou_threshold": 0.5}
            cfg.tta_model = {"type": "DetTTAModel", "tta_cfg": {"nms": nms, "max_per_img": 100}}
        else:
            cfg.tta_model = {"type": "AverageClsScoreTTA"}
    for dataset in pipelines:
        pipeline = cfg.get("tta_pipeline")
        if pipeline is None:
            *steps, pack = copy.deepcopy(dataset["pipeline"])
            if is_detection:
                pack = {"type": "PackDetInputs", "meta_keys": _DET_META_KEYS}
            pipeline = [*steps, {"type": "TestTimeAug", "transforms": [_FLIPS, [pack]]}]
        dataset["pipeline"] = pipeline
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)


def add_result_file(cfg: Config, out: str) -> None:
    """Write the predictions of the test to ``out``."""
    is_pickle = Path(out).suffix in (".pkl", ".pickle")
    evaluators = cfg.test_evaluator
    if not isinstance(evaluators, list | tuple):
        evaluators = [evaluators]
    if is_pickle:
        # mmdet's variant stores masks run-length encoded, as COCO does.
        dump = "DumpDetResults" if cfg.default_scope == "mmdet" else "DumpResults"
        cfg.test_evaluator = [*evaluators, {"type": dump, "out_file_path": out}]
    elif cfg.default_scope == "mmseg":
        for evaluator in evaluators:
            evaluator["output_dir"] = out
            evaluator["keep_results"] = True
    else:
        raise SetupError(f"--out must end in .pkl or .pickle, got {out}.")
