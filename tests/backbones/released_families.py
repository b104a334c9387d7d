"""VMamba, Vim and PlainMamba rewritten plainly on the names and shapes of their releases.

``*_shapes`` list every entry of a released classifier; ``*_forward`` compute what the released code
computes from such weights, token by token, with none of this package.
"""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]
Weights = dict[str, Tensor]


def random_weights(shapes: Shapes) -> Weights:
    """No two entries alike, none all zeros; norms and variances stay positive."""
    weights = {}
    for name, shape in shapes.items():
        value = torch.randn(shape, dtype=torch.float64) * 0.3
        is_scale = (len(shape) == 1 and name.endswith("weight")) or name.endswith("running_var")
        weights[name] = 1 + 0.3 * value.abs() if is_scale else value
    return weights


def linear(name: str, out: int, into: int, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (out, into)} | ({f"{name}.bias": (out,)} if bias else {})


def norm(name: str, channels: int) -> Shapes:
    return {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}


def conv(name: str, out: int, into: int, size: int) -> Shapes:
    return {f"{name}.weight": (out, into, size, size), f"{name}.bias": (out,)}


def batch_norm(name: str, channels: int) -> Shapes:
    return norm(name, channels) | {f"{name}.running_{k}": (channels,) for k in ("mean", "var")}


