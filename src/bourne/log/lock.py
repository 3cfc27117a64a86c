"""One writer at a time: a file lock with a fencing number.

The kernel frees the lock when its process dies, however it dies. The fencing number grows with every holder
and stands in each frame, so that frames of a writer that was replaced can be told apart.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
from pathlib import Path

from bourne.errors import LogLocked

# A reader that repairs a torn tail holds the lock for a moment; a writer waits that moment out.
_WAIT_S = 0.5
_RETRY_S = 0.01

# A larger number in the lock file is damage: frames keep it in 64 bits.
_FENCE_MAX = 1 << 63


class WriterLock:
    """Holds the lock from `acquire` to `release`. `fence` is this holder's fencing number."""

    def __init__(self, descriptor: int, fence: int) -> None:
        self._descriptor: int | None = descriptor
        self.fence = fence

    @staticmethod
    def acquire(path: Path, *, what: str, wait: bool = True) -> WriterLock:
        """Take the lock.

        Raises:
            LogLocked: another holder has it; names its process.
            OSError: the lock file cannot be opened.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            tries = int(_WAIT_S / _RETRY_S) if wait else 1
            for attempt in range(tries):
                if _try_lock(descriptor):
                    break
                if attempt + 1 == tries:
                    raise LogLocked(what, where=str(path.parent), pid=_holder(descriptor)[0])
                threading.Event().wait(_RETRY_S)
            fence = _holder(descriptor)[1] + 1
            _sign(descriptor, fence)
        except BaseException:
            os.close(descriptor)
            raise
        return WriterLock(descriptor, fence)

    def outrun(self, fence: int) -> None:
        """Make this holder's number greater than `fence`: a power cut can take the lock file's content back.

        Raises:
            OSError: the lock file cannot be written.
        """
        if self._descriptor is not None and fence >= self.fence:
            self.fence = fence + 1
            _sign(self._descriptor, self.fence)

    def release(self) -> None:
        """Give the lock back. Safe to call twice."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _sign(descriptor: int, fence: int) -> None:
    os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "fence": fence}).ljust(64).encode(), 0)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def _holder(descriptor: int) -> tuple[int | None, int]:
    """Return the process id and fencing number in the lock file; (None, 0) in a new or damaged one."""
    try:
        content = json.loads(os.pread(descriptor, 64, 0))
        pid, fence = int(content["pid"]), int(content["fence"])
    except (ValueError, KeyError, TypeError, OverflowError):
        return None, 0
    return (pid, fence) if 0 <= fence < _FENCE_MAX else (None, 0)
