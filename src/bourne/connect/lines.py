"""Lines of text, from TCP clients or a stream: each line is a record.

A line goes into the log's one text column; the time column, if the log has one, gets the time of arrival. Blank
lines are passed over; bytes that are not UTF-8 become U+FFFD. The buffer is bounded: when it is full, clients wait
(TCP's own back-pressure). A sender gets no acknowledgement, so a line that was sent but not yet appended when the
process dies is lost: at most once.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import socketserver
import threading
from typing import Any, BinaryIO

import pyarrow as pa

from bourne.errors import DefinitionError, StorageError
from bourne.limits import LINE_BYTES_MAX, SOURCE_LINES_MAX
from bourne.log.catalog import LogInfo
from bourne.ports import Clock

# How often a waiting thread looks whether it should stop, in seconds.
_LOOK_S = 0.1


class _Lines:
    """The bounded buffer that threads fill with lines and `poll` empties."""

    def __init__(self, log: LogInfo) -> None:
        self.into = log.name
        self._text_column = _text_column(log)
        self._lines: queue.Queue[str] = queue.Queue(SOURCE_LINES_MAX)
        self._stopping = threading.Event()

    def take(self, stream: Any) -> None:
        """Read lines from a binary stream until it ends; waits while the buffer is full."""
        while not self._stopping.is_set():
            line = stream.readline(LINE_BYTES_MAX + 1)
            if not line or len(line) > LINE_BYTES_MAX:
                return
            text = line.decode("utf-8", "replace").strip("\r\n")
            if text.strip():
                self._put(text)

    def _put(self, text: str) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(queue.Full):
                self._lines.put(text, timeout=_LOOK_S)
                return

    def poll(self, log: LogInfo, clock: Clock) -> pa.Table | None:
        """Return the lines that have come, as records of the log; None if there are none."""
        lines = []
        with contextlib.suppress(queue.Empty):
            while len(lines) < SOURCE_LINES_MAX:
                lines.append(self._lines.get_nowait())
        if not lines:
            return None
        columns = {self._text_column: pa.array(lines, pa.string())}
        if log.time is not None:
            columns[log.time] = pa.array([clock.now_us()] * len(lines), pa.timestamp("us"))
        return pa.table(columns)


class TcpLines(_Lines):
    """Listens on a TCP port for lines from any number of clients. Port 0 takes a free one: see `address`."""

    has_ended = False

    def __init__(self, host: str, port: int, log: LogInfo) -> None:
        """Start to listen.

        Raises:
            StorageError: the port is taken or may not be used.
        """
        super().__init__(log)
        source = self

        class Client(socketserver.StreamRequestHandler):
            timeout = None

            def handle(self) -> None:
                with contextlib.suppress(OSError):  # a client that went away
                    source.take(self.rfile)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            block_on_close = False
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        try:
            self._server = Server((host, port), Client)
        except OSError as error:
            raise StorageError(
                f"cannot listen on {host}:{port}", where=f"source of log {log.name!r}", found=str(error),
                hint="choose another port, or stop what uses it",
            ) from error  # fmt: skip
        self.address: tuple[str, int] = self._server.server_address[:2]  # type: ignore[assignment]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_LOOK_S,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening. Safe to call twice."""
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()


class StreamLines(_Lines):
    """Reads lines from a stream, such as standard input, until it ends."""

    def __init__(self, stream: BinaryIO, log: LogInfo) -> None:
        super().__init__(log)
        self._thread = threading.Thread(target=self.take, args=(stream,), daemon=True)
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        """Say whether the stream has ended and all its lines were taken."""
        return not self._thread.is_alive() and self._lines.empty()

    def close(self) -> None:
        """Stop. The thread may wait for a last line; it holds nothing. Safe to call twice."""
        self._stopping.set()


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
