"""Hostile picture files are refused with a sentence, in bounded memory and processor time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from prelabel.settings.paths import PROJECT_ROOT
from tests.support.hostile_images import ALL, BAD, BOMBS, CUT, MASKED, READ

pytestmark = pytest.mark.slow

# The largest picture that is read here has 4 million pixels: 12 MB, and some times that in copies.
MOST_MIB = 120
MOST_SECONDS = 5.0  # of work, not of waiting


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, Any]]:
    run = subprocess.run(
        [sys.executable, "-m", "tests.support.hostile_images"],
        cwd=PROJECT_ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    return {line["name"]: line for line in lines}


def test_there_are_enough_of_them() -> None:
    assert len(ALL) >= 60
    assert len(ALL) == len(BOMBS) + len(READ) + len(BAD) + len(CUT) + len(MASKED)


@pytest.mark.parametrize("name", ALL)
def test_no_file_takes_more_memory_or_time_than_a_picture_does(
    name: str, outcomes: dict[str, dict[str, Any]]
) -> None:
    assert outcomes[name]["grown_mib"] < MOST_MIB
    assert outcomes[name]["seconds"] < MOST_SECONDS


@pytest.mark.parametrize("name", ALL)
def test_a_reduced_picture_is_read_or_refused_like_the_whole_one(
    name: str, outcomes: dict[str, dict[str, Any]]
) -> None:
    outcome = outcomes[name]
    whole = {key: outcome[key] for key in ("size", "sentence") if key in outcome}
    assert outcome["reduced"] == whole


@pytest.mark.parametrize("name", [*BOMBS, *BAD, *CUT, *MASKED])
def test_what_is_no_whole_picture_is_refused_with_a_sentence(
    name: str, outcomes: dict[str, dict[str, Any]]
) -> None:
    sentence = outcomes[name].get("sentence", "")
    assert sentence.endswith("."), outcomes[name]
    assert len(sentence) < 300
    assert (BOMBS[name][1] if name in BOMBS else "") in sentence
    assert not any(word in sentence for word in ("Traceback", "PIL", "<_io", "/etc/", "script"))


@pytest.mark.parametrize("name", READ)
def test_odd_but_whole_pictures_are_read(name: str, outcomes: dict[str, dict[str, Any]]) -> None:
    assert tuple(outcomes[name].get("size", ())) == READ[name][1], outcomes[name]
