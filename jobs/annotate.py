"""The job itself: items -> engines -> parts, with Ray Data. `prelabel annotate --ray` runs it.

    python -m jobs.annotate FOLDER [ADDRESS]

FOLDER is a `JobFolder`. ADDRESS is that of a Ray cluster; without it, a Ray of its own is started
on this machine.

A part and its checkpoint appear together or not at all: Ray Data writes the checkpoint as pending,
then the part, then renames the checkpoint. The next run removes the parts of pending checkpoints.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.data.checkpoint import CheckpointConfig

from deployments.placement import DetectorPlace, place_detector
from jobs.engines import Engines
from jobs.item_blocks import ItemBlocks
from prelabel.engines import EngineLoader, load_engine
from prelabel.offline.job import ID, JobFolder, JobSpec
from prelabel.settings import read_environment
from prelabel.settings.paths import application_folder

_FILTER_BYTES = 64 * 1024**2
_LEAST_CPUS = 2  # of a node
# For reading items and writing parts, beside engines that reserve all cores of a node but one: rows
# that wait for a write are lost with their node.
_SMALL_CPUS = 0.25


def annotate(folder: JobFolder, load: EngineLoader = load_engine) -> None:
    """Run the job of a folder on the cluster that this process is connected to."""
    spec = folder.read_spec()
    place = place_detector(spec.settings.model.device, ray.nodes())  # type: ignore[no-untyped-call]
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = 0
    context.checkpoint_config = CheckpointConfig(
        id_column=ID,
        checkpoint_path=folder.sub("checkpoint"),
        delete_checkpoint_on_success=False,  # the command removes the folder
    )
    # The least memory of a filter of finished items, which Ray raises with their number. By default
    # it reserves 1 GiB, which small nodes lack.
    context.checkpoint_config.checkpoint_actor_memory_bytes = _FILTER_BYTES
    files = folder.item_files()
    items = ray.data.read_datasource(
        ItemBlocks(folder.address, files), override_num_blocks=len(files), num_cpus=_SMALL_CPUS
    )
    engines = items.map_batches(
        Engines,
        fn_constructor_kwargs={
            "spec": spec.to_text(),
            "environment": read_environment(),
            "device": place.device,
            "load": load,
        },
        batch_size=spec.batch,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(min_size=1, max_size=_engines(spec, place, len(files))),
        **place.options,
    )
    engines.write_parquet(folder.sub("parts"), ray_remote_args={"num_cpus": _SMALL_CPUS})


def _engines(spec: JobSpec, place: DetectorPlace, blocks: int) -> int:
    """Return the most engines at a time."""
    if spec.engines is not None:
        return spec.engines
    found: Any = ray.cluster_resources()  # type: ignore[no-untyped-call]
    if place.device == "cuda":
        return max(1, min(blocks, int(found.get("GPU", 1))))
    return max(1, min(blocks, int(found.get("CPU", 1) / place.options["num_cpus"])))


def main(arguments: list[str]) -> None:
    """Run the job from the command line."""
    folder, *address = arguments
    connect(address[0] if address else None)
    annotate(JobFolder(folder))


def connect(address: str | None) -> None:
    """Connect this process to a cluster, or start a Ray of its own."""
    common: dict[str, Any] = {
        # Nodes have the application at the same path, as in one image.
        "runtime_env": {"env_vars": {"PYTHONPATH": str(application_folder())}},
        "logging_level": logging.WARNING,
    }
    if address is None:
        # The engine reserves all cores but one, which reads, filters and writes.
        cores = max(_LEAST_CPUS, len(os.sched_getaffinity(0)))
        ray.init(address="local", include_dashboard=False, num_cpus=cores, **common)
    else:
        ray.init(address=address, **common)


if __name__ == "__main__":
    main(sys.argv[1:])
