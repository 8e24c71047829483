"""Calls between deployments: what failed for want of a replica is tried again."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from prelabel.errors import DetectionError, OverloadedError, PrelabelError

_PAUSES_S = (0.1, 0.5, 2.0)
_ending: set[asyncio.Task[None]] = set()  # the loop itself does not keep them


def streamed(handle: DeploymentHandle[Any]) -> DeploymentHandle[Any]:
    """The handle of what is called for each picture, see `call`. Serve's default, cloudpickle, asks
    Python about each object that goes over.
    """
    return handle.options(
        stream=True, request_serialization="pickle", response_serialization="pickle"
    )


async def call(method: DeploymentHandle[Any], *args: object) -> Any:
    """The method's answer; an error that came back as a value is raised, and one that was raised
    there is the same here. (Ray's own words for it hold the traceback, and so paths of the server.)

    Of a `streamed` handle the method yields its one answer. By gRPC that is the only way to tell
    the caller at once how much the replica has to do, by which the next one is chosen: with a plain
    answer it arrives together with that, and says how things were when the work began. Nobody waits
    for what the replica does once it has answered.

    A replica that dies under a request (a node that goes, a rollout) costs a retry. A picture that
    kills every replica it meets is given up. The caller's deadline bounds the whole.
    """
    for pause_s in (*_PAUSES_S, None):
        try:
            response = method.remote(*args)
            if isinstance(response, DeploymentResponseGenerator):
                answer = await anext(response)
                _let_end(response)
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
                    "Every replica that worked on this went away; the service's log says why. Try "
                    "again later, and leave the picture out if it happens again."
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


def _let_end(response: DeploymentResponseGenerator[Any]) -> None:
    """Hear the stream's end, beside what comes next: one that is left alone is cancelled."""

    async def end() -> None:
        with suppress(Exception):  # the answer is there, and the replica's log says what failed
            async for _ in response:
                pass

    task = asyncio.create_task(end())
    _ending.add(task)
    task.add_done_callback(_ending.discard)
