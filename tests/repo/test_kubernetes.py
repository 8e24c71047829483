"""The Kubernetes files, rendered by kustomize and checked by the schemas of their readers."""

from __future__ import annotations

import copy
import functools
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import typer.main
import yaml
from pydantic import ValidationError
from ray.autoscaler._private.kuberay.autoscaling_config import (
    _derive_autoscaling_config_from_ray_cr as as_rays_autoscaler_reads_it,
)
from ray.scripts.scripts import drain_node
from ray.serve.schema import ServeDeploySchema

from deployments.placement import CPU_ENVIRONMENT
from prelabel.checkpoints.cards import load_card
from prelabel.cli import main
from prelabel.settings import AppSettings, Environment
from tests.support import kuberay
from tests.support.paths import ROOT

FOLDER = ROOT / "deploy/kubernetes"
KUBECTL = Path(sys.executable).with_name("kubectl")
OVERLAYS = ("cpu", "gpu")
RENDERED = (*OVERLAYS, "models", "job")
OLDEST, NEWEST = "1.29", "1.37"  # of Kubernetes
SECRETS = {
    "prelabel": {
        "LABEL_STUDIO_ACCESS_TOKEN",
        "BASIC_AUTH_USER",
        "BASIC_AUTH_PASS",
        "PROMPTS_REDIS_URL",
    },
    "prelabel-redis": {"password"},
}
RAY_PORTS = {6379, 8265, 10001, 52365}
PRODUCTION = yaml.safe_load((ROOT / "serve_config.production.yaml").read_text())

# All that differs from serve_config.production.yaml, by path.
CHANGES: dict[str, dict[str, Any]] = {
    "gpu": {"proxy_location": "EveryNode", "args.model.folder": "/models"},
    "cpu": {
        "proxy_location": "EveryNode",
        "args.model.name": "demo",
        "args.model.device": "cpu",
        "args.detection.max_batch_size": 8,
        "Detector.autoscaling_config.min_replicas": 1,
        "Detector.ray_actor_options": {
            "num_cpus": 3,
            "runtime_env": {"env_vars": CPU_ENVIRONMENT},
        },
    },
}

Manifest = dict[str, Any]


