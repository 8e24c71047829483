"""Label Studio, the service and a browser, each real and started once."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bucket import Bucket, bucket_running
from tests.support.demo_cases import Demo, load_cases
from tests.support.label_studio import LabelStudio, label_studio_running
from tests.support.paths import ROOT
from tests.support.picture_server import picture_server
from tests.support.service import service_running

ARTIFACTS = ROOT / "artifacts/e2e"
LOG = logging.getLogger("e2e")
logging.getLogger("httpx").setLevel(logging.WARNING)  # a line per request hides the progress


@pytest.fixture(scope="session")
def demo() -> Demo:
    return Demo(load_cases())


@pytest.fixture(scope="session")
def artifacts() -> Path:
    """Screenshots and the servers' logs; git does not see them."""
    shutil.rmtree(ARTIFACTS, ignore_errors=True)
    ARTIFACTS.mkdir(parents=True)
    return ARTIFACTS


@pytest.fixture(scope="session")
def pictures(demo: Demo) -> Iterator[str]:
    """Address of a web server that has the demo pictures and asks for no token."""
    with picture_server(demo.cases[0].image.parent) as url:
        yield url


@pytest.fixture(scope="session")
def bucket(artifacts: Path) -> Iterator[Bucket]:
    with bucket_running(artifacts / "bucket.log") as running:
        yield running


@pytest.fixture(scope="session")
def label_studio(
    tmp_path_factory: pytest.TempPathFactory, artifacts: Path, demo: Demo
) -> Iterator[LabelStudio]:
    LOG.info("Label Studio starts with a copy of an empty database: some seconds.")
    folder = tmp_path_factory.mktemp("label-studio")
    local_files = demo.cases[0].image.parent.parent
    with label_studio_running(folder, artifacts / "label-studio.log", local_files) as running:
        LOG.info("Label Studio is up.")
        yield running


@pytest.fixture(scope="session")
def service(
    label_studio: LabelStudio,
    pictures: str,
    bucket: Bucket,
    tmp_path_factory: pytest.TempPathFactory,
    artifacts: Path,
) -> Iterator[str]:
    """Address of the service, which has the token that Label Studio gives by default."""
    LOG.info("The service starts: `serve run`, about half a minute.")
    environment = {
        "LABEL_STUDIO_HOST": label_studio.url,
        "LABEL_STUDIO_ACCESS_TOKEN": label_studio.personal_token,
        "ALLOWED_IMAGE_HOSTS": ",".join(
            url.removeprefix("http://") for url in (pictures, bucket.endpoint)
        ),
    }
    folder = tmp_path_factory.mktemp("service")
    with service_running(environment, folder, artifacts / "service.log") as url:
        LOG.info("The service is up.")
        yield url
