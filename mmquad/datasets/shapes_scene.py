"""Draws scenes of overlapping geometric objects with the visible mask of each.

A scene knows nothing of file formats: `shapes_coco` writes scenes as a COCO data set, and a writer
of another format can start from the same `draw_scene`.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from mmquad.datasets.shape_outlines import SHAPE_CLASSES, shape_outline
from mmquad.datasets.textures import background, hsv_color, object_fill

_SUPERSAMPLING = 4
_PLACEMENT_TRIES = 30


@dataclass(frozen=True)
class SceneParams:
    """What scenes look like.

    Sizes of objects are given as the side of the square of equal area, so that no class is larger
    than another.

    Args:
        side_range: Smallest and largest height and width of an image, in pixels.
        max_objects: A scene that is not empty has 1 to this many objects.
        object_sizes: Smallest and largest size of an ordinary object; drawn log-uniformly.
        large_sizes: The same of the objects that fill most of an image.
        large_prob: Probability that a scene starts with such a large object.
        crowd_prob: Probability that a scene has a crowd region.
        empty_prob: Probability that a scene has no object.
        min_visible: Least visible share of an object, of its area before occlusion and cropping.
        min_area: Least visible area of an object, in pixels.
        background_saturation: Range in [0, 1] of the saturation of backgrounds.
        background_value: Range in [0, 1] of the brightness of backgrounds.
        object_saturation: Range in [0, 1] of the saturation of objects.
        object_value: Range in [0, 1] of the brightness of objects.
    """

    side_range: tuple[int, int] = (96, 160)
    max_objects: int = 6
    object_sizes: tuple[float, float] = (13.0, 64.0)
    large_sizes: tuple[float, float] = (102.0, 120.0)
    large_prob: float = 0.12
    crowd_prob: float = 0.05
    empty_prob: float = 0.03
    min_visible: float = 0.4
    min_area: int = 48
    background_saturation: tuple[float, float] = (0.05, 0.45)
    background_value: tuple[float, float] = (0.2, 0.9)
    object_saturation: tuple[float, float] = (0.3, 1.0)
    object_value: tuple[float, float] = (0.25, 1.0)

    def __post_init__(self) -> None:
        if not 32 <= self.side_range[0] <= self.side_range[1]:
            raise ValueError(f"expected 32 <= side_range[0] <= side_range[1], got {self=}")
        if self.max_objects < 1:
            raise ValueError(f"expected max_objects >= 1, got {self.max_objects=}")


BRIGHT_OBJECTS = SceneParams(
    background_saturation=(0.0, 0.25),
    background_value=(0.1, 0.5),
    object_saturation=(0.5, 1.0),
    object_value=(0.7, 1.0),
)
"""Bright, saturated objects before dark, greyish backgrounds.

