"""`prelabel annotate --input --ray`: the same past one machine, by the job in `jobs/`.

The command lists the items and collects the parts. The job, a process of its own, is the only one
that imports Ray.
"""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from rich.console import Console

from prelabel.cli.exit_status import FINISHED, SOME_FAILED
from prelabel.cli.input_plan import InputOptions, InputPlan, plan_input
from prelabel.cli.progress import shown
from prelabel.cli.terminal import counted, print_json, print_line
from prelabel.offline.bucket_results import BucketResults
from prelabel.offline.buckets import NEEDS_JOBS
from prelabel.offline.exports import Format
from prelabel.offline.items import InputError, Item, Source
from prelabel.offline.job import JobFolder, JobSpec
from prelabel.offline.key_index import KeyIndex
from prelabel.offline.predictor import Failure, Row
from prelabel.offline.results import ResultFolder
from prelabel.offline.run import Progress, RunError
from prelabel.settings import Environment
from prelabel.settings.ray_environment import prepare_ray_environment

JOB_MODULE: Final = "jobs.annotate"
_JOB: Final = "job"  # folder of the job in the output
_LISTED: Final = 256  # items that are looked up at a time
_POLL_S: Final = 0.5
_COUNT_EVERY_S: Final = 5.0
_END_S: Final = 60.0

Known = Callable[[Sequence[str]], Sequence[bool]]


def run_job(
    plan: InputPlan,
    results: ResultFolder,
    options: InputOptions,
    console: Console,
    module: str = JOB_MODULE,
) -> Progress:
    """Predict the items that are left on a cluster, and store them. Return the progress.

    Args:
        plan: The run.
        results: Its output.
        options: Its options.
        console: Receives the progress.
        module: The job that is run as a process.

    Raises:
        InputError: Ray is not installed, or the input cannot be read.
        OutputError, RunError: The run cannot continue.
    """
    _require_ray()
    job = JobFolder(str(results.folder.absolute() / _JOB))
    progress = _predict(
        plan,
        job,
        results.known,
        options,
        console,
        log=results.folder / "job.log",
        lock=results.lock,
        module=module,
    )
    stored = failed = 0
    for path in job.parts():
        outcomes = job.read_part(path)
        known = results.known([each.key for each in outcomes])
        new = [each for each, is_known in zip(outcomes, known, strict=True) if not is_known]
        rows = [each for each in new if isinstance(each, Row)]
        failures = [each for each in new if isinstance(each, Failure)]
        results.add(rows, failures)
        stored, failed = stored + len(rows), failed + len(failures)
    results.end_shard()
    job.remove()  # the results have all of it
    return replace(progress, done=stored, failed=failed)


def annotate_into_bucket(options: InputOptions, environment: Environment, console: Console) -> int:
    """Predict pictures on a cluster, and write them to a bucket. Return the exit status.

    Raises what `annotate_input` does.
    """
    if not options.ray:
        raise InputError("A bucket as --output needs --ray. Give a folder, or add --ray.")
    if more := {Format.COCO, Format.YOLO} & set(options.formats):
        raise InputError(f"The format {min(more)} needs a folder as --output.")
    if options.retry_failed or options.dry_run:
        raise InputError("--retry-failed and --dry-run need a folder as --output.")
    _require_ray()
    plan = plan_input(options, environment)
    results = BucketResults(options.output, plan.manifest)
    if options.failed:
        for key, reason in results.failures():
            if options.json_output:
                print_json({"input": key, "error": reason})
            else:
                print_line(f"{key}: {reason}", console)
        return FINISHED
    job = JobFolder(f"{results.address}/{_JOB}")
    with tempfile.NamedTemporaryFile("wb", suffix=".log", delete=False) as log:
        _predict(plan, job, lambda keys: [False] * len(keys), options, console, log=Path(log.name))
    parts = (job.read_part(path) for path in job.parts())
    stored, failed = results.collect(parts, parquet=Format.PARQUET in options.formats)
    if options.json_output:
        print_json({"stored": stored, "failed": failed})
    else:
        print_line(
            f"{counted(stored, 'task', 'tasks')} with predictions, {failed} failed.", console
        )
        print_line(f"They are in {results.address}.", console)
    return SOME_FAILED if failed else FINISHED


