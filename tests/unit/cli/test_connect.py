from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from prelabel.cli.connect import (
    ConnectError,
    ConnectResult,
    backend_form,
    connect,
    open_label_studio,
)
from prelabel.errors import LabelingConfigError, LabelStudioError, PrelabelError
from prelabel.labelstudio.rest import LabelStudioAPI
from prelabel.net.origin import same_address
from prelabel.settings import Environment
from tests.support.fake_label_studio import BLOCKED, CONFIG, LEGACY, LabelStudio, running
from tests.support.http_server import Exchange, LocalServer, Received
from tests.support.local_service import VERSION, LocalService
from tests.support.local_service import running as service_running

AUTH = {"BASIC_AUTH_USER": "annotator", "BASIC_AUTH_PASS": "canary-password"}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LABEL_STUDIO_HOST", "LABEL_STUDIO_ACCESS_TOKEN", *AUTH):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def service() -> Iterator[str]:
    with service_running(LocalService(Environment())) as url:
        yield url


def connected(
    studio: LabelStudio,
    url: str,
    *,
    title: str | None = None,
    interactive: bool = True,
    project: int = 3,
    **variables: Any,
) -> ConnectResult:
    environment = Environment.model_validate(variables)
    form = backend_form(url, environment, title=title, interactive=interactive)
    with running(studio) as server:
        return connect(LabelStudioAPI(server.url, SecretStr(studio.token)), project, form)


def failure(studio: LabelStudio, url: str, **variables: str) -> str:
    with pytest.raises(PrelabelError) as caught:
        connected(studio, url, **dict[str, Any](variables))
    assert "canary-password" not in str(caught.value)
    return str(caught.value)


# The connection --------------------------------------------------------------------------------


def test_a_backend_is_connected_with_interactive_preannotations(service: str) -> None:
    studio = LabelStudio()
    done = connected(studio, f"{service}/")
    [backend] = studio.backends
    assert (backend["url"], backend["title"]) == (service, "prelabel")
    assert backend["is_interactive"] is True
    assert backend["auth_method"] == "NONE"
    assert [hook["url"] for hook in studio.webhooks] == [f"{service}/webhook"]
    assert done.is_new
    assert done.backend.model_version == VERSION
    assert done.webhook_fault is None


TEXT_AREA = '<TextArea name="prompt" toName="image"/>'
POINTS = (
    '<KeyPointLabels name="click" toName="image" smart="true"><Label value="cat"/></KeyPointLabels>'
)


@pytest.mark.parametrize(
    ("tags", "interactive", "by_hand"),
    [
        ("", True, ""),
        (TEXT_AREA, False, ""),
        (TEXT_AREA, True, "type a prompt and press Add."),
        (POINTS, True, "choose the smart tool and a label, and click on an object."),
        (POINTS.replace("true", "false"), True, ""),
        (TEXT_AREA + POINTS, True, "type a prompt and press Add; or choose the smart tool"),
    ],
)
def test_the_next_step_is_one_that_the_labeling_config_allows(
    service: str, tags: str, interactive: bool, by_hand: str
) -> None:
    config = CONFIG.replace(TEXT_AREA, tags)
    done = connected(LabelStudio(config=config), service, interactive=interactive)
    [step] = [line for line in done.report() if line.startswith("Next: ")]
    assert by_hand in step
    assert ("Auto-Annotation" in step) == bool(by_hand)
    assert "Retrieve Predictions" in step


def test_connecting_twice_leaves_one_backend_and_one_webhook(service: str) -> None:
    studio = LabelStudio()
    assert connected(studio, service).is_new
    assert not connected(studio, service.replace("127.0.0.1", "localhost")).is_new
    assert len(studio.backends) == len(studio.webhooks) == 1


def test_connecting_again_changes_what_is_said_and_keeps_the_title(service: str) -> None:
    studio = LabelStudio()
    connected(studio, service, title="My model")
    connected(studio, service, interactive=False)
    [backend] = studio.backends
    assert (backend["title"], backend["is_interactive"]) == ("My model", False)
    connected(studio, service, title="Ours")
    [backend] = studio.backends
    assert (backend["title"], backend["is_interactive"]) == ("Ours", True)


def test_other_backends_of_the_project_are_left_alone(service: str) -> None:
    other = {"id": 7, "url": "http://127.0.0.1:1", "title": "other", "is_interactive": False}
    studio = LabelStudio(backends=[dict(other)])
    assert connected(studio, service).is_new
    assert len(studio.backends) == 2
    assert {name: studio.backends[0][name] for name in other} == other


