"""Text features of captions, computed once: most pictures of a project are asked the same."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutput

_MAX_BYTES = 64 * 2**20  # on the model's device; some eighty captions of 256 tokens of BERT's


class TextFeatures(nn.Module):
    """BERT as both libraries call it, with the captions' features kept, least recently used out.

    A caption is encoded alone, without padding: what it gets does not depend on its neighbours.
    pad_id: the token that fills up shorter captions, and stands in none.
    """

    def __init__(self, bert: nn.Module, pad_id: int, max_bytes: int = _MAX_BYTES) -> None:
        super().__init__()
        self.bert = bert
        self._pad_id = pad_id
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[tuple[int, ...], torch.Tensor] = OrderedDict()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        **_options: object,
    ) -> BaseModelOutput:
        """Features [B, T, hidden] of ids [B, T]; zeros for padding, which nothing looks at.

        attention_mask: who attends to whom, bool [B, T, T] or [B, 1, T, T].
        Mask, types and positions must follow from the ids alone.
        """
        rows = []
        for i, row in enumerate(input_ids.tolist()):
            length = 1 + max(place for place, token in enumerate(row) if token != self._pad_id)
            key = tuple(row[:length])
            kept = self._kept.pop(key, None)
            if kept is None:
                kept = self._encode(
                    input_ids[i : i + 1, :length],
                    attention_mask[i : i + 1, ..., :length, :length],
                    None if token_type_ids is None else token_type_ids[i : i + 1, :length],
                    None if position_ids is None else position_ids[i : i + 1, :length],
                )
                self._bytes += kept.nbytes
            self._kept[key] = kept
            rows.append(kept)
        while self._bytes > self._max_bytes:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
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
        """Features [T, hidden] of one caption [1, T]."""
        encoded = self.bert(
            input_ids=ids, attention_mask=mask, token_type_ids=types, position_ids=positions
        )
        features: torch.Tensor = encoded.last_hidden_state[0]
        return features
