"""Checks of the config, the README and the Makefile."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from subprocess import CompletedProcess

import yaml
from ray.serve.schema import ServeDeploySchema

from deployments.placement import place_detector
from prelabel.settings import AppSettings
from tests.support.paths import ROOT
from tests.support.ray_nodes import node

CONFIG = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
TRACKED = subprocess.run(
    ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
).stdout.splitlines()


def test_serve_accepts_the_shipped_config() -> None:
    schema = ServeDeploySchema.model_validate(CONFIG)
    AppSettings.model_validate(schema.applications[0].args)


def test_all_deployments_fit_a_laptop_of_two_cores() -> None:
    detector = place_detector("auto", [node(2)]).options
    shares = {
        deployment["name"]: deployment.get("ray_actor_options", detector)["num_cpus"]
        * deployment.get("autoscaling_config", {}).get("min_replicas", 1)
        for deployment in CONFIG["applications"][0]["deployments"]
    }
    assert sum(shares.values()) <= 2


def test_every_option_is_explained_where_it_stands_first() -> None:
    explained: dict[str, bool] = {}
    for line in (ROOT / "serve_config.yaml").read_text().splitlines():
        option = re.match(r" *(?:- )?(\w+): [^#{]", line)
        if option:
            explained.setdefault(option[1], "#" in line)
    assert len(explained) > 20
    assert [option for option, comment in explained.items() if not comment] == ["name"]


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text()
    assert text.count("\n") < 150
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert link.startswith("http") or (ROOT / link).exists(), link


def test_requirements_are_hashed_and_name_no_index() -> None:
    locks = sorted((ROOT / "requirements").glob("*.txt"))
    assert {lock.stem for lock in locks} >= {"build", "serve", "test"}
    for lock in locks:
        text = lock.read_text()
        pins = re.findall(r"^\S+==\S+", text, re.MULTILINE)
        assert pins
        assert len(re.findall(r"^\S+==.*\\\n +--hash=sha256:", text, re.MULTILINE)) == len(pins)
        assert not re.search(r"https?://|^-", text, re.MULTILINE)


def test_the_environment_is_read_in_the_settings_alone() -> None:
    readers = [
        path
        for path in TRACKED
        if path.endswith(".py")
        and not path.startswith(("tests/", "deploy/", "docs/", "benchmarks/"))
        and re.search(r"os\.(environ|getenv)", (ROOT / path).read_text())
    ]
    # The others write what Ray's processes inherit, and what OpenMP reads.
    names = ("environment", "ray_environment", "openmp")
    allowed = {f"prelabel/settings/{name}.py" for name in names}
    assert set(readers) <= allowed


def make(target: str, *variables: str, cwd: Path = ROOT) -> CompletedProcess[str]:
    return subprocess.run(
        ["make", target, *variables], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_make_help_lists_every_public_target() -> None:
    text = make("help").stdout
    for target in ("serve", "test", "lint", "e2e", "lock", "help"):
        assert re.search(rf"^{target} ", text, re.MULTILINE), target


def test_a_python_that_does_not_fit_is_named(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(
        f"#!/bin/sh\nexec {sys.executable} -c 'import sys\nsys.version_info = (3, 9)\n'\"$2\"\n"
    )
    python.chmod(0o755)
    (tmp_path / "deploy").mkdir()
    for name in ("Makefile", "deploy/ray.env"):
        shutil.copy(ROOT / name, tmp_path / name)
    done = make(".venv/bin/python", f"PYTHON={python}", cwd=tmp_path)
    assert done.returncode != 0
    assert "needs Python 3.11 or 3.12" in done.stderr
