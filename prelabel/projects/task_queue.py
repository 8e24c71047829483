"""The tasks of a run that are left: read in pages, in the order of their ids."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from prelabel.labelstudio.bulk import TaskPage
from prelabel.labelstudio.rest import StoredTask

_PAGE: Final = 200  # tasks in a page of Label Studio's

ReadPage = Callable[[int, int], TaskPage]
Choose = Callable[[Sequence[StoredTask]], set[int]]


class TaskQueue:
    """Holds the tasks of a page or two, so that a run needs the same memory for any project.

    Attributes:
        total: Number of tasks that were left when the run began.
        failed: Those of them that failed before.

    Args:
        read_page: Returns the page of the tasks whose ids are greater than the first number, of as
            many tasks as the second.
        failed: Returns those of the tasks that failed before.
        done: Returns those of the tasks that need no prediction.
    """

    def __init__(self, read_page: ReadPage, failed: Choose, done: Choose) -> None:
        self._read, self._failed, self._done = read_page, failed, done
        self._queue: deque[StoredTask] = deque()
        self._after, self._is_read, self._is_first_page, self._is_first_pass = 0, False, True, True
        self.total, self.failed = 0, 0

    def take(self, count: int) -> list[StoredTask]:
        """Return the next tasks, at most `count` of them; none after the last one."""
        while len(self._queue) < count and not self._is_read:
            self._read_page()
        return [self._queue.popleft() for _ in range(min(count, len(self._queue)))]

    def put_back(self, tasks: Iterable[StoredTask]) -> None:
        """Make tasks that were taken the next ones again."""
        self._queue.extendleft(reversed(list(tasks)))

    def rewind(self) -> None:
        """Read the project from its first task again, for tasks that were passed over."""
        self._after, self._is_read, self._is_first_pass = 0, False, False

    def _read_page(self) -> None:
        page = self._read(self._after, _PAGE)
        done = self._done(page.tasks)
        failed = self._failed(page.tasks) - done
        if self._is_first_pass:
            self.total += (page.remaining if self._is_first_page else 0) - len(done)
            self.failed += len(failed)
            self._is_first_page = False
        self._queue.extend(task for task in page.tasks if task.id not in done | failed)
        self._is_read = not page.tasks
        if page.tasks:
            self._after = page.tasks[-1].id
