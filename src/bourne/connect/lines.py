"""Lines of text, from TCP clients or a stream: each line is a record.

A line goes into the log's one text column; the time column, if the log has one, gets the time of arrival. Blank
lines are passed over, a last line needs no end, and bytes that are not UTF-8 become U+FFFD. The buffer is bounded in
lines and bytes: when it is full, senders wait (TCP's own back-pressure). A sender gets no acknowledgement, so a line
that was sent but not yet appended when the process dies is lost: at most once.

A line that is too long ends its client, who is told so; in a stream it fails the source. Neither is passed over.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Callable
from typing import Any, BinaryIO

import pyarrow as pa

from bourne.errors import BourneError, DefinitionError, MalformedInput, SourceFailed
from bourne.limits import CLIENTS_MAX, LINE_BYTES_MAX, SOURCE_BYTES_MAX, SOURCE_LINES_MAX
from bourne.log.catalog import LogInfo
from bourne.ports import Clock

# How much is taken from a socket or a stream at a time.
_PIECE_BYTES = 1 << 16

# How often the listening thread looks whether it should stop, and how long closing waits for a client's thread.
_LOOK_S = 0.05
_END_S = 2.0


class _Buffer:
    """Lines that threads put in, in each thread's order, and `poll` takes out. Bounded; waits when full."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._bytes = 0
        self._changed = threading.Condition()
        self._is_closed = False

    def put(self, lines: list[str], size: int) -> bool:
        """Wait for room and take the lines in; False if the source was closed meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._has_room())
            if not self._is_closed:
                self._lines += lines
                self._bytes += size
            return not self._is_closed

    def _has_room(self) -> bool:
        return len(self._lines) < SOURCE_LINES_MAX and self._bytes < SOURCE_BYTES_MAX

    def take(self) -> list[str]:
        """Return all lines, and let waiting threads go on."""
        with self._changed:
            lines, self._lines, self._bytes = self._lines, [], 0
            self._changed.notify_all()
            return lines

    def is_empty(self) -> bool:
        """Say whether there are no lines."""
        return not self._lines

    def close(self) -> None:
        """Refuse further lines and wake all who wait."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()


class _Lines:
    """What both sources have in common: cutting bytes into lines, and lines into records."""

    def __init__(self, log: LogInfo) -> None:
        self.into = log.name
        self._text_column = _text_column(log)
        self._buffer = _Buffer()

    def _take(self, read: Callable[[int], bytes], *, sender: str) -> None:
        """Read lines until the sender ends, or the source is closed.

        Raises:
            MalformedInput: a line is too long. Those before it were taken.
            OSError, ValueError: as `read`.
        """
        rest, count = b"", 0
        while piece := read(_PIECE_BYTES):
            *ended, rest = (rest + piece).split(b"\n")
            if not self._put(ended, count, sender):
                return
            count += len(ended)
            if len(rest) > LINE_BYTES_MAX + 1:  # room for a carriage return
                raise _too_long(sender, count + 1)
        self._put([rest], count, sender)

    def _put(self, raw: list[bytes], count: int, sender: str) -> bool:
        """Take in lines, of which `count` came before, up to the first that is too long."""
        lines = [line.removesuffix(b"\r") for line in raw]
        long = next((index for index, line in enumerate(lines) if len(line) > LINE_BYTES_MAX), None)
        texts = [line.decode("utf-8", "replace") for line in lines[:long] if line.strip()]
        if texts and not self._buffer.put(texts, sum(map(len, lines[:long]))):
            return False
        if long is not None:
            raise _too_long(sender, count + long + 1)
        return True

    def poll(self, log: LogInfo, clock: Clock) -> pa.Table | None:
        """Return the lines that have come, as records of the log; None if there are none."""
        lines = self._buffer.take()
        if not lines:
            return None
        columns: dict[str, Any] = {self._text_column: pa.array(lines, pa.string())}
        if log.time is not None:
            arrived = pa.array([clock.now_us()] * len(lines), pa.timestamp("us"))
            wanted = log.schema.to_arrow().field(log.time).type
            columns[log.time] = arrived.cast(wanted, safe=False)  # cut to what the column's unit can say
        return pa.table(columns)


def _too_long(sender: str, line: int) -> MalformedInput:
    return MalformedInput(
        "a line is too long", where=f"{sender}, line {line}", expected=f"at most {LINE_BYTES_MAX} bytes",
        hint="end lines with a newline",
    )  # fmt: skip


