"""Cache of text features: most pictures of a project have the same captions."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutput

_MAX_BYTES = 64 * 2**20  # on the model's device; about 80 captions of 256 tokens of BERT base


class CachedTextEncoder(nn.Module):
    """BERT with the call signature of both libraries, and a cache of captions' features.

    The least recently used caption is dropped first. A caption is encoded alone and without
    padding, so that its features do not depend on the other captions of a batch.

    Args:
        bert: The text encoder.
        pad_id: The token that fills shorter captions up, and is in no caption.
        max_bytes: Memory of the cached features.
    """

    def __init__(self, bert: nn.Module, pad_id: int, max_bytes: int = _MAX_BYTES) -> None:
        super().__init__()
        self.bert = bert
        self._pad_id = pad_id
        self._max_bytes = max_bytes
        self._bytes = 0
        self._cache: OrderedDict[tuple[int, ...], torch.Tensor] = OrderedDict()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        **_options: object,
    ) -> BaseModelOutput:
        """Return features [B, T, hidden] of token ids [B, T]; zeros for padding, which is masked.

        The cache's key is the ids alone: mask, types and positions must follow from them.

        Args:
            input_ids: int64 [B, T].
            attention_mask: bool [B, T, T] or [B, 1, T, T], True where a token attends to another.
            token_type_ids: int64 [B, T], or None.
            position_ids: int64 [B, T], or None.
        """
        rows = []
        for i, row in enumerate(input_ids.tolist()):
            length = 1 + max(place for place, token in enumerate(row) if token != self._pad_id)
            key = tuple(row[:length])
            features = self._cache.pop(key, None)  # put back below, as the most recent one
            if features is None:
                features = self._encode(
                    input_ids[i : i + 1, :length],
                    attention_mask[i : i + 1, ..., :length, :length],
                    None if token_type_ids is None else token_type_ids[i : i + 1, :length],
                    None if position_ids is None else position_ids[i : i + 1, :length],
                )
                self._bytes += features.nbytes
            self._cache[key] = features
            rows.append(features)
        while self._bytes > self._max_bytes:
            self._bytes -= self._cache.popitem(last=False)[1].nbytes
        width = input_ids.shape[1]
        padded = [nn.functional.pad(row, (0, 0, 0, width - len(row))) for row in rows]
        return BaseModelOutput(last_hidden_state=torch.stack(padded))

    def _encode(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor,
        types: torch.Tensor | None,
        positions: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return features [T, hidden] of one caption [1, T]."""
        device = next(self.bert.parameters()).device
        encoded = self.bert(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            token_type_ids=None if types is None else types.to(device),
            position_ids=None if positions is None else positions.to(device),
        )
        features: torch.Tensor = encoded.last_hidden_state[0]
        return features
