"""Calls between deployments: answers, errors as Ray raises them, and what is pickled."""

from __future__ import annotations

import asyncio
import gc
import pickle
import sys
from types import FrameType
from typing import Any

import pytest
from ray.exceptions import RayTaskError
from ray.serve.handle import DeploymentResponseGenerator

from deployments.handles import call
from prelabel.errors import DetectionError, PromptMemoryError
from prelabel.types import DetectionQuery, LookPlan, PromptEcho, Target, TaskPlan, Thresholds
from tests.support.canaries import found_in


class Method:
    """A deployment's method that answers, or raises, one thing. Ray itself is not started."""

    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome

    async def remote(self, *_: object) -> Any:
        if isinstance(self.outcome, RayTaskError):
            raise self.outcome
        return self.outcome


class Stream(DeploymentResponseGenerator[Any]):
    """Ray's, of one answer, with an end that can be held or fail."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.may_end = asyncio.Event()
        self.ended = False
        self._answers = [5]
        self._failure = failure

    async def __anext__(self) -> Any:
        if self._answers:
            return self._answers.pop()
        await self.may_end.wait()
        self.ended = True
        raise self._failure or StopAsyncIteration


class Streaming:
    """A method that yields."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def remote(self, *_: object) -> Stream:
        return self.stream


def raised_there(cause: Exception) -> Any:
    traceback = f'File "/srv/prelabel/memory.py", line 1\n  canary\n{cause!r}'
    there = RayTaskError("remember", traceback, cause, proctitle="ray", pid=1, ip="10.0.0.1")  # type: ignore[no-untyped-call]
    return there.as_instanceof_cause()  # type: ignore[no-untyped-call]


def ask(outcome: object) -> Any:
    method: Any = Method(outcome)
    return asyncio.run(call(method))


def test_an_error_of_ours_arrives_as_it_left_and_without_ray_s_traceback() -> None:
    sentence = "The file of remembered prompts cannot be used."
    assert found_in(raised_there(PromptMemoryError(sentence))), "Ray repeats the traceback"
    with pytest.raises(PromptMemoryError) as caught:
        ask(raised_there(PromptMemoryError(sentence)))
    assert type(caught.value) is PromptMemoryError
    assert str(caught.value) == sentence


def test_an_error_that_is_an_answer_is_raised() -> None:
    with pytest.raises(DetectionError, match="The model failed"):
        ask(DetectionError("The model failed."))
    assert ask(5) == 5


def test_a_defect_stays_a_defect() -> None:
    with pytest.raises(RayTaskError):
        ask(raised_there(ZeroDivisionError()))


@pytest.mark.slow
@pytest.mark.parametrize("failure", [None, RuntimeError("it went away")])
def test_a_call_returns_the_answer_before_the_stream_ends(failure: Exception | None) -> None:
    async def scenario() -> list[dict[str, Any]]:
        unheard: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, what: unheard.append(what))
        stream = Stream(failure)
        method: Any = Streaming(stream)
        assert await asyncio.wait_for(call(method), 5) == 5
        assert not stream.ended
        stream.may_end.set()
        await asyncio.sleep(0.05)
        assert stream.ended, "an abandoned stream is cancelled"
        gc.collect()
        return unheard

    assert asyncio.run(scenario()) == []


def test_what_goes_over_is_pickled_without_a_call_in_python() -> None:
    thresholds, target = Thresholds(0.3, 0.2), Target("label", "image", "cat", 0.0)
    look = LookPlan("/cat.jpg", None, ("cat",), (target,), thresholds)
    plan = TaskPlan((look,), PromptEcho("prompt", "image", "cat"))
    values = (DetectionQuery(b"", ("cat",), thresholds), plan)
    assert pickle.loads(pickle.dumps(values)) == values  # and Python knows the classes from now on
    called: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            called.append(frame.f_code.co_qualname)

    sys.setprofile(note)
    try:
        pickle.dumps(values)
    finally:
        sys.setprofile(None)
    assert called == []
