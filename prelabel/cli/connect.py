"""Connects this service to a project of Label Studio, once, however often it is asked to."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

from prelabel.errors import LabelStudioError, PrelabelError
from prelabel.labelstudio.labeling_config import LabelingConfig, parse_labeling_config
from prelabel.labelstudio.rest import Backend, BackendForm, LabelStudioAPI, Project
from prelabel.net.egress import Egress
from prelabel.net.origin import LOOPBACK_NAMES, SERVICE_URL, Origin, same_address
from prelabel.settings import Environment

TITLE = "prelabel"
# How many labels there may be is the service's setting; only the service knows it.
ANY_NUMBER_OF_LABELS = sys.maxsize


class ConnectError(PrelabelError):
    """What is needed to connect is missing here."""


@dataclass(frozen=True, slots=True)
class Connected:
    """A project and its backend, as Label Studio has them now.

    is_new: it was not there before; others: further backends of the project at the same address;
    webhook_fault: why submitted prompts cannot be remembered, if they cannot.
    """

    project: Project
    backend: Backend
    is_new: bool
    has_prompt: bool
    others: int
    webhook_fault: str | None

    def report(self) -> list[str]:
        """What was done, what is amiss, and what to do next; a paragraph each."""
        return [
            self._done(),
            *self._amiss(),
            self._next(),
            f"To check the whole way: {self._check()}",
        ]

    def _done(self) -> str:
        done = "Connected to" if self.is_new else "Updated in"
        interactive = "on" if self.backend.is_interactive else "off"
        return (
            f"{done} project {self.project.id} ({self.project.title}): {self.backend.url}, as "
            f"{self.backend.title}, model version {self.backend.model_version}. Interactive "
            f"preannotations are {interactive}."
        )

    def _amiss(self) -> Iterator[str]:
        if self.webhook_fault:
            yield f"Submitted prompts will not be remembered. {self.webhook_fault}"
        if self.others:
            yield (
                f"The project has {self.others} more at this address. Remove them under Settings, "
                "Model."
            )
        if not self.project.show_collab_predictions:
            yield (
                "Annotators do not see retrieved predictions. Switch them on under Settings, "
                "Annotation, Prelabeling."
            )

    def _check(self) -> str:
        command, url = f"prelabel doctor --project {self.project.id}", self.backend.url
        if same_address(url, SERVICE_URL):
            return command
        # A name that only Label Studio may know, as containers have them, is not where it runs.
        here = Origin.of(url).host in LOOPBACK_NAMES
        return f"{command} {'--url' if here else '--backend-url'} {url}"

    def _next(self) -> str:
        in_bulk = "select tasks in the Data Manager, Actions, Retrieve Predictions"
        if not (self.has_prompt and self.backend.is_interactive):
            return f"Next: {in_bulk}."
        return (
            f"Next: open a task, switch Auto-Annotation on, type a prompt, press Add. Or {in_bulk}."
        )


def open_label_studio(environment: Environment, egress: Egress | None = None) -> LabelStudioAPI:
    """Label Studio, as the variables say. egress: what was made of the same variables, if it was.

    Raises ConnectError where one is missing, and TrustError for certificates that cannot be read.
    """
    url, token = environment.label_studio_url, environment.label_studio_token
    if url is None or token is None:
        lacking = name_missing(host=url is not None, access_token=token is not None)
        raise ConnectError(
            f"This shell has no {lacking}. Export Label Studio's address and a token of its "
            "Account & Settings page, here and where the service runs."
        )
    return LabelStudioAPI(url, token, egress or Egress.of(environment.trust, environment.proxies))


def name_missing(*, host: bool, access_token: bool) -> str:
    """Which of Label Studio's two variables are not set; empty where both are."""
    is_set = {"LABEL_STUDIO_HOST": host, "LABEL_STUDIO_ACCESS_TOKEN": access_token}
    return " and ".join(name for name in is_set if not is_set[name])


def backend_form(
    url: str, environment: Environment, *, title: str | None, interactive: bool
) -> BackendForm:
    """What to fill in. Raises ConnectError for what Label Studio could not use."""
    url = url.strip().rstrip("/")
    try:
        Origin.of(url)
    except ValueError:
        raise ConnectError(
            f"{url!r} is no address. Give --url as in http://127.0.0.1:9090."
        ) from None
    user, password = environment.basic_auth_user, environment.basic_auth_pass
    if (user is None) != (password is None):
        raise ConnectError(
            "Label Studio sends a user name only with a password. Set both BASIC_AUTH_USER and "
            "BASIC_AUTH_PASS, here and where the service runs, or neither."
        )
    auth = (user, password) if user is not None and password is not None else None
    return BackendForm(url, interactive, title, auth)


def read_config(project: Project) -> LabelingConfig:
    """A project's labeling config. Raises LabelingConfigError where it cannot be served."""
    return parse_labeling_config(project.label_config, ANY_NUMBER_OF_LABELS)


def backends_at(url: str, backends: list[Backend]) -> list[Backend]:
    """Those at this address, however it is written."""
    return [backend for backend in backends if same_address(backend.url, url)]


def has_webhook(api: LabelStudioAPI, project: Project, url: str) -> bool:
    """Whether the service at this address is told of submitted annotations."""
    wanted = f"{url.rstrip('/')}/webhook"
    return any(same_address(hook.url, wanted) for hook in api.webhooks(project.id))


def connect(api: LabelStudioAPI, number: int, form: BackendForm) -> Connected:
    """Connect a backend to a project, or update the one that is connected.

    Raises LabelStudioError, or LabelingConfigError for a config that the service would refuse;
    then nothing was added.
    """
    project = api.project(number)
    config = read_config(project)
    before = api.backends(number)
    mine = backends_at(form.url, before)
    if mine:
        backend = api.change_backend(mine[0].id, number, form)
        _show_predictions(api, project, backend)
    else:
        titled = form if form.title is not None else _titled(form)
        backend = _add(api, number, titled, before)
    return Connected(
        project=project,
        backend=backend,
        is_new=not mine,
        has_prompt=config.prompt_area is not None,
        others=max(len(mine) - 1, 0),
        webhook_fault=_add_webhook(api, project, form.url),
    )


def _titled(form: BackendForm) -> BackendForm:
    return BackendForm(form.url, form.is_interactive, TITLE, form.auth)


def _add(api: LabelStudioAPI, project: int, form: BackendForm, before: list[Backend]) -> Backend:
    try:
        return api.add_backend(project, form)
    except LabelStudioError as error:
        _remove_orphans(api, project, form.url, before, error)
        raise


def _remove_orphans(
    api: LabelStudioAPI, project: int, url: str, before: list[Backend], cause: LabelStudioError
) -> None:
    """Remove what Label Studio made although it refused: it saves the backend first, and may then
    refuse its webhook.
    """
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
    """What Label Studio does for a new backend only; one that connected by half goes without."""
    if project.show_collab_predictions and not project.model_version and backend.title:
        api.show_predictions_of(project.id, backend.title)


def _add_webhook(api: LabelStudioAPI, project: Project, url: str) -> str | None:
    """Label Studio makes the webhook of a new backend, and says nothing where it cannot: its
    webhooks want a host with a dot, or localhost. Returns what is wrong.
    """
    try:
        if not has_webhook(api, project, url):
            api.add_webhook(project.id, f"{url}/webhook")
    except LabelStudioError as error:
        return str(error)
    return None
