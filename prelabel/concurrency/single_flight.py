"""A result cache that coalesces concurrent computations of the same key (single-flight)."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

ValueT = TypeVar("ValueT")

# Approximate memory of an entry's own objects (key, entry, slots of the dict) beside its value.
_ENTRY_BYTES = 300


@dataclass(slots=True)
class _Entry(Generic[ValueT]):
    value: ValueT
    size: int  # bytes, with the key
    expires_at: float  # by the clock


@dataclass(slots=True)
class _Flight(Generic[ValueT]):
    """A computation in progress, and the number of callers that await it."""

    task: asyncio.Task[ValueT] = field(init=False)
    waiters: int = 0


class SingleFlightCache(Generic[ValueT]):
    """An LRU cache of results, bounded in bytes, that runs one computation per key at a time.

    Concurrent callers of a key share one computation. A cancelled caller stops waiting and leaves
    the computation to the remaining callers; when the last caller is cancelled, the computation is
    cancelled too. Errors reach all waiting callers and are not cached. All methods belong to one
    event loop.

    Args:
        size_of: Returns the size of a result in bytes.
        max_bytes: Limit of all cached results together with their keys. 0 disables caching;
            concurrent callers are still coalesced.
        max_age_s: Lifetime of a result in seconds; None for no limit.
        clock: Returns the current time in seconds.

    Attributes:
        bytes: Size of all cached results with their keys.
        hits: Calls that were answered from the cache or joined a computation.
        misses: Calls that started a computation.
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
        self._entries: OrderedDict[Hashable, _Entry[ValueT]] = OrderedDict()
        # By key and rank.
        self._in_flight: dict[tuple[Hashable, Hashable], _Flight[ValueT]] = {}
        self.bytes = 0
        self.hits = 0
        self.misses = 0

    async def get(
        self, key: Hashable, work: Callable[[], Awaitable[ValueT]], *, rank: Hashable = None
    ) -> ValueT:
        """Return the cached result of a key, or compute it once for all concurrent callers.

        Args:
            key: Identifies the result.
            work: Computes the result. It is called only if no computation can be joined.
            rank: Only computations of an equal rank are joined. A caller with a different rank
                starts its own, so that an urgent request does not wait for a computation that is
                queued with low priority.
        """
        entry = self._lookup(key)
        if entry is not None:
            self.hits += 1
            return entry.value
        flight = self._in_flight.get((key, rank))
        if flight is None:
            self.misses += 1
            flight = self._in_flight[key, rank] = _Flight()
            flight.task = asyncio.create_task(self._compute(key, rank, flight, work))
        else:
            self.hits += 1
        flight.waiters += 1
        try:
            # Shielded: the cancellation of one caller must not reach the shared task.
            return await asyncio.shield(flight.task)
        finally:
            flight.waiters -= 1
            if not flight.waiters and not flight.task.done():
                flight.task.cancel()
                # Forgotten at once, so that a new caller does not join a task that is ending.
                self._forget(key, rank, flight)

    async def _compute(
        self,
        key: Hashable,
        rank: Hashable,
        flight: _Flight[ValueT],
        work: Callable[[], Awaitable[ValueT]],
    ) -> ValueT:
        try:
            value = await work()
            # After clear(), this result may be older than the change behind that call.
            if self._in_flight.get((key, rank)) is flight:
                self._store(key, value)
            return value
        finally:
            self._forget(key, rank, flight)

    def _forget(self, key: Hashable, rank: Hashable, flight: _Flight[ValueT]) -> None:
        if self._in_flight.get((key, rank)) is flight:
            del self._in_flight[key, rank]

    def clear(self) -> None:
        """Drop all cached results, and do not cache the results of computations in progress.

        Callers that already wait still receive them; later callers start new computations.
        """
        self._in_flight.clear()
        for key in list(self._entries):
            self._drop(key)

    def _lookup(self, key: Hashable) -> _Entry[ValueT] | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.expires_at < self._clock():
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry

    def _store(self, key: Hashable, value: ValueT) -> None:
        size = self._size_of(value) + _size_of_key(key)
        self._drop(key)
        if size > self._max_bytes:
            return
        while self._entries and next(iter(self._entries.values())).expires_at < self._clock():
            self._drop(next(iter(self._entries)))
        self._entries[key] = _Entry(value, size, self._clock() + self._max_age_s)
        self.bytes += size
        while self.bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: Hashable) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= entry.size


def _size_of_key(key: Hashable) -> int:
    """Return the approximate bytes of a key and its entry.

    Keys count because an empty result may be stored under a long address.
    """
    if isinstance(key, tuple):
        return _ENTRY_BYTES + sum(_size_of_key(part) for part in key)
    # Up to 4 bytes a character, the widest form of a Python str.
    return _ENTRY_BYTES + (len(key) * 4 if isinstance(key, str | bytes) else 0)
