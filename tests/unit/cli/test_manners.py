"""The command as a user meets it in a shell: help, exit statuses, pipes, JSON, completion."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from prelabel.checkpoints.cards import list_cards, list_segmenter_cards
from prelabel.cli.exit_status import MEANINGS, OUTPUT_CLOSED
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
VARIABLES = {"PATH": f"{BIN}:{os.defpath}", "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}


def shell(script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a real bash, with this environment's `prelabel` on its path."""
    return subprocess.run(
        ["bash", "-c", script],
        env=VARIABLES | variables,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def in_terminal(command: str, columns: int, **variables: str) -> str:
    """Return what a terminal of that width shows."""
    if shutil.which("script") is None:
        pytest.skip("script(1) is missing")
    inside = f"stty cols {columns} rows 50; {command}"
    done = shell(f"script -qec '{inside}' /dev/null < /dev/null", **variables)
    return done.stdout


def test_the_bare_command_says_what_to_do_first() -> None:
    done = shell("prelabel")
    assert (done.returncode, done.stderr) == (0, "")
    assert "prelabel serve " in done.stdout
    assert "prelabel --help" in done.stdout


@pytest.mark.parametrize(
    ("command", "status", "sentence"),
    [
        ("prelabel dokter", 2, "Did you mean 'doctor'?"),
        ("prelabel predict x.png --promt cat", 2, "--prompt"),
        ("prelabel download grounding-dino-tyni", 1, "Did you mean grounding-dino-tiny?"),
    ],
)
def test_a_typing_error_gets_a_suggestion(command: str, status: int, sentence: str) -> None:
    done = shell(command)
    assert (done.returncode, done.stdout) == (status, "")
    assert sentence in done.stderr


@pytest.mark.parametrize("command", ["prelabel models", "prelabel models --json"])
def test_a_closed_pipe_ends_the_command_silently(command: str) -> None:
    done = shell(f"{command} | true; echo ${{PIPESTATUS[0]}}")
    assert (done.stdout, done.stderr) == (f"{OUTPUT_CLOSED}\n", "")


@pytest.mark.parametrize("columns", [40, 80])
def test_models_fit_the_terminal(columns: int) -> None:
    shown = in_terminal("prelabel models", columns, NO_COLOR="1")
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    assert len(lines) > 18
    assert max(map(len, lines)) <= columns
    assert "…" not in shown
    assert not re.search(r"\x1b\[[0-9;]*3\d", shown), "NO_COLOR allows bold, and no colour"


def test_facts_are_json_on_the_standard_output(tmp_path: Path) -> None:
    done = shell(f"prelabel models --json --models-dir {tmp_path}")
    facts = json.loads(done.stdout)
    assert {each["name"] for each in facts["detectors"]} == {each.name for each in list_cards()}
    keys = {"name", "title", "engine", "source", "licence", "bytes", "installed", "folder"}
    for each in (*facts["detectors"], *facts["segmenters"]):
        assert each.keys() == keys
        assert each["installed"] is (each["source"] == "embedded")
    facts = json.loads(shell("prelabel preflight --json serve_config.yaml").stdout)
    assert facts["model"] == "demo"
    assert facts["port"] == 9090


def test_an_error_leaves_the_standard_output_to_json() -> None:
    done = shell("prelabel preflight --json nowhere.yaml")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("prelabel: There is no file nowhere.yaml.")


def test_bash_completes_commands_options_and_models() -> None:
    ask = """
        source <(prelabel completion bash)
        complete_words() {
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
            _prelabel_completion prelabel
            echo "${COMPREPLY[*]}"
        }
        complete_words prelabel do
        complete_words prelabel download ""
        complete_words prelabel predict --box
        complete -p prelabel
    """
    commands, models, options, registered = shell(ask).stdout.splitlines()
    assert commands.split() == ["doctor", "download"]
    known = {card.name for card in (*list_cards(), *list_segmenter_cards())}
    assert set(models.split()) == known
    assert options == "--box-threshold"
    assert "-o default" in registered, "files are completed where nothing else fits"


@pytest.mark.parametrize("name", ["zsh", "fish"])
def test_other_shells_get_a_script_of_their_own(name: str) -> None:
    done = shell(f"prelabel completion {name}")
    assert done.returncode == 0
    assert f"complete_{name}" in done.stdout
    if shutil.which(name):
        checked = subprocess.run([name, "-n"], input=done.stdout, text=True, check=False)
        assert checked.returncode == 0


def documented_statuses(page: str) -> dict[int, str]:
    rows: list[Any] = re.findall(r"^\| (\d+) \| (.+) \|$", page, re.MULTILINE)
    return {int(status): meaning for status, meaning in rows}


def test_the_page_lists_the_exit_statuses() -> None:
    page = ROOT / "docs" / "user" / "commands.md"
    assert documented_statuses(page.read_text(encoding="utf-8")) == MEANINGS
