"""Linear layers of our own against the exact product, and against PyTorch's float32."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.linear import Linear

from prelabel.engines.device import resolve_placement
from prelabel.engines.kernels import library as kernels_module
from prelabel.engines.kernels import linear
from prelabel.engines.kernels.library import linear_kernels
from prelabel.engines.kernels.linear import PackedLinear, feed_forward, pack_linears
from tests.support.engine_factory import EngineFactory

processor = torch.cpu.get_capabilities()
has_amx = processor.get("amx_bf16", False)
is_amd = "AuthenticAMD" in (
    Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
)
has_avx2 = processor.get("avx2", False) and (is_amd or not processor.get("avx512_f", False))
needs_amx = pytest.mark.skipif(not has_amx, reason="this processor has no AMX")
needs_kernels = pytest.mark.skipif(
    not (has_amx or has_avx2), reason="there are kernels for AMX, for AMD, and for AVX2 alone"
)


def layer(columns: int, depth: int, *, bias: bool = True) -> Linear:
    torch.manual_seed(columns)
    return nn.Linear(depth, columns, bias=bias)


@needs_kernels
def test_they_are_there_where_the_processor_fits() -> None:
    assert linear_kernels() is not None, "The kernels were not built: install gcc, then prelabel."


@pytest.fixture(params=["amx", "avx512", "avx2"])
def kernels_of_each_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test with the kernels of each kind that the processor has the instructions for."""
    needed = {"amx": "amx_bf16", "avx512": "avx512_f", "avx2": "avx2"}[request.param]
    library = kernels_module.kernels()
    if library is None or not processor.get(needed, False):
        pytest.skip(f"this processor has no {needed}")
    if request.param == "amx":
        library.amx_is_available()  # asks for the permission to use it
    kernels = kernels_module.linear_kernels_of(library, request.param)
    monkeypatch.setattr(linear, "linear_kernels", lambda: kernels)


@pytest.mark.usefixtures("kernels_of_each_kind")
@pytest.mark.parametrize("rows", [1, 5, 15, 16, 33, 97, 127, 129, 1025])
@pytest.mark.parametrize(
    ("depth", "columns"), [(1, 1), (31, 17), (32, 16), (256, 33), (100, 288), (515, 24)]
)
def test_results_are_as_near_to_the_exact_product_as_float32_needs(
    rows: int, depth: int, columns: int
) -> None:
    original = layer(columns, depth)
    inputs = torch.randn(rows, depth)
    with torch.inference_mode():
        packed = PackedLinear(original)(inputs)
        exact = original.double()(inputs.double())
    scale = inputs.double().abs() @ original.weight.detach().abs().T + 1  # the sum of magnitudes
    assert ((packed - exact).abs() / scale).max() < 2e-5
    if depth > 30:  # bfloat16 alone is a hundred times as far off
        short = functional.linear(inputs.bfloat16(), original.weight.bfloat16()).double()
        assert ((short + original.bias - exact).abs() / scale).max() > 1e-4


@pytest.mark.usefixtures("kernels_of_each_kind")
def test_shapes_layouts_and_a_missing_bias() -> None:
    original = layer(24, 40, bias=False)
    inputs = torch.randn(40, 5, 3).transpose(0, 2)
    with torch.inference_mode():
        assert torch.allclose(PackedLinear(original)(inputs), original(inputs), atol=1e-4)
        assert PackedLinear(original)(torch.empty(0, 40)).shape == (0, 24)


@pytest.mark.usefixtures("kernels_of_each_kind")
def test_rows_that_lie_apart_are_written_and_read() -> None:
    first, second = layer(1024, 40), layer(24, 1024)
    inputs = torch.randn(2, 70, 40)
    packed = PackedLinear(first)
    packed.relu = True
    with torch.inference_mode():
        hidden = packed(inputs)
        assert hidden.stride(1) > 1024
        expected = first(inputs).relu()
        assert torch.allclose(hidden, expected, atol=1e-4)
        assert torch.allclose(PackedLinear(second)(hidden), second(expected), atol=1e-4)
        assert torch.allclose(PackedLinear(second)(hidden[1, 3]), second(expected[1, 3]), atol=1e-4)


