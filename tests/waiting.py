"""Waiting for what another thread or process does: for a condition, never for a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

_PATIENCE_S = 60.0

T = TypeVar("T")


def until(look: Callable[[], T], *, what: str = "it") -> T:
    """Look again and again until there is something true to see, and return it."""
    deadline = time.monotonic() + _PATIENCE_S
    while not (seen := look()):
        assert time.monotonic() < deadline, f"waited too long for {what}"
        threading.Event().wait(0.002)
    return seen
