"""The soak finds services that leak or become slower."""

from __future__ import annotations

import pytest

from tests.support.soak import LEAST_WINDOWS, MIB, WINDOW_S, Figures, soak

WINDOWS = 3 * LEAST_WINDOWS


def sound(times: list[float], yardsticks: list[float] | None = None) -> Figures:
    """Figures of a service whose requests took these seconds, and the yardstick, in each
    window.
    """
    yardsticks = yardsticks or [0.02] * len(times)
    figures = Figures(began=0, rss=[{"Detector": 100 * MIB}] * 40, requests=1)
    figures.seconds = [
        (window * WINDOW_S + i, *both)
        for window, both in enumerate(zip(times, yardsticks, strict=True))
        for i in range(10)
    ]
    return figures


def test_a_sound_service_passes() -> None:
    assert sound([0.1] * WINDOWS).faults() == []


def test_memory_that_grows_is_found() -> None:
    figures = sound([0.1] * WINDOWS)
    figures.rss = [{"Detector": 100 * MIB + sample * MIB // 10} for sample in range(40)]
    assert figures.faults() == ["Detector grew by 3.0%"]


def test_a_replica_that_died_is_found() -> None:
    figures = sound([0.1] * WINDOWS)
    figures.rss = [{"Detector (1)": MIB}] * 20 + [{"Detector (2)": MIB}] * 20
    assert figures.faults() == ["Detector (1) did not live to the end"]


def test_objects_that_stay_are_found() -> None:
    figures = sound([0.1] * WINDOWS)
    figures.objects = (2, 5)
    assert figures.faults() == ["3 objects stay in Ray's store"]


def test_a_service_that_becomes_slower_is_found() -> None:
    figures = sound([0.1 + 0.002 * window for window in range(WINDOWS)])
    assert figures.faults() == ["requests became slower by 37% than the machine"]


def test_a_machine_that_becomes_slower_is_not_the_service_s_fault() -> None:
    slower = [0.1 + 0.002 * window for window in range(WINDOWS)]
    assert sound(slower, [0.2 * each for each in slower]).faults() == []
    assert sound([0.1] * WINDOWS, slower[::-1]).faults() != []


def test_a_busy_minute_of_the_machine_is_no_drift() -> None:
    assert sound([0.1] * (WINDOWS - 3) + [0.5] * 3).faults() == []


def test_a_short_try_does_not_judge_times() -> None:
    assert sound([0.1, 0.2, 0.3]).faults() == []


@pytest.mark.parametrize(
    ("import_path", "leaks"),
    [
        ("tests.support.pixel_app:build_leaking_app", True),
        ("tests.support.pixel_app:build_app", False),
    ],
)
def test_a_detector_that_keeps_every_picture_is_found(import_path: str, leaks: bool) -> None:
    figures = soak(0.5, import_path)
    assert any(fault.startswith("Detector") for fault in figures.faults()) is leaks
    assert figures.requests > 50