def test_a_second_backend_at_the_address_is_named(service: str) -> None:
    twins = [{"id": n, "url": service, "title": "t", "is_interactive": False} for n in (1, 2)]
    done = connected(LabelStudio(backends=twins), service)
    assert done.duplicates == 1
    assert any("further backends at this address: 1." in line for line in done.report())


def test_basic_auth_is_given_to_label_studio_and_taken_back() -> None:
    studio = LabelStudio()
    guarded = LocalService(Environment.model_validate(AUTH))
    with service_running(guarded) as url:
        assert connected(studio, url, **dict[str, Any](AUTH)).is_new
        assert "Set BASIC_AUTH_USER and BASIC_AUTH_PASS" in failure(LabelStudio(), url)
    [backend] = studio.backends
    assert (backend["auth_method"], backend["basic_auth_user"]) == ("BASIC_AUTH", "annotator")
    with service_running(LocalService(Environment())) as url:
        backend["url"] = url
        connected(studio, url)
    [backend] = studio.backends
    assert (backend["auth_method"], backend["basic_auth_user"]) == ("NONE", "")


def test_a_backend_that_once_connected_by_half_is_completed(service: str) -> None:
    """Label Studio had saved it, and neither its webhook nor whose predictions are shown."""
    orphan = {"id": 9, "url": service, "title": "prelabel", "is_interactive": False}
    studio = LabelStudio(backends=[orphan])
    done = connected(studio, service)
    assert not done.is_new
    assert [hook["url"] for hook in studio.webhooks] == [f"{service}/webhook"]
    assert studio.project["model_version"] == "prelabel"


@pytest.mark.parametrize(
    "project", [{"model_version": "by hand"}, {"show_collab_predictions": False}]
)
def test_what_the_owner_chose_to_show_is_kept(service: str, project: dict[str, object]) -> None:
    known = {"id": 9, "url": service, "title": "prelabel", "is_interactive": False}
    studio = LabelStudio(backends=[known], project=project)
    before = studio.project["model_version"]
    done = connected(studio, service)
    assert studio.project["model_version"] == before
    unseen = any("do not see retrieved predictions" in line for line in done.report())
    assert unseen == ("show_collab_predictions" in project)


