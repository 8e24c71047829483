from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from prelabel.checkpoints.cards import ModelCard, load_card, model_folder, text_encoder_folder
from prelabel.engines.tokenizer import CaptionTokenizer, phrase_max_mean
from prelabel.errors import ModelError, PromptError


@pytest.fixture(scope="module")
def tokenizer(demo_card: ModelCard) -> CaptionTokenizer:
    return CaptionTokenizer.from_folder(model_folder(demo_card, "models"), 256)


def test_spans_cover_each_phrases_tokens_and_no_separator(tokenizer: CaptionTokenizer) -> None:
    (caption,) = tokenizer(["Red Circle", "sailboat", "soccer ball"])
    separator = 1012
    assert [caption.ids[end] for _, end in caption.spans] == [separator] * 3
    assert [caption.ids[start - 1] for start, _ in caption.spans] == [101, separator, separator]
    assert all(separator not in caption.ids[start:end] for start, end in caption.spans)


@pytest.mark.parametrize("phrase", ["café", "naïve Ångström", "小猫", "e-mail", "a" * 40, "½ €"])
def test_unusual_letters_keep_their_spans(tokenizer: CaptionTokenizer, phrase: str) -> None:
    (caption,) = tokenizer(["dog", phrase, "cat"])
    (alone,) = tokenizer([phrase])
    start, end = caption.spans[1]
    assert caption.ids[start:end] == alone.ids[1:-2]


def test_limits_saved_in_tokenizer_json_do_not_cut_captions(tokenizer: CaptionTokenizer) -> None:
    """The demo's file says 128 tokens, padded to 128."""
    (caption,) = tokenizer([f"thing {i}" for i in range(60)])
    assert len(caption.ids) == 2 + 60 * 3
    assert len(tokenizer(["cat"])[0].ids) == 4


def test_threads_may_share_a_tokenizer(tokenizer: CaptionTokenizer) -> None:
    prompts = [[f"thing {i}", "red circle"] for i in range(200)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(tokenizer, prompts)) == [tokenizer(prompt) for prompt in prompts]


def test_phrase_longer_than_a_caption_is_refused(tokenizer: CaptionTokenizer) -> None:
    with pytest.raises(PromptError, match="longer than the model can read"):
        tokenizer(["cat", "very " * 300])


def test_folder_without_tokenizer_is_a_sentence(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        CaptionTokenizer.from_folder(tmp_path_factory.mktemp("empty"), 256)


def test_packaged_bert_vocabulary_is_the_demos(tokenizer: CaptionTokenizer) -> None:
    card = load_card("grounding-dino-swin-t")
    packaged = CaptionTokenizer.from_folder(
        text_encoder_folder(card, model_folder(card, "models")), card.max_text_tokens
    )
    assert packaged(["umbrella", "sunflower"]) == tokenizer(["umbrella", "sunflower"])
    assert packaged.boundary_ids == (101, 102, 1012, 1029)


@pytest.mark.parametrize(
    ("spans", "greatest", "mean"),
    [
        ([(1, 2)], [[0.9]], [[0.9]]),
        ([(1, 3)], [[0.9]], [[0.5]]),
        ([(1, 2), (2, 4)], [[0.9, 0.3]], [[0.9, 0.2]]),
        ([(0, 1), (3, 4)], [[0.5, 0.3]], [[0.5, 0.3]]),
    ],
)
def test_phrase_max_mean_looks_at_the_span_only(
    spans: list[tuple[int, int]], greatest: list[list[float]], mean: list[list[float]]
) -> None:
    probs = np.array([[0.5, 0.9, 0.1, 0.3, 1.0]])
    found = phrase_max_mean(probs, spans)
    assert found[0] == pytest.approx(np.array(greatest))
    assert found[1] == pytest.approx(np.array(mean))