@functools.cache
def _kustomize(name: str) -> str:
    command = [str(KUBECTL), "kustomize", str(FOLDER / name)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def rendered(name: str) -> list[Manifest]:
    """Return the objects that `kubectl apply -k deploy/kubernetes/NAME` would apply."""
    return [document for document in yaml.safe_load_all(_kustomize(name)) if document]


def of_kind(kind: str, name: str) -> list[Manifest]:
    return [document for document in rendered(name) if document["kind"] == kind]


def ray_service(overlay: str) -> Manifest:
    (service,) = of_kind("RayService", overlay)
    return service


def cluster(overlay: str) -> Manifest:
    config: Manifest = ray_service(overlay)["spec"]["rayClusterConfig"]
    return config


def groups(overlay: str) -> dict[str, Manifest]:
    return {group["groupName"]: group for group in cluster(overlay)["workerGroupSpecs"]}


def serve_config(overlay: str) -> Manifest:
    config: Manifest = yaml.safe_load(ray_service(overlay)["spec"]["serveConfigV2"])
    return config


def pod_templates(name: str) -> Iterator[Manifest]:
    for document in rendered(name):
        if document["kind"] == "RayService":
            spec = document["spec"]["rayClusterConfig"]
            yield spec["headGroupSpec"]["template"]
            yield from (group["template"] for group in spec["workerGroupSpecs"])
        elif document["kind"] == "RayJob":
            spec = document["spec"]["rayClusterSpec"]
            yield spec["headGroupSpec"]["template"]
            yield from (group["template"] for group in spec["workerGroupSpecs"])
        elif "template" in document.get("spec", {}):
            yield document["spec"]["template"]


def containers(name: str) -> Iterator[Manifest]:
    """All that are written down, and the autoscaler that KubeRay puts beside the head."""
    for template in pod_templates(name):
        yield from template["spec"]["containers"]
        yield from template["spec"].get("initContainers", [])
    for service in of_kind("RayService", name):
        yield service["spec"]["rayClusterConfig"]["autoscalerOptions"]


def check(document: Manifest) -> None:
    """Raises for what Kubernetes, oldest or newest, or KubeRay would not take, or not know."""
    if document["kind"] == "RayService":
        _check_ray_service(document)
        return
    if document["kind"] == "RayJob":
        _check_cluster(kuberay.RayJob.model_validate(document).spec.ray_cluster_spec)
        return
    for version in (OLDEST, NEWEST):
        kubernetes_validate.validate(document, version, strict=True)


def _check_ray_service(document: Manifest) -> None:
    spec = kuberay.RayService.model_validate(document).spec
    _check_cluster(spec.ray_cluster_config)
    check({"apiVersion": "v1", "kind": "Service", **(spec.serve_service or {})})
    served = ServeDeploySchema.model_validate(yaml.safe_load(spec.serve_config_v2))
    AppSettings.model_validate(served.applications[0].args)


def _check_cluster(config: kuberay.RayClusterSpec) -> None:
    options = config.autoscaler_options or kuberay.AutoscalerOptions()
    given = options.model_dump(
        include={"resources", "security_context", "env", "env_from", "volume_mounts"},
        exclude_none=True,
        by_alias=True,
    )
    autoscaler = {"spec": {"containers": [{"name": "autoscaler", "image": "any", **given}]}}
    templates = [group.template for group in config.worker_group_specs]
    for template in (config.head_group_spec.template, *templates, autoscaler):
        check({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {}, "template": template})


def changed(config: Manifest, path: str, value: object) -> Manifest:
    """A Serve config with another value at `path`: of the whole, of `args` or of a deployment."""
    config = copy.deepcopy(config)
    (application,) = config["applications"]
    places = {"args": application["args"]}
    places |= {deployment["name"]: deployment for deployment in application["deployments"]}
    first, *inner = path.split(".")
    place: Manifest = places[first] if inner else config
    *way, last = inner or [first]
    for key in way:
        place = place[key]
    place[last] = value
    return config


def put(document: Manifest, path: str, value: object) -> Manifest:
    document = copy.deepcopy(document)
    place: Any = document
    *way, last = (int(key) if key.isdigit() else key for key in path.split("/"))
    for key in way:
        place = place[key]
    place[last] = value
    return document


class TestManifests:
    @pytest.mark.parametrize("name", RENDERED)
    def test_every_object_is_one_that_the_cluster_takes(self, name: str) -> None:
        documents = rendered(name)
        assert documents
        for document in documents:
            check(document)

    @pytest.mark.parametrize("overlay", OVERLAYS)
    def test_an_overlay_is_complete(self, overlay: str) -> None:
        kinds = {document["kind"] for document in rendered(overlay)}
        assert kinds == {
            *("Namespace", "ConfigMap", "ServiceAccount", "Service", "StatefulSet"),
            *("RayService", "PodDisruptionBudget", "NetworkPolicy"),
        }
        assert {
            document["metadata"].get("namespace", document["metadata"]["name"])
            for document in rendered(overlay)
        } == {"prelabel"}

    @pytest.mark.parametrize("name", RENDERED)
    def test_the_image_is_named_in_one_place(self, name: str) -> None:
        (chosen,) = yaml.safe_load((FOLDER / "image/kustomization.yaml").read_text())["images"]
        images = {each["image"] for each in containers(name) if "image" in each}
        assert images - {"redis:7.2-bookworm"} == {f"{chosen['newName']}:{chosen['newTag']}"}

    def test_the_job_is_a_command_that_the_image_has(self) -> None:
        (job,) = of_kind("RayJob", "job")
        command, *arguments = shlex.split(job["spec"]["entrypoint"])
        assert (command, arguments[0]) == ("prelabel", "annotate")
        options = typer.main.get_command(main.app).commands["annotate"]  # type: ignore[attr-defined]
        given = options.make_context("annotate", arguments[1:]).params
        config = PRODUCTION["applications"][0]["args"]
        assert given["config"] == Path("/app/serve_config.production.yaml")
        workers = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
        assert given["engines"] == sum(group["replicas"] for group in workers)
        assert given["ray"]
        assert config["model"]["device"] == "cuda"  # the nodes may start after the command
        assert AppSettings.model_validate(config).model.folder == "models"  # where the claim is
        with pytest.raises(ValidationError):
            check(put(job, "spec/backofLimit", 3))

    @pytest.mark.parametrize(
        ("kind", "path", "value"),
        [
            ("Namespace", "metadata/labels", ["restricted"]),
            ("ConfigMap", "data/LABEL_STUDIO_HOST", 8080),
            ("ServiceAccount", "automountServiceAccountToken", "no"),
            ("Service", "spec/ports/0/port", "redis"),
            ("StatefulSet", "spec/template/spec/containers/0/images", "redis"),
            ("StatefulSet", "spec/volumeClaimTemplates/0/spec/accessModes", "ReadWriteOnce"),
            ("PodDisruptionBudget", "spec/minimumAvailable", 1),
            ("NetworkPolicy", "spec/podSelector", []),
            ("PersistentVolumeClaim", "spec/resources/request", {"storage": "1Gi"}),
            ("Job", "spec/template/spec/restartPolicy", 0),
        ],
    )
    def test_a_broken_object_is_refused(self, kind: str, path: str, value: object) -> None:
        sound = next(d for name in ("gpu", "models") for d in rendered(name) if d["kind"] == kind)
        check(sound)
        with pytest.raises(kubernetes_validate.ValidationError):
            check(put(sound, path, value))

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            ("apiVersion", "ray.io/v1alpha1"),
            ("spec/serveConfig", ""),
            ("spec/upgradeStrategy/type", "Rolling"),
            ("spec/rayClusterDeletionDelaySeconds", -1),
            ("spec/rayClusterConfig/authOptions/mode", "tokens"),
            ("spec/rayClusterConfig/gcsFaultToleranceOptions/redisPass", {}),
            ("spec/rayClusterConfig/autoscalerOptions/version", "2"),
            ("spec/rayClusterConfig/headGroupSpec/rayStartParams/num-cpus", 0),
            ("spec/rayClusterConfig/workerGroupSpecs/1/minReplicas", "0"),
            ("spec/rayClusterConfig/workerGroupSpecs/1/minReplica", 0),
        ],
    )
    def test_a_broken_ray_service_is_refused(self, path: str, value: object) -> None:
        with pytest.raises(ValidationError):
            check(put(ray_service("gpu"), path, value))

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            ("spec/serveService/spec/port", 9090),
            ("spec/rayClusterConfig/autoscalerOptions/securityContext/runAsRoot", False),
            ("spec/rayClusterConfig/headGroupSpec/template/spec/tolerances", []),
            ("spec/rayClusterConfig/workerGroupSpecs/1/template/spec/containers/0/env", {}),
        ],
    )
    def test_a_broken_pod_or_service_in_it_is_refused(self, path: str, value: object) -> None:
        with pytest.raises(kubernetes_validate.ValidationError):
            check(put(ray_service("gpu"), path, value))

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            ("proxy_location", "Everywhere"),
            ("args.modell", "demo"),
            ("args.model.nam", "demo"),
            ("args.detection.max_batch_size", 0),
            ("Detector.max_ongoing_requests", -1),
        ],
    )
    def test_a_broken_serve_config_in_it_is_refused(self, path: str, value: object) -> None:
        config = yaml.safe_dump(changed(serve_config("gpu"), path, value))
        with pytest.raises(ValidationError):
            check(put(ray_service("gpu"), "spec/serveConfigV2", config))

    def test_a_patch_that_misses_its_place_does_not_render(self, tmp_path: Path) -> None:
        patch = [{"op": "replace", "path": "/spec/no/such/place", "value": 1}]
        target = {"path": "patch.yaml", "target": {"kind": "RayService"}}
        base = {"resources": ["base.yaml"], "patches": [target]}
        (tmp_path / "base.yaml").write_text(yaml.safe_dump(ray_service("cpu")))
        (tmp_path / "patch.yaml").write_text(yaml.safe_dump(patch))
        (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(base))
        with pytest.raises(subprocess.CalledProcessError):
            _kustomize(str(tmp_path))


