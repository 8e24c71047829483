"""Passes that are recorded, and those where recording does not work.

CUDA is not here: a recording that copies its inputs and runs the pass again stands for a graph.
"""

from __future__ import annotations

import logging

import pytest
import torch

from prelabel.engines.graphs import GraphedPasses, Run, Tensors, filled_up


class Recorder:
    """Stands for `CudaGraphs`. Counts recordings and replays."""

    def __init__(self, *, off_by: float = 0.0, error: Exception | None = None) -> None:
        self.recorded: list[tuple[int, ...]] = []
        self.replays = 0
        self._off_by, self._error = off_by, error

    def __call__(self, run: Run, inputs: Tensors) -> Recorder.Graph:
        self.recorded.append(tuple(inputs[0].shape))
        if self._error is not None:
            raise self._error
        return self.Graph(self, run, inputs)

    class Graph:
        def __init__(self, recorder: Recorder, run: Run, inputs: Tensors) -> None:
            self._recorder, self._run = recorder, run
            self._inputs = tuple(each.clone() for each in inputs)
            self._outputs = run(self._inputs)

        def replay(self, inputs: Tensors) -> Tensors:
            self._recorder.replays += 1
            for kept, given in zip(self._inputs, inputs, strict=True):
                kept.copy_(given)
            for kept, new in zip(self._outputs, self._run(self._inputs), strict=True):
                kept.copy_(new + self._recorder._off_by)
            return self._outputs


def double(inputs: Tensors) -> Tensors:
    return tuple(2 * each for each in inputs)


def numbers(*shape: int, value: float = 1.0) -> Tensors:
    return (torch.full(shape, float(value)),)


def test_a_shape_is_recorded_when_it_is_met_again_and_replayed_from_then_on() -> None:
    recorder = Recorder()
    passes = GraphedPasses(recorder)
    for count in range(5):
        [found] = passes(double, numbers(2, 3, value=count), "size")
        assert torch.equal(found, torch.full((2, 3), 2.0 * count))
    assert recorder.recorded == [(2, 3)]
    assert recorder.replays == 1 + 3  # once to compare


def test_results_outlive_the_next_pass() -> None:
    passes = GraphedPasses(Recorder())
    results = [passes(double, numbers(1, value=count), "size")[0] for count in range(5)]
    assert [float(each) for each in results] == [0, 2, 4, 6, 8]


def test_other_shapes_and_sizes_are_recorded_apart() -> None:
    recorder = Recorder()
    passes = GraphedPasses(recorder)
    for _ in range(2):
        passes(double, numbers(1, 3), "one")
        passes(double, numbers(2, 3), "one")
        passes(double, numbers(1, 3), "other")
    assert recorder.recorded == [(1, 3), (2, 3), (1, 3)]


def test_the_least_recently_used_graph_is_dropped() -> None:
    recorder = Recorder()
    passes = GraphedPasses(recorder, max_graphs=2)
    for width in (1, 1, 2, 2, 1, 3, 3, 1):
        passes(double, numbers(1, width), "size")
    assert recorder.recorded == [(1, 1), (1, 2), (1, 3)]
    passes(double, numbers(1, 2), "size")
    passes(double, numbers(1, 2), "size")
    assert recorder.recorded[3:] == [(1, 2)]


def test_a_graph_that_computes_something_else_is_not_used(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder = Recorder(off_by=0.5)
    passes = GraphedPasses(recorder)
    with caplog.at_level(logging.WARNING):
        found = [float(passes(double, numbers(1, value=3.0), "size")[0]) for _ in range(4)]
    assert found == [6.0] * 4
    assert recorder.replays == 1
    assert "without CUDA graphs: one was off by 0.5" in caplog.text


def test_another_order_of_queries_is_a_matter_of_rounding() -> None:
    class Reversing(Recorder):
        def __call__(self, run: Run, inputs: Tensors) -> Recorder.Graph:
            return super().__call__(
                lambda given: tuple(each.flip(1) for each in run(given)), inputs
            )

    recorder = Reversing()
    passes = GraphedPasses(recorder)
    for _ in range(3):
        passes(double, (torch.arange(6.0).view(1, 6),), "size")
    assert recorder.replays == 2


def test_where_recording_fails_passes_run_without(caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder(error=RuntimeError("operation not permitted\nand more"))
    passes = GraphedPasses(recorder)
    with caplog.at_level(logging.WARNING):
        found = [float(passes(double, numbers(1, value=3.0), "size")[0]) for _ in range(4)]
    assert found == [6.0] * 4
    assert recorder.recorded == [(1,)]
    assert caplog.messages == [
        "The GPU runs its passes without CUDA graphs: operation not permitted"
    ]


def test_full_memory_drops_graphs_and_halves_their_number(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder = Recorder(error=torch.OutOfMemoryError("full"))
    passes = GraphedPasses(recorder, max_graphs=8)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert float(passes(double, numbers(1, value=3.0), "size")[0]) == 6
    assert "at most 4 graphs are kept" in caplog.text


def test_results_that_are_no_numbers_are_compared_as_such() -> None:
    recorder = Recorder()
    passes = GraphedPasses(recorder)
    for _ in range(3):
        [found] = passes(double, (torch.tensor([1.0, float("-inf"), float("nan")]),), "size")
    assert recorder.replays == 2
    assert found[1] == float("-inf")


@pytest.mark.parametrize(
    ("count", "filled"), [(1, 1), (3, 4), (5, 8), (16, 16), (17, 32), (40, 40)]
)
def test_batches_are_filled_up_with_copies_of_the_last_item(count: int, filled: int) -> None:
    pixels, mask = filled_up((torch.arange(float(count))[:, None], torch.ones(count, 2)))
    assert len(pixels) == len(mask) == filled
    assert torch.equal(pixels[:count, 0], torch.arange(float(count)))
    assert (pixels[count:] == count - 1).all()
