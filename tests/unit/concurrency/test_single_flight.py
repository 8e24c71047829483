import asyncio
import functools
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from prelabel.concurrency.single_flight import SingleFlightCache


def concurrent(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test; nothing in here takes a second."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), 5))

    return run


class Worker:
    """Work that waits to be let go, and counts how often it was begun and cancelled."""

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
async def test_the_second_to_ask_gets_the_first_one_s_result() -> None:
    results, worker = cache(), Worker()
    worker.go.set()
    assert [await results.get("key", worker) for _ in range(3)] == ["result"] * 3
    assert worker.begun == 1
    assert (results.hits, results.misses) == (2, 1)


@concurrent
async def test_who_asks_meanwhile_waits_for_the_same_work() -> None:
    results, worker = cache(), Worker()
    waiting = [asyncio.create_task(results.get("key", worker)) for _ in range(3)]
    await settle()
    worker.go.set()
    assert await asyncio.gather(*waiting) == ["result"] * 3
    assert worker.begun == 1


@concurrent
async def test_who_hurries_does_not_wait_for_slow_work_and_both_are_served() -> None:
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
async def test_an_error_reaches_all_who_wait_and_is_not_kept() -> None:
    results, worker = cache(), Worker(error=ValueError("broken"))
    waiting = [asyncio.create_task(results.get("key", worker)) for _ in range(2)]
    await settle()
    worker.go.set()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["broken", "broken"]
    assert not await is_kept(results, "key")


@concurrent
async def test_who_goes_away_leaves_the_work_to_the_others() -> None:
    results, worker = cache(), Worker()
    leaving, staying = [asyncio.create_task(results.get("key", worker)) for _ in range(2)]
    await settle()
    leaving.cancel()
    await settle()
    assert worker.cancelled == 0
    worker.go.set()
    assert await staying == "result"


@concurrent
async def test_work_that_nobody_waits_for_is_cancelled_and_begun_anew_for_the_next() -> None:
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
async def test_who_asks_just_after_the_last_left_gets_work_that_is_alive() -> None:
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
async def test_the_least_recently_used_are_dropped_above_the_limit() -> None:
    results = cache(max_bytes=3 * ENTRY + 10)
    for key in "abc":
        await kept(results, key, "xxx")
    assert await is_kept(results, "a")
    await kept(results, "d", "xxx")
    assert results.bytes == 3 * ENTRY + 9
    assert await is_kept(results, "a")
    assert not await is_kept(results, "b")


@concurrent
async def test_what_is_larger_than_the_limit_is_not_kept_and_drops_nothing() -> None:
    results = cache(max_bytes=ENTRY + 10)
    await kept(results, "s", "xxx")
    await kept(results, "l", "x" * 11)
    assert results.bytes == ENTRY + 3
    assert await is_kept(results, "s")


@concurrent
async def test_a_limit_of_zero_keeps_nothing_but_shares_what_is_under_way() -> None:
    results, worker = cache(max_bytes=0), Worker()
    waiting = [asyncio.create_task(results.get("key", worker)) for _ in range(2)]
    await settle()
    worker.go.set()
    assert await asyncio.gather(*waiting) == ["result"] * 2
    assert worker.begun == 1
    assert not await is_kept(results, "key")
    assert results.bytes == 0


@concurrent
async def test_what_is_too_old_is_done_again() -> None:
    now = [1000.0]
    results = cache(max_age_s=60, clock=lambda: now[0])
    await kept(results, "k", "xxx")
    now[0] += 59
    assert await is_kept(results, "k")
    now[0] += 2
    assert not await is_kept(results, "k")
    assert results.bytes == ENTRY + len("result")


@concurrent
async def test_what_is_too_old_makes_room_though_nobody_asks_for_it() -> None:
    now = [1000.0]
    results = cache(max_age_s=60, clock=lambda: now[0])
    for key in "abc":
        await kept(results, key, "xxx")
    now[0] += 61
    await kept(results, "d", "xxx")
    assert results.bytes == ENTRY + 3


@concurrent
async def test_empty_results_under_long_keys_take_room_too() -> None:
    results = cache(max_bytes=100_000)
    for i in range(1000):
        await kept(results, (f"{i}" + "x" * 1000, i), "")
    assert len(results._entries) < 30


@concurrent
async def test_work_that_began_before_a_clearing_is_neither_kept_nor_joined() -> None:
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
async def test_what_was_cleared_is_done_again() -> None:
    results = cache()
    await kept(results, "key", "xxx")
    results.clear()
    assert results.bytes == 0
    assert not await is_kept(results, "key")


@pytest.mark.parametrize("times", [1, 2])
@concurrent
async def test_sizes_add_up_where_two_ranks_keep_the_same_key(times: int) -> None:
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
