"""The one writer of remembered prompts. One replica, so that there is one truth."""

from __future__ import annotations

from collections import OrderedDict

from prelabel.types import Asked

_MOST_PROJECTS = 10_000


class PromptStore:
    """The newest prompt and thresholds of each project; the longest untouched go first."""

    def __init__(self) -> None:
        self._asked: OrderedDict[str, tuple[str, Asked]] = OrderedDict()

    def remember(self, project: str, submitted_at: str, asked: Asked) -> None:
        """Keep what a submitted annotation says, unless a newer one was there before.

        submitted_at: ISO 8601 in UTC, as Label Studio writes it, so that text order is time order.
        """
        known = self._asked.get(project)
        if known is not None and submitted_at < known[0]:
            return
        self._asked[project] = (submitted_at, asked)
        self._asked.move_to_end(project)
        if len(self._asked) > _MOST_PROJECTS:
            self._asked.popitem(last=False)

    def recall(self, project: str) -> Asked:
        """What is remembered for a project; nothing where nothing is."""
        known = self._asked.get(project)
        return Asked() if known is None else known[1]
