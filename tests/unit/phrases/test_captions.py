import pytest
from hypothesis import given
from hypothesis import strategies as st

from prelabel.errors import PromptError
from prelabel.phrases.captions import build_captions, can_be_read, normalise_phrase


def words(text: str) -> int:
    return len(text.split())


@pytest.mark.parametrize(
    ("phrase", "normal"),
    [
        ("Red Star", "red star"),
        ("St. Bernard", "st bernard"),
        ("  what ?  ", "what"),
        ("line\nbreak\tand\x00control", "line break and control"),
        ("...", ""),
        ("Straße", "straße"),
        ("e\u0301clair", "\u00e9clair"),
    ],
)
def test_phrases_are_normalised(phrase: str, normal: str) -> None:
    assert normalise_phrase(phrase) == normal


@pytest.mark.parametrize(
    ("phrase", "fits"),
    [
        ("x" * 250, True),
        ("x" * 251, False),
        ("\uac00" * 125, True),  # a syllable of two letters
        ("\uac01" * 84, False),  # of three
        ("\ud55c\uad6d\uc5b4 \ub77c\ubca8 " * 20, False),
        ("?", False),
    ],
    ids=lambda given: given[:3] if isinstance(given, str) else None,
)
def test_a_phrase_fits_if_its_letters_do(phrase: str, fits: bool) -> None:
    assert can_be_read(phrase) is fits


def test_every_phrase_ends_with_a_separator() -> None:
    [caption] = build_captions(["Cat", "Red star"], words, 256)
    assert caption.text == "cat . red star ."


def test_spans_cut_the_phrases_out_of_the_caption() -> None:
    phrases = ["cat", "red star", "dog"]
    [caption] = build_captions(phrases, words, 256)
    assert [caption.text[start:end] for start, end in caption.spans] == phrases


def test_no_phrases_make_no_caption() -> None:
    assert build_captions([], words, 256) == []


def test_long_lists_are_cut_between_phrases() -> None:
    # 2 special tokens and 2 or 3 a phrase: 8 tokens hold three short phrases, or two
    captions = build_captions(["a", "b", "c", "d d", "e"], words, 8)
    assert [caption.text for caption in captions] == ["a . b . c .", "d d . e ."]
    assert [caption.first_phrase for caption in captions] == [0, 3]


@pytest.mark.parametrize("phrase", ["", "  ", ".", "?."])
def test_a_phrase_without_a_word_is_refused(phrase: str) -> None:
    with pytest.raises(PromptError, match="no word to look for"):
        build_captions(["cat", phrase], words, 256)


def test_a_phrase_longer_than_a_caption_is_refused_with_its_name() -> None:
    with pytest.raises(PromptError, match="'x x x x x x' is longer than the model can read"):
        build_captions(["x x x x x x"], words, 8)


@given(st.lists(st.text("ab .?", min_size=1).filter(lambda t: t.strip(" .?")), max_size=40))
def test_chunks_hold_every_phrase_once_in_order_and_within_the_limit(phrases: list[str]) -> None:
    limit = 2 + max((words(normalise_phrase(p)) + 1 for p in phrases), default=1)
    captions = build_captions(phrases, words, limit)
    spelled = [c.text[a:b] for c in captions for a, b in c.spans]
    assert spelled == [normalise_phrase(phrase) for phrase in phrases]
    assert [c.first_phrase for c in captions] == [
        sum(len(c.spans) for c in captions[:i]) for i in range(len(captions))
    ]
    assert all(2 + words(caption.text) <= limit for caption in captions)
