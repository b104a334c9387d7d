import cv2
import numpy as np
import pytest

from mmquad.datasets import SHAPE_CLASSES, SHAPE_PALETTE, SceneParams, draw_scene
from mmquad.datasets.shape_outlines import shape_outline
from mmquad.datasets.shapes_scene import _ScenePainter, _stretch


def scenes(count: int, params: SceneParams | None = None):
    return [draw_scene(np.random.default_rng(seed), params) for seed in range(count)]


def test_every_class_has_a_colour_to_draw_results_with():
    assert len(set(SHAPE_PALETTE)) == len(set(SHAPE_CLASSES)) >= 4


def test_outlines_are_equally_large_and_differ():
    vertices = [shape_outline(name) for name in SHAPE_CLASSES]
    for points in vertices:
        x, y = points.T
        area = 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
        assert area == pytest.approx(1)
    assert len({len(points) for points in vertices}) == len(SHAPE_CLASSES)


def test_an_unknown_class_has_no_outline():
    with pytest.raises(ValueError, match=r"expected one of .*'disc'.* got name='cube'"):
        shape_outline("cube")


def test_masks_are_disjoint_and_large_enough():
    params = SceneParams()
    for scene in scenes(30):
        covered = np.zeros(scene.image.shape[:2], dtype=int)
        for instance in scene.instances:
            assert instance.mask.dtype == bool
            assert instance.mask.sum() >= params.min_area
            covered += instance.mask
        assert covered.max() <= 1


def test_objects_stay_visible_under_those_drawn_later():
    """In a crowded scene, where many places have to be refused."""
    params = SceneParams(min_visible=0.8, min_area=10)
    shares = []
    for seed in range(6):
        painter = _ScenePainter(np.random.default_rng(seed), params, (120, 150))
        for _ in range(14):
            painter.add_object(45.0)
        pairs = zip(painter.masks, painter.full_areas, strict=True)
        shares += [mask.sum() / area for mask, area in pairs]
    # of which a quarter may lie outside the image where nothing is hidden
    assert 0.75 <= min(shares) < 0.9


@pytest.mark.parametrize("squeeze", [0.5, 0.7, 1.0])
def test_squeezing_an_outline_keeps_its_area(squeeze: float):
    square = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]])
    points = _stretch(square, squeeze, angle=0.3)
    x, y = points.T
    assert 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) == pytest.approx(4)
    corner = _stretch(square, squeeze, angle=0.0)[2]
    assert corner == pytest.approx([2 * squeeze**0.5, 2 / squeeze**0.5])


def test_scenes_vary():
    drawn = scenes(40)
    assert len({scene.image.shape for scene in drawn}) > 30
    assert {len(scene.instances) for scene in drawn} >= {1, 2, 3, 4, 5, 6}
    assert {i.label for scene in drawn for i in scene.instances} == set(range(len(SHAPE_CLASSES)))
    # textures, not flat colours: even scenes without any object
    empty = scenes(10, SceneParams(empty_prob=1))
    assert not any(scene.instances for scene in empty)
    assert min(scene.image.std(axis=(0, 1)).mean() for scene in empty) > 3


def test_objects_contrast_with_their_surroundings():
    """Most pixels just outside an object are far from its mean colour."""
    distances = []
    for scene in scenes(30):
        for instance in scene.instances:
            if instance.is_crowd:
                continue
            grown = cv2.dilate(instance.mask.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
            surroundings = scene.image[grown & ~instance.mask].astype(float)
            color = scene.image[instance.mask].mean(axis=0)
            distances.append(np.quantile(np.linalg.norm(surroundings - color, axis=1), 0.25))
    # without the rule the smallest is about 26, with it about 75
    assert min(distances) > 60


def test_a_crowd_is_many_objects_of_one_class():
    for scene in scenes(5, SceneParams(crowd_prob=1, empty_prob=0)):
        crowds = [instance for instance in scene.instances if instance.is_crowd]
        assert len(crowds) == 1
        assert crowds[0].mask.sum() > 200


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"side_range": (16, 64)}, "expected 32 <= side_range"),
        ({"side_range": (160, 96)}, "expected 32 <= side_range"),
        ({"max_objects": 0}, "expected max_objects >= 1"),
    ],
)
def test_impossible_params_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        SceneParams(**changes)
