"""The forward pass of our own: equal to the library's, and fit to be captured on a GPU."""

from __future__ import annotations

import copy
import logging
import warnings
from collections import Counter
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import BertConfig

from prelabel.checkpoints.cards import ModelCard, model_folder
from prelabel.detection.scoring import select_detections
from prelabel.engines.device import Placement
from prelabel.engines.graphs import filled_up
from prelabel.engines.kernels.deformable_attention import sample_by_torch
from prelabel.engines.torch_engine import PAD_ID, Batch, TorchEngine
from prelabel.types import ImageRGB, Thresholds

with warnings.catch_warnings():  # the library's old imports warn
    warnings.simplefilter("ignore")
    from groundingdino.util.misc import NestedTensor, inverse_sigmoid

    from prelabel.engines.groundingdino import geometry
    from prelabel.engines.groundingdino.config import Shape, SwinShape
    from prelabel.engines.groundingdino.encoder import Text
    from prelabel.engines.groundingdino.engine import load
    from prelabel.engines.groundingdino.network import (
        ForwardPass,
        GroundingDinoNetwork,
        OriginalModules,
        phrase_attention,
    )

pytestmark = pytest.mark.slow

DOUBLE = Placement(torch.device("cpu"), torch.float64, torch.float64)
BOUNDARIES = (101, 102, 1012)
CAPTIONS = ([101, 7, 8, 1012, 9, 1012, 102], [101, 11, 1012, 102])
BERT = BertConfig(
    hidden_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    vocab_size=1100,
    intermediate_size=32,
)


def small_shape(window: int = 7, depths: tuple[int, ...] = (2, 2, 3, 2)) -> Shape:
    return Shape(
        swin=SwinShape(embed_dim=16, depths=depths, num_heads=(2, 2, 4, 4), window=window),
        bert=BERT,
        hidden_dim=256,  # the library's sine embedding of tokens has no other width
        heads=8,
        encoder_layers=2,
        decoder_layers=3,
        ffn_dim=64,
        num_queries=20,
        levels=4,
        encoder_points=4,
        decoder_points=4,
        temperature=20,
    )


def drawn(shape: Shape, *, separate_box_heads: bool = False) -> OriginalModules:
    """Return modules with random weights, of which none is 0."""
    torch.manual_seed(2)
    modules = OriginalModules(shape, separate_box_heads=separate_box_heads).double().eval()
    for name, parameter in modules.named_parameters():
        if parameter.dim() < 2 or not parameter.any():
            # Wide steps would move all boxes into one corner.
            torch.nn.init.normal_(parameter, std=0.05 if "bbox_embed" in name else 0.3)
    # Positions at the border, whose boxes are infinite, are not among the queries.
    torch.nn.init.zeros_(modules.transformer.enc_output.bias)
    torch.nn.init.zeros_(modules.transformer.enc_output_norm.bias)
    return modules


def batch_of(pixels: torch.Tensor) -> Batch:
    rows = [list(CAPTIONS[i % 2]) for i in range(len(pixels))]
    width = max(map(len, rows))
    ids = torch.tensor([row + [PAD_ID] * (width - len(row)) for row in rows])
    return Batch(pixels, ids, ids != PAD_ID)