def vmamba_shapes(
    dim, depths, ssm_ratio, d_state=1, mlp_ratio=4, gate=False, overlap=True, conv_bias=False
):
    if overlap:
        shapes = conv("patch_embed.0", dim // 2, 3, 3) | norm("patch_embed.2", dim // 2)
        shapes |= conv("patch_embed.5", dim, dim // 2, 3) | norm("patch_embed.7", dim)
    else:
        shapes = conv("patch_embed.0", dim, 3, 4) | norm("patch_embed.2", dim)
    for i, depth in enumerate(depths):
        c = dim * 2**i
        inner, rank = int(c * ssm_ratio), math.ceil(c / 16)
        for j in range(depth):
            block = f"layers.{i}.blocks.{j}"
            op = f"{block}.op"
            shapes |= norm(f"{block}.norm", c) | norm(f"{op}.out_norm", inner)
            shapes |= linear(f"{op}.in_proj", inner * (2 if gate else 1), c, bias=False)
            shapes |= linear(f"{op}.out_proj", c, inner, bias=False)
            shapes |= {
                f"{op}.conv2d.weight": (inner, 1, 3, 3),
                f"{op}.x_proj_weight": (4, rank + 2 * d_state, inner),
                f"{op}.dt_projs_weight": (4, inner, rank),
                f"{op}.dt_projs_bias": (4, inner),
                f"{op}.A_logs": (4 * inner, d_state),
                f"{op}.Ds": (4 * inner,),
            }
            if conv_bias:
                shapes[f"{op}.conv2d.bias"] = (inner,)
            if mlp_ratio:
                hidden = int(c * mlp_ratio)
                shapes |= norm(f"{block}.norm2", c) | linear(f"{block}.mlp.fc1", hidden, c)
                shapes |= linear(f"{block}.mlp.fc2", c, hidden)
        down = f"layers.{i}.downsample"
        if i < len(depths) - 1 and overlap:
            shapes |= conv(f"{down}.1", 2 * c, c, 3) | norm(f"{down}.3", 2 * c)
        elif i < len(depths) - 1:
            shapes |= linear(f"{down}.reduction", 2 * c, 4 * c, bias=False)
            shapes |= norm(f"{down}.norm", 4 * c)
    return shapes | norm("classifier.norm", c) | linear("classifier.head", 1000, c)


def vim_shapes(dim, depth, tokens, d_state=16, patch_size=16, norm_parts=("weight",)):
    inner, rank = 2 * dim, math.ceil(dim / 16)
    shapes = {"cls_token": (1, 1, dim), "pos_embed": (1, tokens + 1, dim)}
    shapes |= conv("patch_embed.proj", dim, 3, patch_size)
    for i in range(depth):
        mixer = f"layers.{i}.mixer"
        shapes |= linear(f"{mixer}.in_proj", 2 * inner, dim, bias=False)
        shapes |= linear(f"{mixer}.out_proj", dim, inner, bias=False)
        shapes |= {f"layers.{i}.norm.{part}": (dim,) for part in norm_parts}
        for b, a_log in (("", "A_log"), ("_b", "A_b_log")):
            shapes |= {f"{mixer}.{a_log}": (inner, d_state), f"{mixer}.D{b}": (inner,)}
            shapes |= {f"{mixer}.conv1d{b}.weight": (inner, 1, 4)}
            shapes |= {f"{mixer}.conv1d{b}.bias": (inner,)}
            shapes |= linear(f"{mixer}.x_proj{b}", rank + 2 * d_state, inner, bias=False)
            shapes |= linear(f"{mixer}.dt_proj{b}", inner, rank)
    shapes |= {f"norm_f.{part}": (dim,) for part in norm_parts}
    return shapes | linear("head", 1000, dim)


def plainmamba_shapes(dim, depth, num_convs, conv_layers, d_state=16, conv_size=7, grid=(14, 14)):
    inner, rank = 2 * dim, math.ceil(dim / 16)
    shapes = {"pos_embed": (1, math.prod(grid), dim), "patch_embed.stem.0.weight": (64, 3, 7, 7)}
    shapes |= batch_norm("patch_embed.stem.1", 64) | norm("ln1", dim)
    for i in range(num_convs):
        shapes |= {f"patch_embed.convs.{3 * i}.weight": (64, 64, 3, 3)}
        shapes |= batch_norm(f"patch_embed.convs.{3 * i + 1}", 64)
    shapes |= conv("patch_embed.projection", dim, 64, 8)
    for i in range(depth):
        mamba = f"layers.{i}.mamba"
        shapes |= norm(f"layers.{i}.norm", dim)
        if i in conv_layers:
            shapes |= {f"layers.{i}.dw.0.weight": (dim, 1, 3, 3)}
            shapes |= batch_norm(f"layers.{i}.dw.1", dim)
        shapes |= {f"{mamba}.A_log": (inner, d_state), f"{mamba}.D": (inner,)}
        shapes |= {f"{mamba}.direction_Bs": (5, d_state)}
        shapes |= linear(f"{mamba}.in_proj", 2 * inner, dim)
        shapes |= conv(f"{mamba}.conv2d", inner, 1, conv_size)
        shapes |= linear(f"{mamba}.x_proj", rank + 2 * d_state, inner, bias=False)
        shapes |= linear(f"{mamba}.dt_proj", inner, rank) | linear(f"{mamba}.out_proj", dim, inner)
    return shapes


def scan(u: Tensor, step: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """``[L, D]`` inputs, steps before softplus ``[L, D]``, B and C ``[L, N]`` -> ``[L, D]``."""
    h, ys = torch.zeros_like(A), []
    for x, dt, b, c in zip(u, F.softplus(step), B, C, strict=True):
        h = (dt[:, None] * A).exp() * h + (dt * x)[:, None] * b
        ys.append(h @ c + D * x)
    return torch.stack(ys)


def layer_norm(w: Weights, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], eps)


def maps(x: Tensor) -> Tensor:
    """``[H, W, C]`` -> ``[1, C, H, W]``."""
    return x.permute(2, 0, 1)[None]


def rows(x: Tensor) -> Tensor:
    """``[1, C, H, W]`` -> ``[H, W, C]``."""
    return x[0].permute(1, 2, 0)


def vmamba_mixer(w: Weights, op: str, x: Tensor, gate: bool) -> Tensor:
    height, width, _ = x.shape
    x = x @ w[f"{op}.in_proj.weight"].t()
    x, z = x.chunk(2, -1) if gate else (x, None)
    conv2d, bias = w[f"{op}.conv2d.weight"], w.get(f"{op}.conv2d.bias")
    x = rows(F.silu(F.conv2d(maps(x), conv2d, bias, padding=1, groups=x.shape[-1])))
    grid = torch.arange(height * width).view(height, width)
    orders = [grid.flatten(), grid.t().flatten()]
    orders += [order.flip(0) for order in orders]
    inner = x.shape[-1]
    tokens = x.reshape(-1, inner)
    y = torch.zeros_like(tokens)
    rank, states = w[f"{op}.dt_projs_weight"].shape[2], w[f"{op}.A_logs"].shape[1]
    for k, order in enumerate(orders):
        part = slice(k * inner, (k + 1) * inner)
        u = tokens[order]
        dt, B, C = (u @ w[f"{op}.x_proj_weight"][k].t()).split([rank, states, states], -1)
        step = dt @ w[f"{op}.dt_projs_weight"][k].t() + w[f"{op}.dt_projs_bias"][k]
        A, D = -w[f"{op}.A_logs"][part].exp(), w[f"{op}.Ds"][part]
        y[order] += scan(u, step, A, B, C, D)
    y = layer_norm(w, f"{op}.out_norm", y.view(height, width, inner))
    return (y if z is None else y * F.silu(z)) @ w[f"{op}.out_proj.weight"].t()


def vmamba_forward(w: Weights, image: Tensor, depths, gate: bool, overlap: bool) -> Tensor:
    """Logits of an image ``[1, 3, H, W]``."""

    def conv2d(name: str, x: Tensor, stride: int, padding: int) -> Tensor:
        return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], stride, padding)

    if overlap:
        x = F.gelu(layer_norm(w, "patch_embed.2", rows(conv2d("patch_embed.0", image, 2, 1))))
        x = layer_norm(w, "patch_embed.7", rows(conv2d("patch_embed.5", maps(x), 2, 1)))
    else:
        x = layer_norm(w, "patch_embed.2", rows(conv2d("patch_embed.0", image, 4, 0)))
    for i, depth in enumerate(depths):
        for j in range(depth):
            block = f"layers.{i}.blocks.{j}"
            x = x + vmamba_mixer(w, f"{block}.op", layer_norm(w, f"{block}.norm", x), gate)
            if f"{block}.mlp.fc1.weight" in w:
                y = layer_norm(w, f"{block}.norm2", x) @ w[f"{block}.mlp.fc1.weight"].t()
                y = F.gelu(y + w[f"{block}.mlp.fc1.bias"]) @ w[f"{block}.mlp.fc2.weight"].t()
                x = x + y + w[f"{block}.mlp.fc2.bias"]
        down = f"layers.{i}.downsample"
        if f"{down}.1.weight" in w:
            x = layer_norm(w, f"{down}.3", rows(conv2d(f"{down}.1", maps(x), 2, 1)))
        elif f"{down}.norm.weight" in w:
            x = F.pad(x, (0, 0, 0, x.shape[1] % 2, 0, x.shape[0] % 2))
            x = torch.cat([x[i::2, j::2] for j in (0, 1) for i in (0, 1)], -1)
            x = layer_norm(w, f"{down}.norm", x) @ w[f"{down}.reduction.weight"].t()
    pooled = layer_norm(w, "classifier.norm", x).mean((0, 1))
    return w["classifier.head.weight"] @ pooled + w["classifier.head.bias"]


