"""The Grounding DINO network: the modules of groundingdino-py, and a forward pass of our own.

groundingdino-py is the code of the paper's authors. Its own model class is not used, because it
downloads BERT from the hub and wraps it in a way that transformers 5 no longer supports. Its
forward pass handles padded pictures and training, asks the device for numbers, and computes what
follows from a picture's size again and again; the pass here does not.
"""

from __future__ import annotations

import copy

import torch
from groundingdino.models.GroundingDINO.backbone.backbone import Joiner
from groundingdino.models.GroundingDINO.backbone.position_encoding import PositionEmbeddingSineHW
from groundingdino.models.GroundingDINO.backbone.swin_transformer import SwinTransformer
from groundingdino.models.GroundingDINO.transformer import Transformer
from groundingdino.models.GroundingDINO.utils import MLP
from torch import nn
from transformers import BertModel

from prelabel.engines.device import Placement
from prelabel.engines.graphs import CudaGraphs, GraphedPasses, filled_up
from prelabel.engines.groundingdino import geometry
from prelabel.engines.groundingdino.config import Shape
from prelabel.engines.groundingdino.decoder import Decoder
from prelabel.engines.groundingdino.encoder import Encoder, Text
from prelabel.engines.groundingdino.geometry import HW, Geometries, Geometry
from prelabel.engines.groundingdino.layers import linear
from prelabel.engines.groundingdino.swin import Backbone, WindowedAttention
from prelabel.engines.kernels.deformable_attention import Sampler
from prelabel.engines.kernels.linear import pack_linears
from prelabel.engines.kernels.residual_norm import ResidualNorm, residual_norm
from prelabel.engines.text_cache import CachedTextEncoder
from prelabel.engines.torch_engine import PAD_ID, Batch

_BACKBONE_LEVELS = 3
_GROUPS = 32  # of the group norms behind the input projections
_TOKENS = 16  # captions are padded to a multiple of it, so that few graphs serve all captions
# Between the features in the products' format and in full precision, as a share of the latter. In
# float16 it is .002, in bfloat16 .015.
_MAX_DIFFERENCE = 0.05
_TEXT_TEMPERATURE = 10_000  # of the sine embedding of a token's position


