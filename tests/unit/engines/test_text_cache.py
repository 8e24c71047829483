import numpy as np
import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook
from transformers import BertConfig, BertModel

from prelabel.engines.text_cache import CachedTextEncoder
from prelabel.types import ImageRGB
from tests.support.engine_factory import EngineFactory

PAD, CLS, SEP, DOT = 0, 101, 102, 1012
CAPTION_BYTES = 4 * 4 * 8  # tokens, hidden size, float64


class Counted:
    """A small BERT, and the captions that went through it."""

    def __init__(self, max_bytes: int = 10**6) -> None:
        torch.manual_seed(0)
        self.bert = BertModel(
            BertConfig(
                hidden_size=4,
                num_attention_heads=2,
                num_hidden_layers=2,
                intermediate_size=8,
                vocab_size=2000,
            ),
            add_pooling_layer=False,
        )
        self.bert.double().eval()  # type: ignore[no-untyped-call]
        self.encoded: list[list[int]] = []
        self.bert.register_forward_hook(
            lambda module, args, kwargs, out: self.encoded.extend(kwargs["input_ids"].tolist()),
            with_kwargs=True,
        )
        self.features = CachedTextEncoder(self.bert, PAD, max_bytes)

    def __call__(self, *captions: list[int]) -> torch.Tensor:
        return self._run(self.features, captions)

    def without(self, *captions: list[int]) -> torch.Tensor:
        """Return the features that BERT itself computes."""
        return self._run(self.bert, captions)

    def _run(self, module: torch.nn.Module, captions: tuple[list[int], ...]) -> torch.Tensor:
        from prelabel.engines.groundingdino.network import phrase_attention  # its imports warn

        width = max(len(ids) for ids in captions)
        rows = torch.tensor([ids + [PAD] * (width - len(ids)) for ids in captions])
        mask, positions = phrase_attention(rows, rows != PAD, torch.tensor([CLS, SEP, DOT]))
        with torch.inference_mode():
            found: torch.Tensor = module(
                input_ids=rows, attention_mask=mask[:, None], position_ids=positions
            ).last_hidden_state
        return found


CAT = [CLS, 4, DOT, SEP]
DOGS = [CLS, 5, 6, DOT, 7, DOT, SEP]


def test_features_are_berts_whoever_shares_the_batch() -> None:
    text = Counted()
    expected = text.without(CAT, DOGS)
    for _ in range(2):  # computed, then kept
        found = text(CAT, DOGS)
        assert found[0, : len(CAT)] == pytest.approx(expected[0, : len(CAT)], abs=1e-12)
        assert found[1] == pytest.approx(expected[1], abs=1e-12)
        assert not found[0, len(CAT) :].any()


def test_a_caption_is_encoded_once() -> None:
    text = Counted()
    text(CAT, CAT, DOGS)
    text(DOGS)
    text(CAT, DOGS)
    assert text.encoded == [CAT, DOGS]


def test_what_was_asked_longest_ago_makes_room() -> None:
    text = Counted(max_bytes=2 * CAPTION_BYTES)
    for token in (1, 2, 1, 3, 1, 2):
        text([CLS, token, DOT, SEP])
    assert [ids[1] for ids in text.encoded] == [1, 2, 3, 2]


def test_a_caption_larger_than_the_room_is_answered_each_time() -> None:
    text = Counted(max_bytes=CAPTION_BYTES)
    assert text(DOGS).shape == (1, len(DOGS), 4)
    text(DOGS)
    assert text.encoded == [DOGS, DOGS]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["groundingdino", "huggingface"])
def test_engines_encode_a_prompt_once(
    demo_engine: EngineFactory, scene: ImageRGB, name: str
) -> None:
    engine = demo_engine(name, "float32")
    passes = []
    hook = register_module_forward_hook(
        lambda module, *_: passes.append(1) if isinstance(module, BertModel) else None
    )
    try:
        for picture in (scene, np.ascontiguousarray(scene[::-1])):
            items = engine.prepare(picture, (f"a prompt that only {name} is asked here",))
            engine.detect(items * 2)
    finally:
        hook.remove()
    assert len(passes) == 1
