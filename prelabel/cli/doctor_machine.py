"""The checks of `prelabel doctor` of machines: kernels, disks, clocks, and where a port listens."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from rich.filesize import decimal

from prelabel.cli.doctor_checks import CheckResult, DoctorContext, DoctorError
from prelabel.cli.service_client import Health, ServiceError
from prelabel.labelstudio.rest import LabelStudioAPI
from prelabel.net.origin import Origin, is_loopback
from prelabel.settings.environment import LabelStudioData
from prelabel.settings.paths import resolve_path

_CLOCK_WARNING_S: Final = 60.0
_CLOCK_FAULT_S: Final = 15 * 60.0  # signed addresses of S3 are refused from here
_PROBE_S: Final = 2.0
_NOWHERE: Final = "192.0.2.1"  # for documentation (RFC 5737); no packet is sent to it
_MB: Final = 1_000_000
_RAY_SHARE: Final = 0.05  # of a disk; with less that is free, Ray stores no object on it
_SHARED_MEMORY_BYTES: Final = 128 * _MB


class Usage(NamedTuple):
    """Bytes of a file system."""

    total: int
    used: int
    free: int


def _usage(path: Path) -> Usage:
    return Usage(*shutil.disk_usage(path))


@dataclass(frozen=True, slots=True)
class Place:
    """A folder that needs room.

    Attributes:
        name: Its content, in a few words.
        path: The folder, existing or not.
        least_bytes: Free bytes without which something fails.
        cost: Sentence about what fails.
        least_share: Free share of the file system without which something fails.
        repair: Sentence about what to do.
        is_warning: True if the cost is speed alone.
    """

    name: str
    path: Path
    least_bytes: int
    cost: str
    least_share: float = 0.0
    repair: str = "Free some, or move the folder."
    is_warning: bool = False


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts about this machine, which tests replace.

    Attributes:
        own_address: Address of this machine in its network; None to find it.
        places: Folders that need room; None for the usual ones.
        usage: Returns the bytes of the file system of a path.
        find_program: Returns the path of a program, None if it is not installed.
    """

    own_address: str | None = None
    places: tuple[Place, ...] | None = None
    usage: Callable[[Path], Usage] = field(default=_usage)
    find_program: Callable[[str], str | None] = field(default=shutil.which)


def kernels(health: Health, machine: Machine) -> CheckResult[bool]:
    """Check that the service's C kernels were compiled when it was installed."""
    if health.kernels:
        return CheckResult(True, "The C kernels of the service are built.")
    compiler = machine.find_program("gcc") or machine.find_program("cc")
    install = "" if compiler else "Install a compiler (apt-get install gcc libc6-dev). "
    return CheckResult(
        False,
        "The service runs without its C kernels, because there was no compiler when it was "
        "installed. On a CPU a picture takes two to three times as long; boxes are the same. "
        f"{install}Then build them where the service runs, `pip install --no-deps "
        "--no-build-isolation --editable .` in a checkout, and start it again.",
        is_warning=True,
    )


def address(context: DoctorContext, machine: Machine) -> CheckResult[bool]:
    """Check that the service listens where Label Studio can reach it."""
    origin = Origin.of(context.url)
    if not is_loopback(origin.host):
        return CheckResult(True, f"The service is reached over the network, at {origin}.")
    studio = urlsplit(context.environment.label_studio_url or "").hostname or "localhost"
    own = machine.own_address or _own_address(studio)
    if own is None:
        return CheckResult(True, f"This machine has no network; the service is at {origin}.")
    if _answers(own, origin.port):
        return CheckResult(True, f"The service also listens at {own}:{origin.port}.")
    only = "The service listens on this machine's loopback only"
    repair = (
        "set http_options.host to 0.0.0.0 in serve_config.yaml, with BASIC_AUTH_USER and "
        f"BASIC_AUTH_PASS in its environment, start it again, and connect http://{own}:"
        f"{origin.port}"
    )
    if not is_loopback(Origin.of(context.backend_url).host):
        try:
            replace(context.client, url=context.backend_url).health()
        except ServiceError:
            raise DoctorError(
                f"{only}, so that {context.backend_url} reaches nothing. To mend it, {repair}."
            ) from None
        return CheckResult(True, f"{only}, and {context.backend_url} passes requests on to it.")
    if not is_loopback(studio):
        return CheckResult(
            False,
            f"{only}, and Label Studio is at {studio}: it gets no boxes, unless a proxy here "
            "passes its requests on; if one does, give its address as --backend-url. "
            f"Otherwise {repair}.",
            is_warning=True,
        )
    return CheckResult(
        True,
        f"{only}. That is enough for a Label Studio beside it. For one in a container, {repair}.",
    )


def _own_address(peer: str) -> str | None:
    """Return the address from which this machine reaches another one; None without a network."""
    target = _NOWHERE if is_loopback(peer) else peer
    for family, host in ((socket.AF_INET, target), (socket.AF_INET, _NOWHERE)):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((host, 9))  # chooses a route, and sends nothing
                own: str = probe.getsockname()[0]
        except OSError:
            continue
        if not is_loopback(own):
            return own
    return None


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), _PROBE_S).close()
    except OSError:
        return False
    return True


