import asyncio

import pytest

from prelabel.concurrency.fairness import FairSemaphore


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_no_more_than_the_slots_work_at_once() -> None:
    async def run() -> None:
        turns, working, most = FairSemaphore(3), 0, 0

        async def work(owner: object) -> None:
            nonlocal working, most
            async with turns.turn(owner):
                working += 1
                most = max(most, working)
                await asyncio.sleep(0.001)
                working -= 1

        await asyncio.gather(*(work(i % 2) for i in range(20)))
        assert (working, most) == (0, 3)

    asyncio.run(run())


def test_a_small_request_does_not_wait_for_a_large_one() -> None:
    async def run() -> None:
        turns, order = FairSemaphore(1), []

        async def work(owner: object) -> None:
            async with turns.turn(owner):
                order.append(owner)
                await asyncio.sleep(0)

        large = [asyncio.create_task(work("large")) for _ in range(50)]
        await settle()
        small = [asyncio.create_task(work("small")) for _ in range(3)]
        done_before = len(order)
        await asyncio.gather(*large, *small)
        last_of_small = len(order) - order[::-1].index("small")
        assert order.count("large") == 50
        assert last_of_small - done_before <= 7

    asyncio.run(run())


@pytest.mark.parametrize("waiting", [1, 2])
def test_a_cancelled_waiter_passes_its_turn_on(waiting: int) -> None:
    async def run() -> None:
        turns = FairSemaphore(1)
        hold = asyncio.Event()
        done = []

        async def work(name: str) -> None:
            async with turns.turn(name):
                if name == "first":
                    await hold.wait()
                done.append(name)

        tasks = {n: asyncio.create_task(work(n)) for n in ("first", "second", "third")}
        await settle()
        if waiting == 1:
            tasks["second"].cancel()  # while it waits
            hold.set()
        else:
            hold.set()
            await asyncio.sleep(0)  # the turn is on its way
            tasks["second"].cancel()
        await asyncio.wait(tasks.values())
        assert {"first", "third"} <= set(done)
        async with asyncio.timeout(1), turns.turn("fourth"):
            pass

    asyncio.run(run())
