"""The image, the compose file and the cluster file, read as their tools read them."""

from __future__ import annotations

import re
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.serve.schema import ServeDeploySchema

from prelabel.settings import Environment

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
CLUSTER_TEXT = (ROOT / "cluster.yaml").read_text()
CLUSTER = yaml.safe_load(CLUSTER_TEXT)
SECRETS = ("LABEL_STUDIO_ACCESS_TOKEN", "BASIC_AUTH_USER", "BASIC_AUTH_PASS")


def instructions(name: str) -> list[str]:
    """Arguments of the Dockerfile's instructions of that name, with lines joined."""
    joined = DOCKERFILE.replace("\\\n", " ")
    return re.findall(rf"^{name}\s+(.*)$", joined, flags=re.MULTILINE)


def run_sed(text: str) -> dict[str, Any]:
    """What the first sed command in `text` makes of serve_config.yaml."""
    found = re.search(r"\bsed -e .*?serve_config\.yaml", text.replace("\\\n", " "))
    assert found is not None
    output = subprocess.run(
        ["sh", "-c", found.group()], cwd=ROOT, capture_output=True, text=True, check=True
    )
    derived: dict[str, Any] = yaml.safe_load(output.stdout)
    return derived


def published(service: str) -> list[str]:
    ports: list[str] = COMPOSE["services"][service]["ports"]
    return ports


class TestImage:
    def test_service_is_a_numbered_user_other_than_root(self) -> None:
        assert instructions("USER") == ["1000:1000"]
        assert DOCKERFILE.index("\nUSER") < DOCKERFILE.index("\nCMD")

    def test_every_download_is_held_to_a_hash(self) -> None:
        assert instructions("ADD") == []
        installs = re.findall(r"pip install ([^&|]*)", " ".join(instructions("RUN")))
        assert len(installs) == 2
        for options in installs:
            assert "--require-hashes" in options or "--editable ." in options
            assert "--no-deps" in options
            assert "--no-build-isolation" in options

    def test_packages_come_before_the_code_so_that_their_layer_is_kept(self) -> None:
        assert DOCKERFILE.index("--require-hashes") < DOCKERFILE.index("COPY . .")

    def test_no_secret_and_no_token_in_a_layer(self) -> None:
        given = " ".join(instructions("ENV") + instructions("ARG"))
        assert not any(name in given for name in (*SECRETS, "RAY_AUTH_TOKEN"))
        assert "RAY_AUTH_MODE=token" in given

    def test_build_context_holds_nothing_but_what_is_named(self) -> None:
        lines = (ROOT / ".dockerignore").read_text().splitlines()
        rules = [line for line in lines if line and not line.startswith("#")]
        assert rules[0] == "*"
        assert not any(rule in ("!.env", "!models", "!.git", "!*") for rule in rules)

    def test_only_the_service_port_is_exposed(self) -> None:
        assert instructions("EXPOSE") == ["9090"]

    def test_derived_config_listens_to_all_and_is_otherwise_the_shipped_one(self) -> None:
        shipped = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
        derived = run_sed(DOCKERFILE)
        ServeDeploySchema.model_validate(derived)
        assert derived["http_options"].pop("host") == "0.0.0.0"
        assert shipped["http_options"].pop("host") == "127.0.0.1"
        assert derived["applications"][0]["args"].pop("models_dir") == "/models"
        assert derived["applications"][0]["args"].pop("prompts_file") == "/data/prompts.sqlite"
        assert derived == shipped

    def test_derived_config_is_the_one_that_runs(self) -> None:
        assert "> serve_config.docker.yaml" in DOCKERFILE
        assert instructions("CMD")[-1] == '["serve", "run", "serve_config.docker.yaml"]'


class TestHealthcheck:
    @pytest.mark.parametrize(("status", "code"), [(200, 0), (401, 0), (404, 1), (500, 1)])
    def test_counts_a_demand_for_a_password_as_life(self, status: int, code: int) -> None:
        assert self.check_against(status) == code

    def test_nobody_there_is_not_life(self) -> None:
        assert self.run(self.free_port()) == 1

    def check_against(self, status: int) -> int:
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status if self.path == "/health" else 404)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        with HTTPServer(("127.0.0.1", 0), Answer) as server:
            thread = Thread(target=server.handle_request)
            thread.start()
            code = self.run(server.server_port)
            thread.join()
        return code

    @staticmethod
    def free_port() -> int:
        with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
            return server.server_port

    @staticmethod
    def run(port: int) -> int:
        program = (ROOT / "deploy/healthcheck.py").read_text().replace("9090", str(port))
        return subprocess.run([sys.executable, "-c", program], check=False).returncode


