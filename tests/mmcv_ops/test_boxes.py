"""NMS, soft-NMS, matching and overlaps: against their definitions and against compiled mmcv."""

import math

import numpy as np
import pytest
import torch
from mmcv.ops import batched_nms, bbox_overlaps, nms, nms_match, soft_nms

from mmcv_ops_torchvision import boxes as served_boxes

METHODS = ("naive", "linear", "gaussian")


def boxes_and_scores(count: int, generator, size: float = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes in an image of 100 x 100, many of which overlap, with scores that all differ."""
    corner = torch.rand(count, 2, generator=generator) * (100 - size / 2)
    extent = torch.rand(count, 2, generator=generator) * size
    scores = (torch.randperm(count, generator=generator) + 1) / (count + 1)
    return torch.cat([corner, corner + extent], 1), scores


def iou(first, second, offset: int = 0, over_first: bool = False) -> float:
    """Of two boxes, by the book."""
    width = min(first[2], second[2]) - max(first[0], second[0]) + offset
    height = min(first[3], second[3]) - max(first[1], second[1]) + offset
    inside = max(width, 0) * max(height, 0)
    areas = [(x2 - x1 + offset) * (y2 - y1 + offset) for x1, y1, x2, y2 in (first, second)]
    union = areas[0] if over_first else sum(areas) - inside
    return inside / union if union else 0.0


def greedy(boxes, scores, threshold: float, offset: int) -> list[int]:
    kept: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(iou(boxes[index], boxes[other], offset) <= threshold for other in kept):
            kept.append(index)
    return kept


def soft(boxes, scores, threshold, sigma, least, method, offset) -> list[tuple[int, float]]:
    """Figure 2 of the paper."""
    left, picked = dict(enumerate(scores)), []
    while left:
        best = max(left, key=left.__getitem__)
        score = left.pop(best)
        picked.append((best, score))
        for index in list(left):
            overlap = iou(boxes[index], boxes[best], offset)
            if method == "gaussian":
                left[index] *= math.exp(-(overlap**2) / sigma)
            elif overlap >= threshold:
                left[index] *= 0 if method == "naive" else 1 - overlap
            if left[index] < least:
                del left[index]
    return picked


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
def test_nms_is_greedy(served, random, threshold, offset):
    boxes, scores = boxes_and_scores(40, random)
    dets, kept = nms(boxes, scores, threshold, offset=offset)
    assert kept.tolist() == greedy(boxes.tolist(), scores.tolist(), threshold, offset)
    torch.testing.assert_close(dets, torch.cat([boxes, scores[:, None]], 1)[kept])


def test_nms_keeps_what_overlaps_by_exactly_the_threshold(served):
    """6 / 10 in float32 is above the 0.6 of float64."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 6]])
    scores = torch.tensor([0.9, 0.8])
    assert nms(boxes, scores, 0.6)[1].tolist() == [0, 1]
    assert nms(boxes, scores, 0.59)[1].tolist() == [0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_nms_takes_dtypes_that_the_compiled_one_refuses(served, dtype):
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 10, 10], [20, 20, 30, 30]]).to(dtype)
    dets, kept = nms(boxes, torch.tensor([0.25, 0.5, 0.75]).to(dtype), 0.5)
    assert dets.dtype == dtype
    assert kept.tolist() == [2, 1]


@pytest.mark.parametrize("count", [0, 1, 7, 400])
@pytest.mark.parametrize("offset", [0, 1])
def test_nms_is_that_of_the_compiled_mmcv(both, random, count, offset):
    boxes, scores = boxes_and_scores(count, random)
    grid = boxes.round()  # integers: overlaps of exactly a threshold
    tied = (scores * 8).round() / 8
    for where in (boxes, grid):
        for how, threshold in ((scores, 0.5), (tied, 0.5), (tied, 1 / 3), (scores, 0.6)):
            result = both(
                lambda b=where, s=how, t=threshold: nms(
                    b, s, t, offset=offset, score_threshold=0.1, max_num=50
                )
            )
            assert torch.equal(result.served[1], result.compiled[1])
            assert torch.equal(result.served[0], result.compiled[0])


