"""Seeded colours and textures: what the generated scenes are painted with."""

from collections.abc import Sequence

import cv2
import numpy as np


def hsv_color(
    rng: np.random.Generator,
    saturation: tuple[float, float],
    value: tuple[float, float],
) -> np.ndarray:
    """Draws a colour of any hue.

    Args:
        rng: The source of randomness.
        saturation: Range in [0, 1] the saturation is drawn from.
        value: Range in [0, 1] the brightness is drawn from.

    Returns:
        RGB, float32, [3], in [0, 255].
    """
    hsv = np.array([rng.uniform(0, 360), rng.uniform(*saturation), rng.uniform(*value)])
    pixel = cv2.cvtColor(hsv.astype(np.float32).reshape(1, 1, 3), cv2.COLOR_HSV2RGB)
    return pixel.reshape(3) * np.float32(255)


def value_noise(rng: np.random.Generator, shape: tuple[int, int], cell: float) -> np.ndarray:
    """Smooth noise: random values on a grid of `cell` pixels, interpolated in between.

    Args:
        rng: The source of randomness.
        shape: Height and width.
        cell: Distance of the grid points in pixels; the larger, the smoother.

    Returns:
        Float32, [H, W], in [-1, 1].
    """
    H, W = shape
    grid = rng.uniform(-1, 1, (int(H / cell) + 2, int(W / cell) + 2)).astype(np.float32)
    return np.clip(cv2.resize(grid, (W, H), interpolation=cv2.INTER_CUBIC), -1, 1)


def fractal_noise(
    rng: np.random.Generator, shape: tuple[int, int], cells: Sequence[float]
) -> np.ndarray:
    """Sum of `value_noise` over several cell sizes, coarse ones weighing most.

    Args:
        rng: The source of randomness.
        shape: Height and width.
        cells: Cell sizes in pixels; each is weighted by the root of its size.

    Returns:
        Float32, [H, W], in [-1, 1].
    """
    weights = np.sqrt(np.asarray(cells, dtype=np.float32))
    weights /= weights.sum()
    noise = np.zeros(shape, dtype=np.float32)
    for weight, cell in zip(weights, cells, strict=True):
        noise += weight * value_noise(rng, shape, cell)
    return noise


def plane_wave_phase(shape: tuple[int, int], angle: float) -> np.ndarray:
    """Distance of each pixel, in pixels, along a direction.

    Args:
        shape: Height and width.
        angle: The direction, in radians from the x axis.

    Returns:
        Float32, [H, W]; zero at the top left pixel.
    """
    ys, xs = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    return xs * np.float32(np.cos(angle)) + ys * np.float32(np.sin(angle))


def linear_gradient(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """A ramp in a random direction: float32, [H, W], from 0 to 1."""
    phase = plane_wave_phase(shape, rng.uniform(0, 2 * np.pi))
    return (phase - phase.min()) / max(float(np.ptp(phase)), 1.0)


def stripes(rng: np.random.Generator, shape: tuple[int, int], period: float) -> np.ndarray:
    """Soft-edged stripes in a random direction: float32, [H, W], in [-1, 1]."""
    phase = plane_wave_phase(shape, rng.uniform(0, np.pi))
    return np.tanh(3 * np.sin(phase * np.float32(2 * np.pi / period) + rng.uniform(0, 2 * np.pi)))


def background(
    rng: np.random.Generator,
    shape: tuple[int, int],
    saturation: tuple[float, float],
    value: tuple[float, float],
) -> np.ndarray:
    """Paints a background: two or three colours mixed by a random texture.

    The textures are as strong as those of the objects, so the presence of edges does not give an
    object away.

    Args:
        rng: The source of randomness.
        shape: Height and width.
        saturation: Range in [0, 1] of the colours' saturation.
        value: Range in [0, 1] of the colours' brightness.

    Returns:
        RGB, float32, [H, W, 3], in [0, 255].
    """
    low, high, accent = (hsv_color(rng, saturation, value) for _ in range(3))
    kind = rng.choice(["gradient", "clouds", "stripes", "checks"], p=[0.25, 0.35, 0.25, 0.15])
    if kind == "gradient":
        mix = linear_gradient(rng, shape)
    elif kind == "clouds":
        mix = 0.5 + 0.7 * fractal_noise(rng, shape, (rng.uniform(24, 48), 12, 5))
    elif kind == "stripes":
        mix = 0.5 + 0.35 * stripes(rng, shape, rng.uniform(8, 30))
    else:
        product = stripes(rng, shape, rng.uniform(14, 36)) * stripes(
            rng, shape, rng.uniform(14, 36)
        )
        mix = 0.5 + 0.3 * product
    mix = np.clip(mix, 0, 1)[..., None]
    image = low * (1 - mix) + high * mix

    blend = np.clip(value_noise(rng, shape, rng.uniform(20, 60)), 0, 1)[..., None]
    image = image * (1 - 0.6 * blend) + accent * 0.6 * blend
    image += rng.uniform(4, 16) * fractal_noise(rng, shape, (8, 4, 2))[..., None]
    image += rng.normal(0, rng.uniform(1, 6), (*shape, 3)).astype(np.float32)
    return np.clip(image, 0, 255).astype(np.float32)


def object_fill(rng: np.random.Generator, shape: tuple[int, int], color: np.ndarray) -> np.ndarray:
    """Paints the surface of an object: one colour, shaded and lightly textured.

    Args:
        rng: The source of randomness.
        shape: Height and width.
        color: RGB, [3], in [0, 255].

    Returns:
        RGB, float32, [H, W, 3], in [0, 255].
    """
    shade = 1 + rng.uniform(0.1, 0.3) * (linear_gradient(rng, shape) - 0.5)
    kind = rng.choice(["plain", "grain", "stripes"], p=[0.4, 0.35, 0.25])
    if kind == "grain":
        shade += 0.18 * fractal_noise(rng, shape, (10, 4))
    elif kind == "stripes":
        shade += 0.10 * stripes(rng, shape, rng.uniform(5, 14))
    fill = color * shade[..., None]
    fill += rng.normal(0, 3, (*shape, 3)).astype(np.float32)
    return np.clip(fill, 0, 255).astype(np.float32)
