"""The routes of the ML backend, and the one form of their errors."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi_offline import FastAPIOffline
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException

from deployments.middleware import (
    BasicAuth,
    BodyLimit,
    ErrorBody,
    JsonRoute,
    RequestContextMiddleware,
    error_response,
    request_context_of,
)
from deployments.playground import PATH as PAGE_PATH
from deployments.playground import add_playground_routes, prefers_html, redirect_to_page
from prelabel import __version__
from prelabel.engines.kernels.library import kernels
from prelabel.errors import MissingFieldError, PrelabelError, RequestError, SettingsError
from prelabel.labelstudio.protocol import (
    Params,
    PredictRequest,
    SetupRequest,
    TrainRequest,
    VersionsRequest,
    WebhookRequest,
)
from prelabel.observability.request_context import current_request_id
from prelabel.pipeline import failure_report
from prelabel.service import Service
from prelabel.settings import Environment

Answer = dict[str, Any]

_MAX_LOCATION_CHARS = 80  # of a fault in a body: Label Studio cuts long sentences
_MAX_PATH_CHARS = 100


def build_api(service: Service) -> FastAPI:
    """Return the ASGI application of one ingress replica."""
    # Its /docs loads nothing from other hosts, as FastAPI's own would.
    api = FastAPIOffline(
        redoc_url=None,
        title="prelabel",
        version=__version__,
        summary="ML backend for Label Studio",
        favicon_url=f"{PAGE_PATH[1:]}/icon.svg",
        static_url="/docs-files",
        # Swagger would send the document's address to a validator.
        swagger_ui_parameters={"validatorUrl": None},
        responses={"4XX": {"model": ErrorBody, "description": "The fault, and what to do"}},
    )
    # Starlette runs the last added middleware first: authentication runs before the body is read.
    api.add_middleware(BodyLimit, max_bytes=service.settings.limits.max_body_bytes)
    api.add_middleware(BasicAuth, environment=service.environment)
    api.add_middleware(RequestContextMiddleware, tracer=service.tracer)
    _add_error_handlers(api, service)
    groups: list[tuple[str, Callable[[APIRouter, Service], None]]] = [
        ("Predictions", _add_predict_routes),
        ("State of the service", _add_health_routes),
        ("Projects", _add_project_routes),
        ("Remembered prompts", _add_prompt_routes),
        ("Errors and metrics", _add_journal_routes),
    ]
    if service.settings.playground.enabled:
        groups.append(("Playground", add_playground_routes))
    for name, add_routes in groups:
        router = APIRouter(route_class=JsonRoute, tags=[name])
        add_routes(router, service)
        api.include_router(router)
    return api


def _add_health_routes(api: APIRouter, service: Service) -> None:
    card, variables = service.model.card, service.environment
    segmenter = service.model.segmenter
    # Label Studio counts a backend as connected when /health answers 200. The answer says which
    # variables are set and never their values, because any client of the service can read it.
    description = {
        "model_class": "GroundingDINO",
        "model": {
            "name": card.name,
            "title": card.title,
            "source": card.source,
            "limits": card.limits,
            "warning": service.model.warning,
        },
        "segmenter": None
        if segmenter is None
        else {"name": segmenter.name, "title": segmenter.title},
        "network": {
            "http_proxy": variables.proxies.http is not None,
            "https_proxy": variables.proxies.https is not None,
            "own_ca": bool(variables.trust.sources),
        },
        "detection": {"box_threshold": service.settings.detection.box_threshold},
        "kernels": kernels() is not None,
        "model_version": service.model.version,
        "service_version": __version__,
        # Of the body's "params"; a client finds out whether the service knows them.
        "predict_params": list(Params.model_fields),
        "prediction_score": service.settings.review.prediction_score,
    }

    async def health() -> Answer:
        """Return 200 while the service is alive, whatever its model does.

        `status` is UP, STARTING or DOWN; `detectors` is the number of running replicas, null
        while it is not known.
        """
        readiness = await service.readiness()
        return {
            "status": readiness.status,
            "ready": readiness.ready,
            "detectors": readiness.detectors,
            "label_studio": {
                "host": variables.label_studio_url is not None,
                "access_token": _has_token(variables),
            },
            **description,
        }

    async def root(request: Request) -> Response:
        """Return the same as /health; browsers are sent to the playground."""
        is_browser = prefers_html(request.headers.get("accept", ""))
        if is_browser and service.settings.playground.enabled:
            return redirect_to_page(request)
        return JSONResponse(await health(), headers={"Vary": "Accept"})

    _add_get(api, "/", root)
    _add_get(api, "/health", health)


def _has_token(variables: Environment) -> bool:
    """Return whether Label Studio's token is known now: its file may appear later."""
    try:
        return variables.current_label_studio_token() is not None
    except SettingsError:
        return False


