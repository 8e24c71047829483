"""Linear layers in tiles against the exact product, and against PyTorch's float32."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from prelabel.engines import kernels as kernels_module
from prelabel.engines import linear
from prelabel.engines.device import resolve_placement
from prelabel.engines.kernels import tiled_kernels
from prelabel.engines.linear import TiledLinear, tile_linears

needs_amx = pytest.mark.skipif(
    not torch.cpu.get_capabilities().get("amx_bf16", False), reason="this processor has no AMX"
)


def layer(columns, depth, *, bias=True):
    torch.manual_seed(columns)
    return nn.Linear(depth, columns, bias=bias)


@needs_amx
def test_where_there_is_amx_there_are_tiles():
    assert tiled_kernels() is not None, "The kernels were not built: install gcc, then prelabel."


@needs_amx
@pytest.mark.parametrize("rows", [1, 15, 16, 33, 127, 129, 1025])
@pytest.mark.parametrize(("depth", "columns"), [(1, 1), (31, 17), (32, 16), (256, 33), (100, 288)])
def test_tiles_are_as_near_to_the_exact_product_as_float32_needs(rows, depth, columns):
    original = layer(columns, depth)
    inputs = torch.randn(rows, depth)
    with torch.inference_mode():
        tiled = TiledLinear(original)(inputs)
        exact = original.double()(inputs.double())
    scale = inputs.double().abs() @ original.weight.detach().abs().T + 1  # the sum of magnitudes
    assert ((tiled - exact).abs() / scale).max() < 2e-5
    if depth > 30:  # bfloat16 alone is a hundred times as far off
        short = functional.linear(inputs.bfloat16(), original.weight.bfloat16()).double()
        assert ((short + original.bias - exact).abs() / scale).max() > 1e-4


@needs_amx
def test_shapes_layouts_and_a_missing_bias():
    original = layer(24, 40, bias=False)
    inputs = torch.randn(40, 5, 3).transpose(0, 2)
    with torch.inference_mode():
        assert torch.allclose(TiledLinear(original)(inputs), original(inputs), atol=1e-4)
        assert TiledLinear(original)(torch.empty(0, 40)).shape == (0, 24)


@needs_amx
def test_rows_do_not_depend_on_each_other():
    tiled = TiledLinear(layer(64, 96))
    inputs = torch.randn(300, 96)
    together = tiled(inputs)
    for i in (0, 127, 128, 299):
        assert torch.equal(tiled(inputs[i : i + 1])[0], together[i])


@needs_amx
def test_what_is_no_number_is_seen_as_such():
    tiled = TiledLinear(layer(8, 32))
    tiled.relu = True
    inputs = torch.zeros(2, 32)
    inputs[1, 3] = torch.nan
    assert not tiled(inputs)[0].isnan().any()
    assert tiled(inputs)[1].isnan().all()


@needs_amx
def test_it_leaves_the_other_users_of_tiles_alone():
    """oneDNN computes bfloat16 in tiles of its own, in the same threads."""
    one, other = torch.randn(256, 256).bfloat16(), torch.randn(256, 256).bfloat16()
    tiled, inputs = TiledLinear(layer(64, 64)), torch.randn(512, 64)
    before = one @ other
    for _ in range(5):
        result = tiled(inputs)
        assert torch.equal(one @ other, before)
        assert torch.equal(tiled(inputs), result)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear1, self.linear2 = layer(64, 32), layer(32, 64)
        self.activation = functional.relu
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.heads = nn.ModuleList([layer(32, 32)] * 3)

    def forward(self, inputs):
        attended, _ = self.attention(inputs, inputs, inputs)
        return self.heads[2](self.linear2(self.activation(self.linear1(attended))))


@needs_amx
def test_a_network_keeps_its_results_its_shared_heads_and_its_attention():
    block, inputs = Block().eval(), torch.randn(2, 7, 32)
    with torch.inference_mode():
        expected = block(inputs)
        tile_linears(block)
        assert torch.allclose(block(inputs), expected, atol=1e-4)
    assert isinstance(block.activation, nn.Identity)
    assert block.linear1.relu
    assert not block.linear2.relu
    assert len({id(each) for each in block.heads}) == 1
    assert isinstance(block.heads[0], TiledLinear)
    assert not any(isinstance(each, TiledLinear) for each in block.attention.modules())


def test_without_tiles_a_network_stays_as_it_is(monkeypatch):
    monkeypatch.setattr(linear, "tiled_kernels", lambda: None)
    block = Block()
    tile_linears(block)
    assert type(block.linear1) is nn.Linear
    assert block.activation is functional.relu


def test_without_a_library_there_are_no_tiles(monkeypatch):
    monkeypatch.setattr(kernels_module, "kernels", lambda: None)
    assert tiled_kernels.__wrapped__() is None


@pytest.mark.parametrize(
    ("precision", "tiles"),
    [("float32", True), ("auto", True), ("bfloat16", False), ("float64", False)],
)
def test_tiles_are_for_float32_alone(precision, tiles):
    assert resolve_placement("cpu", precision).tiles is tiles


@needs_amx
@pytest.mark.parametrize("engine", ["huggingface", "groundingdino"])
def test_engines_use_them_on_a_cpu(demo_engine, engine):
    network = demo_engine(engine, "float32")._network
    model = getattr(network, "_model", network)
    assert sum(isinstance(each, TiledLinear) for each in model.modules()) > 50
    assert not any(type(each) is nn.Linear for each in model.modules())
