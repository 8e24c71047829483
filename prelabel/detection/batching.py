"""The batch gate: one queue in front of the thread that runs the model.

Why a gate behind `@serve.batch`: Serve closes a batch first and waits for the device afterwards.
Queries that arrive during a forward pass would be cut into many small batches. So `@serve.batch`
only admits queries, and this gate forms a batch at the moment at which the device is free, out of
everything that has queued up by then.

Cost model: a batch of n items takes about a + b * n seconds. Larger batches pay the constant a less
often, but every item of a batch waits for the whole batch. So a batch takes at most
`max_batch_size` items and about `max_batch_s` seconds, which is predicted from the seconds per
item of the batch before. A model that needs seconds for an item therefore runs items one by one.

Order: urgent items (an annotator waits for the answer) run before bulk items and never share a
batch with them, because the bulk items would make the batch slower. Within a priority the oldest
item chooses the bucket (the resized size of the picture), and items of that bucket join it.

Memory: the queue has no limit of its own. The callers bound it: `max_ongoing_requests` of the
deployment limits the queries, and the detector limits the views that one query has prepared. The
memory of the device is found by trial: a batch that does not fit is run again in halves, and later
batches have at most the size of a half.

Failures: a batch that fails is run again item by item, so that one bad picture does not fail the
other items. An item whose caller was cancelled leaves the queue without being run.
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

# Every caller of a batch waits for the whole batch. `prelabel calibrate` proposes a
# `detection.max_batch_size` for the same number of seconds.
MAX_BATCH_S = 0.5
# Batches without a memory error before the limit grows by one item: the memory may have been full
# because of another program, or because of unusually large pictures.
_BATCHES_TO_RECOVER = 100
_MIN_ITEM_S = 1e-6  # a model in a test can be faster than the clock's resolution

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


@dataclass(slots=True)
class _QueuedItem(Generic[ItemT, ResultT]):
    item: ItemT
    bucket: Hashable
    urgent: bool
    request_id: str
    future: asyncio.Future[ResultT]
    context: Context | None  # the caller's, so that spans get the right parent; None: no traces
    queued_at: float = field(default_factory=time.monotonic)

    @property
    def batch_key(self) -> Hashable:
        """Items with equal keys may share a batch."""
        return self.urgent, self.bucket


def device_thread() -> ThreadPoolExecutor:
    """Return a pool of one thread, which must load the model as well as run it.

    On a CPU, OpenMP gives each thread that computes a permanent team of worker threads. If there
    are more of these workers than cores, they sleep between layers instead of spinning, and a
    forward pass takes twice as long.
    """
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="device")


class BatchGate(Generic[ItemT, ResultT]):
    """One queue in front of one device thread. All methods must run in one event loop.

    Args:
        run: The model. Takes items of one bucket and returns one result per item, in order. It is
            called in the device thread, so that the event loop and the health check keep running.
        max_batch_size: Largest number of items in a batch.
        max_batch_s: Seconds that a batch should take at most.
        on_batch: Called with the size of each batch.
        observe: Called with the stage and seconds: "queue" for the wait of each item, "forward"
            for the run of each batch.
        trace: Called with the same stages once for each item, in the context of the item's caller.
        device: The thread that runs the model. Pass the thread that loaded it; see `device_thread`.
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
        self._queue: deque[_QueuedItem[ItemT, ResultT]] = deque()
        self._device = device or device_thread()
        self._worker: asyncio.Task[None] | None = None
        self._busy_since: float | None = None
        self._run_s = 0.0  # seconds of the last batch
        self._item_s: float | None = None  # seconds per item in the last batch
        self._memory_limit = max_batch_size  # items that fit the device's memory, as far as known
        self._batches_since_limit = 0  # successful batches since `_memory_limit` changed
        self.failures_in_a_row = 0  # batches without any result, since the last success

    async def submit(self, item: ItemT, bucket: Hashable, *, urgent: bool = False) -> ResultT:
        """Queue an item and return its result.

        An item whose caller is cancelled while it is queued is never run.

        Args:
            item: Input of the model.
            bucket: Only items with equal buckets share a batch.
            urgent: An annotator waits for the result: the item runs before all bulk items.

        Raises:
            DetectionError: The model failed on this item.
        """
        future: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()
        context = copy_context() if self._trace else None
        self._queue.append(_QueuedItem(item, bucket, urgent, current_request_id(), future, context))
        if self._worker is None or self._worker.done():
            # An empty context: the worker outlives this call and serves other callers as well.
            self._worker = asyncio.create_task(self._work(), context=Context())
        return await future

    @property
    def busy_s(self) -> float:
        """Seconds that the current batch has been running; 0 when the device is free."""
        return 0.0 if self._busy_since is None else time.monotonic() - self._busy_since

    @property
    def waiting(self) -> int:
        """Number of items in the queue."""
        return len(self._queue)

    async def _work(self) -> None:
        while batch := self._next_batch():
            succeeded = await self._run_batch(batch)
            self.failures_in_a_row = 0 if succeeded else self.failures_in_a_row + 1

    def _next_batch(self) -> list[_QueuedItem[ItemT, ResultT]]:
        """Take the oldest item of the highest priority, and more items of its key."""
        pending = [queued for queued in self._queue if not queued.future.done()]
        pending.sort(key=lambda queued: not queued.urgent)  # stable: the order of arrival stays
        batch = [q for q in pending if q.batch_key == pending[0].batch_key][: self._batch_limit()]
        now = time.monotonic()
        for queued in batch:
            self._observe("queue", now - queued.queued_at)
            self._trace_stage(queued, "queue", now - queued.queued_at)
        taken = {id(queued) for queued in batch}
        self._queue = deque(queued for queued in pending if id(queued) not in taken)
        return batch

    def _trace_stage(self, queued: _QueuedItem[ItemT, ResultT], stage: str, seconds: float) -> None:
        if self._trace is not None and queued.context is not None:
            queued.context.run(self._trace, stage, seconds)

    def _batch_limit(self) -> int:
        """Return the number of items that fit both the time of a batch and the device's memory."""
        if self._item_s is None:
            return 1  # the first batch measures the speed
        in_time = int(self._max_batch_s / max(self._item_s, _MIN_ITEM_S))
        return max(1, min(self._memory_limit, in_time))

    async def _run_batch(self, batch: Sequence[_QueuedItem[ItemT, ResultT]]) -> bool:
        """Run a batch, in parts after a failure, and resolve the futures of its items.

        Returns True if the model worked, even if it refused an item with an error of its own.
        """
        outcome = await self._forward(batch)
        if not isinstance(outcome, PrelabelError):
            for queued, result in zip(batch, outcome, strict=True):
                if not queued.future.done():
                    queued.future.set_result(result)
            self._recover_memory_limit()
            return True
        if len(batch) == 1:
            if not batch[0].future.done():
                batch[0].future.set_exception(outcome)
            return not isinstance(outcome, DetectionError)
        parts = self._parts_to_retry(batch, outcome)
        pending = [[queued for queued in part if not queued.future.done()] for part in parts]
        succeeded = [await self._run_batch(part) for part in pending if part]
        return any(succeeded)

    def _parts_to_retry(
        self, batch: Sequence[_QueuedItem[ItemT, ResultT]], error: PrelabelError
    ) -> list[Sequence[_QueuedItem[ItemT, ResultT]]]:
        """Split a failed batch: in halves if the memory was full, else into single items."""
        if not isinstance(error, DeviceMemoryError):
            return [[queued] for queued in batch]
        self._memory_limit, self._batches_since_limit = len(batch) // 2, 0
        logger.warning(
            "A batch of %d items did not fit the device's memory. Batches have at most %d items "
            "from now on.",
            len(batch),
            self._memory_limit,
        )
        return [batch[: self._memory_limit], batch[self._memory_limit :]]

    def _recover_memory_limit(self) -> None:
        """Raise a limit that a memory error has lowered, by one item per `_BATCHES_TO_RECOVER`."""
        self._batches_since_limit += 1
        if (
            self._memory_limit < self._max_batch_size
            and self._batches_since_limit >= _BATCHES_TO_RECOVER
        ):
            self._memory_limit, self._batches_since_limit = self._memory_limit + 1, 0

    async def _forward(
        self, batch: Sequence[_QueuedItem[ItemT, ResultT]]
    ) -> Sequence[ResultT] | PrelabelError:
        items = [queued.item for queued in batch]
        self._busy_since = time.monotonic()
        try:
            if self._on_batch is not None:
                self._on_batch(len(items))
            results = await asyncio.get_running_loop().run_in_executor(
                self._device, self._timed_run, items
            )
            if len(results) != len(items):
                raise RuntimeError(f"{len(items)} items in, {len(results)} results out")
        except PrelabelError as error:
            return error
        except Exception:
            # The edge of the model: any exception is logged and becomes an error of the items.
            requests = ", ".join(sorted({queued.request_id for queued in batch}))
            logger.exception(
                "The model failed on a batch of %d items (requests %s).",
                len(items),
                requests,
                extra={"request_id": requests},
            )
            return DetectionError(
                "The model failed on this picture; the service's log has the cause. Try another "
                "picture, or report this one."
            )
        finally:
            self._observe("forward", self._run_s)
            for queued in batch:
                self._trace_stage(queued, "forward", self._run_s)
            self._item_s = self._run_s / len(items)
            self._busy_since = None
        return results

    def _timed_run(self, items: Sequence[ItemT]) -> Sequence[ResultT]:
        """Run the model, and record its seconds without the wait for the device's thread.

        Several gates may share a device.
        """
        started = time.monotonic()
        try:
            return self._run(items)
        finally:
            self._run_s = time.monotonic() - started
