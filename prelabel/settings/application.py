"""Every setting, declared once; and the only reader of the process environment.

`AppSettings` are the values under `args:` in serve_config.yaml. `Environment` is what the
tutorial's variables say; it is read where the application is built and travels to the replicas
as an argument, so it does not matter how Ray starts them.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from prelabel.net.allowed_hosts import to_hosts
from prelabel.net.pasted_text import unquoted
from prelabel.net.proxies import Proxies
from prelabel.net.tls import Trust
from prelabel.observability.spans import TraceSettings
from prelabel.settings.values import (
    to_label_studio_url,
    to_log_level,
    to_path,
    to_share,
    to_token,
    to_true,
)

MIB = 1024 * 1024
MOST_TASKS = 50_000  # that are read at all

Share = Annotated[float | None, BeforeValidator(to_share)]
FilePath = Annotated[str | None, BeforeValidator(to_path)]


class AppSettings(BaseModel):
    """Values of serve_config.yaml, `args:`. Wrong names and values are refused when deploying."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field("demo", description="Name of the model's card, see `prelabel models`.")
    models_dir: str = Field("models", description="Folder that holds the downloaded models.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description="Where the model runs. `auto`: a GPU if the cluster has one when the "
        "application is deployed. A cluster that starts without GPU nodes must say `cuda`.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="`auto`: bfloat16 autocast on recent NVIDIA GPUs, else float32. On CPUs with "
        "AMX bfloat16 is faster for large models, by a third, and moves boxes by some pixels.",
    )
    max_batch_size: int = Field(
        8, ge=1, le=256, description="Most pictures in one pass through the model."
    )
    box_threshold: float = Field(
        0.3, ge=0, le=1, description="Lowest score of a box. 0 keeps every box."
    )
    text_threshold: float = Field(
        0.25,
        ge=0,
        le=1,
        description="Lowest mean score over all words of a box's phrase: higher values demand "
        'that "red star" is both red and a star.',
    )
    nms_iou_threshold: float = Field(
        0.7,
        ge=0,
        le=1,
        description="Of two boxes that overlap by more than this (intersection over union), "
        "only the better one is kept. 1 keeps all.",
    )
    nms_class_agnostic: bool = Field(
        False, description="Let boxes of different labels suppress each other, too."
    )
    max_boxes: int = Field(300, ge=1, le=10_000, description="Most boxes per picture, best first.")
    min_box_px: float = Field(
        1, ge=0, description="Least width and height of a box, in pixels of the original picture."
    )
    unknown_phrases: Literal["unlabelled", "drop", "first_label", "reject"] = Field(
        "unlabelled",
        description="What happens to phrases of a prompt that match no label of the project. "
        "`unlabelled`: an annotator who types them gets boxes without a label, and predictions in "
        "bulk leave them out; `drop`: they are looked for, so that their objects are not taken for "
        "others, and left out; `first_label`: their boxes get the control's first label; `reject`: "
        "the task fails with a sentence that names them.",
    )
    remember_prompts: bool = Field(
        True,
        description="Remember the prompt of each project's newest submitted annotation and use "
        "it for tasks that come without one.",
    )
    prompts_file: str = Field(
        "data/prompts.sqlite",
        description="File that remembers them, also after a restart; empty: in memory only. A "
        "cluster keeps them in Redis instead, see PROMPTS_REDIS_URL.",
    )
    max_prompt_chars: int = Field(4_000, ge=1, description="Longest prompt, in characters.")
    max_labels: int = Field(1_000, ge=1, description="Most labels for one picture.")
    max_image_bytes: int = Field(50 * MIB, ge=1, description="Largest picture, in bytes.")
    max_image_pixels: int = Field(
        64_000_000,
        ge=1,
        le=178_956_970,
        description="Largest picture, in pixels; checked before decoding.",
    )
    tile_size: int = Field(
        0,
        ge=0,
        description="For small objects in large pictures: a picture with a longer side than this, "
        "in pixels, is looked at in square tiles of this size, too. 0: only as a whole.",
    )
    tile_overlap: float = Field(
        0.25,
        ge=0.05,
        le=0.5,
        description="Share of its side that a tile has in common with the next. Objects up to that "
        "size are whole in one of them; larger ones are seen on the whole picture.",
    )
    max_tiles: int = Field(
        64,
        ge=1,
        le=1024,
        description="Most tiles of a picture; where it would take more, they become larger.",
    )
    result_cache_bytes: int = Field(
        256 * MIB,
        ge=0,
        description="What the model said of a picture and a prompt is kept up to this size, in "
        "bytes for each detector: other thresholds, or the task opened again, cost no second pass.",
    )
    picture_cache_bytes: int = Field(
        128 * MIB,
        ge=0,
        description="Pictures are kept up to this size, in bytes, so that the next prompt for one "
        "needs no fetching and decoding: encoded in each ingress, decoded in each detector.",
    )
    picture_cache_s: float = Field(
        300, gt=0, description="For how long, in seconds: until then a changed picture is not seen."
    )
    connect_timeout_s: float = Field(
        5, gt=0, description="Longest wait for a picture's server to accept a connection, seconds."
    )
    fetch_timeout_s: float = Field(
        30, gt=0, description="Longest time to fetch one picture, seconds, all redirects included."
    )
    request_deadline_s: float = Field(
        90,
        gt=0,
        description="Time for a whole request, seconds; tasks not done by then are answered as "
        "errors that can be retried. Label Studio itself gives up after 100 s.",
    )
    task_concurrency: int = Field(
        32,
        ge=1,
        description="Pictures that are worked on at the same time, of all bulk requests to an "
        "ingress together; a request of one task waits for no other.",
    )
    max_tasks: int = Field(5_000, ge=1, le=MOST_TASKS, description="Most tasks in one request.")
    max_body_bytes: int = Field(64 * MIB, ge=1, description="Largest request body, in bytes.")
    allowed_image_hosts: Annotated[tuple[str, ...], BeforeValidator(to_hosts)] = Field(
        (),
        description="Hosts that may serve pictures although their address is private: `host`, "
        "`host:port`, `*.example.com` (all names under a domain) or `10.0.0.0/8` (all addresses of "
        "a network). Label Studio itself is always allowed.",
    )
    proxy_resolves_names: bool = Field(
        False,
        description="Where pictures are fetched through a proxy: whether hosts are asked for whose "
        "names are not known here, but to the proxy alone. Only here can be checked that a name "
        "does not lead to an inside address; switch it on where the proxy itself lets nothing "
        "through to inside addresses.",
    )
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(to_log_level)
    ] = Field("INFO", description="Least severity of log lines.")
    release: str = Field(
        "",
        max_length=200,
        description="Any word. Serve rolls out a changed config, and no changed code: another word "
        "here does it. `make cluster-deploy` writes a digest of the code.",
    )


