"""Tells the server's loop that something was committed: one watch over all outputs and logs, for all who wait."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

from bourne.log.wake import Wake


class Commits:
    """Counts commits. Belongs to one event loop: make it, and close it, there."""

    def __init__(self, folders: Sequence[Path]) -> None:
        """Watch these partitions from now on.

        Raises:
            StorageError: no more files may be opened.
        """
        self.count = 0
        self._happened = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._watch(Wake(folders))

    def _watch(self, wake: Wake) -> None:
        self._wake = wake
        self._loop.add_reader(wake.fileno(), self._look)

    def watch(self, folders: Sequence[Path]) -> None:
        """Watch other partitions from now on, and wake all who wait: something may have happened there.

        Raises:
            StorageError: no more files may be opened. Then it goes on with those before.
        """
        before = self._wake
        wake = Wake(folders)
        self._loop.remove_reader(before.fileno())
        before.close()
        self._watch(wake)
        self.tell()

    def _look(self) -> None:
        if self._wake.drain():
            self.tell()

    def tell(self) -> None:
        """Wake all who wait."""
        self.count += 1
        happened, self._happened = self._happened, asyncio.Event()
        happened.set()

    async def after(self, count: int, timeout_s: float) -> int:
        """Wait until more than `count` have been counted, or the time is over; return how many there are."""
        if self.count <= count:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._happened.wait()
        return self.count

    def close(self) -> None:
        """Watch no longer; wake all who wait. Safe to call twice."""
        self._loop.remove_reader(self._wake.fileno())
        self._wake.close()
        self.tell()
