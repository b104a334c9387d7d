import numpy as np
import pytest

pycocotools_mask = pytest.importorskip("pycocotools.mask")

from mmquad.datasets.coco_masks import mask_to_box, mask_to_polygons, mask_to_rle  # noqa: E402


def parse(*rows: str) -> np.ndarray:
    return np.array([[char == "#" for char in row] for row in rows])


def decode_polygons(polygons: list[list[float]], shape: tuple[int, int]) -> np.ndarray:
    rles = pycocotools_mask.frPyObjects(polygons, *shape)
    return pycocotools_mask.decode(pycocotools_mask.merge(rles)) > 0


MASKS = {
    "pixel": parse("...", ".#.", "..."),
    "corner pixel": parse("#..", "...", "..."),
    "full": parse("####", "####"),
    "two parts": parse("##..", "....", "..##"),
    "touching at a corner": parse("##..", "##..", "..##", "..##"),
    "hole": parse("#####", "#...#", "#.#.#", "#...#", "#####"),
    "hole of one column": parse("###", "#.#", "#.#", "###"),
    "hole touching the outside at a corner": parse("####", "#.##", "##.#", "#..."),
    "two holes": parse("#####", "#.#.#", "#####", "#.#.#", "#####"),
    "concave": parse("#...#", "##.##", "#####", ".###.", "..#.."),
}


@pytest.mark.parametrize("name", MASKS)
def test_polygons_rasterise_to_the_mask(name):
    mask = MASKS[name]
    polygons = mask_to_polygons(mask)
    np.testing.assert_array_equal(decode_polygons(polygons, mask.shape), mask)
    assert all(len(polygon) >= 8 and len(polygon) % 2 == 0 for polygon in polygons)


def test_polygons_of_random_blobs():
    rng = np.random.default_rng(0)
    for _ in range(40):
        H, W = rng.integers(5, 40, 2)
        mask = rng.random((H, W)) < rng.uniform(0.2, 0.9)
        decoded = decode_polygons(mask_to_polygons(mask), (int(H), int(W)))
        np.testing.assert_array_equal(decoded, mask)


def test_a_part_without_hole_is_one_polygon():
    assert len(mask_to_polygons(MASKS["concave"])) == 1
    assert len(mask_to_polygons(MASKS["two parts"])) == 2
    # one that crosses itself would have the same pixels
    assert len(mask_to_polygons(MASKS["touching at a corner"])) == 2


def test_an_empty_mask_has_no_polygon_and_no_box():
    empty = np.zeros((4, 5), dtype=bool)
    assert mask_to_polygons(empty) == []
    with pytest.raises(ValueError, match="at least one True pixel"):
        mask_to_box(empty)


@pytest.mark.parametrize("name", MASKS)
def test_run_lengths_decode_to_the_mask(name):
    mask = MASKS[name]
    rle = mask_to_rle(mask)
    assert sum(rle["counts"]) == mask.size
    decoded = pycocotools_mask.decode(pycocotools_mask.frPyObjects(rle, *rle["size"]))
    np.testing.assert_array_equal(decoded > 0, mask)


def test_box_is_the_one_of_pycocotools():
    mask = MASKS["two parts"]
    encoded = pycocotools_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert mask_to_box(mask) == pycocotools_mask.toBbox(encoded).tolist() == [0, 0, 4, 3]
