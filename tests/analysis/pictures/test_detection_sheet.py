import cv2
import numpy as np
import pytest

from mmquad.analysis.pictures.detection_sheet import (
    DetectionExample,
    Detections,
    class_palette,
    draw_detection_sheet,
    draw_detections,
    write_picture,
)

NAMES = ("disc", "star")
GREY = np.full((40, 60, 3), 128, dtype=np.uint8)


def one_object(label: int = 0, score: float | None = None) -> Detections:
    mask = np.zeros((1, 40, 60), dtype=bool)
    mask[0, 20:35, 10:30] = True
    scores = None if score is None else np.array([score])
    return Detections(np.array([[10, 20, 30, 35]]), np.array([label]), mask, scores)


def nothing() -> Detections:
    return Detections(np.zeros((0, 4)), np.zeros(0, dtype=int), np.zeros((0, 40, 60), dtype=bool))


def test_nothing_to_draw_leaves_the_image_alone():
    np.testing.assert_array_equal(draw_detections(GREY, nothing(), NAMES), GREY)
    assert draw_detections(GREY, nothing(), NAMES, scale=2.5).shape == (100, 150, 3)


def test_box_and_mask_have_the_colour_of_the_class():
    for label, color in enumerate(class_palette(2)):
        panel = draw_detections(GREY, one_object(label), NAMES, scale=4)
        assert tuple(panel[100, 40]) == color  # left side of the box
        inside = np.rint(0.5 * np.array(color) + 64)
        np.testing.assert_allclose(panel[120, 80], inside, atol=1)
        np.testing.assert_array_equal(panel[40, 200], GREY[0, 0])
    assert (GREY == 128).all()  # the input is not drawn on


def test_names_and_scores_are_written():
    plain, low, high = (
        draw_detections(GREY, one_object(score=score), NAMES, scale=4) for score in (None, 0.5, 0.9)
    )
    assert (plain != low).any()
    assert (low != high).any()
    # only the tag above the box differs
    np.testing.assert_array_equal(plain[80:], low[80:])


def test_equal_boxes_have_tags_that_do_not_hide_each_other():
    first = one_object()
    both = Detections(np.repeat(first.boxes, 2, axis=0), np.array([0, 1]))
    panel = draw_detections(GREY, both, NAMES, scale=4)
    for color in class_palette(2):
        assert np.sum(np.all(panel == color, axis=2)) > 300


def test_ignored_regions_are_hatched():
    ignored = np.zeros((40, 60), dtype=bool)
    ignored[5:15, 40:55] = True
    truth = Detections(np.zeros((0, 4)), np.zeros(0, dtype=int), ignored=ignored)
    changed = (draw_detections(GREY, truth, NAMES) != GREY).any(axis=2)
    np.testing.assert_array_equal(changed, ignored)


def test_masks_are_optional():
    boxes_only = Detections(one_object().boxes, np.array([0]))
    panel = draw_detections(GREY, boxes_only, NAMES, scale=4)
    np.testing.assert_array_equal(panel[120, 80], GREY[0, 0])


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (2, 1), (3, 2), (4, 2)])
def test_sheet_size(count, rows):
    examples = [DetectionExample(GREY, one_object(), nothing())] * count
    sheet = draw_detection_sheet(examples, NAMES, columns=2, panel_side=120)
    columns = min(count, 2)
    assert sheet.shape == (24 + rows * (120 + 8 + 8), columns * (2 * (120 + 8) + 24 + 8), 3)


def test_truth_is_left_and_prediction_right():
    empty = draw_detection_sheet([DetectionExample(GREY, nothing(), nothing())], NAMES)
    left = draw_detection_sheet([DetectionExample(GREY, one_object(), nothing())], NAMES)
    right = draw_detection_sheet([DetectionExample(GREY, nothing(), one_object())], NAMES)
    middle = empty.shape[1] // 2
    for sheet, half in ((left, slice(0, middle)), (right, slice(middle, None))):
        columns = np.flatnonzero((sheet != empty).any(axis=(0, 2)))
        assert columns.size > 50
        assert set(columns) <= set(range(empty.shape[1])[half])


def test_images_of_different_shapes_share_a_sheet():
    tall = np.full((90, 30, 3), 10, dtype=np.uint8)
    none = Detections(np.zeros((0, 4)), np.zeros(0, dtype=int))
    examples = [DetectionExample(image, none, none) for image in (GREY, tall)]
    sheet = draw_detection_sheet(examples, NAMES, columns=1, panel_side=90)
    assert np.sum(np.all(sheet == 10, axis=2)) == 2 * 90 * 30


def test_the_picture_reads_back_in_rgb(tmp_path):
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    image[..., 0] = 200
    path = write_picture(tmp_path / "new" / "picture.png", image)
    np.testing.assert_array_equal(cv2.imread(str(path))[..., ::-1], image)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"expected boxes of shape \(2, 4\)"):
        Detections(np.zeros((1, 4)), np.zeros(2, dtype=int))
    with pytest.raises(ValueError, match="expected 1 scores, one per label, got 2"):
        Detections(np.zeros((1, 4)), np.zeros(1, dtype=int), scores=np.zeros(2))
    with pytest.raises(ValueError, match="at least one example"):
        draw_detection_sheet([], NAMES)
