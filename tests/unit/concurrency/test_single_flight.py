import asyncio
import functools
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from prelabel.concurrency.single_flight import SingleFlightCache


def concurrent(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test. Its time-out only ends a test that hangs."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), 5))

    return run


class Worker:
    """A computation that waits for `release`, and counts its starts and cancellations."""

    def __init__(self, value: str = "result", error: Exception | None = None) -> None:
        self.value, self.error = value, error
        self.begun = self.cancelled = 0
        self.go = asyncio.Event()

    async def __call__(self) -> str:
        self.begun += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return self.value


ENTRY = 304  # what an entry takes beside its value, under a key of one letter


def cache(
    max_bytes: int = 10_000,
    max_age_s: int | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> SingleFlightCache[Any]:
    return SingleFlightCache(len, max_bytes=max_bytes, max_age_s=max_age_s, clock=clock)


async def kept(results: SingleFlightCache[Any], key: str | tuple[str, int], value: str) -> None:
    worker = Worker(value)
    worker.go.set()
    await results.get(key, worker)


async def is_kept(results: SingleFlightCache[Any], key: str) -> bool:
    worker = Worker()
    worker.go.set()
    await results.get(key, worker)
    return worker.begun == 0


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@concurrent
async def test_a_second_lookup_returns_the_cached_result() -> None:
    results, worker = cache(), Worker()
    worker.go.set()
    assert [await results.get("key", worker) for _ in range(3)] == ["result"] * 3
    assert worker.begun == 1
    assert (results.hits, results.misses) == (2, 1)


@concurrent
async def test_concurrent_callers_share_one_computation() -> None:
    results, worker = cache(), Worker()
    waiting = [asyncio.create_task(results.get("key", worker)) for _ in range(3)]
    await settle()
    worker.go.set()
    assert await asyncio.gather(*waiting) == ["result"] * 3
    assert worker.begun == 1


@concurrent
async def test_an_urgent_caller_does_not_wait_for_a_slow_computation_and_both_get_results() -> None:
    results, slow, quick = cache(), Worker("slow"), Worker("quick")
    first = asyncio.create_task(results.get("key", slow, rank="bulk"))
    second = asyncio.create_task(results.get("key", quick, rank="urgent"))
    await settle()
    quick.go.set()
    assert await second == "quick"
    slow.go.set()
    assert await first == "slow"
    assert not results._in_flight


@concurrent
async def test_an_error_reaches_every_waiting_caller_and_is_not_cached() -> None:
    results, worker = cache(), Worker(error=ValueError("broken"))
    waiting = [asyncio.create_task(results.get("key", worker)) for _ in range(2)]
    await settle()
    worker.go.set()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["broken", "broken"]
    assert not await is_kept(results, "key")


@concurrent
async def test_a_cancelled_caller_does_not_cancel_the_shared_computation() -> None:
    results, worker = cache(), Worker()
    leaving, staying = [asyncio.create_task(results.get("key", worker)) for _ in range(2)]
    await settle()
    leaving.cancel()
    await settle()
    assert worker.cancelled == 0
    worker.go.set()
    assert await staying == "result"


@concurrent
async def test_a_computation_without_callers_is_cancelled_and_started_anew_for_the_next() -> None:
    results, worker = cache(), Worker()
    waiting = [asyncio.create_task(results.get("key", worker)) for _ in range(2)]
    await settle()
    for task in waiting:
        task.cancel()
    await settle()
    assert worker.cancelled == 1
    again = Worker("anew")
    again.go.set()
    assert await results.get("key", again) == "anew"


@concurrent
async def test_a_caller_that_follows_a_cancelled_one_gets_a_new_computation() -> None:
    results, worker = cache(), Worker()
    leaving = asyncio.create_task(results.get("key", worker))
    await settle()
    leaving.cancel()
    again = Worker("anew")
    again.go.set()
    coming = asyncio.create_task(results.get("key", again))
    await asyncio.gather(leaving, return_exceptions=True)
    assert await coming == "anew"


@concurrent
async def test_the_least_recently_used_entries_are_evicted_above_the_limit() -> None:
    results = cache(max_bytes=3 * ENTRY + 10)
    for key in "abc":
        await kept(results, key, "xxx")
    assert await is_kept(results, "a")
    await kept(results, "d", "xxx")
    assert results.bytes == 3 * ENTRY + 9
    assert await is_kept(results, "a")
    assert not await is_kept(results, "b")


@concurrent
async def test_a_result_larger_than_the_limit_is_not_cached_and_evicts_nothing() -> None:
    results = cache(max_bytes=ENTRY + 10)
    await kept(results, "s", "xxx")
    await kept(results, "l", "x" * 11)
    assert results.bytes == ENTRY + 3
    assert await is_kept(results, "s")


@concurrent
async def test_a_limit_of_zero_caches_nothing_but_coalesces_concurrent_calls() -> None:
    results, worker = cache(max_bytes=0), Worker()
    waiting = [asyncio.create_task(results.get("key", worker)) for _ in range(2)]
    await settle()
    worker.go.set()
    assert await asyncio.gather(*waiting) == ["result"] * 2
    assert worker.begun == 1
    assert not await is_kept(results, "key")
    assert results.bytes == 0


@concurrent
async def test_expired_entries_are_computed_again() -> None:
    now = [1000.0]
    results = cache(max_age_s=60, clock=lambda: now[0])
    await kept(results, "k", "xxx")
    now[0] += 59
    assert await is_kept(results, "k")
    now[0] += 2
    assert not await is_kept(results, "k")
    assert results.bytes == ENTRY + len("result")


@concurrent
async def test_expired_entries_are_evicted_without_a_lookup() -> None:
    now = [1000.0]
    results = cache(max_age_s=60, clock=lambda: now[0])
    for key in "abc":
        await kept(results, key, "xxx")
    now[0] += 61
    await kept(results, "d", "xxx")
    assert results.bytes == ENTRY + 3


@concurrent
async def test_long_keys_count_towards_the_limit() -> None:
    results = cache(max_bytes=100_000)
    for i in range(1000):
        await kept(results, (f"{i}" + "x" * 1000, i), "")
    assert len(results._entries) < 30


@concurrent
async def test_a_computation_from_before_a_clear_is_neither_cached_nor_shared() -> None:
    results, before = cache(), Worker("before")
    asking = asyncio.create_task(results.get("key", before))
    await settle()
    results.clear()
    after = Worker("after")
    after.go.set()
    assert await results.get("key", after) == "after"
    before.go.set()
    assert await asking == "before"
    assert await results.get("key", before) == "after"


@concurrent
async def test_cleared_entries_are_computed_again() -> None:
    results = cache()
    await kept(results, "key", "xxx")
    results.clear()
    assert results.bytes == 0
    assert not await is_kept(results, "key")


@pytest.mark.parametrize("times", [1, 2])
@concurrent
async def test_the_size_counts_a_key_once_when_both_ranks_store_it(times: int) -> None:
    results = cache()
    workers = [Worker("xxx") for _ in range(2)]
    for _ in range(times):
        asking = [
            asyncio.create_task(results.get("k", worker, rank=rank))
            for rank, worker in enumerate(workers)
        ]
        await settle()
        for worker in workers:
            worker.go.set()
        await asyncio.gather(*asking)
    assert results.bytes == ENTRY + 3


@concurrent
async def test_a_clearing_before_the_work_has_begun_fails_no_caller() -> None:
    results, worker = cache(), Worker("result")
    worker.go.set()
    caller = asyncio.create_task(results.get("key", worker))
    await asyncio.sleep(0)  # the caller has created the task of its work, which has not begun
    assert not worker.begun
    results.clear()
    assert await caller == "result"
    assert not await is_kept(results, "key")
