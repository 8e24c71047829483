"""A mark for tests that train, by the abilities of the processor."""

import pytest
import torch

# Training computes in bfloat16, and Muon in PyTorch knows nothing else.
wants_bfloat16 = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(),
    reason="this processor has no AVX-512: a step in bfloat16 takes half a minute",
)
