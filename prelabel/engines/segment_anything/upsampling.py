"""The last part of the mask decoder: image tokens to mask logits, four by four cells per token.

The transposed convolutions of SAM have kernels of two by two and a stride of two: each is a linear
map of one token to its four children, so that any window can be computed alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from prelabel.engines.segment_anything.frames import CELLS_PER_TOKEN, Window, tokens_of


class Upsampling:
    """The upsampling layers of a SamMaskDecoder or a Sam2MaskDecoder.

    Args:
        decoder: The decoder.
        side: Side of the grid of image tokens.
    """

    def __init__(self, decoder: Any, side: int) -> None:
        self._side = side
        self._norm = decoder.upscale_layer_norm
        self._first, self._first_bias = _as_linear(decoder.upscale_conv1)
        self._second, self._second_bias = _as_linear(decoder.upscale_conv2)

    def windows(
        self,
        images: Tensor,
        fine: tuple[Tensor, ...],
        kernels: Tensor,
        windows: Sequence[Window],
    ) -> list[Tensor]:
        """Return logits [h, w] of a window for each prompt.

        Args:
            images: [B, N, C] image tokens.
            fine: The fine features of SAM 2, as `by_token` returns them.
            kernels: [B, C / 8] the output of a hypernetwork for each prompt.
            windows: B windows of cells.
        """
        if images.device.type != "cpu":  # a GPU computes the whole of all masks at once sooner
            whole = self.whole(images, fine, kernels[:, None])[:, 0]
            return [
                mask[top:bottom, left:right]
                for mask, (left, top, right, bottom) in zip(whole, windows, strict=True)
            ]
        return [
            self._window(image.view(self._side, self._side, -1), fine, kernel, window)
            for image, kernel, window in zip(images, kernels, windows, strict=True)
        ]

    def whole(self, images: Tensor, fine: tuple[Tensor, ...], kernels: Tensor) -> Tensor:
        """Return logits [B, M, cells, cells] for M kernels per prompt [B, M, C / 8]."""
        features = self._features(images, fine)  # [B, N, 2, 2, 2, 2, C / 8]
        logits = features.flatten(1, 5) @ kernels.transpose(1, 2)
        return _to_grid(logits.transpose(1, 2), (self._side, self._side))

    def by_token(self, planes: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return planes of fine features in the order of tokens and their children.

        Args:
            planes: [C / 8, 4 S, 4 S] and [C / 4, 2 S, 2 S] for S tokens along a side.

        Returns:
            [N, 2, 2, C / 4] and [N, 2, 2, 2, 2, C / 8]: row by row at each level.
        """
        finest, finer = planes
        return (
            _children(finer[None], self._side, 1)[0],
            _children(finest[None], self._side, 2)[0],
        )

    def by_plane(self, fine: tuple[Tensor, ...]) -> list[Tensor]:
        """Return the planes [1, C / 8, 4 S, 4 S] and [1, C / 4, 2 S, 2 S]: undo `by_token`."""
        sides = (self._side, self._side)
        finer, finest = (
            _to_grid(each.flatten(0, -2).T[None], sides, levels)
            for levels, each in enumerate(fine, 1)
        )
        return [finest, finer]

    def _window(
        self, image: Tensor, fine: tuple[Tensor, ...], kernel: Tensor, window: Window
    ) -> Tensor:
        left, top, right, bottom = tokens_of(window)
        tokens = image[top:bottom, left:right]
        height, width = tokens.shape[:2]
        parts = tuple(
            each.view(self._side, self._side, *each.shape[1:])[top:bottom, left:right].flatten(0, 1)
            for each in fine
        )
        features = self._features(tokens.flatten(0, 1)[None], parts)
        logits = _to_grid((features.flatten(0, 5) @ kernel)[None, None], (height, width))[0, 0]
        left, top = left * CELLS_PER_TOKEN, top * CELLS_PER_TOKEN
        return logits[window[1] - top : window[3] - top, window[0] - left : window[2] - left]

    def _features(self, tokens: Tensor, fine: tuple[Tensor, ...]) -> Tensor:
        """Return [B, N, 2, 2, 2, 2, C / 8] of tokens [B, N, C]."""
        first = functional.linear(tokens, self._first, self._first_bias)
        first = first.view(*first.shape[:-1], 2, 2, first.shape[-1] // 4)
        if fine:
            first = first.add_(fine[0])
        weight, bias, eps = self._norm.weight, self._norm.bias, self._norm.eps
        first = functional.layer_norm(first, weight.shape, weight, bias, eps)
        second = functional.linear(functional.gelu(first), self._second, self._second_bias)
        second = second.view(*second.shape[:-1], 2, 2, second.shape[-1] // 4)
        if fine:
            second = second.add_(fine[1])
        return functional.gelu(second)


def _as_linear(convolution: nn.ConvTranspose2d) -> tuple[Tensor, Tensor]:
    """Return weight [4 X, C] and bias [4 X] of the linear map to two rows of two children."""
    weight = convolution.weight.detach().permute(2, 3, 1, 0)  # from [C, X, 2, 2]
    assert convolution.bias is not None
    return weight.flatten(0, 2).contiguous(), convolution.bias.detach().repeat(4)


def _to_grid(values: Tensor, sides: tuple[int, int], levels: int = 2) -> Tensor:
    """Return values [B, M, h w 4^levels] in the order of children as [B, M, h, w] of cells."""
    height, width = sides
    grid = values.reshape(*values.shape[:2], height, width, *(2,) * (2 * levels))
    rows = [2, *range(4, 4 + 2 * levels, 2)]
    columns = [3, *range(5, 5 + 2 * levels, 2)]
    side = 2**levels
    return grid.permute(0, 1, *rows, *columns).reshape(
        *values.shape[:2], height * side, width * side
    )


def _children(planes: Tensor, side: int, levels: int) -> Tensor:
    """Return planes [B, X, h, w] of cells as [B, N, 2, 2, ..., X] in the order of children."""
    batch, channels = planes.shape[:2]
    split = planes.reshape(batch, channels, side, *(2,) * levels, side, *(2,) * levels)
    order = [0, 2, 3 + levels]
    for level in range(levels):
        order += [3 + level, 4 + levels + level]
    return split.permute(*order, 1).flatten(1, 2).contiguous()
