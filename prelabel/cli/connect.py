"""`prelabel connect`: connects this service to a project of Label Studio, or updates it there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pydantic import SecretStr

from prelabel.errors import LabelStudioError, PrelabelError
from prelabel.labelstudio.labeling_config import (
    LabelingConfig,
    has_smart_points,
    parse_labeling_config,
)
from prelabel.labelstudio.rest import Backend, BackendForm, LabelStudioAPI, Project
from prelabel.net.egress import Egress
from prelabel.net.origin import LOOPBACK_NAMES, SERVICE_URL, Origin, same_address
from prelabel.settings import Environment

TITLE = "prelabel"
# The limit is a setting of the service, which the command does not know.
NO_LABEL_LIMIT = sys.maxsize


class ConnectError(PrelabelError):
    """A variable or an option that connecting needs is missing or wrong."""


@dataclass(frozen=True, slots=True)
class ConnectResult:
    """A project and its backend after `prelabel connect`.

    Attributes:
        project: The project.
        backend: The backend as Label Studio stores it now.
        is_new: True if the backend was added, False if it was updated.
        has_prompt: True if the labeling config has a text area for a prompt.
        has_smart_points: True if it has a smart tool for clicks.
        duplicates: Number of further backends of the project at the same address.
        webhook_fault: Reason why Label Studio does not notify the service of submitted
            annotations; None if it does.
    """

    project: Project
    backend: Backend
    is_new: bool
    has_prompt: bool
    has_smart_points: bool
    duplicates: int
    webhook_fault: str | None

    def report(self) -> list[str]:
        """Return the paragraphs to show: the result, warnings, and the next steps."""
        return [
            self._summary(),
            *self._warnings(),
            self._next_step(),
            f"To check the whole way: {self._doctor_command()}",
        ]

    def facts(self) -> dict[str, object]:
        """Return the same for a program."""
        return {
            "project": self.project.id,
            "title": self.project.title,
            "backend": self.backend.id,
            "url": self.backend.url,
            "name": self.backend.title,
            "model_version": self.backend.model_version,
            "interactive": self.backend.is_interactive,
            "added": self.is_new,
            "warnings": list(self._warnings()),
        }

    def _summary(self) -> str:
        verb = "Connected to" if self.is_new else "Updated in"
        interactive = "on" if self.backend.is_interactive else "off"
        return (
            f"{verb} project {self.project.id} ({self.project.title}): {self.backend.url}, as "
            f"{self.backend.title}, model version {self.backend.model_version}. Interactive "
            f"preannotations are {interactive}."
        )

    def _warnings(self) -> Iterator[str]:
        if self.webhook_fault:
            yield f"Submitted prompts will not be remembered. {self.webhook_fault}"
        if self.duplicates:
            yield (
                f"The project has further backends at this address: {self.duplicates}. Remove them "
                "under Settings, Model."
            )
        if not self.project.show_collab_predictions:
            yield (
                "Annotators do not see retrieved predictions. Switch them on under Settings, "
                "Annotation, Prelabeling."
            )

    def _doctor_command(self) -> str:
        command, url = f"prelabel doctor --project {self.project.id}", self.backend.url
        if same_address(url, SERVICE_URL):
            return command
        # This machine may not resolve a name that Label Studio does, such as a container's.
        is_local = Origin.of(url).host in LOOPBACK_NAMES
        return f"{command} {'--url' if is_local else '--backend-url'} {url}"

    def _next_step(self) -> str:
        in_bulk = "select tasks in the Data Manager, Actions, Retrieve Predictions"
        by_hand = []
        if self.has_prompt:
            by_hand.append("type a prompt and press Add")
        if self.has_smart_points:
            by_hand.append("choose the smart tool and a label, and click on an object")
        if not (by_hand and self.backend.is_interactive):
            return f"Next: {in_bulk}."
        return (
            f"Next: open a task, switch Auto-Annotation on, and {'; or '.join(by_hand)}. "
            f"Or {in_bulk}."
        )


def open_label_studio(environment: Environment, egress: Egress | None = None) -> LabelStudioAPI:
    """Return a client for the Label Studio that the environment's variables name.

    Args:
        environment: Address, token, proxies and certificates.
        egress: Proxies and certificates, if they were already made from the same environment.

    Raises:
        ConnectError: Address or token is missing.
        TrustError: Certificates cannot be read.
    """
    url, token = label_studio_access(environment)
    return LabelStudioAPI(url, token, egress or Egress.of(environment))


def label_studio_access(environment: Environment) -> tuple[str, SecretStr]:
    """Return Label Studio's address and token. Raises ConnectError if one of them is missing."""
    url, token = environment.label_studio_url, environment.current_label_studio_token()
    if url is None or token is None:
        missing = name_missing(host=url is not None, access_token=token is not None)
        raise ConnectError(
            f"This shell has no {missing}. Export Label Studio's address and a token of its "
            "Account & Settings page, here and where the service runs."
        )
    return url, token


