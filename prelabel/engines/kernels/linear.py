"""Linear layers in float32 that are faster than PyTorch's, and as exact in effect.

Processors with AMX take each float as the sum of two bfloat16 (linear_amx.c), which is three times
as fast; those with AVX2 alone multiply floats, in an order of our own (linear_avx2.c). (All in
bfloat16 would be faster on the former by a third again, but moves boxes by pixels and changes which
are found: which learned query a proposal gets depends on its rank among hundreds that score nearly
alike.)
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from prelabel.engines.kernels.library import linear_kernels, pointers, sizes

_RELUS = (("linear1", "activation"), ("fc1", "activation_fn"))  # groundingdino's, transformers'


class PackedLinear(nn.Module):
    """A float32 `nn.Linear` for inference, with a ReLU behind it if asked for."""

    def __init__(self, original: nn.Linear) -> None:
        super().__init__()
        kernels = linear_kernels()
        assert kernels is not None
        self._kernels = kernels
        self.in_features, self.out_features = original.in_features, original.out_features
        self.relu = False
        weight = original.weight.detach().contiguous()
        shape = sizes(self.out_features, self.in_features)
        packed = torch.empty(kernels.packed_size(*shape), dtype=torch.uint8)
        kernels.pack(*pointers(weight, packed), *shape)
        bias = torch.zeros(self.out_features) if original.bias is None else original.bias.detach()
        self.register_buffer("packed", packed)
        self.register_buffer("bias", bias.contiguous())

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """[..., in_features] to [..., out_features], float32."""
        inputs = inputs.float().contiguous()
        outputs = torch.empty(*inputs.shape[:-1], self.out_features)
        failed = self._kernels.run(
            *pointers(inputs, self.get_buffer("packed"), self.get_buffer("bias"), outputs),
            *sizes(inputs.numel() // self.in_features, self.out_features, self.in_features),
            int(self.relu),
        )
        if failed:
            raise MemoryError("no memory for a linear layer")
        return outputs


def pack_linears(network: nn.Module) -> None:
    """Let the linear layers of a float32 network on the CPU run by such kernels, if there are any.

    Those within `nn.MultiheadAttention` stay: it reads their weights itself.
    """
    if linear_kernels() is None:
        return
    packed: dict[nn.Module, PackedLinear] = {}  # heads are shared
    for name, child in list(network.named_modules(remove_duplicate=False)):
        if type(child) is nn.Linear:
            if child not in packed:
                packed[child] = PackedLinear(child)
            network.set_submodule(name, packed[child])
    for module in network.modules():
        _join_relu(module)


def _join_relu(block: nn.Module) -> None:
    """The activation of a feed-forward block, in the pass that writes what it reads."""
    for linear_name, activation_name in _RELUS:
        linear, activation = (getattr(block, name, None) for name in (linear_name, activation_name))
        is_relu = activation is functional.relu or isinstance(activation, nn.ReLU)
        if isinstance(linear, PackedLinear) and is_relu:
            linear.relu = True
            setattr(block, activation_name, nn.Identity())
