"""The mask decoder of SAM and SAM 2 for many prompts of one picture.

`LibraryDecoder` calls the decoder of transformers, which repeats the picture's tokens for each
prompt and projects them in each attention layer. `FoldedDecoder` gives the same logits in a
fraction of the time:

- A prompt has T tokens (about 7), a picture N (4096). In the attention between them, with H heads,
  the projections of image tokens are folded onto the prompt's side: `q_h (K W_h)^T` is
  `(q_h W_h^T) K^T`, and `A_h (K W_h)` is `(A_h K) W_h`. Thus [N, C] is multiplied by [C, HT], and
  not by [C, D] and again by [D, T].
- The bias of keys adds the same number to all scores of a softmax, which does not change it. The
  weights of a softmax sum to one, so that the bias of values can be added after them.
- Positions are the same for all pictures, so that their projections are constants.
- In the first layer, image tokens do not depend on the prompt: for three prompts and more they are
  projected once.
- Only the tokens of the quality and of the masks in question go through the last attention, and
  only the image tokens below a window are upsampled.

The layers and weights are those of `SamMaskDecoder` and `Sam2MaskDecoder` of transformers, after
`segment_anything/modeling/mask_decoder.py` and `transformer.py` of facebookresearch.

Shapes: B prompts, T tokens, N image tokens, C channels, H heads of D / H channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from prelabel.engines.segment_anything.frames import Window
from prelabel.engines.segment_anything.upsampling import Upsampling


@dataclass(frozen=True, slots=True)
class SharedProjections:
    """The projections of a picture's tokens in the first layer.

    Attributes:
        keys: [H, D / H, N] for the tokens of prompts.
        values: [H, N, D / H] for the tokens of prompts.
        queries: [H, D / H, N] of the image tokens.
    """

    keys: Tensor
    values: Tensor
    queries: Tensor


@dataclass(frozen=True, slots=True)
class ImageTokens:
    """A picture as the mask decoder sees it.

    Attributes:
        tokens: [N, C], row by row; the embedding of "no mask prompt" is added.
        fine: The features of SAM 2 that are added while upsampling, in the order of
            `Upsampling.by_token`; empty for SAM.
        shared: Projections for many prompts, which `MaskDecoder.share` computes.
    """

    tokens: Tensor
    fine: tuple[Tensor, ...] = ()
    shared: SharedProjections | None = None

    @property
    def nbytes(self) -> int:
        """Size in bytes, without the shared projections."""
        return sum(tensor.nbytes for tensor in (self.tokens, *self.fine))

    def to(self, dtype: torch.dtype) -> ImageTokens:
        """Return the picture in another number format."""
        return ImageTokens(self.tokens.to(dtype), tuple(each.to(dtype) for each in self.fine))


class MaskDecoder(Protocol):
    """Decodes prompts of one layout: each has the same number of tokens."""

    def share(self, image: ImageTokens) -> ImageTokens:
        """Compute what many prompts of a picture share; pays off from three prompts on."""

    def __call__(
        self, image: ImageTokens, prompts: Tensor, windows: Sequence[Window], *, best_of_all: bool
    ) -> tuple[list[Tensor], Tensor]:
        """Return the mask of each prompt.

        Args:
            image: The picture.
            prompts: [B, P, C] embeddings of points and boxes.
            windows: The cells whose logits are wanted, for each prompt.
            best_of_all: Choose the best of the masks for ambiguous prompts by estimated quality,
                instead of the one mask for unambiguous prompts.

        Returns:
            For each prompt logits [h, w] of its window; and estimated IoU with the object [B].
        """


class LibraryDecoder:
    """The decoder of transformers.

    Args:
        model: A SamModel or a Sam2Model.
        side: Side of the grid of image tokens.
    """

    def __init__(self, model: Any, side: int) -> None:
        self._decoder = model.mask_decoder
        self._side = side
        self._positions = model.get_image_wide_positional_embeddings().detach()
        self._upsampling = Upsampling(self._decoder, side)

    def share(self, image: ImageTokens) -> ImageTokens:
        """Return the picture: nothing is shared."""
        return image

    def __call__(
        self, image: ImageTokens, prompts: Tensor, windows: Sequence[Window], *, best_of_all: bool
    ) -> tuple[list[Tensor], Tensor]:
        """Return logits [h, w] of each window, and estimated IoU [B]."""
        planes = image.tokens.T.reshape(1, -1, self._side, self._side)
        arguments: dict[str, Any] = {
            "image_embeddings": planes,
            "image_positional_embeddings": self._positions,
            "sparse_prompt_embeddings": prompts[None],
            "dense_prompt_embeddings": torch.zeros_like(planes),  # it is in the tokens already
            "multimask_output": best_of_all,
        }
        if image.fine:
            arguments["high_resolution_features"] = self._upsampling.by_plane(image.fine)
        masks, quality = self._decoder(**arguments)[:2]
        masks, quality = masks[0], quality[0]
        best = quality.argmax(dim=1)
        rows = torch.arange(len(best), device=best.device)
        return _cut(masks[rows, best], windows), quality[rows, best]


class FoldedDecoder:
    """The decoder with folded projections.

    Args:
        model: A SamModel or a Sam2Model. Its layers are used, not copied.
        side: Side of the grid of image tokens.
    """

    def __init__(self, model: Any, side: int) -> None:
        decoder = model.mask_decoder
        self._decoder = decoder
        self._side = side
        positions = model.get_image_wide_positional_embeddings().detach()[0].flatten(1).T
        transformer = decoder.transformer
        self._layers = [_Layer(layer, positions) for layer in transformer.layers]
        self._last = _TokensToImage(transformer.final_attn_token_to_image, positions)
        self._last_norm = transformer.layer_norm_final_attn
        self._upsampling = Upsampling(decoder, side)
        learned = [decoder.iou_token.weight, decoder.mask_tokens.weight]
        if hasattr(decoder, "obj_score_token"):
            learned.insert(0, decoder.obj_score_token.weight)
        self._learned = torch.cat(learned).detach()
        self._quality_at = len(learned) - 2
        self._has_stability_rule = bool(getattr(decoder, "dynamic_multimask_via_stability", False))

    def share(self, image: ImageTokens) -> ImageTokens:
        """Project the image tokens for the first layer."""
        return replace(image, shared=self._layers[0].share(image.tokens))

    def __call__(
        self, image: ImageTokens, prompts: Tensor, windows: Sequence[Window], *, best_of_all: bool
    ) -> tuple[list[Tensor], Tensor]:
        """Return logits [h, w] of each window, and estimated IoU [B]."""
        masks = slice(0, 1)
        if best_of_all:
            masks = slice(1, None)
        elif self._has_stability_rule:
            masks = slice(0, None)
        outputs, images = self._transform(image, prompts, masks)
        quality = self._decoder.iou_prediction_head(outputs[:, 0])[:, masks]
        networks = self._decoder.output_hypernetworks_mlps[masks]
        kernels = torch.stack(
            [network(outputs[:, 1 + i]) for i, network in enumerate(networks)], dim=1
        )
        if best_of_all or not self._has_stability_rule:
            best = quality.argmax(dim=1)
            rows = torch.arange(len(best), device=best.device)
            cut = self._upsampling.windows(images, image.fine, kernels[rows, best], windows)
            return cut, quality[rows, best]
        return self._most_stable(images, image.fine, kernels, quality, windows)

    def _transform(
        self, image: ImageTokens, prompts: Tensor, masks: slice
    ) -> tuple[Tensor, Tensor]:
        """Run the two-way transformer.

        Returns:
            The tokens of the quality and of some masks [B, 1 + M, C], and image tokens [B, N, C].
        """
        learned = self._learned.expand(len(prompts), -1, -1)
        embedded = torch.cat((learned, prompts), dim=1)
        queries, images, shared = embedded, image.tokens[None], image.shared
        for layer in self._layers:
            queries, images = layer(queries, images, embedded, shared)
            shared = None  # from the second layer on, image tokens differ between prompts
        wanted = [self._quality_at]
        wanted += range(self._quality_at + 1, self._learned.shape[0])[masks]
        queries, embedded = queries[:, wanted], embedded[:, wanted]
        queries = queries + self._last(queries + embedded, images)
        return self._last_norm(queries), images

    def _most_stable(
        self,
        images: Tensor,
        fine: tuple[Tensor, ...],
        kernels: Tensor,
        quality: Tensor,
        windows: Sequence[Window],
    ) -> tuple[list[Tensor], Tensor]:
        """Return the first mask where it is stable, and the best of the others elsewhere.

        `Sam2MaskDecoder._dynamic_multimask_via_stability` of transformers, which decides by the
        whole mask.
        """
        best = 1 + quality[:, 1:].argmax(dim=1)
        rows = torch.arange(len(best), device=best.device)
        pair = torch.stack((kernels[:, 0], kernels[rows, best]), dim=1)
        first, other = self._upsampling.whole(images, fine, pair).unbind(1)
        stability = self._decoder._get_stability_scores(first)
        stable = stability >= self._decoder.dynamic_multimask_stability_thresh
        logits = torch.where(stable[:, None, None], first, other)
        return _cut(logits, windows), torch.where(stable, quality[:, 0], quality[rows, best])


class _Layer:
    """One layer of the two-way transformer."""

    def __init__(self, layer: Any, positions: Tensor) -> None:
        self._layer = layer
        self._tokens_to_image = _TokensToImage(layer.cross_attn_token_to_image, positions)
        self._image_to_tokens = _ImageToTokens(layer.cross_attn_image_to_token, positions)

    def share(self, tokens: Tensor) -> SharedProjections:
        """Project image tokens [N, C]."""
        return SharedProjections(
            *self._tokens_to_image.project(tokens), self._image_to_tokens.project(tokens)
        )

    def __call__(
        self,
        queries: Tensor,
        images: Tensor,
        embedded: Tensor,
        shared: SharedProjections | None,
    ) -> tuple[Tensor, Tensor]:
        """Update the tokens of prompts [B, T, C], and image tokens [B or 1, N, C] to [B, N, C]."""
        layer = self._layer
        if layer.skip_first_layer_pe:
            queries = _self_attention(layer.self_attn, queries, queries)
        else:
            queries = queries + _self_attention(layer.self_attn, queries + embedded, queries)
        queries = layer.layer_norm1(queries)
        queries = queries + self._tokens_to_image(queries + embedded, images, shared)
        queries = layer.layer_norm2(queries)
        queries = layer.layer_norm3(queries + layer.mlp(queries))
        images = self._image_to_tokens(images, queries + embedded, queries, shared)
        return queries, layer.layer_norm4(images)


class _TokensToImage:
    """Attention in which the tokens of prompts ask the image tokens.

    Args:
        attention: A SamAttention or a Sam2Attention.
        positions: [N, C] encoded positions of image tokens.
    """

    def __init__(self, attention: Any, positions: Tensor) -> None:
        self._heads = attention.num_attention_heads
        self._query, self._out = attention.q_proj, _out_of(attention)
        self._scale = attention.scaling
        key, value = attention.k_proj, attention.v_proj
        self._key = _by_head(key.weight, self._heads)  # [H, D / H, C]
        self._key_positions = self._key @ positions.T  # [H, D / H, N]
        self._value = _by_head(value.weight, self._heads).transpose(1, 2)  # [H, C, D / H]
        self._value_bias = value.bias.detach()

    def project(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys [H, D / H, N] and values [H, N, D / H] of image tokens [N, C]."""
        return self._key @ tokens.T + self._key_positions, tokens @ self._value

    def __call__(
        self, queries: Tensor, images: Tensor, shared: SharedProjections | None = None
    ) -> Tensor:
        """Return [B, T, C] for tokens [B, T, C] with positions and image tokens [B or 1, N, C]."""
        query = _split(self._query(queries) * self._scale, self._heads)
        if shared:
            weights = _times(query, shared.keys).softmax(dim=-1)
            values = _times(weights, shared.values)
        else:
            scores = _times(query, self._key_positions)
            weights = _add_products(scores, _times(query, self._key), images).softmax(dim=-1)
            seen = (_rows(weights, images) @ images).view(*query.shape[:3], -1)
            values = _times(seen, self._value)
        attended: Tensor = self._out(values.transpose(1, 2).flatten(2) + self._value_bias)
        return attended


