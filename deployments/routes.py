"""The routes of an ML backend, each a few lines; auth, limits and the one form of errors."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Protocol

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from deployments.middleware import (
    BasicAuth,
    BodyLimit,
    ErrorBody,
    JsonRoute,
    error_response,
    request_id_of,
)
from deployments.readiness import Readiness
from prelabel import __version__
from prelabel.checkpoints.cards import ModelCard
from prelabel.errors import MissingFieldError, PrelabelError, RequestError
from prelabel.labelstudio.labeling_config import parse_labeling_config
from prelabel.labelstudio.protocol import (
    PredictRequest,
    SetupRequest,
    TrainRequest,
    VersionsRequest,
    WebhookRequest,
    project_key,
)
from prelabel.observability.journal import Fault, Report
from prelabel.phrases.vocabulary import Vocabulary
from prelabel.pipeline import Entry, report_on_failure
from prelabel.prompts.messages import unreadable_message
from prelabel.prompts.searches import unreadable_labels
from prelabel.prompts.store import StoredPrompt
from prelabel.settings.application import AppSettings, Environment
from prelabel.types import PromptRequest

logger = logging.getLogger(__name__)

Answer = dict[str, Any]
ErrorHandler = Callable[[Request, Exception], Awaitable[JSONResponse]]
_LONGEST_PLACE = 80  # characters of the path to a fault in a body


class Service(Protocol):
    """What the routes need of the ingress."""

    settings: AppSettings
    environment: Environment
    card: ModelCard
    model_version: str
    vocabulary: Vocabulary

    async def readiness(self) -> Readiness:
        """Whether a predict would be answered now."""

    async def predict(
        self, request: PredictRequest, request_id: str, traceparent: str = ""
    ) -> list[Entry]:
        """One entry per task, in order. traceparent: the span that the request belongs to."""

    async def meet(self, project: str | int | None, asked: PromptRequest) -> None:
        """Know a project from now on, and its extra parameters."""

    async def remember(self, event: WebhookRequest) -> None:
        """Keep the prompt of a submitted annotation."""

    async def remembered(self, project: str | None) -> dict[str, StoredPrompt]:
        """What is remembered for projects, by their keys."""

    async def forget(self, project: str) -> int:
        """Forget it; for how many projects of that id."""

    def note(self, report: Report) -> None:
        """Put it into the journal; waits for nothing."""

    async def metrics(self) -> dict[str, float]:
        """Counts and times of all ingress replicas."""

    async def errors(self, project: str | None, limit: int) -> list[Fault]:
        """The newest errors of all ingress replicas."""


def build_api(service: Service) -> FastAPI:
    """The ASGI application of one ingress replica."""
    api = FastAPI(
        title="prelabel",
        version=__version__,
        summary="ML backend for Label Studio",
        responses={"4XX": {"model": ErrorBody, "description": "What is wrong, and what to do"}},
    )
    api.router.route_class = JsonRoute
    # The last one added is asked first: nobody's body is read before he has shown who he is.
    api.add_middleware(BodyLimit, max_bytes=service.settings.max_body_bytes)
    api.add_middleware(BasicAuth, environment=service.environment)
    failed, malformed, defect = _error_handlers(service)
    api.add_exception_handler(RequestValidationError, malformed)
    api.add_exception_handler(PrelabelError, failed)
    api.add_exception_handler(HTTPException, _http_error)
    api.add_exception_handler(Exception, defect)
    _add_status_routes(api, service)
    _add_work_routes(api, service)
    _add_prompt_routes(api, service)
    _add_journal_routes(api, service)
    return api


def _add_status_routes(api: FastAPI, service: Service) -> None:
    card, version = service.card, service.model_version
    variables = service.environment

    async def health() -> Answer:
        """Alive, whatever the model is doing. status: UP, STARTING or DOWN; Label Studio takes
        every answer of 200 for a backend that is connected.
        """
        readiness = await service.readiness()
        return {
            "status": readiness.status,
            "ready": readiness.ready,
            "model_class": "GroundingDINO",
            "model": {
                "name": card.name,
                "title": card.title,
                "source": card.source,
                "limits": card.limits,
            },
            # Whether it was told, and never what: uploads cannot be fetched without. So with the
            # network's.
            "label_studio": {
                "host": variables.label_studio_url is not None,
                "access_token": variables.label_studio_token is not None,
            },
            "network": {
                "http_proxy": variables.proxies.http is not None,
                "https_proxy": variables.proxies.https is not None,
                "own_ca": bool(variables.trust.sources),
            },
            "model_version": version,
            "service_version": __version__,
        }

    async def setup(request: SetupRequest) -> Answer:
        """The version under which Label Studio files predictions. A labeling config that cannot be
        served is an error, so that the project's owner reads what it lacks.
        """
        if request.label_config is not None:
            config = parse_labeling_config(request.label_config, service.settings.max_labels)
            if unreadable := unreadable_labels(config, service.vocabulary):
                sentence = unreadable_message(unreadable)
                logger.warning("project %s: %s", project_key(request.project), sentence)
        await service.meet(request.project, request.prompt_request)
        return {"model_version": version}

    async def versions() -> Answer:
        """The versions that can be had: this one."""
        return {"versions": [version]}

    async def versions_of(request: VersionsRequest) -> JSONResponse:
        """The same, as clients of label-studio-ml ask for it."""
        if request.project is None:
            raise MissingFieldError('No project provided: send {"project": ...}.')
        return JSONResponse({"versions": [version]})

    async def is_training() -> Answer:
        """Never: a checkpoint is served, not trained."""
        return {"is_training": False, "backend": "none", "model_version": version}

    for path in ("/", "/health"):
        _add_get(api, path, health)
    _add_get(api, "/versions", versions)
    _add_get(api, "/is_training", is_training)
    api.post("/versions")(versions_of)
    api.post("/setup")(setup)


def _add_work_routes(api: FastAPI, service: Service) -> None:
    async def predict(body: PredictRequest, request: Request) -> JSONResponse:
        """One entry per task, in order: a prediction, or an error without result."""
        traceparent = request.headers.get("traceparent", "")
        entries = await service.predict(body, request_id_of(request.scope), traceparent)
        return JSONResponse({"results": entries, "model_version": service.model_version})

    async def webhook(event: WebhookRequest, request: Request) -> Answer:
        """Remembers the prompt of a submitted annotation; any other action is fine, too."""
        service.note(Report({"webhooks": 1}))
        await service.remember(event)
        return {"job_id": request_id_of(request.scope)}

    async def train(body: TrainRequest) -> Answer:
        """Nothing is trained here; the answer is what label-studio-ml gives without a queue."""
        if body.annotations == []:
            raise MissingFieldError('No annotations found: send {"annotations": [...]}.')
        return {}

    api.post("/predict")(predict)
    api.post("/webhook", status_code=201)(webhook)
    api.post("/train", status_code=201)(train)


def _add_prompt_routes(api: FastAPI, service: Service) -> None:
    async def prompts(project: str | None = None) -> Answer:
        """The remembered prompts, of all projects or of those of that id."""
        found = await service.remembered(project)
        return {
            "prompts": [
                {"project": key, **asdict(kept.asked), "submitted_at": kept.submitted_at}
                for key, kept in found.items()
            ]
        }

    async def forget(project: str) -> Answer:
        """Forget the prompt of the projects of that id: their own labels are looked for again."""
        return {"forgotten": await service.forget(project)}

    _add_get(api, "/prompts", prompts)
    api.delete("/prompts")(forget)


def _add_journal_routes(api: FastAPI, service: Service) -> None:
    async def metrics() -> Answer:
        """Counts and times since the service started."""
        return {**await service.metrics()}

    async def errors(
        project: str | None = None, limit: Annotated[int, Query(ge=1, le=500)] = 50
    ) -> Answer:
        """The newest errors first: what Label Studio does not show its users."""
        return {"errors": [asdict(fault) for fault in await service.errors(project, limit)]}

    _add_get(api, "/metrics", metrics)
    _add_get(api, "/errors", errors)


def _add_get(api: FastAPI, path: str, endpoint: Callable[..., Awaitable[Answer]]) -> None:
    api.get(path)(endpoint)
    api.head(path, include_in_schema=False)(endpoint)


def _error_handlers(service: Service) -> tuple[ErrorHandler, ErrorHandler, ErrorHandler]:
    """Of our own errors, of bodies that are not what a route takes, and of defects. All are in the
    journal.
    """

    def answer(error: PrelabelError, request: Request) -> JSONResponse:
        request_id = request_id_of(request.scope)
        service.note(report_on_failure(error, request_id))
        return error_response(error, request_id)

    async def failed(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, PrelabelError)  # it is registered for no other
        return answer(error, request)

    async def malformed(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)  # it is registered for no other
        faults = "; ".join(f"{_place(f['loc'])}: {f['msg']}" for f in error.errors()[:3])
        sentence = f"This is no request of Label Studio's form ({faults}). Correct its body."
        return answer(RequestError(sentence), request)

    async def defect(request: Request, _error: Exception) -> JSONResponse:
        """The server logs what it was."""
        sentence = "The service failed on this request. Its log says why, under this request's id."
        return answer(PrelabelError(sentence), request)

    return failed, malformed, defect


def _place(loc: Sequence[object]) -> str:
    place = ".".join(str(part) for part in loc if part != "body") or "body"
    return place if len(place) <= _LONGEST_PLACE else f"{place[:_LONGEST_PLACE]}..."


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # it is registered for no other
    body = ErrorBody(
        error=f"{error.detail}: {request.method} {request.url.path[:100]}. "
        "See /docs for what is served.",
        error_type="HTTPException",
        request_id=request_id_of(request.scope),
    )
    return JSONResponse(body, status_code=error.status_code, headers=error.headers)
