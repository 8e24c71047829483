from datetime import UTC, datetime, timedelta

import pytest

from deployments.prompt_store import PromptStore
from prelabel.types import Asked

NOW = datetime.now(UTC)
CAT, DOG = Asked("cat"), Asked("dog")


def test_only_projects_that_were_asked_about_are_remembered():
    store = PromptStore()
    store.remember("1", NOW, CAT)
    assert store.recall("1") == Asked()
    store.remember("1", NOW, CAT)
    assert store.recall("1") == CAT


@pytest.mark.parametrize(("later_s", "kept"), [(1, DOG), (0, DOG), (-1, CAT)])
def test_the_newest_submit_counts_whenever_it_arrives(later_s, kept):
    store = PromptStore()
    store.recall("1")
    store.remember("1", NOW - timedelta(seconds=10), CAT)
    store.remember("1", NOW - timedelta(seconds=10 - later_s), DOG)
    assert store.recall("1") == kept


def test_a_time_in_the_future_cannot_pin_a_prompt():
    store = PromptStore()
    store.recall("1")
    store.remember("1", NOW + timedelta(days=9999), CAT)
    store.remember("1", datetime.now(UTC), DOG)
    assert store.recall("1") == DOG


def test_the_project_that_was_unused_longest_makes_room():
    store = PromptStore(most_projects=2)
    for project in ("1", "2", "1", "3"):
        store.recall(project)
        store.remember(project, NOW, CAT)
    assert [store.recall(project) for project in ("1", "3")] == [CAT, CAT]
    assert store.recall("2") == Asked()


def test_a_submit_of_a_threshold_alone_keeps_the_prompt():
    store = PromptStore()
    store.recall("1")
    store.remember("1", NOW - timedelta(seconds=2), CAT)
    store.remember("1", NOW - timedelta(seconds=1), Asked(box_threshold=0.0))
    assert store.recall("1") == Asked("cat", 0.0)
