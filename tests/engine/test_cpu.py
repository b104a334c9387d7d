"""What is changed in a config so that it runs without CUDA."""

import subprocess
import sys

import pytest
import torch
from mmengine.config import Config

from mmquad.engine.cpu import adapt_config_to_cpu, init_cpu_process_group, replace_sync_bn
from mmquad.errors import SetupError


def test_sync_bn_is_replaced_wherever_it_is():
    model = Config(
        {
            "backbone": {"norm_cfg": {"type": "BN"}},
            "decode_head": {"norm_cfg": {"type": "SyncBN", "requires_grad": True}},
            "auxiliary_head": [{"norm_cfg": {"type": "SyncBN"}}],
        }
    )
    assert replace_sync_bn(model._cfg_dict) == [
        "model.decode_head.norm_cfg",
        "model.auxiliary_head.0.norm_cfg",
    ]
    assert model.decode_head.norm_cfg == {"type": "BN", "requires_grad": True}
    assert model.auxiliary_head[0].norm_cfg.type == "BN"
    assert replace_sync_bn(model._cfg_dict) == []


def test_notes_say_what_was_changed():
    cfg = Config({"model": {"head": {"norm_cfg": {"type": "SyncBN"}}}, "launcher": "pytorch"})
    notes = adapt_config_to_cpu(cfg)
    assert any("gloo" in note for note in notes)
    assert any("SyncBN" in note and "model.head.norm_cfg" in note for note in notes)
    assert adapt_config_to_cpu(Config({"model": {}, "launcher": "none"})) == []


def test_model_wrapper_keeps_the_users_settings_and_names_no_device():
    wrapper = {"type": "MMDistributedDataParallel", "find_unused_parameters": True}
    cfg = Config({"model": {}, "launcher": "pytorch", "model_wrapper_cfg": wrapper})
    adapt_config_to_cpu(cfg)
    assert cfg.model_wrapper_cfg == {
        "type": "MMDistributedDataParallel",
        "broadcast_buffers": False,
        "find_unused_parameters": True,
        "device_ids": None,
    }
    cfg = Config({"model": {}, "launcher": "pytorch", "find_unused_parameters": True})
    adapt_config_to_cpu(cfg)
    assert cfg.model_wrapper_cfg.find_unused_parameters is True


def test_mixed_precision_is_refused_with_the_way_out():
    cfg = Config({"model": {}, "optim_wrapper": {"type": "AmpOptimWrapper"}})
    with pytest.raises(SetupError, match=r"needs a GPU.*\n.*leave out --amp"):
        adapt_config_to_cpu(cfg)


def test_other_launchers_are_refused():
    with pytest.raises(SetupError, match="--launcher slurm needs GPUs"):
        adapt_config_to_cpu(Config({"model": {}, "launcher": "slurm"}))


def test_process_group_needs_a_launcher(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(SetupError, match=r"RANK is not set.*\n.*dist_train\.sh"):
        init_cpu_process_group(Config({}))


@pytest.mark.skipif(torch.cuda.is_available(), reason="for launches without a GPU")
def test_a_launched_process_ends_without_teardown():
    """Status 0, exit handlers run, output flushed, and the interpreter is not torn down."""
    code = (
        "import atexit, sys, threading\n"
        "from mmquad.engine.cpu import end_cpu_process\n"
        "class Loud:\n"
        "    def __del__(self): print('torn down')\n"
        "loud = Loud()\n"
        "atexit.register(print, 'exit handler')\n"
        "end_cpu_process('none'); print('still here', end='')\n"
        "end_cpu_process('pytorch'); print('unreachable')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "still hereexit handler\n"