@pytest.mark.parametrize("kind", ["nms", "soft_nms"])
def test_batched_nms_is_that_of_the_compiled_mmcv(both, random, kind):
    boxes, scores = boxes_and_scores(300, random)
    for classes in (1, 5, 80):
        labels = torch.randint(classes, (300,), generator=random)
        for agnostic in (False, True):
            result = both(
                lambda y=labels, a=agnostic: batched_nms(
                    boxes, scores, y, {"type": kind, "iou_threshold": 0.5}, class_agnostic=a
                )
            )
            assert torch.equal(result.served[1], result.compiled[1])
            torch.testing.assert_close(result.served[0], result.compiled[0])


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("least", [0.0, 1e-3, 0.3])
def test_soft_nms_is_the_papers(served, random, monkeypatch, method, offset, least):
    boxes, scores = boxes_and_scores(40, random, size=40)
    expected = soft(boxes.tolist(), scores.tolist(), 0.3, 0.5, least, method, offset)
    for table in (1024, 3):  # all overlaps at once, or a row at a time
        monkeypatch.setattr(served_boxes, "TABLE_SIZE", table)
        dets, kept = soft_nms(boxes, scores, 0.3, 0.5, least, method, offset)
        # Scores of 0 are in no particular order.
        some = [(index, score) for index, score in expected if score > 0]
        assert kept.tolist()[: len(some)] == [index for index, _ in some]
        assert sorted(kept.tolist()) == sorted(index for index, _ in expected)
        torch.testing.assert_close(dets[:, 4], torch.tensor([score for _, score in expected]))
        assert torch.equal(dets[:, :4], boxes[kept])


@pytest.mark.parametrize("method", METHODS)
def test_soft_nms_is_that_of_the_compiled_mmcv(both, random, method):
    for count, size in ((0, 40), (1, 40), (30, 60), (200, 20)):
        boxes, scores = boxes_and_scores(count, random, size)
        for offset, threshold in ((0, 0.3), (1, 0.5), (0, 0.0)):
            result = both(
                lambda b=boxes, s=scores, t=threshold, o=offset: soft_nms(
                    b, s, t, 0.5, 1e-3, method, o
                )
            )
            assert torch.equal(result.served[1], result.compiled[1])
            torch.testing.assert_close(result.served[0], result.compiled[0])


def test_soft_nms_at_exactly_the_threshold_and_the_least_score(both):
    halves = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [20, 20, 30, 30]])
    scores = torch.tensor([0.9, 0.8, 1e-3])
    for method in METHODS:
        result = both(lambda m=method: soft_nms(halves, scores, 0.5, 0.5, 1e-3, m))
        assert result.served[1].tolist() == result.compiled[1].tolist()
        torch.testing.assert_close(result.served[0], result.compiled[0])


def test_soft_nms_keeps_one_box_however_low(served):
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]])
    dets, kept = soft_nms(boxes, torch.tensor([1e-6, 1e-5]))
    assert kept.tolist() == [1]
    torch.testing.assert_close(dets, torch.tensor([[20.0, 20, 30, 30, 1e-5]]))


def test_soft_nms_of_equal_scores_and_boxes_without_area(served):
    """Two empty boxes in one place overlap by 0 / 0, which counts as nothing."""
    boxes = torch.tensor([[50.0, 50, 60, 60], [9, 9, 9, 9], [9, 9, 9, 9], [0, 0, 12, 5]])
    for method in METHODS:
        dets, kept = soft_nms(boxes, torch.full((4,), 0.5), method=method)
        assert kept.tolist() == [0, 1, 2, 3]
        assert dets[:, 4].tolist() == [0.5] * 4


def test_soft_nms_drops_scores_that_are_not_numbers(served):
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]])
    nan = float("nan")
    assert soft_nms(boxes, torch.tensor([nan, 0.5, 0.7]))[1].tolist() == [2, 1]
    assert soft_nms(boxes, torch.tensor([nan, 1e-9, nan]))[1].tolist() == [1]
    assert soft_nms(boxes, torch.tensor([nan, nan, nan]))[1].tolist() == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_soft_nms_in_other_dtypes(served, dtype):
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5]]).to(dtype)
    dets, kept = soft_nms(boxes, torch.tensor([0.5, 0.25]).to(dtype), 0.4)
    assert dets.dtype == dtype
    assert kept.tolist() == [0, 1]
    assert dets[:, 4].tolist() == [0.5, 0.125]


