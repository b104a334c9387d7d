"""What every config names besides its model exists in its library and takes the arguments given.

Models are built with the model index and in the tests of their families.
"""

import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.registry import (
    DATA_SAMPLERS,
    FUNCTIONS,
    HOOKS,
    LOOPS,
    METRICS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    VISBACKENDS,
    VISUALIZERS,
    Registry,
    init_default_scope,
)

from mmquad.compat import load_config

CONFIGS = Path(__file__).parents[2] / "configs"


def besides_the_model(path: Path) -> tuple[str, str]:
    """Library, and what a leaf says of data, schedule and runtime."""
    text = re.sub(r'^r?""".*?"""|^ +"\S+/models/\S+$', "", path.read_text(), flags=re.S | re.M)
    return path.parts[-3], re.sub(r"^model = dict\(([^\n]*\)$|.*?^\))", "", text, flags=re.S | re.M)


# Those that differ in the model alone need no second look; ablations are such by their own test.
LEAVES = {
    besides_the_model(path): path
    for path in sorted(CONFIGS.glob("*/*/*.py"))
    if path.parent.name != "_base_"
}.values()


def check(registry: Registry, part: Any) -> None:
    """A part of a config: its type is registered, and has parameters of these names."""
    settings = dict(part)
    with registry.switch_scope_and_registry(settings.pop("_scope_", None)) as found:
        kind = found.get(settings.pop("type"))
    assert kind is not None, part
    # Keywords may be passed on to base classes.
    makers = [each.__init__ for each in kind.__mro__] if inspect.isclass(kind) else [kind]
    names = {name for maker in makers for name in inspect.signature(maker).parameters}
    assert set(settings) <= names, part


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: path.stem)
def test_what_a_config_names_exists(path: Path) -> None:
    cfg = load_config(str(path))
    init_default_scope(cfg.default_scope)
    check_data(cfg)
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        check(METRICS, evaluator)
    for hook in cfg.default_hooks.values():
        check(HOOKS, hook)
    for hook in cfg.custom_hooks:
        assert HOOKS.build({k: v for k, v in hook.items() if k != "priority"})  # the runner's
    for scheduler in cfg.param_scheduler:
        given = dict(scheduler)
        if given.pop("convert_to_iter_based", False):
            assert given["by_epoch"]
        check(PARAM_SCHEDULERS, given)
    wrapper = dict(cfg.optim_wrapper)
    constructor = wrapper.pop("constructor", "DefaultOptimWrapperConstructor")
    check(OPTIM_WRAPPER_CONSTRUCTORS, {"type": constructor})
    check(OPTIMIZERS, wrapper.pop("optimizer"))
    wrapper.pop("paramwise_cfg")
    check(OPTIM_WRAPPERS, {"type": "OptimWrapper", **wrapper})
    if "type" in cfg.train_cfg:
        check(LOOPS, {"dataloader": None, **cfg.train_cfg})
    if "visualizer" in cfg:
        check(VISUALIZERS, cfg.visualizer)
        for backend in cfg.visualizer.vis_backends:
            check(VISBACKENDS, backend)


def check_data(cfg: Config) -> None:
    library = import_module(f"{cfg.default_scope}.registry")
    pipelines = [cfg.tta_pipeline] if "tta_pipeline" in cfg else []
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        dataset = dict(loader.dataset)
        pipelines.append(dataset.pop("pipeline"))
        check(library.DATASETS, dataset)
        check(DATA_SAMPLERS, loader.sampler)
        if loader.get("batch_sampler"):
            check(DATA_SAMPLERS, loader.batch_sampler)
        if "worker_init_fn" in loader:
            check(FUNCTIONS, loader.worker_init_fn)
    for step in (step for pipeline in pipelines for step in pipeline):
        assert library.TRANSFORMS.build(step)
