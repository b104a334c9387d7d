"""From a config and a checkpoint to a folder that others can use without asking."""

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmquad import __version__
from mmquad.backbones import VisionBackbone
from mmquad.checkpoints import CheckpointFileError, file_sha256
from mmquad.checkpoints.download import local_file, read_checkpoint_from
from mmquad.checkpoints.hub import WEIGHTS_FILE
from mmquad.checkpoints.safetensors_files import write_safetensors
from mmquad.compat import runner_checkpoint_globals
from mmquad.engine.config_loading import library_of
from mmquad.errors import SetupError
from mmquad.inference.model_loading import build_model
from mmquad.publishing.model_card import model_card

__all__ = ["export_hub", "read_metrics"]

# Of a run, and of its machine: nobody else's.
_PRIVATE = ("work_dir", "load_from", "resume", "launcher", "log_level")
_TIMES = ("time", "data_time", "step")


def export_hub(
    config: str | Path,
    checkpoint: str | Path,
    folder: str | Path,
    *,
    metrics: Mapping[str, float] | str | Path | None = None,
    dataset: str | None = None,
    name: str | None = None,
    license: str | None = None,
    cfg_options: dict | None = None,
) -> Path:
    """Write ``model.safetensors``, ``config.json``, ``config.py`` and a model card, ``README.md``.

    The weights have to fit the model of the config entirely. Their metadata, and ``config.json``
    for readers that have no safetensors, name the backbone, its arch and settings, the
    preprocessing, classes and metrics. ``config.py`` is the whole config, without what belongs to
    the run and its machine: ``tools/test.py FOLDER/config.py FOLDER/model.safetensors``.

    Args:
        config: Path of a config of mmdet, mmseg or mmpretrain with a backbone of this package.
        checkpoint: Its weights, by path or address.
        folder: To be written; absent or empty. It appears when it is complete.
        metrics: What was measured with these weights: names and numbers, or the JSON file that a
            test writes (:func:`read_metrics`). None: the card says that nothing was measured.
        dataset: Name of the data that they were measured on, e.g. ``COCO val2017``. Without it the
            card has no entry for leaderboards: the class that reads the data is not its name.
        name: Of the model, as on the card; default the config's.
        license: Identifier of the weights' licence, e.g. ``apache-2.0``; None: the card says that
            none is stated, or what the checkpoint of a converted release says.
        cfg_options: Overrides of config keys.

    Raises:
        SetupError: A file is absent or damaged, the weights do not fit, the folder is not empty, or
            metrics are not numbers.

    Returns:
        The folder.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SetupError(f"{folder} exists and is no empty folder. Name another, or remove it.")
    measured = read_metrics(metrics) if isinstance(metrics, str | Path) else dict(metrics or {})
    _check_metrics(measured, "metrics")

    model, cfg = build_model(config, checkpoint, cfg_options)
    backbone: Any = getattr(model, "backbone", None)
    if not isinstance(backbone, VisionBackbone):
        raise SetupError(
            f"The backbone of {config} is a {type(backbone).__name__}; expected one of mmquad."
        )
    written = _written_meta(str(checkpoint))
    classes = written.get("dataset_meta") or {}  # where mmengine's inferencers look for them
    facts = {
        "name": name or Path(config).stem,
        "library": library_of(cfg),
        **backbone.description(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "preprocessing": _preprocessing(cfg),
        "dataset_meta": {k: classes[k] for k in ("classes", "palette") if classes.get(k)},
        "dataset": dataset,
        "metrics": measured,
        "license": license,
        "licence": written.get("licence", ""),  # in words, as conversions of releases note it
        "source": Path(checkpoint).name,
        "sha256": _sha256(str(checkpoint)),
        "mmquad_version": __version__,
    }
    facts = json.loads(json.dumps(facts))  # tuples as readers will find them
    _public(cfg)

    draft = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        write_safetensors(draft / WEIGHTS_FILE, model.state_dict(), facts)
        (draft / "config.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        cfg.dump(draft / "config.py")
        digest = file_sha256(draft / WEIGHTS_FILE)
        (draft / "README.md").write_text(model_card(facts, digest), encoding="utf-8")
        if folder.exists():  # empty; Windows replaces no folder
            folder.rmdir()
        draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def read_metrics(path: str | Path) -> dict[str, float]:
    """Metrics of the JSON file that a test writes, ``WORK_DIR/<time>/<time>.json``.

    Raises:
        SetupError: It cannot be read, or holds other things than numbers.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SetupError(f"Metrics cannot be read from {path}: {error}") from error
    if not isinstance(content, dict):
        raise SetupError(f"{path} holds no metrics: expected names and numbers, got {content!r}")
    found = {name: value for name, value in content.items() if name not in _TIMES}
    _check_metrics(found, str(path))
    if not found:
        raise SetupError(f"{path} holds no metrics, only {', '.join(content) or 'nothing'}")
    return found


def _check_metrics(metrics: Mapping[str, Any], source: str) -> None:
    for name, value in metrics.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value):
            raise SetupError(f"{source}: expected a number for {name!r}, got {value!r}")


def _preprocessing(cfg: Config) -> dict[str, Any]:
    """What is done to an image before the model, as the Runner finds it in a config."""
    given = cfg.model.get("data_preprocessor") or cfg.get("data_preprocessor") or {}
    swaps = given.get("bgr_to_rgb") or given.get("to_rgb")  # mmcv reads images as BGR
    dataset = (cfg.get("test_dataloader") or {}).get("dataset") or {}
    return {
        "channels": "RGB" if swaps else "BGR",
        "range": [0, 255],
        "mean": given.get("mean"),
        "std": given.get("std"),
        "pad_size_divisor": given.get("pad_size_divisor", 1),
        "pipeline": [dict(step) for step in dataset.get("pipeline") or ()],
    }


def _written_meta(checkpoint: str) -> Mapping[str, Any]:
    """What the checkpoint says of itself."""
    return read_checkpoint_from(checkpoint, allowed=runner_checkpoint_globals()).get("meta") or {}


def _sha256(checkpoint: str) -> str:
    try:
        return file_sha256(local_file(checkpoint))
    except CheckpointFileError as error:
        raise SetupError(str(error)) from error


def _public(cfg: Config) -> None:
    """Take out of a config what belongs to a run, and weights that lie on its machine."""
    for key in _PRIVATE:
        cfg.pop(key, None)
    _forget_local_weights(cfg.model)


def _forget_local_weights(part: Any) -> None:
    if isinstance(part, list | tuple):
        for item in part:
            _forget_local_weights(item)
    elif isinstance(part, dict):
        init_cfg = part.get("init_cfg")
        if isinstance(init_cfg, list):
            part["init_cfg"] = [each for each in init_cfg if not _is_local(each)]
        elif _is_local(init_cfg):
            part["init_cfg"] = None
        for item in part.values():
            _forget_local_weights(item)


def _is_local(init_cfg: Any) -> bool:
    checkpoint = init_cfg.get("checkpoint") if isinstance(init_cfg, dict) else None
    return checkpoint is not None and "://" not in checkpoint
