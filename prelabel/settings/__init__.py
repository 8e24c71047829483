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
from prelabel.settings.review import ReviewSettings

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
    "ReviewSettings",
    "ServeEnvironment",
    "read_environment",
]
