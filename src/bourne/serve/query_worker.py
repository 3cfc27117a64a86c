"""The process that answers queries of strangers: `python -m bourne.serve.query_worker`, started by `queries`.

Law: whatever a query does to its process, it does to nobody else. The process may read the data folder and has so much
memory; it writes nothing, and DuckDB in it neither reaches files nor the network, nor loads anything.

Speaks over one socket, in messages of a length, a JSON object, a length, and bytes.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import struct
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from bourne.duck import connect
from bourne.errors import BourneError, QueryError, UnknownName
from bourne.limits import (
    QUERIES_AT_ONCE,
    QUERY_ANSWER_BYTES_MAX,
    QUERY_DEPTH_MAX,
    QUERY_DUCKDB_BYTES,
    QUERY_PROCESS_BYTES_MIN,
)
from bourne.loading import load_app
from bourne.log.catalog import LogInfo
from bourne.problems import refusal
from bourne.reading import Reading
from bourne.serve.encoding import json_body, rows_json, table_body
from bourne.sql.zones import register_zones
from bourne.udf import register
from bourne.views.catalog import Catalog, ViewInfo

LENGTHS: Final = struct.Struct("!IQ")

# What errors of other libraries say when there was no memory left.
_NO_MEMORY: Final = ("out of memory", "memoryerror", "bad_alloc", "malloc of size", "can't start new thread")

# How often what was cancelled is interrupted until it has ended, in seconds.
_INTERRUPT_S: Final = 0.05


class Worker:
    """Answers what comes over a socket, several at once."""

    def __init__(self, reading: Reading, channel: socket.socket) -> None:
        self._reading = reading
        self._channel = channel
        self._sending = threading.Lock()
        self._mutex = threading.Lock()
        self._cursors: dict[int, duckdb.DuckDBPyConnection | None] = {}
        self._cancelled: dict[int, duckdb.DuckDBPyConnection] = {}
        self._to_interrupt = threading.Condition(self._mutex)

    def run(self) -> None:
        """Serve until the other side closes."""
        threading.Thread(target=self._interrupt, name="interrupt", daemon=True).start()
        with (
            ThreadPoolExecutor(QUERIES_AT_ONCE, thread_name_prefix="query") as pool,
            self._channel.makefile("rb") as stream,
        ):
            while head := stream.read(LENGTHS.size):
                length, size = LENGTHS.unpack(head)
                message = json.loads(stream.read(length))
                stream.read(size)
                if "cancel" in message:
                    self._cancel(message["cancel"])
                else:
                    with self._mutex:
                        self._cursors[message["id"]] = None
                    pool.submit(self._answer, message)
            for number in list(self._cursors):
                self._cancel(number)

    def _cancel(self, number: int) -> None:
        with self._mutex:
            if (cursor := self._cursors.pop(number, None)) is not None:
                self._cancelled[number] = cursor
                self._to_interrupt.notify()

    def _interrupt(self) -> None:
        """Interrupt what was cancelled, again and again: DuckDB forgets it of a query that is just about to begin."""
        with self._mutex:
            while True:
                self._to_interrupt.wait(_INTERRUPT_S if self._cancelled else None)
                for cursor in self._cancelled.values():
                    with contextlib.suppress(duckdb.ConnectionException):  # it has just ended
                        cursor.interrupt()

    def _started(self, number: int, cursor: duckdb.DuckDBPyConnection) -> None:
        with self._mutex:
            if number not in self._cursors:
                raise QueryError("the query was cancelled")
            self._cursors[number] = cursor

    def _answer(self, message: dict[str, Any]) -> None:
        number = message["id"]
        try:
            head, body = self._ask(message)
        except Exception as error:  # noqa: BLE001  (told to who asked)
            said = str(error).casefold()
            is_memory = isinstance(error, MemoryError) or any(words in said for words in _NO_MEMORY)
            if isinstance(error, BourneError):
                what = error
            elif isinstance(error, pa.ArrowException):
                what = QueryError("the answer cannot be written", found=str(error)[:500], hint="CAST it")
            elif is_memory:
                what = QueryError("the query takes more memory than there is", hint="ask for less at once")
            else:
                what = BourneError("the query has failed", found=repr(error), hint="please report this")
            response = refusal(what)
            head = {"status": response.status_code, "type": response.media_type, "memory": is_memory}
            body = bytes(response.body)
        finally:
            with self._mutex:
                self._cursors.pop(number, None)
                self._cancelled.pop(number, None)
        send(self._channel, {"id": number, **head}, body, self._sending)

    def _ask(self, message: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        _check_depth(message["sql"])
        result = self._reading.query_together(
            message["sql"], message["parameters"], at_least=message["at_least"], wait_s=message["wait"],
            bytes_max=QUERY_ANSWER_BYTES_MAX, started=lambda cursor: self._started(message["id"], cursor),
        )  # fmt: skip
        head = {"status": 200, "position": result.position}
        table = result.to_arrow()
        if message["format"] != "json":
            return head, b"".join(table_body(table, message["format"], result.types))
        columns = [
            {"name": name, "type": kind} for name, kind in zip(table.column_names, result.types, strict=True)
        ]
        is_json = [number for number, kind in enumerate(result.types) if kind == "JSON"]
        names = _distinct(table.column_names)
        rows = rows_json(table.rename_columns(names), {names[number] for number in is_json})
        for column, name in zip(columns, names, strict=True):
            column["name"] = name
        return head, json_body({"position": result.position, "columns": columns}, rows)


def _check_depth(sql: str) -> None:
    """Refuse what is nested too deep, before any parser sees it; parentheses in texts count, too."""
    depth = 0
    for each in sql:
        depth += (each in "([{") - (each in ")]}")
        if depth > QUERY_DEPTH_MAX:
            raise QueryError(
                "the query is nested too deep", expected=f"at most {QUERY_DEPTH_MAX} parentheses"
            )


def _distinct(names: list[str]) -> list[str]:
    """Return the names with numbers where one comes again: an object has each once."""
    found: list[str] = []
    for name in names:
        number, distinct = 1, name
        while distinct in found:
            distinct, number = f"{name}_{number}", number + 1
        found.append(distinct)
    return found


def send(channel: socket.socket, message: dict[str, Any], body: bytes, mutex: threading.Lock) -> None:
    """Write one message."""
    head = json.dumps(message).encode()
    with mutex:
        channel.sendall(LENGTHS.pack(len(head), len(body)) + head)
        channel.sendall(body)


def _limit_memory() -> None:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    size = max(QUERY_PROCESS_BYTES_MIN, total // 8)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (size if hard < 0 else min(size, hard), hard))


def _reading(folder: Path, file: str, name: str) -> Reading:
    """Return what reads a data folder, with a DuckDB that knows the functions of an app's file."""
    database = connect(threads=2, may_spill=False)
    register_zones(database)
    if file:
        register(database, load_app(Path(file), name=name or None).functions.values())
    database.execute(f"SET memory_limit = '{QUERY_DUCKDB_BYTES >> 20}MiB'")
    database.execute("SET lock_configuration = true")
    catalog = Catalog(folder)

    def log(name: str) -> LogInfo:
        found = catalog.log(name)
        if found is None:
            raise UnknownName(f"there is no log {name!r}", found=name)
        return found

    def views() -> dict[str, ViewInfo]:
        return {view.name: view for view in catalog.views()}

    return Reading(catalog, views, views, log, lambda: database)


def main() -> None:
    """Serve the socket whose number is given, for a data folder, with the functions of an app's file."""
    number, folder, file, name = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server ends it
    _limit_memory()
    pa.set_cpu_count(1)
    channel = socket.socket(fileno=int(number))
    reading = _reading(Path(folder), file, name)
    send(channel, {"begun": True}, b"", threading.Lock())
    Worker(reading, channel).run()


if __name__ == "__main__":
    main()
