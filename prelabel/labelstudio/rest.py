"""Label Studio's REST API, as far as the commands use it: projects, tasks, connected backends.

The service itself only fetches pictures from Label Studio, in image_locator.py.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final, TypeVar

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    JsonValue,
    SecretStr,
    TypeAdapter,
    ValidationError,
)

from prelabel.errors import LabelStudioError
from prelabel.labelstudio.http import LabelStudioHttp, Response, UnreachableError
from prelabel.labelstudio.protocol import key_of
from prelabel.net.clock import clock_offset_s
from prelabel.net.egress import Egress
from prelabel.types import PromptRequest

BOTH_SWITCHES: Final = "ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false"
_WORKING_STATES: Final = ("CO", "TR", "PR")  # connected, training, predicting

ParsedT = TypeVar("ParsedT")


class Resource(BaseModel):
    """An answer of the API. Its further fields are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Project(Resource):
    """A project.

    Attributes:
        show_collab_predictions: True if annotators see predictions.
        model_version: Title of the backend, or model version, whose predictions annotators see.
        sampling: Name of the order in which annotators get the tasks.
    """

    id: int
    title: str | None = None
    label_config: str
    created_at: AwareDatetime
    show_collab_predictions: bool = True
    model_version: str | None = None
    sampling: str | None = None

    @property
    def key(self) -> str:
        """The project's identifier in Label Studio's requests to backends."""
        return key_of(self.id, self.created_at)


class Backend(Resource):
    """A backend that is connected to a project; Label Studio checked its state just now."""

    id: int
    url: str
    title: str | None = None
    state: str
    readable_state: str = ""
    is_interactive: bool = False
    model_version: str | None = None

    @property
    def works(self) -> bool:
        """True if Label Studio would send predict requests to it."""
        return self.state in _WORKING_STATES


class Webhook(Resource):
    """An address that Label Studio notifies of a project's events."""

    url: str


class StoredPrediction(Resource):
    """A prediction that Label Studio stores."""

    id: int
    model_version: str | None = None


@dataclass(frozen=True, slots=True)
class StoredTask:
    """A task of a project.

    Attributes:
        id: Its id.
        content: The task in the form in which Label Studio sends tasks to backends.
        predictions: Its predictions; None if they were not asked for.
    """

    id: int
    content: dict[str, JsonValue]
    predictions: tuple[StoredPrediction, ...] | None = None


class Identified(Resource):
    """Anything with an id."""

    id: int


class _Version(Resource):
    release: str


class _User(Resource):
    username: str = ""
    email: str = ""


@dataclass(frozen=True, slots=True)
class BackendForm:
    """The fields of a backend's connection.

    title: None keeps the title that the backend has. auth: user and password that Label Studio
    must send.
    """

    url: str
    is_interactive: bool
    title: str | None = None
    auth: tuple[str, SecretStr] | None = None

    def body(self, project: int, **more: JsonValue) -> dict[str, JsonValue]:
        """Return the form as JSON.

        A change must name project and URL, too, because Label Studio checks the backend that the
        request names, not the stored one.
        """
        body: dict[str, JsonValue] = {
            "project": project,
            "url": self.url,
            "is_interactive": self.is_interactive,
            "auth_method": "NONE" if self.auth is None else "BASIC_AUTH",
            **more,
        }
        if self.title is not None:
            body["title"] = self.title
        if self.auth is not None:
            user, password = self.auth
            body |= {"basic_auth_user": user, "basic_auth_pass": password.get_secret_value()}
        return body


