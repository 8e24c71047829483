"""An index of the keys that an output folder has, in SQLite: bounded memory for any number.

The files of the folder are the truth. The index can be removed at any time, and is built again.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from prelabel.offline.items import OutputError

FAILED: Final = -1  # in place of the number of a shard
_DIGEST_BYTES: Final = 16
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS keys (digest BLOB PRIMARY KEY, shard INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_shard ON keys (shard);
CREATE TABLE IF NOT EXISTS shards (number INTEGER PRIMARY KEY, bytes INTEGER NOT NULL);
"""


class KeyIndex:
    """The index. For one thread.

    Args:
        path: Its file. A file that is no index is replaced.

    Raises:
        OutputError: The file cannot be used. The methods raise it, too.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._db = self._open()
        except sqlite3.DatabaseError:
            with self._faults():
                path.unlink(missing_ok=True)
                self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path)
        try:
            # The files are written before the index, and it is compared with them at the start.
            db.execute("PRAGMA synchronous = OFF")
            db.execute("PRAGMA journal_mode = MEMORY")
            db.executescript(_SCHEMA)
            if db.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise sqlite3.DatabaseError("damaged")
        except sqlite3.Error:
            db.close()
            raise
        return db

    def shards(self) -> dict[int, int]:
        """Return the sizes in bytes of the shards whose keys the index has, by their numbers."""
        with self._faults():
            return dict(self._db.execute("SELECT number, bytes FROM shards"))

    def known(self, keys: Sequence[str]) -> list[bool]:
        """Return for each key whether the folder has it."""
        with self._faults():
            find = "SELECT 1 FROM keys WHERE digest = ?"
            return [self._db.execute(find, (_digest(key),)).fetchone() is not None for key in keys]

    def add(self, keys: Iterable[str], shard: int) -> None:
        """Add keys of a shard, or of the failed items."""
        with self._faults(), self._db:
            rows = ((_digest(key), shard) for key in keys)
            self._db.executemany("INSERT OR REPLACE INTO keys VALUES (?, ?)", rows)

    def close_shard(self, shard: int, size: int) -> None:
        """Note that the index has all keys of a shard of that size in bytes."""
        with self._faults(), self._db:
            self._db.execute("INSERT OR REPLACE INTO shards VALUES (?, ?)", (shard, size))

    def forget(self, shard: int) -> None:
        """Remove the keys of a shard, or of the failed items."""
        with self._faults(), self._db:
            self._db.execute("DELETE FROM keys WHERE shard = ?", (shard,))
            self._db.execute("DELETE FROM shards WHERE number = ?", (shard,))

    def count(self, *, failed: bool) -> int:
        """Return the number of keys that failed, or of those in shards."""
        with self._faults():
            where = "shard = ?" if failed else "shard <> ?"
            query = f"SELECT COUNT(*) FROM keys WHERE {where}"  # noqa: S608
            [[number]] = self._db.execute(query, (FAILED,))
            return int(number)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise OutputError(
                f"The index {self._path} cannot be used ({error}). Free space on its disk and "
                "check its permissions, then run the same command again to continue."
            ) from error


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()
