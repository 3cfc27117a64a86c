"""One writer at a time: a file lock with a fencing number.

The kernel frees the lock when its process dies, however it dies. The fencing number grows with every change of the
holder and stands in each frame, so that frames of a writer that was replaced can be told apart. Whoever wants the
lock waits in a turnstile (a second lock) first, so that a busy writer cannot keep the others out.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import threading
import time
from pathlib import Path

from bourne.errors import Closed, LogLocked

# How long to wait until the lock is looked at again: one waiter at a time passes the turnstile and looks often.
_RETRY_S = 0.0003
_TURN_RETRY_S = 0.001

# A larger number in the lock file is damage: frames keep it in 64 bits.
_FENCE_MAX = 1 << 63

_SIGNATURE_BYTES = 64


class WriterLock:
    """Held from `take` to `release`, again and again. `fence` is the fencing number of this holder."""

    def __init__(self, path: Path, *, what: str) -> None:
        """`what` starts the message of the error when somebody else has it."""
        self.fence = 0
        self._path = path
        self._what = what
        self._descriptor: int | None = None
        self._turnstile: int | None = None
        self._is_held = False
        self._pid = os.getpid()
        self._signature = b""

    @property
    def is_held(self) -> bool:
        """Say whether it is held through this object."""
        return self._is_held

    def take(self, wait_s: float) -> bool:
        """Take the lock; return whether somebody else may have held it since this object did.

        Raises:
            LogLocked: another holder has it, still after `wait_s` seconds; names its process.
            Closed: this process was forked from the one that opened it.
            OSError: the lock file cannot be opened.
        """
        if os.getpid() != self._pid:
            raise Closed(
                f"{self._what}: it was opened before this process was forked", hint="open it here, too"
            )
        deadline = time.monotonic() + wait_s
        if self._turnstile is None:
            self._turnstile = _open(self._path.with_name("turn"))
        self._wait(self._turnstile, _TURN_RETRY_S, deadline)
        try:
            return self._take(deadline)
        finally:
            _unlock(self._turnstile)

    def _take(self, deadline: float) -> bool:
        while True:
            if self._descriptor is None:
                self._descriptor = _open(self._path)
            self._wait(self._descriptor, _RETRY_S, deadline)
            if self._is_in_place():
                break
            self._drop()  # somebody deleted the file, or put another one in its place
        self._is_held = True
        if self.fence and self._is_signed():
            return False
        self.fence = max(self.fence, _holder(self._descriptor)[1]) + 1
        self._sign()
        return True

    def _wait(self, descriptor: int, retry_s: float, deadline: float) -> None:
        while not _try_lock(descriptor):
            if time.monotonic() >= deadline:
                holder = _holder(self._descriptor)[0] if self._descriptor is not None else None
                raise LogLocked(self._what, where=str(self._path.parent), pid=holder)
            threading.Event().wait(retry_s)

    def check(self) -> None:
        """Make sure that the lock is still this holder's, before something is written or acknowledged. O(1).

        Raises:
            LogLocked: it was lost: the lock file was deleted, replaced, or signed by another holder.
        """
        if not (self._is_held and self._is_in_place() and self._is_signed()):
            pid = _holder(self._descriptor)[0] if self._descriptor is not None else None
            raise LogLocked(
                f"{self._what}: this writer has lost its lock", where=str(self._path.parent), pid=pid
            )

    def outrun(self, fence: int) -> None:
        """Make this holder's number greater than `fence`: a power cut can take the lock file's content back.

        Raises:
            OSError: the lock file cannot be written.
        """
        if fence >= self.fence:
            self.fence = fence + 1
            self._sign()

    def release(self) -> None:
        """Give the lock back. Safe to call twice."""
        if self._is_held and self._descriptor is not None:
            self._is_held = False
            if os.getpid() == self._pid:  # a lock is shared with forked processes, so they must not free it
                _unlock(self._descriptor)

    def close(self) -> None:
        """Give the lock back and close the files. Safe to call twice."""
        self.release()
        self._drop()
        if self._turnstile is not None:
            os.close(self._turnstile)
            self._turnstile = None

    def _drop(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        self._is_held = False

    def _is_in_place(self) -> bool:
        """Say whether the file that is locked is the one that others would lock."""
        assert self._descriptor is not None
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        ours = os.fstat(self._descriptor)
        return (there.st_ino, there.st_dev) == (ours.st_ino, ours.st_dev)

    def _is_signed(self) -> bool:
        assert self._descriptor is not None
        return os.pread(self._descriptor, _SIGNATURE_BYTES, 0) == self._signature

    def _sign(self) -> None:
        assert self._descriptor is not None
        content = json.dumps({"pid": self._pid, "fence": self.fence})
        self._signature = content.ljust(_SIGNATURE_BYTES).encode()
        os.pwrite(self._descriptor, self._signature, 0)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def _unlock(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _holder(descriptor: int) -> tuple[int | None, int]:
    """Return the process id and fencing number in the lock file; (None, 0) in a new or damaged one."""
    try:
        content = json.loads(os.pread(descriptor, _SIGNATURE_BYTES, 0))
        pid, fence = int(content["pid"]), int(content["fence"])
    except (ValueError, KeyError, TypeError, OverflowError):
        return None, 0
    return (pid, fence) if 0 <= fence < _FENCE_MAX else (None, 0)
