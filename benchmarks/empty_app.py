"""An application with the service's deployments and no work in them: the cost of Ray Serve itself.

No `from __future__ import annotations` here, as in serve_app.py.
"""

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from deployments.handles import call, streamed

api = FastAPI()


@serve.deployment
class Nothing:
    """A deployment that answers at once."""

    async def __call__(self, payload: bytes) -> AsyncIterator[bytes]:
        """Yield the first byte of the payload."""
        yield payload[:1]


@serve.deployment(name="Ingress")
@serve.ingress(api)
class EmptyIngress:
    """Ingress that sends the picture to one deployment and its answer to another."""

    def __init__(self, detector: DeploymentHandle, mapper: DeploymentHandle, *_: object) -> None:
        self._detector, self._mapper = streamed(detector), streamed(mapper)

    @api.get("/health")
    def health(self) -> dict[str, str]:
        """Answer as the service's health route does."""
        return {"status": "UP"}

    @api.post("/predict")
    async def predict(self, request: Request) -> dict[str, Any]:
        """Answer a predict request of one task."""
        task = json.loads(await request.body())["tasks"][0]
        picture = base64.b64decode(task["data"]["image"].partition(",")[2])
        found = await call(self._detector, picture)
        mapped = await call(self._mapper, found)
        return {"results": [mapped.decode("latin-1")]}


def build_empty_app(_: dict[str, object]) -> Application:
    """Build the application with the deployment names that serve_config.yaml configures."""
    rest = [
        Nothing.options(name=name).bind()
        for name in ("Detector", "Postprocessor", "PromptStore", "Journal")
    ]
    application: Application = EmptyIngress.bind(*rest)
    return application
