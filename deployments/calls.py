"""Calls between deployments: what failed for want of a replica is tried again."""

from __future__ import annotations

import asyncio
from typing import Any

from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from prelabel.errors import DetectionError, OverloadedError, PrelabelError

_PAUSES_S = (0.1, 0.5, 2.0)


async def call(method: DeploymentHandle[Any], *args: object) -> Any:
    """The method's answer; an error that came back as a value is raised, and one that was raised
    there is the same here. (Ray's own words for it hold the traceback, and so paths of the server.)

    Of a handle with `stream=True` the method yields its one answer. By gRPC that is the only way to
    tell the caller at once how much the replica has to do, by which the next one is chosen: with a
    plain answer it arrives together with that, and says how things were when the work began.

    A replica that dies under a request (a node that goes, a rollout) costs a retry. A picture that
    kills every replica it meets is given up. The caller's deadline bounds the whole.
    """
    for pause_s in (*_PAUSES_S, None):
        try:
            response = method.remote(*args)
            if isinstance(response, DeploymentResponseGenerator):
                [answer] = [answer async for answer in response]
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
