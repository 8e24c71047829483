"""The part that both engines share: everything around the network's forward pass."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from prelabel.boxes import cxcywh_to_xyxy
from prelabel.checkpoints.cards import ImageSize
from prelabel.engines.device import Placement, device_memory_errors
from prelabel.engines.preprocess import normalised, resized_hw, to_pixels
from prelabel.engines.tokenizer import CaptionTokenizer, TokenisedCaption, phrase_max_mean
from prelabel.errors import DetectionError
from prelabel.types import Floats, ImageRGB, RawDetections

logger = logging.getLogger(__name__)

PAD_ID = 0  # the padding token of BERT's vocabularies; masked, so that its value does not matter


@dataclass(frozen=True, slots=True)
class Batch:
    """Model input of B items of one size.

    Attributes:
        pixels: [B, 3, H, W], normalised.
        token_ids: int64 [B, T], in the CPU's memory.
        token_mask: bool [B, T], False for padding, in the CPU's memory.
    """

    pixels: torch.Tensor
    token_ids: torch.Tensor
    token_mask: torch.Tensor

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width of the pictures, in pixels."""
        return self.pixels.shape[2], self.pixels.shape[3]


class Network(Protocol):
    """A checkpoint's forward pass."""

    num_queries: int

    def __call__(self, batch: Batch, *, exact: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """Return token logits [B, Q, T or more] and boxes [B, Q, 4], cxcywh in 0..1.

        Args:
            batch: The input.
            exact: Compute all products in the format of the weights.
        """


@dataclass(frozen=True, slots=True)
class Item:
    """One picture with one caption.

    Attributes:
        pixels: uint8 [H, W, 3], resized, in the CPU's memory; for a GPU in pinned memory, from
            which they are copied while the previous pass runs.
        caption: The caption in tokens.
    """

    pixels: torch.Tensor
    caption: TokenisedCaption

    @property
    def bucket(self) -> tuple[int, int]:
        """Resized height and width. Padding to a common size would change results."""
        return self.pixels.shape[0], self.pixels.shape[1]


class TorchEngine:
    """An engine around a network: implements `base.Engine`.

    Args:
        network: The forward pass.
        tokenizer: Builds captions of the model's vocabulary and length.
        image_size: Edges that pictures are resized to.
        placement: Device and number formats of the network.
    """

    def __init__(
        self,
        network: Network,
        tokenizer: CaptionTokenizer,
        image_size: ImageSize,
        placement: Placement,
    ) -> None:
        self._network = network
        self._tokenizer = tokenizer
        self._image_size = image_size
        self._placement = placement
        self._has_warned = False
        self.runs_on = str(placement)

    def resized_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        """Return the height and width to which `prepare` resizes a picture of `image_hw`."""
        return resized_hw(image_hw, self._image_size, self._network.num_queries)

    def prepare(self, image: ImageRGB, phrases: Sequence[str]) -> list[Item]:
        """Return one item per chunk of the phrases. The items share the picture's pixels.

        Raises:
            PromptError: A phrase has no words for the model, or does not fit a caption.
        """
        captions = self._tokenizer(phrases)
        pixels = to_pixels(image, self.resized_hw((image.shape[0], image.shape[1])))
        if self._placement.device.type == "cuda":
            pixels = pixels.pin_memory()
        return [Item(pixels, caption) for caption in captions]

    def detect(self, items: Sequence[Item]) -> list[RawDetections]:
        """Run the model once: one result per item, in order.

        Raises:
            DetectionError: The model computed NaN or infinite numbers.
            DeviceMemoryError: The batch does not fit the GPU's memory.
        """
        batch = collate(items, self._placement)
        probs, boxes_cxcywh = self._forward(batch)
        if self._placement.is_reduced and not _are_finite(probs, boxes_cxcywh):
            self._warn_once(
                "A picture exceeded the range of %s and was computed in %s.",
                self._placement.products,
                self._placement.weights,
            )
            probs, boxes_cxcywh = self._forward(batch, exact=True)
        if not _are_finite(probs, boxes_cxcywh):
            raise DetectionError(
                "The model computed NaN or infinite numbers. Set the precision to float32."
            )
        return [
            _raw_detections(item.caption, probs[i], boxes_cxcywh[i]) for i, item in enumerate(items)
        ]

    def _warn_once(self, message: str, *values: object) -> None:
        logger.log(logging.DEBUG if self._has_warned else logging.WARNING, message, *values)
        self._has_warned = True

    def _forward(self, batch: Batch, *, exact: bool = False) -> tuple[Floats, Floats]:
        """Return token probabilities [B, Q, T] and boxes [B, Q, 4], cxcywh in 0..1."""
        with device_memory_errors(), torch.inference_mode():
            logits, boxes = self._network(batch, exact=exact)
            probs = logits.to(self._placement.weights).sigmoid()
            return probs.cpu().numpy(), boxes.to(self._placement.weights).cpu().numpy()


def _are_finite(*arrays: Floats) -> bool:
    return all(np.isfinite(array).all() for array in arrays)


def collate(items: Sequence[Item], placement: Placement) -> Batch:
    """Return the model input of items of one size."""
    sequences = [torch.tensor(item.caption.ids) for item in items]
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    ids = torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True, padding_value=PAD_ID)
    mask = torch.arange(ids.shape[1])[None] < lengths[:, None]
    pixels = [item.pixels.to(placement.device, non_blocking=True) for item in items]
    return Batch(
        pixels=normalised(torch.stack(pixels)).to(placement.weights),
        token_ids=ids,
        token_mask=mask,
    )


def _raw_detections(
    caption: TokenisedCaption, probs: Floats, boxes_cxcywh: Floats
) -> RawDetections:
    greatest, mean = phrase_max_mean(probs, caption.spans)
    return RawDetections(
        boxes_xyxy_norm=cxcywh_to_xyxy(boxes_cxcywh),
        phrase_max=greatest,
        phrase_mean=mean,
        first_phrase=caption.first_phrase,
    )