class TestServeConfig:
    @pytest.mark.parametrize("overlay", OVERLAYS)
    def test_it_is_the_production_config_but_for_what_is_listed(self, overlay: str) -> None:
        expected = PRODUCTION
        for path, value in CHANGES[overlay].items():
            expected = changed(expected, path, value)
        assert serve_config(overlay) == expected

    @pytest.mark.parametrize("overlay", OVERLAYS)
    def test_what_differs_is_explained_and_nothing_else(self, overlay: str) -> None:
        text = ray_service(overlay)["spec"]["serveConfigV2"]
        commented = re.findall(r"(\w+): \S.*  #", text)
        leaves = {path.split(".")[-1] for path in CHANGES[overlay]}
        inside = CHANGES[overlay].get("Detector.ray_actor_options", {})
        assert sorted(commented) == sorted((leaves - {"ray_actor_options"}) | set(inside))

    def test_the_model_is_in_the_image_or_on_the_mounted_disk(self) -> None:
        models = {n: serve_config(n)["applications"][0]["args"]["model"] for n in OVERLAYS}
        assert load_card(models["cpu"]["name"]).source == "embedded"
        folder = models["gpu"]["folder"]
        mounted = [mount["mountPath"] for mount in self.model_mounts("gpu")]
        assert mounted == [folder] * (1 + len(groups("gpu")))
        assert self.model_mounts("cpu") == []
        (job,) = of_kind("Job", "models")
        (loader,) = job["spec"]["template"]["spec"]["containers"]
        assert loader["command"][2:] == [models["gpu"]["name"], "--models-dir", folder]

    @staticmethod
    def model_mounts(overlay: str) -> list[Manifest]:
        mounts = [mount for each in containers(overlay) for mount in each["volumeMounts"]]
        return [mount for mount in mounts if mount["name"] == "models"]


