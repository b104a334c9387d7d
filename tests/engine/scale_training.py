"""One epoch of a tiny backbone by mmengine's runners; its weights go to a file.

Run by the tests, also under torch.distributed.run: ``scale_training.py KIND WORK_DIR BATCH_SIZE``.
"""

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from mmengine.model import BaseModel
from mmengine.runner import FlexibleRunner, Runner
from torch import Tensor
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.wrap import ModuleWrapPolicy

sys.path.append(str(Path(__file__).parents[1] / "common"))
from cotangents import random_cotangents

from mmquad.backbones import QuadMamba
from mmquad.layers import MixerBlock

EPOCHS = 1
IMAGES = 8


class Regressor(BaseModel):
    """No random numbers in its forward pass, and a loss that is a mean over images.

    Of layer-normed maps all means are constant; their products with fixed random maps are not.
    """

    def __init__(self) -> None:
        super().__init__()
        arch = {"dim": 8, "depths": (1, 1), "ssm_ratio": 1.0, "quad_stages": ()}
        self.backbone = QuadMamba(arch, out_indices=(0, 1))
        with torch.no_grad():
            for parameter in self.backbone.parameters():  # so that every gradient is worth a step
                parameter.add_(0.3 * torch.randn_like(parameter))
        shapes = ((8, 8, 8), (16, 4, 4))  # of the outputs for images of 32 x 32
        for i, upstream in enumerate(random_cotangents([torch.empty(s) for s in shapes])):
            self.register_buffer(f"upstream{i}", upstream, persistent=False)

    def forward(self, inputs: Tensor, mode: str = "tensor") -> dict[str, Tensor]:
        outputs = self.backbone(inputs)
        upstreams = (self.upstream0, self.upstream1)
        products = [(y.float() * g).sum(1).mean() for y, g in zip(outputs, upstreams, strict=True)]
        self.last_loss = torch.stack(products).sum()
        return {"loss": self.last_loss}


def settings(work_dir: str | Path, batch_size: int) -> dict[str, Any]:
    """Arguments of both runners: always the same initial weights and the same images."""
    torch.manual_seed(0)
    images = torch.randn(IMAGES, 3, 32, 32)
    return {
        "model": Regressor(),
        "work_dir": str(work_dir),
        "train_dataloader": {
            "batch_size": batch_size,
            "num_workers": 0,
            "dataset": [{"inputs": image} for image in images],
            "sampler": {"type": "DefaultSampler", "shuffle": False},
            "collate_fn": {"type": "default_collate"},
        },
        "train_cfg": {"by_epoch": True, "max_epochs": EPOCHS},
        "optim_wrapper": {"optimizer": {"type": "SGD", "lr": 0.05}},
        "default_hooks": {"checkpoint": {"type": "CheckpointHook", "interval": 1}},
        "default_scope": "mmengine",
        "log_level": "ERROR",
        "experiment_name": f"{Path(work_dir).name}_{batch_size}",
    }


def train_ddp(arguments: dict[str, Any]) -> Runner:
    runner = Runner(
        **arguments,
        launcher="pytorch",
        cfg={"model_wrapper_cfg": {"type": "MMDistributedDataParallel", "device_ids": None}},
    )
    runner.train()
    return runner


def train_fsdp(arguments: dict[str, Any]) -> FlexibleRunner:
    wrapper = {
        "type": "MMFullyShardedDataParallel",
        "device_id": torch.device("cpu"),
        "use_orig_params": True,
        "auto_wrap_policy": ModuleWrapPolicy({MixerBlock}),
    }
    runner = FlexibleRunner(
        **arguments,
        launcher="pytorch",
        strategy={"type": "FSDPStrategy", "state_dict_cfg": "local", "model_wrapper": wrapper},
    )
    runner.train()
    return runner


def full_weights(model: torch.nn.Module) -> dict[str, Tensor]:
    if not isinstance(model, FullyShardedDataParallel):
        return model.module.state_dict()
    with FullyShardedDataParallel.summon_full_params(model, writeback=False):
        return {
            name.replace("_fsdp_wrapped_module.", ""): parameter.detach().clone()
            for name, parameter in model.named_parameters()
        }


def main() -> None:
    kind, work_dir, batch_size = sys.argv[1:]
    dist.init_process_group("gloo")
    train = {"ddp": train_ddp, "fsdp": train_fsdp}[kind]
    weights = full_weights(train(settings(work_dir, int(batch_size))).model)
    if dist.get_rank() == 0:
        torch.save(weights, Path(work_dir) / "full.pth")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
