import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fakeredis import TcpFakeServer
from pydantic import SecretStr

from prelabel.errors import PromptMemoryError
from prelabel.prompts.repository import AsyncPromptRepository, PromptRepository
from prelabel.prompts.storage import (
    FileStorage,
    PromptStorage,
    RedisStorage,
    ReopeningStorage,
    StoredPrompt,
    open_storage,
)
from prelabel.settings import Environment, PromptSettings
from prelabel.types import PromptRequest

NOW = datetime.now(UTC)
OpenAgain = Callable[[], PromptStorage]
CAT, DOG = PromptRequest("cat"), PromptRequest("dog")


def prompt_in(storage: PromptStorage) -> PromptRequest:
    stored = storage.get("1")
    assert stored is not None
    return stored.prompt


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with TcpFakeServer(("127.0.0.1", 0), server_type="redis") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"redis://127.0.0.1:{server.server_address[1]}/0"
        server.shutdown()


@pytest.fixture(params=["memory", "file", "redis"])
def open_again(request: pytest.FixtureRequest, tmp_path: Path, redis_url: str) -> OpenAgain:
    """Opens the same memory again, as after a restart."""
    if request.param == "redis":
        memory = RedisStorage(redis_url)
        memory._connection.flushall()
        return lambda: RedisStorage(redis_url)
    if request.param == "file":
        return lambda: FileStorage(tmp_path / "deep" / "prompts.sqlite")
    only = FileStorage(None)
    return lambda: only


@pytest.fixture
def book(open_again: OpenAgain) -> PromptRepository:
    return PromptRepository(open_again())


def test_only_projects_that_were_asked_about_are_remembered(book: PromptRepository) -> None:
    book.remember("1", NOW, CAT)
    assert book.recall("1").submitted == PromptRequest()
    book.remember("1", NOW, CAT)
    assert book.recall("1").submitted == CAT


def test_a_project_is_known_once_predictions_were_asked_for_it_and_not_by_its_webhooks(
    book: PromptRepository,
) -> None:
    book.remember("1", NOW, CAT)
    assert not book.knows("1")
    book.recall("1")
    assert book.knows("1")


@pytest.mark.parametrize(("later_s", "kept"), [(1, DOG), (0, DOG), (-1, CAT)])
def test_the_newest_submit_counts_whenever_it_arrives(
    book: PromptRepository, later_s: int, kept: PromptRequest
) -> None:
    book.recall("1")
    book.remember("1", NOW - timedelta(seconds=10), CAT)
    book.remember("1", NOW - timedelta(seconds=10 - later_s), DOG)
    assert book.recall("1").submitted == kept


def test_a_time_in_the_future_cannot_pin_a_prompt(book: PromptRepository) -> None:
    book.recall("1")
    book.remember("1", NOW + timedelta(days=9999), CAT)
    book.remember("1", datetime.now(UTC), DOG)
    assert book.recall("1").submitted == DOG


def test_a_submit_of_a_threshold_alone_keeps_the_prompt(book: PromptRepository) -> None:
    book.recall("1")
    book.remember("1", NOW - timedelta(seconds=2), CAT)
    book.remember("1", NOW - timedelta(seconds=1), PromptRequest(box_threshold=0.0))
    assert book.recall("1").submitted == PromptRequest("cat", 0.0)


def test_what_is_remembered_survives_a_restart(open_again: OpenAgain) -> None:
    PromptRepository(open_again()).recall("3.17")
    PromptRepository(open_again()).remember("3.17", NOW, PromptRequest("Katze . 猫", 0.0, 0.5))
    again = PromptRepository(open_again())
    assert again.recall("3.17").submitted == PromptRequest("Katze . 猫", 0.0, 0.5)
    assert again.find() == {
        "3.17": StoredPrompt(
            again.recall("3.17").submitted, PromptRequest(), NOW, again.find()["3.17"].used_at
        )
    }


def test_prompts_are_shown_and_forgotten_by_id_or_key(book: PromptRepository) -> None:
    for project in ("3.1", "3.2", "33.1"):
        book.recall(project)
        book.remember(project, NOW - timedelta(seconds=1), CAT)
    book.recall("4.1")
    assert list(book.find()) == ["3.1", "3.2", "33.1"]
    assert list(book.find("3")) == ["3.1", "3.2"]
    assert book.forget("3.2") == 1
    assert book.forget("3") == 1
    assert book.forget("3") == 0
    assert list(book.find()) == ["33.1"]


