"""The image, the compose file and the cluster file, read as their tools read them."""

from __future__ import annotations

import copy
import importlib.metadata
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.serve.schema import ServeDeploySchema

from deploy.release import with_release
from prelabel import __version__
from prelabel.settings import AppSettings, Environment
from prelabel.settings.paths import resolve_path
from tests.support.paths import ROOT
from tests.support.processes import free_port
from tests.support.ray_environment import RAY_ENV

DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
CLUSTERS: dict[str, dict[str, Any]] = {
    path: yaml.safe_load((ROOT / path).read_text())
    for path in ("cluster.yaml", "deploy/cluster.gcp.yaml")
}
PRODUCTION = yaml.safe_load((ROOT / "serve_config.production.yaml").read_text())
SECRETS = ("LABEL_STUDIO_ACCESS_TOKEN", "BASIC_AUTH_USER", "BASIC_AUTH_PASS")
BACKENDS = ("prelabel", "prelabel-gpu")
BIN = Path(sys.executable).parent
CALL_BY_GRPC = """
import asyncio, grpc, sys

async def main(host):
    server = grpc.aio.server()
    port = server.add_insecure_port(f"{host}:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"{host}:{port}") as channel:
            await asyncio.wait_for(channel.channel_ready(), 3)
        print("ready")
    except asyncio.TimeoutError:
        print("no connection")
    await server.stop(0)

host = sys.argv[1]
asyncio.run(main(f"[{host}]" if ":" in host else host))
"""
SBOM_BIN = ROOT / ".venv-sbom/bin"


def instructions(name: str) -> list[str]:
    """Arguments of the Dockerfile's instructions of that name, with lines joined."""
    joined = DOCKERFILE.replace("\\\n", " ")
    return re.findall(rf"^{name}\s+(.*)$", joined, flags=re.MULTILINE)


def derived_config(model: str) -> dict[str, Any]:
    """Return the config that the Dockerfile derives from serve_config.yaml for a model."""
    joined = DOCKERFILE.replace("\\\n", " ")
    found = re.search(r'if \[ "\$MODEL" = demo \]; then models=.*?serve_config\.yaml', joined)
    assert found is not None
    command = ["sh", "-c", f"MODEL={model}; {found.group()}"]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    derived: dict[str, Any] = yaml.safe_load(output.stdout)
    return derived


