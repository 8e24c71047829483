"""The engine of segmenters: implements `base.SegmenterEngine` for SAM and SAM 2."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prelabel.checkpoints.cards import SegmenterCard
from prelabel.engines.device import Placement, device_memory_errors
from prelabel.engines.preprocess import normalised, to_pixels
from prelabel.engines.segment_anything.checkpoint import load_model
from prelabel.engines.segment_anything.choice import choose_decoder, choose_encoder
from prelabel.engines.segment_anything.decoder import ImageTokens
from prelabel.engines.segment_anything.frames import (
    Frame,
    Geometry,
    positive_window,
    prompt_arrays,
)
from prelabel.errors import DetectionError
from prelabel.types import Floats, ImageRGB, MaskLogits, MaskPrompt

# Prompts of one pass. Each takes several copies of the picture's tokens (4 MB at full size, 0.8 MB
# in the demo segmenter). A CPU is fastest while they fit its cache: with two prompts at full size.
_LEAST_CHUNK, _GPU_CHUNK = 2, 32
_CPU_CHUNK_BYTES = 8 * 1024 * 1024  # of tokens
_MIN_SHARING = 3  # prompts of a picture from which shared projections cost less than they save
_AMBIGUOUS_MASKS = 3  # masks that SAM was trained to give for one ambiguous prompt
_NOT_FINITE = "The segmenter computed NaN or infinite numbers. Set model.precision to float32."


@dataclass(frozen=True, slots=True)
class Item:
    """A picture that is resized to the model's input.

    Attributes:
        pixels: uint8 [h, w, 3] in the CPU's memory; pinned for a GPU.
        frame: The place of the picture in the input.
    """

    pixels: Tensor
    frame: Frame

    @property
    def bucket(self) -> int:
        """Side of the model's input: pictures of all proportions share a batch."""
        return self.frame.geometry.input_px


@dataclass(frozen=True, slots=True)
class PictureEncoding:
    """A picture as the mask decoder sees it, on the device, with its frame."""

    image: ImageTokens
    frame: Frame

    @property
    def nbytes(self) -> int:
        """Size in bytes, on the device."""
        return self.image.nbytes


class SegmentAnything:
    """A loaded SAM or SAM 2.

    A single click is ambiguous: it may mean a part of an object or the whole. For it, a model that
    was trained to give several masks gives the one whose quality it estimates as best, as SAM's
    authors advise (`predictor.predict` of facebookresearch/segment-anything). For a box or several
    points, and from a model with fewer masks, it is the one mask for unambiguous prompts.

    Args:
        model: A SamModel or a Sam2Model in evaluation mode, on the device.
        geometry: Its sizes.
        placement: Device and number formats. The mask decoder and all coordinates stay outside of
            autocast: bfloat16 rounds coordinates to pixels, and the decoder takes little time.
    """

    def __init__(self, model: Any, geometry: Geometry, placement: Placement) -> None:
        self._model = model
        self._geometry = geometry
        self._placement = placement
        self._encoder = choose_encoder(model, geometry.tokens, placement)
        self._decoder = choose_decoder(model, geometry.tokens)
        self._gives_several = (
            model.config.mask_decoder_config.num_multimask_outputs == _AMBIGUOUS_MASKS
        )
        # Half the memory of a kept encoding. The masks' IoU with those of float32 is 0.999 in the
        # mean of 600 prompts of the small segmenter, and 0.986 at least (for the smallest objects).
        is_float32 = placement.weights == torch.float32
        self._stored = torch.bfloat16 if is_float32 else placement.weights
        self.runs_on = str(placement)

    def resized_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        """Return the height and width to which `prepare` resizes a picture of `image_hw`."""
        width, height = self._geometry.frame((image_hw[1], image_hw[0])).input_wh
        return height, width

    def prepare(self, image: ImageRGB) -> Item:
        """Resize a picture [H, W, 3] to the model's input (bilinear, antialiased)."""
        frame = self._geometry.frame((image.shape[1], image.shape[0]))
        pixels = to_pixels(image, (frame.input_wh[1], frame.input_wh[0]))
        if self._placement.device.type == "cuda":
            pixels = pixels.pin_memory()
        return Item(pixels, frame)

    def encode(self, items: Sequence[Item]) -> list[PictureEncoding]:
        """Encode pictures: one encoding per item, in order.

        Raises:
            DetectionError: The model computed NaN or infinite numbers.
            DeviceMemoryError: The batch does not fit the GPU's memory.
        """
        with device_memory_errors(), torch.inference_mode():
            side = self._geometry.input_px
            shape = (len(items), 3, side, side)
            pixels = torch.zeros(
                shape, dtype=self._placement.weights, device=self._placement.device
            )
            for padded, item in zip(pixels, items, strict=True):
                resized = item.pixels.to(self._placement.device, non_blocking=True)
                height, width = resized.shape[:2]
                padded[:, :height, :width] = normalised(resized[None])[0]
            with self._placement.forward_context():
                images = self._encoder(pixels)
            # One check for the batch, because each makes the CPU wait for the GPU.
            if not torch.stack([image.tokens.isfinite().all() for image in images]).all():
                raise DetectionError(_NOT_FINITE)
            return [
                PictureEncoding(image.to(self._stored), item.frame)
                for image, item in zip(images, items, strict=True)
            ]

    def decode(
        self, jobs: Sequence[tuple[PictureEncoding, Sequence[MaskPrompt]]]
    ) -> list[tuple[MaskLogits, ...]]:
        """Return the mask of each prompt, for several pictures at once.

        Prompts and results are in pixels of the prepared picture, whose view is the whole of it.
        The result of a prompt depends neither on the other prompts nor on the other pictures.

        Raises:
            DetectionError: The model computed NaN or infinite numbers.
            DeviceMemoryError: The prompts do not fit the GPU's memory.
            ValueError: A prompt has neither a box nor a point.
        """
        with device_memory_errors(), torch.inference_mode():
            return [self._decode_picture(encoding, prompts) for encoding, prompts in jobs]

    def _decode_picture(
        self, encoding: PictureEncoding, prompts: Sequence[MaskPrompt]
    ) -> tuple[MaskLogits, ...]:
        image = encoding.image.to(self._placement.weights)
        if len(prompts) >= _MIN_SHARING:
            image = self._decoder.share(image)
        chunk = _GPU_CHUNK
        if self._placement.device.type == "cpu":
            fitting = _CPU_CHUNK_BYTES // image.tokens.nbytes
            chunk = min(_GPU_CHUNK, max(_LEAST_CHUNK, fitting))
        masks: dict[int, MaskLogits] = {}
        for indices in _chunks_of_one_layout(prompts, chunk):
            chosen = [prompts[index] for index in indices]
            decoded = self._decode_chunk(image, chosen, encoding.frame)
            masks.update(zip(indices, decoded, strict=True))
        return tuple(masks[index] for index in range(len(prompts)))

    def _decode_chunk(
        self, image: ImageTokens, prompts: list[MaskPrompt], frame: Frame
    ) -> list[MaskLogits]:
        has_box, points = _layout(prompts[0])
        windows = [frame.window(prompt.clip_xyxy) for prompt in prompts]
        logits, quality = self._decoder(
            image,
            self._embed(prompts, frame),
            windows,
            best_of_all=self._gives_several and not has_box and points == 1,
        )
        # In one copy, because each makes the CPU wait for the GPU.
        flat = torch.cat([each.flatten() for each in logits]).cpu().numpy()
        qualities = quality.cpu().numpy()
        if not (np.isfinite(flat).all() and np.isfinite(qualities).all()):
            raise DetectionError(_NOT_FINITE)
        ends = np.cumsum([each.numel() for each in logits])[:-1]
        return [
            _mask(part.reshape(each.shape), window[:2], prompt, frame, float(estimate))
            for part, each, window, prompt, estimate in zip(
                np.split(flat, ends), logits, windows, prompts, qualities, strict=True
            )
        ]

    def _embed(self, prompts: list[MaskPrompt], frame: Frame) -> Tensor:
        """Return embeddings [B, P, C] of prompts of one layout."""
        points, boxes = prompt_arrays(prompts, frame)
        arguments = {}
        if points.shape[1]:
            labels = np.asarray([prompt.points_inside for prompt in prompts], dtype=np.int64)
            arguments["input_points"] = self._coordinates(points)
            arguments["input_labels"] = torch.from_numpy(labels)[None].to(self._placement.device)
        if boxes.shape[1]:
            arguments["input_boxes"] = self._coordinates(boxes)
        embeddings: Tensor = self._model.get_prompt_embeddings(**arguments)[0][0]
        return embeddings

    def _coordinates(self, numbers: Floats) -> Tensor:
        return torch.from_numpy(numbers)[None].to(self._placement.device, self._placement.weights)


