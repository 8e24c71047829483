"""Label Studio's own validation of predictions, before they are imported.

The import answers with success, and leaves out what its validation refuses without naming it. The
validation is a part of label-studio-sdk, which Label Studio itself calls.
"""

from __future__ import annotations

from typing import Final

from prelabel.labelstudio.responses import Prediction

_MOST_QUOTED: Final = 300  # characters of a fault, which may repeat a whole mask


class ImportCheck:
    """Finds predictions that the import would leave out. Can be called from one thread at a time.

    Args:
        label_config: The project's labeling config.
    """

    def __init__(self, label_config: str) -> None:
        # Takes half a second, which the commands that store nothing should not pay.
        from label_studio_sdk.label_interface.interface import LabelInterface

        self._interface = LabelInterface(label_config)

    def __call__(self, prediction: Prediction) -> str | None:
        """Return the sentence about a prediction that would be left out; None for any other."""
        wanted = {name: prediction[name] for name in ("result", "score")}
        faults = self._interface.validate_prediction(wanted, return_errors=True)  # type: ignore[no-untyped-call]
        if not faults:
            return None
        fault = str(faults[0])[:_MOST_QUOTED].rstrip(" .")
        return (
            f"Label Studio would leave the prediction out ({fault}). Correct the labeling config, "
            "then run the command with --retry-failed."
        )
