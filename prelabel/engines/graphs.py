"""Passes of a network as CUDA graphs: recorded once for each shape of input, then replayed.

A pass over one picture launches hundreds of kernels, and launching takes as long as computing. A
graph is launched at once.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Protocol

import torch

logger = logging.getLogger(__name__)

Tensors = tuple[torch.Tensor, ...]
Run = Callable[[Tensors], Tensors]

BATCH_SIZES = (1, 2, 4, 8, 16, 32)  # smaller batches are filled up to one of these
_MAX_GRAPHS = 24  # six sizes of pictures in four sizes of batches
# Between logits, and between boxes, of a pass and of its graph. While they are recorded, libraries
# may choose other algorithms, whose rounding changes the order of queries.
_TOLERANCE = 0.05


class Graph(Protocol):
    """A recorded pass."""

    def replay(self, inputs: Tensors) -> Tensors:
        """Run the pass for inputs of the recorded shapes. The results are valid until the next."""


class Capture(Protocol):
    """Records a pass."""

    def __call__(self, run: Run, inputs: Tensors) -> Graph:
        """Record `run` for inputs of these shapes."""


class GraphedPasses:
    """Runs a pass, by a graph where one was recorded.

    A graph is recorded when a shape of input is met for the second time, so that a rare size of
    pictures costs nothing. If recording fails, or a graph computes something else than the pass,
    all passes run without graphs from then on, and the log says why.

    Args:
        capture: Records a pass.
        max_graphs: The least recently used graph is dropped first.
    """

    def __init__(self, capture: Capture, max_graphs: int = _MAX_GRAPHS) -> None:
        self._capture: Capture | None = capture
        self._max_graphs = max_graphs
        self._graphs: OrderedDict[Hashable, Graph | None] = OrderedDict()  # None: met once

    def __call__(self, run: Run, inputs: Tensors, size: Hashable) -> Tensors:
        """Return what `run` returns for the inputs.

        Args:
            run: The pass, always the same for a size. Other tensors that it reads must stay.
            inputs: Tensors with the batch in front.
            size: That of the other tensors.
        """
        if self._capture is None:
            return run(inputs)
        key = (size, *((each.shape, each.dtype) for each in inputs))
        was_met = key in self._graphs
        graph = self._graphs.pop(key, None)
        if graph is None and was_met:
            return self._record(run, inputs, key)
        self._graphs[key] = graph
        if len(self._graphs) > self._max_graphs:
            self._graphs.popitem(last=False)
        return run(inputs) if graph is None else _copies(graph.replay(inputs))

    def _record(self, run: Run, inputs: Tensors, key: Hashable) -> Tensors:
        """Record a graph. Return the results of the pass without it."""
        assert self._capture is not None
        expected = run(inputs)
        try:
            graph = self._capture(run, inputs)
            difference = _difference(graph.replay(inputs), expected)
            if difference <= _TOLERANCE:
                self._graphs[key] = graph
                return expected
            fault = f"one was off by {difference:.2g}"
        except torch.OutOfMemoryError:
            # There is room for the passes themselves, which matters more.
            self._graphs.clear()
            self._max_graphs //= 2
            logger.warning(
                "The GPU's memory is full: at most %d graphs are kept.", self._max_graphs
            )
            return expected
        except RuntimeError as error:  # the edge: drivers and libraries refuse to record
            fault = str(error).splitlines()[0]
        logger.warning("The GPU runs its passes without CUDA graphs: %s", fault)
        self._capture = None
        self._graphs.clear()
        return expected


def filled_up(tensors: Tensors) -> Tensors:
    """Fill a batch up to one of `BATCH_SIZES` with copies of its last item."""
    count = len(tensors[0])
    wanted = next((size for size in BATCH_SIZES if size >= count), count)
    if wanted == count:
        return tensors
    return tuple(
        torch.cat([each, each[-1:].expand(wanted - count, *each.shape[1:])]) for each in tensors
    )


class CudaGraphs:
    """Records passes as CUDA graphs, which share their memory: only one runs at a time."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Run, inputs: Tensors) -> Graph:
        """Record `run`, after a pass on the recording stream, in which libraries set themselves up.

        Raises:
            RuntimeError: Something in the pass cannot be recorded.
        """
        static = tuple(each.clone() for each in inputs)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            run(static)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads may pin memory for the next pictures meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            outputs = run(static)
        return _CudaGraph(graph, run, static, outputs)


class _CudaGraph:
    def __init__(
        self, graph: torch.cuda.CUDAGraph, run: Run, inputs: Tensors, outputs: Tensors
    ) -> None:
        self._graph, self._inputs, self._outputs = graph, inputs, outputs
        self._run = run  # holds the tensors that the graph reads besides its inputs

    def replay(self, inputs: Tensors) -> Tensors:
        for kept, given in zip(self._inputs, inputs, strict=True):
            kept.copy_(given)
        self._graph.replay()
        return self._outputs


def _copies(tensors: Tensors) -> Tensors:
    return tuple(each.clone() for each in tensors)


def _difference(found: Tensors, expected: Tensors) -> float:
    """Return the mean difference of finite numbers, whatever the order of the queries (axis 1).

    It is infinite if other numbers are infinite or none.
    """
    greatest = 0.0
    for one, other in zip(found, expected, strict=True):
        axis = min(1, one.dim() - 1)
        here, there = one.sort(axis).values, other.sort(axis).values
        finite = there.isfinite()
        if not torch.equal(here.isfinite(), finite):
            return float("inf")
        if finite.any():
            greatest = max(greatest, float((here - there)[finite].abs().mean()))
    return greatest
