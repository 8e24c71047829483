"""A structured gather, and a semaphore that is fair by owner."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Coroutine, Hashable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")


async def gather_or_cancel(works: Iterable[Coroutine[Any, Any, ResultT]]) -> list[ResultT]:
    """Run coroutines concurrently and return their results in order.

    If one fails or the caller is cancelled, the remaining coroutines are cancelled.
    `asyncio.gather` alone would let them run on.
    """
    tasks = [asyncio.create_task(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


class FairSemaphore:
    """A semaphore whose waiters acquire round-robin by owner, first in first out within an owner.

    A request of a thousand tasks therefore does not delay a request of ten until it has finished.
    All methods belong to one event loop.

    Args:
        slots: Number of holders at a time.
    """

    def __init__(self, slots: int) -> None:
        self._free = slots
        # Owners in the order of their next turn; each with its waiters, oldest first.
        self._waiters: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def turn(self, owner: Hashable) -> AsyncIterator[None]:
        """Acquire a slot for an owner and release it after the block.

        A caller that is cancelled while it waits holds no slot.
        """
        await self._acquire(owner)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, owner: Hashable) -> None:
        if self._free:
            self._free -= 1
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(owner, deque()).append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                # The slot was handed over in the same iteration of the loop as the cancellation.
                self._release()
            raise

    def _release(self) -> None:
        while self._waiters:
            owner, queue = self._waiters.popitem(last=False)
            waiter = queue.popleft()
            if queue:
                self._waiters[owner] = queue  # behind all other owners
            if not waiter.done():  # cancelled waiters stay in their queue until they are reached
                waiter.set_result(None)
                return
        self._free += 1