def _predict(
    plan: InputPlan,
    job: JobFolder,
    known: Known,
    options: InputOptions,
    console: Console,
    *,
    log: Path,
    lock: int | None = None,
    module: str = JOB_MODULE,
) -> Progress:
    """Run the job over the items that are left.

    Items whose parts an earlier job has stored are left out here. Ray Data would leave them out as
    well, but a job without any row in a block never ends (Ray 2.60).
    """
    listed = 0

    def left(finished: KeyIndex) -> Iterator[Item]:
        nonlocal listed

        def is_known(keys: Sequence[str]) -> list[bool]:
            pairs = zip(known(keys), finished.known(keys), strict=True)
            return [any(pair) for pair in pairs]

        for item, is_left in _unique(plan.input.source, is_known):
            listed += 1
            if is_left:
                yield item

    title = f"{plan.input.name}, model version {plan.manifest.model_version}, on Ray."
    with shown(title, console, json_output=options.json_output, unit="pictures") as observe:
        with _finished_items(job) as finished:
            count_left = job.write_items(left(finished), options.block)
            total = count_left + finished.count(failed=False)
        if count_left:
            spec = JobSpec(
                plan.settings,
                plan.search,
                plan.manifest.model_version,
                str(plan.input.base),
                options.block,
                options.engines,
            )
            job.write_spec(spec)
            counted: dict[str, int] = {}

            def count() -> None:
                observe(Progress(total=total, done=job.count(counted), listed=listed))

            address = [options.address] if options.address else []
            _run_child([module, job.address, *address], log, lock, count)
            count()
    return Progress(total=total, listed=listed)


@contextmanager
def _finished_items(job: JobFolder) -> Iterator[KeyIndex]:
    """Yield an index of the items whose parts an earlier job has stored."""
    with tempfile.TemporaryDirectory() as folder:
        index = KeyIndex(Path(folder) / "finished.sqlite")
        try:
            for keys in job.finished():
                index.add(keys, 0)
            yield index
        finally:
            index.close()


def _unique(source: Source, known: Known) -> Iterator[tuple[Item, bool]]:
    """Yield the items, and whether each is neither known nor equal to an earlier one."""
    with tempfile.TemporaryDirectory() as folder:
        seen = KeyIndex(Path(folder) / "seen.sqlite")
        items = source.items()
        while batch := [item for _, item in zip(range(_LISTED), items, strict=False)]:
            keys = [item.key for item in batch]
            stored, before = known(keys), seen.known(keys)
            first = dict(zip(reversed(keys), reversed(range(len(keys))), strict=True))
            for index, item in enumerate(batch):
                yield item, not (stored[index] or before[index] or first[item.key] != index)
            seen.add(keys, 0)
        seen.close()


def _run_child(
    module: Sequence[str], log: Path, lock: int | None, count: Callable[[], None]
) -> None:
    """Run the job's module with its arguments to its end.

    It inherits the lock of the results: if this process is killed, the job keeps the folder locked.
    """
    prepare_ray_environment()
    command = [sys.executable, "-u", "-m", *module]
    with log.open("wb") as output:
        child = subprocess.Popen(  # noqa: S603 - our own module
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=() if lock is None else (lock,),
        )
        try:
            counted_at = time.monotonic()
            while child.poll() is None:
                time.sleep(_POLL_S)
                if time.monotonic() - counted_at > _COUNT_EVERY_S:
                    count()
                    counted_at = time.monotonic()
        finally:
            _end(child)
    if child.returncode != 0:
        lines = log.read_text(errors="replace").strip().splitlines() or ["It wrote nothing."]
        raise RunError(
            f"The job ended with status {child.returncode}: {lines[-1]} Its log is {log}. Run the "
            "same command again to continue."
        )


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the job as Ctrl-C does, so that Ray ends its own processes."""
    if child.poll() is None:
        with suppress(ProcessLookupError):
            child.send_signal(signal.SIGINT)
        try:
            child.wait(_END_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _require_ray() -> None:
    """Raise InputError if a package of the extra `jobs` is not installed."""
    for package in ("ray", "pyarrow", "pandas"):
        if importlib.util.find_spec(package) is None:
            raise InputError(f"--ray needs Ray Data, and {package} is missing. {NEEDS_JOBS}")
