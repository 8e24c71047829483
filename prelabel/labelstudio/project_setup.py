"""Label Studio's REST API for new projects: creates them and imports their pictures."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, JsonValue, TypeAdapter

from prelabel.errors import LabelStudioError
from prelabel.labelstudio.data_manager import DataManagerAPI
from prelabel.labelstudio.http import UploadedFile
from prelabel.labelstudio.rest import Identified, Project, Resource, StoredTask

_MOST_PROJECTS = 1000


class _Projects(Resource):
    results: list[Project]


class _Imported(Resource):
    task_count: int


class _Task(Identified):
    data: dict[str, JsonValue]


class _Page(Resource):
    tasks: list[_Task]


class _Column(Resource):
    id: str
    target: str
    parent: str | None = None
    visibility_defaults: dict[str, bool] = Field(default_factory=dict)

    @property
    def path(self) -> str:
        """Its name in a tab, such as tasks:data.image."""
        within = f"{self.parent}." if self.parent else ""
        return f"{self.target}:{within}{self.id}"


class _Columns(Resource):
    columns: list[_Column]


class ProjectSetupAPI(DataManagerAPI):
    """The part of the API for new projects. Its methods raise what `LabelStudioAPI` says."""

    def project_titled(self, title: str) -> Project | None:
        """Return the oldest project of that title that the token's user sees; None without one."""
        path = f"/api/projects/?page_size={_MOST_PROJECTS}"
        response = self._require_success(self._request("GET", path), "list the projects")
        projects = self._parse(TypeAdapter(_Projects), response).results
        same = [project for project in projects if project.title == title]
        return min(same, key=lambda project: project.id, default=None)

    def create_project(
        self, title: str, config: str, description: str, *, shows_predictions: bool
    ) -> Project:
        """Create a project and return it.

        Args:
            title: Its title.
            config: Its labeling config (XML).
            description: Its description.
            shows_predictions: Tasks that are opened show the boxes of the project's labels.
        """
        body: dict[str, JsonValue] = {
            "title": title,
            "label_config": config,
            "description": description,
            "show_collab_predictions": shows_predictions,
        }
        response = self._request("POST", "/api/projects/", body)
        response = self._require_success(response, f"create the project {title}")
        return self._parse(TypeAdapter(Project), response)

    def import_pictures(self, project: int, pictures: Sequence[UploadedFile]) -> None:
        """Upload pictures as a drag into the page does: each becomes a task, in this order."""
        response = self._request("POST", f"/api/projects/{project}/import", files=pictures)
        response = self._require_success(response, f"import pictures into project {project}")
        count = self._parse(TypeAdapter(_Imported), response).task_count
        if count != len(pictures):
            raise LabelStudioError(
                f"Label Studio made {count} tasks of {len(pictures)} pictures. Its log says more."
            )

    def ensure_tab(self, project: int) -> None:
        """Give the project's Data Manager the tab that its page would make, if it has none yet.

        Without one, the page of a task makes the tab itself. It then loads the task and the list of
        tasks, which has no predictions, at the same time, and shows a task without its prediction
        if the list comes last.
        """
        response = self._request("GET", f"/api/dm/views/?project={project}")
        response = self._require_success(response, f"list the tabs of project {project}")
        if self._parse(TypeAdapter(list[Identified]), response):
            return
        response = self._request("GET", f"/api/dm/columns?project={project}")
        response = self._require_success(response, f"list the columns of project {project}")
        columns = self._parse(TypeAdapter(_Columns), response).columns
        # Each column that is not named here is shown.
        hidden: dict[str, JsonValue] = {
            mode: [each.path for each in columns if not each.visibility_defaults.get(mode, True)]
            for mode in ("explore", "labeling")
        }
        tab: dict[str, JsonValue] = {"title": "Default", "hiddenColumns": hidden}
        body: dict[str, JsonValue] = {"project": project, "data": tab}
        response = self._request("POST", "/api/dm/views/", body)
        self._require_success(response, f"add a tab to project {project}")

    def first_task(self, project: int) -> StoredTask | None:
        """Return the task with the lowest id; None if the project has no tasks."""
        tasks = self._task_page(TypeAdapter(_Page), project, [], count=1).tasks
        return next((StoredTask(t.id, {"id": t.id, "data": t.data}) for t in tasks), None)

    def retrieve_predictions(self, project: int) -> None:
        """Let Label Studio ask the connected backend for the predictions that tasks lack."""
        path = f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}"
        body: dict[str, JsonValue] = {"selectedItems": {"all": True, "excluded": []}}
        response = self._request("POST", path, body)
        self._require_success(response, f"retrieve predictions of project {project}")