def test_extra_parameters_are_shown_and_not_forgotten(book: PromptRepository) -> None:
    book.register("3.1", PromptRequest(box_threshold=0.5))
    assert book.find("3")["3.1"].extra.box_threshold == 0.5
    assert book.forget("3") == 0
    assert list(book.find("3")) == ["3.1"]


def test_what_was_forgotten_does_not_come_back_with_a_late_webhook_but_with_a_new_submit(
    book: PromptRepository,
) -> None:
    book.recall("1")
    book.remember("1", NOW - timedelta(seconds=9), CAT)
    book.forget("1")
    book.remember("1", NOW - timedelta(seconds=5), CAT)
    assert book.recall("1").submitted == PromptRequest()
    book.remember("1", datetime.now(UTC), DOG)
    assert book.recall("1").submitted == DOG


def test_the_projects_that_were_unused_longest_make_room() -> None:
    memory = FileStorage(None, max_projects=2)
    for minute, project in enumerate(("1", "2", "1", "3")):
        memory.put(
            project, StoredPrompt(CAT, PromptRequest(), NOW, NOW + timedelta(minutes=minute))
        )
    assert set(memory.all()) == {"1", "3"}


def test_submits_at_the_same_time_lose_none(book: PromptRepository) -> None:
    book.recall("1")
    submits = [
        PromptRequest(prompt="cat"),
        PromptRequest(box_threshold=0.1),
        PromptRequest(text_threshold=0.2),
    ]
    threads = [threading.Thread(target=book.remember, args=("1", NOW, each)) for each in submits]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert book.recall("1").submitted == PromptRequest("cat", 0.1, 0.2)


def test_a_file_that_cannot_be_written_says_which_setting_to_change(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PromptMemoryError, match=r"Set prompts\.file"):
        FileStorage(tmp_path / "file" / "prompts.sqlite")
    (tmp_path / "no-base").write_bytes(b"x" * 4096)
    with pytest.raises(PromptMemoryError, match=r"Set prompts\.file"):
        FileStorage(tmp_path / "no-base")


def test_redis_that_does_not_answer_says_so_and_not_its_password() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"redis://:secret@127.0.0.1:{closed.getsockname()[1]}/0"
    memory = open_storage(PromptSettings(), Environment(PROMPTS_REDIS_URL=SecretStr(url)))
    with pytest.raises(PromptMemoryError, match="PROMPTS_REDIS_URL") as error:
        memory.get("1")
    assert "secret" not in str(error.value)
    with pytest.raises(PromptMemoryError, match="PROMPTS_REDIS_URL"):
        RedisStorage("http://127.0.0.1")


def test_settings_say_where_prompts_are_kept(tmp_path: Path) -> None:
    settings = PromptSettings(file=str(tmp_path / "p.sqlite"))
    memory = open_storage(settings, Environment())
    memory.put("1", StoredPrompt(CAT, PromptRequest(), NOW, NOW))
    assert prompt_in(open_storage(settings, Environment())) == CAT
    assert open_storage(PromptSettings(file=""), Environment()).get("1") is None


def test_a_disk_that_is_full_is_noticed_when_the_file_is_opened() -> None:
    with pytest.raises(PromptMemoryError, match=r"Set prompts\.file"):
        FileStorage(Path("/dev/full"))


NO_ROOM = """
import pathlib, resource, sys
from prelabel.errors import PromptMemoryError
from prelabel.prompts.repository import PromptRepository
from prelabel.prompts.storage import FileStorage
from prelabel.settings import Environment, PromptSettings
from prelabel.types import PromptRequest
book = PromptRepository(FileStorage(pathlib.Path(sys.argv[1])))
book.recall("known")
row = book._storage.get("known")
object.__setattr__(row, "used_at", row.used_at.replace(year=2001))
book._storage.put("known", row)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
assert book.recall("known").submitted == PromptRequest("cat"), "what can be read is told"
try:
    book.recall("new")
except PromptMemoryError as error:
    print(error)
"""


