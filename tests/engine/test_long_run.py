"""Two thousand training steps of a tiny backbone in the stock runner keep their memory."""

from pathlib import Path

import pytest
import torch
from cotangents import project
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor

from mmquad.backbones import QuadMamba

STEPS = 2000
MEGABYTE = 2**20


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


class MemoryRecord(Hook):
    """Resident memory every 100 steps."""

    def __init__(self) -> None:
        self.bytes: list[int] = []

    def after_train_iter(self, runner: Runner, batch_idx: int, *args, **kwargs) -> None:
        if runner.iter % 100 == 0:
            self.bytes.append(resident_bytes())


class Regressor(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        arch = {"dim": 8, "depths": (1, 1), "ssm_ratio": 1.0, "quad_stages": (0,)}
        self.backbone = QuadMamba(arch, out_indices=(0, 1), drop_path_rate=0.1)

    def forward(self, inputs: Tensor, mode: str = "tensor") -> dict[str, Tensor]:
        # Sizes change as in detection, over more grids than the cache of orders keeps (256).
        height, width = torch.randint(24, 64, (2,)).tolist()
        outputs = self.backbone(inputs[..., :height, :width])
        return {"loss": project(outputs) / height / width}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
def test_memory_does_not_grow(tmp_path: Path):
    record = MemoryRecord()
    runner = Runner(
        model=Regressor(),
        work_dir=str(tmp_path),
        train_dataloader={
            "batch_size": 1,
            "num_workers": 0,
            "dataset": [{"inputs": torch.randn(3, 64, 64)}] * 8,
            "sampler": {"type": "InfiniteSampler", "shuffle": True},
            "collate_fn": {"type": "default_collate"},
        },
        train_cfg={"by_epoch": False, "max_iters": STEPS},
        optim_wrapper={"optimizer": {"type": "AdamW", "lr": 1e-4}},
        custom_hooks=[record, {"type": "mmquad.FiniteGuardHook"}],
        default_hooks={
            "checkpoint": {
                "type": "mmquad.AtomicCheckpointHook",
                "by_epoch": False,
                "interval": 500,
                "max_keep_ckpts": 1,
            },
            "logger": {"type": "LoggerHook", "interval": 500},
        },
        randomness={"seed": 0},
        default_scope="mmengine",
        log_level="ERROR",
    )
    runner.train()
    assert runner.iter == STEPS
    megabytes = [round(size / MEGABYTE) for size in record.bytes]
    # The tables of 256 grids and the allocator's pools fill up in the first thousand steps.
    early, late = megabytes[10], megabytes[-1]
    assert late - early < 8, f"resident megabytes every 100 steps: {megabytes}"
    assert [p.name for p in tmp_path.glob("*.pth")] == [f"iter_{STEPS}.pth"]
