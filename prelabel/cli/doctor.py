"""Looks along the whole way from Label Studio to the boxes, and says what to repair."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cached_property, partial
from typing import Generic, TypeVar

from PIL import Image

from prelabel.cli.connect import (
    backends_at,
    has_webhook,
    name_missing,
    open_label_studio,
    read_config,
)
from prelabel.cli.service_client import (
    AskError,
    Health,
    NetworkOfService,
    ask,
    ask_for_task,
    ask_health,
    ask_prompts,
)
from prelabel.cli.service_start import check_state
from prelabel.errors import PrelabelError
from prelabel.labelstudio.image_locator import expiry_of, is_personal
from prelabel.labelstudio.labeling_config import LabelingConfig
from prelabel.labelstudio.responses import count_boxes
from prelabel.labelstudio.rest import LabelStudioAPI, Project, predict_request
from prelabel.net.egress import Egress, connect_to_proxy
from prelabel.net.origin import SERVICE_URL, Origin
from prelabel.net.proxies import DIRECT
from prelabel.phrases.vocabulary import shipped_vocabulary
from prelabel.prompts.resolver import unreadable_labels, unreadable_sentence
from prelabel.settings.application import Environment

EMBEDDED = "embedded"
SOON = timedelta(days=7)
PROXY_TIMEOUT_S = 5.0

Found = TypeVar("Found")


class DoctorError(PrelabelError):
    """What a check found wrong, and how to repair it."""


class Status(Enum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found. sentence: for a warning or a fault it ends with what to do."""

    check: str
    status: Status
    sentence: str


@dataclass(frozen=True)
class Examined:
    """What is examined: the service, and how it stands with Label Studio and a project.

    url: where the service answers here; backend_url: where Label Studio finds it.
    """

    url: str
    backend_url: str
    project: int | None
    environment: Environment

    @property
    def auth(self) -> tuple[str, str] | None:
        """The user and password that the service asks for, as far as they are known here."""
        user, password = self.environment.basic_auth_user, self.environment.basic_auth_pass
        if user is None and password is None:
            return None
        return user or "", password.get_secret_value() if password else ""

    @cached_property
    def egress(self) -> Egress:
        """The way out of this shell."""
        return Egress.of(self.environment.trust, self.environment.proxies)

    @property
    def connect_command(self) -> str:
        """What connects this service to the project."""
        url = "" if self.backend_url == SERVICE_URL else f" --url {self.backend_url}"
        return f"prelabel connect --project {self.project}{url}"


@dataclass(frozen=True, slots=True)
class _Seen(Generic[Found]):
    """What a check saw, for the checks after it and in a sentence."""

    found: Found
    sentence: str
    is_warning: bool = False


def examine(examined: Examined) -> Iterator[Finding]:
    """All checks in order, each as it ends; those that cannot be made are skipped."""
    health = yield from _service_checks(examined)
    studio = yield from _label_studio_checks(examined, health)
    if examined.project is not None:
        yield from _project_checks(examined, examined.project, health, studio)


Checks = Generator[Finding, None, Found | None]
Check = Callable[[], _Seen[Found]]


def _look(name: str, check: Check[Found] | None) -> Checks[Found]:
    """The finding of one check; returns what others need of it, None where it failed."""
    if check is None:
        yield Finding(name, Status.SKIPPED, "Not looked at, because of the faults above.")
        return None
    try:
        seen = check()
    except PrelabelError as error:
        yield Finding(name, Status.FAULT, str(error))
        return None
    yield Finding(name, Status.WARNING if seen.is_warning else Status.OK, seen.sentence)
    return seen.found


def _service_checks(examined: Examined) -> Checks[Health]:
    health = yield from _look("service", partial(_service, examined))
    yield from _look("model", partial(_model, health) if health else None)
    yield from _look("detection", partial(_detection, examined) if health else None)
    yield from _look("prompts", partial(_prompts, examined) if health else None)
    yield from _look("service variables", partial(_variables_there, health) if health else None)
    return health


def _label_studio_checks(examined: Examined, health: Health | None) -> Checks[LabelStudioAPI]:
    """Returns Label Studio only where it lets the token in."""
    studio = yield from _look("shell variables", partial(_variables_here, examined))
    is_open = yield from _way_out_checks(examined, health)
    known = studio if is_open else None
    reached = yield from _look("Label Studio", partial(_label_studio, known) if known else None)
    return (yield from _look("token", partial(_token, examined, reached) if reached else None))


