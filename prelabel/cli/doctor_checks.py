"""The single checks of `prelabel doctor`.

Each check returns a CheckResult, or raises a PrelabelError whose message names fault and repair.
"""

from __future__ import annotations

import io
import socket
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Generic, TypeVar

from PIL import Image

from prelabel.cli.connect import (
    backends_at,
    has_webhook,
    name_missing,
    open_label_studio,
    read_config,
)
from prelabel.cli.service_client import Health, ServiceClient, ServiceError, ServiceNetwork
from prelabel.cli.service_start import check_state
from prelabel.errors import PrelabelError
from prelabel.labelstudio.labeling_config import LabelingConfig
from prelabel.labelstudio.responses import count_boxes, count_masks
from prelabel.labelstudio.rest import BOTH_SWITCHES, LabelStudioAPI, Project, predict_request
from prelabel.labelstudio.tokens import expiry_of, is_personal
from prelabel.net.egress import Egress, connect_to_proxy
from prelabel.net.origin import SERVICE_URL, Origin, is_loopback
from prelabel.net.proxies import DIRECT
from prelabel.net.public_addresses import is_public
from prelabel.phrases.vocabulary import shipped_vocabulary
from prelabel.prompts.messages import unreadable_message
from prelabel.prompts.searches import unreadable_labels
from prelabel.settings import Environment

EMBEDDED = "embedded"  # source of the demo model's card
EXPIRES_SOON = timedelta(days=7)
PROXY_TIMEOUT_S = 5.0

ValueT = TypeVar("ValueT")


class DoctorError(PrelabelError):
    """A fault that a check found. The message ends with the repair."""


@dataclass(frozen=True)
class DoctorContext:
    """Input of all checks.

    Attributes:
        url: Address of the service, as seen from this shell.
        backend_url: Address of the service, as seen from Label Studio.
        project: Id of the project to check, if any.
        environment: Environment variables of this shell.
    """

    url: str
    backend_url: str
    project: int | None
    environment: Environment

    @cached_property
    def egress(self) -> Egress:
        """Proxies and certificates of this shell. Raises TrustError if a CA cannot be read."""
        return Egress.of(self.environment)

    @cached_property
    def client(self) -> ServiceClient:
        """Client of the service, with the basic auth of this shell's variables."""
        user, password = self.environment.basic_auth_user, self.environment.basic_auth_pass
        auth = None
        if user is not None or password is not None:
            auth = (user or "", password.get_secret_value() if password else "")
        return ServiceClient(self.url, auth, self.egress)

    @property
    def connect_command(self) -> str:
        """The command that connects the service to the project."""
        url = "" if self.backend_url == SERVICE_URL else f" --url {self.backend_url}"
        return f"prelabel connect --project {self.project}{url}"


@dataclass(frozen=True, slots=True)
class CheckResult(Generic[ValueT]):
    """Result of a check that passed.

    Attributes:
        value: Input of later checks.
        sentence: Text of the report.
        is_warning: True for a warning. Its sentence ends with the repair.
    """

    value: ValueT
    sentence: str
    is_warning: bool = False


def service(context: DoctorContext) -> CheckResult[Health]:
    """Check that the service answers GET /health and is up."""
    health = context.client.health()
    check_state(health, context.url)
    return CheckResult(health, f"prelabel {health.service_version} answers at {context.url}.")


def model(health: Health) -> CheckResult[Health]:
    """Check that the service runs a real model, and that its card is plausible. Name the segmenter.

    The demo model is a warning.
    """
    title = f"{health.model.title} ({health.model_version})"
    if health.model.source == EMBEDDED:
        return CheckResult(
            health,
            f"{title} knows simple drawings only. Real pictures need a real model: choose one from "
            "`prelabel models`, `prelabel download` it, and set model.name in serve_config.yaml.",
            is_warning=True,
        )
    if health.model.warning:
        return CheckResult(health, health.model.warning, is_warning=True)
    masks = f"Masks: {health.segmenter.title}" if health.segmenter else "No masks: no segmenter"
    return CheckResult(health, f"{title}. {masks}.")


def detection(context: DoctorContext) -> CheckResult[bool]:
    """Check that the model answers a prediction; GET /health does not wait for the model."""
    image = io.BytesIO()
    Image.new("RGB", (64, 64), "white").save(image, "PNG")
    started_at = time.monotonic()
    context.client.predict(image.getvalue(), "cat", labels=("cat",), thresholds={})
    return CheckResult(True, f"The model answered for a small picture in {_elapsed(started_at)}.")