class Environment(BaseSettings):
    """The variables of Label Studio's tutorial, and those of proxies and certificates that other
    programs read, too. Secrets live here and nowhere else.
    """

    # Case-sensitive, so that of `https_proxy` and `HTTPS_PROXY` the first one counts, as for curl.
    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        hide_input_in_errors=True,
        case_sensitive=True,
    )

    label_studio_url: str | None = Field(
        None,
        validation_alias=AliasChoices("LABEL_STUDIO_HOST", "LABEL_STUDIO_URL"),
        description="Label Studio's address; uploads and local files are fetched from it.",
    )
    label_studio_token: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("LABEL_STUDIO_ACCESS_TOKEN", "LABEL_STUDIO_API_KEY"),
        description="Label Studio token, personal access token or legacy.",
    )
    basic_auth_user: str | None = Field(
        None,
        validation_alias="BASIC_AUTH_USER",
        description="User name that Label Studio must send.",
    )
    basic_auth_pass: SecretStr | None = Field(
        None, validation_alias="BASIC_AUTH_PASS", description="Password that it must send."
    )
    prompts_redis_url: SecretStr | None = Field(
        None,
        validation_alias="PROMPTS_REDIS_URL",
        description="Redis that remembers prompts instead of a file: redis://host:6379/0.",
    )
    box_threshold: Share = Field(
        None, validation_alias="BOX_THRESHOLD", description="Overrides box_threshold."
    )
    text_threshold: Share = Field(
        None, validation_alias="TEXT_THRESHOLD", description="Overrides text_threshold."
    )
    allowed_image_hosts: Annotated[tuple[str, ...] | None, NoDecode, BeforeValidator(to_hosts)] = (
        Field(
            None,
            validation_alias="ALLOWED_IMAGE_HOSTS",
            description="Comma-separated; overrides allowed_image_hosts.",
        )
    )
    log_level: Annotated[str | None, BeforeValidator(to_log_level)] = Field(
        None, validation_alias="LOG_LEVEL", description="Overrides log_level."
    )
    http_proxy: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("http_proxy", "HTTP_PROXY"),
        description="Proxy for http addresses of pictures and of Label Studio: "
        "http://user:password@proxy:3128. Never asked for loopback.",
    )
    https_proxy: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("https_proxy", "HTTPS_PROXY"),
        description="The same for https addresses, which it connects to without reading along.",
    )
    all_proxy: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("all_proxy", "ALL_PROXY"),
        description="Stands in for either of the two.",
    )
    no_proxy: str | None = Field(
        None,
        validation_alias=AliasChoices("no_proxy", "NO_PROXY"),
        description="Hosts that are reached without a proxy, comma-separated: a host with all "
        "names under it, an address or a network (10.0.0.0/8), a port behind it or not; `*`: all.",
    )
    ssl_cert_file: FilePath = Field(
        None,
        validation_alias="SSL_CERT_FILE",
        description="File with certificates (PEM) of CAs, such as a company's own, that are "
        "believed beside the usual ones.",
    )
    ssl_cert_dir: FilePath = Field(
        None, validation_alias="SSL_CERT_DIR", description="Folder of such files."
    )
    requests_ca_bundle: FilePath = Field(
        None,
        validation_alias="REQUESTS_CA_BUNDLE",
        description="The same as SSL_CERT_FILE, or a folder.",
    )
    curl_ca_bundle: FilePath = Field(
        None, validation_alias="CURL_CA_BUNDLE", description="The same as SSL_CERT_FILE."
    )
    verify_ssl: Annotated[bool | None, BeforeValidator(to_true)] = Field(
        None,
        validation_alias="VERIFY_SSL",
        description="Certificates are always verified: a false value is refused. For a CA of your "
        "own set SSL_CERT_FILE.",
    )

    otlp_endpoint: str | None = Field(
        None,
        validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        description="OpenTelemetry collector that traces of requests are sent to, by OTLP over "
        "HTTP: http://collector:4318. Without it there are none.",
    )
    otlp_headers: SecretStr | None = Field(
        None,
        validation_alias="OTEL_EXPORTER_OTLP_HEADERS",
        description="Headers that the collector wants, such as a key: name=value, comma-separated.",
    )
    otel_service_name: str = Field(
        "prelabel",
        validation_alias="OTEL_SERVICE_NAME",
        description="Name of the service in traces.",
    )

    @field_validator("otlp_endpoint")
    @classmethod
    def _is_a_collector(cls, url: str | None) -> str | None:
        if url is None:
            return None
        url = url.strip().rstrip("/")
        if not re.match(r"https?://[^/?#\s]+[^?#\s]*$", url):
            raise ValueError(
                "OTEL_EXPORTER_OTLP_ENDPOINT is an address such as http://collector:4318. "
                "Correct it, or unset it for no traces."
            )
        return url

    @property
    def traces(self) -> TraceSettings | None:
        """Where traces go; None where there are none."""
        if self.otlp_endpoint is None:
            return None
        return TraceSettings(self.otlp_endpoint, self.otel_service_name, self.otlp_headers)

    @field_validator("label_studio_url")
    @classmethod
    def _is_an_address(cls, url: str | None) -> str | None:
        return to_label_studio_url(url) if url and unquoted(url) else None

    @field_validator("label_studio_token")
    @classmethod
    def _is_a_token(cls, token: SecretStr | None) -> SecretStr | None:
        text = to_token("LABEL_STUDIO_ACCESS_TOKEN", token.get_secret_value()) if token else ""
        return SecretStr(text) if text else None

    @model_validator(mode="after")
    def _has_proxies_that_can_be_asked(self) -> Self:
        _ = self.proxies
        return self

    @property
    def proxies(self) -> Proxies:
        """The proxies that requests to Label Studio and for pictures go through."""
        names = ("http_proxy", "https_proxy", "all_proxy")
        given: dict[str, SecretStr | None] = {name: getattr(self, name) for name in names}
        urls = {name.upper(): url.get_secret_value() for name, url in given.items() if url}
        return Proxies.of(urls, self.no_proxy)

    @property
    def trust(self) -> Trust:
        """Whose certificates are believed beside the usual ones."""
        names = ("ssl_cert_file", "ssl_cert_dir", "requests_ca_bundle", "curl_ca_bundle")
        return Trust(tuple((n.upper(), getattr(self, n)) for n in names if getattr(self, n)))

    def override(self, settings: AppSettings) -> AppSettings:
        """The settings, with those values that the environment gives in place of the YAML's."""
        given: dict[str, object] = {
            "box_threshold": self.box_threshold,
            "text_threshold": self.text_threshold,
            "log_level": self.log_level,
            "allowed_image_hosts": self.allowed_image_hosts,
        }
        changed = {name: value for name, value in given.items() if value is not None}
        return AppSettings.model_validate(settings.model_dump() | changed)


class ServeEnvironment(BaseSettings):
    """What Serve itself reads of the environment, as far as it decides which ports are taken; see
    deploy/ray.env.
    """

    model_config = SettingsConfigDict(env_prefix="RAY_SERVE_", frozen=True)

    enable_ha_proxy: bool = False
    fallback_proxy_http_port: int = 8500
    haproxy_metrics_port: int = 9101
    haproxy_stats_port: int = 8404
