"""The one writer of remembered prompts. One replica, so that there is one truth."""

from __future__ import annotations

from collections import OrderedDict
from datetime import UTC, datetime

from prelabel.types import Asked

_NEVER = datetime.min.replace(tzinfo=UTC)


class PromptStore:
    """The newest prompt and thresholds of each project; the longest unused go first.

    Knows the projects that predictions were asked for. Webhooks come from anybody: they can change
    what is remembered for one of these, and nothing else.
    """

    def __init__(self, most_projects: int = 10_000) -> None:
        self._most_projects = most_projects
        self._asked: OrderedDict[str, tuple[datetime, Asked]] = OrderedDict()

    def recall(self, project: str) -> Asked:
        """What is remembered for a project; nothing where nothing is."""
        known = self._asked.setdefault(project, (_NEVER, Asked()))
        self._asked.move_to_end(project)
        if len(self._asked) > self._most_projects:
            self._asked.popitem(last=False)
        return known[1]

    def remember(self, project: str, submitted_at: datetime, asked: Asked) -> None:
        """Keep what a submitted annotation says, unless a newer one was there before.

        What it leaves open stays as it was. A time in the future counts as now: it could not be
        overtaken otherwise.
        """
        submitted_at = min(submitted_at, datetime.now(UTC))
        known_at, known = self._asked.get(project, (None, asked))
        if known_at is not None and submitted_at >= known_at:
            self._asked[project] = (submitted_at, asked.or_else(known))
