import math

import pytest
import torch
from torchvision.ops import generalized_box_iou

from training.losses import Targets, _dense, _focal, _matched, boxes_cxcywh, giou, pad_rows


def corners(boxes: torch.Tensor) -> torch.Tensor:
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], -1)


def targets(boxes: list[list[float]], labels: list[int]) -> Targets:
    """One picture; phrase 0 is token 1, phrase 1 tokens 3 and 4."""
    phrase_tokens = torch.zeros(1, 2, 6)
    phrase_tokens[0, 0, 1] = phrase_tokens[0, 1, 3] = phrase_tokens[0, 1, 4] = 1
    return Targets(
        [torch.tensor(boxes).reshape(-1, 4)],
        [torch.tensor(labels, dtype=torch.long)],
        phrase_tokens,
        torch.ones(1, 6, dtype=torch.bool),
    )


def test_giou_is_torchvision_s() -> None:
    torch.manual_seed(0)
    a, b = torch.rand(7, 4) * 0.5 + 0.1, torch.rand(5, 4) * 0.5 + 0.1
    expected = generalized_box_iou(corners(a), corners(b))
    assert torch.allclose(giou(a[:, None], b[None]), expected, atol=1e-5)


def test_focal_loss_weighs_what_is_hard() -> None:
    logits = torch.tensor([[3.0, -3.0]])
    mask = torch.tensor([[True, True]])
    right, wrong = (
        float(_focal(logits, torch.tensor([wanted]), mask)) for wanted in ([1.0, 0.0], [0.0, 1.0])
    )
    p = 1 / (1 + math.exp(-3))
    assert right == pytest.approx((0.4 + 0.6) * (1 - p) ** 2 * -math.log(p), rel=1e-5)
    assert wrong > 100 * right
    nothing = _focal(logits, torch.tensor([[0.0, 1.0]]), torch.tensor([[False, False]]))
    assert float(nothing) == 0


def test_matching_takes_the_query_that_fits_place_and_words() -> None:
    wanted = targets([[0.2, 0.2, 0.1, 0.1], [0.8, 0.8, 0.2, 0.2]], [0, 1])
    boxes = torch.tensor([[[0.8, 0.8, 0.2, 0.2], [0.5, 0.5, 1, 1], [0.2, 0.2, 0.1, 0.1]]])
    logits = torch.full((1, 3, 6), -3.0)
    [(query, number)] = _matched(logits, boxes, wanted)
    assert dict(zip(number.tolist(), query.tolist(), strict=True)) == {0: 2, 1: 0}
    twins = torch.tensor([[[0.8, 0.8, 0.2, 0.2], [0.8, 0.8, 0.2, 0.2], [0.2, 0.2, 0.1, 0.1]]])
    logits[0, 1, 3:5] = 3.0  # of two that fit the place, the one that says the words
    [(query, number)] = _matched(logits, twins, wanted)
    assert dict(zip(number.tolist(), query.tolist(), strict=True)) == {0: 2, 1: 1}


def test_every_object_has_positions_near_its_centre() -> None:
    hw = (128, 192)
    wanted = targets([[0.25, 0.5, 0.1, 0.15], [0.7, 0.5, 0.5, 0.8]], [0, 1])
    [(position, number)] = _dense(wanted, hw)
    finest = 16 * 24
    small = position[number == 0]
    assert len(small) >= 1
    assert (small < finest).all()  # a small box: the finest level
    large = position[number == 1]
    assert len(large) > 4
    assert (large >= finest).all()  # a large box: not the finest
    [nothing] = _dense(targets([], []), hw)
    assert [len(side) for side in nothing] == [0, 0]


def test_boxes_and_rows() -> None:
    boxes = boxes_cxcywh(torch.tensor([[10.0, 20.0, 30.0, 60.0]]), (100, 200))
    assert boxes[0].tolist() == pytest.approx([0.1, 0.4, 0.1, 0.4])
    assert pad_rows([[1], [2, 3]], -1).tolist() == [[1, -1], [2, 3]]
