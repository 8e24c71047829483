"""One engine of a job: an actor of Ray Data."""

from __future__ import annotations

import json
import logging

import pyarrow

from deployments.placement import decode_processes_here, threads_here
from prelabel.engines import EngineLoader
from prelabel.errors import ImageFetchError, ModelError
from prelabel.offline.items import Item
from prelabel.offline.job import ID, JobSpec
from prelabel.offline.pictures import picture_reader
from prelabel.offline.predictor import Failure, LocalPredictor, Row
from prelabel.segmentation.device_models import DeviceResources
from prelabel.settings import Environment
from prelabel.settings.paths import resolve_path

_SCHEMA = pyarrow.schema(
    [(ID, pyarrow.string()), ("line", pyarrow.string()), ("reason", pyarrow.string())]
)
# So many pictures of a batch, and no others, are a fault of the network or of the storage.
_UNFETCHED = 32


class Engines:
    """Predicts batches of items. The models load in the constructor.

    Args:
        spec: The job's spec, as JSON.
        environment: Address and token of Label Studio, proxies; of the driver.
        device: Where the models run, "cpu" or "cuda".
        load: Loads the detector.

    Raises:
        ModelError: The node has no model, or another one than the command's machine.
    """

    def __init__(
        self, spec: str, environment: Environment, device: str, load: EngineLoader
    ) -> None:
        parsed = JobSpec.from_text(spec)
        logging.getLogger("prelabel").setLevel(logging.ERROR)  # the parts have the failures
        on_cpu = device == "cpu"
        self._predictor = LocalPredictor(
            parsed.settings,
            parsed.search,
            DeviceResources(
                "cpu" if on_cpu else "cuda",
                cpu_threads=threads_here() if on_cpu else 1,
                decode_processes=1 if on_cpu else decode_processes_here(),
            ),
            picture_reader(parsed.settings, environment, resolve_path(parsed.base)),
            load,
        )
        if self._predictor.version != parsed.version:
            raise ModelError(
                f"This node's model version is {self._predictor.version}, and the command's is "
                f"{parsed.version}. Install the same version and models on all nodes."
            )

    def __call__(self, batch: pyarrow.Table) -> pyarrow.Table:
        """Return a table with `id` and, for each item, its `line` or the `reason` of a failure."""
        items = [
            Item(
                row[ID],
                json.loads(row["data"]),
                row["place"],
                json.loads(row["more"]),
                row["fault"],
            )
            for row in batch.to_pylist()
        ]
        faults = [Failure(item.key, item.fault) for item in items if item.fault is not None]
        tasks = [item for item in items if item.fault is None]
        outcomes = self._predictor.predict(tasks).result()
        if self._predictor.fails:
            # The actor ends, and Ray starts another one, on another node if need be.
            raise ModelError("The model failed on the last batches. The log above has the cause.")
        unfetched = [each for each in outcomes if isinstance(each, Failure) and each.is_unfetched]
        if len(unfetched) == len(outcomes) >= _UNFETCHED:
            raise ImageFetchError(
                f"None of {len(outcomes)} pictures arrived on this node: {unfetched[0].reason}"
            )
        return pyarrow.Table.from_pylist(
            [_columns(each) for each in (*outcomes, *faults)], schema=_SCHEMA
        )


def _columns(outcome: Row | Failure) -> dict[str, str | None]:
    if isinstance(outcome, Failure):
        return {ID: outcome.key, "line": None, "reason": outcome.reason}
    return {ID: outcome.key, "line": outcome.line.decode(), "reason": None}
