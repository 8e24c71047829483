"""A model of transformers from its config and weights that were read before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedModel

from prelabel.engines.weights import require_keys
from prelabel.errors import ModelError

CONFIG_NAME: Final = "config.json"
CONFIG_ERRORS: Final = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    StrictDataclassError,
)


def build_model(
    name: str,
    kind: type[PreTrainedModel],
    config: Any,
    weights: Mapping[str, torch.Tensor],
    dtype: torch.dtype,
) -> PreTrainedModel:
    """Build a model on the CPU, in evaluation mode. Reads no file.

    Args:
        name: Name of the model, for messages.
        kind: The class of transformers.
        config: Its config.
        weights: All weights by name.
        dtype: Format of the parameters.

    Raises:
        ModelError: The weights do not fit the config.
    """
    untyped: Any = kind
    model: PreTrainedModel
    try:
        # No path: config and weights are passed in, so that transformers reads no file.
        model, report = untyped.from_pretrained(
            None, config=config, state_dict=dict(weights), dtype=dtype, output_loading_info=True
        )
    except (ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise ModelError(
            f"The weights of {name} have other sizes than its {CONFIG_NAME} says. "
            "Check that they belong together."
        ) from error
    require_keys(name, missing=report["missing_keys"], unexpected=report["unexpected_keys"])
    return model
