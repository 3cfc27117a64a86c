"""The end of what waits for the network, from another thread: a flag, and the sockets that are cut with it."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any


class Cut:
    """Closed once, for ever. Whoever reads from a connection that it knows wakes up."""

    def __init__(self) -> None:
        self._closed = threading.Event()
        self._mutex = threading.Lock()
        self._socket: Any = None

    @property
    def is_closed(self) -> bool:
        """Say whether it is over."""
        return self._closed.is_set()

    def wait(self, seconds: float) -> None:
        """Wait so long, or until it is over."""
        self._closed.wait(seconds)

    def note(self, event: str, info: dict[str, Any]) -> None:
        """Take in from httpx's `trace` which connection is made."""
        if not event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            return
        with self._mutex:
            self._socket = info["return_value"].get_extra_info("socket")
            if self.is_closed:
                self._shut()

    async def note_async(self, event: str, info: dict[str, Any]) -> None:
        """As `note`."""
        self.note(event, info)

    def close(self) -> None:
        """End it. Safe to call twice."""
        with self._mutex:
            self._closed.set()
            self._shut()

    def _shut(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError, ValueError):
                self._socket.shutdown(socket.SHUT_RDWR)