def test_a_host_without_a_dot_connects_and_the_missing_webhook_is_explained(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Label Studio and the test must both find the service under the name.
    known = {"id": 9, "url": "http://prelabel:9090", "title": "p", "is_interactive": True}
    studio = LabelStudio(backends=[known])
    monkeypatch.setattr(studio, "_update_state", lambda backend: backend.update(state="CO") or 200)
    done = connected(studio, "http://prelabel:9090")
    assert done.webhook_fault is not None
    assert "a name with a dot" in done.webhook_fault
    report = done.report()
    assert any("will not be remembered" in line for line in report)
    assert report[-1].endswith("prelabel doctor --project 3 --backend-url http://prelabel:9090")


# The report -------------------------------------------------------------------------------------


def test_the_report_says_what_was_done_and_what_is_next(service: str) -> None:
    studio = LabelStudio()
    text = "\n".join(connected(studio, service).report())
    assert f"Connected to project 3 (Cats): {service}, as prelabel, model version" in text
    assert "Interactive preannotations are on." in text
    assert "type a prompt" in text
    assert text.endswith(f"prelabel doctor --project 3 --url {service}")
    assert "Updated in project 3" in connected(studio, service).report()[0]


def test_without_a_prompt_field_no_prompt_is_suggested(service: str) -> None:
    config = CONFIG.replace('<TextArea name="prompt" toName="image"/>', "")
    text = "\n".join(connected(LabelStudio(config=config), service).report())
    assert "type a prompt" not in text
    assert "Retrieve Predictions" in text


# Faults -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocks", ["all", "webhooks"])
def test_private_addresses_refused_leave_nothing_and_name_both_switches(
    service: str, blocks: str
) -> None:
    kept = {"id": 7, "url": "http://127.0.0.1:1", "title": "other", "is_interactive": False}
    studio = LabelStudio(blocks=blocks, backends=[kept])
    sentence = failure(studio, service)
    assert "Start it with both ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED" in sentence
    assert BLOCKED in sentence
    assert studio.backends == [kept]
    assert studio.webhooks == []


def test_a_service_that_label_studio_cannot_reach(service: str) -> None:
    studio = LabelStudio()
    sentence = failure(studio, "http://127.0.0.1:9")
    assert "cannot reach http://127.0.0.1:9." in sentence
    assert "give --url as Label Studio's machine or container sees it" in sentence
    assert "<a" not in sentence
    assert studio.backends == []


def test_a_config_that_cannot_be_served_is_named_before_anything_is_done(service: str) -> None:
    studio = LabelStudio(config="<View><Text name='t' value='$t'/></View>")
    with pytest.raises(LabelingConfigError, match="has no Image"):
        connected(studio, service)
    assert studio.backends == []


def test_a_project_that_is_not_there(service: str) -> None:
    with pytest.raises(LabelStudioError, match=r"no project 4\. Take the number from"):
        connected(LabelStudio(), service, project=4)


def test_a_user_without_the_permission_to_connect(service: str) -> None:
    assert "Take the token of a user who may" in failure(LabelStudio(may_connect=False), service)


def test_an_orphan_that_cannot_be_removed_is_named(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio = LabelStudio(blocks="webhooks")
    respond = studio.respond

    def without_delete(exchange: Exchange, received: Received) -> None:
        if received.method == "DELETE":
            exchange.answer(500)
        else:
            respond(exchange, received)

    monkeypatch.setattr(studio, "respond", without_delete)
    assert "show a backend now, remove it there." in failure(studio, service)


@pytest.mark.parametrize("variable", AUTH)
def test_half_of_basic_auth_is_refused(variable: str) -> None:
    environment = Environment.model_validate({variable: "x"})
    with pytest.raises(ConnectError, match="Set both BASIC_AUTH_USER and BASIC_AUTH_PASS"):
        backend_form("http://127.0.0.1:9090", environment, title=None, interactive=True)


@pytest.mark.parametrize("url", ["localhost:9090", "", "ftp://h", "http://", "/x"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConnectError, match="Give --url as in http://"):
        backend_form(url, Environment(), title=None, interactive=True)


@pytest.mark.parametrize(
    ("variables", "lacking"),
    [
        ({}, "no LABEL_STUDIO_HOST and LABEL_STUDIO_ACCESS_TOKEN"),
        ({"LABEL_STUDIO_HOST": "http://h"}, "no LABEL_STUDIO_ACCESS_TOKEN"),
        ({"LABEL_STUDIO_ACCESS_TOKEN": LEGACY}, "no LABEL_STUDIO_HOST."),
    ],
)
def test_missing_variables_are_named(variables: dict[str, str], lacking: str) -> None:
    with pytest.raises(ConnectError, match=lacking):
        open_label_studio(Environment.model_validate(variables))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://127.0.0.1:9090", "http://localhost:9090/", True),
        ("http://[::1]:9090", "http://LOCALHOST:9090", True),
        ("http://h", "http://h:80/", True),
        ("https://h/prelabel/", "https://h:443/prelabel", True),
        ("http://h:9090", "http://h:9091", False),
        ("http://h:9090", "https://h:9090", False),
        ("http://h:9090/a", "http://h:9090/b", False),
        ("http://h:9090", "http://h.example:9090", False),
        ("not a url", "not a url/", True),
        ("not a url", "http://h", False),
    ],
)
def test_addresses_are_compared_as_addresses(one: str, other: str, same: bool) -> None:
    assert same_address(one, other) is same


# The token --------------------------------------------------------------------------------------


def test_the_token_goes_along_no_redirect(service: str) -> None:
    with running(LabelStudio()) as thief:
        for token in (LEGACY, LabelStudio().token):
            sentence = failure(LabelStudio(token=token, location=thief.url), service)
            assert "redirects" in sentence
            assert "LABEL_STUDIO_HOST" in sentence
        assert thief.received == []


def test_the_personal_token_is_sent_for_access_tokens_alone(service: str) -> None:
    studio = LabelStudio()
    with running(studio) as server:
        api = LabelStudioAPI(server.url, SecretStr(studio.token))
        form = backend_form(service, Environment(), title=None, interactive=True)
        connect(api, 3, form)
        assert _paths_that_got(studio.token, server) == {"/api/token/refresh/"}


def _paths_that_got(secret: str, server: LocalServer) -> set[str]:
    return {
        received.path
        for received in server.received
        if secret in json.dumps(received.headers) + received.body.decode() + received.path
    }
