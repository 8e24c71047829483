"""Clients that send requests without a pause and check the answers."""

from __future__ import annotations

import base64
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, RemoteDisconnected
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from tests.support.pixel_app import LABELS, Block

_LABELS = "".join(f'<Label value="{label}"/>' for label in LABELS)
CONFIG = (
    '<View><TextArea name="prompt" toName="image"/><Image name="image" value="$image"/>'
    f'<RectangleLabels name="label" toName="image">{_LABELS}</RectangleLabels></View>'
)
TIMEOUT_S = 150
CORRECT, RETRY, WRONG = "correct", "retry", "wrong"


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of a request. scores: of the boxes, which tell versions of the code apart."""

    began: float
    ended: float
    verdict: str
    reason: str = ""
    scores: tuple[float, ...] = ()


@dataclass
class Client:
    """A client with one keep-alive connection, as Label Studio has."""

    url: str
    _connection: HTTPConnection | None = None

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """Status and content. Raises OSError and HTTPException."""
        if self._connection is None:
            parts = urlsplit(self.url)
            assert parts.hostname is not None
            self._connection = HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S)
        encoded = None if body is None else json.dumps(body).encode()
        try:
            self._connection.request(method, path, encoded, {"Content-Type": "application/json"})
            response = self._connection.getresponse()
            return response.status, response.read()
        except (OSError, HTTPException):
            self.close()
            raise

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next request opens another one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def predict(self, blocks: Sequence[Block]) -> Answer:
        """A request of a task for each block."""
        body = predict_body(blocks)
        began = time.monotonic()
        try:
            status, content = self.ask("POST", "/predict", body)
        except RemoteDisconnected as error:  # not a byte came: HTTP's clients may ask again
            return Answer(began, time.monotonic(), RETRY, f"no answer: {error!r}")
        except (OSError, HTTPException) as error:
            return Answer(began, time.monotonic(), WRONG, f"no answer: {error!r}")
        return Answer(began, time.monotonic(), *judge(blocks, status, content))


def predict_body(blocks: Sequence[Block], project: str = "1.1") -> dict[str, Any]:
    """Return a body as Label Studio sends it."""
    tasks = [
        {"id": i, "data": {"image": f"data:image/png;base64,{_base64(block.png())}"}}
        for i, block in enumerate(blocks)
    ]
    return {"tasks": tasks, "label_config": CONFIG, "project": project}


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def judge(
    blocks: Sequence[Block], status: int, content: bytes
) -> tuple[str, str, tuple[float, ...]]:
    """Return verdict, reason and scores.

    RETRY: the error asks for a retry, or the request failed as a whole, which Label Studio's users
    retry. WRONG: any other error, or other boxes.
    """
    if status >= 500:
        return RETRY, f"{status}: {content[:200]!r}", ()
    if status != 200:
        return WRONG, f"{status}: {content[:200]!r}", ()
    entries = json.loads(content)["results"]
    if len(entries) != len(blocks):
        return WRONG, f"{len(entries)} entries for {len(blocks)} tasks", ()
    scores: list[float] = []
    again = ""
    for block, entry in zip(blocks, entries, strict=True):
        if "error" in entry and "again" in entry["error"]:
            again = f"{entry['error_type']}: {entry['error']}"
        elif "error" in entry or _found(entry) != [block]:
            return WRONG, f"{block} was answered by {entry}", ()
        else:
            scores += [region["score"] for region in entry["result"]]
    return (RETRY if again else CORRECT), again, tuple(scores)


def _found(entry: dict[str, Any]) -> list[Block]:
    values = [(region["type"], region["value"]) for region in entry["result"]]
    return [
        Block(
            value["rectanglelabels"][0],
            *(round(value[side], 3) for side in ("x", "y", "width", "height")),
        )
        for kind, value in values
        if kind == "rectanglelabels"
    ]


@dataclass
class Load:
    """Concurrent clients; every third one asks for several pictures at once."""

    url: str
    clients: int = 6
    answers: list[Answer] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Load:
        self._threads = [
            threading.Thread(target=self._run, args=(number,)) for number in range(self.clients)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        randomness = random.Random(number)
        client = Client(self.url)
        while not self._over.is_set():
            pictures = 1 if number % 3 else 3
            answer = client.predict([Block.anywhere(randomness) for _ in range(pictures)])
            self.answers.append(answer)
            if answer.verdict != CORRECT:
                time.sleep(0.2)  # clients back off from a service that fails
        client.close()

    def count(self, verdict: str) -> int:
        """Return the number of answers with this verdict until now."""
        return Counter(answer.verdict for answer in self.answers)[verdict]

    def failures(self) -> list[str]:
        """Return the reasons of failures, with their time since the first request."""
        first = min((answer.began for answer in self.answers), default=0)
        return [
            f"{answer.verdict} after {answer.ended - first:.1f} s: {answer.reason}"
            for answer in self.answers
            if answer.verdict != CORRECT
        ]

    def recovery_s(self, fault: float) -> float:
        """From a fault until the service answered all again: to the last error, and to the first
        correct answer to a request that came after the fault.
        """
        errors = [a.ended for a in self.answers if a.verdict != CORRECT and a.ended > fault]
        healed = [a.ended for a in self.answers if a.verdict == CORRECT and a.began > fault]
        assert healed, "nothing was answered after the fault"
        return max([min(healed), *errors]) - fault
