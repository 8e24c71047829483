"""Linear layers in float32 that are faster than PyTorch's, and as accurate in effect.

On processors with AMX each float is the sum of two bfloat16 numbers (linear_amx.c), which is three
times as fast. On AMD's processors, and on others with AVX2 alone, floats are multiplied in another
order than PyTorch's (linear_fma.h).

Plain bfloat16 would take another quarter less time with AMX, but moves boxes by pixels and changes
which boxes are found: the learned query of a proposal depends on its rank among hundreds of
proposals with nearly equal scores.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from prelabel.engines.kernels.arguments import pointers, sizes
from prelabel.engines.kernels.library import linear_kernels

# Rows that begin a multiple of 4 KB apart share few lines of the nearest cache, so that each row
# displaces the one before.
_ALIASED, _PADDING = 1024, 16  # numbers
_CACHED = 2**21  # numbers that fit the last cache of most processors
# Attributes of a feed-forward block with the first layer and its activation, in groundingdino and
# in transformers.
_RELUS = (("linear1", "activation"), ("fc1", "activation_fn"))


class PackedLinear(nn.Module):
    """A float32 `nn.Linear` for inference.

    If `relu` is set, a ReLU follows. Results may then lie apart in memory, for the layer that reads
    them.
    """

    def __init__(self, original: nn.Linear) -> None:
        super().__init__()
        kernels = linear_kernels()
        assert kernels is not None
        self.kernels = kernels
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
        """Map [..., in_features] to [..., out_features], float32.

        Raises:
            MemoryError: The kernel got no memory.
        """
        rows = inputs.float().reshape(-1, self.in_features)
        if rows.stride(1) != 1:
            rows = rows.contiguous()
        step = self.out_features
        if self.relu and step % _ALIASED == 0:
            step += _PADDING
        outputs = torch.empty(len(rows), step)
        failed = self.kernels.run(
            *pointers(rows, self.get_buffer("packed"), self.get_buffer("bias"), outputs),
            *sizes(len(rows), self.out_features, self.in_features, rows.stride(0), step),
            int(self.relu),
        )
        if failed:
            raise MemoryError("no memory for a linear layer")
        return outputs[:, : self.out_features].view(*inputs.shape[:-1], self.out_features)


def feed_forward(first: PackedLinear, second: PackedLinear, inputs: torch.Tensor) -> torch.Tensor:
    """Apply two layers to [..., D], of which the first has a ReLU, and return [..., D].

    Where there is a kernel for both, the numbers between them never leave the processor's caches.
    They are 70 MB for a picture of 640x640 pixels, and cores share the way to memory.

    Raises:
        MemoryError: The kernel got no memory.
    """
    count = inputs.numel() // first.in_features
    run_both = first.kernels.run_both
    if run_both is None or count * first.out_features < _CACHED:
        mapped: torch.Tensor = second(first(inputs))
        return mapped
    inputs = inputs.float().contiguous()
    outputs = torch.empty(*inputs.shape[:-1], second.out_features)
    failed = run_both(
        *pointers(inputs, first.get_buffer("packed"), first.get_buffer("bias")),
        *pointers(second.get_buffer("packed"), second.get_buffer("bias"), outputs),
        *sizes(count, second.out_features, first.out_features, first.in_features),
    )
    if failed:
        raise MemoryError("no memory for a linear layer")
    return outputs


def pack_linears(network: nn.Module) -> None:
    """Replace the linear layers of a float32 network on the CPU by packed ones.

    Without kernels for this processor the network stays as it is. Layers inside
    `nn.MultiheadAttention` stay as well, because it reads their weights itself.
    """
    if linear_kernels() is None:
        return
    packed: dict[nn.Module, PackedLinear] = {}  # a layer can be shared, as box heads are
    for name, child in list(network.named_modules(remove_duplicate=False)):
        if type(child) is nn.Linear:
            if child not in packed:
                packed[child] = PackedLinear(child)
            network.set_submodule(name, packed[child])
    for module in network.modules():
        _fuse_relu(module)


def _fuse_relu(block: nn.Module) -> None:
    """Let the first layer of a feed-forward block apply the activation when it writes results."""
    for linear_name, activation_name in _RELUS:
        linear, activation = (getattr(block, name, None) for name in (linear_name, activation_name))
        is_relu = activation is functional.relu or isinstance(activation, nn.ReLU)
        if isinstance(linear, PackedLinear) and is_relu:
            linear.relu = True
            setattr(block, activation_name, nn.Identity())
