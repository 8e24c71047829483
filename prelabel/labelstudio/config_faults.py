"""The error messages about labeling configs that draw nothing with a label on a picture."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from xml.etree.ElementTree import Element

from prelabel.labelstudio.config_tree import to_names
from prelabel.labelstudio.shapes import DRAWING_TAGS, LABEL_TAGS

_HOW_TO_ADD_BOXES = (
    'Add <Image name="image" value="$image"/> and '
    '<RectangleLabels name="label" toName="image"><Label value="cat"/></RectangleLabels>.'
)
_OTHER_CONTROL_TAGS = ("EllipseLabels", "KeyPointLabels")
_OTHER_OBJECT_TAGS = (
    "Text",
    "HyperText",
    "Audio",
    "Video",
    "Paragraphs",
    "TimeSeries",
    "Pdf",
    "Chat",
)


def describe_fault(tags: Sequence[Element], images: Collection[str]) -> str:
    """Return why a config draws neither labelled boxes nor masks, and what to add to it.

    Args:
        tags: All tags of the config.
        images: Names of its valid Image tags.

    Returns:
        The message without its subject, "The labeling config".
    """
    # A Repeater without children: in a config that is filled in, the task lacks its list.
    repeater = next((tag for tag in tags if tag.tag == "Repeater" and not len(tag)), None)
    if not images:
        if repeater is not None:
            return _describe_repeater(repeater)
        if any(tag.tag == "Image" for tag in tags):
            return 'has an Image without name or value. Write <Image name="image" value="$image"/>.'
        shown = next((tag.tag for tag in tags if tag.tag in _OTHER_OBJECT_TAGS), None)
        shows = f" (it shows {shown})" if shown else ""
        return f"has no Image{shows}, and boxes need a picture. {_HOW_TO_ADD_BOXES}"
    for tag in tags:
        if LABEL_TAGS.get(tag.tag):
            return _describe_control(tag, images)
    drawing = [tag for tag in tags if tag.tag in DRAWING_TAGS]
    if unnamed := next((tag.tag for tag in drawing if not tag.get("name")), None):
        return f'has a {unnamed} without a name. Write <{unnamed} name="region" ...>.'
    # Labels label only regions that a Rectangle or a Brush draws on the same Image.
    drawn_on = {name for tag in drawing for name in to_names(tag)}
    for tag in tags:
        if tag.tag == "Labels" and any(
            name in images for name in drawn_on.intersection(to_names(tag))
        ):
            return _describe_control(tag, images)
    if repeater is not None:
        return _describe_repeater(repeater)
    if drawn_on:
        return (
            f"has a {drawing[0].tag}, but no Labels for the same Image. Add "
            f'<Labels name="label" toName="{next(iter(images))}"><Label value="cat"/></Labels>.'
        )
    other = next((tag.tag for tag in tags if tag.tag in _OTHER_CONTROL_TAGS), None)
    has = f"has {other}, but no RectangleLabels" if other else "has no RectangleLabels"
    return (
        f"{has} for boxes on its Image. Add "
        f'<RectangleLabels name="boxes" toName="{next(iter(images))}"><Label value="cat"/>'
        "</RectangleLabels>."
    )


def _describe_repeater(repeater: Element) -> str:
    source = repeater.get("on") or ""
    return (
        f'repeats its tags for each item of <Repeater on="{source}">, where the task has none. '
        "Import it with a list there."
    )


def _describe_control(tag: Element, images: Collection[str]) -> str:
    """Return why a control tag draws nothing with a label."""
    kind, name = tag.tag, tag.get("name")
    if not name:
        return f'has {kind} without a name. Write <{kind} name="label" ...>.'
    if not any(each in images for each in to_names(tag)):
        return (
            f'has {kind} name="{name}" with toName="{tag.get("toName") or ""}", and no Image of '
            f'that name. Write toName="{next(iter(images))}".'
        )
    source = tag.get("value") or ""
    if "$" in source:
        return (
            f'takes the labels of {kind} name="{name}" from {source}, where the task has none. '
            'Import it with a list there: [{"value": "cat"}].'
        )
    return f'has {kind} name="{name}" without labels. Put <Label value="cat"/> into it.'
