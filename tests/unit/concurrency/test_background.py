from __future__ import annotations

import asyncio
import gc
import weakref

from prelabel.concurrency.background import BackgroundTasks


def test_a_task_that_nothing_else_refers_to_runs_to_its_end() -> None:
    async def run() -> list[str]:
        tasks, ended = BackgroundTasks(), []

        async def work() -> None:
            # Nothing but the task refers to the future that it waits for, and so to the task.
            future = asyncio.get_running_loop().create_future()
            waiting.append(weakref.ref(future))
            await future
            ended.append("ended")

        waiting: list[weakref.ref[asyncio.Future[None]]] = []
        tasks.start(work())
        await asyncio.sleep(0)
        gc.collect()
        future = waiting[0]()
        assert future is not None, "the task was collected while it ran"
        future.set_result(None)
        del future
        for _ in range(3):
            await asyncio.sleep(0)
        return ended

    assert asyncio.run(run()) == ["ended"]


def test_a_task_that_has_ended_is_released() -> None:
    async def run() -> None:
        tasks = BackgroundTasks()

        async def work() -> int:
            return 7

        task = tasks.start(work())
        assert await task == 7
        reference = weakref.ref(task)
        del task
        await asyncio.sleep(0)
        gc.collect()
        assert reference() is None

    asyncio.run(run())