def lock_for_cpus() -> str:
    """Return the part of serve.txt that the Dockerfile keeps for images without CUDA."""
    found = re.search(r"sed -i (-E '.*?') /build/serve\.txt", DOCKERFILE)
    assert found is not None
    command = ["sh", "-c", f"sed {found[1]} requirements/serve.txt"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def locked(text: str) -> dict[str, list[str]]:
    """Return the hashes of each package of a lock file."""
    entries = re.findall(r"^([\w.-]+)==.*\n((?:    --hash=.*\n)+)", text, re.MULTILINE)
    return {name: re.findall(r"sha256:(\w+)", hashes) for name, hashes in entries}


def lint(dockerfile: Path) -> tuple[int, str]:
    """hadolint's status and what it said, ShellCheck's opinion of the commands included."""
    command: list[str | Path] = [
        BIN / "hadolint",
        "--config",
        ROOT / ".hadolint.yaml",
        "--no-color",
        dockerfile,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def check_compose(path: Path) -> tuple[int, str]:
    """Status and output of the compose specification's own schema."""
    command: list[str | Path] = [
        BIN / "check-jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        path,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def published(service: str) -> list[str]:
    ports: list[str] = COMPOSE["services"][service]["ports"]
    return ports


class TestImage:
    def test_hadolint_finds_nothing(self) -> None:
        assert lint(ROOT / "Dockerfile") == (0, "")

    @pytest.mark.parametrize(
        ("line", "rule"),
        [
            ("FROM debian", "DL3006"),
            ("FROM debian:12\nRUN pip install ray", "DL3013"),
            ("FROM debian:12\nRUN cd $HOME && ls", "DL3003"),
            ("FROM debian:12\nRUN rm $HOME/x", "SC2086"),
        ],
    )
    def test_hadolint_would_find_it(self, tmp_path: Path, line: str, rule: str) -> None:
        (tmp_path / "Dockerfile").write_text(line + "\n")
        status, said = lint(tmp_path / "Dockerfile")
        assert status == 1
        assert rule in said

    def test_every_rule_that_hadolint_ignores_has_its_reason(self) -> None:
        text = (ROOT / ".hadolint.yaml").read_text()
        rules = yaml.safe_load(text)["ignored"]
        explained = re.findall(r"^  # .*\n  - (\w+)$", text, flags=re.MULTILINE)
        assert rules == explained

    def test_service_is_a_numbered_user_other_than_root(self) -> None:
        assert instructions("USER") == ["1000:1000"]
        assert DOCKERFILE.index("\nUSER") < DOCKERFILE.index("\nCMD")

    def test_every_download_is_held_to_a_hash(self) -> None:
        assert instructions("ADD") == []
        installs = re.findall(r"pip install ([^&|]*)", " ".join(instructions("RUN")))
        assert len(installs) == 3
        for options in installs:
            assert "--require-hashes" in options or "--editable ." in options
            assert "--no-deps" in options
        assert sum("--no-build-isolation" in options for options in installs) == 2

    def test_image_for_cpus_lacks_what_only_gpus_need_and_nothing_else(self) -> None:
        whole, left = locked((ROOT / "requirements/serve.txt").read_text()), locked(lock_for_cpus())
        gone = whole.keys() - left.keys()
        assert {"triton", "nvidia-cublas", "nvidia-cudnn-cu13", "cuda-bindings"} <= gone
        assert all(re.match("nvidia-|cuda-|triton$", name) for name in gone)
        assert {name for name in left if re.match("nvidia|cuda|triton", name)} == {
            "nvidia-cuda-runtime"
        }
        assert left == {name: hashes for name, hashes in whole.items() if name not in gone}

    def test_make_leaves_out_the_same_packages_on_a_machine_without_a_gpu(self) -> None:
        command = ["make", "--dry-run", "--silent", "-W", "pyproject.toml", ".venv/serve.stamp"]
        told = {
            device: subprocess.run(
                [*command, f"DEVICE={device}"], cwd=ROOT, capture_output=True, text=True, check=True
            ).stdout
            for device in ("cpu", "gpu")
        }
        found = re.search(r"-r <\((sed .*)\)$", told["cpu"], re.MULTILINE)
        assert found is not None
        done = subprocess.run(
            ["bash", "-c", found[1]], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert done.stdout == lock_for_cpus()
        assert "standins.py" in told["cpu"]
        assert "-r requirements/serve.txt" in told["gpu"]
        assert "standins.py" not in told["gpu"]

    @pytest.mark.parametrize(
        ("installed", "chosen", "device"),
        [(None, None, "cpu"), ("cpu", None, "cpu"), ("gpu", None, "gpu"), ("cpu", "gpu", "gpu")],
    )
    def test_make_keeps_the_choice_of_the_installation(
        self, installed: str | None, chosen: str | None, device: str, tmp_path: Path
    ) -> None:
        if Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists():
            pytest.skip("this machine has a GPU")
        (tmp_path / "deploy").mkdir()
        shutil.copy(ROOT / "deploy/ray.env", tmp_path / "deploy")
        (tmp_path / ".venv").mkdir()
        if installed:
            (tmp_path / f".venv/{installed}.device").touch()
        (tmp_path / "Makefile").write_text(f"include {ROOT}/Makefile\nshow:\n\t@echo $(DEVICE)\n")
        done = subprocess.run(
            ["make", "--silent", "show", *([f"DEVICE={chosen}"] if chosen else [])],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == device

    def test_image_for_cpus_sees_no_gpu(self) -> None:
        (cpu,) = (each for each in instructions("ENV") if "CUDA" in each)
        assert 'CUDA_VISIBLE_DEVICES=""' in cpu
        assert DOCKERFILE.index("AS cpu") < DOCKERFILE.index(cpu[:20]) < DOCKERFILE.index("AS gpu")

    def test_arguments_of_several_stages_have_their_default_before_the_first(self) -> None:
        before = DOCKERFILE[: DOCKERFILE.index("\nFROM")]
        for default in ("DEVICE=cpu", "MODEL=demo"):
            assert f"\nARG {default}\n" in before
            name = default.split("=")[0]
            assert {each for each in instructions("ARG") if each.startswith(name)} == {
                default,
                name,
            }

    def test_a_change_of_code_leaves_heavy_layers_as_they_are(self) -> None:
        final = DOCKERFILE[DOCKERFILE.rindex("\nFROM runtime") :]
        order = [final.index(f"COPY --from={stage}") for stage in ("packages", "models", "code")]
        assert order == sorted(order)
        before_code = DOCKERFILE[: DOCKERFILE.index("AS code")]
        assert not re.search(r"^COPY .*(prelabel|deployments|serve_app)", before_code, re.MULTILINE)

    def test_final_stage_runs_nothing_and_so_leaves_no_tool_behind(self) -> None:
        final = DOCKERFILE[DOCKERFILE.rindex("\nFROM runtime") :]
        assert "\nRUN" not in final
        assert "\nFROM ${DEVICE} AS runtime\n" in DOCKERFILE

    def test_no_secret_and_no_token_in_a_layer(self) -> None:
        given = " ".join(instructions("ENV") + instructions("ARG"))
        assert not any(name in given for name in (*SECRETS, "RAY_AUTH_TOKEN"))
        assert "RAY_AUTH_MODE=token" in given

    def test_build_context_holds_nothing_but_what_is_named(self) -> None:
        lines = (ROOT / ".dockerignore").read_text().splitlines()
        rules = [line for line in lines if line and not line.startswith("#")]
        assert rules[0] == "*"
        assert not any(rule in ("!.env", "!models", "!.git", "!*") for rule in rules)

    def test_everything_that_is_copied_is_in_the_build_context(self) -> None:
        ignore = (ROOT / ".dockerignore").read_text()
        allowed = re.findall(r"^!(\S+)$", ignore, flags=re.MULTILINE)
        sources = [
            source
            for line in instructions("COPY")
            if not line.startswith("--from")
            for source in line.split()[:-1]
        ]
        assert len(sources) > 10
        for source in sources:
            assert (ROOT / source).exists()
            assert any(fnmatch(source, each) or source.startswith(f"{each}/") for each in allowed)

    def test_only_the_service_port_is_exposed(self) -> None:
        assert instructions("EXPOSE") == ["9090"]

    @pytest.mark.parametrize(
        ("model", "folder"), [("demo", "/models"), ("grounding-dino-swin-t", "models")]
    )
    def test_derived_config_is_the_shipped_one_but_for_host_model_and_places(
        self, model: str, folder: str
    ) -> None:
        shipped = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
        derived = derived_config(model)
        ServeDeploySchema.model_validate(derived)
        assert derived["http_options"].pop("host") == "0.0.0.0"
        assert shipped["http_options"].pop("host") == "127.0.0.1"
        args = derived["applications"][0]["args"]
        assert args["model"]["name"] == model
        assert args["model"].pop("folder") == folder
        assert args.pop("prompts") == {"file": "/data/prompts.sqlite"}
        args["model"]["name"] = "demo"
        assert derived == shipped

    def test_baked_models_are_where_the_production_config_looks(self) -> None:
        assert "COPY --from=models /baked /app/models" in DOCKERFILE
        assert "folder" not in PRODUCTION["applications"][0]["args"]["model"]
        assert resolve_path(AppSettings().model.folder) == ROOT / "models"

    def test_derived_config_is_the_one_that_runs(self) -> None:
        assert "> serve_config.docker.yaml" in DOCKERFILE
        assert instructions("CMD")[-1] == '["prelabel", "serve", "serve_config.docker.yaml"]'

    def test_labels_tell_the_version(self) -> None:
        (labels,) = instructions("LABEL")
        assert f"org.opencontainers.image.version={__version__} " in labels


class TestStandins:
    def test_library_loads_without_the_one_that_it_was_linked_to(self, tmp_path: Path) -> None:
        torch = self.link_without_cublas(tmp_path)
        loading = [sys.executable, "-c", f"import ctypes; torch = ctypes.CDLL({str(torch)!r})"]
        assert self.run(*loading).returncode == 1
        assert "1 libraries and their 2 symbols" in self.make_standins(tmp_path).stdout
        assert self.run(*loading).returncode == 0

    def test_a_call_of_a_standin_aborts_and_names_the_other_image(self, tmp_path: Path) -> None:
        torch = self.link_without_cublas(tmp_path)
        self.make_standins(tmp_path)
        calling = f"import ctypes; ctypes.CDLL({str(torch)!r}).multiply()"
        done = self.run(sys.executable, "-c", calling)
        assert done.returncode == -signal.SIGABRT
        assert "DEVICE=gpu" in done.stderr

    def test_what_is_there_is_not_stood_in_for(self, tmp_path: Path) -> None:
        torch = self.link_without_cublas(tmp_path)
        present = tmp_path / "nvidia/cu13/lib/libcublas.so.99"
        present.parent.mkdir(parents=True)
        present.touch()
        assert "0 libraries and their 1 symbols" in self.make_standins(tmp_path).stdout
        assert [path.name for path in torch.parent.iterdir() if path.is_symlink()] == []

    @classmethod
    def link_without_cublas(cls, folder: Path) -> Path:
        """A library that lacks libcublas.so.99, from which it wants one symbol with a version."""
        (folder / "versions").write_text("libcublas.so.99 { global: cublasCreate; };\n")
        (folder / "cublas.c").write_text("void cublasCreate(void) {}\nvoid ncclSend(void) {}\n")
        (folder / "torch.c").write_text(
            "void cublasCreate(void); void ncclSend(void);\n"
            "void multiply(void) { cublasCreate(); }\nvoid send(void) { ncclSend(); }\n"
        )
        torch = folder / "torch/lib/libtorch_cuda.so"
        torch.parent.mkdir(parents=True)
        cublas = folder / "libcublas.so.99"
        shared = ("gcc", "-shared", "-fPIC", "-Wl,--disable-new-dtags")
        script = f"-Wl,--version-script={folder / 'versions'}"
        cls.run(*shared, script, "-Wl,-soname,libcublas.so.99", folder / "cublas.c", "-o", cublas)
        cls.run(*shared, "-Wl,-rpath,$ORIGIN", folder / "torch.c", cublas, "-o", torch)
        cublas.unlink()
        return torch

    @classmethod
    def make_standins(cls, folder: Path) -> subprocess.CompletedProcess[str]:
        done = cls.run(sys.executable, ROOT / "deploy/docker/standins.py", folder)
        assert done.returncode == 0, done.stderr
        return done

    @staticmethod
    def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, check=False)


class TestBillOfMaterials:
    """The bill of materials of this environment, made as the image's is."""

    STATUS = (
        "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\n"
        "Version: 2.36-9+deb12u10\nDescription: GNU C Library\n shared libraries\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 1:2.0\n\n"
        "Package: tzdata\nStatus: install ok installed\nArchitecture: all\nVersion: 1:2.0~a\n"
    )

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder = tmp_path_factory.mktemp("sbom")
        (folder / "status").write_text(cls.STATUS)
        (folder / "os-release").write_text('ID=debian\nVERSION_ID="12"\n')
        (folder / "__init__.py").write_text((ROOT / "prelabel/__init__.py").read_text())
        target = folder / "python.cdx.json"
        options = ["--output-reproducible", "--no-validate", "-o", str(target)]
        program = str(SBOM_BIN / "cyclonedx-py")
        subprocess.run(
            [program, "environment", *options, sys.executable], check=True, capture_output=True
        )
        # Links take a minute to validate, and are of no interest here.
        bom = json.loads(target.read_text())
        for each in bom["components"] + bom["metadata"]["tools"]["components"]:
            each.pop("externalReferences", None)
        target.write_text(json.dumps(bom))
        return folder

    @staticmethod
    def make(folder: Path) -> subprocess.CompletedProcess[str]:
        command = [SBOM_BIN / "python", ROOT / "deploy/docker/sbom.py", folder]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def test_valid_and_names_packages_of_python_and_of_the_base(self, folder: Path) -> None:
        done = self.make(folder)
        assert done.returncode == 0, done.stderr
        bom = json.loads(done.stdout)
        assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
        assert bom["metadata"]["component"]["version"] == __version__
        versions = {each["name"]: each["version"] for each in bom["components"]}
        for name in ("torch", "ray"):
            assert versions[name] == importlib.metadata.version(name)
        assert versions["python"] == platform.python_version()
        assert versions["libc6"] == "2.36-9+deb12u10"
        assert "gone" not in versions

    def test_package_addresses_keep_their_letters(self, folder: Path) -> None:
        components = json.loads(self.make(folder).stdout)["components"]
        addresses = [each["purl"] for each in components if "pkg:deb" in each.get("purl", "")]
        assert addresses == [
            "pkg:deb/debian/libc6@2.36-9%2Bdeb12u10?arch=amd64&distro=debian-12",
            "pkg:deb/debian/tzdata@1%3A2.0~a?arch=all&distro=debian-12",
        ]

    def test_what_is_not_valid_does_not_come_out(self, folder: Path, tmp_path: Path) -> None:
        shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
        bom = json.loads((folder / "python.cdx.json").read_text())
        bom["components"][0]["type"] = "thing"
        (tmp_path / "python.cdx.json").write_text(json.dumps(bom))
        done = self.make(tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert "not valid CycloneDX" in done.stderr


class TestHealthcheck:
    @pytest.mark.parametrize(("status", "code"), [(200, 0), (401, 0), (404, 1), (500, 1)])
    def test_counts_a_demand_for_a_password_as_life(self, status: int, code: int) -> None:
        assert self.check_against(status) == code

    def test_an_address_without_a_service_is_not_live(self) -> None:
        assert self.run(free_port()) == 1

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
    def run(port: int) -> int:
        program = (ROOT / "deploy/healthcheck.py").read_text().replace("9090", str(port))
        return subprocess.run([sys.executable, "-c", program], check=False).returncode


class TestCompose:
    def test_is_what_the_compose_specification_allows(self) -> None:
        status, said = check_compose(ROOT / "docker-compose.yml")
        assert status == 0, said

    @pytest.mark.parametrize(
        "change", [{"ports": 9090}, {"read-only": True}, {"build": {"arguments": {}}}]
    )
    def test_the_specification_would_not_allow_it(
        self, tmp_path: Path, change: dict[str, Any]
    ) -> None:
        wrong = copy.deepcopy(COMPOSE)
        wrong["services"]["prelabel"] |= change
        (tmp_path / "docker-compose.yml").write_text(yaml.safe_dump(wrong))
        assert check_compose(tmp_path / "docker-compose.yml")[0] == 1

    def test_label_studio_may_reach_a_private_address(self) -> None:
        environment = COMPOSE["services"]["label-studio"]["environment"]
        assert environment["ML_BLOCK_LOCAL_IP"] == "false"
        assert environment["SSRF_PROTECTION_ENABLED"] == "false"

    def test_label_studio_calls_by_a_host_with_a_dot_so_that_it_makes_a_webhook(self) -> None:
        for name in BACKENDS:
            (alias,) = COMPOSE["services"][name]["networks"]["default"]["aliases"]
            assert "." in alias
            told = (ROOT / "docs/operator/docker.md").read_text()
            assert set(re.findall(r"http://prelabel[^\s`]*", told)) == {f"http://{alias}:9090"}

    def test_without_profiles_it_is_the_backend_for_cpus_and_label_studio(self) -> None:
        services = COMPOSE["services"].items()
        profiles = {
            name: service["profiles"] for name, service in services if "profiles" in service
        }
        assert COMPOSE["services"].keys() - profiles.keys() == {"prelabel", "label-studio"}
        assert profiles == {
            "prelabel-gpu": ["gpu"],
            "demo": ["demo"],
            "redis": ["redis"],
            "prometheus": ["monitoring"],
            "grafana": ["monitoring"],
        }

    def test_the_backends_differ_by_image_and_gpu_alone(self) -> None:
        cpu, gpu = (copy.deepcopy(COMPOSE["services"][name]) for name in BACKENDS)
        assert (cpu["build"]["args"].pop("DEVICE"), cpu.pop("image")) == ("cpu", "prelabel")
        assert (gpu["build"]["args"].pop("DEVICE"), gpu.pop("image")) == ("gpu", "prelabel:gpu")
        (device,) = gpu.pop("deploy")["resources"]["reservations"]["devices"]
        assert device["capabilities"] == ["gpu"]
        gpu.pop("profiles")
        assert cpu == gpu

    def test_nothing_but_web_ports_is_published_and_only_on_this_machine(self) -> None:
        ports = {
            name: service["ports"]
            for name, service in COMPOSE["services"].items()
            if "ports" in service
        }
        assert ports == {
            "prelabel": ["127.0.0.1:9090:9090"],
            "prelabel-gpu": ["127.0.0.1:9090:9090"],
            "label-studio": ["127.0.0.1:8080:8080"],
            "prometheus": ["127.0.0.1:9091:9090"],
            "grafana": ["127.0.0.1:3000:3000"],
        }
        assert all("network_mode" not in service for service in COMPOSE["services"].values())

    def test_all_but_label_studio_have_a_read_only_root_and_no_capabilities(self) -> None:
        for name, service in COMPOSE["services"].items():
            if name != "label-studio":
                assert service["read_only"] is True
                assert service["cap_drop"] == ["ALL"]
                assert service["security_opt"] == ["no-new-privileges:true"]

    def test_the_service_can_write_where_ray_and_its_home_are(self) -> None:
        for name in BACKENDS:
            service = COMPOSE["services"][name]
            memory = {each.split(":")[0]: each.split(":")[-1] for each in service["tmpfs"]}
            assert memory.keys() == {"/tmp", "/home/prelabel"}
            assert memory["/home/prelabel"].split(",")[:2] == ["uid=1000", "gid=1000"]
            assert "HOME=/home/prelabel" in " ".join(instructions("ENV"))
            assert "ray:/tmp/ray" in service["volumes"]

    def test_rays_objects_fit_into_shared_memory(self) -> None:
        for name in BACKENDS:
            service = COMPOSE["services"][name]
            most = int(service["environment"]["RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES"])
            assert most < 0.95 * int(service["shm_size"].removesuffix("gb")) * 2**30

    def test_secrets_come_from_outside_and_are_empty_by_default(self) -> None:
        for name in BACKENDS:
            environment = COMPOSE["services"][name]["environment"]
            for secret in SECRETS:
                assert environment[secret] == f"${{{secret}:-}}"

    def test_every_variable_of_the_service_can_be_given(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given = COMPOSE["services"]["prelabel"]["environment"]
        values = dict.fromkeys(given, "0.5")
        values["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://collector:4318"
        values["LOG_LEVEL"] = "INFO"
        assert values["LABEL_STUDIO_ACCESS_TOKEN_FILE"]
        monkeypatch.setattr(os, "environ", {})
        chosen = Environment.model_validate(values).model_dump()
        # Paths of the machine mean nothing in a container; docs/operator/docker.md mounts a file.
        files = ["ssl_cert_file", "ssl_cert_dir", "requests_ca_bundle", "curl_ca_bundle"]
        left = [name for name, value in chosen.items() if value is None]
        # HumanSignal's switches of masks; `model.segmenter` is this service's own.
        switches = ["use_sam", "use_mobile_sam", "sam_checkpoint"]
        assert left == [*switches, "all_proxy", *files, "verify_ssl"]

    def test_label_studio_is_reached_without_a_proxy(self) -> None:
        given = COMPOSE["services"]["prelabel"]["environment"]
        host = given["LABEL_STUDIO_HOST"].split("//")[1].split(":")[0]
        assert given["NO_PROXY"] == f"${{NO_PROXY:-{host}}}"

    def test_downloaded_models_and_prompts_outlive_the_container(self) -> None:
        volumes = COMPOSE["services"]["prelabel"]["volumes"]
        assert volumes[:2] == ["models:/models", "prompts:/data"]
        assert COMPOSE["volumes"]["models"] is COMPOSE["volumes"]["prompts"] is None

    def test_prometheus_reads_where_ray_writes_and_what_operations_have(self) -> None:
        prometheus = COMPOSE["services"]["prometheus"]
        mounts = dict(each.split(":")[:2] for each in prometheus["volumes"])
        assert mounts["ray"] == "/tmp/ray"
        scraped = yaml.safe_load((ROOT / "deploy/monitoring/prometheus.yml").read_text())
        (files,) = (each["files"] for each in scraped["scrape_configs"][0]["file_sd_configs"])
        assert all(each.startswith("/tmp/ray/") for each in files)
        for rules in scraped["rule_files"]:
            assert mounts[f"./deploy/monitoring/{rules}"] == f"/etc/prometheus/{rules}"

    def test_grafana_has_the_dashboard_and_no_password(self) -> None:
        grafana = COMPOSE["services"]["grafana"]
        mounts = {
            target: ROOT / source
            for source, target in (each.split(":")[:2] for each in grafana["volumes"])
        }
        provider = yaml.safe_load(
            mounts["/etc/grafana/provisioning/dashboards/prelabel.yml"].read_text()
        )
        (path,) = (each["options"]["path"] for each in provider["providers"])
        dashboard = json.loads(mounts[f"{path}/prelabel.json"].read_text())
        (variable,) = dashboard["templating"]["list"]
        source = yaml.safe_load(
            mounts["/etc/grafana/provisioning/datasources/prelabel.yml"].read_text()
        )
        (prometheus,) = source["datasources"]
        assert prometheus["type"] == variable["query"]
        assert prometheus["url"] == "http://prometheus:9090"
        environment = grafana["environment"]
        assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
        assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
        assert not any("PASSWORD" in name for name in environment)

    def test_every_mounted_file_exists_and_every_image_has_a_version(self) -> None:
        for service in COMPOSE["services"].values():
            for mount in service.get("volumes", []):
                source = mount.split(":")[0]
                assert (ROOT / source).is_file() or source in COMPOSE["volumes"]
            if "build" not in service and service["image"] != "prelabel":
                assert re.search(r":v?\d+\.\d+", service["image"])


class TestRaysEnvironment:
    def test_every_variable_is_one_that_ray_reads(self) -> None:
        text = "".join(
            (Path(ray.__file__).parent / path).read_text()
            for path in ("serve/_private/constants.py", "_common/usage/usage_constants.py")
        )
        defaults = (Path(ray.__file__).parent / "core/src/ray/raylet/raylet").read_bytes()
        for name in RAY_ENV:
            if name.startswith("RAY_"):
                assert name in text or name.removeprefix("RAY_").encode() in defaults

    def test_image_clusters_and_make_have_it(self) -> None:
        in_image = dict(re.findall(r"(RAY_\w+|no_grpc_proxy)=(\S+)", instructions("ENV")[0]))
        assert in_image == {"RAY_AUTH_MODE": "token", **RAY_ENV}
        for cluster in CLUSTERS.values():
            assert cluster["file_mounts"]["~/app/deploy/ray.env"] == "deploy/ray.env"
            for who in ("head", "worker"):
                start = cluster[f"{who}_start_ray_commands"][-1]
                assert "set -a && . ./deploy/ray.env && " in start
        command = ["make", "--dry-run", "--print-data-base", "help"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert RAY_ENV.items() <= dict(re.findall(r"^(\w+) = (.+)$", done.stdout, re.M)).items()

    def test_make_hands_all_of_it_to_what_it_starts(self, tmp_path: Path) -> None:
        (tmp_path / "Makefile").write_text(f"include {ROOT}/Makefile\nshow:\n\t@env\n")
        command = ["make", "--silent", f"--directory={ROOT}", "-f", f"{tmp_path}/Makefile", "show"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert RAY_ENV.items() <= dict(re.findall(r"^(\w+)=(.*)$", done.stdout, re.M)).items()

    @pytest.mark.slow
    @pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
    @pytest.mark.parametrize("variable", ["http_proxy", "https_proxy"])
    def test_calls_between_replicas_go_past_a_proxy(self, address: str, variable: str) -> None:
        """gRPC itself, in a process whose proxy is where nothing answers."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family) as probe:
            try:
                probe.bind((address, 0))
            except OSError:
                pytest.skip(f"this machine has no {address}")
        for given, outcome in ((RAY_ENV, "ready"), ({}, "no connection")):
            done = subprocess.run(
                [sys.executable, "-c", CALL_BY_GRPC, address],
                env={variable: "http://127.0.0.1:9", **given},
                capture_output=True,
                text=True,
                check=True,
            )
            assert done.stdout.strip() == outcome


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
        assert "examples/demo" in local
        assert in_image - set(local) == {
            "deploy",
            "examples",
            "serve_config.yaml",
            "serve_config.production.yaml",
        }

    @pytest.mark.parametrize("cluster", CLUSTERS.values(), ids=CLUSTERS)
    def test_commands_survive_yaml(self, cluster: dict[str, Any]) -> None:
        for name in cluster:
            if not name.endswith("_commands"):
                continue
            for command in cluster[name]:
                subprocess.run(["bash", "-n", "-c", command], check=True)

    @pytest.mark.parametrize("target", ["cluster-up", "cluster-deploy", "cluster-down"])
    def test_the_targets_name_files_that_exist(self, target: str, tmp_path: Path) -> None:
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray" / "auth_token").touch()  # else it would be made first
        command = ["make", "--dry-run", "--silent", target, "CLUSTER=deploy/cluster.gcp.yaml"]
        done = subprocess.run(
            [*command, f"HOME={tmp_path}"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        *_, before, last = ["", *done.stdout.strip().splitlines()]
        assert last.startswith("RAY_AUTH_MODE=token ")
        source, made, written = before.partition(" > ")
        assert not made or written == last.split()[-1]
        assert (ROOT / (source if made else last).split()[-1]).is_file()


class TestProduction:
    def test_serve_accepts_the_config(self) -> None:
        schema = ServeDeploySchema.model_validate(PRODUCTION)
        settings = AppSettings.model_validate(schema.applications[0].args)
        assert settings.model.device == "cuda"
        assert settings.limits.request_deadline_s < PRODUCTION["http_options"]["request_timeout_s"]

    def test_only_detectors_keep_gpu_nodes_and_the_head_has_room_for_all_others(self) -> None:
        deployments = {d["name"]: d for d in PRODUCTION["applications"][0]["deployments"]}
        assert "label_selector" not in deployments.pop("Detector")["ray_actor_options"]
        most = 0.0
        for deployment in deployments.values():
            options = deployment["ray_actor_options"]
            (selector,) = options["label_selector"].items()
            replicas = deployment.get("num_replicas")
            replicas = replicas or deployment["autoscaling_config"]["max_replicas"]
            most += 2 * replicas * options["num_cpus"]  # old and new ones, in a rollout
            for cluster in CLUSTERS.values():
                for node in cluster["available_node_types"].values():
                    is_left_out = selector[1] == f"!{node.get('labels', {}).get(selector[0])}"
                    assert is_left_out == ("GPU" in node["resources"])
        for cluster in CLUSTERS.values():
            assert most <= cluster["available_node_types"]["head"]["resources"]["CPU"]

    def test_changed_code_changes_the_config_that_is_deployed(self, tmp_path: Path) -> None:
        text = (ROOT / "serve_config.production.yaml").read_text()
        (tmp_path / "prelabel").mkdir()
        seen = set()
        changes = [("a.py", "1"), ("a.py", "2"), ("b.py", "2"), ("c.py", "2"), ("card.yaml", "1")]
        for name, code in [*changes, ("kernel.c", "1")]:
            (tmp_path / f"prelabel/{name}").write_text(code)
            config = yaml.safe_load(with_release(text, tmp_path))
            (application,) = ServeDeploySchema.model_validate(config).applications
            seen.add(AppSettings.model_validate(application.args).release)
            assert yaml.safe_load(with_release(text, tmp_path)) == config
            config["applications"][0]["args"].pop("release")
            assert config == PRODUCTION
        assert len(seen) == 6
        assert "" not in seen

    def test_it_has_the_deployments_of_the_other_config(self) -> None:
        other = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
        names = [
            [deployment["name"] for deployment in config["applications"][0]["deployments"]]
            for config in (PRODUCTION, other)
        ]
        assert names[0] == names[1]

    def test_requests_in_flight_outlive_a_rollout(self) -> None:
        deployments = {d["name"]: d for d in PRODUCTION["applications"][0]["deployments"]}
        limits = AppSettings.model_validate(PRODUCTION["applications"][0]["args"]).limits
        assert deployments["Ingress"]["graceful_shutdown_timeout_s"] >= limits.request_deadline_s
        assert deployments["Ingress"]["autoscaling_config"]["min_replicas"] >= 2

    def test_a_request_over_the_limit_is_told_when_to_retry(self) -> None:
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
        assert found <= explained
