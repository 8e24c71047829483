"""`prelabel predict`: sends one image to a running service and writes the result to files."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from prelabel.cli.drawing import DrawnBox, draw_boxes
from prelabel.cli.service_client import ServiceClient
from prelabel.cli.service_start import wait_until_up
from prelabel.errors import ImageDecodeError, PromptError
from prelabel.images.decode import decode_image
from prelabel.labelstudio.responses import Prediction
from prelabel.prompts.parser import split_prompt
from prelabel.settings import AppSettings


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """Options of `prelabel predict`.

    Attributes:
        image: The image file.
        prompt: The user's prompt.
        labels: Labels to keep, comma-separated; None for all labels of the prompt.
        output: File of the drawn image; None for IMAGE_prelabel.png.
        json_output: File of the prediction; None for IMAGE_prelabel.json.
        box_threshold: None for the service's setting.
        text_threshold: None for the service's setting.
        masks: Draw the masks of the boxes, too.
        wait_s: Longest wait for a service that is starting, seconds; 0 for none.
    """

    image: Path
    prompt: str
    labels: str | None = None
    output: Path | None = None
    json_output: Path | None = None
    box_threshold: float | None = None
    text_threshold: float | None = None
    masks: bool = False
    wait_s: float = 0

    @property
    def drawing_path(self) -> Path:
        """File that the drawn image is written to."""
        return self.output or self.image.with_name(f"{self.image.stem}_prelabel.png")

    @property
    def json_path(self) -> Path:
        """File that the prediction is written to."""
        return self.json_output or self.image.with_name(f"{self.image.stem}_prelabel.json")


def predict(options: PredictOptions, client: ServiceClient, console: Console) -> None:
    """Predict one image, write the drawn image and the JSON, and print a table of the boxes.

    Raises:
        PromptError: The prompt names nothing to look for.
        ImageDecodeError: The file cannot be read or decoded, or would be overwritten.
        ServiceError: The service gave no prediction.
    """
    prompt_labels = _labels_in(options.prompt)
    kept_labels = _labels_in(options.labels or options.prompt)
    if not prompt_labels:
        raise PromptError('The prompt names nothing to look for. Write it as in "cat . dog".')
    if options.image.resolve() in (options.drawing_path.resolve(), options.json_path.resolve()):
        raise ImageDecodeError("The output would overwrite the picture. Choose another --output.")
    content = _read(options.image)
    # Decoded before the request: an unreadable file is reported without a service.
    upright = decode_image(content, max_pixels=AppSettings().images.max_pixels)
    if options.wait_s:
        _wait_for_service(client, options.wait_s)
    prediction = client.predict(
        content,
        options.prompt,
        labels=tuple(prompt_labels | kept_labels),
        thresholds={
            "box_threshold": options.box_threshold,
            "text_threshold": options.text_threshold,
        },
        masks=options.masks,
    )
    boxes = _keep_boxes(prediction, kept_labels)
    draw_boxes(Image.fromarray(upright), boxes).save(options.drawing_path)
    text = json.dumps(prediction, indent=2, ensure_ascii=False) + "\n"
    options.json_path.write_text(text)
    _print_boxes(boxes, console)
    for note in prediction.get("notes", ()):
        console.print(note, highlight=False, soft_wrap=True)
    masks = sum(box.mask is not None for box in boxes)
    counted = f"{len(boxes)} boxes, {masks} masks" if options.masks else f"{len(boxes)} boxes"
    summary = f"{counted}: {options.drawing_path}, {options.json_path}"
    console.print(summary, highlight=False, soft_wrap=True)


def _labels_in(prompt: str) -> dict[str, None]:
    """Return the labels of a prompt's phrases in order, as an ordered set, without negatives."""
    phrases = split_prompt(prompt, AppSettings().prompts.max_chars)
    return {phrase.label or phrase.phrase: None for phrase in phrases if not phrase.negative}


def _read(image: Path) -> bytes:
    try:
        return image.read_bytes()
    except OSError as error:
        raise ImageDecodeError(f"Cannot read {image}: {error.strerror}. Check its path.") from error


def _wait_for_service(client: ServiceClient, timeout_s: float) -> None:
    """Wait for the service, with a seconds counter in a terminal and a single line in a log."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    line = f"Waiting for the service at {escape(client.url)} to start"
    with ExitStack() as stack:
        status: Status | None = None

        def show(waited_s: float) -> None:
            nonlocal status
            if status is None:
                status = stack.enter_context(console.status(line))
                if not console.is_terminal:
                    console.print(f"{line}, for up to {timeout_s:g} s ...")
            status.update(f"{line} ({waited_s:.0f} s) ...")

        wait_until_up(client, timeout_s, show)


def _keep_boxes(prediction: Prediction, labels: dict[str, None]) -> list[DrawnBox]:
    """Drop the regions without a kept label from the prediction; return the rest as boxes."""
    regions = [region for region in prediction["result"] if region["type"] != "textarea"]
    boxes = [
        region
        for region in regions
        if region["value"].get("rectanglelabels", [""])[0] in labels
        and region["type"] == "rectanglelabels"
    ]
    kept = {region["id"] for region in boxes}
    masks = {region["parentID"]: region for region in regions if region.get("parentID") in kept}
    prediction["result"] = [r for r in regions if r["id"] in kept or r.get("parentID") in kept]
    return [DrawnBox.of(region, masks.get(region["id"])) for region in boxes]


def _print_boxes(boxes: list[DrawnBox], console: Console) -> None:
    table = Table("box", "left", "top", "right", "bottom")
    for box in boxes:
        table.add_row(box.text, *(f"{edge:.0f}" for edge in box.xyxy))
    console.print(table)
