"""One client's connection: uvicorn's, with bounds on clients that connect and say nothing, or say it slowly.

Law: who has sent a whole request is not disturbed by those who have not. Connections without a request in work are counted;
when they are too many, those that have waited longest are closed, but for many that have only just come.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from bourne.limits import SERVE_HEAD_S, SERVE_NEW_S, SERVE_WAITING_MAX

# What an application finds in the scope: ends the connection at once, whatever is still to be sent.
ABORT: Final = "bourne.abort"

# And this says whether the client has fallen behind, so that the next sending waits for it.
FLOW: Final = "bourne.flow"


class Waiting:
    """The connections of one server that have no request in work, in the order in which they began to wait."""

    def __init__(self) -> None:
        self._since_s: OrderedDict[Connection, float] = OrderedDict()

    def add(self, connection: Connection) -> None:
        """Note that it waits from now on; close who has waited longest if there are too many."""
        self._since_s[connection] = connection.loop.time()
        if len(self._since_s) > SERVE_WAITING_MAX:
            oldest, since_s = next(iter(self._since_s.items()))
            if connection.loop.time() - since_s > SERVE_NEW_S:
                del self._since_s[oldest]
                oldest.transport.abort()

    def remove(self, connection: Connection) -> None:
        """Note that it waits no longer."""
        self._since_s.pop(connection, None)


class Connection(HttpToolsProtocol):
    """A connection that has to bring a request's head in time. Made by uvicorn; `app_state` holds the server's `Waiting`."""

    def __init__(
        self, config: Any, server_state: ServerState, app_state: dict[str, Any], _loop: Any = None
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._waiting: Waiting = config.waiting
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._go_on()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Let the head of a request, which begins to come, have its time."""
        super().on_message_begin()
        self.scope[ABORT] = self.transport.abort  # type: ignore[typeddict-unknown-key]
        self.scope[FLOW] = self.flow  # type: ignore[typeddict-unknown-key]
        self._wait()

    def on_headers_complete(self) -> None:
        """Take a request into work."""
        self._go_on()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if not self.transport.is_closing() and not self.pipeline and self.cycle.response_complete:
            self._waiting.remove(self)
            self._waiting.add(self)

    def _wait(self) -> None:
        self._waiting.add(self)
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(SERVE_HEAD_S, self.transport.abort)

    def _go_on(self) -> None:
        self._waiting.remove(self)
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
