import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("mmengine")

from mmengine.config.utils import MODULE2PACKAGE
from mmengine.dataset import DefaultSampler
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.serialization import clear_safe_globals, get_safe_globals, safe_globals

from mmquad import compat

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs/mmseg/quadmamba/upernet_quadmamba-tiny_8xb2-160k_ade20k-512x512.py"


@pytest.fixture
def untouched() -> Iterator[None]:
    """Undo what ``apply`` does."""
    table, allowed = dict(MODULE2PACKAGE), get_safe_globals()
    clear_safe_globals()
    yield
    clear_safe_globals()
    torch.serialization.add_safe_globals(allowed)
    MODULE2PACKAGE.clear()
    MODULE2PACKAGE.update(table)


def only_these_distributions(monkeypatch, *names: str) -> None:
    def version(name: str) -> str:
        if name not in names:
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(compat, "version", version)


def test_configs_inherit_from_mmseg():
    pytest.importorskip("mmseg")
    compat.apply()
    compat.apply()
    assert compat.load_config(str(CONFIG)).model.type == "EncoderDecoder"


@pytest.mark.parametrize("base", ["mmdet::schedule_1x", "mmpretrain::imagenet_bs1024_adamw_swin"])
def test_configs_inherit_from_the_sister_libraries(base: str, tmp_path: Path):
    library, name = base.split("::")
    pytest.importorskip(library)
    config = tmp_path / "config.py"
    config.write_text(f"_base_ = '{library}::_base_/schedules/{name}.py'\n")
    assert "optim_wrapper" in compat.load_config(str(config))


def test_nothing_happens_on_import():
    code = (
        "from mmengine.config.utils import MODULE2PACKAGE as table; before = dict(table);"
        "from torch.serialization import get_safe_globals as allowed; listed = allowed();"
        "import mmquad.compat; assert table == before and allowed() == listed;"
        "mmquad.compat.apply(); print(table['mmseg'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("mmseg", "mmsegmentation")


@pytest.mark.usefixtures("untouched")
def test_the_forks_get_mmseg_mapped_and_no_globals(monkeypatch):
    only_these_distributions(monkeypatch, "onedl-mmengine", "onedl-mmsegmentation")
    compat.apply()
    assert MODULE2PACKAGE["mmseg"] == "mmseg"
    assert get_safe_globals() == []


@pytest.mark.usefixtures("untouched")
def test_the_originals_get_globals_once_and_keep_their_mapping(monkeypatch):
    only_these_distributions(monkeypatch, "mmengine", "mmsegmentation")
    monkeypatch.setattr(torch, "__version__", "2.6.0")
    MODULE2PACKAGE["mmseg"] = "mmsegmentation"
    compat.apply()
    listed = get_safe_globals()
    compat.apply()
    assert len(get_safe_globals()) == len(listed) > 0
    assert MODULE2PACKAGE["mmseg"] == "mmsegmentation"


@pytest.mark.usefixtures("untouched")
def test_torch_before_2_6_needs_no_globals(monkeypatch):
    only_these_distributions(monkeypatch, "mmengine", "mmsegmentation")
    monkeypatch.setattr(torch, "__version__", "2.5.1+cu124")
    compat.apply()
    assert get_safe_globals() == []


class Line(BaseModel):
    """The smallest model that a Runner trains."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs: torch.Tensor, mode: str = "tensor") -> dict:
        return {"loss": (inputs - self.weight).square().mean()}


def train(work_dir: Path, epochs: int, resume: bool = False) -> Runner:
    data = {
        "dataset": [torch.ones(1), torch.zeros(1)],
        "sampler": {"type": DefaultSampler, "shuffle": False},
        "batch_size": 1,
        "collate_fn": {"type": "pseudo_collate"},
    }
    runner = Runner(
        model=Line(),
        work_dir=str(work_dir),
        train_dataloader=data,
        train_cfg={"by_epoch": True, "max_epochs": epochs},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.1, "momentum": 0.9}},
        default_hooks={"logger": {"type": "LoggerHook", "interval": 1}},
        experiment_name=f"line_{work_dir.name}_{epochs}_{resume}",
        resume=resume,
    )
    runner.train()
    return runner


def test_a_runner_checkpoint_is_resumed_with_the_installed_flavour(tmp_path: Path):
    compat.apply()
    train(tmp_path / "two", epochs=1)
    resumed = train(tmp_path / "two", epochs=2, resume=True)
    whole = train(tmp_path / "whole", epochs=2)
    assert resumed.iter == whole.iter == 4
    torch.testing.assert_close(resumed.model.weight, whole.model.weight)


def test_the_globals_are_enough_for_torch_to_load_a_runner_checkpoint(tmp_path: Path):
    train(tmp_path, epochs=1)
    with safe_globals(compat.runner_checkpoint_globals()):
        checkpoint = torch.load(tmp_path / "epoch_1.pth", weights_only=True)
    history = checkpoint["message_hub"]["log_scalars"]["train/loss"]
    np.testing.assert_allclose(history.data[0][:1], [1.0])
