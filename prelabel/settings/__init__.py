"""Settings of the application (`args:` in serve_config.yaml) and environment variables."""

from prelabel.settings.application import (
    MAX_TASKS,
    MIB,
    AppSettings,
    CacheSettings,
    DetectionSettings,
    ImageSettings,
    LimitSettings,
    MaskSettings,
    ModelSettings,
    PromptSettings,
)
from prelabel.settings.environment import Environment, ServeEnvironment, read_environment

__all__ = [
    "MAX_TASKS",
    "MIB",
    "AppSettings",
    "CacheSettings",
    "DetectionSettings",
    "Environment",
    "ImageSettings",
    "LimitSettings",
    "MaskSettings",
    "ModelSettings",
    "PromptSettings",
    "ServeEnvironment",
    "read_environment",
]
