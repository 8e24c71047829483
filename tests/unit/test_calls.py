"""Errors between deployments, as Ray hands them on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from ray.exceptions import RayTaskError

from deployments.calls import call
from prelabel.errors import DetectionError, PromptMemoryError
from tests.unit.test_canaries import found_in


class Method:
    """A deployment's method that answers, or raises, one thing. Ray itself is not started."""

    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome

    async def remote(self, *_: object) -> Any:
        if isinstance(self.outcome, RayTaskError):
            raise self.outcome
        return self.outcome


def raised_there(cause: Exception) -> RayTaskError:
    traceback = f'File "/srv/prelabel/memory.py", line 1\n  canary\n{cause!r}'
    there = RayTaskError("remember", traceback, cause, proctitle="ray", pid=1, ip="10.0.0.1")
    return there.as_instanceof_cause()


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