def clock(
    context: DoctorContext, health: Health | None, api: LabelStudioAPI | None
) -> CheckResult[bool]:
    """Check that the clocks of this shell, the service and Label Studio agree."""
    sources: dict[str, Callable[[], float | None]] = {}
    if health is not None:
        sources["the service"] = context.client.clock_offset_s
    if api is not None:
        sources["Label Studio"] = api.clock_offset_s
    return agreement({name: offset_s() for name, offset_s in sources.items()})


def agreement(offsets_s: Mapping[str, float | None]) -> CheckResult[bool]:
    """Judge differences of clocks.

    Args:
        offsets_s: By the server's name, how many seconds its clock is ahead of this shell's; None
            if it tells no time.
    """
    known = {name: offset for name, offset in offsets_s.items() if offset is not None}
    if not known:
        return CheckResult(True, "No server told its time.")
    name, worst_s = max(known.items(), key=lambda each: abs(each[1]))
    if abs(worst_s) < _CLOCK_WARNING_S:
        return CheckResult(True, f"The clock agrees with that of {' and '.join(known)}.")
    direction = "ahead of" if worst_s > 0 else "behind"
    fault = (
        f"The clock of {name} is {_duration(worst_s)} {direction} that of this machine. "
        "Certificates and tokens then look expired or not yet valid, and a difference of 15 "
        "minutes makes S3 refuse pictures. On the machine whose clock is wrong: `timedatectl "
        "set-ntp true`; in a container, on its host."
    )
    if abs(worst_s) >= _CLOCK_FAULT_S:
        raise DoctorError(fault)
    return CheckResult(False, fault, is_warning=True)


def _duration(seconds: float) -> str:
    for unit, length_s in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if abs(seconds) >= 2 * length_s:
            return f"{abs(seconds) / length_s:.0f} {unit}"
    return f"{abs(seconds):.0f} seconds"


def usual_places(context: DoctorContext) -> tuple[Place, ...]:
    """Return the folders of the service and of Label Studio, as far as they are here."""
    places: list[Place] = []
    if is_loopback(Origin.of(context.url).host):
        places += [
            Place(
                "models",
                resolve_path("models"),
                1000 * _MB,
                "No model of full size can be downloaded (0.2 to 1.4 GB).",
                is_warning=True,
            ),
            Place(
                "prompts and journals",
                resolve_path("data"),
                50 * _MB,
                "Submitted prompts are not remembered, and annotate stops.",
            ),
            Place(
                "Ray",
                Path("/tmp/ray"),  # noqa: S108 - the place that Ray uses
                200 * _MB,
                "Ray refuses objects that do not fit its memory, and requests fail.",
                _RAY_SHARE,
                "Free some, or start the service with another folder in RAY_TMPDIR.",
            ),
            Place(
                "shared memory",
                Path("/dev/shm"),  # noqa: S108 - the place that Ray uses
                _SHARED_MEMORY_BYTES,
                "Ray's object store lies on the disk, and pictures take longer.",
                0.0,
                "Start the container with --shm-size=1g.",
                is_warning=True,
            ),
        ]
    studio = urlsplit(context.environment.label_studio_url or "").hostname
    if studio is not None and is_loopback(studio):
        places.append(
            Place(
                "Label Studio",
                LabelStudioData().folder,
                200 * _MB,
                "Label Studio cannot store uploads and annotations.",
            )
        )
    return tuple(places)


def disk(context: DoctorContext, machine: Machine) -> CheckResult[bool]:
    """Check that the folders of this machine have room."""
    places = usual_places(context) if machine.places is None else machine.places
    if not places:
        return CheckResult(True, "Service and Label Studio store nothing on this machine.")
    free: dict[str, list[str]] = {}
    faults: list[str] = []
    warnings: list[str] = []
    for place in places:
        usage = _usage_of(place.path, machine)
        if usage is None:
            continue
        free.setdefault(decimal(usage.free), []).append(place.name)
        if usage.free < place.least_bytes or usage.free < place.least_share * usage.total:
            sentence = (
                f"{decimal(usage.free)} are free for {place.name} ({place.path}), of "
                f"{decimal(usage.total)}. {place.cost} {place.repair}"
            )
            (warnings if place.is_warning else faults).append(sentence)
    if faults:
        raise DoctorError(" ".join([*faults, *warnings]))
    if warnings:
        return CheckResult(False, " ".join(warnings), is_warning=True)
    listed = ", ".join(f"{size} for {_and(names)}" for size, names in free.items())
    return CheckResult(True, f"Free: {listed}.")


def _usage_of(path: Path, machine: Machine) -> Usage | None:
    """Return the bytes of the file system that has the path, or will have it."""
    for each in (path, *path.parents):
        try:
            return machine.usage(each)
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None


def _and(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


Check = Callable[[], CheckResult[bool]]


def machine_checks(
    context: DoctorContext, machine: Machine, health: Health | None, api: LabelStudioAPI | None
) -> dict[str, Check]:
    """Return the checks by their names, of the machines that answer."""
    checks: dict[str, Check] = {}
    if health is not None and health.kernels is not None:
        checks["kernels"] = partial(kernels, health, machine)
    if health is not None:
        checks["address"] = partial(address, context, machine)
    if health is not None or api is not None:
        checks["clock"] = partial(clock, context, health, api)
    checks["disk"] = partial(disk, context, machine)
    return checks
