"""A fake Label Studio without projects: users sign up, projects are created, pictures uploaded."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

from tests.support.fake_label_studio import Json, LabelStudio, RefusedError
from tests.support.http_server import Exchange, Received

FILE = re.compile(rb'filename="([^"]+)"\r\nContent-Type: ([^\r]+)\r\n\r\n(.*?)\r\n--', re.DOTALL)
CSRF = "c" * 32
COLUMNS: list[Json] = [
    {"id": "id", "target": "tasks", "visibility_defaults": {"explore": True, "labeling": False}},
    {"id": "image", "parent": "data", "target": "tasks", "type": "Image"},
    {"id": "agreement", "target": "tasks", "visibility_defaults": {"explore": False}},
    {
        "id": "meta",
        "parent": "data",
        "target": "tasks",
        "visibility_defaults": {"explore": False, "labeling": False},
    },
]


@dataclass
class DemoLabelStudio(LabelStudio):
    """Each of its projects is a fake Label Studio of its own.

    Attributes:
        projects: They, by number.
        users: Passwords by e-mail address.
        signs_up: False shows the page again in place of signing a user up.
        pictures: Uploaded files by path.
        tabs: Tabs of the Data Manager by project.
        retrieved: Numbers of the projects whose predictions were asked for.
        drops: Number of pictures that an import leaves out.
        starts_for: Number of requests that it answers with 502, as a web server in front of it.
    """

    projects: dict[int, LabelStudio] = field(default_factory=dict)
    users: dict[str, str] = field(default_factory=dict)
    signs_up: bool = True
    pictures: dict[str, bytes] = field(default_factory=dict)
    tabs: dict[int, list[Json]] = field(default_factory=dict)
    retrieved: list[int] = field(default_factory=list)
    drops: int = 0
    starts_for: int = 0

    def respond(self, exchange: Exchange, received: Received) -> None:
        if self.starts_for:
            self.starts_for -= 1
            exchange.answer(502, b"<html>Bad Gateway</html>")
            return
        path = urlsplit(received.path).path
        if path == "/user/signup/":
            self._sign_up(exchange, received)
        elif path in self.pictures:
            self._check(received.headers.get("Authorization"))
            exchange.answer(200, self.pictures[path])
        else:
            super().respond(exchange, received)

    def _sign_up(self, exchange: Exchange, received: Received) -> None:
        cookie = f"csrftoken={CSRF}; Path=/"
        if received.method == "GET":
            exchange.answer(200, b"<form>", Set_Cookie=cookie)
            return
        form = dict(parse_qsl(received.body.decode()))
        assert form["csrfmiddlewaretoken"] == CSRF
        if not self.signs_up or form["email"] in self.users:
            exchange.answer(200, b"<form>User with this email already exists</form>")
            return
        self.users[form["email"]] = form["password"]
        exchange.answer(302, Location="/projects/", Set_Cookie="sessionid=s1; Path=/")

    def _answer(self, received: Received) -> tuple[int, Any]:
        url = urlsplit(received.path)
        query = parse_qs(url.query)
        if url.path == "/api/token/":
            assert received.headers["X-CSRFToken"] == CSRF
            assert "sessionid=s1" in received.headers["Cookie"]
            return 201, {"token": self.token}
        if url.path in ("/api/version/", "/api/token/refresh/"):
            return super()._answer(received)
        self._check(received.headers.get("Authorization"))
        if url.path == "/api/projects/":
            return self._list_or_create(received)
        if found := re.fullmatch(r"/api/projects/(\d+)/import", url.path):
            return 201, self._import(int(found[1]), received.body)
        if url.path == "/api/tasks":
            tasks = self.projects[int(query["project"][0])].tasks
            return 200, {"tasks": tasks[: int(query["page_size"][0])], "total": len(tasks)}
        if url.path == "/api/dm/actions":
            assert query["id"] == ["retrieve_tasks_predictions"]
            [number] = query["project"]
            self.retrieved.append(int(number))
            return 200, {"processed_items": len(self.projects[int(number)].tasks)}
        if url.path == "/api/dm/columns":
            return 200, {"columns": COLUMNS}
        if url.path == "/api/dm/views/":
            return self._list_or_add_tab(received)
        return self._project_of(received)._answer(received)

    def _list_or_add_tab(self, received: Received) -> tuple[int, Any]:
        tabs = self.tabs.setdefault(int(self._project_of(received).project["id"]), [])
        if received.method == "GET":
            return 200, tabs
        tabs.append({"id": len(tabs) + 1, **json.loads(received.body)})
        return 201, tabs[-1]

    def _list_or_create(self, received: Received) -> tuple[int, Any]:
        if received.method == "GET":
            return 200, {"results": [each.project for each in self.projects.values()]}
        sent: Json = json.loads(received.body)
        number = len(self.projects) + 1
        self.projects[number] = LabelStudio(
            token=self.token, takes_legacy=self.takes_legacy, project={"id": number, **sent}
        )
        return 201, self.projects[number].project

    def _import(self, number: int, body: bytes) -> Json:
        files = FILE.findall(body)[self.drops :]
        tasks = self.projects[number].tasks
        for name, kind, content in files:
            assert kind in (b"image/jpeg", b"image/png")
            path = f"/data/upload/{number}/{name.decode()}"
            self.pictures[path] = content
            tasks.append({"id": 100 * number + len(tasks), "data": {"image": path}})
        return {"task_count": len(files)}

    def _project_of(self, received: Received) -> LabelStudio:
        url = urlsplit(received.path)
        numbers = re.findall(r"^/api/projects/(\d+)/", url.path)
        numbers += parse_qs(url.query).get("project", [])
        if received.body:
            numbers.append(json.loads(received.body).get("project"))
        number = next((int(each) for each in numbers if each is not None), 0)
        if number not in self.projects:
            raise RefusedError(404, "No Project matches the given query.")
        return self.projects[number]
