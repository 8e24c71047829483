"""The one writer of remembered prompts. One replica, so that there is one truth."""

from __future__ import annotations

from datetime import datetime

from deployments.logs import use_serve_log
from prelabel.prompt_memory import PromptBook, Remembered, open_memory
from prelabel.settings import AppSettings, Environment
from prelabel.types import Asked


class PromptStore:
    """See PromptBook."""

    def __init__(self, settings: AppSettings, environment: Environment) -> None:
        use_serve_log(settings.log_level)
        self._book = PromptBook(open_memory(settings, environment))

    def recall(self, project: str) -> Asked:
        """What is remembered for a project, which is known from now on."""
        return self._book.recall(project)

    def knows(self, project: str) -> bool:
        """Whether predictions were asked for a project, so that its submits count."""
        return self._book.knows(project)

    def remember(self, project: str, submitted_at: datetime, asked: Asked) -> None:
        """Keep what a submitted annotation says."""
        self._book.remember(project, submitted_at, asked)

    def show(self, project: str | None) -> dict[str, Remembered]:
        """What is remembered, by project's key."""
        return self._book.show(project)

    def forget(self, project: str) -> int:
        """Forget what is remembered for a project; how many there were of that id."""
        return self._book.forget(project)