def test_what_a_full_disk_holds_can_still_be_read(tmp_path: Path) -> None:
    file = tmp_path / "prompts.sqlite"
    book = PromptRepository(FileStorage(file))
    book.recall("known")
    book.remember("known", NOW, CAT)
    done = subprocess.run(
        [sys.executable, "-c", NO_ROOM, file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Set prompts.file" in done.stdout


def test_a_memory_that_failed_is_left_alone_for_some_seconds_and_then_opened_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    opened = []

    def open_it() -> PromptStorage:
        opened.append(1)
        if len(opened) <= 2:
            raise PromptMemoryError("Not there.")
        return FileStorage(None)

    memory = ReopeningStorage(open_it, reopen_after_s=3600)
    for _ in range(3):
        with pytest.raises(PromptMemoryError, match="Not there"):
            memory.get("1")
    with pytest.raises(PromptMemoryError, match="Not there"):
        memory.put("1", StoredPrompt(CAT))
    assert len(opened) == 1
    memory._reopen_after_s = 0
    with pytest.raises(PromptMemoryError, match="Not there"):
        memory.all()
    memory.put("1", StoredPrompt(CAT))
    assert prompt_in(memory) == CAT
    assert len(opened) == 3
    lines = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert lines == ["Not there."]


def test_a_redis_that_went_and_came_back_needs_no_restart() -> None:
    server = TcpFakeServer(("127.0.0.1", 0), server_type="redis")
    host, port = "127.0.0.1", server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    memory = ReopeningStorage(lambda: RedisStorage(f"redis://{host}:{port}/0"), reopen_after_s=0)
    memory.put("1", StoredPrompt(CAT))
    server.shutdown()
    server.server_close()
    assert isinstance(memory._storage, RedisStorage)
    memory._storage._connection.connection_pool.disconnect()
    with pytest.raises(PromptMemoryError, match="PROMPTS_REDIS_URL"):
        memory.get("1")
    with TcpFakeServer((host, port), server_type="redis") as again:
        threading.Thread(target=again.serve_forever, daemon=True).start()
        memory.put("1", StoredPrompt(DOG))
        assert prompt_in(memory) == DOG
        again.shutdown()


def test_where_prompts_are_not_remembered_no_file_is_opened() -> None:
    settings = PromptSettings(remember=False, file="/proc/nope/prompts.sqlite")
    assert open_storage(settings, Environment()).all() == {}


class BlockedStorage(FileStorage):
    """A storage whose reads block, as a Redis does that does not answer."""

    def __init__(self) -> None:
        super().__init__(None)
        self.may_answer = threading.Event()

    def get(self, project: str) -> StoredPrompt | None:
        assert self.may_answer.wait(30)
        return super().get(project)


@pytest.mark.parametrize("method", ["recall", "knows", "remember", "register", "forget"])
def test_a_storage_that_blocks_does_not_block_the_event_loop(method: str) -> None:
    arguments: tuple[Any, ...] = {"remember": (NOW, CAT), "register": (CAT,)}.get(method, ())

    async def run() -> None:
        storage = BlockedStorage()
        repository = AsyncPromptRepository(storage)
        call = asyncio.create_task(getattr(repository, method)("1", *arguments))
        for _ in range(100):
            await asyncio.sleep(0)  # would not come back while the loop is blocked
        storage.may_answer.set()
        await call

    asyncio.run(run())


def test_changes_are_signalled_to_those_who_wait_for_them() -> None:
    async def run() -> None:
        repository = AsyncPromptRepository(FileStorage(None))
        first = await repository.wait_for_change(None, 10)
        waiting = asyncio.create_task(repository.wait_for_change(first, 30))
        await repository.register("1", CAT)
        second = await waiting
        assert second != first
        await repository.register("1", CAT)  # nothing new
        assert await repository.wait_for_change(second, 0.01) == second

    asyncio.run(run())


class CountingRedis(RedisStorage):
    """Counts the commands that are sent."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.commands: list[str] = []
        execute = self._connection.execute_command

        def counted(*args: Any, **options: Any) -> Any:
            self.commands.append(args[0])
            return execute(*args, **options)  # type: ignore[no-untyped-call]

        self._connection.execute_command = counted  # type: ignore[method-assign]


def test_all_records_of_redis_are_read_in_batches(redis_url: str) -> None:
    storage = CountingRedis(redis_url)
    storage._connection.flushall()
    for number in range(1_200):
        storage.put(str(number), StoredPrompt(PromptRequest(f"cat {number}")))
    storage.commands.clear()
    everything = storage.all()
    assert len(everything) == 1_200
    assert everything["77"].prompt == PromptRequest("cat 77")
    assert storage.commands.count("MGET") == 3
    assert storage.commands.count("GET") == 0