class OriginalModules(nn.Module):
    """The modules of a checkpoint, with the names that groundingdino gave to their weights.

    Args:
        shape: Sizes of the model.
        separate_box_heads: Each layer of the decoder has a box head of its own, instead of one
            that all layers share.
    """

    def __init__(self, shape: Shape, *, separate_box_heads: bool = False) -> None:
        super().__init__()
        self.shape = shape
        self.bert: nn.Module = BertModel(shape.bert, add_pooling_layer=False)
        self.feat_map = nn.Linear(shape.bert.hidden_size, shape.hidden_dim)
        swin = _swin(shape)
        # The Joiner gives the backbone's weights their names.
        self.backbone = Joiner(swin, PositionEmbeddingSineHW(shape.hidden_dim // 2))
        self.projections = _projections(swin.num_features[-_BACKBONE_LEVELS:], shape)
        self.input_proj = nn.ModuleList(self.projections)
        self.transformer = _transformer(shape)
        heads = [MLP(shape.hidden_dim, shape.hidden_dim, 4, 3) for _ in range(shape.decoder_layers)]
        self.bbox_embed = nn.ModuleList(heads if separate_box_heads else heads[:1] * len(heads))
        self.transformer.decoder.bbox_embed = self.bbox_embed
        self.transformer.enc_out_bbox_embed = MLP(shape.hidden_dim, shape.hidden_dim, 4, 3)


class GroundingDinoNetwork:
    """The network behind `torch_engine.Network`.

    Args:
        modules: The loaded modules. They are taken apart.
        boundary_ids: Ids of the tokens that separate phrases.
        placement: Device and number formats.
        sampler: Samples the values of deformable attention.
        add_and_norm: Adds features up and norms them.
    """

    def __init__(
        self,
        modules: OriginalModules,
        boundary_ids: tuple[int, ...],
        placement: Placement,
        sampler: Sampler,
        add_and_norm: ResidualNorm = residual_norm,
    ) -> None:
        self.num_queries = modules.shape.num_queries
        self._boundary_ids = torch.tensor(boundary_ids)
        self._placement = placement
        modules.eval().to(placement.device, placement.weights)
        own = copy.deepcopy(modules) if placement.is_reduced else modules
        self.passes = ForwardPass(own, sampler, add_and_norm)
        self.passes.use_products(placement.products)
        self._exact = ForwardPass(modules, sampler) if placement.is_reduced else self.passes
        if placement.allows_packed_linears:
            pack_linears(self.passes)
            pack_linears(modules.bert)
        self._bert = CachedTextEncoder(modules.bert, PAD_ID)
        self._text_projection = modules.feat_map
        self._geometries = Geometries(self._geometry)
        on_gpu = placement.device.type == "cuda"
        self._graphs = GraphedPasses(CudaGraphs()) if on_gpu else None

    def __call__(self, batch: Batch, *, exact: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """Return token logits [B, Q, T] and boxes [B, Q, 4], cxcywh in 0..1 of the picture."""
        text = self.text(batch)
        if exact:
            return self._exact.forward(batch.pixels, text, self._exact_geometry(batch.hw))
        geometry = self._geometries(batch.hw)
        if self._graphs is None:
            return self.passes.forward(batch.pixels, text, geometry)

        def run(inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            pixels, *parts = inputs
            return self.passes.forward(pixels, Text(*parts), geometry)

        inputs = filled_up((batch.pixels, *text.padded(_TOKENS).tensors))
        logits, boxes = self._graphs(run, inputs, batch.hw)
        count = len(batch.pixels)
        return logits[:count, :, : batch.token_ids.shape[1]], boxes[:count]

    def has_same_features(self, batch: Batch) -> bool:
        """Return False if the picture's features in the products' format are other ones.

        Compares them with those in full precision, before the decoder, which is the same for both.
        """
        text = self.text(batch)
        found, _ = self.passes.encode(batch.pixels, text, self._geometries(batch.hw))
        expected, _ = self._exact.encode(batch.pixels, text, self._exact_geometry(batch.hw))
        difference = (found - expected).square().mean().sqrt() / expected.square().mean().sqrt()
        return bool(difference < _MAX_DIFFERENCE)  # False for NaN

    def use_exact(self) -> None:
        """Compute all products in the format of the weights from now on."""
        self.passes = self._exact
        self._placement = self._placement.exact
        self._geometries = Geometries(self._geometry)

    def text(self, batch: Batch) -> Text:
        """Return the captions of a batch on the device. BERT runs for new captions only."""
        attention, places = phrase_attention(batch.token_ids, batch.token_mask, self._boundary_ids)
        encoded = self._bert(
            input_ids=batch.token_ids, attention_mask=attention[:, None], position_ids=places
        )
        features = self._text_projection(encoded.last_hidden_state)
        positions = sine_embedding(places, features.shape[-1])
        device = self._placement.device
        return Text(
            features,
            positions.to(features.dtype).to(device),
            batch.token_mask.to(device),
            attention[:, None].to(device),
        )

    def _geometry(self, hw: HW) -> Geometry:
        return self.passes.geometry(hw).on(self._placement)

    def _exact_geometry(self, hw: HW) -> Geometry:
        return self.passes.geometry(hw).on(self._placement.exact)


class ForwardPass(nn.Module):
    """The pass from pixels and text to boxes. It copies nothing between CPU and GPU.

    Args:
        modules: The library's modules with their weights.
        sampler: Samples the values of deformable attention.
        add_and_norm: Adds features up and norms them.
    """

    def __init__(
        self,
        modules: OriginalModules,
        sampler: Sampler,
        add_and_norm: ResidualNorm = residual_norm,
    ) -> None:
        super().__init__()
        shape, transformer = modules.shape, modules.transformer
        self._temperature = shape.temperature
        self.backbone = Backbone(modules.backbone[0], add_and_norm)
        levels = len(self.backbone.channels)
        self.projections = nn.ModuleList(map(_Projection, modules.projections[:levels]))
        self.coarser = nn.ModuleList(modules.projections[levels:])
        self.level_embed = transformer.level_embed
        self.encoder = Encoder(transformer.encoder, sampler, add_and_norm)
        self.decoder = Decoder(transformer, sampler)

    def use_products(self, dtype: torch.dtype) -> None:
        """Multiply features of the picture by weights in a number format."""
        narrow = [self.backbone.stages, self.backbone.mergers, self.projections]
        for part in (*narrow, self.encoder.layers, *self.decoder.samplings):
            for name, module in part.named_modules():
                if isinstance(module, nn.Linear | WindowedAttention) and "sampling" not in name:
                    module.to(dtype)

    def geometry(self, hw: HW) -> Geometry:
        """Return what the pass needs to know of pictures with height and width `hw`, in pixels."""
        maps = self.backbone.maps_hw(hw)
        levels = [maps[int(stage)] for stage in self.backbone.norms]
        for _ in self.coarser:
            height, width = levels[-1]
            levels.append((-(-height // 2), -(-width // 2)))
        return geometry.compute(
            tuple(maps),
            tuple(levels),
            self.level_embed.detach().cpu(),
            window=self.backbone.window,
            temperature=self._temperature,
        )

    def forward(
        self, pixels: torch.Tensor, text: Text, geometry: Geometry
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return token logits [B, Q, T] and boxes [B, Q, 4], cxcywh in 0..1 of the picture.

        Args:
            pixels: [B, 3, H, W], normalised.
            text: The captions of the pictures.
            geometry: That of the pictures' size.
        """
        image, features = self.encode(pixels, text, geometry)
        logits, boxes = self.decoder(image, features, text.token_mask, geometry)
        return logits, boxes

    def encode(
        self, pixels: torch.Tensor, text: Text, geometry: Geometry
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the encoded picture [B, S, D] and text [B, T, D], for arguments of `forward`."""
        image, features = self.encoder(self._features(pixels, geometry), text, geometry)
        return image, features

    def _features(self, pixels: torch.Tensor, geometry: Geometry) -> torch.Tensor:
        """Return the features of all levels [B, S, D]."""
        maps = self.backbone(pixels, geometry)
        levels = [
            project(each, geometry.products)
            for project, each in zip(self.projections, maps, strict=True)
        ]
        # Each remaining projection has stride 2 and reads the level before.
        grid = maps[-1].transpose(1, 2).unflatten(2, geometry.levels[len(maps) - 1])
        for project in self.coarser:
            grid = project(grid)
            levels.append(grid.flatten(2).transpose(1, 2))
        return torch.cat(levels, dim=1)


class _Projection(nn.Module):
    """A projection of a level: a convolution with a kernel of one pixel, and a group norm."""

    def __init__(self, layer: nn.Sequential) -> None:
        super().__init__()
        convolution: nn.Conv2d
        convolution, self.norm = layer  # type: ignore[assignment]
        assert convolution.bias is not None
        self.linear = linear(convolution.weight.flatten(1), convolution.bias)

    def forward(self, tokens: torch.Tensor, products: torch.dtype) -> torch.Tensor:
        """Map [B, S, channels] to [B, S, D]."""
        projected = self.linear(tokens.to(products)).to(tokens.dtype)
        normed: torch.Tensor = self.norm(projected.transpose(1, 2))
        return normed.transpose(1, 2)


def sine_embedding(places: torch.Tensor, width: int) -> torch.Tensor:
    """Return embeddings [B, T, `width`] of tokens' positions, int64 [B, T].

    Ported from `get_sine_pos_embed` of groundingdino's utils.py.
    """
    frequencies, phase = geometry.sine_table(width, _TEXT_TEMPERATURE)
    return (places[..., None] * frequencies + phase).sin()


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


def _swin(shape: Shape) -> SwinTransformer:
    return SwinTransformer(
        embed_dim=shape.swin.embed_dim,
        depths=list(shape.swin.depths),
        num_heads=list(shape.swin.num_heads),
        window_size=shape.swin.window,
        out_indices=(1, 2, 3),  # the last `_BACKBONE_LEVELS` of four stages
    )


def _projections(channels: list[int], shape: Shape) -> list[nn.Sequential]:
    """Return a projection for each level of the backbone, then one for each coarser level.

    The input of a coarser level is the level before.
    """
    width = shape.hidden_dim
    convolutions = [nn.Conv2d(count, width, kernel_size=1) for count in channels]
    coarser_inputs = [channels[-1], *[width] * shape.levels][: shape.levels - len(channels)]
    convolutions += [
        nn.Conv2d(count, width, kernel_size=3, stride=2, padding=1) for count in coarser_inputs
    ]
    return [nn.Sequential(conv, nn.GroupNorm(_GROUPS, width)) for conv in convolutions]


def _transformer(shape: Shape) -> Transformer:
    return Transformer(
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