class TcpLines(_Lines):
    """Listens on a TCP port for lines from any number of clients. Port 0 takes a free one: see `address`."""

    has_ended = False

    def __init__(self, host: str, port: int, log: LogInfo) -> None:
        """Start to listen.

        Raises:
            SourceFailed: the host is unknown, or the port is taken or may not be used.
        """
        super().__init__(log)
        self._clients: dict[threading.Thread, socket.socket] = {}
        self._mutex = threading.Lock()
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self._server = _Server(address, family, self._serve)
        except OSError as error:
            raise SourceFailed(
                f"cannot listen on {host}:{port}", where=f"source of log {log.name!r}", found=str(error),
                hint="choose another port, or stop what uses it",
            ) from error  # fmt: skip
        self.address: tuple[str, int] = self._server.server_address[:2]  # type: ignore[assignment]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_LOOK_S,), name=f"lines of {log.name}", daemon=True
        )
        self._thread.start()

    def _serve(self, connection: socket.socket, peer: str) -> None:
        """Take one client's lines, in that client's thread."""
        me = threading.current_thread()
        connection.setsockopt(
            socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1
        )  # notice clients that lost their power
        with self._mutex:
            is_full = len(self._clients) >= CLIENTS_MAX
            if not is_full:
                self._clients[me] = connection
        try:
            with contextlib.suppress(OSError):  # a client that went away
                try:
                    if is_full:
                        connection.sendall(f"too many clients, at most {CLIENTS_MAX}\n".encode())
                    else:
                        self._take(connection.recv, sender=peer)
                except MalformedInput as error:
                    connection.sendall(f"{error}\n".encode())
        finally:
            with self._mutex:
                self._clients.pop(me, None)

    def close(self) -> None:
        """Stop listening and let go of the clients, who see the end. Safe to call twice."""
        self._server.shutdown()
        self._server.server_close()
        self._buffer.close()
        with self._mutex:
            clients = dict(self._clients)
        for connection in clients.values():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in clients:
            thread.join(_END_S)


class _Server(socketserver.ThreadingTCPServer):
    """Runs a function for each client in a thread of its own."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self, address: Any, family: socket.AddressFamily, serve: Callable[[socket.socket, str], None]
    ) -> None:
        self.address_family = family
        self._serve = serve
        super().__init__(address, socketserver.BaseRequestHandler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve one client."""
        self._serve(request, f"client {client_address[0]}:{client_address[1]}")


class StreamLines(_Lines):
    """Reads lines from a stream, such as standard input, until it ends."""

    def __init__(self, stream: BinaryIO, log: LogInfo, *, name: str = "standard input") -> None:
        super().__init__(log)
        self._name = name
        self._failure: BourneError | None = None
        read = getattr(stream, "read1", stream.read)  # what is there, without waiting for more
        self._thread = threading.Thread(target=self._read, args=(read,), name=name, daemon=True)
        self._thread.start()

    def _read(self, read: Callable[[int], bytes]) -> None:
        try:
            self._take(read, sender=self._name)
        except MalformedInput as error:
            self._failure = error
        except (OSError, ValueError) as error:
            self._failure = SourceFailed(f"cannot read {self._name}", found=str(error))

    def poll(self, log: LogInfo, clock: Clock) -> pa.Table | None:
        """Return the lines that have come, as records of the log; None if there are none.

        Raises:
            MalformedInput, SourceFailed: nothing more can come; all lines before have been handed over.
        """
        has_failed = self._failure is not None  # looked at first: what came before it is in the buffer by now
        rows = super().poll(log, clock)
        if rows is None and has_failed:
            assert self._failure is not None
            raise self._failure
        return rows

    @property
    def has_ended(self) -> bool:
        """Say whether the stream has ended and all its lines were taken."""
        return not self._thread.is_alive() and self._failure is None and self._buffer.is_empty()

    def close(self) -> None:
        """Stop. The thread may wait for a last line; it holds nothing. Safe to call twice."""
        self._buffer.close()


def _text_column(log: LogInfo) -> str:
    """Return the column that lines go into.

    Raises:
        DefinitionError: the log has no such column, or others that a line cannot fill.
    """
    texts = [c.name for c in log.schema.columns if c.type == "VARCHAR"]
    others = [
        c.name for c in log.schema.columns if c.type != "VARCHAR" and c.name != log.time and not c.nullable
    ]
    if len(texts) != 1 or others:
        raise DefinitionError(
            f"lines cannot go into log {log.name!r}",
            expected="one varchar column for the line, and a time column if you like",
            found=", ".join(f"{c.name} {c.type}" for c in log.schema.columns),
            hint="declare such a log, and take the line apart in a view",
        )
    return texts[0]
