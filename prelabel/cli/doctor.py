"""`prelabel doctor`: checks the path from Label Studio to the boxes, and names the repairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial

from rich.console import Console
from rich.text import Text

from prelabel.cli import doctor_checks as checks
from prelabel.cli.doctor_checks import CheckResult, DoctorContext, ValueT
from prelabel.cli.doctor_machine import Machine, machine_checks
from prelabel.cli.service_client import Health
from prelabel.cli.terminal import counted, print_json, print_line, print_paragraph
from prelabel.errors import PrelabelError
from prelabel.labelstudio.rest import LabelStudioAPI, Project
from prelabel.net.proxies import DIRECT


class Status(Enum):
    """Outcome of a check."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """Outcome of one check. The sentence of a warning or a fault ends with its repair."""

    check: str
    status: Status
    sentence: str


_STYLES = {
    Status.OK: "green",
    Status.WARNING: "yellow",
    Status.FAULT: "bold red",
    Status.SKIPPED: "dim",
}

_STATUS_WIDTH, _CHECK_WIDTH = 7, 17
_LEAST_ROOM = 30  # of a sentence beside its check
_INDENT = "  "

# A group of checks yields its findings and returns the value that later checks need; None if the
# value could not be had.
_Checks = Generator[Finding, None, ValueT | None]


def examine(context: DoctorContext, machine: Machine | None = None) -> Iterator[Finding]:
    """Run all checks in order and yield each finding as soon as its check ends.

    A check is skipped if an earlier check that it depends on has failed.

    Args:
        context: Input of all checks.
        machine: Facts about this machine; None to find them.
    """
    health = yield from _service_checks(context)
    api = yield from _label_studio_checks(context, health)
    for name, check in machine_checks(context, machine or Machine(), health, api).items():
        yield from _run(name, check)
    if context.project is not None:
        yield from _project_checks(context, context.project, health, api)


def _run(name: str, check: Callable[[], CheckResult[ValueT]] | None) -> _Checks[ValueT]:
    """Run one check; None stands for a check whose input is missing."""
    if check is None:
        yield Finding(name, Status.SKIPPED, "Not checked, because of the faults above.")
        return None
    try:
        result = check()
    except PrelabelError as error:
        yield Finding(name, Status.FAULT, str(error))
        return None
    yield Finding(name, Status.WARNING if result.is_warning else Status.OK, result.sentence)
    return result.value


def _service_checks(context: DoctorContext) -> _Checks[Health]:
    health = yield from _run("service", partial(checks.service, context))
    yield from _run("model", partial(checks.model, health) if health else None)
    yield from _run("detection", partial(checks.detection, context) if health else None)
    yield from _run("prompts", partial(checks.prompts, context) if health else None)
    variables = partial(checks.service_variables, health) if health else None
    yield from _run("service variables", variables)
    return health


def _label_studio_checks(context: DoctorContext, health: Health | None) -> _Checks[LabelStudioAPI]:
    """Check the way to Label Studio. Return its API if it accepts the token."""
    api = yield from _run("shell variables", partial(checks.shell_variables, context))
    is_open = yield from _network_checks(context, health)
    usable = api if is_open else None
    reached = yield from _run(
        "Label Studio", partial(checks.label_studio, usable) if usable else None
    )
    return (yield from _run("token", partial(checks.token, context, reached) if reached else None))


def _network_checks(context: DoctorContext, health: Health | None) -> _Checks[bool]:
    """Check proxies and additional CAs; without any, here and at the service, report nothing."""
    is_open: bool | None = True
    proxies, trust = context.environment.proxies, context.environment.trust
    network = health.network if health else None
    if proxies != DIRECT or (network and (network.http_proxy or network.https_proxy)):
        is_open = yield from _run("proxy", partial(checks.proxy, context, network))
    if trust.sources or (network and network.own_ca):
        yield from _run("certificates", partial(checks.certificates, context, network))
    return is_open


def _project_checks(
    context: DoctorContext, number: int, health: Health | None, api: LabelStudioAPI | None
) -> _Checks[Project]:
    project = yield from _run("project", partial(checks.project, api, number) if api else None)
    config = yield from _run(
        "labeling config", partial(checks.labeling_config, project) if project else None
    )
    known = (api, project) if api and project else None
    yield from _run("backend", partial(checks.backend, context, *known) if known else None)
    ready = known if health and config else None
    yield from _run("picture", partial(checks.picture, context, *ready) if ready else None)
    return project


def print_report(
    context: DoctorContext,
    console: Console,
    machine: Machine | None = None,
    *,
    json_output: bool = False,
) -> bool:
    """Run all checks and print each finding as it comes. Returns False if there are faults.

    Args:
        context: Input of all checks.
        console: Receives the findings.
        machine: Facts about this machine; None to find them.
        json_output: Print one JSON object at the end in place of it.
    """
    findings = []
    for finding in examine(context, machine):
        findings.append(finding)
        if not json_output:
            _print_finding(finding, console)
    counts = Counter(finding.status for finding in findings)
    faults, warnings = counts[Status.FAULT], counts[Status.WARNING]
    if json_output:
        listed = [
            {"check": each.check, "status": each.status.value, "sentence": each.sentence}
            for each in findings
        ]
        print_json({"faults": faults, "warnings": warnings, "findings": listed})
        return not faults
    if context.project is None:
        print_paragraph(
            "With --project N, a project and one of its pictures are checked, too.", console
        )
    found = counted(faults, "fault", "faults"), counted(warnings, "warning", "warnings")
    print_line(f"{', '.join(found)}.", console)
    return not faults


def _print_finding(finding: Finding, console: Console) -> None:
    status = Text(f"{finding.status.value:<{_STATUS_WIDTH}}", _STYLES[finding.status])
    start = Text.assemble(status, f" {finding.check:<{_CHECK_WIDTH}} ")
    if not console.is_terminal:
        console.print(start + Text(finding.sentence), soft_wrap=True)
        return
    room = console.width - start.cell_len
    if room >= _LEAST_ROOM:
        indent = start.cell_len
    else:  # the sentence stands below
        console.print(Text.assemble(status, f" {finding.check}"))
        start, indent, room = Text(_INDENT), len(_INDENT), console.width - len(_INDENT)
    for index, line in enumerate(Text(finding.sentence).wrap(console, room)):
        console.print((start if index == 0 else Text(" " * indent)) + line)
