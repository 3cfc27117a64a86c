"""A source that is pushed to, over a log, and HTTP clients."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bourne
from bourne.connect.http_push import HttpPush
from bourne.connect.source import Stored
from bourne.connect.sources import Surroundings, open_source
from bourne.log.catalog import LogInfo
from bourne.testing import SimulatedClock
from waiting import until

Address = tuple[str, int]


@dataclass(frozen=True)
class Answer:
    """What a client was told."""

    status: int
    headers: dict[str, str]
    content: dict[str, Any]


class Client:
    """A connection that is kept."""

    def __init__(self, address: Address, log: str = "orders") -> None:
        self._connection = http.client.HTTPConnection(*address, timeout=60)
        self._path = f"/logs/{log}"

    def post(self, body: bytes | str, kind: str = "application/json", **headers: str) -> Answer:
        """Push a body; a name's underscores are hyphens."""
        return self.ask("POST", self._path, body, Content_Type=kind, **headers)

    def ask(self, method: str, path: str, body: bytes | str = b"", **headers: str) -> Answer:
        """Send any request."""
        data = body.encode() if isinstance(body, str) else body
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(method, path, data, named)
        return answer_of(self._connection.getresponse())

    def insist(self, body: bytes | str, kind: str = "application/json", **headers: str) -> Answer:
        """Push a body until it is taken, as clients do who are told to come again."""

        def try_again() -> Answer | None:
            found = self.post(body, kind, **headers)
            return None if found.status in (429, 503) else found

        return until(try_again, what="a push to be taken")

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def answer_of(response: http.client.HTTPResponse) -> Answer:
    """Read an answer."""
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, json.loads(response.read() or b"{}"))


class Raw:
    """A connection that says what it is told to, byte for byte."""

    def __init__(self, address: Address) -> None:
        self.socket = socket.create_connection(address, timeout=60)

    def send(self, text: str, *, length: int, log: str = "orders", more: str = "") -> Raw:
        """Begin a request whose body has a length, with its first bytes."""
        head = f"POST /logs/{log} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n{more}"
        self.socket.sendall(f"{head}Content-Length: {length}\r\n\r\n{text}".encode())
        return self

    def answer(self) -> Answer:
        """Return what comes back."""
        response = http.client.HTTPResponse(self.socket)
        response.begin()
        return answer_of(response)

    def close(self) -> None:
        """Hang up."""
        self.socket.close()


class Reading:
    """A source that is read, without an app, until it is stopped. `records` is how many it has brought."""

    def __init__(self, log: LogInfo, append: Callable[..., Any], url: str = "http://127.0.0.1:0") -> None:
        around = Surroundings(log, SimulatedClock(), no_files, no_rows, append)
        found = open_source(url, around)
        assert isinstance(found, HttpPush)
        self.source = found
        self.records = 0
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        until(lambda: self.source.is_open or not self._thread.is_alive())

    def _read(self) -> None:
        try:
            for part in self.source.read(None, {}):
                self.records += part.records if isinstance(part, Stored) else 0
        except bourne.BourneError as error:
            self.failure = error

    @property
    def is_alive(self) -> bool:
        """Say whether it is still read."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Stop, and wait for the end."""
        self.source.stop()
        self._thread.join(60)
        assert not self._thread.is_alive()


def no_files(name: str) -> Any:
    raise AssertionError("pushes are no files")


def no_rows() -> Any:
    raise AssertionError("pushes look at no rows")


@contextmanager
def running(app: bourne.App, folder: Path, **options: Any) -> Iterator[tuple[bourne.Instance, Any]]:
    """Run an app on a thread for the block; yield it, and its sources when all are open."""
    stop = threading.Event()
    failures: list[BaseException] = []
    with bourne.open(app, data=folder, **options) as instance:

        def run() -> None:
            try:
                instance.run(stop=stop)
            except BaseException as error:  # noqa: BLE001  (raised at the end)
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            until(
                lambda: failures or (
                    len(instance.sources) == len(app.sources) and all(each.is_open for each in instance.sources)
                )
            )  # fmt: skip
            yield instance, instance.sources
        finally:
            stop.set()
            thread.join(60)
    for failure in failures:
        raise failure
