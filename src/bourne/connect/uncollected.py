"""Making many objects that live shortly, without Python looking for garbage among them."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_MUTEX = threading.Lock()
_paused = 0
_was_enabled = False


@contextmanager
def uncollected() -> Iterator[None]:
    """Pause the search for cyclic garbage, in all threads, for as long as it takes to make some objects and drop them.

    Python searches after each few hundred new objects, now and then through all there are; messages of Kafka took half of
    their time for that.
    """
    global _paused, _was_enabled  # noqa: PLW0603
    with _MUTEX:
        if not _paused:
            _was_enabled = gc.isenabled()
            gc.disable()
        _paused += 1
    try:
        yield
    finally:
        with _MUTEX:
            _paused -= 1
            if not _paused and _was_enabled:
                gc.enable()
