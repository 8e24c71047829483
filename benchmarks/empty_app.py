"""An application of the service's shape that does nothing: what Ray Serve itself takes.

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
    """Answers at once."""

    async def __call__(self, given: bytes) -> AsyncIterator[bytes]:
        """Yields the first byte."""
        yield given[:1]


@serve.deployment(name="Ingress")
@serve.ingress(api)
class Edge:
    """Reads the request, and hands the picture to one deployment and the answer to another."""

    def __init__(self, detector: DeploymentHandle, mapper: DeploymentHandle, *_: object) -> None:
        self._detector, self._mapper = streamed(detector), streamed(mapper)

    @api.get("/health")
    def health(self) -> dict[str, str]:
        """As the service has it."""
        return {"status": "UP"}

    @api.post("/predict")
    async def predict(self, request: Request) -> dict[str, Any]:
        """A request of one task."""
        task = json.loads(await request.body())["tasks"][0]
        picture = base64.b64decode(task["data"]["image"].partition(",")[2])
        found = await call(self._detector, picture)
        mapped = await call(self._mapper, found)
        return {"results": [mapped.decode("latin-1")]}


def build_empty_app(_: dict[str, object]) -> Application:
    """With a deployment for each name of serve_config.yaml."""
    rest = [
        Nothing.options(name=name).bind()
        for name in ("Detector", "Postprocessor", "PromptStore", "Journal")
    ]
    application: Application = Edge.bind(*rest)
    return application
