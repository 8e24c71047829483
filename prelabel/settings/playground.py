"""Settings of the playground."""

from __future__ import annotations

from prelabel.settings.fields import SettingsGroup, setting


class PlaygroundSettings(SettingsGroup):
    """The page `/playground`, on which prompts and thresholds are tried on a picture."""

    enabled: bool = setting(
        True,
        changes_predictions=False,
        description="Serve the page and its routes. They need the same user name and password as "
        "all other routes, and store nothing.",
    )
