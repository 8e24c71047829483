"""A soak test: steady mixed work, in search of leaks and slowness.

`python -m tests.support.soak --minutes 30` exits with what is wrong. After a warm-up, in which all
caches fill, it compares the beginning with the end: the replicas' memory, the objects in Ray's
store, and the times of interactive requests.

Noise: memory is the median of ten samples at either end. Times are cut into windows; each gives
its 99th percentile, and the median of the first third's windows is compared with the last third's,
so that a busy minute of the machine moves neither. A machine of the cloud may be slower in the end
by itself: work that never changes is timed beside each request, and its drift taken off. With fewer
than ten windows in a third the medians still move by more than what they are to show: the drift is
printed, and not judged.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ray
import yaml
from ray._private import internal_api

from benchmarks import payloads
from benchmarks.measurement import percentile
from tests.support.load import Client
from tests.support.paths import ROOT
from tests.support.ray_cluster import Cluster, cluster, wait_for

MIB = 1024 * 1024
MEMORY_GROWTH, DRIFT = 0.02, 0.10
SAMPLES = 10  # of memory, at either end
WINDOW_S = 20
LEAST_WINDOWS = 10  # in a third
WARM_UP_SHARE = 0.2  # of the time, in addition
ROUND_S = 0.5  # a share of what two cores can do, so that nothing queues
# Full ones do not grow, and these are full after some seconds.
CACHES = {"result_bytes": MIB, "picture_bytes": MIB}
THRESHOLDS = (0.2, 0.3, 0.4, 0.5)


@dataclass
class Figures:
    """Figures after the warm-up. seconds: when an interactive request began, how long it
    took, and how long the yardstick; rss: bytes of each replica at each sample; objects: in Ray's
    store, before and after.
    """

    began: float
    seconds: list[tuple[float, float, float]] = field(default_factory=list)
    rss: list[dict[str, int]] = field(default_factory=list)
    objects: tuple[int, int] = (0, 0)
    requests: int = 0

    def growth(self) -> dict[str, tuple[float, float]]:
        """Return each replica's MiB at the beginning, and its growth as a share."""
        found = {}
        for name in self.rss[0]:
            sizes = [sample[name] for sample in self.rss if name in sample]
            ends = max(1, min(SAMPLES, len(sizes) // 3))
            before, after = statistics.median(sizes[:ends]), statistics.median(sizes[-ends:])
            found[name] = (before / MIB, after / before - 1)
        return found

    def windows(self, of: int = 1) -> list[float]:
        """The 99th percentiles of requests (1) or of the yardstick (2)."""
        cut: dict[int, list[float]] = {}
        for each in self.seconds:
            cut.setdefault(int((each[0] - self.began) // WINDOW_S), []).append(each[of])
        return [percentile(cut[number], 99) for number in sorted(cut)]

    def thirds(self, of: int = 1) -> tuple[float, float]:
        """The medians of the first and the last third's windows."""
        windows = self.windows(of)
        third = max(1, len(windows) // 3)
        return statistics.median(windows[:third]), statistics.median(windows[-third:])

    def drift(self) -> float:
        """Return the share by which requests became slower, less the machine's own drift."""
        (first, last), (before, after) = self.thirds(1), self.thirds(2)
        return (last / first) / (after / before) - 1

    @property
    def is_long(self) -> bool:
        """True if there are enough windows to judge the times."""
        return len(self.windows()) >= 3 * LEAST_WINDOWS

    def faults(self) -> list[str]:
        """Return the faults; none for a sound service."""
        found = [
            f"{name} grew by {share:.1%}"
            for name, (_, share) in self.growth().items()
            if share >= MEMORY_GROWTH
        ]
        gone = set(self.rss[0]) - set(self.rss[-1])
        if gone:
            found.append(f"{', '.join(sorted(gone))} did not live to the end")
        if self.objects[1] > self.objects[0]:
            found.append(f"{self.objects[1] - self.objects[0]} objects stay in Ray's store")
        if self.is_long and self.drift() >= DRIFT:
            found.append(f"requests became slower by {self.drift():.0%} than the machine")
        return found

    def report(self) -> str:
        """Return the figures as text."""
        (first, last), (before, after) = self.thirds(1), self.thirds(2)
        memory = [
            f"  {name}: {size:.0f} MiB, {share:+.2%}"
            for name, (size, share) in self.growth().items()
        ]
        judged = "" if self.is_long else " (too short to judge)"
        times = (
            f"99th percentile: {first * 1e3:.0f} ms in the first third, {last * 1e3:.0f} ms in the "
            f"last; of the yardstick {before * 1e3:.1f} and {after * 1e3:.1f} ms: "
            f"{self.drift():+.1%}{judged}"
        )
        return "\n".join(
            [
                f"{self.requests} requests, {len(self.seconds)} of them interactive",
                "memory in the beginning, and what came to it:",
                *memory,
                f"objects in Ray's store: {self.objects[0]} before, {self.objects[1]} after",
                times,
            ]
        )


class Work:
    """The requests of annotators."""

    def __init__(self, url: str) -> None:
        self._client = Client(url)
        self._picture = payloads.picture((320, 240))
        self._again = payloads.unique_copy(self._picture)
        self._rounds = itertools.count()
        self.requests = 0

    def __enter__(self) -> Work:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def round(self) -> float:
        """A task opened for the first time, another threshold for one that was, and something else
        in turn. Seconds of the first.
        """
        number = next(self._rounds)
        began = time.monotonic()
        self._predict(self._new())
        took = time.monotonic() - began
        if number % 20 == 0:
            self._again = self._new()
        self._predict(self._again, threshold=THRESHOLDS[number % len(THRESHOLDS)])
        other: tuple[Callable[[], None], ...] = (
            lambda: self._predict(*(self._new() for _ in range(4))),
            lambda: self._predict(self._new(), self._new()[:200], errors=1),
            lambda: self._submit(THRESHOLDS[number % len(THRESHOLDS)]),
        )
        other[number % len(other)]()
        return took

    def _new(self) -> bytes:
        return payloads.unique_copy(self._picture)

    def _predict(self, *pictures: bytes, threshold: float | None = None, errors: int = 0) -> None:
        body = json.loads(payloads.predict_body(*pictures, threshold=threshold))
        status, content = self._ask("/predict", body)
        assert status == 200, content
        entries = json.loads(content)["results"]
        assert sum("error" in entry for entry in entries) == errors, content

    def _submit(self, threshold: float) -> None:
        """In the project that the requests are of."""
        number = {
            "type": "number",
            "from_name": "box_threshold",
            "to_name": "image",
            "value": {"number": threshold},
        }
        now = datetime.now(UTC).isoformat()
        created_at = datetime.fromtimestamp(1, UTC).isoformat()
        event = {
            "action": "ANNOTATION_CREATED",
            "project": {"id": 1, "created_at": created_at, "label_config": payloads.CONFIG},
            "annotation": {"id": 1, "result": [number], "updated_at": now},
        }
        status, content = self._ask("/webhook", event)
        assert status == 201, content

    def _ask(self, path: str, body: object) -> tuple[int, bytes]:
        self.requests += 1
        return self._client.ask("POST", path, body)


def soak(minutes: float, import_path: str = "serve_app:build_app") -> Figures:
    """Run the work for some minutes, after the warm-up; return the figures."""
    with cluster() as service, ExitStack() as stack:
        service.start_head("--num-cpus=2")
        service.wait()
        service.deploy(_config(import_path))
        work = stack.enter_context(Work(service.url))
        _work_until(work, time.monotonic() + WARM_UP_SHARE * minutes * 60)
        figures = Figures(time.monotonic())
        objects = _objects(service)
        work.requests = 0
        end = figures.began + minutes * 60
        while time.monotonic() < end:
            figures.rss.append(_rss(service))
            pause = min(WINDOW_S / 2, minutes * 60 / (4 * SAMPLES))
            figures.seconds += _work_until(work, time.monotonic() + pause)
        figures.requests = work.requests
        with suppress(TimeoutError):  # what stays is in the figures
            wait_for("the store is empty again", lambda: _objects(service) <= objects, 30)
        figures.objects = (objects, _objects(service))
        return figures


def _config(import_path: str) -> dict[str, Any]:
    """Return serve_config.yaml's config on loopback."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    application = config["applications"][0]
    application["import_path"] = import_path
    application["args"] |= {"prompts": {"file": ""}, "cache": CACHES}
    for deployment in application["deployments"]:
        if scaling := deployment.get("autoscaling_config"):
            scaling["max_replicas"] = scaling["min_replicas"]
    return config


def _work_until(work: Work, end: float) -> list[tuple[float, float, float]]:
    """Rounds at a steady pace, see `Figures.seconds`; each begins with a new picture."""
    found = []
    while (began := time.monotonic()) < end:
        found.append((began, work.round(), yardstick_s()))
        time.sleep(max(0.0, began + ROUND_S - time.monotonic()))
    return found


def yardstick_s() -> float:
    """Return the seconds of a fixed piece of work, 10 to 20 ms: the speed of the machine now."""
    began = time.perf_counter()
    hashlib.sha512(bytes(8 * MIB)).digest()
    return time.perf_counter() - began


def _rss(service: Cluster) -> dict[str, int]:
    """Return the resident bytes of the replicas."""
    found = {}
    for process, title in service.nodes[0].processes().items():
        if title.startswith("ray::ServeReplica:prelabel:"):
            pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
            name = title.removeprefix("ray::ServeReplica:prelabel:").partition(".")[0]
            found[f"{name} ({process})"] = pages * os.sysconf("SC_PAGE_SIZE")
    return found


def _objects(service: Cluster) -> int:
    """Return the number of objects in Ray's store."""
    with service.driver():
        state = internal_api.get_state_from_address(ray.get_runtime_context().gcs_address)  # type: ignore[no-untyped-call]
        count: int = internal_api.get_memory_info_reply(state).store_stats.num_local_objects  # type: ignore[no-untyped-call]
    return count


def main() -> None:
    """Print the figures; fail with what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    figures = soak(parser.parse_args().minutes)
    sys.stdout.write(f"{figures.report()}\n")
    if faults := figures.faults():
        sys.exit("; ".join(faults))


if __name__ == "__main__":
    main()