@pytest.mark.usefixtures("kernels_of_each_kind")
def test_rows_do_not_depend_on_each_other() -> None:
    packed = PackedLinear(layer(64, 96))
    inputs = torch.randn(300, 96)
    together = packed(inputs)
    for i in (0, 127, 128, 299):
        assert torch.equal(packed(inputs[i : i + 1])[0], together[i])


@pytest.mark.usefixtures("kernels_of_each_kind")
def test_what_is_no_number_is_seen_as_such() -> None:
    packed = PackedLinear(layer(8, 32))
    packed.relu = True
    inputs = torch.zeros(2, 32)
    inputs[1, 3] = torch.nan
    assert not packed(inputs)[0].isnan().any()
    assert packed(inputs)[1].isnan().all()


@needs_amx
def test_it_leaves_the_other_users_of_tiles_alone() -> None:
    """oneDNN computes bfloat16 in tiles of its own, in the same threads."""
    one, other = torch.randn(256, 256).bfloat16(), torch.randn(256, 256).bfloat16()
    packed, inputs = PackedLinear(layer(64, 64)), torch.randn(512, 64)
    before = one @ other
    for _ in range(5):
        result = packed(inputs)
        assert torch.equal(one @ other, before)
        assert torch.equal(packed(inputs), result)


@pytest.mark.usefixtures("kernels_of_each_kind")
@pytest.mark.parametrize("rows", [7, 2049, 4200])
def test_two_layers_with_a_relu_between_them(rows: int) -> None:
    first, second = layer(1024, 40), layer(24, 1024)
    inputs = torch.randn(2, rows, 40).transpose(0, 1)
    one, other = PackedLinear(first), PackedLinear(second)
    one.relu = True
    with torch.inference_mode():
        found = feed_forward(one, other, inputs)
        assert found.shape == (rows, 2, 24)
        assert torch.allclose(found, second(first(inputs).relu()), atol=1e-4)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear1, self.linear2 = layer(64, 32), layer(32, 64)
        self.activation = functional.relu
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.heads = nn.ModuleList([layer(32, 32)] * 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        attended, _ = self.attention(inputs, inputs, inputs)
        answer: torch.Tensor = self.heads[2](self.linear2(self.activation(self.linear1(attended))))
        return answer


@needs_kernels
def test_a_network_keeps_its_results_its_shared_heads_and_its_attention() -> None:
    block, inputs = Block().eval(), torch.randn(2, 7, 32)
    with torch.inference_mode():
        expected = block(inputs)
        pack_linears(block)
        assert torch.allclose(block(inputs), expected, atol=1e-4)
    assert isinstance(block.activation, nn.Identity)
    assert block.linear1.relu
    assert not block.linear2.relu
    assert len({id(each) for each in block.heads}) == 1
    assert isinstance(block.heads[0], PackedLinear)
    assert not any(isinstance(each, PackedLinear) for each in block.attention.modules())


def test_without_kernels_a_network_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "linear_kernels", lambda: None)
    block = Block()
    pack_linears(block)
    assert type(block.linear1) is nn.Linear
    assert block.activation is functional.relu


def test_without_a_library_there_are_no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels_module, "kernels", lambda: None)
    assert linear_kernels.__wrapped__() is None


@pytest.mark.parametrize(
    ("precision", "packs"),
    [("float32", True), ("auto", True), ("bfloat16", False), ("float64", False)],
)
def test_kernels_are_for_float32_alone(precision: str, packs: bool) -> None:
    assert resolve_placement("cpu", precision).allows_packed_linears is packs


@needs_kernels
@pytest.mark.parametrize("engine", ["huggingface", "groundingdino"])
def test_engines_use_them_on_a_cpu(demo_engine: EngineFactory, engine: str) -> None:
    network: Any = demo_engine(engine, "float32")._network
    model = network.passes if engine == "groundingdino" else network._model
    assert sum(isinstance(each, PackedLinear) for each in model.modules()) > 50
    assert not any(type(each) is nn.Linear for each in model.modules())
