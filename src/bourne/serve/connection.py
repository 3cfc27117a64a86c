"""One client's connection: uvicorn's, with bounds on clients that connect and say nothing, or say it slowly.

Law: who has sent a whole request is not disturbed by those who have not. Connections without a whole request are counted;
when they are too many, those that have waited longest are closed, but for many that have only just come. What a client
sends is kept only as far as a request needs it, and who does not take the end of an answer is closed in the end.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from http import HTTPStatus
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from bourne.limits import (
    SERVE_FRAGMENTS_MAX,
    SERVE_HEAD_BYTES_MAX,
    SERVE_HEAD_S,
    SERVE_NEW_S,
    SERVE_PONG_BYTES_MAX,
    SERVE_TAKE_S,
    SERVE_WAITING_MAX,
)

# What an application finds in the scope: ends the connection at once, whatever is still to be sent.
ABORT: Final = "bourne.abort"

# And this says whether the client has fallen behind, so that the next sending waits for it.
FLOW: Final = "bourne.flow"

_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
)


class Waiting:
    """The connections of one server that have brought no whole request, in the order in which they began to wait."""

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
        self._loose_bytes = 0  # received since the last head, or piece of a body, was whole

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._go_on()
        self._waiting.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in a part of a request; no head, and nothing around a body, may grow without end."""
        self._loose_bytes += len(data)
        super().data_received(data)
        if self._loose_bytes > SERVE_HEAD_BYTES_MAX:
            if not self.transport.is_closing() and self._head_timer is not None:
                self.transport.write(_TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        """Let the head of a request, which begins to come, have its time."""
        super().on_message_begin()
        self.scope[ABORT] = self.transport.abort  # type: ignore[typeddict-unknown-key]
        self.scope[FLOW] = self.flow  # type: ignore[typeddict-unknown-key]
        self._wait()

    def on_headers_complete(self) -> None:
        """Let a request begin."""
        self._loose_bytes = 0
        self._go_on()
        super().on_headers_complete()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take in a line of the head; what comes after a body is none, and nobody wants it."""
        if self._head_timer is not None:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """Take in a piece of a body; whoever reads it counts it."""
        self._loose_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Take a whole request into work."""
        if self.cycle is None or not self.cycle.response_complete:
            self._waiting.remove(self)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if self.transport.is_closing():
            self.loop.call_later(SERVE_TAKE_S, self.transport.abort)
        if not self.transport.is_closing() and not self.pipeline and self.cycle.response_complete:
            self._waiting.remove(self)
            self._waiting.add(self)

    def timeout_keep_alive_handler(self) -> None:
        """End an idle connection, also one that never took the end of its answer."""
        self.transport.abort()

    def _wait(self) -> None:
        self._waiting.add(self)
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(SERVE_HEAD_S, self.transport.abort)

    def _go_on(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class Messages(WebSocketsSansIOProtocol):
    """A WebSocket whose client cannot make the server keep what it sends, or what it does not take."""

    def data_received(self, data: bytes) -> None:
        """Take in a part; the first one is the whole handshake, and what makes none of it would never go on."""
        super().data_received(data)
        if not self.handshake_initiated:
            self.transport.abort()

    def handle_connect(self, event: Any) -> None:
        """Begin; the application may end it at once."""
        super().handle_connect(event)
        if self.response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            self.scope[ABORT] = self.transport.abort  # type: ignore[typeddict-unknown-key]

    def handle_ping(self) -> None:
        """Answer, unless the answers before are not taken."""
        if self.transport.get_write_buffer_size() > SERVE_PONG_BYTES_MAX:
            self.transport.abort()
        super().handle_ping()

    def handle_cont(self, event: Any) -> None:
        """Take in one more fragment: each may be empty, so that their size bounds nothing."""
        if len(self.frames) > SERVE_FRAGMENTS_MAX:
            self.frames = []
            self.transport.abort()
        super().handle_cont(event)

    def handle_parser_exception(self) -> None:
        """End what is no WebSocket; before it is one, there is nothing to close."""
        if self.conn.close_sent is None:
            self.transport.abort()
        else:
            super().handle_parser_exception()

    def keepalive_timeout(self) -> None:
        """End, whatever is still to be sent."""
        super().keepalive_timeout()
        self.transport.abort()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """Let the client take what is left, but not for ever."""
        super().on_task_complete(task)
        self.loop.call_later(SERVE_TAKE_S, self.transport.abort)
