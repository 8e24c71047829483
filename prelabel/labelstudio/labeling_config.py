"""Labeling config (XML) -> its pictures, its controls with their labels, and its thresholds.

In: the XML of a project, and the data of a task if it adds labels or tags to the config. Out: a
frozen `LabelingConfig`, which `prelabel.prompts` plans with. Parsing is cached, because Label
Studio sends the config with every request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from xml.etree.ElementTree import Element

from pydantic import JsonValue

from prelabel.errors import LabelingConfigError, RequestError
from prelabel.labelstudio.config_faults import describe_fault
from prelabel.labelstudio.config_tree import depends_on_task, fill_in, fraction_of, parse_tree
from prelabel.labelstudio.labels import LabelNames, RegionControl, boxes_only, has_masks
from prelabel.labelstudio.prompt_tags import PromptArea, find_prompt_area, find_threshold_tags
from prelabel.labelstudio.region_controls import region_controls
from prelabel.labelstudio.result_entries import PromptControls
from prelabel.labelstudio.task_variables import resolve
from prelabel.types import PromptRequest

_POINT_TAGS = ("KeyPointLabels", "KeyPoint")
_LONGEST_NAME = 1_000  # characters; every box in an answer repeats the names


@dataclass(frozen=True, slots=True)
class ImageObject:
    """An Image tag.

    Attributes:
        name: Its name.
        value: The `$field` of the task that has the picture's address.
        is_list: True if the field has a list of addresses (`valueList`).
    """

    name: str
    value: str
    is_list: bool

    def uris(self, task: Mapping[str, JsonValue]) -> tuple[str, ...]:
        """Return the addresses of the task's pictures; none if the task's field is empty.

        Raises:
            RequestError: The field has another value than addresses.
        """
        value = resolve(self.value, task)
        uris = value if self.is_list and isinstance(value, list) else [value]
        if not [uri for uri in uris if uri not in (None, "")]:
            return ()
        texts = tuple(uri.strip() for uri in uris if isinstance(uri, str) and uri.strip())
        if len(texts) != len(uris):
            list_too = ", or a list of them." if self.is_list else "."
            raise RequestError(
                f"The task's value under {self.value!r} is not a picture's address. Import the "
                f"task with an address in that field{list_too}"
            )
        return texts


@dataclass(frozen=True, slots=True)
class LabelingConfig:
    """A parsed labeling config.

    Attributes:
        controls: The controls that draw labelled boxes or masks, in the order of the config, but
            those for boxes first: a label that both have belongs to the one for boxes.
        images: The Image tags that have controls.
        by_image: The controls of each Image tag, by its name.
        names: The names by which a prompt can refer to the labels.
        prompt_controls: Names of the tags that hold the prompt and the thresholds.
        prompt_area: The text area of the prompt, if there is one.
        thresholds: The default values of the Number tags for thresholds.
        max_labels: The most labels for one picture.
        masks: False if control tags of masks are left out.
        lacks_segmenter: True if there are such tags.
        template: The config's root tag if a task's data adds tags to it; else None.
    """

    controls: tuple[RegionControl, ...]
    images: tuple[ImageObject, ...]
    by_image: Mapping[str, Sequence[RegionControl]] = field(repr=False, compare=False)
    names: LabelNames = field(repr=False, compare=False)
    prompt_controls: PromptControls
    prompt_area: PromptArea | None
    thresholds: PromptRequest
    max_labels: int
    masks: bool
    lacks_segmenter: bool
    template: Element | None = field(repr=False, compare=False)

    def controls_of(self, image: ImageObject) -> Sequence[RegionControl]:
        """Return the controls that draw on this picture."""
        return self.by_image[image.name]

    def for_task(self, data: Mapping[str, JsonValue]) -> LabelingConfig:
        """Return the config with the labels and repeated tags that a task's data adds.

        Raises:
            LabelingConfigError: The config then has no label, or is too large.
        """
        if self.template is None:
            return self
        return _build(fill_in(self.template, data), self.max_labels, self.masks, filled_in=True)

    def prompt_of(self, data: Mapping[str, JsonValue]) -> str | None:
        """Return the prompt that a task's data fills into the text area, if any."""
        value = resolve(self.prompt_area.value, data) if self.prompt_area else None
        return value.strip() or None if isinstance(value, str) else None


