"""Pictures that are no uploads, and both kinds of tokens."""

from __future__ import annotations

from base64 import b64encode

import pytest
from pydantic import SecretStr

from prelabel.images.fetch import FetchLimits, ImageFetcher
from prelabel.labelstudio.image_locator import ImageLocator
from tests.support.bucket import Bucket
from tests.support.demo_cases import Demo, boxes_of, found
from tests.support.label_studio import LEGACY_TOKEN, LabelStudio

LIMITS = FetchLimits(max_bytes=10_000_000, connect_timeout_s=5, total_timeout_s=30)


def test_local_files_and_web_pictures_are_annotated_side_by_side(
    label_studio: LabelStudio, service: str, pictures: str, demo: Demo
) -> None:
    case = demo.cases[0]
    project = label_studio.create_project("Sources", demo.config)
    label_studio.connect(project, service)
    label_studio.serve_local_files(project, case.image.parent)
    local_file = f"/data/local-files/?d={case.image.parent.name}/{case.image.name}"
    label_studio.import_tasks(project, [local_file, f"{pictures}/{case.image.name}"])
    label_studio.retrieve_predictions(project)
    results = [boxes_of(p["result"]) for p in label_studio.predictions(project)]
    assert len(results) == 2
    assert all(found(case.boxes, boxes) for boxes in results)
    assert results[0] == results[1]


def test_pictures_in_a_bucket_are_annotated(
    label_studio: LabelStudio, service: str, bucket: Bucket, demo: Demo
) -> None:
    case = demo.cases[0]
    address = bucket.put(case.image)
    project = label_studio.create_project("Bucket", demo.config)
    label_studio.connect(project, service)
    label_studio.sync_bucket(project, bucket.endpoint, bucket.name)
    [task] = label_studio.tasks(project)
    assert task["data"]["image"].endswith(b64encode(address.encode()).decode())  # for the page
    label_studio.retrieve_predictions(project)
    [prediction] = label_studio.predictions(project)
    assert found(case.boxes, boxes_of(prediction["result"]))


@pytest.mark.parametrize("kind", ["personal access token", "legacy token"])
def test_uploads_are_readable_with(kind: str, label_studio: LabelStudio, demo: Demo) -> None:
    case = demo.cases[0]
    project = label_studio.create_project(kind, demo.config)
    label_studio.upload(project, [(case.image.name, case.image)])
    [task] = label_studio.tasks(project)
    token = label_studio.personal_token if kind.startswith("personal") else LEGACY_TOKEN
    client = ImageLocator(
        label_studio.url,
        SecretStr(token),
        max_image_bytes=LIMITS.max_bytes,
        connect_timeout_s=LIMITS.connect_timeout_s,
        timeout_s=LIMITS.total_timeout_s,
    )
    fetcher = ImageFetcher(LIMITS, allowed_hosts=(), trusted_url=label_studio.url)
    place = client.locate(task["data"]["image"], task["id"])
    assert not isinstance(place, bytes)
    assert fetcher.fetch(place.url, place.credentials) == case.image.read_bytes()
