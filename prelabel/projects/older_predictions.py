"""Older predictions of this backend, which newer ones replace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from prelabel.labelstudio.bulk import BulkAPI, TaskPage
from prelabel.labelstudio.data_manager import Filters

_PAGE: Final = 100  # tasks; the answer has the results of all their predictions


class OlderPredictions:
    """Predictions of older model versions, in tasks that have a prediction of the newest one.

    Nothing is noted between two calls: what is left to remove can be read from Label Studio.

    Attributes:
        removed: Number of predictions removed so far.

    Args:
        studio: Label Studio.
        project: The project's number.
        version: The newest model version.
        older: The older versions, all of this backend.
        filters: Filters of the Data Manager that the tasks have to fit.
    """

    def __init__(
        self, studio: BulkAPI, project: int, version: str, older: Sequence[str], filters: Filters
    ) -> None:
        self._studio, self._project, self._version = studio, project, version
        self._older, self._filters = older, filters
        self.removed = 0

    def remove(self, observe: Callable[[], None]) -> None:
        """Remove them. Those of tasks without a prediction of the newest version stay.

        Args:
            observe: Called after the predictions of some tasks were removed.

        Raises:
            LabelStudioError: Label Studio refuses, or does not answer. A further call continues.
        """
        for version in self._older:
            if not self._page(version, after=0, count=1).tasks:
                continue
            if self._studio.project(self._project).model_version == version:
                # Annotators would see no predictions any more.
                self._studio.show_predictions_of(self._project, self._version)
            if self._filters or self._is_needed(version):
                self._remove_by_task(version, observe)
            else:
                self.removed += self._studio.remove_version(self._project, version)

    def _is_needed(self, version: str) -> bool:
        """Return True if a task has a prediction of that version and none of the newest one."""
        page = self._studio.tasks_with(
            self._project, version, after=0, count=1, filters=[], without=self._version
        )
        return bool(page.tasks)

    def _remove_by_task(self, version: str, observe: Callable[[], None]) -> None:
        page = self._page(version, after=0, count=_PAGE)
        while page.tasks:
            for task in page.tasks:
                predictions = task.predictions or ()
                if any(each.model_version == self._version for each in predictions):
                    for each in predictions:
                        if each.model_version == version:
                            self._studio.remove_prediction(each.id)
                            self.removed += 1
            observe()
            page = self._page(version, after=page.tasks[-1].id, count=_PAGE)

    def _page(self, version: str, after: int, count: int) -> TaskPage:
        return self._studio.tasks_with(
            self._project, version, after=after, count=count, filters=self._filters
        )
