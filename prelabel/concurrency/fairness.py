"""Work side by side: all of a task, whose turn is next where there is not room for all, and what
can come after.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Coroutine, Hashable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")


async def gather_or_cancel(works: Iterable[Coroutine[Any, Any, ResultT]]) -> list[ResultT]:
    """The results of what runs at the same time, in order. When one fails, or the caller goes away,
    the others are for nothing, and cancelled.
    """
    tasks = [asyncio.create_task(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


class FairSemaphore:
    """So many at a time; those who wait take turns by owner, so that a request of a thousand tasks
    does not keep one of ten waiting for all of them. All methods belong to one event loop.
    """

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._waiting: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def turn(self, owner: Hashable) -> AsyncIterator[None]:
        """Wait for a turn, and keep it for the block. Who is cancelled while he waits has none."""
        await self._acquire(owner)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, owner: Hashable) -> None:
        if self._free:
            self._free -= 1
            return
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self._release()  # it came too late
            raise

    def _release(self) -> None:
        while self._waiting:
            owner, queue = self._waiting.popitem(last=False)
            mine = queue.popleft()
            if queue:
                self._waiting[owner] = queue  # behind all others
            if not mine.done():
                mine.set_result(None)
                return
        self._free += 1
