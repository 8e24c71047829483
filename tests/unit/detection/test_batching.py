import asyncio
import itertools
import random
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from types import SimpleNamespace
from typing import Any, Never

import pytest

from prelabel.detection import batching
from prelabel.detection.batching import BatchGate
from prelabel.errors import DetectionError, DeviceMemoryError, PromptError
from prelabel.observability.request_context import request_id_scope


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coroutine)


class Recorder:
    """A model that doubles numbers, remembers its batches, and can be held."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.batches: list[list[Any]] = []
        self.seconds = seconds

    def __call__(self, items: Sequence[Any]) -> list[Any]:
        self.batches.append(list(items))
        time.sleep(self.seconds)
        if "bad" in items:
            raise ValueError("a tensor's shape")
        if "refused" in items:
            raise PromptError("Use plain words.")
        return [item * 2 for item in items]


async def submit_while_busy(
    gate: BatchGate[Any, Any], items: list[Any] | range, bucket: Callable[..., Any] = lambda item: 0
) -> tuple[Any, list[Any]]:
    """The first item occupies the device; the others arrive meanwhile."""
    first = asyncio.create_task(gate.submit(1, "first"))
    await asyncio.sleep(0.01)
    rest = [asyncio.create_task(gate.submit(item, bucket(item))) for item in items]
    await asyncio.sleep(0)
    return first, rest


def test_items_that_arrive_during_a_pass_become_one_batch() -> None:
    model = Recorder(seconds=0.05)

    async def scenario() -> None:
        gate = BatchGate(model, max_batch_size=8)
        first, rest = await submit_while_busy(gate, [2, 3, 4])
        assert await asyncio.gather(first, *rest) == [2, 4, 6, 8]

    run(scenario())
    assert model.batches == [[1], [2, 3, 4]]


def test_batches_respect_the_limit_and_the_order_of_arrival() -> None:
    model = Recorder(seconds=0.02)

    async def scenario() -> None:
        gate = BatchGate(model, max_batch_size=2)
        first, rest = await submit_while_busy(gate, [2, 3, 4, 5, 6])
        await asyncio.gather(first, *rest)

    run(scenario())
    assert model.batches == [[1], [2, 3], [4, 5], [6]]


def test_urgent_items_go_first_in_a_batch_of_their_own() -> None:
    model = Recorder(seconds=0.02)

    async def scenario() -> None:
        gate = BatchGate(model, max_batch_size=3)
        first, rest = await submit_while_busy(gate, [2, 4, 3, 5, 6, 8], bucket=lambda i: i % 2)
        urgent = [asyncio.create_task(gate.submit(i, 1, urgent=True)) for i in (7, 9)]
        await asyncio.sleep(0)
        await asyncio.gather(first, *rest, *urgent)

    run(scenario())
    assert model.batches == [[1], [7, 9], [2, 4, 6], [3, 5], [8]]


def test_only_items_of_one_bucket_share_a_batch_and_the_oldest_goes_first() -> None:
    model = Recorder(seconds=0.02)

    async def scenario() -> None:
        gate = BatchGate(model, max_batch_size=8)
        first, rest = await submit_while_busy(gate, [2, 3, 4, 5], bucket=lambda item: item % 2)
        await asyncio.gather(first, *rest)

    run(scenario())
    assert model.batches == [[1], [2, 4], [3, 5]]


def test_one_bad_item_does_not_affect_its_batch() -> None:
    model = Recorder(seconds=0.02)

    async def scenario() -> Any:
        gate = BatchGate(model, max_batch_size=8)
        _, rest = await submit_while_busy(gate, [2, "bad", 4])
        return await asyncio.gather(*rest, return_exceptions=True)

    before, bad, after = run(scenario())
    assert (before, after) == (4, 8)
    assert isinstance(bad, DetectionError)
    assert "tensor" not in str(bad)


def test_prelabel_errors_reach_the_caller_unchanged() -> None:
    async def scenario() -> None:
        await BatchGate(Recorder(), max_batch_size=8).submit("refused", 0)

    with pytest.raises(PromptError, match=r"Use plain words\."):
        run(scenario())


def test_a_cancelled_item_is_never_run_and_harms_no_neighbour() -> None:
    model = Recorder(seconds=0.05)

    async def scenario() -> Any:
        gate = BatchGate(model, max_batch_size=8)
        _, rest = await submit_while_busy(gate, [2, 3, 4])
        rest[1].cancel()
        return await asyncio.gather(*rest, return_exceptions=True)

    before, cancelled, after = run(scenario())
    assert (before, after) == (4, 8)
    assert isinstance(cancelled, asyncio.CancelledError)
    assert model.batches == [[1], [2, 4]]


def test_an_item_cancelled_during_its_forward_harms_no_neighbour() -> None:
    async def scenario() -> Any:
        gate = BatchGate(Recorder(seconds=0.05), max_batch_size=8)
        first, rest = await submit_while_busy(gate, [2, 3])
        await first
        await asyncio.sleep(0.01)
        rest[0].cancel()
        return await rest[1], await gate.submit(5, 0)

    assert run(scenario()) == (6, 10)


def test_a_model_that_loses_a_result_fails_its_items_instead_of_mixing_them_up() -> None:
    async def scenario() -> None:
        gate: BatchGate[int, int] = BatchGate(lambda items: [], max_batch_size=8)
        await gate.submit(1, 0)

    with pytest.raises(DetectionError):
        run(scenario())


def test_the_event_loop_stays_alive_during_a_forward() -> None:
    released = threading.Event()

    def model(items: Sequence[int]) -> Sequence[int]:
        assert released.wait(30), "the event loop stood still"
        return items

    async def scenario() -> tuple[float, float]:
        gate = BatchGate(model, max_batch_size=8)
        running = asyncio.create_task(gate.submit(1, 0))
        while not gate.busy_s:
            await asyncio.sleep(0.001)
        busy_s = gate.busy_s
        released.set()
        await running
        return busy_s, gate.busy_s

    busy_s, idle_s = asyncio.run(scenario())
    assert busy_s > 0
    assert idle_s == 0


def test_failures_in_a_row_are_counted_until_a_success() -> None:
    async def scenario() -> Any:
        gate = BatchGate(Recorder(), max_batch_size=1)
        for _ in range(3):
            with pytest.raises(DetectionError):
                await gate.submit("bad", 0)
        failures = gate.failures_in_a_row
        await gate.submit(1, 0)
        return failures, gate.failures_in_a_row

    assert run(scenario()) == (3, 0)


def test_open_loop_at_twice_the_unbatched_capacity_stays_prompt() -> None:
    """A model of 40 + 10 n ms does 20 items/s alone; at 40/s only good batches keep up. The clock
    is simulated: it advances with the batches, and items arrive when it has reached their time.
    """
    generator = random.Random(0)
    due_s = deque(itertools.accumulate(generator.expovariate(40) for _ in range(240)))
    now_s = 0.0
    sizes: list[int] = []
    latencies_s: list[float] = []
    submitted: list[asyncio.Task[float]] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()

        def model(arrivals_s: Sequence[float]) -> Sequence[float]:
            nonlocal now_s
            now_s += 0.040 + 0.010 * len(arrivals_s)
            latencies_s.extend(now_s - arrived_s for arrived_s in arrivals_s)
            asyncio.run_coroutine_threadsafe(arrive(), loop).result(30)
            return arrivals_s

        gate = BatchGate(model, max_batch_size=8, on_batch=sizes.append)

        async def arrive() -> None:
            nonlocal now_s
            if due_s and not gate.waiting:
                now_s = max(now_s, due_s[0])  # the device would be idle until then
            while due_s and due_s[0] <= now_s:
                submitted.append(asyncio.create_task(gate.submit(due_s.popleft(), 0)))
            await asyncio.sleep(0)  # the tasks join the queue

        await arrive()
        while len(latencies_s) < 240:
            await asyncio.gather(*submitted)

    asyncio.run(scenario())
    assert statistics.quantiles(latencies_s, n=20)[-1] < 0.3
    assert statistics.mean(sizes) > 2


def test_slow_items_make_smaller_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 0.0
    monkeypatch.setattr(batching, "time", SimpleNamespace(monotonic=lambda: now_s))

    class SlowModel(Recorder):
        def __call__(self, items: Sequence[Any]) -> list[Any]:
            nonlocal now_s
            now_s += 0.05 * len(items)
            return super().__call__(items)

    model = SlowModel(seconds=0.05)

    async def scenario() -> None:
        gate = BatchGate(model, max_batch_size=8, max_batch_s=0.12)
        first, rest = await submit_while_busy(gate, [2, 3, 4, 5, 6])
        await asyncio.gather(first, *rest)

    run(scenario())
    assert model.batches == [[1], [2, 3], [4, 5], [6]]


def test_a_bad_batch_counts_once_and_a_refused_item_not_at_all() -> None:
    async def scenario() -> Any:
        gate = BatchGate(Recorder(seconds=0.02), max_batch_size=8)
        _, rest = await submit_while_busy(gate, ["bad", "bad", "bad"])
        await asyncio.gather(*rest, return_exceptions=True)
        after_batch = gate.failures_in_a_row
        with pytest.raises(PromptError):
            await gate.submit("refused", 0)
        return after_batch, gate.failures_in_a_row

    assert run(scenario()) == (1, 0)


def test_a_broken_meter_fails_the_batch_and_not_the_gate() -> None:
    def broken(size: int) -> Never:
        raise RuntimeError(size)

    async def scenario() -> None:
        gate = BatchGate(Recorder(), max_batch_size=8, on_batch=broken)
        for _ in range(2):
            with pytest.raises(DetectionError):
                await gate.submit(1, 0)

    run(scenario())


def test_the_log_of_a_failed_batch_names_its_requests(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        gate = BatchGate(Recorder(), max_batch_size=8)
        with pytest.raises(DetectionError), request_id_scope("request-7"):
            await gate.submit("bad", 0)

    run(scenario())
    assert "request-7" in caplog.text


class SmallDevice(Recorder):
    """Holds at most so many items; `room` can change."""

    def __init__(self, room: int, seconds: float = 0.01) -> None:
        super().__init__(seconds)
        self.room = room

    def __call__(self, items: Sequence[Any]) -> list[Any]:
        doubled = super().__call__(items)
        if len(items) > self.room:
            raise DeviceMemoryError("does not fit")
        return doubled


def test_a_batch_that_does_not_fit_is_halved_and_loses_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = SmallDevice(room=3)

    async def scenario() -> Any:
        gate = BatchGate(model, max_batch_size=8)
        first, rest = await submit_while_busy(gate, range(2, 10))
        answers = await asyncio.gather(first, *rest)
        again_first, again = await submit_while_busy(gate, range(2, 6))
        await asyncio.gather(again_first, *again)
        return answers

    assert run(scenario()) == [item * 2 for item in range(1, 10)]
    assert [len(batch) for batch in model.batches[:5]] == [1, 8, 4, 2, 2]
    assert max(len(batch) for batch in model.batches[8:]) <= 3
    assert (
        "A batch of 8 items did not fit the device's memory. Batches have at most 4 items"
        in caplog.text
    )


def test_an_item_that_does_not_fit_alone_fails_alone() -> None:
    class Device(Recorder):
        def __call__(self, items: Sequence[Any]) -> list[Any]:
            if "large" in items:
                raise DeviceMemoryError("does not fit")
            return super().__call__(items)

    async def scenario() -> Any:
        gate = BatchGate(Device(seconds=0.01), max_batch_size=8)
        first, rest = await submit_while_busy(gate, [2, "large", 3, 4])
        return await asyncio.gather(first, *rest, return_exceptions=True)

    first, second, large, third, fourth = run(scenario())
    assert (first, second, third, fourth) == (2, 4, 6, 8)
    assert isinstance(large, DeviceMemoryError)


def test_larger_batches_are_tried_again_in_time() -> None:
    model = SmallDevice(room=2, seconds=0)

    async def scenario() -> None:
        gate = BatchGate(model, max_batch_size=4)
        first, rest = await submit_while_busy(gate, range(2, 6))
        await asyncio.gather(first, *rest)
        model.room, model.batches = 4, []
        await asyncio.gather(*(gate.submit(item, 0) for item in range(1200)))

    run(scenario())
    sizes = [len(batch) for batch in model.batches]
    assert max(sizes[:90]) <= 2
    assert max(sizes) == 4


def test_waits_and_passes_are_observed() -> None:
    told = []

    async def scenario() -> None:
        gate = BatchGate(
            Recorder(seconds=0.05), max_batch_size=8, observe=lambda *each: told.append(each)
        )
        first, rest = await submit_while_busy(gate, [2, 3])
        assert gate.waiting == 2
        await asyncio.gather(first, *rest)
        assert gate.waiting == 0

    run(scenario())
    waits = [seconds for stage, seconds in told if stage == "queue"]
    passes = [seconds for stage, seconds in told if stage == "forward"]
    first_s, *others_s = waits
    assert len(others_s) == len(passes) == 2
    assert 0 <= first_s < min(others_s)  # the others wait for the first one's pass
    assert min(passes) >= 0.05