def _way_out_checks(examined: Examined, health: Health | None) -> Checks[bool]:
    """Of a company's network: proxies and CAs of its own. Without any, there is nothing to say."""
    is_open: bool | None = True
    proxies, trust = examined.environment.proxies, examined.environment.trust
    told = health.network if health else None
    if proxies != DIRECT or (told and (told.http_proxy or told.https_proxy)):
        is_open = yield from _look("proxy", partial(_proxy, examined, told))
    if trust.sources or (told and told.own_ca):
        yield from _look("certificates", partial(_certificates, examined, told))
    return is_open


def _project_checks(
    examined: Examined, number: int, health: Health | None, studio: LabelStudioAPI | None
) -> Checks[Project]:
    found = yield from _look("project", partial(_project, studio, number) if studio else None)
    config = yield from _look("labeling config", partial(_config, found) if found else None)
    way = (studio, found) if studio and found else None
    yield from _look("backend", partial(_backend, examined, *way) if way else None)
    ready = way if health and config else None
    yield from _look("picture", partial(_picture, examined, *ready) if ready else None)
    return found


def _service(examined: Examined) -> _Seen[Health]:
    health = ask_health(examined.url, examined.auth, examined.egress)
    check_state(health, examined.url)
    return _Seen(health, f"prelabel {health.service_version} answers at {examined.url}.")


def _model(health: Health) -> _Seen[Health]:
    title = f"{health.model.title} ({health.model_version})"
    if health.model.source == EMBEDDED:
        return _Seen(
            health,
            f"{title} knows simple drawings. Real pictures need a real model: choose one from "
            "`prelabel models`, `prelabel download` it, and set `model:` in serve_config.yaml.",
            is_warning=True,
        )
    return _Seen(health, f"{title}.")


def _detection(examined: Examined) -> _Seen[bool]:
    """Whether the model is loaded: `/health` answers without waiting for it."""
    picture = io.BytesIO()
    Image.new("RGB", (64, 64), "white").save(picture, "PNG")
    began = time.monotonic()
    ask(
        examined.url,
        picture.getvalue(),
        "cat",
        labels=("cat",),
        thresholds={},
        auth=examined.auth,
        egress=examined.egress,
    )
    return _Seen(True, f"The model looked at a small picture, in {_seconds_since(began)}.")


def _prompts(examined: Examined) -> _Seen[bool]:
    """Whether the memory of prompts can be used: predictions do without it, with other boxes."""
    project = examined.project or 0
    remembered = ask_prompts(examined.url, examined.auth, examined.egress, project)
    if not project:
        return _Seen(True, "The memory of prompts can be used.")
    said = "A prompt is" if remembered else "No prompt is"
    return _Seen(True, f"{said} remembered for project {project}.")


def _variables_there(health: Health) -> _Seen[bool]:
    told = health.label_studio
    if told is None:
        raise DoctorError(
            f"The service is of version {health.service_version}, which does not say whether it "
            "has its variables. Start the one that this command came with."
        )
    lacking = name_missing(host=told.host, access_token=told.access_token)
    if lacking:
        raise DoctorError(
            f"The service runs without {lacking} and cannot read uploads. Export both "
            "where it runs, and start it again."
        )
    return _Seen(True, "The service has Label Studio's address and a token.")


def _variables_here(examined: Examined) -> _Seen[LabelStudioAPI]:
    studio = open_label_studio(examined.environment, examined.egress)
    return _Seen(studio, f"This shell has Label Studio's address, {studio.address}, and a token.")


def _proxy(examined: Examined, told: NetworkOfService | None) -> _Seen[bool]:
    """Whether the proxy that Label Studio is asked through lets itself be reached."""
    proxies, url = examined.environment.proxies, examined.environment.label_studio_url
    proxy = proxies.for_origin(Origin.of(url)) if url else proxies.https or proxies.http
    if proxy is not None:
        connect_to_proxy(proxy, PROXY_TIMEOUT_S).close()
        here = f"This shell asks Label Studio through {proxy}, which answers."
    else:
        here = "This shell asks Label Studio directly: it is on loopback, or NO_PROXY names it."
        if proxies == DIRECT:
            here = "This shell has no proxy."
    has_proxy = told and (told.http_proxy or told.https_proxy)
    if told is None or has_proxy:
        too = "" if proxies == DIRECT else ", too"
        there = f" The service has one{too}." if has_proxy else ""
        return _Seen(True, f"{here}{there}")
    return _Seen(
        True,
        f"{here} The service has no proxy. If its machine needs one, export HTTP_PROXY, "
        "HTTPS_PROXY and NO_PROXY where it runs, and start it again.",
        is_warning=proxy is not None,
    )


