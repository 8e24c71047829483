"""The service in a company's network: the proxy in its environment does not answer."""

from __future__ import annotations

import requests

from tests.support.http_server import serve
from tests.support.processes import free_port
from tests.support.scenes import SCENE
from tests.support.serve_process import serving, shipped_config
from tests.support.service_client import CONFIG

DEAD = "http://user:canary@127.0.0.1:9"
PUBLIC = "http://93.184.216.34/a.png"


def test_deployments_call_each_other_past_the_proxy() -> None:
    config = shipped_config()
    port = config["http_options"]["port"] = free_port()
    config["applications"][0]["args"]["prompts"] = {"file": ""}
    with serve(lambda exchange, _: exchange.answer(404)) as studio:
        variables = {"http_proxy": DEAD, "https_proxy": DEAD, "LABEL_STUDIO_HOST": studio.url}
        with serving(config, variables) as logs, requests.Session() as session:
            session.trust_env = False
            url = f"http://127.0.0.1:{port}"
            images = (SCENE, PUBLIC, "/data/upload/1/a.png")
            body = {
                "tasks": [{"id": n, "data": {"image": image}} for n, image in enumerate(images)],
                "project": "1.1",
                "label_config": CONFIG,
                "params": {"context": None},
            }
            answer = session.post(f"{url}/predict", json=body, timeout=120)
            assert answer.status_code == 200, answer.text
            scene, public, upload = answer.json()["results"]
            network = session.get(f"{url}/health", timeout=10).json()["network"]
            written = "".join(path.read_text() for path in logs.glob("*.log"))
    assert len(scene["result"]) == 2
    assert "the proxy 127.0.0.1:9 (HTTP_PROXY)" in public["error"].replace("The", "the")
    assert "HTTP 404" in upload["error"]  # loopback is asked directly
    assert network == {"http_proxy": True, "https_proxy": True, "own_ca": False}
    assert "canary" not in written + answer.text
    assert "is temporarily unavailable" not in written
