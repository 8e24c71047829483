"""The pictures of an annotated project, with the boxes of people and those of the model.

Annotated tasks are read by pages. Their predictions are the stored ones of a model version, or are
asked for anew; nothing is stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from prelabel.boxes import pct_to_px
from prelabel.errors import PrelabelError
from prelabel.evaluation.samples import NO_LABEL, Boxes, Sample
from prelabel.labelstudio.annotated_tasks import AnnotatedTask, StoredAnnotation
from prelabel.labelstudio.box_entries import LabelledBox, ScoredEntry, read_boxes, valid_entries
from prelabel.labelstudio.labeling_config import LabelingConfig
from prelabel.labelstudio.responses import Prediction, TaskError
from prelabel.labelstudio.rest import StoredTask

# The size of a picture that no region tells. Boxes are stored in percent.
_UNKNOWN_WH: Final = (1000, 1000)

Answer = TaskError | Prediction
Ask = Callable[[Sequence[StoredTask]], list[Answer]]
_Place = tuple[str, int]  # name of the Image tag, and the picture's index in its list


class EvaluateError(PrelabelError):
    """The project cannot be evaluated. The message says what is missing."""


@dataclass(slots=True)
class ReadProject:
    """The pictures of the annotated tasks.

    Attributes:
        samples: One for each picture of a task with a prediction.
        annotated: For each of them the boxes of each person.
        tasks: Number of tasks with a submitted annotation.
        version: The model version of the predictions.
        other_versions: Number of annotated tasks by the other model versions that they have
            predictions of.
        unpredicted: Number of tasks without a prediction, which are left out.
        failures: Why a task is left out: the service's reason, or a missing picture.
        left_out: Regions that are no boxes, by shape, in annotations.
        unsized: Number of pictures whose size is not known.
    """

    samples: list[Sample] = field(default_factory=list)
    annotated: list[list[Boxes]] = field(default_factory=list)
    tasks: int = 0
    version: str = ""
    other_versions: Counter[str] = field(default_factory=Counter)
    unpredicted: int = 0
    failures: dict[int, str] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    unsized: int = 0


class ProjectReader:
    """Makes samples of annotated tasks.

    Args:
        config: The project's labeling config.
        observe: Called with the number of tasks that were read.
    """

    def __init__(self, config: LabelingConfig, observe: Callable[[int], None]) -> None:
        self._config, self._observe = config, observe
        # Where people draw no boxes, those around their masks are compared.
        self._masks = not any(control.draws_boxes for control in config.controls)
        self._read = ReadProject()

    def read_stored(self, pages: Iterable[Sequence[AnnotatedTask]], version: str) -> ReadProject:
        """Read tasks with their stored predictions of a model version."""
        self._read.version = version
        for task in self._annotated(pages):
            stored = task.prediction(version)
            others = {each.model_version for each in task.predictions if each.model_version}
            self._read.other_versions.update(others - {version})
            if stored is None:
                self._read.unpredicted += 1
            else:
                self._add(task, stored.result)
        return self._read

    def read_fresh(self, pages: Iterable[Sequence[AnnotatedTask]], ask: Ask) -> ReadProject:
        """Read tasks, and ask the service for their predictions."""
        for page in pages:
            tasks = list(self._annotated([page]))
            answers = ask([task.stored_task for task in tasks]) if tasks else []
            for task, answer in zip(tasks, answers, strict=True):
                if "error" in answer:
                    self._read.failures[task.id] = answer["error"]
                else:
                    self._read.version = answer["model_version"]
                    self._add(task, valid_entries(answer["result"]))
        return self._read

    def _annotated(self, pages: Iterable[Sequence[AnnotatedTask]]) -> Iterator[AnnotatedTask]:
        for page in pages:
            for task in page:
                if task.submitted:
                    self._read.tasks += 1
                    yield task
            self._observe(self._read.tasks)

    def _add(self, task: AnnotatedTask, predicted: Sequence[ScoredEntry]) -> None:
        """Add the pictures of a task."""
        try:
            uris = self._uris(task)
        except PrelabelError as error:
            self._read.failures[task.id] = str(error)
            return
        if not uris:
            self._read.failures[task.id] = (
                "It has no picture's address in the fields that the labeling config names."
            )
            return
        newest = task.submitted[0]
        people = [self._boxes(each.result, uris, count=each is newest) for each in task.submitted]
        model = self._boxes(predicted, uris)
        parent = self._parent_of(newest, task, uris)
        for place, uri in uris.items():
            known = [*people[0].get(place, ()), *model.get(place, ())]
            size = next((box.image_wh for box in known if box.image_wh), None)
            self._read.unsized += bool(known) and size is None
            wh = size or _UNKNOWN_WH
            truth = [_to_boxes(boxes.get(place, ()), wh) for boxes in people]
            is_list = any(i.is_list and i.name == place[0] for i in self._config.images)
            self._read.samples.append(
                Sample(
                    task.id,
                    place[1] if is_list else None,
                    uri,
                    wh if known else (0, 0),
                    truth[0],
                    _to_boxes(model.get(place, ()), wh).best_first(),
                    None if parent is None else _to_boxes(parent.get(place, ()), wh),
                )
            )
            self._read.annotated.append(truth)

    def _uris(self, task: AnnotatedTask) -> dict[_Place, str]:
        """Return the address of each picture of a task."""
        config = self._config.for_task(task.data)
        return {
            (image.name, index): uri
            for image in config.images
            for index, uri in enumerate(image.uris(task.data))
        }

    def _parent_of(
        self, annotation: StoredAnnotation, task: AnnotatedTask, uris: Mapping[_Place, str]
    ) -> dict[_Place, list[LabelledBox]] | None:
        """Return the boxes of the prediction that an annotation was made from, if it is stored."""
        for each in task.predictions:
            if each.id == annotation.parent_prediction:
                return self._boxes(each.result, uris)
        return None

    def _boxes(
        self, entries: Sequence[ScoredEntry], uris: Mapping[_Place, str], *, count: bool = False
    ) -> dict[_Place, list[LabelledBox]]:
        """Return the boxes on each picture; count the regions that are left out, if asked to."""
        read = read_boxes(entries, masks=self._masks)
        placed: dict[_Place, list[LabelledBox]] = {}
        for box in read.boxes:
            place = (box.to_name, box.item_index or 0)
            if place in uris:
                placed.setdefault(place, []).append(box)
            else:
                read.left_out["box on another picture"] += 1
        if count:
            self._read.left_out.update(read.left_out)
        return placed


def current_thresholds(config: LabelingConfig, default: float) -> dict[str, float]:
    """Return the box threshold of each label, as bulk predictions apply it.

    Args:
        config: The labeling config.
        default: The service's own threshold.
    """
    written = config.thresholds.box_threshold
    fallback = default if written is None else written
    thresholds: dict[str, float] = {}
    for control in config.controls:
        for label in control.labels:
            own = (
                control.score_threshold if label.score_threshold is None else label.score_threshold
            )
            thresholds.setdefault(label.value, fallback if own is None else own)
    return thresholds


def check_samples(read: ReadProject, project: int, *, is_stored: bool) -> None:
    """Raise EvaluateError if there is nothing to measure, with the reason."""
    if not read.tasks:
        raise EvaluateError(
            f"Project {project} has no submitted annotation. Annotate some of its tasks first: an "
            "empty annotation of a picture without objects counts, too."
        )
    if read.samples:
        return
    if is_stored and not read.failures:
        found = ", ".join(
            f"{version} ({count} tasks)" for version, count in read.other_versions.most_common(5)
        )
        others = f" There are predictions of {found}: give one as --model-version." if found else ""
        raise EvaluateError(
            f"No annotated task of project {project} has a prediction of {read.version}. Run "
            f"`prelabel annotate --project {project}`, or give --fresh to ask the service "
            f"now.{others}"
        )
    task, reason = next(iter(read.failures.items()))
    raise EvaluateError(
        f"None of the {read.tasks} annotated tasks of project {project} can be compared. Task "
        f"{task}: {reason}"
    )


def newest_version(pages: Iterable[Sequence[AnnotatedTask]]) -> str | None:
    """Return the model version of the newest prediction of the tasks; None without any."""
    newest = max(
        (each for page in pages for task in page for each in task.predictions),
        key=lambda each: each.id,
        default=None,
    )
    return newest.model_version if newest else None


def _to_boxes(boxes: Sequence[LabelledBox], image_wh: tuple[int, int]) -> Boxes:
    pct = np.array([box.pct for box in boxes], np.float64).reshape(-1, 4)
    return Boxes.of(
        pct_to_px(pct, image_wh),
        [box.label or NO_LABEL for box in boxes],
        [1.0 if box.score is None else box.score for box in boxes],
        [box.id for box in boxes],
    )