class _ImageToTokens:
    """Attention in which the image tokens ask the tokens of prompts; arguments as above."""

    def __init__(self, attention: Any, positions: Tensor) -> None:
        self._heads = attention.num_attention_heads
        self._key, self._value = attention.k_proj, attention.v_proj
        self._scale = attention.scaling
        query, out = attention.q_proj, _out_of(attention)
        self._query = _by_head(query.weight, self._heads)  # [H, D / H, C]
        bias = query.bias.detach().view(self._heads, -1, 1)
        self._query_positions = self._query @ positions.T + bias  # [H, D / H, N]
        self._out = _by_head(out.weight.T, self._heads)  # [H, D / H, C]
        self._out_bias = out.bias.detach() / self._heads

    def project(self, tokens: Tensor) -> Tensor:
        """Return queries [H, D / H, N] of image tokens [N, C]."""
        queries: Tensor = self._query @ tokens.T + self._query_positions
        return queries

    def __call__(
        self,
        images: Tensor,
        keys: Tensor,
        tokens: Tensor,
        shared: SharedProjections | None = None,
    ) -> Tensor:
        """Return image tokens [B, N, C] with what each of them attends to added."""
        key = _split(self._key(keys) * self._scale, self._heads)
        if shared:
            scores = _times(key, shared.queries)
        else:
            scores = _times(key, self._query_positions)
            scores = _add_products(scores, _times(key, self._query), images)
        weights = scores.softmax(dim=2).flatten(1, 2)  # over tokens, for each head: [B, HT, N]
        values = _times(_split(self._value(tokens), self._heads), self._out) + self._out_bias
        images = images.expand(len(keys), -1, -1)
        return torch.baddbmm(images, weights.transpose(1, 2), values.flatten(1, 2))