class TestRay:
    @pytest.mark.parametrize("overlay", OVERLAYS)
    def test_its_version_is_the_one_in_the_image(self, overlay: str) -> None:
        locked = re.search(r"^ray==(\S+)", (ROOT / "requirements/serve.txt").read_text(), re.M)
        assert locked is not None
        assert cluster(overlay)["rayVersion"] == locked[1]

    @pytest.mark.parametrize("overlay", OVERLAYS)
    def test_its_autoscaler_understands_the_cluster(self, overlay: str) -> None:
        read = as_rays_autoscaler_reads_it(
            {"metadata": {"name": "any", "namespace": "prelabel"}, "spec": cluster(overlay)}
        )
        types = read["available_node_types"]
        assert types["headgroup"]["resources"]["CPU"] == 0
        assert types["edge"]["resources"]["CPU"] == 2
        assert all(types[name]["max_workers"] > 0 for name in groups(overlay))
        roles = {name: kind.get("labels", {}).get("prelabel/role") for name, kind in types.items()}
        assert roles == {"headgroup": None, "edge": None, overlay: "detector"}
        assert read["idle_timeout_minutes"] == 10

    @pytest.mark.parametrize("overlay", OVERLAYS)
    def test_every_replica_fits_the_pods_that_are_there_and_a_detector_only_its_own(
        self, overlay: str
    ) -> None:
        deployments = {
            each["name"]: each for each in serve_config(overlay)["applications"][0]["deployments"]
        }
        detector = deployments.pop("Detector")
        own = groups(overlay)[overlay]
        edge = groups(overlay)["edge"]
        assert own["maxReplicas"] == detector["autoscaling_config"]["max_replicas"]
        assert own["minReplicas"] == detector["autoscaling_config"]["min_replicas"]
        wanted = detector["ray_actor_options"]["num_cpus"]
        cpus = {name: int(g["rayStartParams"]["num-cpus"]) for name, g in groups(overlay).items()}
        assert cpus[overlay] / 2 < wanted <= cpus[overlay]
        assert overlay == "gpu" or wanted > cpus["edge"]
        least, most = (
            sum(
                each["ray_actor_options"]["num_cpus"]
                * (each.get("num_replicas") or each["autoscaling_config"][bound])
                for each in deployments.values()
            )
            for bound in ("min_replicas", "max_replicas")
        )
        assert least <= edge["minReplicas"] * cpus["edge"]
        assert most <= edge["maxReplicas"] * cpus["edge"]

    def test_gpu_pods_start_from_zero_on_gpu_nodes_and_hold_one_gpu(self) -> None:
        group = groups("gpu")["gpu"]
        assert (group["replicas"], group["minReplicas"]) == (0, 0)
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
        assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
        assert [each["key"] for each in pod["tolerations"]] == ["nvidia.com/gpu"]

    def test_nothing_else_takes_a_gpu_or_its_node(self) -> None:
        others = [cluster("gpu")["headGroupSpec"], groups("gpu")["edge"]]
        others += [cluster("cpu")["headGroupSpec"], *groups("cpu").values()]
        for group in others:
            pod = group["template"]["spec"]
            assert "nvidia.com/gpu" not in json.dumps(pod["containers"])
            assert "tolerations" not in pod
            affinity = json.dumps(pod["affinity"])
            assert '"nvidia.com/gpu.present", "operator": "DoesNotExist"' in affinity

    @pytest.mark.parametrize("overlay", OVERLAYS)
    def test_it_asks_for_a_token_and_survives_its_head(self, overlay: str) -> None:
        assert cluster(overlay)["authOptions"] == {"mode": "token"}
        redis = cluster(overlay)["gcsFaultToleranceOptions"]
        service = next(s for s in of_kind("Service", overlay))
        port = service["spec"]["ports"][0]["port"]
        assert redis["redisAddress"] == f"{service['metadata']['name']}:{port}"
        assert set(redis["redisPassword"]) == {"valueFrom"}

    @pytest.mark.parametrize("overlay", OVERLAYS)
    def test_probes_need_no_program_and_ask_what_asks_for_no_password(self, overlay: str) -> None:
        for group in (cluster(overlay)["headGroupSpec"], *groups(overlay).values()):
            (container,) = group["template"]["spec"]["containers"]
            for probe in ("readinessProbe", "livenessProbe"):
                path = container[probe]["httpGet"]["path"]
                assert path in {"/api/gcs_healthz", "/api/local_raylet_healthz", "/-/healthz"}

    @pytest.mark.parametrize("overlay", OVERLAYS)
    def test_requests_in_flight_outlive_a_pod_and_a_cluster(self, overlay: str) -> None:
        longest = serve_config(overlay)["http_options"]["request_timeout_s"]
        assert ray_service(overlay)["spec"]["rayClusterDeletionDelaySeconds"] > longest
        for group in groups(overlay).values():
            pod = group["template"]["spec"]
            options = self.drain(pod["containers"][0])
            assert options["deadline_remaining_seconds"] > longest
            at_most = sum(self.seconds(pod["containers"][0]))
            assert longest < at_most < pod["terminationGracePeriodSeconds"]

    def test_an_order_to_drain_that_ray_does_not_know_is_refused(self) -> None:
        container = groups("cpu")["edge"]["template"]["spec"]["containers"][0]
        command = container["lifecycle"]["preStop"]["exec"]["command"]
        wrong = [part.replace("PREEMPTION", "TERMINATION") for part in command]
        with pytest.raises(click.BadParameter):
            self.drain(put(container, "lifecycle/preStop/exec/command", wrong))

    @staticmethod
    def drain(container: Manifest) -> dict[str, Any]:
        """Return the options of `ray drain-node` in a container's preStop hook, parsed by Ray."""
        *_, script = container["lifecycle"]["preStop"]["exec"]["command"]
        words = shlex.split(script)
        words = words[words.index("drain-node") : words.index("&&")]
        params: dict[str, Any] = drain_node.make_context(words[0], words[1:]).params
        return params

    @staticmethod
    def seconds(container: Manifest) -> list[int]:
        *_, script = container["lifecycle"]["preStop"]["exec"]["command"]
        return [int(found) for found in re.findall(r"(?:timeout|sleep) (\d+)", script)]


