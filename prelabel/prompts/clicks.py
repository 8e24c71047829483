"""Clicks and drawn boxes of an annotator -> the objects of each picture, with their targets.

In: the labeling config, what the annotator pointed at with a smart tool, and the thresholds'
sources. Out: for each Image tag the objects to segment, each with the control tags of the selected
label. `planner` makes look plans of them; no text is searched for then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prelabel.errors import PromptError
from prelabel.labelstudio.labeling_config import ImageObject, LabelingConfig
from prelabel.labelstudio.labels import Label, RegionControl
from prelabel.labelstudio.result_entries import PointedObject
from prelabel.prompts.mask_targets import mask_targets
from prelabel.prompts.messages import quoted_names
from prelabel.types import PromptedObject, Target

_MOST_OBJECTS, _MOST_POINTS = 200, 100  # of one request; points of one object


def prompted_objects(
    config: LabelingConfig, pointed: Sequence[PointedObject], image: ImageObject
) -> Iterator[tuple[int | None, PromptedObject]]:
    """Yield the objects of an Image tag to segment, each with the index of its picture in a list.

    Raises:
        PromptError: There are too many objects or points, no point is on the object, or no control
            tag has the label.
    """
    if len(pointed) > _MOST_OBJECTS:
        raise PromptError(
            f"{len(pointed)} objects are marked, and {_MOST_OBJECTS} can be segmented at once. "
            "Accept or delete some."
        )
    targets: dict[str | None, Target] = {}  # by label, because many objects may have the same
    for each in pointed:
        if each.to_name != image.name:
            continue
        if len(each.prompt_pct.points_xy) > _MOST_POINTS:
            raise PromptError(
                f"An object has more than {_MOST_POINTS} clicks. Accept or delete the mask."
            )
        if each.prompt_pct.points_xy and not any(each.prompt_pct.points_inside):
            raise PromptError(
                "All clicks are beside the object. Click on it first, without the Alt key."
            )
        if each.label not in targets:
            targets[each.label] = target_of_label(config.controls_of(image), each.label)
        yield each.item_index, PromptedObject(each.prompt_pct, targets[each.label])


def are_segmented(config: LabelingConfig, pointed: Sequence[PointedObject]) -> bool:
    """Return True if what an annotator pointed at is to be segmented.

    A drawn box is, if its label has a control tag for masks; else it belongs to a text prompt.
    Clicks always are.
    """
    for each in pointed:
        if each.prompt_pct.points_xy:
            return True
        controls = config.by_image.get(each.to_name, ())
        if any(
            shape != "rectangle" and (each.label is None or _named(control, each.label))
            for control in controls
            for shape in control.shapes
        ):
            return True
    return False


def target_of_label(controls: Sequence[RegionControl], label: str | None) -> Target:
    """Return the control tags that draw a label: the first one for boxes, and for each mask shape.

    Without a label, the regions get none, and the first control tag draws them.

    Raises:
        PromptError: No control tag has the label.
    """
    labelled: list[tuple[RegionControl, Label | None]] = [
        (control, own) for control in controls if (own := _named(control, label))
    ]
    if label is None:
        labelled = [(controls[0], None)]
    if not labelled:
        shown = list(dict.fromkeys(own.value for control in controls for own in control.labels))
        raise PromptError(
            f"The selected label {label!r} is in no control tag for boxes or masks. They have "
            f"{quoted_names(shown)}; add it to one of them in the labeling config."
        )
    drawing_boxes = [(control, own) for control, own in labelled if control.draws_boxes]
    control, own = (drawing_boxes or labelled)[0]
    return Target(
        control.from_name,
        control.to_name,
        own.value if own else None,
        min_score=0.0,
        rectangle_name=control.shapes.get("rectangle"),
        draws_box=control.draws_boxes,
        masks=mask_targets(labelled, lambda *_: 0.0),
    )


def _named(control: RegionControl, name: str | None) -> Label | None:
    return control.labels_by_name().get(name) if name is not None else None
