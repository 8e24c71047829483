"""Asks a running service about one picture, as Label Studio would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import requests
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from prelabel.drawing import DrawnBox
from prelabel.errors import PrelabelError
from prelabel.labelstudio.interactive import prompt_request
from prelabel.labelstudio.protocol import Prediction, Region, TaskError

_TIMEOUTS_S = (5, 120)
_UNAUTHORIZED = 401


class AskError(PrelabelError):
    """The service did not answer with a prediction."""


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
) -> Prediction:
    """The service's prediction for a picture. Raises AskError with the sentence to show."""
    body = prompt_request(image, prompt, labels, thresholds)
    try:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.post(f"{url}/predict", json=body, auth=auth, timeout=_TIMEOUTS_S)
    except requests.ConnectionError as error:
        raise AskError(f"No service answers at {url}. Start it with `make serve`.") from error
    except requests.RequestException as error:
        raise AskError(f"{url} did not answer ({type(error).__name__}). Check the URL.") from error
    if answer.status_code == _UNAUTHORIZED:
        raise AskError("The service wants a user name and password. Give --user and --password.")
    return _prediction(url, answer)


def _prediction(url: str, answer: requests.Response) -> Prediction:
    if not answer.ok:
        raise AskError(_sentence(answer) or f"{url} answered {answer.status_code}. Check the URL.")
    try:
        [entry] = _Answer.model_validate_json(answer.content).results
    except ValueError as error:
        raise AskError(f"{url} does not answer like this service. Check the URL.") from error
    if "error" in entry:
        raise AskError(entry["error"])
    return entry


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
    [label] = value.get("rectanglelabels", ["?"])
    return DrawnBox((left, top, right, bottom), label, f"{label} {region['score']:.2f}")
