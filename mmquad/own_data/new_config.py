"""Writes a short config for own data that inherits from one of this package."""

import datetime
import pprint
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from yapf.yapflib.yapf_api import FormatCode

from mmquad.engine.config_loading import find_config, read_config
from mmquad.errors import SetupError
from mmquad.own_data.labels import Labels

__all__ = ["class_overrides", "new_config"]

# As mmengine writes configs, which brings yapf along.
_STYLE = {"based_on_style": "pep8", "column_limit": 100}
_COUNTS = ("num_classes", "num_things_classes")


def new_config(
    base: str,
    train: Labels,
    val: Labels,
    *,
    folders: Sequence[str | Path] = (),
    gpus: int = 1,
    batch_size: int | None = None,
    epochs: int | None = None,
    weights: str | None = None,
) -> str:
    """The text of a config.

    Learning rates are scaled to the images per step, linearly, from those that the base's are for.

    Args:
        base: Path or name of the config to inherit from, of mmdet or mmpretrain.
        train: Of :func:`mmquad.own_data.read_coco` for mmdet, ``read_class_folders`` for
            mmpretrain.
        val: The same; its classes must be those of ``train``, in their order.
        folders: For mmdet the folders of the images of both.
        gpus: That will train.
        batch_size: Images per GPU; the base's unless given.
        epochs: Passes over the images; the base's unless given. Its schedule is compressed.
        weights: To begin with: path or address of a whole model (``load_from``).

    Raises:
        SetupError: The splits have other classes, one is empty, or the base reads other data.
    """
    _check(train, val)
    cfg = read_config(base)
    images = batch_size or cfg.train_dataloader.batch_size
    lines = [
        f'"""Own data, {len(train.classes)} classes; written by mmquad new-config on '
        f'{datetime.date.today().isoformat()}."""',
        "",
        f"_base_ = {str(find_config(base).resolve())!r}",
        "",
    ]
    settings: dict[str, Any] = {}
    if cfg.default_scope == "mmdet":
        settings |= _detection(cfg, train, val, folders, images)
    elif cfg.default_scope == "mmpretrain":
        settings |= _classification(cfg, train, val, images)
    else:
        raise SetupError(
            f"{base} is a config of {cfg.default_scope}: new-config knows mmdet and mmpretrain."
        )
    settings |= _rates(cfg, images * gpus)
    if epochs:
        settings |= _schedule(cfg, epochs, len(train.images) // (images * gpus))
    if weights:
        settings["load_from"] = weights
    for name, value in settings.items():
        lines.append(_assignment(name, value))
    text, _ = FormatCode("\n".join(lines) + "\n", style_config=_STYLE)
    return text


class _Text(str):
    """An expression of a config, written as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _check(train: Labels, val: Labels) -> None:
    for split in (train, val):
        if not split.images or not sum(split.counts.values()):
            raise SetupError(f"{split.source} has no labelled image that can be read.")
    if train.classes != val.classes:
        raise SetupError(
            f"{train.source} and {val.source} have other classes, or in another order, so that "
            f"labels would mean other things:\n  {list(train.classes)}\n  {list(val.classes)}"
        )


def _detection(
    cfg: Config, train: Labels, val: Labels, folders: Sequence[str | Path], images: int
) -> dict[str, Any]:
    if len(folders) != 2:
        raise SetupError("a detector needs the folders of the training and validation images")
    if cfg.train_dataloader.dataset.type != "CocoDataset":
        raise SetupError(
            f"the base reads its data by {cfg.train_dataloader.dataset.type}; expected "
            "CocoDataset: take another base, or write the data part by hand"
        )
    without_masks = not train.masks or not val.masks
    loaders: dict[str, Any] = {}
    for name, labels, folder in (("train", train, folders[0]), ("val", val, folders[1])):
        dataset: dict[str, Any] = {
            "data_root": "",
            "ann_file": str(labels.source.resolve()),
            "data_prefix": {"img": f"{Path(folder).resolve()}/"},
            "metainfo": _Text("metainfo"),
        }
        if without_masks:
            pipeline = cfg[f"{name}_dataloader"].dataset.pipeline
            dataset["pipeline"] = [_boxes_only(dict(step)) for step in pipeline]
        loaders[name] = {"dataset": dataset}
    loaders["train"]["batch_size"] = images
    model = class_overrides(cfg.model, len(train.classes))
    metric = ["bbox"] if without_masks else ["bbox", "segm"]
    if without_masks and "mask_head" in cfg.model.get("roi_head", {}):
        heads = model.setdefault("roi_head", {})
        heads.pop("mask_head", None)
        heads |= {"mask_roi_extractor": None, "mask_head": None}
    return {
        "metainfo": {"classes": tuple(train.classes)},  # in the order of the file
        "train_dataloader": loaders["train"],
        "val_dataloader": loaders["val"],
        "test_dataloader": _Text("val_dataloader"),
        "val_evaluator": {"ann_file": str(val.source.resolve()), "metric": metric},
        "test_evaluator": _Text("val_evaluator"),
        "model": model,
    }


def _boxes_only(step: dict[str, Any]) -> dict[str, Any]:
    return step | {"with_mask": False} if step["type"] == "LoadAnnotations" else step


def _classification(cfg: Config, train: Labels, val: Labels, images: int) -> dict[str, Any]:
    def dataset(split: str, labels: Labels) -> dict[str, Any]:
        return {
            "_delete_": True,
            "type": "CustomDataset",
            "data_prefix": str(labels.source.resolve()),
            "with_label": True,
            "classes": _Text("classes"),
            "pipeline": _Text(f"{{{{_base_.{split}_dataloader.dataset.pipeline}}}}"),
        }

    model = class_overrides(cfg.model, len(train.classes))
    topk = tuple(k for k in (1, 5) if k < len(train.classes)) or (1,)
    return {
        "classes": tuple(train.classes),  # as the folders are sorted
        "train_dataloader": {"batch_size": images, "dataset": dataset("train", train)},
        "val_dataloader": {"dataset": dataset("val", val)},
        "test_dataloader": _Text("val_dataloader"),
        "val_evaluator": {"topk": topk},
        "test_evaluator": _Text("val_evaluator"),
        "data_preprocessor": {"num_classes": len(train.classes)},
        "model": model,
    }


def class_overrides(model: Mapping[str, Any], classes: int) -> dict[str, Any]:
    """What to change in a config's model for another number of classes, and nothing else.

    Lists replace lists in configs, so those with a head in them are given whole.
    """
    found: dict[str, Any] = {}
    for key, value in model.items():
        if key in _COUNTS:
            found[key] = classes
        elif key == "num_stuff_classes":
            found[key] = 0
        elif isinstance(value, Mapping) and (inner := class_overrides(value, classes)):
            found[key] = inner
        elif isinstance(value, list | tuple) and any(
            isinstance(each, Mapping) and class_overrides(each, classes) for each in value
        ):
            found[key] = [_changed(each, classes) for each in value]
    return found


def _changed(part: Any, classes: int) -> Any:
    if isinstance(part, Mapping):
        return {k: classes if k in _COUNTS else _changed(v, classes) for k, v in dict(part).items()}
    return part


def _rates(cfg: Config, images: int) -> dict[str, Any]:
    """The rate for this many images per step, if the base says for how many its own is."""
    intended = cfg.get("auto_scale_lr", {}).get("base_batch_size")
    rate = cfg.optim_wrapper.optimizer.get("lr")
    if not intended or rate is None:
        return {}
    return {
        "optim_wrapper": {"optimizer": {"lr": float(f"{rate * images / intended:.4g}")}},
        "auto_scale_lr": {"base_batch_size": images},
    }


def _schedule(cfg: Config, epochs: int, steps: int) -> dict[str, Any]:
    """The base's schedule in this many epochs, of ``steps`` each.

    What counts epochs is compressed; a warm-up that counts steps takes a tenth of them at most.
    """
    before = cfg.train_cfg.get("max_epochs")
    if before is None:
        raise SetupError("the base trains by iterations, which --epochs does not change")
    schedulers = []
    for entry in cfg.get("param_scheduler", []):
        entry = dict(entry)
        by_epoch = entry.get("by_epoch", True)
        for key in ("begin", "end", "T_max"):
            if key in entry and by_epoch:
                entry[key] = round(entry[key] * epochs / before)
            elif key in entry:
                entry[key] = min(entry[key], max(epochs * steps // 10, 1) if key == "end" else 0)
        if by_epoch and "milestones" in entry:
            entry["milestones"] = [max(round(m * epochs / before), 1) for m in entry["milestones"]]
        if not by_epoch or entry.get("end", 1) > entry.get("begin", 0):
            schedulers.append(entry)
    interval = max(min(cfg.train_cfg.get("val_interval", 1), epochs), 1)
    return {
        "train_cfg": {"max_epochs": epochs, "val_interval": interval},
        "param_scheduler": schedulers,
    }


def _assignment(name: str, value: Any) -> str:
    if isinstance(value, _Text):
        return f"{name} = {value}"
    return f"{name} = {pprint.pformat(_plain(value), sort_dicts=False)}"


def _plain(value: Any) -> Any:
    """Dictionaries and lists of a config as Python's own."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in dict(value).items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value)) if type(value) in (list, tuple) else list(value)
    return value
