"""The image, the compose file and the cluster file, read as their tools read them."""

from __future__ import annotations

import copy
import json
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

from prelabel.settings import AppSettings, Environment

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
CLUSTERS: dict[str, dict[str, Any]] = {
    path: yaml.safe_load((ROOT / path).read_text())
    for path in ("cluster.yaml", "deploy/cluster.gcp.yaml")
}
PRODUCTION = yaml.safe_load((ROOT / "serve_config.production.yaml").read_text())
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
    @pytest.mark.parametrize("cluster", CLUSTERS.values(), ids=CLUSTERS)
    def test_passes_rays_own_validation(self, cluster: dict[str, Any]) -> None:
        validate_config(prepare_config(copy.deepcopy(cluster)))

    @pytest.mark.parametrize("cluster", CLUSTERS.values(), ids=CLUSTERS)
    def test_gpu_nodes_start_from_zero_and_the_head_has_none(self, cluster: dict[str, Any]) -> None:
        types = cluster["available_node_types"]
        for name in ("spot_gpu_worker", "gpu_worker"):
            workers = types[name]
            assert (workers["min_workers"], workers["max_workers"]) == (0, cluster["max_workers"])
            assert workers["resources"]["GPU"] == 1
        assert "GPU" not in types[cluster["head_node_type"]]["resources"]

    @pytest.mark.parametrize("cluster", CLUSTERS.values(), ids=CLUSTERS)
    def test_spot_nodes_are_asked_for_first(self, cluster: dict[str, Any]) -> None:
        types = cluster["available_node_types"]
        assert types["spot_gpu_worker"]["priority"] > types["gpu_worker"].get("priority", 0)
        configs = [json.dumps(types[n]["node_config"]) for n in ("spot_gpu_worker", "gpu_worker")]
        assert [bool(re.search('"spot"|"preemptible": true', each)) for each in configs] == [
            True,
            False,
        ]

    @pytest.mark.parametrize("cluster", CLUSTERS.values(), ids=CLUSTERS)
    def test_dashboard_stays_on_loopback_and_a_token_is_wanted(
        self, cluster: dict[str, Any]
    ) -> None:
        head = " ".join(cluster["head_start_ray_commands"])
        assert "--dashboard-host=127.0.0.1" in head
        assert "RAY_AUTH_MODE=token" in cluster["initialization_commands"][0]
        assert cluster["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"

    @pytest.mark.parametrize("cluster", CLUSTERS.values(), ids=CLUSTERS)
    def test_every_file_that_nodes_need_is_carried(self, cluster: dict[str, Any]) -> None:
        local = [path for path in cluster["file_mounts"].values() if not path.startswith("~")]
        assert [path for path in local if not (ROOT / path).exists()] == []
        ignore = (ROOT / ".dockerignore").read_text()
        in_image = set(re.findall(r"^!([a-z_.]+)", ignore, re.MULTILINE))
        assert in_image - set(local) == {"deploy", "serve_config.yaml"}

    @pytest.mark.parametrize("cluster", CLUSTERS.values(), ids=CLUSTERS)
    def test_commands_survive_yaml(self, cluster: dict[str, Any]) -> None:
        for name in cluster:
            if not name.endswith("_commands"):
                continue
            for command in cluster[name]:
                subprocess.run(["bash", "-n", "-c", command], check=True)

    @pytest.mark.parametrize("target", ["cluster-up", "cluster-deploy", "cluster-down"])
    def test_the_targets_name_files_that_exist(self, target: str) -> None:
        command = ["make", "--dry-run", "--silent", target, "CLUSTER=deploy/cluster.gcp.yaml"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        last = done.stdout.strip().splitlines()[-1]
        assert last.startswith("RAY_AUTH_MODE=token ")
        assert (ROOT / last.split()[-1]).is_file()


class TestProduction:
    def test_serve_accepts_the_config(self) -> None:
        schema = ServeDeploySchema.model_validate(PRODUCTION)
        settings = AppSettings.model_validate(schema.applications[0].args)
        assert settings.device == "cuda"
        assert settings.request_deadline_s < PRODUCTION["http_options"]["request_timeout_s"]

    def test_it_has_the_deployments_of_the_other_config(self) -> None:
        other = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
        names = [
            [deployment["name"] for deployment in config["applications"][0]["deployments"]]
            for config in (PRODUCTION, other)
        ]
        assert names[0] == names[1]

    def test_requests_in_flight_outlive_a_rollout(self) -> None:
        deployments = {d["name"]: d for d in PRODUCTION["applications"][0]["deployments"]}
        longest = AppSettings.model_validate(PRODUCTION["applications"][0]["args"])
        assert deployments["Ingress"]["graceful_shutdown_timeout_s"] >= longest.request_deadline_s
        assert deployments["Ingress"]["autoscaling_config"]["min_replicas"] >= 2

    def test_who_comes_too_many_is_told_when_to_come_again(self) -> None:
        ingress = PRODUCTION["applications"][0]["deployments"][0]
        assert ingress["max_queued_requests"] > 0
        assert ingress["backpressure_config"] == {"status_code": 503, "retry_after_s": 5}

    def test_every_option_is_explained_here_or_there(self) -> None:
        explained: set[str] = set()
        found: set[str] = set()
        for name in ("serve_config.yaml", "serve_config.production.yaml"):
            for line in (ROOT / name).read_text().splitlines():
                option = re.match(r" *(?:- )?(\w+): [^#{\s]", line)
                if option:
                    found.add(option[1])
                    explained |= {option[1]} if "#" in line else set()
        assert found - explained == {"name"}
