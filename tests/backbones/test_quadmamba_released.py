"""``quadtree='released'`` against the released mixing written again from its description.

The release multiplies the map by the upsampled one-hot mask, rearranges it once into 4 x 4 and once
into 2 x 2 windows, and adds the two sequences. Here that is plain reshapes, and the scan a loop.
"""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mmquad.backbones import QuadMamba
from mmquad.layers.selective_ssm import SelectiveSSM
from mmquad.layers.window_selector import WindowSelector

ARCH = {"dim": 8, "depths": (2, 2, 1, 1), "ssm_ratio": 2}


def windows_to_sequence(x: Tensor, n: int) -> Tensor:
    """``[B, H, W, D]`` -> ``[B, L, D]``: n x n windows in raster order, each row by row."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, n, height // n, n, width // n, channels)
    return x.transpose(2, 3).reshape(batch, height * width, channels)


def sequence_to_windows(y: Tensor, n: int, height: int, width: int) -> Tensor:
    y = y.reshape(y.shape[0], n, n, height // n, width // n, -1)
    return y.transpose(2, 3).reshape(y.shape[0], height, width, -1)


def one_direction(ssm: SelectiveSSM, k: int, x: Tensor) -> Tensor:
    """Mamba along ``x [B, L, D]`` with the parameters of direction k."""
    dt, B, C = (x @ ssm.x_proj[k].t()).split([ssm.dt_rank, ssm.d_state, ssm.d_state], dim=-1)
    dt = F.softplus(dt @ ssm.dt_proj[k].t() + ssm.dt_bias[k])
    A = -ssm.A_log[k].exp()
    h, ys = x.new_zeros(x.shape[0], ssm.dim, ssm.d_state), []
    for t in range(x.shape[1]):
        h = (dt[:, t, :, None] * A).exp() * h + (dt * x)[:, t, :, None] * B[:, t, None]
        ys.append((h * C[:, t, None]).sum(-1) + ssm.D_skip[k] * x[:, t])
    return torch.stack(ys, dim=1)


def straight_through_mask(selector: WindowSelector, x: Tensor) -> Tensor:
    """Scores of the unrolled map, averaged over 2 x 2 windows; the mask has the map's size."""
    score = selector.head(selector.embed(x)).log_softmax(-1)[..., 0]
    soft = F.adaptive_avg_pool2d(score[:, None], 2).flatten(1).softmax(-1)
    weight = F.one_hot(soft.argmax(-1), 4) + soft - soft.detach()
    return F.interpolate(weight.view(-1, 1, 2, 2), size=x.shape[1:3])[:, 0, ..., None]


def released_mixer(mixer, x: Tensor) -> Tensor:
    x = mixer.conv(mixer.in_proj(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    x = F.silu(x)
    height, width = x.shape[1:3]
    mask = straight_through_mask(mixer.selector, x)
    amounts = [sign * (height // 8) for sign in mixer.scan.shift]
    x = x.roll(amounts, (1, 2))
    xs = windows_to_sequence(mask * x, 4) + windows_to_sequence((1 - mask) * x, 2)
    ys = one_direction(mixer.ssm, 0, xs) + one_direction(mixer.ssm, 1, xs.flip(1)).flip(1)
    fine, coarse = (sequence_to_windows(ys, n, height, width) for n in (4, 2))
    y = mask * fine + (1 - mask) * coarse
    return mixer.out_proj(mixer.norm(y.roll([-amount for amount in amounts], (1, 2))))


def make_model(quadtree: str) -> QuadMamba:
    torch.manual_seed(0)
    model = QuadMamba(ARCH, quadtree=quadtree).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("stage", [0, 1])
@pytest.mark.parametrize("size", [(8, 8), (8, 16), (16, 8)])
def test_blocks_equal_the_released_mixing(size: tuple[int, int], stage: int) -> None:
    """An unshifted and a shifted block: outputs, and gradients of the input and every parameter."""
    blocks = make_model("released").stages[stage]
    x = torch.randn(4, *size, 8 * 2**stage, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(x.shape, dtype=torch.float64)
    choices: set[int] = set()
    for block in blocks:
        block.mixer.selector.register_forward_hook(
            lambda module, inputs, weight: choices.update(weight.argmax(1).tolist())
        )
    actual = blocks(x)
    expected = x
    for block in blocks:
        expected = expected + released_mixer(block.mixer, block.norm1(expected))
        expected = expected + block.mlp(block.norm2(expected))
    assert len(choices) > 1, "the samples should choose differently"
    torch.testing.assert_close(actual, expected)
    inputs = (x, *blocks.parameters())
    for mine, theirs in zip(
        torch.autograd.grad((actual * upstream).sum(), inputs),
        torch.autograd.grad((expected * upstream).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


def test_paper_and_release_differ() -> None:
    image = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    paper, released = make_model("paper"), make_model("released")
    released.load_state_dict(paper.state_dict())
    assert not torch.allclose(paper(image)[0], released(image)[0], rtol=1e-2)
