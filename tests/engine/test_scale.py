"""Accumulation, bfloat16, EMA, compilation, sharding and several nodes in the stock runners."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.runner import Runner
from torch import Tensor

sys.path.append(str(Path(__file__).parent))
from scale_training import settings

from mmquad.datasets import generate_shapes_imagenet
from mmquad.engine.launch import plan_training, run_training

CONFIG = Path(__file__).parents[2] / "configs/mmpretrain/quadmamba/quadmamba-demo_shapes.py"

SCRIPT = Path(__file__).parent / "scale_training.py"


def train(work_dir: Path, batch_size: int = 4, **changes: Any) -> Runner:
    runner = Runner(**settings(work_dir, batch_size) | changes)
    runner.train()
    return runner


def weights(runner: Runner) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in runner.model.state_dict().items()}


def assert_same_weights(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6, msg=name)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> dict[str, Tensor]:
    """Weights after one epoch of one process with batches of four."""
    trained = weights(train(tmp_path_factory.mktemp("plain")))
    untrained = settings("unused", 4)["model"].state_dict()
    assert all((trained[k] - untrained[k]).abs().max() > 1e-5 for k in trained)
    return trained


def optimizer(**changes: Any) -> dict[str, Any]:
    return {"optimizer": {"type": "SGD", "lr": 0.05}, **changes}


def test_two_accumulated_batches_are_one_of_twice_the_size(tmp_path: Path, plain):
    runner = train(tmp_path, 2, optim_wrapper=optimizer(accumulative_counts=2))
    assert_same_weights(weights(runner), plain)


def test_bfloat16_trains_close_to_float32(tmp_path: Path, plain):
    used = []
    arguments = settings(tmp_path, 4)
    stem = arguments["model"].backbone.stem
    stem.register_forward_hook(lambda m, i, o: used.append(o.dtype))
    convolution = next(m for m in stem.modules() if isinstance(m, torch.nn.Conv2d))
    convolution.register_forward_hook(lambda m, i, o: used.append(o.dtype))
    arguments["optim_wrapper"] = optimizer(type="mmquad.Bf16OptimWrapper")
    runner = Runner(**arguments)
    runner.train()
    assert torch.bfloat16 in used
    found = weights(runner)
    assert {value.dtype for value in found.values()} == {torch.float32}
    initial = settings("unused", 4)["model"].state_dict()
    moved = torch.cat([(plain[k] - initial[k]).flatten() for k in plain])
    error = torch.cat([(plain[k] - found[k]).flatten() for k in plain])
    assert 0 < error.norm() < 0.1 * moved.norm()


def test_averaged_weights_are_saved_beside_the_others(tmp_path: Path, plain):
    train(tmp_path, custom_hooks=[{"type": "EMAHook", "momentum": 0.5}])
    checkpoint = torch.load(tmp_path / "epoch_1.pth", weights_only=False)
    # mmengine saves the averages as state_dict and the weights that are trained as ema_state_dict
    trained = {
        name.removeprefix("module."): value
        for name, value in checkpoint["ema_state_dict"].items()
        if name != "steps"
    }
    assert_same_weights(trained, plain)
    averaged = checkpoint["state_dict"]
    assert any((averaged[name] - plain[name]).abs().max() > 1e-4 for name in plain)


@pytest.mark.slow
def test_compiled_training_gives_the_same_weights(tmp_path: Path, plain):
    runner = train(tmp_path, cfg={"compile": {"backend": "aot_eager"}})
    assert_same_weights(weights(runner), plain)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def launch(kind: str, work_dir: Path, port: int, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "torch.distributed.run", f"--master_port={port}", *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "-1"}
    return subprocess.Popen(
        [*command, str(SCRIPT), kind, str(work_dir), "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


@pytest.mark.slow
def test_sharded_training_of_two_processes_equals_one(tmp_path: Path, plain):
    process = launch("fsdp", tmp_path, free_port(), "--nproc_per_node=2")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert_same_weights(torch.load(tmp_path / "full.pth"), plain)
    parts = sorted(path.name for path in (tmp_path / "epoch_1.pth").iterdir())
    assert parts == ["rank0.pth", "rank1.pth"]


@pytest.mark.slow
def test_two_nodes_of_one_process_equal_one(tmp_path: Path, plain):
    port = free_port()
    nodes = [
        launch(
            *("ddp", tmp_path, port, "--nnodes=2", f"--node_rank={rank}"),
            *("--master_addr=127.0.0.1", "--nproc_per_node=1"),
        )
        for rank in range(2)
    ]
    outputs = [node.communicate(timeout=300)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], "\n".join(outputs)
    assert_same_weights(torch.load(tmp_path / "full.pth"), plain)


@pytest.mark.slow
def test_the_launcher_starts_the_runner_that_the_config_names(tmp_path: Path):
    options = {
        "runner_type": "FlexibleRunner",
        "model.backbone.arch": {"dim": 8, "depths": (1, 1), "ssm_ratio": 1.0},
        "model.backbone.out_indices": (1,),
        "model.head.in_channels": 16,
        "train_cfg.max_epochs": 1,
        "train_dataloader.batch_size": 2,
    }
    data = str(generate_shapes_imagenet(tmp_path / "data", 4, 4))
    work_dir = tmp_path / "work"
    run_training(
        plan_training(str(CONFIG), work_dir=str(work_dir), data_root=data, cfg_options=options)
    )
    assert (work_dir / "epoch_1.pth").is_file()
    assert (work_dir / "last_checkpoint").read_text() == str(work_dir / "epoch_1.pth")
