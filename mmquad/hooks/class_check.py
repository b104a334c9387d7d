"""Compares the classes of the data with those of files, model and checkpoint before a run."""

from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner

from mmquad.checks import class_labels
from mmquad.checks.head_classes import config_key, unlike_heads
from mmquad.checks.policy import is_on, report
from mmquad.registry import HOOKS

__all__ = ["ClassCheckHook"]


@HOOKS.register_module()
class ClassCheckHook(Hook):
    """Raise where one label means several classes; warn where classes seem not to fit together.

    Otherwise labels in another order give wrong names and wrong scores in silence, class names
    that an annotation file does not have leave out objects, and a head with too few classes is an
    index error deep in a loss, on GPUs an assertion of the device without a line.

    Data whose model is told the names of its classes with each image (``return_classes``) is
    compared with its files only.
    """

    def __init__(self) -> None:
        self._of_checkpoint: Mapping[str, Any] = {}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Remember the data that the weights were trained for."""
        meta = checkpoint.get("meta") if isinstance(checkpoint, Mapping) else None
        meta = meta if isinstance(meta, Mapping) else {}
        self._of_checkpoint = meta.get("dataset_meta") or {}

    def before_train(self, runner: Runner) -> None:
        """Check the training data, and what the training will be validated with.

        Raises:
            SetupError: Labels mean different classes.
        """
        train = runner.train_dataloader.dataset
        _check_data(runner, train, "train_dataloader.dataset")
        if getattr(runner, "_resume", False):
            self._check_checkpoint(runner, train, "train_dataloader.dataset")
        if runner.val_loop is None:
            return
        val, key = runner.val_dataloader.dataset, "val_dataloader.dataset"
        _check_data(runner, val, key)
        _check_metrics(runner, runner.val_loop, val, "val_evaluator")
        _compare(
            runner, val, key, class_labels.classes_of(train), train, "train_dataloader.dataset"
        )
        _check_zero_label(runner, val, key, _zero_label(train), "train_dataloader.dataset")

    def before_test(self, runner: Runner) -> None:
        """Check the test data, also against the classes of the checkpoint.

        Raises:
            SetupError: Labels mean different classes.
        """
        test, key = runner.test_dataloader.dataset, "test_dataloader.dataset"
        _check_data(runner, test, key)
        _check_metrics(runner, runner.test_loop, test, "test_evaluator")
        self._check_checkpoint(runner, test, key)

    def _check_checkpoint(self, runner: Runner, dataset: Any, key: str) -> None:
        meta, where = self._of_checkpoint, "the checkpoint"
        _compare(runner, dataset, key, meta.get("classes") or meta.get("CLASSES"), dataset, where)
        _check_zero_label(runner, dataset, key, meta.get("reduce_zero_label"), where)


def _report_all(runner: Runner, findings: Any) -> None:
    for check, message in findings:
        report(check, message, runner.logger.warning)


def _check_data(runner: Runner, dataset: Any, key: str) -> None:
    if is_on("labels") or is_on("class-names"):
        _report_all(runner, class_labels.check_dataset(dataset, key))
    model: Any = runner.model
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    classes = class_labels.classes_of(dataset)
    if not classes or isinstance(classes, str):
        return
    wrong = unlike_heads(model, dataset.metainfo)
    if wrong:
        own_model = _model_of(runner)
        heads = "\n".join(
            f"  {config_key(own_model, name)}={count}" for name, count in wrong.items()
        )
        shown = ", ".join(map(str, classes[:8])) + (", ..." if len(classes) > 8 else "")
        report(
            "head-classes",
            f"The data of {key} has {len(classes)} classes ({shown}), but the model has\n{heads}\n"
            "What to do: nothing if these heads predict something else; otherwise set their "
            f"num_classes in the config, or {key}.metainfo.classes.",
            runner.logger.warning,
        )


def _model_of(runner: Runner) -> Any:
    model = (getattr(runner, "cfg", None) or {}).get("model") or {}
    return model.get("module", model) if isinstance(model, Mapping) else {}


def _check_metrics(runner: Runner, loop: Any, dataset: Any, key: str) -> None:
    classes = class_labels.classes_of(dataset)
    for metric in getattr(getattr(loop, "evaluator", None), "metrics", ()):
        if classes:
            _report_all(runner, class_labels.check_metric(metric, classes, key))


def _compare(
    runner: Runner, dataset: Any, key: str, others: Any, other_data: Any, where: str
) -> None:
    classes = class_labels.classes_of(dataset)
    told = any(
        getattr(part, "return_classes", False)
        for data in (dataset, other_data)
        for part in class_labels.innermost(data)
    )
    if classes and others and not told and not isinstance(others, str):
        _report_all(runner, class_labels.check_classes(classes, key, others, where))


def _zero_label(dataset: Any) -> bool | None:
    """``reduce_zero_label`` of data of mmseg; None where there is none, or parts differ."""
    parts = class_labels.innermost(dataset)
    found = {getattr(part, "reduce_zero_label", None) for part in parts}
    return found.pop() if len(found) == 1 else None


def _check_zero_label(
    runner: Runner, dataset: Any, key: str, other: bool | None, where: str
) -> None:
    own = _zero_label(dataset)
    if own is None or other is None or own == other:
        return
    report(
        "zero-label",
        f"{key}.reduce_zero_label is {own}, that of {where} is {other}: if their label maps are "
        "numbered alike, every label of one is off by one.\nWhat to do: set reduce_zero_label of "
        "both alike, unless their files differ.",
        runner.logger.warning,
    )