def prompts(context: DoctorContext) -> CheckResult[bool]:
    """Check that the prompt store can be used.

    Predictions succeed without it, but ignore submitted prompts, so that nothing else shows a
    broken store.
    """
    project_id = context.project or 0
    count = context.client.count_prompts(project_id)
    if not project_id:
        return CheckResult(True, "The store of remembered prompts can be used.")
    start = "A prompt is" if count else "No prompt is"
    return CheckResult(True, f"{start} remembered for project {project_id}.")


def service_variables(health: Health) -> CheckResult[bool]:
    """Check that Label Studio's variables are set where the service runs."""
    variables = health.label_studio
    if variables is None:
        raise DoctorError(
            f"The service has version {health.service_version}, which does not report its "
            "variables. Start the version that this command belongs to."
        )
    missing = name_missing(host=variables.host, access_token=variables.access_token)
    if missing:
        raise DoctorError(
            f"The service runs without {missing} and cannot read uploads. Export both where it "
            "runs, and start it again."
        )
    return CheckResult(True, "The service has Label Studio's address and a token.")


def shell_variables(context: DoctorContext) -> CheckResult[LabelStudioAPI]:
    """Check that Label Studio's variables are set in this shell."""
    api = open_label_studio(context.environment, context.egress)
    return CheckResult(api, f"This shell has Label Studio's address, {api.address}, and a token.")


def proxy(context: DoctorContext, network: ServiceNetwork | None) -> CheckResult[bool]:
    """Check that this shell reaches its proxy for Label Studio, and that the service has one too.

    Args:
        context: Input of all checks.
        network: Network settings that the service reported, if it did.
    """
    proxies, url = context.environment.proxies, context.environment.label_studio_url
    proxy = proxies.for_origin(Origin.of(url)) if url else proxies.https or proxies.http
    if proxy is not None:
        connect_to_proxy(proxy, PROXY_TIMEOUT_S).close()
        here = f"This shell reaches Label Studio through {proxy}, which answers."
    elif proxies == DIRECT:
        here = "This shell has no proxy."
    else:
        here = "This shell reaches Label Studio directly: it is on loopback, or NO_PROXY names it."
    has_proxy = network and (network.http_proxy or network.https_proxy)
    if network is None or has_proxy:
        too = "" if proxies == DIRECT else ", too"
        there = f" The service has one{too}." if has_proxy else ""
        return CheckResult(True, f"{here}{there}")
    return CheckResult(
        True,
        f"{here} The service has no proxy. If its machine needs one, export HTTP_PROXY, "
        "HTTPS_PROXY and NO_PROXY where it runs, and start it again.",
        is_warning=proxy is not None,
    )


def certificates(context: DoctorContext, network: ServiceNetwork | None) -> CheckResult[bool]:
    """Check that the additional CAs can be read, and that the service has some if this shell does.

    Args:
        context: Input of all checks.
        network: Network settings that the service reported, if it did.
    """
    _ = context.egress  # loads the certificates
    sources = context.environment.trust.sources
    named = ", ".join(f"{variable} ({path})" for variable, path in sources) or "none of its own"
    here = f"CA certificates that this shell trusts beside the usual ones: {named}."
    if network is None or network.own_ca == bool(sources):
        return CheckResult(True, here)
    difference = "The service has none" if sources else "The service has some"
    return CheckResult(
        True,
        f"{here} {difference}. If a CA of your company signed Label Studio's certificate, set "
        "SSL_CERT_FILE to a file with that CA, both here and where the service runs.",
        is_warning=bool(sources),
    )


def label_studio(api: LabelStudioAPI) -> CheckResult[LabelStudioAPI]:
    """Check that Label Studio answers."""
    return CheckResult(api, f"Label Studio {api.version()} answers at {api.address}.")


def token(context: DoctorContext, api: LabelStudioAPI) -> CheckResult[LabelStudioAPI]:
    """Check that Label Studio accepts the token, and that the token does not expire soon."""
    token = context.environment.current_label_studio_token()
    assert token is not None  # shell_variables() has checked it
    if not is_personal(token):
        return CheckResult(api, f"A legacy token of {api.user()}, which Label Studio accepts.")
    expires_at, now = expiry_of(token), datetime.now(UTC)
    if expires_at is not None and expires_at <= now:
        raise DoctorError(
            f"The personal access token expired on {expires_at:%Y-%m-%d}. Make a new one under "
            "Account & Settings, and set LABEL_STUDIO_ACCESS_TOKEN to it, here and where the "
            "service runs."
        )
    sentence = f"A personal access token of {api.user()}, which Label Studio accepts."
    if expires_at is not None and expires_at <= now + EXPIRES_SOON:
        return CheckResult(
            api,
            f"{sentence} It expires on {expires_at:%Y-%m-%d}. Make a new one under Account & "
            "Settings before that.",
            is_warning=True,
        )
    return CheckResult(api, sentence)


