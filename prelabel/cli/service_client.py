"""Asks a running service how it is, and about one picture, as Label Studio would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import requests
from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter, ValidationError

from prelabel.cli.drawing import DrawnBox
from prelabel.errors import PrelabelError
from prelabel.labelstudio.interactive_request import prompt_request
from prelabel.labelstudio.responses import Prediction, Region, TaskError
from prelabel.net.egress import Egress
from prelabel.net.tls import tls_fault

_TIMEOUTS_S = (5, 120)
_HEALTH_TIMEOUTS_S = (5, 20)
_UNAUTHORIZED, _NOT_FOUND = 401, 404
_SERVE_S_WORDS = "Ping http://.../-/routes"  # in what Ray Serve answers without an application


class AskError(PrelabelError):
    """The service did not answer with a prediction."""


class SilentError(AskError):
    """Nothing listens at the address."""


class StartingError(AskError):
    """The service is there, and cannot answer yet."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class ServedModel(_Part):
    """The model that is served. source: `embedded` for the demo model."""

    name: str
    title: str
    source: str = ""


class NetworkOfService(_Part):
    """Whether the service asks proxies, and for what, and whether it believes CAs of a company."""

    http_proxy: bool = False
    https_proxy: bool = False
    own_ca: bool = False


class KnownToService(_Part):
    """Whether the service was told of Label Studio; never what."""

    host: bool
    access_token: bool


class Health(_Part):
    """What GET /health says. label_studio, network: None from a service of an older version.
    status: UP, STARTING or DOWN.
    """

    service_version: str
    model_version: str
    model: ServedModel
    status: str = "UP"
    label_studio: KnownToService | None = None
    network: NetworkOfService | None = None


class _Prompts(_Part):
    prompts: list[JsonValue]


class _LateError(AskError):
    """No answer in time."""


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore")

    results: list[TaskError | Prediction]


def ask(
    url: str,
    image: bytes,
    prompt: str,
    *,
    labels: Sequence[str],
    thresholds: Mapping[str, float | None],
    auth: tuple[str, str] | None,
    egress: Egress,
) -> Prediction:
    """The service's prediction for a picture. Raises AskError with the sentence to show."""
    return ask_for_task(url, prompt_request(image, prompt, labels, thresholds), auth, egress)


def ask_for_task(
    url: str, body: Mapping[str, JsonValue], auth: tuple[str, str] | None, egress: Egress
) -> Prediction:
    """The prediction for the one task of a request. Raises AskError with the sentence to show."""
    answer = _exchange("POST", f"{url}/predict", url, auth, egress, body)
    try:
        [entry] = _Answer.model_validate_json(answer.content).results
    except ValueError as error:
        raise _another_service(url) from error
    if "error" in entry:
        raise AskError(entry["error"])
    return entry


def ask_health(url: str, auth: tuple[str, str] | None, egress: Egress) -> Health:
    """How the service is. Raises AskError with the sentence to show: SilentError where nothing
    listens, StartingError where Ray Serve runs and the application does not answer yet.
    """
    try:
        answer = _exchange("GET", f"{url}/health", url, auth, egress, timeouts_s=_HEALTH_TIMEOUTS_S)
    except _LateError as error:
        raise StartingError(
            f"{url} takes connections and does not answer: the service is starting, or has too "
            "much to do. Try again in a minute."
        ) from error
    try:
        return Health.model_validate_json(answer.content)
    except ValidationError as error:
        raise _another_service(url) from error


def ask_prompts(url: str, auth: tuple[str, str] | None, egress: Egress, project: int) -> int:
    """How many prompts are remembered of a project's id. Raises AskError with the sentence to show,
    which is the service's own where it cannot use its memory.
    """
    answer = _exchange("GET", f"{url}/prompts?project={project}", url, auth, egress)
    try:
        return len(_Prompts.model_validate_json(answer.content).prompts)
    except ValidationError as error:
        raise _another_service(url) from error


def _exchange(
    method: str,
    address: str,
    url: str,
    auth: tuple[str, str] | None,
    egress: Egress,
    body: Mapping[str, JsonValue] | None = None,
    timeouts_s: tuple[float, float] = _TIMEOUTS_S,
) -> requests.Response:
    try:
        with egress.session(url, _TIMEOUTS_S[0]) as session:
            answer = session.request(
                method,
                address,
                json=body,
                auth=auth,
                timeout=timeouts_s,
                allow_redirects=False,
            )
    except requests.exceptions.SSLError as error:
        raise AskError(f"{url} {tls_fault(error)}.") from error
    except requests.ConnectionError as error:
        raise SilentError(f"No service answers at {url}. Start it with `make serve`.") from error
    except requests.ReadTimeout as error:
        raise _LateError(f"{url} did not answer (ReadTimeout). Check the URL.") from error
    except (requests.RequestException, ValueError) as error:
        raise AskError(f"{url} did not answer ({type(error).__name__}). Check the URL.") from error
    if answer.status_code == _UNAUTHORIZED:
        raise AskError(
            "The service wants a user name and password. Set BASIC_AUTH_USER and BASIC_AUTH_PASS "
            "as where it runs."
        )
    if answer.status_code == _NOT_FOUND and _SERVE_S_WORDS in answer.text:
        raise StartingError(
            f"Ray Serve answers at {url}, and the service is not there yet: it is starting, or "
            "could not. Wait some seconds; if that does not help, its output says why."
        )
    if answer.is_redirect or not answer.ok:
        raise AskError(_sentence(answer) or f"{url} answered {answer.status_code}. Check the URL.")
    return answer


def _another_service(url: str) -> AskError:
    return AskError(f"{url} does not answer like this service. Check the URL.")


def _sentence(answer: requests.Response) -> str | None:
    try:
        return TypeAdapter(TaskError).validate_json(answer.content)["error"]
    except ValidationError:
        return None


def to_box(region: Region) -> DrawnBox:
    """A region in pixels, with its label and score."""
    value, width, height = region["value"], region["original_width"], region["original_height"]
    left, top = value["x"] * width / 100, value["y"] * height / 100
    right, bottom = left + value["width"] * width / 100, top + value["height"] * height / 100
    [label] = value["rectanglelabels"]
    return DrawnBox((left, top, right, bottom), label, f"{label} {region['score']:.2f}")
