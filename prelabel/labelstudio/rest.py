"""What the commands ask of Label Studio's REST API: projects, tasks, and the backends connected.

The service itself asks for pictures only, see client.py. Here as there, a token goes to Label
Studio's own address and along no redirect.
"""

from __future__ import annotations

from dataclasses import dataclass
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
from prelabel.labelstudio.http import Answer, Line
from prelabel.labelstudio.protocol import key_of
from prelabel.net.egress import Egress

BOTH_SWITCHES: Final = "ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false"
_WORKING_STATES: Final = ("CO", "TR", "PR")  # connected, training, predicting

Read = TypeVar("Read")


class _Read(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Project(_Read):
    """A project. model_version: whose predictions its annotators see, where that is on."""

    id: int
    title: str | None = None
    label_config: str
    created_at: AwareDatetime
    show_collab_predictions: bool = True
    model_version: str | None = None

    @property
    def key(self) -> str:
        """What Label Studio calls it when it speaks to a backend."""
        return key_of(self.id, self.created_at)


class Backend(_Read):
    """A backend that is connected to a project, in the state that Label Studio just found."""

    id: int
    url: str
    title: str | None = None
    state: str
    readable_state: str = ""
    is_interactive: bool = False
    model_version: str | None = None

    @property
    def works(self) -> bool:
        """Whether Label Studio would ask it for predictions."""
        return self.state in _WORKING_STATES


class Webhook(_Read):
    """An address that is told what happens in a project."""

    url: str


@dataclass(frozen=True, slots=True)
class StoredTask:
    """A task of a project, in the form in which Label Studio sends tasks to backends."""

    id: int
    content: dict[str, JsonValue]


class _Identified(_Read):
    id: int


class _Version(_Read):
    release: str


class _User(_Read):
    username: str = ""
    email: str = ""


@dataclass(frozen=True, slots=True)
class BackendForm:
    """What is filled in to connect a backend.

    title: None leaves the one there is. auth: user and password that Label Studio must send.
    """

    url: str
    is_interactive: bool
    title: str | None = None
    auth: tuple[str, SecretStr] | None = None

    def body(self, project: int, **more: JsonValue) -> dict[str, JsonValue]:
        """The form as JSON. Changes must name project and url, too: Label Studio asks the backend
        of the request, not that of its record.
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
    """Label Studio at an address, seen by the owner of a token.

    All methods raise LabelStudioError where it refuses or does not answer, and ImageFetchError
    where it gives no access token for a personal one, and ProxyError; each with the sentence to
    show. egress: the way there; without it, direct.
    """

    def __init__(self, url: str, token: SecretStr, egress: Egress | None = None) -> None:
        self._line = Line(url, token, egress or Egress.plain())
        self._ask = self._line.ask

    @property
    def address(self) -> str:
        """Its address, without what may stand before an @."""
        return self._line.address

    def version(self) -> str:
        """Its version, asked without the token: that this is Label Studio is not certain yet."""
        answer = self._ask("GET", "/api/version/", with_token=False)
        if not answer.ok:
            raise self._line.not_label_studio()
        return self._read(TypeAdapter(_Version), answer).release

    def user(self) -> str:
        """Whose token it is."""
        answer = self._ask("GET", "/api/current-user/whoami")
        user = self._read(TypeAdapter(_User), self._granted(answer, "say whose token this is"))
        return user.email or user.username

    def project(self, number: int) -> Project:
        """The project of that number."""
        answer = self._ask("GET", f"/api/projects/{number}/")
        if answer.status in (403, 404):
            raise LabelStudioError(
                f"Label Studio shows the token's user no project {number}. Take the number from "
                "the project's address, /projects/NUMBER, or the token of one of its members."
            )
        return self._read(TypeAdapter(Project), self._granted(answer, f"show project {number}"))

    def newest_task(self, project: int) -> StoredTask | None:
        """The task that was changed last; None where there are none."""
        answer = self._ask("GET", f"/api/projects/{project}/tasks/?page_size=1")
        answer = self._granted(answer, f"show the tasks of project {project}")
        tasks = self._read(TypeAdapter(list[dict[str, JsonValue]]), answer)
        numbers = self._read(TypeAdapter(list[_Identified]), answer)
        return StoredTask(numbers[0].id, tasks[0]) if tasks else None

    def backends(self, project: int) -> list[Backend]:
        """The backends of a project; Label Studio asks each of them how it is."""
        answer = self._ask("GET", f"/api/ml/?project={project}")
        wanted = f"show the backends of project {project}"
        return self._read(TypeAdapter(list[Backend]), self._granted(answer, wanted))

    def add_backend(self, project: int, form: BackendForm) -> Backend:
        """Connect one. It may be there even where this raises: look again."""
        answer = self._ask("POST", "/api/ml/", form.body(project))
        return self._connected(answer, form.url)

    def change_backend(self, backend: int, project: int, form: BackendForm) -> Backend:
        """Connect one again, by what the form says now."""
        # An empty user keeps Label Studio from sending the password that it may still have.
        more: dict[str, JsonValue] = {} if form.auth else {"basic_auth_user": ""}
        answer = self._ask("PATCH", f"/api/ml/{backend}", form.body(project, **more))
        return self._connected(answer, form.url)

    def remove_backend(self, backend: int) -> None:
        """Disconnect one."""
        self._granted(self._ask("DELETE", f"/api/ml/{backend}"), "remove the backend")

    def webhooks(self, project: int) -> list[Webhook]:
        """Who is told what happens in a project."""
        answer = self._ask("GET", f"/api/webhooks/?project={project}")
        wanted = f"show the webhooks of project {project}"
        return self._read(TypeAdapter(list[Webhook]), self._granted(answer, wanted))

    def add_webhook(self, project: int, url: str) -> None:
        """Have an address told all that happens, as Label Studio does for a new backend."""
        body: dict[str, JsonValue] = {
            "project": project,
            "url": url,
            "send_payload": True,
            "send_for_all_actions": True,
        }
        answer = self._ask("POST", "/api/webhooks/", body)
        if answer.status == 400:
            raise LabelStudioError(
                f"Label Studio takes no webhook to {url} ({answer.quoted}). Call the service by a "
                "host that is localhost, a number or a name with a dot, and give that as --url."
            )
        self._granted(answer, f"tell {url} of submits")

    def show_predictions_of(self, project: int, title: str) -> None:
        """Have annotators see the predictions of the backend of that title."""
        answer = self._ask("PATCH", f"/api/projects/{project}/", {"model_version": title})
        self._granted(answer, "show the model's predictions to annotators")

    def _connected(self, answer: Answer, url: str) -> Backend:
        if answer.ok:
            return self._read(TypeAdapter(Backend), answer)
        raise LabelStudioError(_why_not_connected(answer, url))

    def _granted(self, answer: Answer, wanted: str) -> Answer:
        if answer.ok:
            return answer
        if "network address" in answer.words:
            raise LabelStudioError(_refuses_private(answer))
        if answer.status == 403:
            raise LabelStudioError(
                f"The token's user may not make Label Studio {wanted}. Take the token of a user "
                "who may."
            )
        raise LabelStudioError(
            f"Label Studio does not {wanted} ({answer.quoted}). Look into its log."
        )

    def _read(self, kind: TypeAdapter[Read], answer: Answer) -> Read:
        try:
            return kind.validate_json(answer.body)
        except ValidationError:
            raise self._line.not_label_studio() from None


def predict_request(project: Project, task: StoredTask) -> dict[str, JsonValue]:
    """Body of POST /predict for one task of a project, as Label Studio retrieves predictions.

    Without the login and password that a project can have for its pictures: they are of no use
    to the service.
    """
    return {
        "tasks": [task.content],
        "project": project.key,
        "label_config": project.label_config,
        "params": {"login": None, "password": None, "context": None},
    }


def _why_not_connected(answer: Answer, url: str) -> str:
    """Label Studio says why in prose only; these are its phrases since 1.8."""
    words = answer.words
    if "network address" in words:
        return _refuses_private(answer)
    if "health check failed" in words or "resolve hostname" in words:
        return (
            f"Label Studio cannot reach {url}. Start the service with `make serve`, and give "
            "--url as Label Studio's machine or container sees it."
        )
    if "authentication" in words:
        return (
            "The service refuses the user name and password that Label Studio sent. Set "
            "BASIC_AUTH_USER and BASIC_AUTH_PASS here as where the service runs."
        )
    if answer.status == 403:
        return (
            "The token's user may not connect a model to this project. Take the token of a user "
            "who may change it."
        )
    return (
        f"Label Studio does not connect {url} ({answer.quoted}). Look into its log and the "
        "service's."
    )


def _refuses_private(answer: Answer) -> str:
    return (
        f"Label Studio refuses private addresses ({answer.quoted}). Start it with both "
        f"{BOTH_SWITCHES}."
    )
