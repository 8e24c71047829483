"""Losses: Grounding DINO's on the decoder's layers, and a dense loss on the encoder's proposals.

Boxes are cxcywh in 0..1 of the picture. Shapes: B pictures, Q queries, T text tokens, K phrases.

The terms are those of "Grounding DINO" (arXiv 2303.05499, section 3.4), focal loss between queries
and text tokens, and L1 and GIoU of matched boxes, and in addition a cross-entropy over the phrases.
The proposals, of which the encoder selects its queries, learn from several positives per object
instead of one-to-one matching: in the first thousand steps this is what binds words to regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch.nn import functional

from prelabel.engines.preprocess import STRIDES

_ALPHA, _GAMMA = 0.4, 2.0  # of the focal loss: weight of positives, and focus on hard cases
_TOKENS, _L1, _GIOU, _PHRASES = 2.0, 5.0, 2.0, 1.0  # weights of the four terms
# Share of a box's width and height: positions closer than this to its centre are positives.
_CENTRE = 0.33
# Side of boxes, in 0..1, that belong to the finest level; twice the side belongs one level up.
_FINEST_LEVEL_SIDE = 0.1
_MASKED_LOGIT = -20.0  # of padding tokens: a probability of nearly 0, and finite for the focal loss
_NO_PHRASE = -1e4  # logit of phrases that pad a batch


@dataclass(frozen=True, slots=True)
class Targets:
    """Ground truth of a batch.

    Attributes:
        boxes: For each picture [N, 4], cxcywh in 0..1.
        labels: For each picture [N], the index of each box's phrase.
        phrase_tokens: float [B, K, T], 1 where a token belongs to a phrase.
        token_mask: bool [B, T], False for padding.
    """

    boxes: list[torch.Tensor]
    labels: list[torch.Tensor]
    phrase_tokens: torch.Tensor
    token_mask: torch.Tensor

    def to(self, device: torch.device) -> Targets:
        """Return a copy on a device."""
        return Targets(
            [boxes.to(device) for boxes in self.boxes],
            [labels.to(device) for labels in self.labels],
            self.phrase_tokens.to(device),
            self.token_mask.to(device),
        )


Pairs = list[tuple[torch.Tensor, torch.Tensor]]  # for each picture: queries and their objects


def detection_loss(
    model: Any, output: Any, targets: Targets, hw: tuple[int, int]
) -> tuple[torch.Tensor, dict[str, float]]:
    """Return the loss of a batch, and its terms for the log.

    Args:
        model: A GroundingDinoForObjectDetection.
        output: Output of its inner model (GroundingDinoModel).
        targets: Ground truth.
        hw: Height and width of the pictures in pixels.
    """
    objects = max(1, sum(len(labels) for labels in targets.labels))
    total = torch.zeros((), device=targets.token_mask.device)
    parts: dict[str, float] = {}
    for logits, boxes in _decoder_layers(model, output):
        pairs = _matched(logits, boxes, targets)
        loss, last_parts = _loss(logits, boxes, pairs, targets, objects)
        total = total + loss
        parts = last_parts
    logits = output.enc_outputs_class[..., : targets.token_mask.shape[1]].float()
    logits = logits.masked_fill(~targets.token_mask[:, None], _MASKED_LOGIT)
    boxes = output.enc_outputs_coord_logits.float().sigmoid()
    pairs = _dense(targets, hw)
    positives = max(1, sum(len(queries) for queries, _ in pairs))
    loss, encoder_parts = _loss(logits, boxes, pairs, targets, positives)
    parts |= {f"encoder_{name}": value for name, value in encoder_parts.items()}
    return total + loss, parts


def giou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the generalised IoU (arXiv 1902.09630) of cxcywh boxes, with broadcasting."""
    a, b = _xyxy(a), _xyxy(b)
    inner = (torch.min(a[..., 2:], b[..., 2:]) - torch.max(a[..., :2], b[..., :2])).clamp(min=0)
    outer = (torch.max(a[..., 2:], b[..., 2:]) - torch.min(a[..., :2], b[..., :2])).clamp(min=0)
    overlap, hull = inner.prod(-1), outer.prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - overlap
    return overlap / (union + 1e-7) - (hull - union) / (hull + 1e-7)


def _xyxy(boxes: torch.Tensor) -> torch.Tensor:
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], -1)


