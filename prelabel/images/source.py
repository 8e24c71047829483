"""The encoded bytes of a task's pictures: downloaded, shared and cached in one ingress replica."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from prelabel.concurrency.single_flight import SingleFlightCache
from prelabel.observability.timing import Observe, ignore_stage, timed

Download = Callable[[str, int | None], bytes]
"""Blocking download of a picture by its address and the id of its task."""

# Base64 of this length decodes faster than a thread is started for it.
_DECODED_IN_LOOP_CHARS: Final = 128 * 1024
_MAX_CACHED_ADDRESS_CHARS: Final = 4096
_DOWNLOAD_THREADS: Final = 64  # twice the default of limits.task_concurrency


class ImageSource:
    """Fetches pictures without blocking the event loop; concurrent equal downloads are shared.

    Args:
        download: Called in one of the source's threads.
        max_cached_bytes: Size of the cache; 0 disables it.
        max_cached_s: Time in seconds after which a picture is downloaded again.
        observe: Called with "fetch" and the seconds of each download.
    """

    def __init__(
        self,
        download: Download,
        *,
        max_cached_bytes: int,
        max_cached_s: float,
        observe: Observe = ignore_stage,
    ) -> None:
        self._download = download
        self._observe = observe
        self._threads = ThreadPoolExecutor(_DOWNLOAD_THREADS, thread_name_prefix="fetch")
        self._cache: SingleFlightCache[bytes] = SingleFlightCache(
            len, max_bytes=max_cached_bytes, max_age_s=max_cached_s
        )

    async def fetch(self, address: str, task_id: int | None) -> bytes:
        """Return the encoded picture. Raises ImageError if it cannot be fetched."""
        is_inline = address.startswith("data:")

        async def load() -> bytes:
            with timed(self._observe, "fetch"):
                if is_inline and len(address) <= _DECODED_IN_LOOP_CHARS:
                    return self._download(address, task_id)
                return await asyncio.get_running_loop().run_in_executor(
                    self._threads, self._download, address, task_id
                )

        if is_inline or len(address) > _MAX_CACHED_ADDRESS_CHARS:
            return await load()
        # The task is part of the key, because Label Studio decides by task which users may read a
        # picture.
        return await self._cache.get((address, task_id), load)
