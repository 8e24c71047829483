"""The boxes of the page in the forms in which they are used elsewhere."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from pydantic import JsonValue

from prelabel.labelstudio.interactive_request import request_with_config
from prelabel.labelstudio.shown_boxes import LabelledBox, task_of_boxes
from prelabel.masks.coco import coco_annotation, coco_categories, coco_image
from prelabel.playground.examples import Example, example_of
from prelabel.playground.prompted_config import PromptedConfig
from prelabel.playground.protocol import ExportRequest, ShownBox
from prelabel.settings import AppSettings

IMAGE: Final = "IMAGE"  # stands in a body of POST /predict for the address of the picture


class Exporter:
    """Writes the exports of one service.

    Args:
        settings: The service's settings.
        model_version: The version that predictions carry.
        examples: The examples by name.
        has_auth: True if requests need a user name and a password.
    """

    def __init__(
        self,
        settings: AppSettings,
        model_version: str,
        examples: Mapping[str, Example],
        *,
        has_auth: bool,
    ) -> None:
        self._detection = settings.detection
        self._max_prompt_chars = settings.prompts.max_chars
        self._model_version = model_version
        self._examples = examples
        self._has_auth = has_auth
        self._writers: Mapping[str, Callable[[ExportRequest], str]] = {
            "config": self._config,
            "label_studio": self._label_studio,
            "coco": self._coco,
            "predict": self._predict,
            "curl": self._curl,
        }

    def export(self, request: ExportRequest) -> str:
        """Return the export as text: XML, JSON or a command of a shell.

        Raises:
            PromptError: The prompt names nothing to look for.
            ImageAddressError: There is no such example.
        """
        return self._writers[request.format](request)

    def _prompted(self, request: ExportRequest) -> PromptedConfig:
        return PromptedConfig.of(request.prompt, request.labels, self._max_prompt_chars)

    def _config(self, request: ExportRequest) -> str:
        chosen = request.thresholds
        defaults = {
            "box_threshold": self._detection.box_threshold,
            "text_threshold": self._detection.text_threshold,
        }
        thresholds = {
            name: value
            for name, default in defaults.items()
            if (value := getattr(chosen, name)) is not None and value != default
        }
        return self._prompted(request).text(thresholds, masks=request.masks)

    def _label_studio(self, request: ExportRequest) -> str:
        boxes = [_labelled(box) for box in request.boxes]
        task = task_of_boxes(request.image_name, request.image_wh, boxes, self._model_version)
        return json.dumps([task], indent=2, ensure_ascii=False) + "\n"

    def _coco(self, request: ExportRequest) -> str:
        names = [label.value for label in self._prompted(request).labels]
        shown = [box.phrase if box.label is None else box.label for box in request.boxes]
        names = list(dict.fromkeys([*names, *shown]))
        boxes = map(_labelled, request.boxes)
        annotations = [
            coco_annotation(number, 1, names.index(name) + 1, box.box_xyxy, box.score, box.rings_xy)
            for number, (name, box) in enumerate(zip(shown, boxes, strict=True), start=1)
        ]
        file = {
            "images": [coco_image(1, request.image_name, request.image_wh)],
            "annotations": annotations,
            "categories": coco_categories(names),
        }
        return json.dumps(file, ensure_ascii=False) + "\n"

    def _body(self, request: ExportRequest) -> dict[str, JsonValue]:
        prompted = self._prompted(request)
        thresholds = {
            "box_threshold": request.thresholds.box_threshold,
            "text_threshold": request.thresholds.text_threshold,
        }
        config = prompted.text(masks=request.masks)
        return request_with_config(IMAGE, config, prompted.prompt, thresholds)

    def _predict(self, request: ExportRequest) -> str:
        return json.dumps(self._body(request), indent=2, ensure_ascii=False) + "\n"

    def _curl(self, request: ExportRequest) -> str:
        """Return a command for a POSIX shell. It writes the picture into the body by itself."""
        url = request.service_url.rstrip("/")
        before, after = json.dumps(self._body(request)).split(json.dumps(IMAGE), 1)
        auth = ' --user "$BASIC_AUTH_USER:$BASIC_AUTH_PASS"' if self._has_auth else ""
        if request.example is None:
            picture = f"base64 < {shlex.quote(request.image_name)}"
        else:
            file = example_of(self._examples, request.example).path.name
            address = shlex.quote(f"{url}/playground/examples/{file}")
            picture = f"curl --fail --silent{auth} {address} | base64"
        start = before + '"data:image/*;base64,'
        lines = [
            *self._notes(request),
            f"{{ printf %s {shlex.quote(start)}",
            f"  {picture} | tr -d '\\n'",
            f"  printf %s {shlex.quote(chr(34) + after)}",
            f"}} | curl --fail-with-body --silent --show-error{auth} \\",
            "  --header 'Content-Type: application/json' --data-binary @- \\",
            f"  {shlex.quote(f'{url}/predict')}",
        ]
        return "\n".join(lines) + "\n"

    def _notes(self, request: ExportRequest) -> list[str]:
        """Return comments about chosen values that a request cannot hold."""
        chosen = request.thresholds
        values = {
            name: value
            for name in ("nms_iou_threshold", "nms_class_agnostic")
            if (value := getattr(chosen, name)) is not None
            and value != getattr(self._detection, name)
        }
        return [
            f"# For the same boxes, the service needs the setting detection.{name}: "
            f"{json.dumps(value)}."
            for name, value in values.items()
        ]


def _labelled(box: ShownBox) -> LabelledBox:
    rings = tuple(np.array(ring, np.float64).reshape(-1, 2) for ring in box.polygons if ring)
    return LabelledBox(box.xyxy, box.label, box.score, box.phrase, rings)