def vim_mixer(w: Weights, mixer: str, x: Tensor) -> Tensor:
    x, z = (x @ w[f"{mixer}.in_proj.weight"].t()).chunk(2, -1)
    total = torch.zeros_like(x)
    rank, states = w[f"{mixer}.dt_proj.weight"].shape[1], w[f"{mixer}.A_log"].shape[1]
    for b, a_log in (("", "A_log"), ("_b", "A_b_log")):
        u = x.flip(0) if b else x
        taps, bias = w[f"{mixer}.conv1d{b}.weight"], w[f"{mixer}.conv1d{b}.bias"]
        padded = F.pad(u.t()[None], (3, 0))
        u = F.silu(F.conv1d(padded, taps, bias, groups=u.shape[1]))[0].t()
        dt, B, C = (u @ w[f"{mixer}.x_proj{b}.weight"].t()).split([rank, states, states], -1)
        step = dt @ w[f"{mixer}.dt_proj{b}.weight"].t() + w[f"{mixer}.dt_proj{b}.bias"]
        y = scan(u, step, -w[f"{mixer}.{a_log}"].exp(), B, C, w[f"{mixer}.D{b}"])
        total = total + (y.flip(0) if b else y)
    return (total / 2 * F.silu(z)) @ w[f"{mixer}.out_proj.weight"].t()


