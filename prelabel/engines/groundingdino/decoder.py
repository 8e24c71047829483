"""The decoder: the best proposals become queries, which each layer moves to the objects.

It computes in full precision, coordinates and scores foremost, except for the values that it
samples from the encoded picture. It has hundreds of queries where the picture has thousands of
positions.
"""

from __future__ import annotations

import torch
from groundingdino.models.GroundingDINO.transformer import (
    DeformableTransformerDecoderLayer,
    Transformer,
)
from torch import nn

from prelabel.engines.groundingdino.geometry import Geometry, sine_table
from prelabel.engines.groundingdino.layers import (
    Attention,
    CrossAttention,
    FeedForward,
    Perceptron,
)
from prelabel.engines.kernels.deformable_attention import DeformableAttention, Sampler

_TEMPERATURE = 10_000  # of the sine embedding of a box
_LEAST_ODDS = 1e-3  # `eps` of the library's inverse_sigmoid


class Decoder(nn.Module):
    """The library's selection of queries, decoder and box heads, for pictures without padding.

    Args:
        transformer: The library's transformer with its weights.
        sampler: Samples the values of deformable attention.
    """

    def __init__(self, transformer: Transformer, sampler: Sampler) -> None:
        super().__init__()
        decoder = transformer.decoder
        self.proposal_output = transformer.enc_output
        self.proposal_norm = transformer.enc_output_norm
        self.proposal_boxes = Perceptron(transformer.enc_out_bbox_embed)
        self.queries = transformer.tgt_embed
        self.box_queries = Perceptron(decoder.ref_point_head)
        self._layers = [_Layer(layer, sampler) for layer in decoder.layers]
        self.layers = nn.ModuleList(self._layers)
        shared = {id(head): Perceptron(head) for head in decoder.bbox_embed}
        self.boxes = nn.ModuleList(shared[id(head)] for head in decoder.bbox_embed)
        self.norm = decoder.norm
        frequencies, phase = sine_table(transformer.d_model // 2, _TEMPERATURE)
        like = transformer.tgt_embed.weight
        self.register_buffer("frequencies", frequencies.to(like))
        self.register_buffer("phase", phase.to(like))

    @property
    def samplings(self) -> list[DeformableAttention]:
        """The layers that read the picture."""
        return [layer.image_attention for layer in self._layers]

    def forward(
        self, image: torch.Tensor, text: torch.Tensor, token_mask: torch.Tensor, geometry: Geometry
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return token logits [B, Q, T], and boxes [B, Q, 4], cxcywh in 0..1 of the picture.

        Args:
            image: [B, S, D], the encoded picture.
            text: [B, T, D], the encoded text.
            token_mask: bool [B, T], False for padding.
            geometry: That of the pictures' size.
        """
        boxes = self._proposals(image, text, token_mask, geometry).sigmoid()
        states = self.queries.weight[None].expand(len(image), -1, -1)
        levels = len(geometry.levels)
        text_mask = token_mask[:, None, None]
        values = image.to(geometry.products)
        for number, (layer, head) in enumerate(zip(self.layers, self.boxes, strict=True)):
            places = self.box_queries(self._sines(boxes))
            references = boxes[:, :, None].expand(-1, -1, levels, -1)
            states = layer(states, places, references, values, text, text_mask, geometry.levels_hw)
            if number == len(self.layers) - 1:
                states = self.norm(states)
            boxes = (head(states) + _log_odds(boxes)).sigmoid()
        return token_logits(states, text, token_mask), boxes

    def _proposals(
        self,
        image: torch.Tensor,
        text: torch.Tensor,
        token_mask: torch.Tensor,
        geometry: Geometry,
    ) -> torch.Tensor:
        """Return the log odds of the boxes at the positions that are most like the text [B, Q, 4].

        Ported from `Transformer.forward`, which computes the boxes of all positions.
        """
        memory = image.masked_fill(~geometry.is_proposed, 0)
        memory = self.proposal_norm(self.proposal_output(memory))
        scores = token_logits(memory, text, token_mask).amax(-1)
        best = scores.topk(self.queries.num_embeddings, dim=1).indices[..., None]
        chosen = memory.gather(1, best.expand(-1, -1, memory.shape[-1]))
        proposals = geometry.proposals.expand(len(image), -1, -1).gather(1, best.expand(-1, -1, 4))
        log_odds: torch.Tensor = self.proposal_boxes(chosen) + proposals
        return log_odds

    def _sines(self, boxes: torch.Tensor) -> torch.Tensor:
        """Return the sine embeddings of boxes cxcywh: [B, Q, 2 * D], of cy, cx, w and h.

        Ported from `gen_sineembed_for_position` of groundingdino's utils.py.
        """
        frequencies, phase = self.get_buffer("frequencies"), self.get_buffer("phase")
        places = torch.cat([boxes[..., 1:2], boxes[..., :1], boxes[..., 2:]], dim=-1)
        return torch.addcmul(phase, places[..., None], frequencies).sin().flatten(-2)


class _Layer(nn.Module):
    def __init__(self, layer: DeformableTransformerDecoderLayer, sampler: Sampler) -> None:
        super().__init__()
        self.self_attention = Attention(layer.self_attn)
        self.text_attention = CrossAttention(layer.ca_text)
        attention = layer.cross_attn
        self.image_attention = DeformableAttention(
            attention, attention.num_heads, attention.num_levels, sampler
        ).merged()
        self.feed_forward = FeedForward(layer.linear1, layer.linear2)
        self.norm_self, self.norm_text = layer.norm2, layer.catext_norm
        self.norm_image, self.norm_forward = layer.norm1, layer.norm3

    def forward(
        self,
        states: torch.Tensor,
        places: torch.Tensor,
        references: torch.Tensor,
        image: torch.Tensor,
        text: torch.Tensor,
        text_mask: torch.Tensor,
        levels_hw: torch.Tensor,
    ) -> torch.Tensor:
        """Map states [B, Q, D] to the same shape."""
        states = self.norm_self(states + self.self_attention(states + places, states))
        states = self.norm_text(states + self.text_attention(states + places, text, text_mask))
        attended = self.image_attention.attend(states + places, image, references, levels_hw)
        states = self.norm_image(states + attended)
        moved: torch.Tensor = self.norm_forward(states + self.feed_forward(states))
        return moved


def token_logits(
    queries: torch.Tensor, text: torch.Tensor, token_mask: torch.Tensor
) -> torch.Tensor:
    """Return dot products [B, Q, T] of queries [B, Q, D] and tokens [B, T, D].

    Padding is minus infinity. `ContrastiveEmbed` of the library, without its padding to 256 tokens.
    """
    logits = queries @ text.transpose(-1, -2)
    return logits.masked_fill(~token_mask[:, None], float("-inf"))


def _log_odds(shares: torch.Tensor) -> torch.Tensor:
    """Return the inverse of the sigmoid, as the library bounds it."""
    return (shares.clamp(min=_LEAST_ODDS) / (1 - shares).clamp(min=_LEAST_ODDS)).log()
