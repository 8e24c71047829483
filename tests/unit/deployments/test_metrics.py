"""The buffer of metric updates."""

import asyncio

from deployments.metrics import MetricBuffer


def test_metrics_are_flushed_in_order_and_not_within_the_call() -> None:
    async def run() -> None:
        told: list[object] = []
        later = MetricBuffer(0.01)
        for i in range(3):
            later(told.append, i)
        assert told == []
        await asyncio.sleep(0.1)
        assert told == [0, 1, 2]
        later(told.append, 3)
        await asyncio.sleep(0.1)
        assert told == [0, 1, 2, 3]

    asyncio.run(run())


def test_a_metric_that_ray_refuses_does_not_affect_the_others() -> None:
    async def run() -> None:
        told: list[object] = []
        later = MetricBuffer(0.01)
        later(int, "no number")
        later(told.append, 1)
        await asyncio.sleep(0.1)
        assert told == [1]

    asyncio.run(run())
