"""Calls between deployments, retried if a replica dies."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from ray.exceptions import ActorDiedError, ActorUnavailableError, RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from prelabel.concurrency.background import BackgroundTasks
from prelabel.errors import DetectionError, OverloadedError, PrelabelError

_RETRY_PAUSES_S = (0.1, 0.5, 2.0)
_background = BackgroundTasks()


def streamed(handle: DeploymentHandle[Any]) -> DeploymentHandle[Any]:
    """Return the handle for a deployment that yields one answer to each call.

    A stream, because Serve's router chooses a replica by the queue length that replicas report in
    the initial metadata of a gRPC call. A plain call sends the metadata together with the result,
    when the length is out of date; a stream sends it at once.

    Pickle, because Serve's default, cloudpickle, calls into Python for every object.
    """
    return handle.options(
        stream=True, request_serialization="pickle", response_serialization="pickle"
    )


async def call(method: DeploymentHandle[Any], *args: object) -> Any:
    """Call a deployment and return its answer, or the one answer that a `streamed` handle yields.

    A PrelabelError that the deployment returns or raises is raised here, without Ray's exception
    around it, whose message holds a traceback with paths of the server.

    If a replica dies during the call (a lost node, a rollout), the call is repeated, up to four
    attempts in all, because a picture may kill every replica that it meets. The caller's deadline
    bounds all attempts.

    Raises:
        OverloadedError: The deployment's queue is full.
        DetectionError: All attempts ended with the death of a replica.
    """
    for pause_s in (*_RETRY_PAUSES_S, None):
        try:
            response = method.remote(*args)
            if isinstance(response, DeploymentResponseGenerator):
                answer = await anext(response)
                _drain(response)
            else:
                answer = await response
        except BackPressureError as error:
            raise OverloadedError(
                "The service has more work than it can queue. Try again in a minute, send fewer "
                "tasks at once, or allow more replicas."
            ) from error
        except (ActorDiedError, ActorUnavailableError) as error:
            if pause_s is None:
                raise DetectionError(
                    "Every replica that worked on this request died; the service's log says why. "
                    "Try again later, and leave the picture out if it happens again."
                ) from error
            await asyncio.sleep(pause_s)
            continue
        except RayTaskError as error:
            if isinstance(error.cause, PrelabelError):
                raise error.cause from None
            raise
        if isinstance(answer, PrelabelError):
            raise answer
        return answer
    raise AssertionError("unreachable: the last attempt returns or raises")


class NoAnswerError(Exception):
    """A deployment did not answer. The message is the name of the cause's class."""


async def call_within(timeout_s: float, method: DeploymentHandle[Any], *args: object) -> Any:
    """Call a deployment as `call` does, for at most `timeout_s` seconds.

    A PrelabelError that the deployment itself returns is raised unchanged.

    Raises:
        NoAnswerError: The deployment is starting, down, overloaded or too slow.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await call(method, *args)
    except (
        *(TimeoutError, RayError, RayServeException),
        *(DetectionError, OverloadedError),  # `call` raises these
    ) as error:
        raise NoAnswerError(type(error).__name__) from error


def _drain(response: DeploymentResponseGenerator[Any]) -> None:
    """Read a stream to its end in the background: Serve cancels a stream that is dropped early."""

    async def drain() -> None:
        with suppress(Exception):  # the answer has arrived, and the replica logs its own failure
            async for _ in response:
                pass

    _background.start(drain())
