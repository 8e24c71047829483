import unicodedata
from itertools import product
from typing import Any

import pytest

from prelabel.errors import PromptError
from prelabel.phrases.names import fold, tidy
from prelabel.prompts.parser import ParsedPhrase, split_prompt
from prelabel.prompts.sources import PromptSources
from prelabel.settings import DetectionSettings
from prelabel.types import PromptRequest, Thresholds
from tests.support.work import count_calls


def phrases(prompt: str, names: list[str] | tuple[()] = ()) -> tuple[Any, ...]:
    wanted = split_prompt(prompt, 1000, names)
    assert all(each.label is None for each in wanted)
    return tuple(each.phrase for each in wanted)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("cat", ("cat",)),
        ("cats . house", ("cats", "house")),
        ("cat, dog; red  star", ("cat", "dog", "red star")),
        ("dog\n", ("dog",)),
        ("cat\r\ndog", ("cat", "dog")),
        (" . , ", ()),
        ("", ()),
        ("cat . cat", ("cat",)),
        ("猫，犬。鸟", ("猫", "犬", "鸟")),
    ],
)
def test_prompts_are_split(prompt: str, expected: tuple[Any, ...]) -> None:
    assert phrases(prompt) == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("St. Bernard", ("St. Bernard",)),
        ("st. bernard, cat", ("st. bernard", "cat")),
        ("cat . light, red . dog", ("cat", "light, red", "dog")),
        ("light . red", ("light", "red")),
        ("st. bernardino", ("st", "bernardino")),
        ("cat.dog", ("cat", "dog")),
        ("size: large, cat", ("size: large", "cat")),
    ],
)
def test_a_label_with_a_separator_inside_stays_whole(
    prompt: str, expected: tuple[Any, ...]
) -> None:
    assert phrases(prompt, ["St. Bernard", "light, red", "cat", "size: large"]) == expected


@pytest.mark.parametrize(
    "name",
    [
        "Fußgänger, Radfahrer",
        "Straße. X",
        "St.  Bernard",
        "St.\u00a0Bernard",
        "İ. X",
        "Cafe\u0301, noir",
        "Caf\u00e9, noir",
        "\u1fb3. x",
        "a: b; c",
        "?.",
    ],
)
def test_a_label_with_a_separator_inside_stays_whole_in_its_own_spelling(name: str) -> None:
    whole = tidy(name)
    for spelled in (name, unicodedata.normalize("NFD", name), whole, f" {name} "):
        assert phrases(spelled, [name]) == (whole,)
        assert phrases(f"cat, {spelled} . dog", [name, "dog"]) == ("cat", whole, "dog")
    assert [fold(each) for each in phrases(name.upper(), [name])] == [fold(name)]


NESTED = ["a." * count for count in range(1, 501)]
SPELLINGS = ["".join(case) for case in product("sS", repeat=12)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prompt", "names"),
    [
        ("a." * 2000, NESTED),
        ("a. " * 1300, [" ".join(name) for name in NESTED]),
        ("a." + " " * 3990 + "b", ["a. c", "a. b"]),
        (" " * 4000, ["a. b"]),
        ("ss.ss." * 600, [f"{name}.{name}" for name in SPELLINGS]),
        ("ß." * 2000, [".".join(case) for case in product(("ß", "ss", "SS"), repeat=7)]),
        ("\n" * 4000, []),
    ],
)
def test_splitting_a_prompt_takes_a_bounded_number_of_calls(prompt: str, names: list[str]) -> None:
    # Today 500 nested names take 1,000 calls a character, the other cases 130 at most.
    assert count_calls(lambda: split_prompt(prompt, 4000, names)) < 2000 * len(prompt)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("car: sedan, pickup . cat", [("sedan", "car"), ("pickup", "car"), ("cat", None)]),
        ("car: sedan\npickup", [("sedan", "car"), ("pickup", None)]),
        ("car: sedan, truck: lorry", [("sedan", "car"), ("lorry", "truck")]),
        ("car:\nsedan", [("sedan", "car")]),
        ("car:\nsedan, pickup", [("sedan", "car"), ("pickup", "car")]),
        ("car:\r\nsedan\r\nox", [("sedan", "car"), ("ox", None)]),
        ("car:\nperson:", [("car", None), ("person", None)]),
        ("car:\nperson: child", [("car", None), ("child", "person")]),
        ("car:\n\nox", [("car", None), ("ox", None)]),
        ("car:\ncats", [("car", None), ("cats", None)]),
        ("car: sedan,\nox", [("sedan", "car"), ("ox", None)]),
        ("car: truck: lorry", [("car", None), ("lorry", "truck")]),
        ("cat . car:", [("cat", None), ("car", None)]),
        (": cat", [("cat", None)]),
        ("size: large: ox, elephant", [("ox", "size: large"), ("elephant", "size: large")]),
        ("brown cat_cats", [("brown cat", "cats")]),
        ("snake_case . _cats", [("snake_case", None), ("_cats", None)]),
        ("brown_cats", [("brown_cats", None)]),
    ],
)
def test_a_prompt_can_say_which_label_a_phrase_gets(prompt: str, expected: list[Any]) -> None:
    names = ["cats", "size: large", "brown_cats"]
    wanted = split_prompt(prompt, 1000, names)
    assert sorted(wanted, key=str) == sorted((ParsedPhrase(*each) for each in expected), key=str)


def test_a_prompt_over_the_limit_is_refused() -> None:
    with pytest.raises(PromptError, match="longer than 10 characters"):
        split_prompt("x" * 11, 10)


def test_each_value_comes_from_the_strongest_that_gives_it() -> None:
    sources = PromptSources(
        context=PromptRequest(),
        drafts=(PromptRequest(prompt="drafted", box_threshold=0.0), PromptRequest(prompt="older")),
        task=PromptRequest(prompt="imported"),
        submitted=PromptRequest(box_threshold=0.5),
        project=PromptRequest(prompt="project", box_threshold=0.55, text_threshold=0.6),
        config=PromptRequest(box_threshold=0.7),
    )
    assert sources.thresholds(DetectionSettings(), score_threshold=0.65) == Thresholds(0.0, 0.6)
    assert list(sources.older_prompts()) == ["drafted", "older", "imported", "project"]


def test_the_settings_apply_last_and_a_label_before_the_config() -> None:
    sources = PromptSources(PromptRequest(), config=PromptRequest(None, 0.7, 0.8))
    settings = DetectionSettings(box_threshold=0.3, text_threshold=0.25)
    assert PromptSources(PromptRequest()).thresholds(settings) == Thresholds(0.3, 0.25)
    assert sources.thresholds(settings) == Thresholds(0.7, 0.8)
    assert sources.thresholds(settings, score_threshold=0.6) == Thresholds(0.6, 0.8)


def test_zero_threshold_is_not_replaced_by_default() -> None:
    sources = PromptSources(PromptRequest(box_threshold=0.0, text_threshold=0.0))
    assert sources.thresholds(DetectionSettings()) == Thresholds(0.0, 0.0)
