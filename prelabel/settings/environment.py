"""Environment variables of the application and of Ray Serve; the only reader of the environment.

`Environment` is read where the application is built and travels to the replicas as an argument,
so that they get the same values however Ray starts them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AliasChoices,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from prelabel.errors import SettingsError
from prelabel.net.allowed_hosts import to_hosts
from prelabel.net.pasted_text import unquoted
from prelabel.net.proxies import Proxies
from prelabel.net.tls import Trust, TrustError, tls_context
from prelabel.observability.spans import TraceSettings
from prelabel.settings.application import AppSettings
from prelabel.settings.faults import first_fault, own_sentence
from prelabel.settings.values import (
    to_flag,
    to_label_studio_url,
    to_log_level,
    to_path,
    to_share,
    to_token,
    to_true,
    token_in,
)

Share = Annotated[float | None, BeforeValidator(to_share)]
FilePath = Annotated[str | None, BeforeValidator(to_path)]


class Environment(BaseSettings):
    """Variables of Label Studio's tutorial, and the usual ones for proxies and certificates.

    Secrets are read here only.
    """

    # Case-sensitive because curl prefers `https_proxy` to `HTTPS_PROXY`, and so does this service.
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
        description="Label Studio's address. Uploads and local files are fetched from it.",
    )
    label_studio_token: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("LABEL_STUDIO_ACCESS_TOKEN", "LABEL_STUDIO_API_KEY"),
        description="Label Studio token, personal access token or legacy.",
    )
    label_studio_token_file: FilePath = Field(
        None,
        validation_alias="LABEL_STUDIO_ACCESS_TOKEN_FILE",
        description="File with the token, in place of the variable. It may appear or change later: "
        "the service reads it again for each picture.",
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
        description="Redis that stores prompts in place of `prompts.file`: redis://host:6379/0.",
    )
    box_threshold: Share = Field(
        None,
        validation_alias="BOX_THRESHOLD",
        description="Overrides `detection.box_threshold`.",
    )
    text_threshold: Share = Field(
        None,
        validation_alias="TEXT_THRESHOLD",
        description="Overrides `detection.text_threshold`.",
    )
    use_sam: Annotated[bool | None, BeforeValidator(to_flag)] = Field(
        None,
        validation_alias="USE_SAM",
        description="HumanSignal's switch for masks by SAM. A false value turns masks off, and a "
        "true one needs a segmenter in `model.segmenter`.",
    )
    use_mobile_sam: Annotated[bool | None, BeforeValidator(to_flag)] = Field(
        None,
        validation_alias="USE_MOBILE_SAM",
        description="The same for MobileSAM, which this service does not run: slimsam-77 is of its "
        "size.",
    )
    sam_checkpoint: str | None = Field(
        None,
        validation_alias=AliasChoices("SAM_CHECKPOINT", "MOBILESAM_CHECKPOINT"),
        description="HumanSignal's file of SAM's weights. It is not read: `model.segmenter` names "
        "the segmenter, such as sam-vit-base for sam_vit_b_01ec64.pth.",
    )
    allowed_image_hosts: Annotated[tuple[str, ...] | None, NoDecode, BeforeValidator(to_hosts)] = (
        Field(
            None,
            validation_alias="ALLOWED_IMAGE_HOSTS",
            description="Comma-separated; overrides `images.allowed_hosts`.",
        )
    )
    log_level: Annotated[str | None, BeforeValidator(to_log_level)] = Field(
        None, validation_alias="LOG_LEVEL", description="Overrides `log_level`."
    )
    http_proxy: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("http_proxy", "HTTP_PROXY"),
        description="Proxy for http addresses of pictures and of Label Studio: "
        "http://user:password@proxy:3128. Never used for loopback.",
    )
    https_proxy: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("https_proxy", "HTTPS_PROXY"),
        description="Proxy for https addresses. It tunnels the connection and cannot read it.",
    )
    all_proxy: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("all_proxy", "ALL_PROXY"),
        description="Proxy for http or https addresses that have none of their own.",
    )
    no_proxy: str | None = Field(
        None,
        validation_alias=AliasChoices("no_proxy", "NO_PROXY"),
        description="Hosts that are reached without a proxy, comma-separated: a host with all "
        "names under it, an address or a network (10.0.0.0/8), each with or without a port; "
        "`*`: all.",
    )
    ssl_cert_file: FilePath = Field(
        None,
        validation_alias="SSL_CERT_FILE",
        description="File with certificates (PEM) of CAs, such as a company's own, that are "
        "trusted in addition to the usual ones.",
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
        description="OpenTelemetry collector that receives traces of requests, by OTLP over "
        "HTTP: http://collector:4318. Without it no traces are made.",
    )
    otlp_headers: SecretStr | None = Field(
        None,
        validation_alias="OTEL_EXPORTER_OTLP_HEADERS",
        description="Headers that the collector needs, such as a key: name=value, comma-separated.",
    )
    otel_service_name: str = Field(
        "prelabel",
        validation_alias="OTEL_SERVICE_NAME",
        description="Name of the service in traces.",
    )

    @field_validator("otlp_endpoint")
    @classmethod
    def _check_collector(cls, url: str | None) -> str | None:
        if url is None:
            return None
        url = url.strip().rstrip("/")
        if not re.match(r"https?://[^/?#\s]+[^?#\s]*$", url):
            raise ValueError(
                "OTEL_EXPORTER_OTLP_ENDPOINT is not an address such as http://collector:4318. "
                "Correct it, or unset it for no traces."
            )
        return url

    @field_validator("label_studio_url")
    @classmethod
    def _check_label_studio_url(cls, url: str | None) -> str | None:
        return to_label_studio_url(url) if url and unquoted(url) else None

    @field_validator("label_studio_token")
    @classmethod
    def _check_token(cls, token: SecretStr | None) -> SecretStr | None:
        text = to_token("LABEL_STUDIO_ACCESS_TOKEN", token.get_secret_value()) if token else ""
        return SecretStr(text) if text else None

    @model_validator(mode="after")
    def _check_proxies(self) -> Self:
        _ = self.proxies  # raises ValueError for a proxy that cannot be used
        return self

    @property
    def has_basic_auth(self) -> bool:
        """True if requests need a user name and a password."""
        return self.basic_auth_user is not None or self.basic_auth_pass is not None

    @property
    def label_studio_secret(self) -> SecretStr | Path | None:
        """Label Studio's token, or else the file that has it or may have it later."""
        if self.label_studio_token is None and self.label_studio_token_file is not None:
            return Path(self.label_studio_token_file)
        return self.label_studio_token

    def current_label_studio_token(self) -> SecretStr | None:
        """Return Label Studio's token as it is now, from its variable or its file.

        Raises SettingsError if the file has no token that can be read; None if it is not there.
        """
        secret = self.label_studio_secret
        if not isinstance(secret, Path):
            return secret
        try:
            token = token_in(secret)
        except ValueError as error:
            raise SettingsError(str(error)) from None
        return SecretStr(token) if token else None

    @property
    def traces(self) -> TraceSettings | None:
        """Destination of traces; None if there is no collector."""
        if self.otlp_endpoint is None:
            return None
        return TraceSettings(self.otlp_endpoint, self.otel_service_name, self.otlp_headers)

    @property
    def proxies(self) -> Proxies:
        """The proxies for requests to Label Studio and for pictures."""
        names = ("http_proxy", "https_proxy", "all_proxy")
        given: dict[str, SecretStr | None] = {name: getattr(self, name) for name in names}
        urls = {name.upper(): url.get_secret_value() for name, url in given.items() if url}
        return Proxies.of(urls, self.no_proxy)

    @property
    def trust(self) -> Trust:
        """The CA certificates that are trusted in addition to the usual ones."""
        names = ("ssl_cert_file", "ssl_cert_dir", "requests_ca_bundle", "curl_ca_bundle")
        return Trust(tuple((n.upper(), getattr(self, n)) for n in names if getattr(self, n)))

    def override(self, settings: AppSettings) -> AppSettings:
        """Return the settings with the values that the environment gives in place of theirs.

        Raises SettingsError if the environment asks for masks that no segmenter draws.
        """
        model = _given(segmenter=self._segmenter(settings))
        detection = _given(box_threshold=self.box_threshold, text_threshold=self.text_threshold)
        images = _given(allowed_hosts=self.allowed_image_hosts)
        # model_copy does not validate: all values have passed this class's validators.
        return settings.model_copy(
            update={
                "model": settings.model.model_copy(update=model),
                "detection": settings.detection.model_copy(update=detection),
                "images": settings.images.model_copy(update=images),
                **_given(log_level=self.log_level),
            }
        )

    def _segmenter(self, settings: AppSettings) -> str | None:
        """Return "" if HumanSignal's variables turn masks off, else None."""
        switches = [each for each in (self.use_sam, self.use_mobile_sam) if each is not None]
        if switches and not any(switches):
            return ""
        if any(switches) and not settings.segmenter_name:
            file = f" for {self.sam_checkpoint}" if self.sam_checkpoint else ""
            raise SettingsError(
                "USE_SAM asks for masks, and the service has no segmenter. Set model.segmenter in "
                f"serve_config.yaml{file}: sam-vit-base, or slimsam-77 in place of MobileSAM; "
                "`prelabel models` lists all."
            )
        return None


