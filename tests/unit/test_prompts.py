import pytest

from prelabel.errors import PromptError
from prelabel.prompts import split_prompt, what_applies
from prelabel.types import Asked


@pytest.mark.parametrize(
    ("prompt", "phrases"),
    [
        ("cat", ("cat",)),
        ("cats . house", ("cats", "house")),
        ("cat, dog; red  star", ("cat", "dog", "red star")),
        ("dog\n", ("dog",)),
        ("cat\r\ndog", ("cat", "dog")),
        (" . , ", ()),
        ("cat . cat", ("cat",)),
    ],
)
def test_prompts_are_split(prompt, phrases):
    assert split_prompt(prompt, 100) == phrases


@pytest.mark.parametrize(
    ("prompt", "phrases"),
    [
        ("St. Bernard", ("St. Bernard",)),
        ("st. bernard, cat", ("st. bernard", "cat")),
        ("cat . light, red . dog", ("cat", "light, red", "dog")),
        ("light . red", ("light", "red")),
        ("st. bernardino", ("st", "bernardino")),
        ("cat.dog", ("cat", "dog")),
    ],
)
def test_a_label_with_a_separator_inside_stays_whole(prompt, phrases):
    assert split_prompt(prompt, 100, ["St. Bernard", "light, red", "cat"]) == phrases


def test_a_prompt_over_the_limit_is_refused():
    with pytest.raises(PromptError, match="longer than 10 characters"):
        split_prompt("x" * 11, 10)


def test_each_value_comes_from_the_strongest_that_gives_it():
    applies = what_applies(
        context=Asked(prompt="typed"),
        drafts=Asked(prompt="drafted", box_threshold=0.0),
        remembered=Asked(box_threshold=0.5, text_threshold=0.6),
        config=Asked(box_threshold=0.7),
        settings=Asked(None, 0.3, 0.25),
    )
    assert applies == Asked("typed", 0.0, 0.6)


def test_zero_threshold_is_not_replaced_by_default():
    nothing = Asked()
    applies = what_applies(
        context=Asked(box_threshold=0.0, text_threshold=0.0),
        drafts=nothing,
        remembered=nothing,
        config=nothing,
        settings=Asked(None, 0.3, 0.25),
    )
    assert applies == Asked(None, 0.0, 0.0)
