"""Lines, from TCP clients or a stream: each line is a record.

As text, a line goes into the log's one text column, and bytes that are not UTF-8 become U+FFFD; as JSON, it is an object
whose names are columns. The time column, if the log has one and a line does not say it, gets the time of arrival. Blank
lines are passed over, and a last line needs no end. The buffer is bounded in lines and bytes: when it is full, senders
wait (TCP's own back-pressure). A sender gets no acknowledgement, so a line that was sent but not yet appended when the
process dies is lost: at most once.

A line that is too long ends its client, who is told so; in a stream it fails the source. Neither is passed over.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, Literal

import pyarrow as pa

from bourne.connect.arrival import Arrival
from bourne.connect.json_lines import fit_lines
from bourne.connect.source import DeadLetter, Delivery, Lag, Position, Taken
from bourne.errors import BourneError, DefinitionError, MalformedInput, SourceFailed
from bourne.limits import CLIENTS_MAX, LINE_BYTES_MAX, SOURCE_BYTES_MAX, SOURCE_LINES_MAX, SOURCE_LOOK_S
from bourne.log.catalog import LogInfo
from bourne.ports import Clock

LineFormat = Literal["text", "jsonl"]

# How much is taken from a socket or a stream at a time.
_PIECE_BYTES = 1 << 16

# How often the listening thread looks whether it should stop, and how long closing waits for a client's thread.
_LOOK_S = 0.05
_END_S = 2.0


class _Buffer:
    """Lines that threads put in, in each thread's order, and `poll` takes out. Bounded; waits when full."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._bytes = 0
        self._changed = threading.Condition()
        self._is_closed = False

    def put(self, lines: list[bytes], size: int) -> bool:
        """Wait for room and take the lines in; False if the source was closed meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._has_room())
            if not self._is_closed:
                self._lines += lines
                self._bytes += size
                self._changed.notify_all()
            return not self._is_closed

    def _has_room(self) -> bool:
        return len(self._lines) < SOURCE_LINES_MAX and self._bytes < SOURCE_BYTES_MAX

    def take(self, wait_s: float = 0.0) -> list[bytes]:
        """Return all lines, and let waiting threads go on. If there are none, wait a little."""
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._is_closed, wait_s)
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

    delivery: Delivery = "at most once"

    def __init__(self, log: LogInfo, clock: Clock, name: str, kind: LineFormat) -> None:
        self.name = name
        self._log = log
        self._began_us = clock.now_us()
        self._text_column = _text_column(log) if kind == "text" else None
        self._arrival = Arrival(log, clock)
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
        found = [line for line in lines[:long] if line.strip()]
        if found and not self._buffer.put(found, sum(map(len, found))):
            return False
        if long is not None:
            raise _too_long(sender, count + long + 1)
        return True

    def read(self, position: Position | None, partitions: Mapping[int, Position]) -> Iterator[Taken | None]:
        """Yield the lines that come; where it stands is how many came."""
        count: int = (position or {"lines": 0})["lines"]
        while True:
            is_over = self._is_over()  # looked at first: what came before it is in the buffer by now
            lines = self._buffer.take(SOURCE_LOOK_S)
            if lines:
                rows, dead = self._records(lines, count)
                count += len(lines)
                yield Taken(rows, {"lines": count}, dead=dead)
            elif is_over:
                return
            else:
                yield None

    def _is_over(self) -> bool:
        """Say whether nothing more is put into the buffer."""
        raise NotImplementedError

    def _records(self, lines: list[bytes], before: int) -> tuple[pa.Table, tuple[DeadLetter, ...]]:
        """Return lines as records, and those that are none; `before` is how many came earlier."""
        if self._text_column is not None:
            texts = [line.decode("utf-8", "replace") for line in lines]
            return self._arrival.fill(pa.table({self._text_column: pa.array(texts, pa.string())})), ()
        table, misfits = fit_lines(lines, self._arrival.schema, self._log.name, self.name)
        since = f"since {self._began_us}"  # no two lines have the same place
        dead = tuple(
            DeadLetter(
                f"{self.name}, line {before + each.number} {since}", each.error.what, each.data, "jsonl"
            )
            for each in misfits
        )
        return self._arrival.fill(table), dead

    def confirm(self, position: Position) -> None:
        """Nobody waits for it."""

    def lag(self) -> Lag:
        """Return nothing: nobody knows what senders still have."""
        return Lag()


def _too_long(sender: str, line: int) -> MalformedInput:
    return MalformedInput(
        "a line is too long", where=f"{sender}, line {line}", expected=f"at most {LINE_BYTES_MAX} bytes",
        hint="end lines with a newline",
    )  # fmt: skip


class TcpLines(_Lines):
    """Listens on a TCP port for lines from any number of clients. Port 0 takes a free one: see `address`."""

    def __init__(
        self,
        host: str,
        port: int,
        log: LogInfo,
        clock: Clock,
        *,
        name: str | None = None,
        kind: LineFormat = "text",
    ) -> None:
        """Start to listen.

        Raises:
            SourceFailed: the host is unknown, or the port is taken or may not be used.
        """
        super().__init__(log, clock, name or f"tcp://{host}:{port}", kind)
        self._is_stopped = False
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

    def _is_over(self) -> bool:
        return self._is_stopped

    def stop(self) -> None:
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
        self._is_stopped = True


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

    def __init__(
        self,
        stream: BinaryIO,
        log: LogInfo,
        clock: Clock,
        *,
        name: str = "standard input",
        kind: LineFormat = "text",
    ) -> None:
        super().__init__(log, clock, name, kind)
        self._is_stopped = False
        self._failure: BourneError | None = None
        read = getattr(stream, "read1", stream.read)  # what is there, without waiting for more
        self._thread = threading.Thread(target=self._read, args=(read,), name=name, daemon=True)
        self._thread.start()

    def _read(self, read: Callable[[int], bytes]) -> None:
        try:
            self._take(read, sender=self.name)
        except MalformedInput as error:
            self._failure = error
        except (OSError, ValueError) as error:
            self._failure = SourceFailed(f"cannot read {self.name}", found=str(error))

    def _is_over(self) -> bool:
        if self._failure is not None and self._buffer.is_empty():
            raise self._failure
        return not self._thread.is_alive() or self._is_stopped

    def lag(self) -> Lag:
        """Return 0 when all was taken that there will ever be."""
        return Lag(records=0) if not self._thread.is_alive() and self._buffer.is_empty() else Lag()

    def stop(self) -> None:
        """Stop. The thread may wait for a last line; it holds nothing. Safe to call twice."""
        self._is_stopped = True
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