def name_missing(*, host: bool, access_token: bool) -> str:
    """Return the names of the unset ones of Label Studio's two variables; empty if both are set."""
    is_set = {"LABEL_STUDIO_HOST": host, "LABEL_STUDIO_ACCESS_TOKEN": access_token}
    return " and ".join(name for name in is_set if not is_set[name])


def backend_form(
    url: str, environment: Environment, *, title: str | None, interactive: bool
) -> BackendForm:
    """Return the fields of the connection.

    Raises ConnectError for a URL without an origin, and for half of user name and password.
    """
    url = url.strip().rstrip("/")
    try:
        Origin.of(url)
    except ValueError:
        raise ConnectError(
            f"{url!r} is not an address. Give --url as in http://127.0.0.1:9090."
        ) from None
    user, password = environment.basic_auth_user, environment.basic_auth_pass
    if (user is None) != (password is None):
        raise ConnectError(
            "Label Studio sends a user name only with a password. Set both BASIC_AUTH_USER and "
            "BASIC_AUTH_PASS, here and for the service, or neither."
        )
    auth = (user, password) if user is not None and password is not None else None
    return BackendForm(url, interactive, title, auth)


def read_config(project: Project) -> LabelingConfig:
    """Return a project's labeling config. Raises LabelingConfigError if it cannot be served."""
    return parse_labeling_config(project.label_config, NO_LABEL_LIMIT)


def backends_at(url: str, backends: list[Backend]) -> list[Backend]:
    """Return the backends at an address; different spellings of an address are equal."""
    return [backend for backend in backends if same_address(backend.url, url)]


def has_webhook(api: LabelStudioAPI, project: Project, url: str) -> bool:
    """Return True if Label Studio notifies the service at this address of a project's events."""
    endpoint = f"{url.rstrip('/')}/webhook"
    return any(same_address(hook.url, endpoint) for hook in api.webhooks(project.id))


def connect(api: LabelStudioAPI, number: int, form: BackendForm) -> ConnectResult:
    """Connect a backend to the project of that number, or update the backend at its address.

    Raises LabelStudioError, and LabelingConfigError for a config that the service would refuse.
    Nothing has been added to the project then.
    """
    project = api.project(number)
    config = read_config(project)
    before = api.backends(number)
    existing = backends_at(form.url, before)
    if existing:
        backend = api.change_backend(existing[0].id, number, form)
        _show_predictions(api, project, backend)
    else:
        titled = replace(form, title=TITLE) if form.title is None else form
        backend = _add(api, number, titled, before)
    return ConnectResult(
        project=project,
        backend=backend,
        is_new=not existing,
        has_prompt=config.prompt_area is not None,
        has_smart_points=has_smart_points(project.label_config),
        duplicates=max(len(existing) - 1, 0),
        webhook_fault=_add_webhook(api, project, form.url),
    )


def _add(api: LabelStudioAPI, project: int, form: BackendForm, before: list[Backend]) -> Backend:
    try:
        return api.add_backend(project, form)
    except LabelStudioError as error:
        _remove_orphans(api, project, form.url, before, error)
        raise


def _remove_orphans(
    api: LabelStudioAPI, project: int, url: str, before: list[Backend], cause: LabelStudioError
) -> None:
    # Label Studio saves the backend first, and may then refuse its webhook.
    known = {backend.id for backend in before}
    try:
        for backend in backends_at(url, api.backends(project)):
            if backend.id not in known:
                api.remove_backend(backend.id)
    except PrelabelError:
        raise LabelStudioError(
            f"{cause} If the project's Settings, Model show a backend now, remove it there."
        ) from cause


def _show_predictions(api: LabelStudioAPI, project: Project, backend: Backend) -> None:
    # Label Studio itself shows the predictions of a new backend, unless it refused its webhook.
    if project.show_collab_predictions and not project.model_version and backend.title:
        api.show_predictions_of(project.id, backend.title)


def _add_webhook(api: LabelStudioAPI, project: Project, url: str) -> str | None:
    """Add the webhook unless the project has it; return the reason if Label Studio refuses it.

    Label Studio itself adds a new backend's webhook, but reports no failure: the host of a webhook
    must be localhost or have a dot.
    """
    try:
        if not has_webhook(api, project, url):
            api.add_webhook(project.id, f"{url}/webhook")
    except LabelStudioError as error:
        return str(error)
    return None