def vim_forward(w: Weights, image: Tensor, depth: int, stride: int) -> Tensor:
    """Logits, by the released order of operations: add, norm, mix."""

    def norm(name: str, x: Tensor) -> Tensor:
        if f"{name}.bias" in w:
            return layer_norm(w, name, x)
        return x * (x.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * w[f"{name}.weight"]

    patches = F.conv2d(image, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride)
    x = patches[0].flatten(1).t()
    middle = len(x) // 2
    x = torch.cat([x[:middle], w["cls_token"][0], x[middle:]]) + w["pos_embed"][0]
    residual, hidden = None, x
    for i in range(depth):
        residual = hidden if residual is None else hidden + residual
        hidden = vim_mixer(w, f"layers.{i}.mixer", norm(f"layers.{i}.norm", residual))
    chosen = norm("norm_f", hidden + residual)[middle]
    return w["head.weight"] @ chosen + w["head.bias"]


def snake(height: int, width: int) -> list[tuple[list[int], list[int]]]:
    """Orders, and the move to each position (0 first, 1 right, 2 left, 3 up, 4 down)."""
    by_row = [(i, j if i % 2 == 0 else width - 1 - j) for i in range(height) for j in range(width)]
    by_column = [
        (i if j % 2 == 0 else height - 1 - i, j) for j in range(width) for i in range(height)
    ]
    kinds = {(0, 1): 1, (0, -1): 2, (-1, 0): 3, (1, 0): 4}
    paths = [by_row, by_row[::-1], by_column, by_column[::-1]]
    return [
        (
            [i * width + j for i, j in path],
            [0] + [kinds[b[0] - a[0], b[1] - a[1]] for a, b in itertools.pairwise(path)],
        )
        for path in paths
    ]


def plainmamba_mixer(w: Weights, mamba: str, x: Tensor, double_bias: bool, raster: bool) -> Tensor:
    height, width, _ = x.shape
    x, z = (x @ w[f"{mamba}.in_proj.weight"].t() + w[f"{mamba}.in_proj.bias"]).chunk(2, -1)
    taps, bias = w[f"{mamba}.conv2d.weight"], w[f"{mamba}.conv2d.bias"]
    padding = taps.shape[2] // 2
    x = rows(F.silu(F.conv2d(maps(x), taps, bias, padding=padding, groups=x.shape[-1])))
    tokens = x.reshape(height * width, -1)
    rank, states = w[f"{mamba}.dt_proj.weight"].shape[1], w[f"{mamba}.A_log"].shape[1]
    projected = (tokens @ w[f"{mamba}.x_proj.weight"].t()).split([rank, states, states], -1)
    y = torch.zeros_like(tokens)
    for order, moves in snake(height, width):
        dt, B, C = projected if raster else (part[order] for part in projected)
        bias = w[f"{mamba}.dt_proj.bias"] * (2 if double_bias else 1)
        step = dt @ w[f"{mamba}.dt_proj.weight"].t() + bias
        A, B = -w[f"{mamba}.A_log"].exp(), B + w[f"{mamba}.direction_Bs"][moves]
        y[order] += scan(tokens[order], step, A, B, C, w[f"{mamba}.D"])
    y = y.view(height, width, -1) * F.silu(z)
    return y @ w[f"{mamba}.out_proj.weight"].t() + w[f"{mamba}.out_proj.bias"]


def plainmamba_forward(
    w: Weights, image: Tensor, depth, double_bias=True, raster=True, grid=(14, 14)
) -> Tensor:
    """The final map ``[h, w, C]`` of an image of 16 h x 16 w pixels."""

    def batch_normed(name: str, x: Tensor) -> Tensor:
        parts = (w[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts, training=False)

    x = F.conv2d(image, w["patch_embed.stem.0.weight"], stride=2, padding=3)
    x = F.relu(batch_normed("patch_embed.stem.1", x))
    i = 0
    while f"patch_embed.convs.{i}.weight" in w:
        x = F.conv2d(x, w[f"patch_embed.convs.{i}.weight"], padding=1)
        x = F.relu(batch_normed(f"patch_embed.convs.{i + 1}", x))
        i += 3
    projection = "patch_embed.projection"
    x = F.conv2d(x, w[f"{projection}.weight"], w[f"{projection}.bias"], stride=8)
    positions = w["pos_embed"][0].t().view(1, -1, *grid)
    x = rows(x + F.interpolate(positions, x.shape[2:], mode="bicubic", align_corners=False))
    for i in range(depth):
        normed = layer_norm(w, f"layers.{i}.norm", x)
        x = x + plainmamba_mixer(w, f"layers.{i}.mamba", normed, double_bias, raster)
        if f"layers.{i}.dw.0.weight" in w:
            y = F.conv2d(maps(x), w[f"layers.{i}.dw.0.weight"], padding=1, groups=x.shape[-1])
            x = rows(F.gelu(batch_normed(f"layers.{i}.dw.1", y)))
    return layer_norm(w, "ln1", x, eps=1e-6)
