"""LocalMamba written once more, from the paper and the release, on the release's names.

Slow and plain: one position after another, one direction after another, and the positions of the
tokens by formula. It shares nothing with the package.
"""

import re

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = dict[str, Tensor]
STATES = 16


def positions(name: str, height: int, width: int) -> tuple[list[int], int]:
    """Position of every token (row by row) in a direction's sequence, and its length."""
    base, flip = name.removesuffix("_flip"), name.endswith("_flip")
    cells = [(i, j) for i in range(height) for j in range(width)]
    if base == "h":
        found, length = [i * width + j for i, j in cells], height * width
    elif base == "v":
        found, length = [j * height + i for i, j in cells], height * width
    else:
        k = int(base[1:])
        across = -(-width // k)
        found = [((i // k) * across + j // k) * k * k + (i % k) * k + j % k for i, j in cells]
        length = -(-height // k) * across * k * k
    return ([length - 1 - p for p in found] if flip else found), length


def scan(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """``u, dt [b, P, E]``, ``A [E, N]``, ``B, C [b, P, N]``, ``D [E]`` -> ``[b, P, E]``."""
    state = u.new_zeros(u.shape[0], *A.shape)
    outputs = []
    for p in range(u.shape[1]):
        step = dt[:, p, :, None]
        state = (step * A).exp() * state + step * B[:, p, None] * u[:, p, :, None]
        outputs.append((state * C[:, p, None]).sum(-1) + D * u[:, p])
    return torch.stack(outputs, 1)


def attention(weights: Weights, prefix: str, u: Tensor) -> Tensor:
    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, weights[f"{prefix}{name}.weight"], weights[f"{prefix}{name}.bias"])

    norm = (weights[f"{prefix}norm.weight"], weights[f"{prefix}norm.bias"])
    context = F.layer_norm(u, u.shape[-1:], *norm).mean(1, keepdim=True)
    return u * linear("channel_select", F.gelu(linear("global_reduce", context))).sigmoid()


def map_mixer(weights: Weights, prefix: str, x: Tensor, names: list[str], search: bool) -> Tensor:
    """LocalVMamba's SS2D: ``[b, H, W, C] -> [b, H, W, C]``."""
    w = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    height, width = x.shape[1:3]
    x, z = F.linear(x, w["in_proj.weight"]).chunk(2, -1)
    inner = x.shape[-1]
    conv = {"padding": 1, "groups": inner}
    x = F.conv2d(x.permute(0, 3, 1, 2), w["conv2d.weight"], w["conv2d.bias"], **conv)
    x = F.silu(x).flatten(2).transpose(1, 2)
    A, D = -w["A_logs"].exp().view(len(names), inner, -1), w["Ds"].view(len(names), inner)
    ranks = w["dt_projs_weight"].shape[2]
    results = []
    for k, name in enumerate(names):
        place, length = positions(name, height, width)
        u = x.new_zeros(x.shape[0], length, inner)
        u[:, place] = x
        dt, B, C = F.linear(u, w["x_proj_weight"][k]).split([ranks, STATES, STATES], -1)
        dt = F.softplus(F.linear(dt, w["dt_projs_weight"][k]) + w["dt_projs_bias"][k])
        results.append(attention(w, "multi_scan.attn.", scan(u, dt, A[k], B, C, D[k])[:, place]))
    y = combined(results, w.get("multi_scan.weights") if search else None)
    y = F.layer_norm(y, (inner,), w["out_norm.weight"], w["out_norm.bias"])
    y = y.unflatten(1, (height, width)) * F.silu(z)
    return F.linear(y, w["out_proj.weight"])


def combined(results: list[Tensor], alpha: Tensor | None) -> Tensor:
    if alpha is None:
        return torch.stack(results).sum(0)
    chances = alpha.flatten().softmax(0)
    parts = [c * F.layer_norm(y, y.shape[-1:]) for c, y in zip(chances, results, strict=True)]
    return torch.stack(parts).sum(0)


def localvmamba(
    weights: Weights,
    image: Tensor,
    depths: list[int],
    directions: list[list[str]],
    search: bool = False,
) -> list[Tensor]:
    """The maps of all stages, NCHW, after ``outnorm``."""

    def norm(name: str, x: Tensor) -> Tensor:
        parameters = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return F.layer_norm(x, x.shape[-1:], *parameters)

    patches = F.conv2d(image, weights["patch_embed.0.weight"], weights["patch_embed.0.bias"], 4)
    x = norm("patch_embed.2", patches.permute(0, 2, 3, 1))
    layer, outputs = 0, []
    for s, depth in enumerate(depths):
        for b in range(depth):
            name = f"layers.{s}.blocks.{b}"
            y = norm(f"{name}.norm", x)
            x = x + map_mixer(weights, f"{name}.op.", y, directions[layer], search)
            layer += 1
        outputs.append(norm(f"outnorm{s}", x).permute(0, 3, 1, 2))
        if s + 1 < len(depths):
            x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
            corners = [(0, 0), (1, 0), (0, 1), (1, 1)]
            x = torch.cat([x[:, i::2, j::2] for i, j in corners], -1)
            x = norm(f"layers.{s}.downsample.norm", x)
            x = F.linear(x, weights[f"layers.{s}.downsample.reduction.weight"])
    return outputs


def rotated(x: Tensor, height: int, width: int, side: int) -> Tensor:
    """``[b, H W, C]``, every pair of channels turned by its angle."""
    half = x.shape[-1] // 2
    out = x.clone()
    for i in range(height):
        for j in range(width):
            for c in range(0, x.shape[-1], 2):
                t = i * side / height if c < half else j * side / width
                angle = torch.tensor(t * 10000 ** (-(c % half) / half), dtype=x.dtype)
                a, b = x[:, i * width + j, c], x[:, i * width + j, c + 1]
                out[:, i * width + j, c] = a * angle.cos() - b * angle.sin()
                out[:, i * width + j, c + 1] = b * angle.cos() + a * angle.sin()
    return out


def sequence_mixer(
    weights: Weights, prefix: str, x: Tensor, names: list[str], height: int, width: int, middle: int
) -> Tensor:
    """LocalVim's mixer, ``[b, L, C]``; ``middle``: index of a class token, or -1."""
    w = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    xz = F.linear(x, w["in_proj.weight"])
    inner = xz.shape[-1] // 2
    results = []
    for k, name in enumerate(names):
        place, length = positions(name, height, width)
        grid = xz if middle < 0 else torch.cat([xz[:, :middle], xz[:, middle + 1 :]], 1)
        s = xz.new_zeros(xz.shape[0], length, 2 * inner)
        s[:, place] = grid
        if middle >= 0:
            s = torch.cat([s[:, :middle], xz[:, middle : middle + 1], s[:, middle:]], 1)
        u, z = s.split(inner, -1)
        conv = (w[f"conv1d_{k}.weight"], w[f"conv1d_{k}.bias"])
        u = F.silu(F.conv1d(F.pad(u.transpose(1, 2), (3, 0)), *conv, groups=inner)).transpose(1, 2)
        ranks = w[f"dt_proj_{k}.weight"].shape[1]
        dt, B, C = F.linear(u, w[f"x_proj_{k}.weight"]).split([ranks, STATES, STATES], -1)
        dt = F.softplus(F.linear(dt, w[f"dt_proj_{k}.weight"], w[f"dt_proj_{k}.bias"]))
        o = scan(u, dt, -w[f"A_log_{k}"].exp(), B, C, w[f"D_{k}"]) * F.silu(z)
        if middle >= 0:
            kept, o = o[:, middle : middle + 1], torch.cat([o[:, :middle], o[:, middle + 1 :]], 1)
            o = o[:, place]
            o = torch.cat([o[:, :middle], kept, o[:, middle:]], 1)
        else:
            o = o[:, place]
        results.append(attention(w, "attn.", o))
    return F.linear(combined(results, None), w["out_proj.weight"])


def localvim(
    weights: Weights,
    image: Tensor,
    directions: list[list[str]],
    grid: tuple[int, int],
    side: int | None,
) -> tuple[Tensor | None, list[Tensor]]:
    """Logits if there is a head, and what each mixer gave; ``side`` None: nothing is rotated."""
    height, width = grid
    stem = (weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"])
    padding = (0, 16 * width - image.shape[3], 0, 16 * height - image.shape[2])
    x = F.conv2d(F.pad(image, padding), *stem, stride=16).flatten(2).transpose(1, 2)
    middle = height * width // 2 if "cls_token" in weights else -1
    if middle >= 0:
        token = weights["cls_token"].expand(x.shape[0], -1, -1)
        x = torch.cat([x[:, :middle], token, x[:, middle:]], 1)
    hidden, residual, branches = x + weights["pos_embed"], None, []
    for i, names in enumerate(directions):
        if middle < 0 and side is not None:
            hidden = rotated(hidden, height, width, side)
            residual = None if residual is None else rotated(residual, height, width, side)
        residual = hidden if residual is None else residual + hidden
        y = stream_norm(weights, f"layers.{i}.norm", residual)
        mixer = f"layers.{i}.mixer."
        hidden = sequence_mixer(weights, mixer, y, names, height, width, middle)
        branches.append(hidden)
    if "norm_f.weight" not in weights:
        return None, branches
    y = stream_norm(weights, "norm_f", residual + hidden)
    pooled = y[:, middle] if middle >= 0 else y.mean(1)
    return F.linear(pooled, weights["head.weight"], weights["head.bias"]), branches


def stream_norm(weights: Weights, name: str, x: Tensor) -> Tensor:
    """LayerNorm if there is a bias, else RMSNorm."""
    weight = weights[f"{name}.weight"]
    if f"{name}.bias" in weights:
        return F.layer_norm(x, x.shape[-1:], weight, weights[f"{name}.bias"])
    return x * (x.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * weight


def random_weights(shapes: dict[str, tuple[int, ...]]) -> Weights:
    """Values that make every part count: norms near one, the rest small."""
    values = {}
    for name, shape in shapes.items():
        value = 0.3 * torch.randn(shape, dtype=torch.float64)
        near_one = re.search(r"(norm(_f|_?\d)?|patch_embed\.2)\.weight$|(^|\.)(Ds|D_\d)$", name)
        values[name] = value + 1 if near_one else value
    return values


def attention_shapes(prefix: str, inner: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{prefix}norm.weight": (inner,),
        f"{prefix}norm.bias": (inner,),
        f"{prefix}global_reduce.weight": (inner // 8, inner),
        f"{prefix}global_reduce.bias": (inner // 8,),
        f"{prefix}channel_select.weight": (inner, inner // 8),
        f"{prefix}channel_select.bias": (inner,),
    }


def localvim_shapes(
    dim: int, depth: int, tokens: int, classes: int, directions: int = 4, class_token: bool = False
) -> dict[str, tuple[int, ...]]:
    inner, ranks = 2 * dim, -(-dim // 16)
    shapes = {
        "pos_embed": (1, tokens + class_token, dim),
        "patch_embed.proj.weight": (dim, 3, 16, 16),
        "patch_embed.proj.bias": (dim,),
        "norm_f.weight": (dim,),
        "head.weight": (classes, dim),
        "head.bias": (classes,),
    }
    if class_token:
        shapes["cls_token"] = (1, 1, dim)
    for i in range(depth):
        mixer = f"layers.{i}.mixer."
        shapes[f"layers.{i}.norm.weight"] = (dim,)
        shapes[f"{mixer}in_proj.weight"] = (2 * inner, dim)
        shapes[f"{mixer}out_proj.weight"] = (dim, inner)
        shapes |= attention_shapes(f"{mixer}attn.", inner)
        for k in range(directions):
            shapes[f"{mixer}A_log_{k}"] = (inner, STATES)
            shapes[f"{mixer}D_{k}"] = (inner,)
            shapes[f"{mixer}conv1d_{k}.weight"] = (inner, 1, 4)
            shapes[f"{mixer}conv1d_{k}.bias"] = (inner,)
            shapes[f"{mixer}x_proj_{k}.weight"] = (ranks + 2 * STATES, inner)
            shapes[f"{mixer}dt_proj_{k}.weight"] = (inner, ranks)
            shapes[f"{mixer}dt_proj_{k}.bias"] = (inner,)
    return shapes


def localvmamba_shapes(
    dim: int, depths: list[int], directions: int = 4, search: bool = False
) -> dict[str, tuple[int, ...]]:
    shapes = {
        "patch_embed.0.weight": (dim, 3, 4, 4),
        "patch_embed.0.bias": (dim,),
        "patch_embed.2.weight": (dim,),
        "patch_embed.2.bias": (dim,),
    }
    for s, depth in enumerate(depths):
        channels, inner = dim * 2**s, 2 * dim * 2**s
        ranks = -(-channels // 16)
        for b in range(depth):
            block = f"layers.{s}.blocks.{b}."
            op = f"{block}op."
            shapes |= {
                f"{block}norm.weight": (channels,),
                f"{block}norm.bias": (channels,),
                f"{op}in_proj.weight": (2 * inner, channels),
                f"{op}conv2d.weight": (inner, 1, 3, 3),
                f"{op}conv2d.bias": (inner,),
                f"{op}x_proj_weight": (directions, ranks + 2 * STATES, inner),
                f"{op}dt_projs_weight": (directions, inner, ranks),
                f"{op}dt_projs_bias": (directions, inner),
                f"{op}A_logs": (directions * inner, STATES),
                f"{op}Ds": (directions * inner,),
                f"{op}out_norm.weight": (inner,),
                f"{op}out_norm.bias": (inner,),
                f"{op}out_proj.weight": (channels, inner),
                **attention_shapes(f"{op}multi_scan.attn.", inner),
            }
            if search:
                shapes[f"{op}multi_scan.weights"] = (directions, 1, 1, 1)
        shapes[f"outnorm{s}.weight"] = shapes[f"outnorm{s}.bias"] = (channels,)
        if s + 1 < len(depths):
            shapes[f"layers.{s}.downsample.norm.weight"] = (4 * channels,)
            shapes[f"layers.{s}.downsample.norm.bias"] = (4 * channels,)
            shapes[f"layers.{s}.downsample.reduction.weight"] = (2 * channels, 4 * channels)
    return shapes
