"""The doors to the world, as small protocols: the clock and the files.

Everything that must be durable goes through `Files`, so that a test can fail, tear or forget any write.
Reading is not a port: a reader only ever sees what is really on the disk.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """Says what time it is."""

    def now_us(self) -> int:
        """Return microseconds since 1970-01-01 UTC."""
        ...


class SystemClock:
    """The computer's own clock."""

    def now_us(self) -> int:
        """Return microseconds since 1970-01-01 UTC."""
        return time.time_ns() // 1000


class Files(Protocol):
    """Writes and makes durable. Every method may raise `OSError`."""

    def open(self, path: Path) -> int:
        """Open `path` for reading and writing, creating it if missing; return the file descriptor."""
        ...

    def write(self, descriptor: int, parts: Sequence[memoryview], position: int) -> None:
        """Write all of `parts` one after another at `position`; not durable yet."""
        ...

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut the file to `size` bytes."""
        ...

    def sync(self, descriptor: int) -> None:
        """Return when all that was written to the file is durable."""
        ...

    def sync_folder(self, path: Path) -> None:
        """Return when the names in the folder are durable."""
        ...

    def replace(self, source: Path, target: Path) -> None:
        """Rename `source` to `target`, replacing it, atomically; durable after `sync_folder`."""
        ...

    def remove(self, path: Path) -> None:
        """Delete the file, if it is there; durable after `sync_folder`."""
        ...

    def close(self, descriptor: int) -> None:
        """Close the file."""
        ...

    def boot_id(self) -> bytes:
        """Return 16 bytes that change when the machine is started anew: what was not synced may be gone then."""
        ...


class OsFiles:
    """The operating system's files."""

    def open(self, path: Path) -> int:
        """Open for reading and writing, create if missing."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def write(self, descriptor: int, parts: Sequence[memoryview], position: int) -> None:
        """Write all parts at `position`, going on after short writes."""
        pending = [part.cast("B") for part in parts if len(part)]
        while pending:
            written = os.pwritev(descriptor, pending[:_IOV_MAX], position)
            if written == 0:
                raise OSError(errno.EIO, "the system wrote nothing")
            position += written
            while pending and written >= len(pending[0]):
                written -= len(pending.pop(0))
            if written:
                pending[0] = pending[0][written:]

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut the file."""
        os.ftruncate(descriptor, size)

    def sync(self, descriptor: int) -> None:
        """Flush data and the file's length to the disk."""
        if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: its fsync leaves the bytes in the disk's cache
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        else:
            os.fdatasync(descriptor)

    def sync_folder(self, path: Path) -> None:
        """Flush the folder's entries."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        """Rename atomically."""
        os.replace(source, target)  # noqa: PTH105  (the port speaks the system's own verb)

    def remove(self, path: Path) -> None:
        """Delete the file, if it is there."""
        path.unlink(missing_ok=True)

    def close(self, descriptor: int) -> None:
        """Close the file."""
        os.close(descriptor)

    def boot_id(self) -> bytes:
        """Return Linux's id of the running system; elsewhere that of this process, which is always safe."""
        return _boot_id()


@functools.cache
def _boot_id() -> bytes:
    try:
        return uuid.UUID(Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()).bytes
    except (OSError, ValueError):
        return uuid.uuid4().bytes


_IOV_MAX = 512


def write_durably(files: Files, path: Path, content: bytes, *, is_private: bool = False) -> None:
    """Write a small file so that after a crash it is there whole, or as it was before.

    If `is_private`, only its owner may read it, from its first byte on.
    """
    draft = path.with_name(path.name + ".draft")
    if is_private:
        draft.unlink(missing_ok=True)  # somebody may have it open who could read it
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    descriptor = files.open(draft)
    try:
        files.truncate(descriptor, 0)
        files.write(descriptor, [memoryview(content)], 0)
        files.sync(descriptor)
    finally:
        files.close(descriptor)
    files.replace(draft, path)
    files.sync_folder(path.parent)


def make_folder_durably(files: Files, path: Path) -> None:
    """Create a folder and its missing parents so that they are there after a crash."""
    missing = [folder for folder in (path, *path.parents) if not folder.is_dir()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        files.sync_folder(folder.parent)
