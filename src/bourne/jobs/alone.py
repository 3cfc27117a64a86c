"""One scheduler on a folder: a lock that the system gives back when its process ends, however it ends."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from bourne.errors import LogLocked, StorageError
from bourne.log.at_work import take

LOCK: Final = "scheduler.lock"


class Alone:
    """The lock of a folder's scheduler, held from its making to `close`."""

    def __init__(self, folder: Path) -> None:
        """Take it, making the folder if it is missing.

        Raises:
            LogLocked: another scheduler is at work on the folder.
            StorageError: the folder cannot be written.
        """
        path = folder / LOCK
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._descriptor = take(path)
        except OSError as error:
            raise StorageError(
                "the jobs' folder cannot be written", where=str(folder), found=error.strerror
            ) from error
        if self._descriptor is None:
            raise LogLocked("another scheduler is at work on this folder", where=str(path), pid=None)

    @property
    def is_held(self) -> bool:
        """Whether it has not been closed."""
        return self._descriptor is not None

    def close(self) -> None:
        """Give it back."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
