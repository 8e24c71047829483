"""Work that is not done twice: results that are kept, and equal work in flight that is shared."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

ValueT = TypeVar("ValueT")

_ENTRY_BYTES = 300


@dataclass(slots=True)
class _Kept(Generic[ValueT]):
    value: ValueT
    size: int
    until: float


@dataclass(slots=True)
class _Running(Generic[ValueT]):
    work: asyncio.Task[ValueT]
    waiting: int = 0


class SingleFlightCache(Generic[ValueT]):
    """Results by key, the least recently used dropped first. All methods belong to one event loop.

    size_of: bytes of a result; max_bytes: of all that are kept, with their keys, 0 to keep none;
    max_age_s: how long a result is good, None for ever. Errors are not kept.
    """

    def __init__(
        self,
        size_of: Callable[[ValueT], int],
        *,
        max_bytes: int,
        max_age_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._size_of = size_of
        self._max_bytes = max_bytes
        self._max_age_s = float("inf") if max_age_s is None else max_age_s
        self._kept: OrderedDict[Hashable, _Kept[ValueT]] = OrderedDict()
        self._running: dict[Hashable, _Running[ValueT]] = {}
        self.bytes = 0
        self.hits = 0
        self.misses = 0

    async def get(
        self, key: Hashable, work: Callable[[], Awaitable[ValueT]], *, rank: Hashable = None
    ) -> ValueT:
        """The kept result, else that of the work, which is done once for all who ask meanwhile.

        rank: who asks with another waits for work of his own: what hurries does not wait for what
        does not. The work is cancelled when all who wait for it are.
        """
        kept = self._find(key)
        if kept is not None:
            self.hits += 1
            return kept.value
        running = self._running.get((key, rank))
        if running is None:
            self.misses += 1
            task = asyncio.create_task(self._do(key, rank, work))
            running = self._running[key, rank] = _Running(task)
        else:
            self.hits += 1
        running.waiting += 1
        try:
            return await asyncio.shield(running.work)
        finally:
            running.waiting -= 1
            if not running.waiting and not running.work.done():
                running.work.cancel()
                self._forget(key, rank, running)

    async def _do(
        self, key: Hashable, rank: Hashable, work: Callable[[], Awaitable[ValueT]]
    ) -> ValueT:
        mine = self._running[key, rank]
        try:
            value = await work()
            if self._running.get((key, rank)) is mine:
                self._keep(key, value)
            return value
        finally:
            self._forget(key, rank, mine)

    def _forget(self, key: Hashable, rank: Hashable, mine: _Running[ValueT]) -> None:
        if self._running.get((key, rank)) is mine:
            del self._running[key, rank]

    def clear(self) -> None:
        """Keep nothing of what is kept now, or under way: it may have begun before a change."""
        self._running.clear()
        for key in list(self._kept):
            self._drop(key)

    def _find(self, key: Hashable) -> _Kept[ValueT] | None:
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept.until < self._clock():
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return kept

    def _keep(self, key: Hashable, value: ValueT) -> None:
        size = self._size_of(value) + _size_of_key(key)
        self._drop(key)
        if size > self._max_bytes:
            return
        while self._kept and next(iter(self._kept.values())).until < self._clock():
            self._drop(next(iter(self._kept)))
        self._kept[key] = _Kept(value, size, self._clock() + self._max_age_s)
        self.bytes += size
        while self.bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: Hashable) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self.bytes -= kept.size


def _size_of_key(key: Hashable) -> int:
    """About what a key and its entry take: an empty result is kept under a long address, too."""
    if isinstance(key, tuple):
        return _ENTRY_BYTES + sum(_size_of_key(part) for part in key)
    return _ENTRY_BYTES + (len(key) * 4 if isinstance(key, str | bytes) else 0)
