"""The access log: a line for each request, with when, who, what, the answer's status and size, and how long it took."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bourne.errors import StorageError

ACCESS_LOG: Final = logging.getLogger("bourne.access")


@contextmanager
def log_access(file: Path) -> Iterator[None]:
    """Write the log to the end of a file (`-`: to standard error) while the block runs.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        handler = (
            logging.StreamHandler(sys.stderr)
            if str(file) == "-"
            else logging.FileHandler(file, encoding="utf-8")
        )
    except OSError as error:
        raise StorageError("the access log cannot be written", where=str(file), found=str(error)) from error
    handler.setFormatter(logging.Formatter("%(asctime)s.%(msecs)03d %(message)s", "%Y-%m-%dT%H:%M:%S"))
    ACCESS_LOG.addHandler(handler)
    ACCESS_LOG.setLevel(logging.INFO)
    ACCESS_LOG.propagate = False
    try:
        yield
    finally:
        ACCESS_LOG.removeHandler(handler)
        ACCESS_LOG.setLevel(logging.NOTSET)
        handler.close()
