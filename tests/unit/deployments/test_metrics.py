"""What is told to Ray, and when."""

import asyncio

from deployments.metrics import MetricBuffer


def test_figures_are_told_in_order_and_not_while_somebody_waits() -> None:
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


def test_a_figure_that_ray_refuses_costs_no_other() -> None:
    async def run() -> None:
        told: list[object] = []
        later = MetricBuffer(0.01)
        later(int, "no number")
        later(told.append, 1)
        await asyncio.sleep(0.1)
        assert told == [1]

    asyncio.run(run())