def load(card: SegmenterCard, folder: Path, placement: Placement) -> SegmentAnything:
    """Load a SAM or SAM 2 checkpoint as an engine.

    Raises:
        ModelError: The checkpoint is damaged, is not one of SAM or SAM 2, or does not fit its
            config.
    """
    model, geometry = load_model(card, folder, placement.weights)
    torch.nn.Module.to(model, placement.device)  # transformers' own `to` is not typed
    return SegmentAnything(model, geometry, placement)


def _layout(prompt: MaskPrompt) -> tuple[bool, int]:
    return prompt.box_xyxy is not None, len(prompt.points_xy)


def _chunks_of_one_layout(prompts: Sequence[MaskPrompt], most: int) -> Iterator[list[int]]:
    """Split prompts by their layout, and into chunks; yield the indices of each.

    All tokens of a prompt take part in attention, so that padding tokens would change the result.
    """
    groups: dict[tuple[bool, int], list[int]] = {}
    for index, prompt in enumerate(prompts):
        layout = _layout(prompt)
        if layout == (False, 0):
            raise ValueError("a mask prompt has neither a box nor a point")
        groups.setdefault(layout, []).append(index)
    for indices in groups.values():
        yield from (indices[i : i + most] for i in range(0, len(indices), most))


def _mask(
    logits: Floats, origin_xy: tuple[int, int], prompt: MaskPrompt, frame: Frame, quality: float
) -> MaskLogits:
    """Return logits [h, w] of the cells from `origin_xy`, cropped to the mask if nothing clips."""
    if prompt.clip_xyxy is None:
        left, top, right, bottom = positive_window(logits)
        logits = logits[top:bottom, left:right]
        origin_xy = (origin_xy[0] + left, origin_xy[1] + top)
    if not logits.size:
        logits, origin_xy = np.full((1, 1), -1.0), (0, 0)
    limit = np.finfo(np.float16).max
    return MaskLogits(
        logits=np.clip(logits, -limit, limit).astype(np.float16),
        origin_xy=origin_xy,
        cells_wh=frame.cells_wh,
        view_xyxy=(0, 0, *frame.image_wh),
        clip_xyxy=prompt.clip_xyxy,
        quality=min(1.0, max(0.0, quality)),
    )