def project(api: LabelStudioAPI, number: int) -> CheckResult[Project]:
    """Check that the token's user can see the project."""
    project = api.project(number)
    return CheckResult(project, f"Project {number}, {project.title or 'without a title'}.")


def labeling_config(project: Project) -> CheckResult[LabelingConfig]:
    """Check that the service can serve the labeling config, and that the model reads its labels."""
    config = read_config(project)
    if unreadable := unreadable_labels(config, shipped_vocabulary()):
        return CheckResult(config, unreadable_message(unreadable), is_warning=True)
    label_count = len({label.value for control in config.controls for label in control.labels})
    prompt = "a prompt" if config.prompt_area else "no prompt: the labels are detected"
    return CheckResult(config, f"Can be served: {label_count} labels, and {prompt}.")


def backend(context: DoctorContext, api: LabelStudioAPI, project: Project) -> CheckResult[bool]:
    """Check that the service is connected to the project as its backend, with a webhook."""
    url, repair = context.backend_url, f"Run `{context.connect_command}`"
    connected = backends_at(url, api.backends(project.id))
    if not connected:
        raise DoctorError(f"No backend at {url} is connected to the project. {repair}.")
    if not any(each.works for each in connected):
        raise DoctorError(
            f"A backend at {url} is connected, in the state {connected[0].readable_state or '?'}. "
            f"{_private_address_hint(url)}{repair}, which prints the reason."
        )
    warnings = []
    if len(connected) > 1:
        warnings.append(
            f"The project has {len(connected)} backends at {url}. Remove all but one under "
            "Settings, Model."
        )
    if not all(each.is_interactive for each in connected):
        warnings.append(f"Interactive preannotations are off. {repair} to switch them on.")
    if not has_webhook(api, project, url):
        warnings.append(
            "Label Studio has no webhook to the service, so submitted prompts are not remembered. "
            f"{repair}, which adds it or prints the reason."
        )
    sentence = f"Connected to {url}, interactive preannotations are on."
    return CheckResult(True, " ".join(warnings) or sentence, is_warning=bool(warnings))


def _private_address_hint(url: str) -> str:
    host = Origin.of(url).host
    if not _is_private(host):
        return ""
    return (
        f"{host} is no public address, and Label Studio asks such addresses only if it was started "
        f"with {BOTH_SWITCHES}. "
    )


def _is_private(host: str) -> bool:
    """Return True for an address that Label Studio refuses by default, as far as this shell knows.

    A name without a dot is that of a container.
    """
    if is_loopback(host) or "." not in host:
        return True
    try:
        found = socket.getaddrinfo(host, None)
    except OSError:
        return False
    return not all(is_public(str(address[0])) for *_, address in found)


def picture(context: DoctorContext, api: LabelStudioAPI, project: Project) -> CheckResult[bool]:
    """Check a prediction for the newest task, requested as "Retrieve Predictions" requests it."""
    task = api.newest_task(project.id)
    if task is None:
        return CheckResult(True, "The project has no task yet. Import a picture.", is_warning=True)
    started_at = time.monotonic()
    try:
        prediction = context.client.predict_task(predict_request(project, [task]))
    except ServiceError as error:
        raise DoctorError(f"Task {task.id}: {error}") from error
    box_count = count_boxes(prediction)
    mask_count = count_masks(prediction)
    masks = f", masks: {mask_count}" if mask_count else ""
    sentence = (
        f"Boxes on the picture of task {task.id}: {box_count}{masks}, in {_elapsed(started_at)}."
    )
    if notes := prediction.get("notes"):
        return CheckResult(True, " ".join((sentence, *notes)), is_warning=True)
    if box_count or mask_count:
        return CheckResult(True, sentence)
    return CheckResult(
        True,
        f"{sentence} If the picture shows what the labels name, lower "
        "detection.box_threshold and detection.text_threshold (thresholds of the labeling config "
        "and of the project come before them), or choose another model.",
        is_warning=True,
    )


def _elapsed(started_at: float) -> str:
    return f"{time.monotonic() - started_at:.1f} s"
