"""The whole story of a predict: from a request to one entry per task, in order.

    request -> plans (what to look for, and where) -> picture bytes -> detections -> prediction

It knows the steps, not where they run: the deployments pass them in.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from prelabel.errors import DeadlineError, PrelabelError
from prelabel.labelstudio.labeling_config import parse_labeling_config
from prelabel.labelstudio.protocol import Prediction, PredictRequest, Task, TaskError
from prelabel.labelstudio.results import to_prediction, to_task_error
from prelabel.planning import Wishes, plan_task
from prelabel.settings import AppSettings
from prelabel.types import Asked, DetectionQuery, Detections, LookPlan

logger = logging.getLogger(__name__)

Entry = Prediction | TaskError


@dataclass(frozen=True, slots=True)
class Steps:
    """What a task needs done. fetch takes a picture's address and the task's id."""

    fetch: Callable[[str, int | None], Awaitable[bytes]]
    detect: Callable[[DetectionQuery], Awaitable[Detections]]
    postprocess: Callable[[Sequence[LookPlan], Sequence[Detections]], Awaitable[Prediction]]


class Predictor:
    """Answers predict requests. All tasks of a request are worked on concurrently."""

    def __init__(self, settings: AppSettings, model_version: str, steps: Steps) -> None:
        self._settings = settings
        self._model_version = model_version
        self._steps = steps

    async def predict(
        self, request: PredictRequest, remembered: Asked, request_id: str
    ) -> list[Entry]:
        """One entry per task: a prediction, or an error that costs its neighbours nothing."""
        if request.context is not None and not request.context.result:
            # Submit sends this; boxes would land as suggestions on the submitted annotation.
            return [to_prediction([], self._model_version) for _ in request.tasks]
        deadline = asyncio.get_running_loop().time() + self._settings.request_deadline_s
        turns = asyncio.Semaphore(self._settings.task_concurrency)

        async def entry(task: Task) -> Entry:
            try:
                async with asyncio.timeout_at(deadline), turns:
                    return await self._predict_task(task, request, remembered)
            except TimeoutError:
                late = DeadlineError(
                    f"Not done within {self._settings.request_deadline_s:g} s. "
                    "Retrieve predictions again for what is left."
                )
                return to_task_error(late, request_id)
            except PrelabelError as error:
                logger.warning("task %s: %s: %s", task.id, type(error).__name__, error)
                return to_task_error(error, request_id)
            except Exception:  # the edge: a defect of ours costs this task alone, and is logged
                logger.exception("task %s: request %s", task.id, request_id)
                broken = PrelabelError(
                    "The service failed on this task. Its log says why, under this request's id."
                )
                return to_task_error(broken, request_id)

        started = time.monotonic()
        entries = await asyncio.gather(*(entry(task) for task in request.tasks))
        failed = sum("error" in one for one in entries)
        logger.info(
            "predicted %d tasks, %d failed, in %.2f s (request %s)",
            len(entries),
            failed,
            time.monotonic() - started,
            request_id,
        )
        return list(entries)

    async def _predict_task(
        self, task: Task, request: PredictRequest, remembered: Asked
    ) -> Prediction:
        config = parse_labeling_config(request.label_config, self._settings.max_labels)
        wishes = Wishes.of(task, request.context, remembered, config.prompt_names)
        plans = plan_task(task, config, wishes, self._settings)
        found = await asyncio.gather(*(self._look(plan, task.id) for plan in plans))
        return await self._steps.postprocess(plans, found)

    async def _look(self, plan: LookPlan, task_id: int | None) -> Detections:
        image = await self._steps.fetch(plan.uri, task_id)
        return await self._steps.detect(DetectionQuery(image, plan.phrases, plan.thresholds))