With the default colours an object may be darker or brighter, duller or brighter in hue than what is
around it, so no average over pixels tells classes apart, and a classifier trained from scratch (a
convolutional one too) stays at chance for a thousand steps before it finds that outlines matter.
"""


@dataclass(frozen=True)
class SceneInstance:
    """One object, or one crowd region, of a scene.

    Args:
        label: Index into `SHAPE_CLASSES`.
        mask: The visible pixels, bool, [H, W].
        is_crowd: Whether this is a group of many objects that are not told apart.
    """

    label: int
    mask: np.ndarray
    is_crowd: bool = False


@dataclass(frozen=True)
class Scene:
    """An image and what is on it.

    Args:
        image: RGB, uint8, [H, W, 3].
        instances: From back to front; their masks are disjoint.
    """

    image: np.ndarray
    instances: list[SceneInstance]


def draw_scene(rng: np.random.Generator, params: SceneParams | None = None) -> Scene:
    """Draws one scene.

    Args:
        rng: The source of randomness; the scene is a function of its state and of `params`.
        params: What the scene looks like; the defaults of `SceneParams` if None.

    Returns:
        The scene. Objects hide parts of those drawn before them, but never so much that less than
        `params.min_visible` is left.

    Example:
        >>> scene = draw_scene(np.random.default_rng(0))
        >>> scene.image.dtype, scene.image.ndim
        (dtype('uint8'), 3)
    """
    params = params or SceneParams()
    low, high = params.side_range
    painter = _ScenePainter(rng, params, tuple(rng.integers(low, high + 1, 2).tolist()))
    if rng.random() >= params.empty_prob:
        sizes = _object_sizes(rng, params)
        if rng.random() < params.crowd_prob:
            painter.add_crowd()
        for size in sizes:
            painter.add_object(size)
    return painter.scene()


def _object_sizes(rng: np.random.Generator, params: SceneParams) -> list[float]:
    """Sizes of the objects of a scene, the largest, which is drawn first, in front of the list."""
    count = int(rng.integers(1, params.max_objects + 1))
    smallest, largest = params.object_sizes
    logs = rng.uniform(np.log(smallest), np.log(largest), count)
    sizes = sorted(np.exp(logs).tolist(), reverse=True)
    if rng.random() < params.large_prob:
        sizes[0] = float(rng.uniform(*params.large_sizes))
    return sizes


class _ScenePainter:
    """Canvas on which objects are placed one over the other.

    Args:
        rng: The source of randomness.
        params: What the scene looks like.
        shape: Height and width of the image.
    """

    def __init__(
        self, rng: np.random.Generator, params: SceneParams, shape: tuple[int, int]
    ) -> None:
        self.rng = rng
        self.params = params
        self.shape = shape
        self.canvas = background(rng, shape, params.background_saturation, params.background_value)
        self.labels: list[int] = []
        self.masks: list[np.ndarray] = []
        self.full_areas: list[float] = []
        self.crowds: list[bool] = []

    def add_object(self, size: float) -> None:
        """Adds an object where all stay visible; the object shrinks if there is no such place."""
        label = int(self.rng.integers(len(SHAPE_CLASSES)))
        for attempt in range(_PLACEMENT_TRIES):
            if attempt and attempt % 10 == 0:
                size = max(size * 0.7, self.params.object_sizes[0])
            H, W = self.shape
            # a large object fits nowhere but near the middle
            margin = 0.35 * min(size, W, H)
            center = (self.rng.uniform(margin, W - margin), self.rng.uniform(margin, H - margin))
            alpha = self._rasterize(label, size, center, squeeze=self.rng.uniform(0.7, 1))
            mask = alpha >= 0.5
            if self._has_room(mask, size**2):
                self._paint(alpha, self._contrasting_color(mask))
                self._record(label, mask, size**2, is_crowd=False)
                return

    def add_crowd(self) -> None:
        """Adds a region full of small objects of one class."""
        label = int(self.rng.integers(len(SHAPE_CLASSES)))
        H, W = self.shape
        spread = self.rng.uniform(0.12, 0.18) * min(H, W)
        middle = np.array([self.rng.uniform(0.3, 0.7) * W, self.rng.uniform(0.3, 0.7) * H])
        region = np.zeros(self.shape, dtype=bool)
        for _ in range(int(self.rng.integers(12, 25))):
            center = middle + self.rng.normal(0, spread, 2)
            alpha = self._rasterize(label, self.rng.uniform(7, 12), tuple(center.tolist()), 1.0)
            self._paint(alpha, self._contrasting_color(alpha >= 0.5))
            region |= alpha >= 0.5
        self._record(label, region, float(region.sum()), is_crowd=True)

    def scene(self) -> Scene:
        image = cv2.GaussianBlur(self.canvas, (3, 3), 0.5)
        rows = zip(self.labels, self.masks, self.crowds, strict=True)
        return Scene(
            image=np.clip(np.rint(image), 0, 255).astype(np.uint8),
            instances=[SceneInstance(label, mask, crowd) for label, mask, crowd in rows],
        )

    def _rasterize(
        self, label: int, size: float, center: tuple[float, float], squeeze: float
    ) -> np.ndarray:
        """Coverage of each pixel by a rotated shape, float32, [H, W], in [0, 1]."""
        angle = self.rng.uniform(0, 2 * np.pi)
        tilt = self.rng.uniform(0, 2 * np.pi) if squeeze < 1 else 0.0
        points = shape_outline(SHAPE_CLASSES[label]) * size
        if SHAPE_CLASSES[label] == "rectangle":
            tilt = np.pi / 4  # along a side: any other direction would make a rhombus
        points = _stretch(points, squeeze, tilt) @ _rotation(angle) + np.asarray(center)

        H, W = self.shape
        fixed_point = np.rint(points * _SUPERSAMPLING * 16).astype(np.int32)
        fine = np.zeros((H * _SUPERSAMPLING, W * _SUPERSAMPLING), dtype=np.uint8)
        cv2.fillPoly(fine, [fixed_point], 255, lineType=cv2.LINE_8, shift=4)
        coverage = cv2.resize(fine, (W, H), interpolation=cv2.INTER_AREA)
        return coverage.astype(np.float32) / 255

    def _has_room(self, mask: np.ndarray, full_area: float) -> bool:
        """Whether an object is visible here and leaves those below it visible."""
        params = self.params
        if mask.sum() < max(params.min_area, 0.75 * full_area):
            return False
        for below, area, crowd in zip(self.masks, self.full_areas, self.crowds, strict=True):
            least = max(params.min_area, (0.7 if crowd else params.min_visible) * area)
            if np.count_nonzero(below & ~mask) < least:
                return False
        return True

    def _contrasting_color(self, mask: np.ndarray) -> np.ndarray:
        """A colour unlike what the object will cover and touch."""
        around = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        covered = self.canvas[around] if around.any() else self.canvas.reshape(-1, 3)
        best, best_distance = np.zeros(3, np.float32), -1.0
        for _ in range(12):
            color = hsv_color(self.rng, self.params.object_saturation, self.params.object_value)
            # a low quantile, not the mean: a striped surrounding has no pixel of its mean colour
            distance = float(np.quantile(np.linalg.norm(covered - color, axis=1), 0.1))
            if distance > 80:
                return color
            if distance > best_distance:
                best, best_distance = color, distance
        return best

    def _paint(self, alpha: np.ndarray, color: np.ndarray) -> None:
        fill = object_fill(self.rng, self.shape, color)
        self.canvas = self.canvas * (1 - alpha[..., None]) + fill * alpha[..., None]

    def _record(self, label: int, mask: np.ndarray, full_area: float, *, is_crowd: bool) -> None:
        self.masks = [below & ~mask for below in self.masks]
        self.labels.append(label)
        self.masks.append(mask)
        self.full_areas.append(full_area)
        self.crowds.append(is_crowd)


def _rotation(angle: float) -> np.ndarray:
    """Matrix [2, 2] that turns row vectors (x, y) by an angle in radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, sin], [-sin, cos]])


def _stretch(points: np.ndarray, squeeze: float, angle: float) -> np.ndarray:
    """Makes points, [N, 2], narrower in one direction and wider across, keeping the area."""
    scale = np.array([np.sqrt(squeeze), 1 / np.sqrt(squeeze)])
    return (points @ _rotation(-angle)) * scale @ _rotation(angle)
