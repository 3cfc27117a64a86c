"""The system's errors become ours at this door."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bourne.errors import BourneError, DiskFull, StorageError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def disk_error(error: OSError, folder: Path, what: str) -> BourneError:
    """Return our error for the system's. Only for calls of which nothing was kept."""
    if error.errno in _FULL:
        return DiskFull(
            f"{what}: no space left",
            where=str(folder),
            found=os.strerror(error.errno or 0),
            hint="free space (or raise the limit) and try again: nothing of this call was stored, "
            "what was acknowledged before is safe",
        )
    return StorageError(
        what,
        where=str(error.filename or folder),
        found=str(error),
        hint="check that the folder exists and may be used, and that its disk is sound",
    )


@contextmanager
def disk_errors(folder: Path, what: str) -> Iterator[None]:
    """Raise the system's errors as ours.

    Raises:
        DiskFull, StorageError: for an `OSError` in the block.
    """
    try:
        yield
    except OSError as error:
        raise disk_error(error, folder, what) from error
