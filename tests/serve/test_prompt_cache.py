"""The cache of remembered prompts in an ingress, against the running service's store."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import ray
from ray import serve
from ray.serve.handle import DeploymentHandle

from deployments.handles import call
from deployments.prompt_cache import PromptCache
from prelabel.errors import PromptMemoryError
from prelabel.types import ProjectPrompts, PromptRequest
from tests.support.service_client import Service

PROJECTS = (f"{number}.77" for number in itertools.count(7700))
PATIENCE_S = 30
Store = DeploymentHandle[Any]


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """One event loop for all: a handle belongs to the loop in which it was used first."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def store(service: Service) -> Store:
    handle = serve.get_deployment_handle("PromptStore", "prelabel")
    # Serve ends its calls when the session ends, and this loop is closed then.
    handle._init(_run_router_in_separate_loop=True)  # type: ignore[no-untyped-call]
    return handle


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not await condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def listening(store: Store, project: str) -> PromptCache:
    """Return a cache that serves hits, because it watches the store for changes."""
    cache = PromptCache(store)

    async def keeps() -> bool:
        await cache.recall(project)
        return cache.cache.hits > 0

    await until(keeps)
    return cache


def test_the_store_is_asked_once_a_project(store: Store, runner: asyncio.Runner) -> None:
    async def scenario() -> None:
        project = next(PROJECTS)
        cache = await listening(store, project)
        asked = cache.cache.misses
        assert [await cache.recall(project) for _ in range(20)] == [ProjectPrompts()] * 20
        assert cache.cache.misses == asked

    runner.run(scenario())


def test_prompts_that_another_ingress_stores_arrive(store: Store, runner: asyncio.Runner) -> None:
    async def scenario() -> None:
        project = next(PROJECTS)
        cache = await listening(store, project)
        for prompt in ("a cat", "a dog"):
            await store.remember.remote(project, datetime.now(UTC), PromptRequest(prompt=prompt))

            async def knows(prompt: str = prompt) -> bool:
                return (await cache.recall(project)).submitted.prompt == prompt

            await until(knows)
        await store.forget.remote(project)

        async def forgot() -> bool:
            return await cache.recall(project) == ProjectPrompts()

        await until(forgot)

    runner.run(scenario())


def replicas() -> list[str]:
    return [
        actor["name"]
        for actor in ray.util.list_named_actors(all_namespaces=True)
        if "prelabel#PromptStore#" in actor["name"]
    ]


def end_replica() -> None:
    """Kill the store's replica. Serve starts another one, which takes seconds."""
    [name] = replicas()
    ray.kill(ray.get_actor(name, namespace="serve"), no_restart=True)
    # The kill is asynchronous: until then, the replica may still answer, and take the prompt along.
    deadline = time.monotonic() + PATIENCE_S
    while name in replicas():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_only_the_first_request_waits_for_a_store_that_does_not_answer(
    store: Store, runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        cache = await listening(store, next(PROJECTS))
        end_replica()
        monkeypatch.setattr("deployments.prompt_cache._TIMEOUT_S", 0)
        with pytest.raises(PromptMemoryError, match="does not answer"):
            await cache.recall(next(PROJECTS))
        monkeypatch.undo()
        with pytest.raises(PromptMemoryError, match="does not answer"):
            await cache.knows("1.1")
        monkeypatch.setattr("deployments.prompt_cache._UNAVAILABLE_S", 3600)
        project = next(PROJECTS)

        async def answers() -> bool:
            try:
                return await cache.recall(project) == ProjectPrompts()
            except PromptMemoryError:
                return False

        await until(answers)

    runner.run(scenario())


def test_a_replaced_store_is_asked_and_watched_again(store: Store, runner: asyncio.Runner) -> None:
    async def scenario() -> None:
        project = next(PROJECTS)
        cache = await listening(store, project)
        await store.remember.remote(project, datetime.now(UTC), PromptRequest(prompt="a cat"))
        end_replica()
        await call(store.remember, project, datetime.now(UTC), PromptRequest(prompt="a dog"))

        async def knows() -> bool:
            try:
                return (await cache.recall(project)).submitted.prompt == "a dog"
            except PromptMemoryError:  # the replica that replaces it takes seconds to start
                return False

        await until(knows)
        hits = cache.cache.hits

        async def keeps_again() -> bool:
            return await knows() and cache.cache.hits > hits

        await until(keeps_again)

    runner.run(scenario())
