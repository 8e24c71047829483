"""HTTP client of a running prelabel service, used by the commands."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import requests
from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter, ValidationError

from prelabel.errors import PrelabelError
from prelabel.labelstudio.interactive_request import prompt_request
from prelabel.labelstudio.responses import Prediction, TaskError
from prelabel.net.clock import clock_offset_s
from prelabel.net.egress import Egress
from prelabel.net.tls import tls_fault

_CONNECT_TIMEOUT_S = 5.0
_READ_TIMEOUT_S = 120.0  # a full-size model on a CPU takes seconds for each pass
_HEALTH_READ_TIMEOUT_S = 20.0
_UNAUTHORIZED, _NOT_FOUND, _TOO_LARGE, _UNAVAILABLE = 401, 404, 413, 503
# Ray Serve's proxies answer 404 with this text while no application is deployed.
_NO_APPLICATION_TEXT = "Ping http://.../-/routes"


class ServiceError(PrelabelError):
    """The service did not give the requested answer. The message is shown to the user."""


class ServiceUnreachableError(ServiceError):
    """Nothing listens at the service's address."""


class ServiceStartingError(ServiceError):
    """The service is starting and cannot answer yet."""


class ServiceBusyError(ServiceError):
    """The service has too much to do. A later request may succeed."""


class RequestTooLargeError(ServiceError):
    """The service takes no request of so many bytes or tasks."""


class ServiceTimeoutError(ServiceError):
    """The service accepted the connection and did not answer in time."""


# The service cannot answer now. A later request may succeed.
NOT_NOW: Final = (ServiceBusyError, ServiceStartingError, ServiceUnreachableError)


class TaskFailedError(ServiceError):
    """The service answered, and could not predict this task.

    Attributes:
        error_type: Name of the service's error.
    """

    def __init__(self, message: str, error_type: str = "") -> None:
        super().__init__(message)
        self.error_type = error_type


class _ResponsePart(BaseModel):
    # A newer service may send further fields.
    model_config = ConfigDict(extra="ignore", frozen=True)


class ServedModel(_ResponsePart):
    """The model that the service runs.

    Attributes:
        source: `embedded` for the demo model.
        warning: A sentence about the model's card if it is probably wrong.
    """

    name: str
    title: str
    source: str = ""
    warning: str | None = None


class ServiceNetwork(_ResponsePart):
    """Network settings of the service: its proxies, and trust in additional CAs."""

    http_proxy: bool = False
    https_proxy: bool = False
    own_ca: bool = False


class LabelStudioVariables(_ResponsePart):
    """Presence of Label Studio's variables in the service's environment, without their values."""

    host: bool
    access_token: bool


class DetectionDefaults(_ResponsePart):
    """The service's own thresholds."""

    box_threshold: float


class Health(_ResponsePart):
    """Response of GET /health.

    Attributes:
        status: UP, STARTING or DOWN.
        label_studio: None if the service is of an older version that does not report it.
        network: None if the service is of an older version.
        segmenter: None if the service draws no masks.
        detectors: Number of detector replicas that run; None while the service does not know it,
            and if it is of an older version.
        predict_params: Names of the parameters of a prediction that the service knows.
        prediction_score: The setting of that name; None if the service is of an older version.
        detection: None if the service is of an older version.
        kernels: False if the service runs without its C kernels; None if it is of an older version.
    """

    service_version: str
    model_version: str
    model: ServedModel
    status: str = "UP"
    label_studio: LabelStudioVariables | None = None
    network: ServiceNetwork | None = None
    segmenter: ServedModel | None = None
    detectors: int | None = None
    predict_params: tuple[str, ...] = ()
    prediction_score: str | None = None
    detection: DetectionDefaults | None = None
    kernels: bool | None = None


class _Remembered(_ResponsePart):
    box_threshold: float | None = None


class _RememberedPrompt(_Remembered):
    project: str = ""
    prompt: str | None = None
    text_threshold: float | None = None
    extra: _Remembered = _Remembered()

    @property
    def is_submitted(self) -> bool:
        """False if only the extra parameters of the project's model are remembered."""
        return (self.prompt, self.box_threshold, self.text_threshold) != (None, None, None)


class _PromptsResponse(_ResponsePart):
    prompts: list[_RememberedPrompt]


class _PredictResponse(_ResponsePart):
    results: list[TaskError | Prediction]


