"""The routes of the playground: its page, the files of the page, and its requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from prelabel.playground.assets import PAGE, Asset, load_assets
from prelabel.playground.playground import Playground
from prelabel.playground.protocol import (
    CandidatesAnswer,
    CandidatesRequest,
    ExportRequest,
    FactsAnswer,
    MasksAnswer,
    MasksRequest,
)
from prelabel.service import Service

PATH: Final = "/playground"

# The page has no inline script or style, and talks to its own origin only. `blob:` and `data:` are
# pictures that the user chose.
_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # The browser asks each time whether a file has changed; the answer is 304 if it has not.
    "Cache-Control": "no-cache",
}
_MEDIA_TYPES: Final = {
    "config": "application/xml",
    "curl": "text/plain; charset=utf-8",
}


def prefers_html(accept: str) -> bool:
    """Return True if a client would rather have HTML than JSON, as browsers would.

    Args:
        accept: The value of the Accept header; "" without one.
    """
    weights: dict[str, float] = {}
    for part in accept.lower().split(","):
        media_type, *parameters = (piece.strip() for piece in part.split(";"))
        quality = next((p.removeprefix("q=") for p in parameters if p.startswith("q=")), "1")
        try:
            weights[media_type] = float(quality)
        except ValueError:
            weights[media_type] = 0.0
    json = weights.get("application/json", weights.get("application/*", weights.get("*/*", 0.0)))
    return weights.get("text/html", 0.0) > json


def redirect_to_page(request: Request) -> Response:
    """Return the redirect from the service's root to the page.

    The address is relative, so that it is right below any prefix that a proxy adds.
    """
    last = request.url.path.rpartition("/")[2]
    return RedirectResponse(f"{last}{PATH}" if last else PATH[1:], headers={"Vary": "Accept"})


def add_playground_routes(api: APIRouter, service: Service) -> None:
    """Add the page, its files and its requests."""
    playground = Playground(service)
    _add_requests(api, playground)
    # After the requests, whose paths the route of the page's files takes as well.
    _add_files(api, playground)


def _add_files(api: APIRouter, playground: Playground) -> None:
    assets = load_assets()
    pictures = {
        example.path.name: Asset.of(example.content, f"image/{_format_of(example.path.name)}")
        for example in playground.examples.values()
    }
    thumbnails = {
        f"{example.name}.jpg": Asset.of(example.thumbnail, "image/jpeg")
        for example in playground.examples.values()
    }

    async def page(request: Request) -> Response:
        return _file(request, assets, PAGE)

    async def without_slash() -> Response:
        # Relative addresses of the page's files begin at its folder.
        return RedirectResponse(f"..{PATH}")

    async def asset(request: Request, name: str) -> Response:
        return _file(request, assets, name)

    async def picture(request: Request, name: str) -> Response:
        return _file(request, pictures, name)

    async def thumbnail(request: Request, name: str) -> Response:
        return _file(request, thumbnails, name)

    for path, endpoint in (
        (PATH, page),
        (f"{PATH}/", without_slash),
        (f"{PATH}/examples/thumbnails/{{name}}", thumbnail),
        (f"{PATH}/examples/{{name}}", picture),
        (f"{PATH}/{{name}}", asset),
    ):
        api.api_route(path, methods=["GET", "HEAD"], include_in_schema=False)(endpoint)


def _add_requests(api: APIRouter, playground: Playground) -> None:
    async def facts() -> FactsAnswer:
        """Return the models, the limits and the settings that the page works with."""
        return playground.facts()

    async def candidates(body: CandidatesRequest) -> CandidatesAnswer:
        """Return every box of a picture over a low score, before thresholds and suppression.

        With them, a client applies any thresholds without another request. For thresholds over
        `floor`, the result equals that of POST /predict.
        """
        return await playground.candidates(body)

    async def masks(body: MasksRequest) -> MasksAnswer:
        """Return the outlines of the objects in boxes of a picture."""
        return await playground.masks(body)

    async def export(body: ExportRequest) -> Response:
        """Return the boxes as a labeling config, a task, COCO, or a request to POST /predict."""
        media_type = _MEDIA_TYPES.get(body.format, "application/json")
        return Response(await playground.export(body), headers=_HEADERS, media_type=media_type)

    api.get(f"{PATH}/facts")(facts)
    api.post(f"{PATH}/candidates")(candidates)
    api.post(f"{PATH}/masks")(masks)
    api.post(f"{PATH}/export")(export)


def _file(request: Request, files: Mapping[str, Asset], name: str) -> Response:
    asset = files.get(name)
    if asset is None:
        raise HTTPException(404, "Not Found")
    headers = {**_HEADERS, "ETag": asset.etag}
    if request.headers.get("if-none-match") == asset.etag:
        return Response(status_code=304, headers=headers)
    return Response(asset.content, headers=headers, media_type=asset.media_type)


def _format_of(file: str) -> str:
    return "png" if file.endswith(".png") else "jpeg"