def _decoder_layers(model: Any, output: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return token logits [B, Q, T] and boxes [B, Q, 4] of each decoder layer, in float32."""
    hidden = output.intermediate_hidden_states.float()
    text = output.encoder_last_hidden_state_text.float()
    layers = []
    for layer in range(hidden.shape[1]):
        if layer == 0:
            reference = output.init_reference_points
        else:
            reference = output.intermediate_reference_points[:, layer - 1]
        reference_logit = torch.special.logit(reference.float(), eps=1e-5)
        boxes = (model.bbox_embed[layer](hidden[:, layer]) + reference_logit).sigmoid()
        layers.append((hidden[:, layer] @ text.transpose(1, 2), boxes))
    return layers


def _loss(
    logits: torch.Tensor, boxes: torch.Tensor, pairs: Pairs, targets: Targets, count: int
) -> tuple[torch.Tensor, dict[str, float]]:
    """Return the weighted sum of the four terms, and the terms, both divided by `count`.

    logits: [B, Q, T]; boxes: [B, Q, 4]; count: number of positives.
    """
    picture = torch.cat([torch.full_like(q, i) for i, (q, _) in enumerate(pairs)])
    query = torch.cat([q for q, _ in pairs])
    label = torch.cat([targets.labels[i][n] for i, (_, n) in enumerate(pairs)])
    box = torch.cat([targets.boxes[i][n] for i, (_, n) in enumerate(pairs)])
    target_tokens = torch.zeros_like(logits)
    target_tokens[picture, query] = targets.phrase_tokens[picture, label]
    matched_boxes = boxes[picture, query]
    terms = {
        "tokens": _focal(logits, target_tokens, targets.token_mask[:, None]),
        "l1": (matched_boxes - box).abs().sum(),
        "giou": (1 - giou(matched_boxes, box)).sum(),
        "phrases": functional.cross_entropy(
            _phrase_logits(logits[picture, query][:, None], targets.phrase_tokens[picture])[:, 0],
            label,
            reduction="sum",
        ),
    }
    weights = {"tokens": _TOKENS, "l1": _L1, "giou": _GIOU, "phrases": _PHRASES}
    loss = sum((weights[name] * term for name, term in terms.items()), logits.new_zeros(()))
    return loss / count, {name: float(term.detach()) / count for name, term in terms.items()}


def _focal(logits: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the focal loss (arXiv 1708.02002), summed where the mask is set."""
    cost = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    target_probability = torch.exp(-cost)
    balance = _ALPHA * target + (1 - _ALPHA) * (1 - target)
    return (balance * (1 - target_probability) ** _GAMMA * cost * mask).sum()


def _phrase_logits(logits: torch.Tensor, phrase_tokens: torch.Tensor) -> torch.Tensor:
    """Return the mean token logit of each phrase, [B, Q, K]."""
    tokens = phrase_tokens.sum(-1)
    mean = torch.einsum("bqt,bkt->bqk", logits, phrase_tokens) / tokens.clamp(min=1)[:, None]
    return mean.masked_fill((tokens == 0)[:, None], _NO_PHRASE)


@torch.no_grad()
def _matched(logits: torch.Tensor, boxes: torch.Tensor, targets: Targets) -> Pairs:
    """Assign a query to each object at the least total cost (DETR's Hungarian matching)."""
    probs = _phrase_logits(logits, targets.phrase_tokens).sigmoid()
    pairs = []
    for i, (box, label) in enumerate(zip(targets.boxes, targets.labels, strict=True)):
        p = probs[i][:, label]
        positive = _ALPHA * (1 - p) ** _GAMMA * -(p + 1e-8).log()
        negative = (1 - _ALPHA) * p**_GAMMA * -(1 - p + 1e-8).log()
        cost = _TOKENS * (positive - negative) + _L1 * torch.cdist(boxes[i], box, p=1)
        cost = cost - _GIOU * giou(boxes[i][:, None], box[None])
        query, number = linear_sum_assignment(cost.cpu().numpy())
        pairs.append(
            (torch.as_tensor(query, device=p.device), torch.as_tensor(number, device=p.device))
        )
    return pairs


@torch.no_grad()
def _dense(targets: Targets, hw: tuple[int, int]) -> Pairs:
    """Assign positions of the encoder to each object.

    These are the positions near the object's centre on the two levels of its size, and the nearest
    position in any case.
    """
    centres, levels = (t.to(targets.token_mask.device) for t in _positions(hw))
    pairs = []
    for box in targets.boxes:
        if len(box) == 0:
            empty = torch.zeros(0, dtype=torch.long, device=box.device)
            pairs.append((empty, empty))
            continue
        size = (box[:, 2] * box[:, 3]).sqrt()
        level = torch.log2(size / _FINEST_LEVEL_SIDE).round().clamp(0, 2)
        distance = ((centres[:, None] - box[None, :, :2]).abs() / box[None, :, 2:]).amax(-1)
        sized = (levels[:, None] == level) | (levels[:, None] == level - 1)
        distance = distance.masked_fill(~sized, torch.inf)
        nearest, number = distance.min(1)
        near = torch.nonzero(nearest < _CENTRE)[:, 0]
        all_objects = torch.arange(len(box), device=box.device)
        positions = torch.cat([near, distance.argmin(0)])
        pairs.append((positions, torch.cat([number[near], all_objects])))
    return pairs


@cache
def _positions(hw: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return centres [S, 2] (x, y in 0..1) and levels [S] of the encoder's positions."""
    centres, levels = [], []
    for level, stride in enumerate(STRIDES):
        height, width = (-(-side // stride) for side in hw)
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        grid = torch.stack([(x.flatten() + 0.5) / width, (y.flatten() + 0.5) / height], -1)
        centres.append(grid)
        levels.append(torch.full((len(grid),), float(level)))
    return torch.cat(centres), torch.cat(levels)


def boxes_cxcywh(boxes_xyxy: torch.Tensor, hw: tuple[int, int]) -> torch.Tensor:
    """Convert boxes [N, 4] from xyxy in pixels to cxcywh in 0..1."""
    scaled = boxes_xyxy / boxes_xyxy.new_tensor([hw[1], hw[0], hw[1], hw[0]])
    low, high = scaled[:, :2], scaled[:, 2:]
    return torch.cat([(low + high) / 2, high - low], -1)


def pad_rows(rows: Sequence[Sequence[int]], filler: int) -> torch.Tensor:
    """Stack lists of numbers as the rows of one int64 tensor, padded with `filler`."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows])
