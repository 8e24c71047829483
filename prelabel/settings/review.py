"""Settings of the order in which predictions are looked at."""

from __future__ import annotations

from typing import Literal

from prelabel.settings.fields import SettingsGroup, setting


class ReviewSettings(SettingsGroup):
    """The order in which annotators look at predictions."""

    prediction_score: Literal["confidence", "uncertainty"] = setting(
        "confidence",
        changes_predictions=True,
        description="The score of a prediction, by which Label Studio can sort tasks. "
        "`confidence`: the mean of the boxes' scores, 0 without boxes. `uncertainty`: "
        "1 / (1 + the number of corrections that the prediction is expected to need), so that the "
        "lowest scores are to be looked at first: 1 where nothing is in doubt, 0.5 where one "
        "correction is expected.",
    )
    second_look: bool = setting(
        False,
        changes_predictions=True,
        description="For `uncertainty`: let the model see the mirrored picture as well, and count "
        "disagreement as doubt. Orders a little better, and costs a second pass for each picture.",
    )