class ServeEnvironment(BaseSettings):
    """Ray Serve's own variables that decide which ports it takes; deploy/ray.env sets some."""

    model_config = SettingsConfigDict(env_prefix="RAY_SERVE_", frozen=True)

    # The defaults are those of Ray Serve.
    enable_ha_proxy: bool = False
    fallback_proxy_http_port: int = 8500
    haproxy_metrics_port: int = 9101
    haproxy_stats_port: int = 8404


class LabelStudioData(BaseSettings):
    """The folder of a Label Studio that runs on this machine."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", case_sensitive=True)

    base: str = Field("", validation_alias="LABEL_STUDIO_BASE_DATA_DIR")
    data_home: str = Field("", validation_alias="XDG_DATA_HOME")

    @property
    def folder(self) -> Path:
        """The folder with its database and uploads."""
        if self.base:
            return Path(self.base)
        data_home = Path(self.data_home) if self.data_home else Path("~/.local/share").expanduser()
        return data_home / "label-studio"


class DesktopEnvironment(BaseSettings):
    """Variables of a desktop session on Linux."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", case_sensitive=True)

    display: str = Field("", validation_alias="DISPLAY")
    wayland_display: str = Field("", validation_alias="WAYLAND_DISPLAY")

    @property
    def has_display(self) -> bool:
        """True if programs can open windows."""
        return bool(self.display or self.wayland_display)


def read_environment() -> Environment:
    """Return the environment's variables.

    Raises SettingsError if one is wrong or names certificates that cannot be read.
    """
    try:
        environment = Environment()
        tls_context(environment.trust)
    except ValidationError as error:
        raise SettingsError(
            own_sentence(error)
            or f"The environment is wrong at {first_fault(error)}. Correct or unset the variable."
        ) from error
    except TrustError as error:
        raise SettingsError(str(error)) from error
    return environment


def _given(**values: object) -> dict[str, Any]:
    # A threshold of 0 is a value: only None stands for a variable that is not set.
    return {name: value for name, value in values.items() if value is not None}