def _self_attention(attention: Any, queries: Tensor, values: Tensor) -> Tensor:
    query, key = (
        _split(project(queries), attention.num_attention_heads)
        for project in (attention.q_proj, attention.k_proj)
    )
    value = _split(attention.v_proj(values), attention.num_attention_heads)
    weights = (query @ key.transpose(2, 3) * attention.scaling).softmax(dim=-1)
    attended: Tensor = _out_of(attention)((weights @ value).transpose(1, 2).flatten(2))
    return attended


def _times(rows: Tensor, matrices: Tensor) -> Tensor:
    """Multiply [B, H, T, X] by a matrix of each head [H, X, Y], without repeating it B times."""
    batch = len(rows)
    if batch == 1:
        return (rows[0] @ matrices)[None]
    by_head = rows.transpose(0, 1).flatten(1, 2) @ matrices
    return by_head.view(len(matrices), batch, -1, matrices.shape[2]).transpose(0, 1).contiguous()


def _add_products(scores: Tensor, folded: Tensor, images: Tensor) -> Tensor:
    """Return scores [B, H, T, N] plus the products of folded queries [B, H, T, C] with images."""
    batch = _rows(scores, images).baddbmm_(_rows(folded, images), images.transpose(1, 2))
    return batch.view(scores.shape)


def _rows(each: Tensor, images: Tensor) -> Tensor:
    """Return [B, H, T, X] as [B, HT, X], or as [1, BHT, X] if all prompts share the images."""
    return each.reshape(len(images), -1, each.shape[-1])


def _split(tokens: Tensor, heads: int) -> Tensor:
    """Return [B, T, D] as [B, H, T, D / H]."""
    return tokens.view(*tokens.shape[:2], heads, -1).transpose(1, 2)


def _by_head(weight: Tensor, heads: int) -> Tensor:
    """Return the weight of a projection [D, C] as [H, D / H, C]."""
    return weight.detach().reshape(heads, -1, weight.shape[1]).contiguous()


def _out_of(attention: Any) -> nn.Linear:
    out: nn.Linear = getattr(attention, "out_proj", None) or attention.o_proj
    return out


def _cut(masks: Tensor, windows: Sequence[Window]) -> list[Tensor]:
    return [
        mask[top:bottom, left:right]
        for mask, (left, top, right, bottom) in zip(masks, windows, strict=True)
    ]