def by_the_library(modules: OriginalModules, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Ported from `GroundingDINO.forward`. For one picture: its text layers mix captions."""
    [item] = batch.token_ids
    ids = item[item != PAD_ID][None]
    attention, places = phrase_attention(ids, ids != PAD_ID, torch.tensor(BOUNDARIES))
    encoded = modules.bert(
        input_ids=ids, attention_mask=attention[:, None], position_ids=places
    ).last_hidden_state
    text: dict[str, Any] = {
        "encoded_text": modules.feat_map(encoded),
        "text_token_mask": ids != PAD_ID,
        "position_ids": places,
        "text_self_attention_masks": attention,
    }

    def nested(pixels: torch.Tensor) -> NestedTensor:
        return NestedTensor(pixels, torch.zeros_like(pixels[:, 0], dtype=torch.bool))

    position_embedding = type(modules.backbone[1])(
        128,
        temperatureH=modules.shape.temperature,
        temperatureW=modules.shape.temperature,
        normalize=True,
    )
    maps = [each.tensors for each in modules.backbone[0](nested(batch.pixels)).values()]
    levels = [project(each) for project, each in zip(modules.input_proj, maps, strict=False)]
    coarser = maps[-1]
    for project in modules.input_proj[len(maps) :]:
        coarser = project(coarser)
        levels.append(coarser)
    positions = [position_embedding(nested(each)).to(each.dtype) for each in levels]
    masks = [nested(each).mask for each in levels]
    transformer = modules.transformer

    def logits(queries: torch.Tensor, text: dict[str, Any]) -> torch.Tensor:
        tokens: torch.Tensor = text["encoded_text"]
        return queries @ tokens.transpose(-1, -2)

    transformer.enc_out_class_embed = logits
    states, references, *_ = transformer(levels, masks, None, positions, None, None, text)
    offsets = modules.bbox_embed[-1](states[-1])
    queries: torch.Tensor = states[-1]
    return logits(queries, text), (offsets + inverse_sigmoid(references[-2])).sigmoid()


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("hw", [(224, 224), (160, 208), (97, 131), (32, 320), (225, 449)])
@pytest.mark.parametrize("separate", [False, True])
def test_it_computes_what_the_library_computes(hw: tuple[int, int], separate: bool) -> None:
    modules = drawn(small_shape(), separate_box_heads=separate)
    network = GroundingDinoNetwork(copy.deepcopy(modules), BOUNDARIES, DOUBLE, sample_by_torch)
    pixels = torch.randn(2, 3, *hw, dtype=torch.float64)
    batch = batch_of(pixels)
    with torch.inference_mode():
        logits, boxes = network(batch)
        for i in range(2):
            item = Batch(pixels[i : i + 1], batch.token_ids[i : i + 1], batch.token_mask[i : i + 1])
            expected_logits, expected_boxes = by_the_library(modules, item)
            tokens = expected_logits.shape[-1]
            # The library computes positions in float32.
            assert torch.allclose(logits[i, :, :tokens], expected_logits[0], atol=2e-3, rtol=1e-4)
            assert torch.allclose(boxes[i], expected_boxes[0], atol=1e-4)
            assert (
                expected_boxes[0, :, :2].std(dim=0).min() > 1e-3
            )  # it is no comparison of constants


@pytest.mark.parametrize("window", [7, 12])
@pytest.mark.parametrize("hw", [(7, 7), (14, 21), (12, 24), (9, 30), (1, 5), (25, 13)])
def test_the_order_of_windows_can_be_undone(hw: tuple[int, int], window: int) -> None:
    stage = geometry.stage_geometry(hw, window)
    tokens = torch.arange(1.0, 1 + hw[0] * hw[1]).view(1, -1, 1)
    for shifted in range(2):
        windows = geometry.padded(tokens, stage).index_select(1, stage.order[shifted])
        assert torch.equal(windows.index_select(1, stage.places[shifted]), tokens)


class Dispatches(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what a pass dispatches, and collects what no captured pass may do."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: Counter[str] = Counter()
        self.kernels = 0
        self.forbidden: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = str(func)
        if name.startswith("prim."):  # questions about a tensor
            return out
        self.operations[name] += 1
        self.kernels += not func.is_view
        devices = {
            tensor.device.type
            for tensor in torch.utils._pytree.tree_leaves((args, kwargs, out))
            if isinstance(tensor, torch.Tensor) and tensor.numel() > 1
        }
        if devices - {"cuda"} or "_local_scalar_dense" in name or "nonzero" in name:
            self.forbidden.append(f"{name} {devices}")
        return out


FULL = Shape(
    swin=SwinShape(96, (2, 2, 6, 2), (3, 6, 12, 24), 7),
    bert=BERT,
    hidden_dim=256,
    heads=8,
    encoder_layers=6,
    decoder_layers=6,
    ffn_dim=2048,
    num_queries=900,
    levels=4,
    encoder_points=4,
    decoder_points=4,
    temperature=20,
)
# A pass over one picture in float32, with the modules of groundingdino-py and this project's
# attention layers; under autocast, twice as many.
OPERATIONS_BEFORE = 2882


def move_to(device: torch.device, module: torch.nn.Module) -> None:
    """Replace parameters and buffers by empty ones on a device, which may be a fake one."""
    for each in module.modules():
        for name, parameter in each._parameters.items():
            if parameter is not None:
                empty = moved_to(device, parameter)
                each._parameters[name] = torch.nn.Parameter(empty, requires_grad=False)
        for name, buffer in each._buffers.items():
            if buffer is not None:
                each._buffers[name] = moved_to(device, buffer)


def moved_to(device: torch.device, value: Any) -> Any:
    """Return a copy of tensors in dataclasses and tuples, empty, on a device."""
    if isinstance(value, torch.Tensor):
        return torch.empty(value.shape, dtype=value.dtype, device=device)
    if isinstance(value, tuple):
        return tuple(moved_to(device, each) for each in value)
    if is_dataclass(value) and not isinstance(value, type):
        moved = {each.name: moved_to(device, getattr(value, each.name)) for each in fields(value)}
        return replace(value, **moved)
    return value


@pytest.mark.parametrize("products", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("batch", [1, 4])
def test_a_full_size_pass_can_be_captured_on_a_gpu(products: torch.dtype, batch: int) -> None:
    """Shapes alone are computed, so that no GPU is needed."""
    from prelabel.engines.kernels.deformable_attention_triton import sample_by_triton
    from prelabel.engines.kernels.residual_norm_triton import residual_norm_by_triton

    device = torch.device("cuda:0")
    passes = ForwardPass(OriginalModules(FULL).eval(), sample_by_triton, residual_norm_by_triton)
    passes.use_products(products)
    here = Placement(torch.device("cpu"), torch.float32, products)
    real = passes.geometry((800, 1333)).on(here)
    with FakeTensorMode(), torch.inference_mode():
        move_to(device, passes)
        placed = moved_to(device, real)
        tokens = 16
        text = Text(
            torch.empty(batch, tokens, 256, device=device),
            torch.empty(batch, tokens, 256, device=device),
            torch.empty(batch, tokens, device=device, dtype=torch.bool),
            torch.empty(batch, 1, tokens, tokens, device=device, dtype=torch.bool),
        )
        pixels = torch.empty(batch, 3, 800, 1333, device=device)
        with Dispatches() as dispatches:
            logits, boxes = passes(pixels, text, placed)
    assert logits.shape == (batch, 900, tokens)
    assert boxes.shape == (batch, 900, 4)
    assert logits.dtype == boxes.dtype == torch.float32
    assert not dispatches.forbidden
    assert dispatches.operations.total() <= OPERATIONS_BEFORE / 2


def test_padded_captions_and_filled_batches_change_no_result() -> None:
    network = GroundingDinoNetwork(drawn(small_shape()), BOUNDARIES, DOUBLE, sample_by_torch)
    batch = batch_of(torch.randn(3, 3, 224, 160, dtype=torch.float64))
    placed = network.passes.geometry((224, 160)).on(DOUBLE)
    text = network.text(batch)
    with torch.inference_mode():
        logits, boxes = network.passes(batch.pixels, text, placed)
        pixels, *parts = filled_up((batch.pixels, *text.padded(16).tensors))
        assert [len(each) for each in (pixels, *parts)] == [4] * 5
        more_logits, more_boxes = network.passes(pixels, Text(*parts), placed)
    tokens = logits.shape[-1]
    assert tokens < 16 == more_logits.shape[-1]
    assert torch.allclose(more_logits[:3, :, :tokens], logits)
    assert torch.allclose(more_boxes[:3], boxes)


def test_a_short_format_that_sees_the_same_is_kept_and_another_one_is_not(
    demo_card: ModelCard,
    scene: ImageRGB,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    card, folder = demo_card.model_copy(update={"engine": "groundingdino"}), demo_folder(demo_card)
    half = Placement(torch.device("cpu"), torch.float32, torch.float16)
    assert "float16" in load(card, folder, half).runs_on
    assert not caplog.messages

    def broken(passes: ForwardPass, dtype: torch.dtype) -> None:
        use_products(passes, dtype)
        for parameter in passes.encoder.layers.parameters():
            parameter.data += 0.3

    use_products = ForwardPass.use_products
    monkeypatch.setattr(ForwardPass, "use_products", broken)
    with caplog.at_level(logging.WARNING):
        engine = load(card, folder, half)
    assert "In torch.float16 the model computes something else" in caplog.text
    assert "float32" in engine.runs_on
    monkeypatch.undo()
    full = load(card, folder, Placement(torch.device("cpu"), torch.float32, torch.float32))
    assert_same_boxes(engine, full, scene)


def test_what_exceeds_the_range_of_float16_is_computed_in_float32(
    demo_card: ModelCard, scene: ImageRGB, caplog: pytest.LogCaptureFixture
) -> None:
    card, folder = demo_card.model_copy(update={"engine": "groundingdino"}), demo_folder(demo_card)
    half, full = (
        load(card, folder, Placement(torch.device("cpu"), torch.float32, products))
        for products in (torch.float16, torch.float32)
    )
    network: Any = half._network
    network.passes.backbone.stages[0].blocks[0].mlp1.bias.data += 1e5  # of the short format alone
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert_same_boxes(half, full, scene)
    assert len(caplog.messages) == 1
    assert "exceeded the range of torch.float16" in caplog.text


def assert_same_boxes(engine: TorchEngine, other: TorchEngine, image: ImageRGB) -> None:
    """Assert that engines find the same objects. Queries without one can change their order."""
    found, expected = (
        select_detections(
            each.detect(each.prepare(image, ("red circle", "blue square"))),
            Thresholds(box=0.3, text=0.25),
            (image.shape[1], image.shape[0]),
        )
        for each in (engine, other)
    )
    assert len(expected.scores) == 2
    assert found.phrase_index.tolist() == expected.phrase_index.tolist()
    assert found.scores == pytest.approx(expected.scores, abs=1e-3)
    assert found.boxes_xyxy == pytest.approx(expected.boxes_xyxy, abs=0.1)


def demo_folder(card: ModelCard) -> Path:
    return model_folder(card, "models")
