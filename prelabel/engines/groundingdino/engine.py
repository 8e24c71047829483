"""The engine on groundingdino-py, the code of the paper's authors.

Only its parts are used, put together here: its own class fetches BERT from the hub when it is
built, and wraps it in a way that transformers 5 no longer supports.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from groundingdino.models.GroundingDINO.backbone.backbone import Joiner
from groundingdino.models.GroundingDINO.backbone.position_encoding import PositionEmbeddingSineHW
from groundingdino.models.GroundingDINO.backbone.swin_transformer import (
    SwinTransformer,
    WindowAttention,
)
from groundingdino.models.GroundingDINO.fuse_modules import BiMultiHeadAttention
from groundingdino.models.GroundingDINO.ms_deform_attn import MultiScaleDeformableAttention
from groundingdino.models.GroundingDINO.transformer import Transformer, TransformerEncoderLayer
from groundingdino.models.GroundingDINO.utils import MLP
from groundingdino.util.misc import NestedTensor, inverse_sigmoid
from torch import nn
from transformers import BertModel

from prelabel.checkpoints.cards import ModelCard, text_encoder_folder
from prelabel.engines.checkpoint_layouts import (
    Layout,
    Weights,
    has_separate_box_heads,
    layout_of,
    with_one_box_head,
)
from prelabel.engines.device import (
    Placement,
    at_least_float32,
    guard_convolutions,
    replace_modules,
)
from prelabel.engines.groundingdino.config import (
    Shape,
    original_config_path,
    read_bert_config,
    read_original_config,
    read_port_config,
)
from prelabel.engines.groundingdino.weight_names import from_port
from prelabel.engines.kernels.bi_attention import BiAttention
from prelabel.engines.kernels.deformable_attention import (
    DeformableAttention,
    choose_sampler,
)
from prelabel.engines.kernels.linear import pack_linears
from prelabel.engines.text_cache import TextFeatures
from prelabel.engines.tokenizer import CaptionTokenizer
from prelabel.engines.torch_engine import PAD_ID, Batch, TorchEngine
from prelabel.engines.weights import read_weights, require_keys
from prelabel.errors import ModelError

_BACKBONE_LEVELS = 3


class TokenLogits(nn.Module):
    """Queries against tokens: `ContrastiveEmbed` without its padding to 256.

    Out of autocast: in bfloat16 hundreds of scores would share a few values.
    """

    def forward(self, queries: torch.Tensor, text: dict[str, torch.Tensor]) -> torch.Tensor:
        """queries [B, Q, D] to logits [B, Q, T], minus infinity for padding."""
        with torch.autocast(queries.device.type, enabled=False):
            tokens = at_least_float32(text["encoded_text"])
            logits = at_least_float32(queries) @ tokens.transpose(-1, -2)
        return logits.masked_fill(~text["text_token_mask"][:, None], float("-inf"))


class OriginalAttention(DeformableAttention):
    """Deformable attention as groundingdino calls it."""

    def forward(
        self,
        query: torch.Tensor,
        value: torch.Tensor,
        reference_points: torch.Tensor,
        spatial_shapes: torch.Tensor,
        **_: object,
    ) -> torch.Tensor:
        """See `DeformableAttention.attend`."""
        return self.attend(query, value, reference_points, spatial_shapes)


class OriginalBiAttention(BiAttention):
    """Attention between picture and text as groundingdino calls it."""

    def __init__(self, theirs: BiMultiHeadAttention) -> None:
        super().__init__(
            theirs.num_heads,
            image_query=theirs.v_proj,
            image_value=theirs.values_v_proj,
            image_out=theirs.out_v_proj,
            text_key=theirs.l_proj,
            text_value=theirs.values_l_proj,
            text_out=theirs.out_l_proj,
        )

    def forward(
        self,
        v: torch.Tensor,
        l: torch.Tensor,  # noqa: E741 - their name
        attention_mask_l: torch.Tensor | None = None,
        **_: object,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `BiAttention.attend`."""
        return self.attend(v, l, attention_mask_l)