class LabelStudioAPI:
    """Label Studio's REST API at an address, with the permissions of a token's user.

    All methods raise LabelStudioError if Label Studio refuses or does not answer, ImageFetchError
    if it gives no access token for a personal one, and ProxyError; each with the sentence to show.
    egress: proxies and certificates; without it, connections are direct.
    """

    def __init__(self, url: str, token: SecretStr, egress: Egress | None = None) -> None:
        self._http = LabelStudioHttp(url, token, egress or Egress.plain())
        self._request = self._http.request

    @property
    def address(self) -> str:
        """Label Studio's address without user and password."""
        return self._http.address

    def version(self) -> str:
        """Return Label Studio's version.

        The request carries no token, because the address may not be Label Studio's.
        """
        response = self._request("GET", "/api/version/", with_token=False)
        if not response.ok:
            raise self._http.not_label_studio()
        return self._parse(TypeAdapter(_Version), response).release

    def clock_offset_s(self) -> float | None:
        """Return how many seconds Label Studio's clock is ahead of this machine's.

        None if it tells no time.
        """
        sent_at = time.time()
        response = self._request("GET", "/api/version/", with_token=False)
        return clock_offset_s(response.date, sent_at, time.time())

    def user(self) -> str:
        """Return the e-mail address, or else the name, of the token's user."""
        response = self._request("GET", "/api/current-user/whoami")
        response = self._require_success(response, "say whose token this is")
        user = self._parse(TypeAdapter(_User), response)
        return user.email or user.username

    def project(self, number: int) -> Project:
        """Return the project of that number."""
        response = self._request("GET", f"/api/projects/{number}/")
        if response.status in (403, 404):
            raise LabelStudioError(
                f"Label Studio shows the token's user no project {number}. Take the number from "
                "the project's address, /projects/NUMBER, or the token of one of its members."
            )
        response = self._require_success(response, f"show project {number}")
        return self._parse(TypeAdapter(Project), response)

    def newest_task(self, project: int) -> StoredTask | None:
        """Return the task that was changed last; None if the project has no tasks."""
        response = self._request("GET", f"/api/projects/{project}/tasks/?page_size=1")
        response = self._require_success(response, f"show the tasks of project {project}")
        tasks = self._parse(TypeAdapter(list[dict[str, JsonValue]]), response)
        identified = self._parse(TypeAdapter(list[Identified]), response)
        return StoredTask(identified[0].id, tasks[0]) if tasks else None

    def backends(self, project: int) -> list[Backend]:
        """Return the backends of a project. Label Studio checks the health of each meanwhile."""
        response = self._request("GET", f"/api/ml/?project={project}")
        response = self._require_success(response, f"show the backends of project {project}")
        return self._parse(TypeAdapter(list[Backend]), response)

    def add_backend(self, project: int, form: BackendForm) -> Backend:
        """Connect a backend. Label Studio may have stored it even if this raises."""
        return self._parse_backend(self._request("POST", "/api/ml/", form.body(project)), form)

    def change_backend(self, backend: int, project: int, form: BackendForm) -> Backend:
        """Connect a backend again, as the form says."""
        # Label Studio keeps a stored password; with an empty user name, it does not send it.
        more: dict[str, JsonValue] = {} if form.auth else {"basic_auth_user": ""}
        body = form.body(project, **more)
        return self._parse_backend(self._request("PATCH", f"/api/ml/{backend}", body), form)

    def remove_backend(self, backend: int) -> None:
        """Disconnect a backend."""
        self._require_success(self._request("DELETE", f"/api/ml/{backend}"), "remove the backend")

    def webhooks(self, project: int) -> list[Webhook]:
        """Return the webhooks of a project."""
        response = self._request("GET", f"/api/webhooks/?project={project}")
        response = self._require_success(response, f"show the webhooks of project {project}")
        return self._parse(TypeAdapter(list[Webhook]), response)

    def add_webhook(self, project: int, url: str) -> None:
        """Notify an address of all events, as Label Studio does for a new backend."""
        body: dict[str, JsonValue] = {
            "project": project,
            "url": url,
            "send_payload": True,
            "send_for_all_actions": True,
        }
        response = self._request("POST", "/api/webhooks/", body)
        if response.status == 400:
            raise LabelStudioError(
                f"Label Studio takes no webhook to {url} ({response.short_message}). Give --url "
                "with a host that is localhost, an IP address or a name with a dot."
            )
        self._require_success(response, f"notify {url} of submitted annotations")

    def show_predictions_of(self, project: int, title: str) -> None:
        """Show annotators the predictions of the backend of that title."""
        response = self._request("PATCH", f"/api/projects/{project}/", {"model_version": title})
        self._require_success(response, "show the model's predictions to annotators")

    def _parse_backend(self, response: Response, form: BackendForm) -> Backend:
        if response.ok:
            return self._parse(TypeAdapter(Backend), response)
        raise LabelStudioError(_connect_fault(response, form.url))

    def _require_success(self, response: Response, action: str) -> Response:
        """Return the response; raise LabelStudioError if Label Studio did not do the action."""
        if response.ok:
            return response
        if "network address" in response.message:
            raise LabelStudioError(_private_address_fault(response))
        if response.status == 403:
            raise LabelStudioError(
                f"The token's user may not make Label Studio {action}. Use the token of a user "
                "with that permission."
            )
        fault = LabelStudioError if response.status < 500 else UnreachableError
        raise fault(
            f"Label Studio does not {action} ({response.short_message}). Its log says more."
        )

    def _parse(self, adapter: TypeAdapter[ParsedT], response: Response) -> ParsedT:
        try:
            return adapter.validate_json(response.body)
        except ValidationError:
            raise self._http.not_label_studio() from None


def predict_request(
    project: Project, tasks: Sequence[StoredTask], request: PromptRequest | None = None
) -> dict[str, JsonValue]:
    """Return the body of Label Studio's POST /predict for tasks of a project.

    A project can have a login and a password for its pictures; the body omits them, because the
    service does not use them.

    Args:
        project: The project.
        tasks: The tasks.
        request: Prompt and thresholds for all of them, which Label Studio itself never sends.
    """
    wanted = {
        name: value
        for name, value in asdict(request or PromptRequest()).items()
        if value is not None
    }
    return {
        "tasks": [task.content for task in tasks],
        "project": project.key,
        "label_config": project.label_config,
        "params": {"login": None, "password": None, "context": None, **wanted},
    }


def _connect_fault(response: Response, url: str) -> str:
    # Label Studio gives the reason in prose only; these are its phrases since 1.8.
    message = response.message
    if "network address" in message:
        return _private_address_fault(response)
    if "health check failed" in message or "resolve hostname" in message:
        return (
            f"Label Studio cannot reach {url}. Start the service with `make serve`, and give "
            "--url as Label Studio's machine or container sees it."
        )
    if "authentication" in message:
        return (
            "The service refuses the user name and password that Label Studio sent. Set "
            "BASIC_AUTH_USER and BASIC_AUTH_PASS here to the values that the service has."
        )
    if response.status == 403:
        return (
            "The token's user may not connect a model to this project. Take the token of a user "
            "who may change it."
        )
    return (
        f"Label Studio does not connect {url} ({response.short_message}). Its log and the "
        "service's say more."
    )


def _private_address_fault(response: Response) -> str:
    return (
        f"Label Studio refuses private addresses ({response.short_message}). Start it with both "
        f"{BOTH_SWITCHES}."
    )