class TestCompose:
    def test_label_studio_may_reach_a_private_address(self) -> None:
        environment = COMPOSE["services"]["label-studio"]["environment"]
        assert environment["ML_BLOCK_LOCAL_IP"] == "false"
        assert environment["SSRF_PROTECTION_ENABLED"] == "false"

    def test_label_studio_calls_by_a_host_with_a_dot_so_that_it_makes_a_webhook(self) -> None:
        (alias,) = COMPOSE["services"]["prelabel"]["networks"]["default"]["aliases"]
        assert "." in alias
        told = (ROOT / "docs/docker.md").read_text()
        assert set(re.findall(r"http://prelabel[^\s`]*", told)) == {f"http://{alias}:9090"}

    def test_nothing_but_the_two_web_ports_is_published_and_only_on_this_machine(self) -> None:
        assert published("prelabel") == ["127.0.0.1:9090:9090"]
        assert published("label-studio") == ["127.0.0.1:8080:8080"]
        assert all("network_mode" not in service for service in COMPOSE["services"].values())

    def test_secrets_come_from_outside_and_are_empty_by_default(self) -> None:
        environment = COMPOSE["services"]["prelabel"]["environment"]
        for name in SECRETS:
            assert environment[name] == f"${{{name}:-}}"

    def test_every_variable_of_the_service_can_be_given(self) -> None:
        given = COMPOSE["services"]["prelabel"]["environment"]
        values = dict.fromkeys(given, "0.5")
        chosen = Environment.model_validate(values).model_dump()
        assert [name for name, value in chosen.items() if value is None] == []

    def test_downloaded_models_outlive_the_container(self) -> None:
        assert COMPOSE["services"]["prelabel"]["volumes"] == ["models:/models", "prompts:/data"]


class TestCluster:
    def test_passes_rays_own_validation(self) -> None:
        validate_config(prepare_config(yaml.safe_load(CLUSTER_TEXT)))

    def test_gpu_nodes_start_from_zero_and_the_head_has_none(self) -> None:
        types = CLUSTER["available_node_types"]
        workers = types["gpu_worker"]
        assert (workers["min_workers"], workers["max_workers"]) == (0, CLUSTER["max_workers"])
        assert workers["resources"]["GPU"] == 1
        assert "GPU" not in types[CLUSTER["head_node_type"]]["resources"]

    def test_dashboard_stays_on_loopback_and_a_token_is_wanted(self) -> None:
        head = " ".join(CLUSTER["head_start_ray_commands"])
        assert "--dashboard-host=127.0.0.1" in head
        assert "RAY_AUTH_MODE=token" in CLUSTER["initialization_commands"][0]
        assert CLUSTER["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"

    def test_every_file_that_nodes_need_is_carried(self) -> None:
        local = [path for path in CLUSTER["file_mounts"].values() if not path.startswith("~")]
        assert [path for path in local if not (ROOT / path).exists()] == []
        ignore = (ROOT / ".dockerignore").read_text()
        in_image = set(re.findall(r"^!([a-z_.]+)", ignore, re.MULTILINE))
        assert in_image - set(local) == {"deploy", "serve_config.yaml"}

    def test_commands_survive_yaml(self) -> None:
        for name in CLUSTER:
            if not name.endswith("_commands"):
                continue
            for command in CLUSTER[name]:
                subprocess.run(["bash", "-n", "-c", command], check=True)

    def test_config_of_its_comment_asks_for_gpus_and_listens_to_all(self) -> None:
        derived = run_sed(CLUSTER_TEXT)
        ServeDeploySchema.model_validate(derived)
        assert derived["http_options"]["host"] == "0.0.0.0"
        assert derived["applications"][0]["args"]["device"] == "cuda"
        assert derived["proxy_location"] == "HeadOnly"