@dataclass(frozen=True)
class ServiceClient:
    """Client of the service at one URL. All methods raise ServiceError with a message to show.

    Attributes:
        url: Address of the service, without a trailing slash.
        auth: User and password of basic auth, if the service requires them.
        egress: Proxies and certificates of the connections.
    """

    url: str
    auth: tuple[str, str] | None = field(repr=False)
    egress: Egress

    def health(self) -> Health:
        """Return the state of the service.

        Raises:
            ServiceUnreachableError: Nothing listens at the URL.
            ServiceStartingError: Ray Serve runs, and the application does not answer yet.
        """
        try:
            response = self._request("GET", "/health", read_timeout_s=_HEALTH_READ_TIMEOUT_S)
        except ServiceTimeoutError as error:
            raise ServiceStartingError(
                f"{self.url} accepts connections and does not answer: the service is starting or "
                "overloaded. Try again in a minute."
            ) from error
        try:
            return Health.model_validate_json(response.content)
        except ValidationError as error:
            raise self._not_this_service() from error

    def clock_offset_s(self) -> float | None:
        """Return how many seconds the service's clock is ahead of this machine's.

        None if it tells no time.
        """
        sent_at = time.time()
        response = self._request("GET", "/health", read_timeout_s=_HEALTH_READ_TIMEOUT_S)
        return clock_offset_s(response.headers.get("Date"), sent_at, time.time())

    def predict(
        self,
        image: bytes,
        prompt: str,
        *,
        labels: Sequence[str],
        thresholds: Mapping[str, float | None],
        masks: bool = False,
    ) -> Prediction:
        """Return the prediction for an encoded image.

        Args:
            image: The file's bytes.
            prompt: The user's prompt.
            labels: Labels of the labeling config that is sent along.
            thresholds: `box_threshold` and `text_threshold`; None for the service's own.
            masks: Request masks beside the boxes.
        """
        return self.predict_task(prompt_request(image, prompt, labels, thresholds, masks=masks))

    def predict_task(self, body: Mapping[str, JsonValue]) -> Prediction:
        """Return the prediction for a request body of one task."""
        [entry] = self.predict_tasks(body, 1)
        if "error" in entry:
            raise TaskFailedError(entry["error"], entry["error_type"])
        return entry

    def predict_tasks(
        self, body: Mapping[str, JsonValue], count: int
    ) -> list[TaskError | Prediction]:
        """Return the predictions for a request body of `count` tasks, in order.

        Raises:
            RequestTooLargeError: The service takes fewer tasks or bytes only.
            ServiceTimeoutError: The service did not answer in time; fewer tasks may be faster.
            ServiceBusyError: The service refuses the request until it has less to do.
        """
        response = self._request("POST", "/predict", body)
        try:
            results = _PredictResponse.model_validate_json(response.content).results
        except ValueError as error:
            raise self._not_this_service() from error
        if len(results) != count:
            raise self._not_this_service()
        return results

    def count_prompts(self, project: int) -> int:
        """Return the number of prompts that are remembered for a project.

        Raises ServiceError with the service's own message if the prompt store cannot be used.
        """
        return sum(each.is_submitted for each in self._prompts(project))

    def remembered_threshold(self, project: int, key: str) -> float | None:
        """Return the box threshold that is remembered for a project, None without one.

        It has precedence over those of the labeling config.

        Args:
            project: The project's number.
            key: The project's key in Label Studio's requests.
        """
        for each in self._prompts(project):
            if each.project == key:
                typed, extra = each.box_threshold, each.extra.box_threshold
                return extra if typed is None else typed
        return None

    def _prompts(self, project: int) -> list[_RememberedPrompt]:
        response = self._request("GET", f"/prompts?project={project}")
        try:
            return _PromptsResponse.model_validate_json(response.content).prompts
        except ValidationError as error:
            raise self._not_this_service() from error

    def _request(
        self,
        method: str,
        path: str,
        body: Mapping[str, JsonValue] | None = None,
        read_timeout_s: float = _READ_TIMEOUT_S,
    ) -> requests.Response:
        url = self.url
        try:
            with self.egress.session(url, _CONNECT_TIMEOUT_S) as session:
                response = session.request(
                    method,
                    f"{url}{path}",
                    json=body,
                    auth=self.auth,
                    timeout=(_CONNECT_TIMEOUT_S, read_timeout_s),
                    allow_redirects=False,  # the password is for this origin only
                )
        except requests.exceptions.SSLError as error:
            raise ServiceError(f"{url} {tls_fault(error)}.") from error
        except requests.ConnectionError as error:
            raise ServiceUnreachableError(
                f"No service answers at {url}. Start it with `make serve`. "
                "If it listens on another address, name that with --url."
            ) from error
        except requests.ReadTimeout as error:
            raise ServiceTimeoutError(f"{url} did not answer in time. Check the URL.") from error
        except (requests.RequestException, ValueError) as error:
            raise ServiceError(
                f"{url} did not answer ({type(error).__name__}). Check the URL."
            ) from error
        self._check_status(response)
        return response

    def _check_status(self, response: requests.Response) -> None:
        if response.status_code == _UNAUTHORIZED:
            raise ServiceError(
                "The service requires a user name and password. Set BASIC_AUTH_USER and "
                "BASIC_AUTH_PASS to the values that are set where it runs."
            )
        if response.status_code == _NOT_FOUND and _NO_APPLICATION_TEXT in response.text:
            raise ServiceStartingError(
                f"Ray Serve answers at {self.url}, and the service is not there yet: it is "
                "starting, or it failed to start. Wait some seconds; if that does not help, read "
                "its output."
            )
        if response.status_code == _TOO_LARGE:
            raise RequestTooLargeError(_own_message(response) or f"{self.url} answered 413.")
        if response.status_code == _UNAVAILABLE:
            raise ServiceBusyError(
                _own_message(response) or f"The service at {self.url} has too much to do."
            )
        if response.is_redirect or not response.ok:
            raise ServiceError(
                _own_message(response)
                or f"{self.url} answered {response.status_code}. Check the URL."
            )

    def _not_this_service(self) -> ServiceError:
        return ServiceError(f"{self.url} does not answer as this service does. Check the URL.")


def _own_message(response: requests.Response) -> str | None:
    try:
        return TypeAdapter(TaskError).validate_json(response.content)["error"]
    except ValidationError:
        return None