@lru_cache(maxsize=32)
def parse_labeling_config(xml: str, max_labels: int, *, masks: bool = True) -> LabelingConfig:
    """Parse a labeling config.

    Args:
        xml: The config.
        max_labels: The most labels for one picture.
        masks: False leaves out the control tags of masks, because there is no segmenter.

    Raises:
        LabelingConfigError: It is not XML, is too large, or draws nothing with a label on an Image.
    """
    return _build(parse_tree(xml), max_labels, masks, filled_in=False)


def has_smart_points(xml: str) -> bool:
    """Return True if annotators can click on an object with a smart tool.

    Raises LabelingConfigError if the labeling config is not XML, or is too large.
    """
    return any(
        tag.tag in _POINT_TAGS and tag.get("smart", "").lower() == "true"
        for tag in parse_tree(xml).iter()
    )


def _build(tree: Element, max_labels: int, masks: bool, *, filled_in: bool) -> LabelingConfig:
    tags = list(tree.iter())
    _check_names(tags)
    images = _images(tags)
    by_tag = list(region_controls(tags, images, max_labels, filled_in=filled_in))
    mask_tags = [of_tag for of_tag in by_tag if any(has_masks(control) for control in of_tag)]
    if not masks:
        by_tag = [boxes for of_tag in by_tag if (boxes := boxes_only(of_tag))]
        if mask_tags and not by_tag:
            raise LabelingConfigError(
                "The labeling config draws masks only, and the service has no segmenter. Set "
                "model.segmenter, such as slimsam-77, or add RectangleLabels for boxes."
            )
    by_tag.sort(key=lambda of_tag: not any(control.draws_boxes for control in of_tag))
    if not by_tag:
        raise LabelingConfigError(f"The labeling config {describe_fault(tags, images)}")
    controls = tuple(control for tag_controls in by_tag for control in tag_controls)
    by_image: dict[str, list[RegionControl]] = {}
    for control in controls:
        by_image.setdefault(control.to_name, []).append(control)
    area = find_prompt_area(tags, images)
    box, text = find_threshold_tags(tags, area)
    return LabelingConfig(
        controls=controls,
        images=tuple(image for image in images.values() if image.name in by_image),
        by_image=by_image,
        names=LabelNames(by_tag),
        prompt_controls=PromptControls(
            prompt=area.name if area else "prompt",
            box_threshold="box_threshold" if box is None else box.get("name", ""),
            text_threshold="text_threshold" if text is None else text.get("name", ""),
        ),
        prompt_area=area,
        thresholds=PromptRequest(
            None, fraction_of(box, "defaultValue"), fraction_of(text, "defaultValue")
        ),
        max_labels=max_labels,
        masks=masks,
        lacks_segmenter=bool(mask_tags) and not masks,
        template=tree if not filled_in and depends_on_task(tree) else None,
    )


def _images(tags: Sequence[Element]) -> dict[str, ImageObject]:
    """Return the valid Image tags by name. Of two with one name, the first counts."""
    images: dict[str, ImageObject] = {}
    for tag in tags:
        name, is_list = tag.get("name"), tag.get("valueList") is not None
        value = tag.get("valueList") if is_list else tag.get("value")
        if tag.tag == "Image" and name and value:
            images.setdefault(name, ImageObject(name, value, is_list))
    return images


def _check_names(tags: Sequence[Element]) -> None:
    names = (tag.get(attribute) or "" for tag in tags for attribute in ("name", "alias"))
    values = (tag.get("value") or "" for tag in tags if tag.tag == "Label")
    if any(len(name) > _LONGEST_NAME for name in (*names, *values)):
        raise LabelingConfigError(
            f"The labeling config has a name longer than {_LONGEST_NAME} characters. Shorten it."
        )
