"""A real Label Studio: its start, and the calls of its API that the tests need."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from prelabel.cli.demo.account import Account
from prelabel.cli.demo.label_studio import command, copy_empty_database, variables
from tests.support.paths import ROOT
from tests.support.processes import free_port, running

USER = "annotator@example.com"
PASSWORD = "only-for-this-test"
LEGACY_TOKEN = "0123456789abcdef0123456789abcdef01234567"
ACCOUNT = Account(user=USER, password=SecretStr(PASSWORD), token=SecretStr(LEGACY_TOKEN))
PROGRAM = ROOT / ".venv-labelstudio/bin/label-studio"

# An answer of its API. The tests look at single keys only.
Json = dict[str, Any]


@dataclass(frozen=True)
class LabelStudio:
    """url: its address; personal_token: what its account page calls a personal access token;
    api: a client that is logged in."""

    url: str
    personal_token: str
    api: httpx.Client

    def create_project(self, title: str, config: str, **options: object) -> int:
        """Create a project and return its number. It has a tab, as after its page was open.

        Without a tab, the page of a task does not always show the task's prediction.
        """
        body = {"title": title, "label_config": config, **options}
        project = int(self._post("/api/projects", json=body)["id"])
        self.add_tab(project, "and")
        return project

    def connect(self, project: int, backend: str) -> int:
        """Connect the backend, interactive; its id."""
        body = {"project": project, "url": backend, "title": "prelabel", "is_interactive": True}
        return int(self._post("/api/ml", json=body)["id"])

    def backends(self, project: int) -> list[Json]:
        answer: list[Json] = self._get("/api/ml/", {"project": project})
        return answer

    def webhooks(self, project: int) -> list[Json]:
        answer: list[Json] = self._get("/api/webhooks/", {"project": project})
        return answer

    def revoked_token(self, user: str) -> str:
        """A personal access token of a user who signs up now; it was good a moment ago."""
        with httpx.Client(base_url=self.url, timeout=120, trust_env=False) as browser:
            browser.get("/user/signup/")
            csrf = browser.cookies["csrftoken"]
            form = {"email": user, "password": PASSWORD, "csrfmiddlewaretoken": csrf}
            signed_up = browser.post("/user/signup/", data=form)
            assert signed_up.is_redirect, signed_up.text
            token = str(browser.post("/api/token/").json()["token"])
            assert browser.post("/api/token/refresh/", json={"refresh": token}).is_success
            assert browser.post("/api/token/blacklist/", json={"refresh": token}).is_success
        return token

    @contextmanager
    def without_legacy_tokens(self) -> Iterator[None]:
        """The switch of the Organization page, off until the block ends."""
        self._set_legacy_tokens(False)
        try:
            yield
        finally:
            self._set_legacy_tokens(True)

    def _set_legacy_tokens(self, enabled: bool) -> None:
        """Asked with the personal token, which works either way."""
        with httpx.Client(base_url=self.url, timeout=120, trust_env=False) as api:
            refresh = {"refresh": self.personal_token}
            access = api.post("/api/token/refresh/", json=refresh).json()["access"]
            settings = {"api_tokens_enabled": True, "legacy_api_tokens_enabled": enabled}
            headers = {"Authorization": f"Bearer {access}"}
            assert api.post("/api/jwt/settings", json=settings, headers=headers).is_success

    def upload(self, project: int, pictures: Sequence[tuple[str, Path]]) -> None:
        """Import pictures as a drag into the page does: (file name, where it is) each."""
        files = [
            (name, (name, path.read_bytes(), mimetypes.guess_type(path)[0]))
            for name, path in pictures
        ]
        answer = self._post(f"/api/projects/{project}/import", files=files)
        assert answer["task_count"] == len(pictures), answer

    def import_tasks(self, project: int, images: Sequence[str]) -> None:
        """Import tasks by the addresses of their pictures."""
        tasks = [{"image": image} for image in images]
        self._post(f"/api/projects/{project}/import", json=tasks)

    def serve_local_files(self, project: int, folder: Path) -> None:
        """Let `/data/local-files/?d=` reach pictures in the folder."""
        body = {"project": project, "path": str(folder), "use_blob_urls": True}
        self._post("/api/storages/localfiles", json=body)

    def sync_bucket(self, project: int, endpoint: str, bucket: str) -> None:
        """Make a task of each picture in the bucket; tasks hold s3:// addresses."""
        storage = self._post(
            "/api/storages/s3/",
            json={
                "project": project,
                "bucket": bucket,
                "s3_endpoint": endpoint,
                "region_name": "us-east-1",
                "aws_access_key_id": "any",
                "aws_secret_access_key": "any",
                "use_blob_urls": True,
                "presign": True,
                "regex_filter": ".*",
            },
        )
        self._post(f"/api/storages/s3/{storage['id']}/sync")

    def tasks(self, project: int) -> list[Json]:
        query = {"project": project, "page_size": 1000, "fields": "all"}
        tasks: list[Json] = self._get("/api/tasks", query)["tasks"]
        return sorted(tasks, key=lambda task: int(task["id"]))

    def next_task(self, project: int) -> int:
        """Return the task that "Label All Tasks" shows first."""
        return int(self._get(f"/api/projects/{project}/next", {})["id"])

    def add_tab(self, project: int, conjunction: str, *filters: Json) -> int:
        """Add a tab to the Data Manager; return its id."""
        data = {"title": "Tab", "filters": {"conjunction": conjunction, "items": list(filters)}}
        return int(self._post("/api/dm/views/", json={"project": project, "data": data})["id"])

    def retrieve_predictions(self, project: int) -> Json:
        """Send the Data Manager's "Retrieve Predictions" for all tasks."""
        answer: Json = self._post(
            f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}",
            json={"ordering": [], "selectedItems": {"all": True, "excluded": []}},
        )
        return answer

    def predictions(self, project: int) -> list[Json]:
        answer: list[Json] = self._get("/api/predictions", {"project": project})
        return answer

    def import_predictions(self, project: int, tasks: Iterable[int], version: str) -> None:
        """Store an empty prediction of each task."""
        sent = [{"task": task, "result": [], "model_version": version} for task in tasks]
        answer = self._post(f"/api/projects/{project}/import/predictions", json=sent)
        assert answer["created"] == len(sent), answer

    def show_predictions_of(self, project: int, version: str) -> None:
        """Choose the model version whose predictions annotators see."""
        answer = self.api.patch(f"/api/projects/{project}/", json={"model_version": version})
        assert answer.is_success, answer.text

    def shown_version(self, project: int) -> str:
        """The model version whose predictions annotators see."""
        return str(self._get(f"/api/projects/{project}/", {})["model_version"])

    def predict(self, task: int, result: Sequence[Json], version: str) -> int:
        """Store a prediction; its id."""
        body = {"task": task, "result": list(result), "score": 0.5, "model_version": version}
        return int(self._post("/api/predictions/", json=body)["id"])

    def annotate(self, task: int, result: Sequence[Json], **more: object) -> None:
        """Submit an annotation of a task."""
        self._post(f"/api/tasks/{task}/annotations/", json={"result": list(result), **more})

    def config(self, project: int) -> str:
        """The project's labeling config."""
        return str(self._get(f"/api/projects/{project}/", {})["label_config"])

    def annotations(self, task: int) -> list[Json]:
        answer: list[Json] = self._get(f"/api/tasks/{task}/annotations", {})
        return answer

    def _get(self, path: str, query: Json) -> Any:
        response = self.api.get(path, params=query)
        assert response.is_success, response.text
        return response.json()

    def _post(self, path: str, **content: Any) -> Any:
        response = self.api.post(path, **content)
        assert response.is_success, response.text
        return response.json()


@contextmanager
def label_studio_running(
    folder: Path, log: Path, local_files: Path, **switches: str
) -> Iterator[LabelStudio]:
    """A fresh Label Studio that keeps everything in `folder`; switches: besides the usual ones."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {
        **variables(folder, ACCOUNT),
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "false",
        "LOCAL_FILES_SERVING_ENABLED": "true",
        "LOCAL_FILES_DOCUMENT_ROOT": str(local_files),
        **switches,
    }
    copy_empty_database(PROGRAM, folder)
    with running(command(PROGRAM, port), environment, log, f"{url}/health"):
        headers = {"Authorization": f"Token {LEGACY_TOKEN}"}
        with httpx.Client(base_url=url, headers=headers, timeout=120, trust_env=False) as api:
            token = api.post("/api/token/").json()["token"]
            yield LabelStudio(url, token, api)
