"""The demo's projects: created, filled with the demo pictures, connected and tried.

Projects that exist already are kept; they are recognised by their titles.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prelabel.cli.connect import connect
from prelabel.cli.demo.account import DemoError
from prelabel.cli.service_client import ServiceClient
from prelabel.labelstudio.http import UploadedFile
from prelabel.labelstudio.project_setup import ProjectSetupAPI
from prelabel.labelstudio.responses import count_boxes, count_masks
from prelabel.labelstudio.rest import BackendForm, Project, StoredTask, predict_request
from prelabel.settings.paths import application_folder
from prelabel.types import PromptRequest

_PICTURES: Final = ("*.jpg", "*.png")
# The picture that opens first shows what the texts below name.
_FIRST_PICTURE: Final = "garden.jpg"
PROMPT: Final = "frog . horse . sunflower"


@dataclass(frozen=True, slots=True)
class DemoProject:
    """A project of the demo.

    Attributes:
        title: By which it is found again.
        config: File of its labeling config, in examples/demo/configs.
        to_try: A sentence or two that say how to use it.
        prompt: Prompt of the first prediction; None looks for the labels of the config.
    """

    title: str
    config: str
    to_try: str
    prompt: str | None = None


PROJECTS: Final = (
    DemoProject(
        "Demo: typed prompts",
        "prompts.xml",
        f'Switch Auto-Annotation on, type "{PROMPT}", press Add, accept the suggestions. '
        "The model knows 140 drawings; one that is no label gets a grey box.",
        PROMPT,
    ),
    DemoProject(
        "Demo: fixed labels",
        "labels.xml",
        "Each task has the boxes of the project's labels. Open one, correct them and submit.",
    ),
    DemoProject(
        "Demo: masks and clicks",
        "masks.xml",
        "Switch Auto-Annotation on. Type a prompt; or choose the smart tool, the last one of the "
        "toolbar, press 1, and click on the horse.",
        PROMPT,
    ),
)


@dataclass(frozen=True, slots=True)
class ReadyProject:
    """A project that is connected, with the result for its first picture.

    Attributes:
        demo: Its title and texts.
        number: Its number in Label Studio.
        is_new: True if it was created now.
        address: Address of its first task for a browser.
        boxes: Number of boxes of the first picture's prediction.
        masks: Number of masks.
    """

    demo: DemoProject
    number: int
    is_new: bool
    address: str
    boxes: int
    masks: int


def set_up(
    api: ProjectSetupAPI,
    client: ServiceClient,
    form: BackendForm,
    browser_url: str,
    say: Callable[[str], None],
) -> list[ReadyProject]:
    """Create or complete the demo's projects, connect them, and ask for a prediction in each.

    Args:
        api: Label Studio.
        client: The service.
        form: The connection, with the service's address as Label Studio reaches it.
        browser_url: Label Studio's address as a browser reaches it.
        say: Shows a line of progress.

    Raises:
        PrelabelError: Label Studio or the service refuses a step. Another call continues.
    """
    ready = []
    for demo in PROJECTS:
        found = api.project_titled(demo.title)
        project = found or _create(api, demo)
        task = _first_task(api, project)
        connect(api, project.id, form)
        api.ensure_tab(project.id)
        request = predict_request(project, [task], PromptRequest(demo.prompt))
        prediction = client.predict_task(request)
        boxes, masks = count_boxes(prediction), count_masks(prediction)
        if demo.prompt is None:
            # With a stored prediction, a task shows its boxes as soon as it is opened.
            api.retrieve_predictions(project.id)
        state = "is there" if found else "created"
        say(f"{demo.title}: {state}, connected; on its first picture {_found(boxes, masks)}.")
        address = f"{browser_url}/projects/{project.id}/data?task={task.id}"
        ready.append(ReadyProject(demo, project.id, found is None, address, boxes, masks))
    return ready


def _create(api: ProjectSetupAPI, demo: DemoProject) -> Project:
    config = (_folder() / "configs" / demo.config).read_text(encoding="utf-8")
    # With a prompt, boxes that nothing was typed for would only be in the way.
    shows_predictions = demo.prompt is None
    return api.create_project(demo.title, config, demo.to_try, shows_predictions=shows_predictions)


def _first_task(api: ProjectSetupAPI, project: Project) -> StoredTask:
    """Return the project's first task, after an import of the pictures if there is none."""
    task = api.first_task(project.id)
    if task is None:
        api.import_pictures(project.id, _pictures())
        task = api.first_task(project.id)
    if task is None:
        raise DemoError(f"Label Studio made no tasks in project {project.id}. Its log says more.")
    return task


def _pictures() -> list[UploadedFile]:
    """Return the demo pictures, the one of the texts first."""
    paths = [path for pattern in _PICTURES for path in sorted(_folder().glob(pattern))]
    paths.sort(key=lambda path: path.name != _FIRST_PICTURE)
    return [UploadedFile(path.name, path.read_bytes(), _media_type(path)) for path in paths]


def _media_type(path: Path) -> str:
    return mimetypes.guess_type(path.name)[0] or "application/octet-stream"


def _folder() -> Path:
    return application_folder() / "examples" / "demo"


def _found(boxes: int, masks: int) -> str:
    of_masks = f" and {masks} masks" if masks else ""
    return f"the service finds {boxes} boxes{of_masks}"
