"""A client of a running application, which sends what Label Studio sends."""

from dataclasses import dataclass, field
from typing import Any

import requests

USER, PASSWORD = "annotator", "canary-password"

CONFIG = """<View>
  <TextArea name="prompt" toName="image" maxSubmissions="1"/>
  <Number name="box_threshold" toName="image" min="0" max="1"/>
  <Image name="image" value="$image"/>
  <RectangleLabels name="label" toName="image">
    <Label value="red circle"/><Label value="blue square"/><Label value="cat"/>
  </RectangleLabels></View>"""


@dataclass
class Service:
    """A running application, which gets requests as Label Studio sends them."""

    url: str
    session: requests.Session = field(default_factory=requests.Session)

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.session.get(self.url + path, timeout=30, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> requests.Response:
        return self.session.post(self.url + path, json=body, timeout=100, **options)

    def predict(
        self,
        *images: str,
        context: list[dict[str, Any]] | None = None,
        project: str = "1.1",
        config: str = CONFIG,
    ) -> list[dict[str, Any]]:
        body = {
            "tasks": [{"id": i, "data": {"image": image}} for i, image in enumerate(images)],
            "project": project,
            "label_config": config,
            "params": {"context": None if context is None else {"result": context}},
        }
        answer = self.post("/predict", body)
        assert answer.status_code == 200, answer.text
        results: list[dict[str, Any]] = answer.json()["results"]
        assert len(results) == len(images)
        return results