def _certificates(examined: Examined, told: NetworkOfService | None) -> _Seen[bool]:
    """Which certificates are believed beside the usual ones: to make the context reads them."""
    _ = examined.egress
    sources = examined.environment.trust.sources
    named = ", ".join(f"{variable} ({path})" for variable, path in sources) or "none of its own"
    here = f"Believed by this shell beside the usual certificates: {named}."
    if told is None or told.own_ca == bool(sources):
        return _Seen(True, here)
    other = "The service has none" if sources else "The service has some"
    return _Seen(
        True,
        f"{here} {other}: set SSL_CERT_FILE here as where it runs if your Label Studio's "
        "certificate is signed by a CA of your company.",
        is_warning=bool(sources),
    )


def _label_studio(studio: LabelStudioAPI) -> _Seen[LabelStudioAPI]:
    return _Seen(studio, f"Label Studio {studio.version()} answers at {studio.address}.")


def _token(examined: Examined, studio: LabelStudioAPI) -> _Seen[LabelStudioAPI]:
    token = examined.environment.label_studio_token
    assert token is not None  # there would be no studio
    if not is_personal(token):
        return _Seen(studio, f"A legacy token of {studio.user()}, which Label Studio takes.")
    ends, now = expiry_of(token), datetime.now(UTC)
    if ends is not None and ends <= now:
        raise DoctorError(
            f"The personal access token expired on {ends:%Y-%m-%d}. Make a new one under Account & "
            "Settings, and set LABEL_STUDIO_ACCESS_TOKEN to it, here and where the service runs."
        )
    sentence = f"A personal access token of {studio.user()}, which Label Studio takes."
    if ends is not None and ends <= now + SOON:
        return _Seen(
            studio,
            f"{sentence} It expires on {ends:%Y-%m-%d}: make a new one under Account & Settings "
            "before.",
            is_warning=True,
        )
    return _Seen(studio, sentence)


def _project(studio: LabelStudioAPI, number: int) -> _Seen[Project]:
    project = studio.project(number)
    return _Seen(project, f"Project {number}, {project.title or 'without a title'}.")


def _config(project: Project) -> _Seen[LabelingConfig]:
    config = read_config(project)
    if unreadable := unreadable_labels(config, shipped_vocabulary()):
        return _Seen(config, unreadable_sentence(unreadable), is_warning=True)
    labels = sum(len(control.labels) for control in config.controls)
    prompt = "a prompt" if config.prompt_area else "no prompt: the labels are looked for"
    return _Seen(config, f"Can be served: {labels} labels, and {prompt}.")


def _backend(examined: Examined, studio: LabelStudioAPI, project: Project) -> _Seen[bool]:
    url, again = examined.backend_url, f"Run `{examined.connect_command}`"
    mine = backends_at(url, studio.backends(project.id))
    if not mine:
        raise DoctorError(f"No backend at {url} is connected to the project. {again}.")
    if not any(backend.works for backend in mine):
        raise DoctorError(
            f"A backend at {url} is connected, in the state {mine[0].readable_state or '?'}. "
            f"{again}, which says why."
        )
    warnings = []
    if len(mine) > 1:
        warnings.append(
            f"The project has {len(mine)} backends at {url}. Remove all but one under Settings, "
            "Model."
        )
    if not all(backend.is_interactive for backend in mine):
        warnings.append(f"Interactive preannotations are off. {again} to switch them on.")
    if not has_webhook(studio, project, url):
        warnings.append(
            "The service is not told of submitted annotations, so their prompts are not "
            f"remembered. {again}, which says why."
        )
    sentence = f"Connected to {url}, interactive preannotations are on."
    return _Seen(True, " ".join(warnings) or sentence, is_warning=bool(warnings))


def _picture(examined: Examined, studio: LabelStudioAPI, project: Project) -> _Seen[bool]:
    """One task, sent to the service as Label Studio sends it when predictions are retrieved."""
    task = studio.newest_task(project.id)
    if task is None:
        return _Seen(True, "The project has no task yet. Import a picture.", is_warning=True)
    began = time.monotonic()
    try:
        body = predict_request(project, task)
        prediction = ask_for_task(examined.url, body, examined.auth, examined.egress)
    except AskError as error:
        raise DoctorError(f"Task {task.id}: {error}") from error
    boxes = count_boxes(prediction)
    seen = f"Boxes on the picture of task {task.id}: {boxes}, in {_seconds_since(began)}."
    if boxes:
        return _Seen(True, seen)
    return _Seen(
        True,
        f"{seen} If it shows what the labels say, lower box_threshold and text_threshold, or "
        "choose another model.",
        is_warning=True,
    )


def _seconds_since(began: float) -> str:
    return f"{time.monotonic() - began:.1f} s"
