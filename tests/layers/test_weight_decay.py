"""What must not decay is declared where it is defined, and the declaration is not lost."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from mmquad.layers import SelectiveSSM, exempt_from_decay, exempt_parameters

DECLARED = {"0.A_log", "0.D_skip", "0.dt_bias"}


def model() -> nn.Module:
    return nn.Sequential(SelectiveSSM(4, d_state=2, dt_rank=1, directions=2), nn.Linear(4, 4))


def pickled(module: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("of", [lambda m: m, copy.deepcopy, pickled, nn.Module.half])
def test_declared_parameters(of) -> None:
    assert exempt_parameters(of(model())).keys() == DECLARED


def test_the_mark_of_mamba_ssm() -> None:
    """Set for optimizers from elsewhere, and read where another package has set it."""
    net = model()
    assert {n for n, p in net.named_parameters() if hasattr(p, "_no_weight_decay")} == DECLARED
    net[1].bias._no_weight_decay = True
    assert exempt_parameters(net).keys() == {*DECLARED, "1.bias"}


def test_parameters_that_were_replaced() -> None:
    """As FSDP does."""
    net = model()
    for name, parameter in list(net[0].named_parameters()):
        setattr(net[0], name, nn.Parameter(parameter.detach().clone()))
    assert exempt_parameters(net).keys() == DECLARED


def test_parametrized_parameters() -> None:
    net = model()
    parametrize.register_parametrization(net[0], "A_log", nn.Identity())
    expected = {"0.parametrizations.A_log.original", "0.D_skip", "0.dt_bias"}
    assert exempt_parameters(net).keys() == expected


def test_declarations_add_up() -> None:
    layer = nn.Linear(2, 2)
    exempt_from_decay(layer, "bias")
    exempt_from_decay(layer, "weight")
    assert exempt_parameters(layer).keys() == {"bias", "weight"}


def test_parameters_of_submodules_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\['weight', 'bias'\] in Linear, got \['wieght'\]"):
        exempt_from_decay(nn.Linear(2, 2), "bias", "wieght")
    with pytest.raises(ValueError, match=r"0\.weight"):
        exempt_from_decay(nn.Sequential(nn.Linear(2, 2)), "0.weight")
