"""The Grounding DINO network, put together from modules of groundingdino-py.

groundingdino-py is the code of the paper's authors. Its own model class is not used, because it
downloads BERT from the hub and wraps it in a way that transformers 5 no longer supports.
"""

from __future__ import annotations

import torch
from groundingdino.models.GroundingDINO.backbone.backbone import Joiner
from groundingdino.models.GroundingDINO.backbone.position_encoding import PositionEmbeddingSineHW
from groundingdino.models.GroundingDINO.backbone.swin_transformer import SwinTransformer
from groundingdino.models.GroundingDINO.transformer import Transformer, TransformerEncoderLayer
from groundingdino.models.GroundingDINO.utils import MLP
from groundingdino.util.misc import NestedTensor, inverse_sigmoid
from torch import nn
from transformers import BertModel

from prelabel.engines.device import at_least_float32
from prelabel.engines.groundingdino.config import Shape
from prelabel.engines.torch_engine import Batch

_BACKBONE_LEVELS = 3
_GROUPS = 32  # of the group norms behind the input projections


class TokenLogits(nn.Module):
    """Dot products of queries and tokens: `ContrastiveEmbed` without its padding to 256 tokens.

    Computed outside autocast: in bfloat16 hundreds of scores would share a few values.
    """

    def forward(self, queries: torch.Tensor, text: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return logits [B, Q, T] of queries [B, Q, D], minus infinity for padding."""
        with torch.autocast(queries.device.type, enabled=False):
            tokens = at_least_float32(text["encoded_text"])
            logits = at_least_float32(queries) @ tokens.transpose(-1, -2)
        return logits.masked_fill(~text["text_token_mask"][:, None], float("-inf"))


class GroundingDinoNetwork(nn.Module):
    """The network behind `torch_engine.Network`. Its weights have their original names.

    Args:
        shape: Sizes of the model.
        boundary_ids: Ids of the tokens that separate phrases.
        separate_box_heads: Each layer of the decoder has a box head of its own, instead of one
            that all layers share.
    """

    def __init__(
        self, shape: Shape, boundary_ids: tuple[int, ...], *, separate_box_heads: bool = False
    ) -> None:
        super().__init__()
        self.num_queries = shape.num_queries
        self.bert: nn.Module = BertModel(shape.bert, add_pooling_layer=False)
        self.feat_map = nn.Linear(shape.bert.hidden_size, shape.hidden_dim)
        swin = _swin(shape)
        self.backbone = Joiner(swin, _position_embedding(shape))
        self.input_proj = _projections(swin.num_features[-_BACKBONE_LEVELS:], shape)
        self.transformer = _transformer(shape)
        heads = [MLP(shape.hidden_dim, shape.hidden_dim, 4, 3) for _ in range(shape.decoder_layers)]
        self.bbox_embed = nn.ModuleList(heads if separate_box_heads else heads[:1] * len(heads))
        self.transformer.decoder.bbox_embed = self.bbox_embed
        self.transformer.enc_out_bbox_embed = MLP(shape.hidden_dim, shape.hidden_dim, 4, 3)
        self.transformer.enc_out_class_embed = self._token_logits = TokenLogits()
        self.register_buffer("_boundary_ids", torch.tensor(boundary_ids), persistent=False)

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return token logits [B, Q, T] and boxes [B, Q, 4], cxcywh in 0..1 of the picture.

        Ported from `GroundingDINO.forward`, for pictures of one size.
        """
        text = self._encode_text(batch)
        features, positions = self._encode_pixels(batch.pixels)
        masks = [_no_padding(feature) for feature in features]
        states, references, *_ = self.transformer(
            features, masks, None, positions, None, None, text
        )
        offsets = self.bbox_embed[-1](states[-1])
        # The proposals come first, then the boxes after each layer. Offsets of the last layer refer
        # to its input, which is [-2].
        boxes_cxcywh = (offsets + inverse_sigmoid(references[-2])).sigmoid()
        return self._token_logits(states[-1], text), boxes_cxcywh

    def _encode_text(self, batch: Batch) -> dict[str, torch.Tensor]:
        boundary_ids = self.get_buffer("_boundary_ids")
        attention, positions = phrase_attention(batch.token_ids, batch.token_mask, boundary_ids)
        encoded = self.bert(
            input_ids=batch.token_ids, attention_mask=attention[:, None], position_ids=positions
        )
        return {
            "encoded_text": self.feat_map(encoded.last_hidden_state),
            "text_token_mask": batch.token_mask,
            "position_ids": positions,
            "text_self_attention_masks": attention,
        }

    def _encode_pixels(self, pixels: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Return features and position embeddings, [B, D, H, W] for each level."""
        nested, positions = self.backbone(NestedTensor(pixels, _no_padding(pixels)))
        sources = [level.tensors for level in nested]
        features = [
            project(source) for project, source in zip(self.input_proj, sources, strict=False)
        ]
        # Each remaining projection has stride 2 and reads the level before.
        coarser = sources[-1]
        for project in self.input_proj[len(sources) :]:
            coarser = project(coarser)
            features.append(coarser)
            position = self.backbone[1](NestedTensor(coarser, _no_padding(coarser)))
            positions.append(position.to(coarser.dtype))
        return features, positions


def phrase_attention(
    token_ids: torch.Tensor, token_mask: torch.Tensor, boundary_ids: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the attention mask, bool [B, T, T], and the positions [B, T] of captions.

    The tokens of a phrase and the "." after it attend to each other, and their positions count from
    0. [CLS], [SEP] and padding attend to themselves only. Equal to
    `generate_masks_with_special_tokens_and_transfer_map` of groundingdino's bertwarper.py for
    captions that end in ".", but without its loop over tokens.

    Args:
        token_ids: int64 [B, T].
        token_mask: bool [B, T], False for padding.
        boundary_ids: int64, ids of the tokens that separate phrases.
    """
    is_boundary = torch.isin(token_ids, boundary_ids)
    index = torch.arange(token_ids.shape[1], device=token_ids.device).expand_as(token_ids)
    last_boundary = torch.where(is_boundary, index, -1).cummax(dim=1).values
    before = torch.cat([torch.full_like(index[:, :1], -1), last_boundary[:, :-1]], dim=1)
    same_phrase = (
        (before[:, :, None] == before[:, None]) & token_mask[:, :, None] & token_mask[:, None]
    )
    diagonal = torch.eye(token_ids.shape[1], dtype=torch.bool, device=token_ids.device)
    return same_phrase | diagonal, (index - before - 1) * token_mask


def _no_padding(pixels: torch.Tensor) -> torch.Tensor:
    """Return the padding mask [B, H, W] of pictures without padding: all False."""
    return torch.zeros_like(pixels[:, 0], dtype=torch.bool)


def _swin(shape: Shape) -> SwinTransformer:
    return SwinTransformer(
        embed_dim=shape.swin.embed_dim,
        depths=list(shape.swin.depths),
        num_heads=list(shape.swin.num_heads),
        window_size=shape.swin.window,
        out_indices=(1, 2, 3),  # the last `_BACKBONE_LEVELS` of four stages
    )


def _position_embedding(shape: Shape) -> PositionEmbeddingSineHW:
    return PositionEmbeddingSineHW(
        shape.hidden_dim // 2,
        temperatureH=shape.temperature,
        temperatureW=shape.temperature,
        normalize=True,
    )


def _projections(channels: list[int], shape: Shape) -> nn.ModuleList:
    """Return a projection for each level of the backbone, then one for each coarser level.

    The input of a coarser level is the level before.
    """
    width = shape.hidden_dim
    convolutions = [nn.Conv2d(count, width, kernel_size=1) for count in channels]
    coarser_inputs = [channels[-1], *[width] * shape.levels][: shape.levels - len(channels)]
    convolutions += [
        nn.Conv2d(count, width, kernel_size=3, stride=2, padding=1) for count in coarser_inputs
    ]
    return nn.ModuleList(nn.Sequential(conv, nn.GroupNorm(_GROUPS, width)) for conv in convolutions)


def _transformer(shape: Shape) -> Transformer:
    transformer = Transformer(
        d_model=shape.hidden_dim,
        nhead=shape.heads,
        num_queries=shape.num_queries,
        num_encoder_layers=shape.encoder_layers,
        num_decoder_layers=shape.decoder_layers,
        dim_feedforward=shape.ffn_dim,
        return_intermediate_dec=True,
        num_feature_levels=shape.levels,
        enc_n_points=shape.encoder_points,
        dec_n_points=shape.decoder_points,
        learnable_tgt_init=True,
        two_stage_type="standard",
        embed_init_tgt=True,
        use_text_enhancer=True,
        use_fusion_layer=True,
        use_text_cross_attention=True,
        text_dropout=0.0,
        fusion_dropout=0.0,
    )
    for layer in transformer.encoder.text_layers:
        layer.register_forward_pre_hook(_one_mask_per_head, with_kwargs=True)
    return transformer


def _one_mask_per_head(
    layer: TransformerEncoderLayer, args: tuple[()], kwargs: dict[str, torch.Tensor]
) -> tuple[tuple[()], dict[str, torch.Tensor]]:
    """Repeat each item's mask for each head.

    The layer itself uses `repeat`, which gives heads the masks of other items of the batch.
    """
    mask = kwargs["src_mask"].repeat_interleave(layer.nhead, dim=0)
    return args, kwargs | {"src_mask": mask}
