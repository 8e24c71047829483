"""One local Ray for the session, and on it the shipped configuration, twice.

`service` is what a user gets from serve_config.yaml; `guarded` has basic auth, a small body limit
and other settings. Both are deployed from the YAML as `serve run` does it. `web` stands in the
place of Label Studio and of the web: it serves one picture under every path, and records requests.
`foreign` is a host that Label Studio redirects to, as it does to cloud storage.
"""

import copy
import time
from collections.abc import Iterator
from typing import Any

import pytest
import ray
import requests
from ray import serve
from ray.serve.schema import ApplicationStatus, ServeDeploySchema

from deployments.placement import place_detector
from tests.support.processes import free_port
from tests.support.serve_process import shipped_config
from tests.support.service_client import PASSWORD, USER, Service
from tests.support.web import CANARY, Web, web_server

START_S = 240


@pytest.fixture(scope="session")
def foreign() -> Iterator[Web]:
    with web_server("") as diary:
        yield diary


@pytest.fixture(scope="session")
def web(foreign: Web) -> Iterator[Web]:
    with web_server(foreign.url) as diary:
        yield diary


def _application(
    name: str, prefix: str, args: dict[str, Any], env: dict[str, str], detector_cpus: float
) -> Any:
    application = copy.deepcopy(shipped_config()["applications"][0])
    application |= {"name": name, "route_prefix": prefix, "runtime_env": {"env_vars": env}}
    application["args"] |= args
    for deployment in application["deployments"]:
        if deployment["name"] == "Detector":
            # The place of a detector that is alone on this machine.
            environment = place_detector("cpu", []).options["runtime_env"]
            deployment["ray_actor_options"] = {
                "num_cpus": detector_cpus,
                "runtime_env": environment,
            }
    return application


@pytest.fixture(scope="session")
def _applications(
    web: Web, foreign: Web, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    allowed = {"images": {"allowed_hosts": [foreign.url.removeprefix("http://")]}}
    label_studio = {"LABEL_STUDIO_HOST": web.url, "LABEL_STUDIO_ACCESS_TOKEN": CANARY}
    auth = {"BASIC_AUTH_USER": USER, "BASIC_AUTH_PASS": PASSWORD, "BOX_THRESHOLD": "0.99"}
    prompts = tmp_path_factory.mktemp("prompts") / "prompts.sqlite"
    config = shipped_config() | {
        "http_options": {"host": "127.0.0.1", "port": 0},
        "applications": [
            _application(
                "prelabel", "/", {"prompts": {"file": str(prompts)}} | allowed, label_studio, 1
            ),
            _application(
                "guarded",
                "/guarded",
                {
                    "limits": {"max_body_bytes": 1_000_000},
                    "prompts": {"unknown_phrases": "reject", "file": ""},
                    "detection": {"tile_size": 700},
                }
                | allowed,
                label_studio | auth,
                0,
            ),
        ],
    }
    config["http_options"]["port"] = free_port()
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        serve.start(http_options=config["http_options"])
        client = serve.context._get_global_client()
        assert client is not None
        client.deploy_apps(ServeDeploySchema.model_validate(config))
        _wait_until_running(len(config["applications"]))
        yield f"http://127.0.0.1:{config['http_options']['port']}"
    finally:
        serve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()


def _wait_until_running(applications: int) -> None:
    """Serve itself would wait for a minute."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        found = serve.status().applications.values()
        assert not any(each.status == ApplicationStatus.DEPLOY_FAILED for each in found), found
        if [each.status for each in found] == [ApplicationStatus.RUNNING] * applications:
            return
        time.sleep(0.5)
    raise AssertionError(f"not running after {START_S} s: {serve.status()}")


@pytest.fixture(scope="session")
def service(_applications: str) -> Iterator[Service]:
    with requests.Session() as session:
        session.trust_env = False
        yield Service(_applications, session)


@pytest.fixture(scope="session")
def guarded(_applications: str) -> Iterator[Service]:
    with requests.Session() as session:
        session.trust_env = False
        session.auth = (USER, PASSWORD)
        yield Service(f"{_applications}/guarded", session)