class OriginalWindowAttention(nn.Module):
    """Swin's attention within windows, in PyTorch's fused form, with groundingdino's weights."""

    def __init__(self, theirs: WindowAttention) -> None:
        super().__init__()
        self.qkv, self.proj = theirs.qkv, theirs.proj
        self._heads, self._scale = theirs.num_heads, theirs.scale
        tokens = theirs.window_size[0] * theirs.window_size[1]
        table, index = theirs.relative_position_bias_table, theirs.relative_position_index
        bias = table.detach()[index.flatten()].view(tokens, tokens, -1).permute(2, 0, 1)
        self.register_buffer("_bias", bias.contiguous()[None])

    def forward(self, windows: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """windows [B * W, T, D]; mask [W, T, T], added, of the W windows of a picture."""
        bias = self.get_buffer("_bias")
        if mask is not None:
            bias = (bias + mask[:, None]).repeat(len(windows) // len(mask), 1, 1, 1)
        parts = torch.unflatten(self.qkv(windows), -1, (3, self._heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=bias.to(query.dtype), scale=self._scale
        )
        answer: torch.Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return answer


class GroundingDinoNetwork(nn.Module):
    """The model behind `detector.Network`, with the weights' original names."""

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
        """See `detector.Network`; ported from `GroundingDINO.forward`, for pictures of one size."""
        text = self._encode_text(batch)
        features, positions = self._encode_pixels(batch.pixels)
        masks = [_no_padding(feature) for feature in features]
        states, references, *_ = self.transformer(
            features, masks, None, positions, None, None, text
        )
        offsets = self.bbox_embed[-1](states[-1])
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
        """Features and their position embeddings per level, [B, D, H, W] each."""
        nested, positions = self.backbone(NestedTensor(pixels, _no_padding(pixels)))
        sources = [level.tensors for level in nested]
        features = [
            project(source) for project, source in zip(self.input_proj, sources, strict=False)
        ]
        coarser = sources[-1]
        for project in self.input_proj[len(sources) :]:
            coarser = project(coarser)
            features.append(coarser)
            position = self.backbone[1](NestedTensor(coarser, _no_padding(coarser)))
            positions.append(position.to(coarser.dtype))
        return features, positions


def load(card: ModelCard, folder: Path, placement: Placement) -> TorchEngine:
    """Raises ModelError for a checkpoint that does not fit its config."""
    text_folder = text_encoder_folder(card, folder)
    tokenizer = CaptionTokenizer.from_folder(text_folder, card.max_text_tokens)
    weights = read_weights(folder / card.weights)
    _require_own_layout(card, weights)
    if card.config is None:
        shape = read_port_config(folder / "config.json")
    else:
        shape = read_original_config(
            original_config_path(card.config, folder), read_bert_config(text_folder)
        )
    tokenizer.require_fit(card.name, shape.bert.vocab_size)
    separate = has_separate_box_heads(weights)
    network = GroundingDinoNetwork(shape, tokenizer.boundary_ids, separate_box_heads=separate)
    _load_weights(network, card.name, weights)
    network.to(placement.device, placement.weights).eval()
    guard_convolutions(network)
    sampler = choose_sampler(placement, shape.hidden_dim // shape.heads)
    replace_modules(
        network,
        MultiScaleDeformableAttention,
        lambda theirs: OriginalAttention(theirs, theirs.num_heads, theirs.num_levels, sampler),
    )
    replace_modules(network, BiMultiHeadAttention, OriginalBiAttention)
    replace_modules(network, WindowAttention, OriginalWindowAttention)
    for module in network.modules():
        if isinstance(module, nn.MultiheadAttention):  # nobody looks at the weights
            module.forward = partial(module.forward, need_weights=False)  # type: ignore[method-assign]
    if placement.packs:
        pack_linears(network)
    network.bert = TextFeatures(network.bert, PAD_ID)
    return TorchEngine(network, tokenizer, card.image_size, placement)


def phrase_attention(
    token_ids: torch.Tensor, token_mask: torch.Tensor, boundary_ids: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Who attends to whom: tokens [B, T] to a mask, bool [B, T, T], and positions [B, T].

    A phrase's tokens and the "." after it see each other, and count their positions from 0;
    [CLS], [SEP] and padding see only themselves. The same as
    `generate_masks_with_special_tokens_and_transfer_map` of groundingdino's bertwarper.py for
    captions that end in ".", without its loop over tokens.
    """
    is_boundary = torch.isin(token_ids, boundary_ids)
    index = torch.arange(token_ids.shape[1], device=token_ids.device).expand_as(token_ids)
    last_boundary = torch.where(is_boundary, index, -1).cummax(dim=1).values
    before = torch.cat([torch.full_like(index[:, :1], -1), last_boundary[:, :-1]], dim=1)
    together = (
        (before[:, :, None] == before[:, None]) & token_mask[:, :, None] & token_mask[:, None]
    )
    itself = torch.eye(token_ids.shape[1], dtype=torch.bool, device=token_ids.device)
    return together | itself, (index - before - 1) * token_mask


def _require_own_layout(card: ModelCard, weights: Weights) -> None:
    """Say where a checkpoint belongs that this engine does not know by name."""
    if layout_of(weights) is Layout.MMDETECTION:
        raise ModelError(
            f"{card.weights} is a checkpoint of MMDetection. Set `engine: huggingface` in the card "
            f"of {card.name}, and leave its `config` out."
        )


def _load_weights(network: GroundingDinoNetwork, name: str, weights: Weights) -> None:
    unexpected: set[str] = set()
    if layout_of(weights) is Layout.PORT:
        if not has_separate_box_heads(weights):
            weights = with_one_box_head(weights)
        weights, unexpected = from_port(weights, list(network.state_dict()))
    try:
        report = network.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise ModelError(
            f"The weights of {name} have other sizes than its config says. "
            "Check that they belong together."
        ) from error
    require_keys(
        name, missing=report.missing_keys, unexpected=[*report.unexpected_keys, *unexpected]
    )


def _no_padding(pixels: torch.Tensor) -> torch.Tensor:
    """The mask [B, H, W] that says so."""
    return torch.zeros_like(pixels[:, 0], dtype=torch.bool)


def _swin(shape: Shape) -> SwinTransformer:
    return SwinTransformer(
        embed_dim=shape.swin.embed_dim,
        depths=list(shape.swin.depths),
        num_heads=list(shape.swin.num_heads),
        window_size=shape.swin.window,
        out_indices=(1, 2, 3),
    )


def _position_embedding(shape: Shape) -> PositionEmbeddingSineHW:
    return PositionEmbeddingSineHW(
        shape.hidden_dim // 2,
        temperatureH=shape.temperature,
        temperatureW=shape.temperature,
        normalize=True,
    )


def _projections(channels: list[int], shape: Shape) -> nn.ModuleList:
    """Backbone levels to the model's width; then coarser levels, each from the one before."""
    width = shape.hidden_dim
    convolutions = [nn.Conv2d(count, width, kernel_size=1) for count in channels]
    coarser_inputs = [channels[-1], *[width] * shape.levels][: shape.levels - len(channels)]
    convolutions += [
        nn.Conv2d(count, width, kernel_size=3, stride=2, padding=1) for count in coarser_inputs
    ]
    return nn.ModuleList(nn.Sequential(conv, nn.GroupNorm(32, width)) for conv in convolutions)


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
    """Give each head its own item's mask.

    The layer would do it by `repeat`, which hands the masks of other items round in a batch.
    """
    mask = kwargs["src_mask"].repeat_interleave(layer.nhead, dim=0)
    return args, kwargs | {"src_mask": mask}
