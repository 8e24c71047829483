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
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from prelabel.errors import DetectionError, DeviceMemoryError, PrelabelError
from prelabel.observability.request_context import current_request_id
from prelabel.observability.timing import Observe, ignore_stage

logger = logging.getLogger(__name__)

MAX_BATCH_S = 0.5
_BATCHES_TO_RECOVER = 100

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


@dataclass(slots=True)
class _Waiting(Generic[ItemT, ResultT]):
    item: ItemT
    bucket: Hashable
    urgent: bool
    request_id: str
    answer: asyncio.Future[ResultT]
    context: Context | None  # of its caller, where somebody is told of each item
    since: float = field(default_factory=time.monotonic)

    @property
    def likeness(self) -> Hashable:
        """Equal for what may share a batch."""
        return self.urgent, self.bucket


def device_thread() -> ThreadPoolExecutor:
    """One thread, for all that computes on the device: loading, too.

    Each thread that computes on a CPU gets helpers of its own from OpenMP, for good. Where there
    are more of them than cores, those that wait for the next layer sleep instead of spinning, and
    a pass of the demo model takes more than twice as long.
    """
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="device")


class BatchGate(Generic[ItemT, ResultT]):
    """One queue in front of one device thread. All methods belong to one event loop.

    run: the model; items of one bucket in, as many results out, in order; called in a thread of
        its own, so that the event loop and the health check stay alive.
    max_batch_size, max_batch_s: most items of a batch, and most seconds that it should take: where
        an item takes seconds, batches gain nothing, and everybody would wait for the whole.
    on_batch: told the size of each batch; observe: how long items wait ("queue") and batches take
        ("forward"); trace: told the same of each item, in its caller's context.
    device: the thread that runs the model, where it must be that which loaded it.
    """

    def __init__(
        self,
        run: Callable[[Sequence[ItemT]], Sequence[ResultT]],
        *,
        max_batch_size: int,
        max_batch_s: float = MAX_BATCH_S,
        on_batch: Callable[[int], None] | None = None,
        observe: Observe = ignore_stage,
        trace: Observe | None = None,
        device: ThreadPoolExecutor | None = None,
    ) -> None:
        self._run = run
        self._max_batch_size = max_batch_size
        self._max_batch_s = max_batch_s
        self._on_batch = on_batch
        self._observe = observe
        self._trace = trace
        self._waiting: deque[_Waiting[ItemT, ResultT]] = deque()
        self._device = device or device_thread()
        self._worker: asyncio.Task[None] | None = None
        self._busy_since: float | None = None
        self._item_s: float | None = None  # seconds per item in the last batch
        self._fitting = max_batch_size  # items that the device's memory holds
        self._since_it_was_full = 0  # batches
        self.failures_in_a_row = 0  # batches without one result

    async def submit(self, item: ItemT, bucket: Hashable, *, urgent: bool = False) -> ResultT:
        """The item's result. If the caller is cancelled while it waits, it is never run.

        urgent: somebody is looking at the page; it goes before all that is not, and never with it.
        Raises DetectionError if the model fails on this very item.
        """
        answer: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()
        context = copy_context() if self._trace else None
        self._waiting.append(_Waiting(item, bucket, urgent, current_request_id(), answer, context))
        if self._worker is None or self._worker.done():
            # It works for all, and not in the context of the one who came first.
            self._worker = asyncio.create_task(self._work(), context=Context())
        return await answer

    @property
    def busy_s(self) -> float:
        """Seconds that the current batch has been running; 0 when the device is free."""
        return 0.0 if self._busy_since is None else time.monotonic() - self._busy_since

    @property
    def waiting(self) -> int:
        """Items that wait for the device."""
        return len(self._waiting)

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
        now = time.monotonic()
        for waiting in batch:
            self._observe("queue", now - waiting.since)
            self._tell(waiting, "queue", now - waiting.since)
        taken = {id(waiting) for waiting in batch}
        self._waiting = deque(waiting for waiting in alive if id(waiting) not in taken)
        return batch

    def _tell(self, waiting: _Waiting[ItemT, ResultT], stage: str, seconds: float) -> None:
        if self._trace is not None and waiting.context is not None:
            waiting.context.run(self._trace, stage, seconds)

    def _limit(self) -> int:
        """As many as fit the time that a batch may take, by what the last one took per item, and
        the device's memory.
        """
        if self._item_s is None:
            return 1
        in_time = int(self._max_batch_s / max(self._item_s, 1e-6))
        return max(1, min(self._fitting, in_time))

    async def _answer(self, batch: Sequence[_Waiting[ItemT, ResultT]]) -> bool:
        """Whether the model worked, which includes refusing what is wrong with an item."""
        outcome = await self._forward(batch)
        if not isinstance(outcome, PrelabelError):
            for waiting, result in zip(batch, outcome, strict=True):
                if not waiting.answer.done():
                    waiting.answer.set_result(result)
            self._make_room_again()
            return True
        if len(batch) == 1:
            if not batch[0].answer.done():
                batch[0].answer.set_exception(outcome)
            return not isinstance(outcome, DetectionError)
        if isinstance(outcome, DeviceMemoryError):
            self._fitting, self._since_it_was_full = len(batch) // 2, 0
            logger.warning(
                "a batch of %d did not fit the device's memory; the next ones have at most %d",
                len(batch),
                self._fitting,
            )
            parts = [batch[: self._fitting], batch[self._fitting :]]
        else:  # one bad item must not cost its neighbours: find it by running each alone
            parts = [[waiting] for waiting in batch]
        alive = [[w for w in part if not w.answer.done()] for part in parts]
        succeeded = [await self._answer(part) for part in alive if part]
        return any(succeeded)

    def _make_room_again(self) -> None:
        """Try larger batches some time after the device's memory was full: others may have used
        it, or the pictures were larger.
        """
        self._since_it_was_full += 1
        if self._fitting < self._max_batch_size and self._since_it_was_full >= _BATCHES_TO_RECOVER:
            self._fitting, self._since_it_was_full = self._fitting + 1, 0

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
                "the model failed on a batch of %d (requests %s)",
                len(items),
                requests,
                extra={"request_id": requests},
            )
            return DetectionError(
                "The model failed on this picture. The service's log says why; try another "
                "picture, or report this one."
            )
        finally:
            self._observe("forward", self.busy_s)
            for waiting in batch:
                self._tell(waiting, "forward", self.busy_s)
            self._item_s = self.busy_s / len(items)
            self._busy_since = None
        return results