class TestSecurity:
    def test_secrets_are_references_and_all_are_given(self) -> None:
        for overlay in OVERLAYS:
            found: dict[str, set[str]] = {}
            for reference in self.references(rendered(overlay)):
                found.setdefault(reference["name"], set()).add(reference["key"])
            assert found == SECRETS

    def test_no_file_holds_a_secret(self) -> None:
        names = "|".join(sorted(SECRETS["prelabel"]))
        for path in FOLDER.rglob("*"):
            if path.is_file():
                text = path.read_text()
                assert not re.search(r"kind: Secret|stringData|secretGenerator", text)
                assert not re.search(rf"name: (?:{names})\n\s+value:", text)
                assert not re.search(rf"(?:{names}|RAY_AUTH_TOKEN|REDIS_PASSWORD)[:=]\s*\w", text)

    def test_a_pod_is_given_each_variable_that_may_not_stand_in_the_config(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "environ", {})
        for overlay in OVERLAYS:
            for template in pod_templates(overlay):
                given = {each["name"] for each in template["spec"]["containers"][0]["env"]}
                if given == {"REDIS_PASSWORD"}:
                    continue
                chosen = Environment.model_validate(dict.fromkeys(given, "1")).model_dump()
                in_the_config = {"box_threshold", "text_threshold", "log_level"}
                in_the_config |= {"use_sam", "use_mobile_sam", "sam_checkpoint"}
                own_patch = {"otlp_endpoint", "otlp_headers"}  # with a rule that lets them out
                # Of a company's network: docs/operator/kubernetes.md has the patch.
                own_patch |= {"http_proxy", "https_proxy", "all_proxy", "no_proxy", "verify_ssl"}
                own_patch |= {"ssl_cert_file", "ssl_cert_dir", "requests_ca_bundle"}
                own_patch |= {"curl_ca_bundle"}
                own_patch |= {"label_studio_token_file"}  # for a token that is mounted as a file
                left = {name for name, value in chosen.items() if value is None}
                assert left == in_the_config | own_patch

    def test_the_documented_commands_make_exactly_these_secrets(self) -> None:
        told = (ROOT / "docs/operator/kubernetes.md").read_text().replace("\\\n", " ")
        made = {
            name: set(re.findall(r"--from-literal=(\w+)=", rest))
            for name, rest in re.findall(r"create secret generic (\S+)(.*)", told)
        }
        assert made == SECRETS

    @pytest.mark.parametrize("name", RENDERED)
    def test_every_container_is_no_root_and_changes_nothing(self, name: str) -> None:
        for container in containers(name):
            locked = container["securityContext"]
            assert locked["readOnlyRootFilesystem"] is True
            assert locked["allowPrivilegeEscalation"] is False
            assert locked["capabilities"] == {"drop": ["ALL"]}
        for template in pod_templates(name):
            user = template["spec"]["securityContext"]
            assert user["runAsNonRoot"] is True
            assert user["runAsUser"] > 0
            assert user["seccompProfile"] == {"type": "RuntimeDefault"}
            assert not {"hostNetwork", "hostPID", "hostIPC"} & set(template["spec"])
            assert not any("hostPath" in volume for volume in template["spec"].get("volumes", []))

    def test_the_user_is_the_images(self) -> None:
        (user,) = re.findall(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.M)
        for template in pod_templates("gpu"):
            if template["metadata"]["labels"]["app.kubernetes.io/name"] == "prelabel":
                given = template["spec"]["securityContext"]
                assert (str(given["runAsUser"]), str(given["runAsGroup"])) == user

    @pytest.mark.parametrize("overlay", OVERLAYS)
    def test_what_ray_writes_to_is_writable(self, overlay: str) -> None:
        (home,) = re.findall(r"^ENV HOME=(\S+)", (ROOT / "Dockerfile").read_text(), re.M)
        for group in (cluster(overlay)["headGroupSpec"], *groups(overlay).values()):
            pod = group["template"]["spec"]
            empty = {volume["name"] for volume in pod["volumes"] if "emptyDir" in volume}
            mounts = pod["containers"][0]["volumeMounts"]
            writable = {mount["mountPath"] for mount in mounts if mount["name"] in empty}
            assert writable == {"/tmp", "/dev/shm", home}
        scratch = cluster(overlay)["autoscalerOptions"]["volumeMounts"]
        assert {mount["mountPath"] for mount in scratch} == {"/tmp", "/dev/shm", home}

    @pytest.mark.parametrize("overlay", OVERLAYS)
    def test_the_namespace_refuses_what_is_not_restricted(self, overlay: str) -> None:
        (namespace,) = of_kind("Namespace", overlay)
        labels = namespace["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"

    @pytest.mark.parametrize("overlay", OVERLAYS)
    def test_only_the_head_may_ask_kubernetes(self, overlay: str) -> None:
        head, *others = [
            template["spec"]
            for template in (
                cluster(overlay)["headGroupSpec"]["template"],
                *(group["template"] for group in groups(overlay).values()),
                of_kind("StatefulSet", overlay)[0]["spec"]["template"],
            )
        ]
        accounts = {each["metadata"]["name"] for each in of_kind("ServiceAccount", overlay)}
        assert {pod["serviceAccountName"] for pod in (head, *others)} == accounts
        assert all(pod["automountServiceAccountToken"] is False for pod in others)
        assert head["serviceAccountName"] not in {pod["serviceAccountName"] for pod in others}

    @pytest.mark.parametrize("overlay", OVERLAYS)
    def test_no_service_opens_a_port_of_rays(self, overlay: str) -> None:
        spec = ray_service(overlay)["spec"]
        services = [each["spec"] for each in of_kind("Service", overlay)]
        services += [spec["serveService"]["spec"]]
        for service in services:
            assert service.get("type", "ClusterIP") == "ClusterIP"
        assert [port["port"] for port in spec["serveService"]["spec"]["ports"]] == [9090]
        assert cluster(overlay)["headGroupSpec"]["serviceType"] == "ClusterIP"
        assert "enableIngress" not in cluster(overlay)["headGroupSpec"]

    @pytest.mark.parametrize("overlay", OVERLAYS)
    def test_disruption_budgets_have_the_one_form_that_pods_of_ray_allow(
        self, overlay: str
    ) -> None:
        (budget,) = of_kind("PodDisruptionBudget", overlay)
        assert type(budget["spec"]["minAvailable"]) is int
        edge = groups(overlay)["edge"]
        labels = edge["template"]["metadata"]["labels"]
        assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert budget["spec"]["minAvailable"] < edge["minReplicas"]

    @classmethod
    def references(cls, node: object) -> Iterator[Manifest]:
        if isinstance(node, dict):
            if "secretKeyRef" in node:
                yield node["secretKeyRef"]
            for value in node.values():
                yield from cls.references(value)
        elif isinstance(node, list):
            for value in node:
                yield from cls.references(value)


class TestNetwork:
    @pytest.mark.parametrize("overlay", OVERLAYS)
    def test_all_is_denied_that_is_not_allowed(self, overlay: str) -> None:
        denied = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
        assert self.policies(overlay)["deny"] == denied

    @pytest.mark.parametrize("overlay", OVERLAYS)
    def test_every_pod_has_a_policy_that_selects_it(self, overlay: str) -> None:
        selectors = [
            policy["podSelector"]["matchLabels"]
            for name, policy in self.policies(overlay).items()
            if name != "deny"
        ]
        for template in pod_templates(overlay):
            labels = template["metadata"]["labels"].items()
            assert sum(selector.items() <= labels for selector in selectors) == 1

    @pytest.mark.parametrize("overlay", OVERLAYS)
    def test_rays_ports_are_open_to_its_own_pods_and_the_dashboard_to_the_operator(
        self, overlay: str
    ) -> None:
        for rule in self.policies(overlay)["prelabel"]["ingress"]:
            assert rule["from"]
            ports = {port["port"] for port in rule.get("ports", [])}
            if not ports:
                own = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "prelabel"}}}
                assert rule["from"] == [own]
            elif ports & RAY_PORTS:
                (peer,) = rule["from"]
                assert set(peer) == {"namespaceSelector", "podSelector"}
                assert "kuberay-operator" in json.dumps(peer["podSelector"])
                assert ports == {8265, 9090}

    @pytest.mark.parametrize("overlay", OVERLAYS)
    def test_who_may_call_the_service_carries_a_label(self, overlay: str) -> None:
        rules = self.policies(overlay)["prelabel"]["ingress"]
        (callers,) = [r["from"] for r in rules if r.get("ports") == [{"port": 9090}]]
        label = {"matchLabels": {"prelabel-client": "true"}}
        assert callers == [{"namespaceSelector": label}, {"podSelector": label}]

    @pytest.mark.parametrize("name", RENDERED)
    def test_no_pod_reaches_where_clouds_hand_out_credentials(self, name: str) -> None:
        rules = [
            rule
            for policy in self.policies(name).values()
            for rule in policy.get("egress", [])
            if {port["port"] for port in rule.get("ports", [])} != {53}
        ]
        assert rules
        for rule in rules:
            blocks = [peer["ipBlock"] for peer in rule["to"] if "ipBlock" in peer]
            for block in blocks:
                assert {"169.254.0.0/16", "fd00:ec2::/32"} & set(block["except"])

    def test_redis_is_reachable_from_ray_only(self) -> None:
        policy = self.policies("gpu")["prelabel-redis"]
        (rule,) = policy["ingress"]
        own = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "prelabel"}}}
        assert rule == {"from": [own], "ports": [{"port": 6379}]}
        assert "egress" not in policy

    @staticmethod
    def policies(name: str) -> dict[str, Manifest]:
        return {each["metadata"]["name"]: each["spec"] for each in of_kind("NetworkPolicy", name)}
