"""Each command that the pages show is run by a test, and its options exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import yaml

from docs.generators.cli_reference import commands, is_option, parameters
from prelabel import errors
from prelabel.settings import AppSettings
from prelabel.settings.fields import iterate_settings
from tests.support.paths import ROOT, repository_files

PAGES = sorted(
    path
    for path in repository_files("*.md")
    if path.startswith(("docs/", "training/", "deploy/", "models/"))
    or path in ("README.md", "CONTRIBUTING.md")
)
COMMANDS = commands()
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

# Where each command of the pages is run: what it contains, a file, and the words in the file that
# run it. The longest that fits counts, of both lists. A new command needs a test, and a line here.
RUN_BY = {
    "make serve": ("tests/support/service.py", '"make", "serve"'),
    # `make image-test` builds the image of the compose file and starts its command as compose does.
    "docker compose up --build": ("deploy/image_test.sh", "build prelabel ."),
    "prelabel prelabel connect": ("tests/e2e/test_doctor.py", '"connect", "--project"'),
    "prelabel prelabel doctor": ("tests/e2e/test_doctor.py", '"doctor", "--project"'),
    ".venv/bin/prelabel predict examples/demo/garden.jpg": (
        "tests/serve/test_examples.py",
        '"predict", DEMO / case["image"]',
    ),
    "prelabel predict": ("tests/unit/cli/test_predict.py", 'prelabel("predict", photos'),
    "source <(prelabel completion": ("tests/unit/cli/test_manners.py", "completion"),
    ".venv/bin/prelabel connect": ("tests/e2e/test_doctor.py", '"connect", "--project"'),
    ".venv/bin/prelabel doctor": ("tests/e2e/test_doctor.py", '"doctor", "--project"'),
    ".venv/bin/prelabel models": ("tests/unit/cli/test_main.py", 'prelabel("models"'),
    ".venv/bin/prelabel download": ("tests/unit/checkpoints/test_download.py", '"download"'),
    ".venv/bin/prelabel calibrate": ("tests/unit/cli/test_main.py", 'prelabel("calibrate"'),
    "label-studio start": ("prelabel/cli/demo/label_studio.py", '"start"'),
    "make demo": ("tests/support/running_demo.py", '"make", "demo"'),
    "docker compose --profile demo up --build": (
        "tests/e2e/test_demo.py",
        'compose["services"]["demo"]["command"]',
    ),
    ". .demo/environment": ("tests/e2e/test_demo.py", "demo.folder / 'environment'"),
    "prelabel demo": ("tests/e2e/test_demo.py", "[PRELABEL, *("),
    "export LABEL_STUDIO_HOST": ("tests/e2e/conftest.py", "LABEL_STUDIO_HOST"),
    "export LABEL_STUDIO_ACCESS_TOKEN": ("tests/e2e/conftest.py", "LABEL_STUDIO_ACCESS_TOKEN"),
    "prelabel annotate --project": (
        "tests/unit/cli/test_annotate.py",
        '[PRELABEL, "annotate", "--project"',
    ),
    "prelabel annotate --input s3://": ("tests/e2e/test_annotate_input.py", '"--ray"'),
    "prelabel annotate --input": ("tests/unit/cli/test_annotate_input.py", '("--input", photos'),
    "prelabel evaluate": ("tests/e2e/test_evaluate_project.py", 'run("--advise", "--apply"'),
    "prelabel review": ("tests/e2e/test_review_order.py", 'run("review", "--apply")'),
    "prelabel preflight": ("tests/unit/net/test_tls.py", '[PRELABEL, "preflight"'),
    "pip wheel": ("tests/serve/test_wheel.py", '"wheel"'),
    "pip install dist/": ("tests/serve/test_wheel.py", '"install", "--no-deps"'),
    "curl -s http://localhost:9090/predict": ("tests/repo/test_docs_api.py", "curl"),
    "kubectl apply -k": ("tests/repo/test_kubernetes.py", '"kustomize", str(FOLDER / name)'),
    "make test": (".ci/run", "make test"),
    "make lint": (".ci/run", "make lint"),
    "make e2e": (".ci/run", "make e2e"),
    "make docs-site": (".ci/run", "make docs-site"),
    "make docs": ("tests/repo/test_docs.py", "docs.generators.pages"),
}
# Commands that no test runs, with the reason.
NOT_RUN = {
    "docker compose": "needs Docker; tests/repo/test_container_files.py checks the file's services",
    "docker build": "needs Docker; `make image-test` builds the image by hand",
    "make image-test": "takes 20 minutes and root; part of `make nightly`",
    "make train-": "takes hours; tests/training runs its parts by the recipe `tiny`",
    "make measure-": "takes minutes to an hour; tests/training runs its parts on few scenes",
    "make test-cluster": "takes half an hour; part of `make nightly`",
    "make test-fresh": "takes minutes and a new installation; part of `make nightly`",
    "make soak": "takes half an hour; part of `make nightly`",
    "make format": "changes the code; `make lint` runs the same rules",
    "make docs-pictures": "takes Label Studio and a browser; tests compare what the pictures show",
    "helm ": "needs a Kubernetes cluster",
    "kubectl ": "needs a Kubernetes cluster",
    "password=$(openssl": "a variable for the next command",
    'curl -u "label-studio:': "needs a Kubernetes cluster",
}


@dataclass(frozen=True)
class Shown:
    """A command as a page shows it, in one line."""

    page: str
    text: str


def shown(page: str) -> Iterator[Shown]:
    """Yield the commands in the shell blocks of a page, without comments and here-documents."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for block in re.findall(r"^ *```sh\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
        block = re.sub(r"<<'(\w+)'\n.*?^\1$", "", block, flags=re.MULTILINE | re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines():
            command = " ".join(re.sub(r"(^|\s)# .*", "", line).split())
            if command:
                yield Shown(page, command)


def mentioned(page: str) -> Iterator[Shown]:
    """Yield the commands in shell blocks, and the `prelabel` and `make` commands in sentences."""
    yield from shown(page)
    text = re.sub(r"^ *```.*?^ *```", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    for code in re.findall(r"`((?:\.venv/bin/)?(?:prelabel|make) [^`]+)`", text):
        yield Shown(page, " ".join(code.split()))


SHOWN = [each for page in PAGES for each in shown(page)]
MENTIONED = [each for page in PAGES for each in mentioned(page)]


def test_the_pages_show_commands() -> None:
    assert len(SHOWN) > 60
    assert len(MENTIONED) > len(SHOWN) + 30


def key_of(command: Shown) -> str:
    """Return the longest key of both lists that the command contains; empty if there is none."""
    return max((key for key in (*RUN_BY, *NOT_RUN) if key in command.text), key=len, default="")


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_run_by_a_test_or_says_why_it_is_not(page: str) -> None:
    for each in shown(page):
        key = key_of(each)
        assert key, f"{page}: no test runs {each.text!r}"
        if key in RUN_BY:
            path, evidence = RUN_BY[key]
            assert evidence in (ROOT / path).read_text(), f"{path} does not run {each.text}"


def test_every_line_of_the_lists_is_about_a_command() -> None:
    assert {*RUN_BY, *NOT_RUN} - {key_of(each) for each in SHOWN} == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_option_of_a_prelabel_command_exists(page: str) -> None:
    for each in mentioned(page):
        _, _, tail = each.text.rpartition("prelabel ")
        words = shlex.split(tail.replace("...", " ")) if "prelabel " in each.text else []
        if not words or each.text.startswith(("docker build", "docker run", "kubectl", "helm")):
            continue
        name = f"prelabel {words[0]}"
        if words[0].isupper() or words[0].startswith("-"):
            continue
        assert name in COMMANDS, f"{page}: there is no command {name!r}: {each.text}"
        known = {
            option
            for parameter in parameters(COMMANDS[name])
            if is_option(parameter)
            for option in (*parameter.opts, *parameter.secondary_opts)
        }
        used = {word.partition("=")[0] for word in words[1:] if word.startswith("--")}
        assert used <= known | {"--help"}, f"{page}: {each.text}"


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_exists(page: str) -> None:
    for each in mentioned(page):
        target = re.match(r"(?:sudo )?make ([a-z][a-z0-9-]*)", each.text)
        if target:
            assert target[1] in TARGETS, f"{page}: {each.text}"


@pytest.mark.parametrize("page", PAGES)
def test_every_service_and_profile_of_compose_exists(page: str) -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    profiles = {name for each in services.values() for name in each.get("profiles", [])}
    for each in shown(page):
        if "docker compose" not in each.text:
            continue
        wanted = re.findall(r"--profile (\S+)", each.text)
        assert set(wanted) <= profiles, f"{page}: {each.text}"
        named = re.findall(r"(?:exec|run --rm) (\S+) ", each.text)
        _, _, started = each.text.partition(" up ")
        named += [word for word in started.split() if not word.startswith("-")]
        assert set(named) <= services.keys(), f"{page}: {each.text}"


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_kubectl_applies_exists(page: str) -> None:
    for each in mentioned(page):
        for path in re.findall(r"kubectl apply -[kf] (\S+)", each.text):
            assert (ROOT / path).exists(), f"{page}: {each.text}"


def test_every_setting_that_a_page_names_exists() -> None:
    paths = {setting.path for setting in iterate_settings(AppSettings())}
    groups = {path.partition(".")[0] for path in paths if "." in path}
    name = re.compile(rf"`((?:{'|'.join(sorted(groups))})\.[a-z_]+)(?::[^`]*)?`")
    named = [(page, match) for page in PAGES for match in name.findall((ROOT / page).read_text())]
    assert len(named) > 50
    files = {"model.safetensors", "model.py"}
    assert [each for each in named if each[1] not in paths | files] == []


def test_every_error_that_a_page_names_exists() -> None:
    """In the guides of users and operators, in backticks."""
    named = {
        (page, name)
        for page in PAGES
        if page.startswith(("docs/user", "docs/operator"))
        for name in re.findall(r"`(\w+Error)`", (ROOT / page).read_text())
    }
    assert len(named) > 8
    of_kubernetes = "CreateContainerConfigError"
    assert {name for _, name in named if not hasattr(errors, name)} == {of_kubernetes}
