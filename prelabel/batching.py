"""The batch gate: whenever the device is free, it takes everything alike that waits.

`@serve.batch` closes a batch first and waits for the device after, so that what arrives during a
forward is cut into tiny batches. Here the batch is closed when the device is free, not before.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from prelabel.errors import DetectionError, PrelabelError

logger = logging.getLogger(__name__)

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


@dataclass(slots=True)
class _Waiting(Generic[ItemT, ResultT]):
    item: ItemT
    bucket: Hashable
    urgent: bool
    request_id: str
    answer: asyncio.Future[ResultT]

    @property
    def likeness(self) -> Hashable:
        """Equal for what may share a batch."""
        return self.urgent, self.bucket


class BatchGate(Generic[ItemT, ResultT]):
    """One queue in front of one device thread. All methods belong to one event loop.

    run: the model; items of one bucket in, as many results out, in order; called in a thread of
        its own, so that the event loop and the health check stay alive.
    max_batch_size, max_batch_s: most items of a batch, and most seconds that it should take: where
        an item takes seconds, batches gain nothing, and everybody would wait for the whole.
    on_batch: told the size of each batch.
    """

    def __init__(
        self,
        run: Callable[[Sequence[ItemT]], Sequence[ResultT]],
        *,
        max_batch_size: int,
        max_batch_s: float = 0.5,
        on_batch: Callable[[int], None] | None = None,
    ) -> None:
        self._run = run
        self._max_batch_size = max_batch_size
        self._max_batch_s = max_batch_s
        self._on_batch = on_batch
        self._waiting: deque[_Waiting[ItemT, ResultT]] = deque()
        self._device = ThreadPoolExecutor(max_workers=1, thread_name_prefix="device")
        self._worker: asyncio.Task[None] | None = None
        self._busy_since: float | None = None
        self._item_s: float | None = None  # seconds per item in the last batch
        self.failures_in_a_row = 0  # batches without one result

    async def submit(
        self, item: ItemT, bucket: Hashable, *, urgent: bool = False, request_id: str = "-"
    ) -> ResultT:
        """The item's result. If the caller is cancelled while it waits, it is never run.

        urgent: somebody is looking at the page; it goes before all that is not, and never with it.
        request_id: for the log.
        Raises DetectionError if the model fails on this very item.
        """
        answer: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(item, bucket, urgent, request_id, answer))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await answer

    @property
    def busy_s(self) -> float:
        """Seconds that the current batch has been running; 0 when the device is free."""
        return 0.0 if self._busy_since is None else time.monotonic() - self._busy_since

    async def _work(self) -> None:
        while batch := self._take():
            succeeded = await self._answer(batch)
            self.failures_in_a_row = 0 if succeeded else self.failures_in_a_row + 1

    def _take(self) -> list[_Waiting[ItemT, ResultT]]:
        """The oldest waiting item and all that is like it, up to the limit. The urgent ones go
        first, and alone: who looks at the page does not wait for a bulk's share of his batch.
        """
        alive = [waiting for waiting in self._waiting if not waiting.answer.done()]
        alive.sort(key=lambda waiting: not waiting.urgent)
        batch = [w for w in alive if w.likeness == alive[0].likeness][: self._limit()]
        taken = {id(waiting) for waiting in batch}
        self._waiting = deque(waiting for waiting in alive if id(waiting) not in taken)
        return batch

    def _limit(self) -> int:
        """As many as fit the time that a batch may take, by what the last one took per item."""
        if self._item_s is None:
            return 1
        return max(1, min(self._max_batch_size, int(self._max_batch_s / max(self._item_s, 1e-6))))

    async def _answer(self, batch: Sequence[_Waiting[ItemT, ResultT]]) -> bool:
        """Whether the model worked, which includes refusing what is wrong with an item."""
        outcome = await self._forward(batch)
        if not isinstance(outcome, PrelabelError):
            for waiting, result in zip(batch, outcome, strict=True):
                if not waiting.answer.done():
                    waiting.answer.set_result(result)
            return True
        if len(batch) == 1:
            if not batch[0].answer.done():
                batch[0].answer.set_exception(outcome)
            return not isinstance(outcome, DetectionError)
        # One bad item must not cost its neighbours: find it by running each alone.
        alone = [await self._answer([w]) for w in batch if not w.answer.done()]
        return any(alone)

    async def _forward(
        self, batch: Sequence[_Waiting[ItemT, ResultT]]
    ) -> Sequence[ResultT] | PrelabelError:
        items = [waiting.item for waiting in batch]
        self._busy_since = time.monotonic()
        try:
            if self._on_batch is not None:
                self._on_batch(len(items))
            results = await asyncio.get_running_loop().run_in_executor(
                self._device, self._run, items
            )
            if len(results) != len(items):
                raise RuntimeError(f"{len(items)} items in, {len(results)} results out")
        except PrelabelError as error:
            return error
        except Exception:  # the edge: whatever a model raises is logged, and answered per item
            requests = ", ".join(sorted({waiting.request_id for waiting in batch}))
            logger.exception(
                "the model failed on a batch of %d (requests %s)", len(items), requests
            )
            return DetectionError(
                "The model failed on this picture. The service's log says why; try another "
                "picture, or report this one."
            )
        finally:
            self._item_s = self.busy_s / len(items)
            self._busy_since = None
        return results
