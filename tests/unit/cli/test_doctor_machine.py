"""The checks of machines by `prelabel doctor`: kernels, addresses, clocks, disks."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from prelabel.cli.doctor_checks import DoctorContext, DoctorError
from prelabel.cli.doctor_machine import (
    Machine,
    Place,
    Usage,
    address,
    agreement,
    clock,
    disk,
    kernels,
    usual_places,
)
from prelabel.cli.service_client import Health
from prelabel.engines.kernels.library import kernels as built_kernels
from prelabel.net.clock import clock_offset_s
from prelabel.settings import Environment
from tests.support.http_server import serve
from tests.support.local_service import LocalService, running

OTHER = "127.0.0.2"  # an address of this machine that a service on 127.0.0.1 does not listen at
HEALTH: dict[str, Any] = {
    "service_version": "1",
    "model_version": "m-1",
    "model": {"name": "m", "title": "M"},
}


@pytest.fixture
def url() -> Iterator[str]:
    with running(LocalService(Environment())) as address:
        yield address


def context(url: str, **variables: str) -> DoctorContext:
    return DoctorContext(url, url, None, Environment.model_validate(variables))


# Kernels ----------------------------------------------------------------------------------------


def test_the_service_tells_whether_its_kernels_are_built(url: str) -> None:
    assert context(url).client.health().kernels is (built_kernels() is not None)


@pytest.mark.parametrize("compiler", [None, "/usr/bin/gcc"])
def test_missing_kernels_are_a_warning_with_cost_and_repair(compiler: str | None) -> None:
    machine = Machine(find_program=lambda _: compiler)
    found = kernels(Health.model_validate(HEALTH | {"kernels": False}), machine)
    assert found.is_warning
    assert "two to three times as long" in found.sentence
    assert "pip install --no-deps --no-build-isolation --editable ." in found.sentence
    assert ("apt-get install gcc" in found.sentence) is (compiler is None)


# Where the service listens ----------------------------------------------------------------------


def test_loopback_alone_is_enough_for_a_label_studio_beside_it(url: str) -> None:
    found = address(context(url, LABEL_STUDIO_HOST="http://localhost:8080"), Machine(OTHER))
    assert "on this machine's loopback only" in found.sentence
    assert "http_options.host to 0.0.0.0" in found.sentence
    assert not found.is_warning


def test_loopback_alone_is_a_fault_for_another_address_of_the_service(url: str) -> None:
    asked = replace(context(url), backend_url="http://127.0.0.2.invalid:9090")
    with pytest.raises(DoctorError, match="loopback only, so that") as raised:
        address(asked, Machine(OTHER))
    assert f"connect http://{OTHER}:" in str(raised.value)
    assert "BASIC_AUTH_USER" in str(raised.value)


def test_loopback_alone_is_a_warning_for_a_label_studio_elsewhere(url: str) -> None:
    found = address(context(url, LABEL_STUDIO_HOST="http://10.1.2.3:8080"), Machine(OTHER))
    assert found.is_warning
    assert "Label Studio is at 10.1.2.3: it gets no boxes" in found.sentence


def test_a_service_that_listens_everywhere_is_fine() -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        here = f"http://127.0.0.1:{server.getsockname()[1]}"
        found = address(context(here, LABEL_STUDIO_HOST="http://10.1.2.3"), Machine(OTHER))
    assert f"also listens at {OTHER}:" in found.sentence


def test_this_machine_s_own_address_is_found_or_there_is_no_network(url: str) -> None:
    found = address(context(url), Machine())
    assert "loopback only" in found.sentence or "no network" in found.sentence


# Clocks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead_s", [-7200, -90, 0, 90, 7200])
def test_the_date_header_tells_the_difference(ahead_s: int) -> None:
    header = formatdate(1_000_000 + ahead_s, usegmt=True)
    assert clock_offset_s(header, 1_000_000, 1_000_001) == pytest.approx(ahead_s, abs=1)


@pytest.mark.parametrize("header", [None, "", "yesterday", "Thu, 99 Foo 2026 00:00:00 GMT"])
def test_without_a_readable_header_nothing_is_known(header: str | None) -> None:
    assert clock_offset_s(header, 0, 1) is None


def test_clocks_that_agree_are_fine(url: str) -> None:
    asked = context(url)
    found = clock(asked, asked.client.health(), None)
    assert found.sentence == "The clock agrees with that of the service."


def test_a_service_whose_clock_is_off_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    # The server's own Date header is made from the clock of this process.
    with serve(lambda exchange, _: exchange.answer(200, b"{}")) as server:
        monkeypatch.setattr(
            "http.server.BaseHTTPRequestHandler.date_time_string",
            lambda *_: formatdate(1_000_000_000, usegmt=True),
        )
        asked = context(server.url)
        with pytest.raises(DoctorError, match=r"The clock of the service is \d+ days behind"):
            clock(asked, Health.model_validate(HEALTH), None)


@pytest.mark.parametrize(
    ("offset_s", "words"), [(70, "70 seconds ahead of"), (-300, "5 minutes behind")]
)
def test_a_small_difference_is_a_warning(offset_s: float, words: str) -> None:
    found = agreement({"the service": 0.4, "Label Studio": offset_s})
    assert found.is_warning
    assert f"The clock of Label Studio is {words}" in found.sentence
    assert "timedatectl set-ntp true" in found.sentence


def test_a_large_difference_is_a_fault() -> None:
    with pytest.raises(DoctorError, match="2 hours ahead of"):
        agreement({"the service": 7200.0})


def test_servers_without_a_date_are_no_fault() -> None:
    assert agreement({"the service": None}).sentence == "No server told its time."


# Disks ------------------------------------------------------------------------------------------

ANYWHERE = DoctorContext("http://10.1.2.3:9090", "http://10.1.2.3:9090", None, Environment())


def test_a_file_system_without_room_is_a_fault(tmp_path: Path) -> None:
    """On a real file system that lacks as many bytes as no machine has."""
    place = Place("models", tmp_path / "not" / "there", 10**19, "Nothing fits.")
    with pytest.raises(DoctorError, match=r"Nothing fits\. Free some, or move the folder\."):
        disk(ANYWHERE, Machine(places=(place,)))


def test_room_is_told_once_for_each_file_system(tmp_path: Path) -> None:
    places = (Place("models", tmp_path, 1, ""), Place("prompts", tmp_path / "x", 1, ""))
    sentence = disk(ANYWHERE, Machine(places=places)).sentence
    assert sentence.startswith("Free: ")
    assert sentence.endswith("for models and prompts.")


def test_slow_shared_memory_is_a_warning() -> None:
    place = Place("shared memory", Path("/dev/shm"), 10**19, "It is slow.", is_warning=True)
    assert disk(ANYWHERE, Machine(places=(place,))).is_warning


def test_a_nearly_full_disk_is_a_fault_for_ray(url: str) -> None:
    full = Usage(10**12, 96 * 10**10, 4 * 10**10)  # 40 GB are free, and these are 4 %
    [ray] = [each for each in usual_places(context(url)) if each.name == "Ray"]
    with pytest.raises(DoctorError, match="Ray refuses objects"):
        disk(context(url), Machine(places=(ray,), usage=lambda _: full))


def test_only_folders_of_this_machine_are_looked_at(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert usual_places(ANYWHERE) == ()
    monkeypatch.setenv("LABEL_STUDIO_BASE_DATA_DIR", str(tmp_path))
    here = usual_places(context(url, LABEL_STUDIO_HOST="http://localhost:8080"))
    assert [each.path for each in here if each.name == "Label Studio"] == [tmp_path]
    there = usual_places(context(url, LABEL_STUDIO_HOST="http://10.1.2.3:8080"))
    assert "Label Studio" not in {each.name for each in there}