def test_nms_match_groups_by_who_suppressed_whom(served):
    dets = np.array(
        [[0, 0, 10, 10, 0.5], [40, 0, 50, 10, 0.6], [0, 0, 10, 5, 0.9], [0, 0, 10, 7, 0.7]],
        dtype=np.float32,
    )
    groups = [group.tolist() for group in nms_match(dets, 0.5)]
    assert groups == [[2, 3, 0], [1]]  # 2 and 0 overlap by exactly a half
    groups = [group.tolist() for group in nms_match(torch.from_numpy(dets), 0.6)]
    assert groups == [[2, 3], [1], [0]]


def matched(dets: torch.Tensor, threshold: float) -> list[list[int]]:
    """Greedy NMS by the book, with whom each kept box suppresses."""
    rest = dets[:, 4].sort(0, descending=True).indices.tolist()
    groups = []
    while rest:
        first, *others = rest
        # In single precision, as the operators compare.
        gone = [i for i in others if np.float32(iou(*dets[[first, i], :4].tolist())) >= threshold]
        groups.append([first, *gone])
        rest = [i for i in others if i not in gone]
    return groups


@pytest.mark.parametrize("table", [1000, 0])
def test_nms_match_by_the_book(served, random, monkeypatch, table):
    monkeypatch.setattr(served_boxes, "MATCH_SIZE", table)
    for count in (1, 9, 60):
        boxes, scores = boxes_and_scores(count, random)
        boxes[count // 2, 2:] = boxes[count // 2, :2]  # without area: overlaps not even itself
        dets = torch.cat([boxes.round(), scores[:, None]], 1)
        for threshold in (0.25, 0.5):
            found = [group.tolist() for group in nms_match(dets, threshold)]
            assert found == matched(dets, threshold)


@pytest.mark.parametrize("method", METHODS)
def test_soft_nms_of_classes_apart(served, random, monkeypatch, method):
    """Whatever boxes are thinned out together, those of other classes take no part."""
    boxes, scores = boxes_and_scores(60, random)
    classes = torch.arange(60) % 5
    boxes += 1000.0 * classes[:, None]
    alone = {}
    for own in (torch.nonzero(classes == c)[:, 0] for c in range(5)):
        dets, kept = soft_nms(boxes[own], scores[own], method=method)
        alone |= dict(zip(own[kept].tolist(), dets[:, 4].tolist(), strict=True))
    for size in (1, 7, 12, 13, 1000):
        monkeypatch.setattr(served_boxes, "GROUP_SIZE", size)
        dets, kept = soft_nms(boxes, scores, method=method)
        assert dict(zip(kept.tolist(), dets[:, 4].tolist(), strict=True)) == alone
        assert dets[:, 4].tolist() == sorted(alone.values(), reverse=True)


def test_nms_match_is_that_of_the_compiled_mmcv(both, random):
    for count in (0, 1, 40, 200):
        boxes, scores = boxes_and_scores(count, random)
        for where, how in ((boxes, scores), (boxes.round(), (scores * 8).round() / 8)):
            dets = torch.cat([where, how[:, None]], 1)
            for threshold in (0.0, 1 / 3, 0.5, 0.7):
                result = both(lambda d=dets, t=threshold: nms_match(d, t))
                assert [g.tolist() for g in result.served] == [g.tolist() for g in result.compiled]


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("mode", ["iou", "iof"])
def test_overlaps(served, random, mode, offset):
    first, second = (boxes_and_scores(count, random)[0] for count in (6, 5))
    expected = torch.tensor(
        [[iou(a, b, offset, mode == "iof") for b in second.tolist()] for a in first.tolist()]
    )
    torch.testing.assert_close(bbox_overlaps(first, second, mode, offset=offset), expected)
    aligned = bbox_overlaps(first[:5], second, mode, aligned=True, offset=offset)
    torch.testing.assert_close(aligned, expected[:5].diagonal())
    assert bbox_overlaps(first[:0], second, mode).shape == (0, 5)


def test_overlaps_are_those_of_the_compiled_mmcv(both, random):
    first, second = (boxes_and_scores(count, random)[0].round() for count in (30, 20))
    first[0], first[1] = torch.tensor([5.0, 5, 5, 5]), torch.tensor([9.0, 9, 3, 3])
    second[0] = first[0]
    for mode in ("iou", "iof"):
        for offset in (0, 1):
            for aligned in (False, True):
                a = first[:20] if aligned else first
                result = both(
                    lambda m=mode, o=offset, a=a, al=aligned: bbox_overlaps(a, second, m, al, o)
                )
                torch.testing.assert_close(result.served, result.compiled, equal_nan=True)
