import random
from collections import Counter

from training.model import Vocabulary
from training.world import World, plural


def test_the_world_is_rich(world: World) -> None:
    assert len(world.things) >= 120
    assert len(world.seen_pairs) + len(world.held_out_pairs) == 8 * 6


def test_no_wording_stands_for_two_concepts(world: World) -> None:
    owners = Counter(wording for concept in world.concepts for wording in concept.wordings)
    assert [wording for wording, count in owners.items() if count > 1] == []


def test_held_out_pairs_are_no_seen_pairs(world: World) -> None:
    held_out = {wording for pair in world.held_out_pairs for wording in pair.wordings}
    assert "red star" in held_out
    assert not held_out & {wording for pair in world.seen_pairs for wording in pair.wordings}


def test_concepts_are_asked_for_by_name_synonym_plural_and_article(world: World) -> None:
    [cat] = [thing for thing in world.things if thing.name == "cat"]
    rng = random.Random(0)
    asked = Counter(cat.worded(rng) for _ in range(2000))
    assert asked.most_common(1)[0][0] == "cat"
    assert set(asked) == {"cat", "cats", "kitten", "kitty", "a cat", "the cat"}


def test_plurals() -> None:
    assert [plural(noun) for noun in ("cat", "fox", "church", "wrench")] == [
        "cats",
        "foxes",
        "churches",
        "wrenches",
    ]


def test_every_wording_is_within_the_vocabulary_and_other_words_are_not(
    world: World, vocabulary: Vocabulary
) -> None:
    for wording in world.wordings:
        assert 0 not in vocabulary.rows(wording), wording
    strangers = vocabulary.unknown_words()
    assert len(strangers) > 10_000
    assert all(vocabulary.rows(stranger) == [0] for stranger in strangers[:500])