def _add_project_routes(api: APIRouter, service: Service) -> None:
    version = service.model.version

    async def setup(request: SetupRequest) -> Answer:
        """Return the version under which Label Studio files predictions.

        A labeling config that cannot be served is an error, so that the project's owner reads
        what the config lacks.
        """
        await service.setup(request)
        return {"model_version": version}

    async def versions() -> Answer:
        """Return the available versions: the one that is served."""
        return {"versions": [version]}

    async def versions_of_project(request: VersionsRequest) -> JSONResponse:
        """Return the available versions, as clients of label-studio-ml ask for them."""
        if request.project is None:
            raise MissingFieldError('No project provided: send {"project": ...}.')
        return JSONResponse({"versions": [version]})

    async def is_training() -> Answer:
        """Return false: a checkpoint is served, not trained."""
        return {"is_training": False, "backend": "none", "model_version": version}

    async def train(body: TrainRequest) -> Answer:
        """Accept a training request and do nothing, as label-studio-ml without a queue."""
        if body.annotations == []:
            raise MissingFieldError('No annotations found: send {"annotations": [...]}.')
        return {}

    api.post("/setup")(setup)
    _add_get(api, "/versions", versions)
    api.post("/versions")(versions_of_project)
    _add_get(api, "/is_training", is_training)
    api.post("/train", status_code=201)(train)


def _add_predict_routes(api: APIRouter, service: Service) -> None:
    async def predict(body: PredictRequest) -> JSONResponse:
        """Return one entry per task, in order: a prediction, or an error without result."""
        started = time.monotonic()
        entries = await service.predict(body)
        seconds = time.monotonic() - started
        return JSONResponse(
            {"results": entries, "model_version": service.model.version},
            background=BackgroundTask(service.record, body, entries, seconds),
        )

    async def webhook(event: WebhookRequest) -> Answer:
        """Remember the prompt of a submitted annotation; accept and ignore other events."""
        await service.remember(event)
        return {"job_id": current_request_id()}

    api.post("/predict")(predict)
    api.post("/webhook", status_code=201)(webhook)


def _add_prompt_routes(api: APIRouter, service: Service) -> None:
    async def prompts(project: str | None = None) -> Answer:
        """Return the remembered prompts, of all projects or of those with that id."""
        stored_prompts = await service.prompts(project)
        return {
            "prompts": [
                {
                    "project": key,
                    **asdict(stored.prompt),
                    "submitted_at": stored.submitted_at,
                    "extra": asdict(stored.extra),
                }
                for key, stored in stored_prompts.items()
            ]
        }

    async def forget(project: str) -> Answer:
        """Forget the prompts of the projects with that id. Their labels are searched for again."""
        return {"forgotten": await service.forget(project)}

    _add_get(api, "/prompts", prompts)
    api.delete("/prompts")(forget)


def _add_journal_routes(api: APIRouter, service: Service) -> None:
    async def metrics() -> Answer:
        """Return counts and durations since the start of the service."""
        return {**await service.metrics()}

    async def errors(
        project: str | None = None, limit: Annotated[int, Query(ge=1, le=500)] = 50
    ) -> Answer:
        """Return errors, newest first. Label Studio does not show them to its users."""
        return {"errors": [asdict(fault) for fault in await service.errors(project, limit)]}

    _add_get(api, "/metrics", metrics)
    _add_get(api, "/errors", errors)


def _add_get(
    api: APIRouter, path: str, endpoint: Callable[..., Awaitable[Answer | Response]]
) -> None:
    api.get(path)(endpoint)
    api.head(path, include_in_schema=False)(endpoint)


def _add_error_handlers(api: FastAPI, service: Service) -> None:
    """Answer every error in one form, and report it to the journal once it has been answered."""

    def answer(error: PrelabelError) -> JSONResponse:
        # The report is made now: of a defect, the request's context has ended when the task runs.
        return error_response(error, BackgroundTask(service.record_failure, failure_report(error)))

    async def failed(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, PrelabelError)  # it is registered for no other
        return answer(error)

    async def malformed(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)  # it is registered for no other
        faults = "; ".join(f"{_location(f['loc'])}: {f['msg']}" for f in error.errors()[:3])
        return answer(
            RequestError(
                f"The request does not have the form that Label Studio sends ({faults}). "
                "Correct its body."
            )
        )

    async def defect(request: Request, _error: Exception) -> JSONResponse:
        # Starlette calls this handler outside of all middleware, after the request's context has
        # ended; the server logs the exception.
        with service.tracer.restore(request_context_of(request.scope)):
            return answer(
                PrelabelError(
                    "The service failed on this request. Its log says why, under this request's id."
                )
            )

    api.add_exception_handler(RequestValidationError, malformed)
    api.add_exception_handler(PrelabelError, failed)
    api.add_exception_handler(HTTPException, _http_error)
    api.add_exception_handler(Exception, defect)


def _location(loc: Sequence[object]) -> str:
    location = ".".join(str(part) for part in loc if part != "body") or "body"
    if len(location) <= _MAX_LOCATION_CHARS:
        return location
    return f"{location[:_MAX_LOCATION_CHARS]}..."


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # it is registered for no other
    path = request.url.path[:_MAX_PATH_CHARS]
    body = ErrorBody(
        error=f"{error.detail}: {request.method} {path}. /docs lists the routes.",
        error_type="HTTPException",
        request_id=current_request_id(),
    )
    return JSONResponse(body, status_code=error.status_code, headers=error.headers)
