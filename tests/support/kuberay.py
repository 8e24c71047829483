"""The fields of KubeRay's RayService and RayJob, ray.io/v1, written after its API reference.

The operator's own schema is in no package that this project installs. Fields that came after 1.5.1,
the first release with token authentication, are left out, so that the manifests do without them.
Objects of Kubernetes itself (pod templates, services, resources) are checked against its own
schemas.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Kubernetes = dict[str, Any]


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)


class Credential(_Fields):
    value: str | None = None
    value_from: Kubernetes | None = None


class GcsFaultToleranceOptions(_Fields):
    redis_address: str
    redis_username: Credential | None = None
    redis_password: Credential | None = None
    external_storage_namespace: str | None = None


class AuthOptions(_Fields):
    mode: Literal["disabled", "token"] | None = None


class AutoscalerOptions(_Fields):
    version: Literal["v1", "v2"] | None = None
    idle_timeout_seconds: int | None = None
    upscaling_mode: Literal["Default", "Aggressive", "Conservative"] | None = None
    image: str | None = None
    image_pull_policy: str | None = None
    resources: Kubernetes | None = None
    security_context: Kubernetes | None = None
    env: list[Kubernetes] | None = None
    env_from: list[Kubernetes] | None = None
    volume_mounts: list[Kubernetes] | None = None


class HeadGroup(_Fields):
    template: Kubernetes
    ray_start_params: dict[str, str] | None = None
    resources: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    service_type: str | None = None
    head_service: Kubernetes | None = None
    enable_ingress: bool | None = None


class ScaleStrategy(_Fields):
    workers_to_delete: list[str] | None = None


class WorkerGroup(_Fields):
    group_name: str
    min_replicas: int
    max_replicas: int
    template: Kubernetes
    replicas: int | None = None
    num_of_hosts: int | None = None
    idle_timeout_seconds: int | None = None
    suspend: bool | None = None
    scale_strategy: ScaleStrategy | None = None
    ray_start_params: dict[str, str] | None = None
    resources: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class RayClusterSpec(_Fields):
    head_group_spec: HeadGroup
    worker_group_specs: list[WorkerGroup] = Field(default_factory=list)
    ray_version: str | None = None
    auth_options: AuthOptions | None = None
    gcs_fault_tolerance_options: GcsFaultToleranceOptions | None = None
    enable_in_tree_autoscaling: bool | None = None
    autoscaler_options: AutoscalerOptions | None = None
    head_service_annotations: dict[str, str] | None = None
    suspend: bool | None = None
    managed_by: str | None = None


class UpgradeStrategy(_Fields):
    type: Literal["NewCluster", "NewClusterWithIncrementalUpgrade", "None"] | None = None


class RayServiceSpec(_Fields):
    serve_config_v2: str
    ray_cluster_config: RayClusterSpec
    upgrade_strategy: UpgradeStrategy | None = None
    ray_cluster_deletion_delay_seconds: int | None = Field(None, ge=0)
    exclude_head_pod_from_serve_svc: bool | None = None
    serve_service: Kubernetes | None = None


class RayService(_Fields):
    api_version: Literal["ray.io/v1"]
    kind: Literal["RayService"]
    metadata: Kubernetes
    spec: RayServiceSpec


class RayJobSpec(_Fields):
    entrypoint: str
    ray_cluster_spec: RayClusterSpec
    submission_mode: Literal["K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode"] | None = (
        None
    )
    backoff_limit: int | None = Field(None, ge=0)
    shutdown_after_job_finishes: bool | None = None
    ttl_seconds_after_finished: int | None = Field(None, ge=0)
    active_deadline_seconds: int | None = Field(None, gt=0)
    runtime_env_yaml: str | None = Field(None, alias="runtimeEnvYAML")


class RayJob(_Fields):
    api_version: Literal["ray.io/v1"]
    kind: Literal["RayJob"]
    metadata: Kubernetes
    spec: RayJobSpec
