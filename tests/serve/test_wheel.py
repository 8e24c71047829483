"""The wheel: what it holds, and `prelabel serve` from it, without a checkout."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterator
from email.parser import HeaderParser
from pathlib import Path

import pytest
import yaml

from prelabel.playground.examples import FOLDER
from tests.support.paths import ROOT
from tests.support.processes import end_leftovers, free_port
from tests.support.ray_environment import beside_others

# Files of a checkout that a build needs.
SOURCES = (
    *("pyproject.toml", "README.md", "LICENSE", "prelabel"),
    *("serve_app.py", "serve_config.yaml", "deployments", "jobs", "deploy/ray.env"),
    "examples/demo",
    "requirements/serve.in",
)
GENERATED = shutil.ignore_patterns("__pycache__", "*.so")
START_S = 180
STOP_S = 60


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel that was built from the source distribution, as on a package index."""
    folder = tmp_path_factory.mktemp("wheel")
    checkout, dist = folder / "checkout", folder / "dist"
    for name in SOURCES:
        target = checkout / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=GENERATED)
        else:
            shutil.copy(ROOT / name, target)
    build = f"from setuptools import build_meta; build_meta.build_sdist({str(dist)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=checkout, capture_output=True, check=True)
    [source] = dist.iterdir()
    offline = ("--no-deps", "--no-index", "--no-build-isolation")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        *offline,
        "--wheel-dir",
        str(dist),
        str(source),
    ]
    subprocess.run(command, cwd=folder, capture_output=True, check=True)
    [built] = dist.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a virtual environment with the wheel installed. Its dependencies are those
    of the environment that runs the tests, but without its editable installation.
    """
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    purelib = sysconfig.get_path("purelib", vars={"base": str(folder)})
    # Python reads no .pth file, and so no editable installation, of a folder named in one.
    (Path(purelib) / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    install = ("install", "--no-deps", "--no-index", "--ignore-installed", str(wheel))
    command = [sys.executable, "-m", "pip", "--python", str(python), *install]
    subprocess.run(command, capture_output=True, check=True)
    # pip writes the script of Ray where it installs Ray.
    script = folder / "bin" / "serve"
    script.write_text(f"#!{python}\nfrom ray.serve.scripts import cli\ncli()\n")
    script.chmod(0o755)
    return folder / "bin"


@pytest.fixture
def empty_folder() -> Iterator[Path]:
    """A folder to work in, in a folder that holds this Ray's files, too."""
    # Ray's sockets want short paths.
    with tempfile.TemporaryDirectory(prefix="pre-", dir="/tmp", ignore_cleanup_errors=True) as name:
        folder = Path(name) / "work"
        folder.mkdir()
        yield folder
        assert end_leftovers("RAY_TMPDIR", name) == set()


def files_in(*roots: str) -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for root in roots
        for path in (ROOT / root).rglob("*")
        if path.is_file()
        and "__pycache__" not in path.parts
        and path.suffix not in (".so", ".c", ".h")
    }


def test_the_wheel_holds_the_package_with_the_application_in_it_and_nothing_else(
    wheel: Path,
) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith(".so")}
    application = {
        *("serve_app.py", "serve_config.yaml", "deploy/ray.env"),
        *files_in("deployments"),
        *files_in("jobs"),
        *files_in(FOLDER),
    }
    assert {name for name in names if ".dist-info/" not in name} == {
        *files_in("prelabel"),
        *(f"prelabel/application/{name}" for name in application),
    }
    assert "prelabel/checkpoints/demo/model.safetensors" in names


def test_the_wheel_requires_what_the_service_s_requirements_say(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [metadata] = (name for name in archive.namelist() if name.endswith("/METADATA"))
        fields = HeaderParser().parsestr(archive.read(metadata).decode())
    lines = (ROOT / "requirements" / "serve.in").read_text().splitlines()
    wanted = (re.sub(r"\s*#.*", "", line).replace(" ;", ";") for line in lines)
    required = fields.get_all("Requires-Dist") or []
    assert [line for line in required if "extra ==" not in line] == [
        line for line in wanted if line
    ]
    extra = {line.partition(";")[0] for line in required if 'extra == "jobs"' in line}
    assert extra == {"ray[data]==2.60.0", "pyarrow"}


def test_an_installed_wheel_has_no_global_names_and_works_in_the_working_directory(
    environment: Path, empty_folder: Path
) -> None:
    script = """
import importlib.util
from prelabel.cli.application import config_or_default
from prelabel.settings.paths import resolve_path
print([name for name in ("serve_app", "deployments", "jobs") if importlib.util.find_spec(name)])
print(config_or_default(None))
print(resolve_path("data/prompts.sqlite"))
"""
    command = [str(environment / "python"), "-c", script]
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=empty_folder, env=variables, capture_output=True, text=True, check=True
    )
    names, config, prompts = done.stdout.splitlines()
    assert names == "[]"
    assert config.endswith("/site-packages/prelabel/application/serve_config.yaml")
    assert prompts == str(empty_folder / "data" / "prompts.sqlite")


def test_prelabel_serve_serves_the_demo_from_a_wheel_in_an_empty_folder(
    environment: Path, empty_folder: Path
) -> None:
    config = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    config["http_options"]["port"] = free_port()  # 9090 may be taken on this machine
    (empty_folder / "serve_config.yaml").write_text(yaml.safe_dump(config))
    shutil.copy(ROOT / "examples" / "demo" / "garden.jpg", empty_folder)
    variables = {
        "PATH": os.defpath,
        "HOME": str(empty_folder.parent),
        "RAY_ADDRESS": "local",
        **beside_others(empty_folder.parent),
    }
    prelabel, log = environment / "prelabel", empty_folder.parent / "log"
    with log.open("wb") as output:
        service = subprocess.Popen(
            [prelabel, "serve"],
            cwd=empty_folder,
            env=variables,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{config['http_options']['port']}"
        command = [str(prelabel), "predict", "garden.jpg", "--prompt", "cat", "--url", url]
        done = subprocess.run(
            [*command, "--wait", str(START_S)],
            cwd=empty_folder,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        os.killpg(service.pid, signal.SIGTERM)
        status = service.wait(STOP_S)
    assert done.returncode == 0, done.stderr + log.read_text()[-3000:]
    prediction = json.loads((empty_folder / "garden_prelabel.json").read_text())
    assert [each["value"]["rectanglelabels"] for each in prediction["result"]] == [["cat"]]
    assert (empty_folder / "data" / "prompts.sqlite").is_file()
    assert status == 0
