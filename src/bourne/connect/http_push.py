"""Records that clients push: `POST /logs/NAME`, answered when they are durable in the log.

Law: 200 says that all records of the request are in the log; 4xx, that none of them is. Without an answer, or with 5xx,
nobody knows: the client sends again, and with the same `Idempotency-Key` they are in the log once. Nothing is set aside:
what does not fit is told to who sent it.
"""

from __future__ import annotations

import hashlib
import ipaddress
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from bourne.connect.arrival import Arrival
from bourne.connect.http_bodies import BodyFormat, read_body
from bourne.connect.source import Delivery, Lag, Position, Stored
from bourne.connect.urls import Url
from bourne.errors import Closed, DefinitionError, SourceFailed
from bourne.limits import HTTP_STOP_S, SOURCE_LOOK_S
from bourne.log.catalog import Durability, LogInfo
from bourne.log.protocol import Appended
from bourne.ports import Clock


class Append(Protocol):
    """Appends to a log, as `EmbeddedLog.append` does."""

    def __call__(
        self, rows: Any, *, durability: Durability | None, request_id: str | None, request_hash: str | None
    ) -> Appended: ...


class HttpPush:
    """Listens for pushes to one log; several logs can share an address. Port 0 takes a free one: see `address`."""

    delivery: Delivery = "at least once"

    def __init__(
        self, url: Url, log: LogInfo, clock: Clock, append: Append, *, name: str | None = None
    ) -> None:
        """Start to listen; records are taken in while it is read.

        Raises:
            DefinitionError: the address is not a loopback one, and there is no token.
            SourceFailed: the host is unknown, the port is taken or may not be used, or the log is pushed to there already.
        """
        assert url.host is not None and url.port is not None
        self.name = name or f"{url.name}logs/{log.name}"
        self.log = log
        self.token = url.options.get("token")
        self._append = append
        self._arrival = Arrival(log, clock)
        self._changed = threading.Condition()
        self._is_reading = self._is_stopped = False
        self._in_work = 0
        self._stored = 0
        place = _resolve(url.host, url.port, where=url.text)
        _check_safe(place, self.token, where=url.text)
        from bourne.connect.http_listener import listen

        self._listener = listen(place, self)
        self.address = self._listener.address
        self._note = None if url.port else "listens on port {1} of {0}".format(*self.address)

    # --- what the intake calls ---------------------------------------------------------------------------

    def read(self, position: Position | None, partitions: Mapping[int, Position]) -> Iterator[Stored | None]:
        """Let requests in, and yield how many records they brought, until it is stopped and those in work are answered."""
        with self._changed:
            self._is_reading = True
        try:
            until: float | None = None
            while True:
                stored = self._wait()
                if self._is_stopped:
                    until = until or time.monotonic() + HTTP_STOP_S
                if not self._listener.is_alive and not self._is_stopped:
                    raise SourceFailed(f"{self.name} does not listen any more", hint="please report this")
                if stored:
                    yield Stored(stored)
                elif until is not None and (not self._in_work or time.monotonic() > until):
                    return
                else:
                    yield None
        finally:
            with self._changed:
                self._is_reading = False
            if self._is_stopped:
                self._listener.leave(self)

    def _wait(self) -> int:
        """Wait a little for something to happen; return how many records have come since the last time."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._stored or (self._is_stopped and not self._in_work), SOURCE_LOOK_S
            )
            stored, self._stored = self._stored, 0
            return stored

    def confirm(self, position: Position) -> None:
        """Nobody waits for it: there are no positions."""

    def lag(self) -> Lag:
        """Return nothing: nobody knows what clients still have. With port 0, say which port it is."""
        return Lag(note=self._note)

    def stop(self) -> None:
        """Let in no more requests; those in work are answered while `read` ends. Safe to call twice."""
        with self._changed:
            self._is_stopped = True
            is_reading = self._is_reading
            self._changed.notify_all()
        self._listener.hurry(self)
        if not is_reading:
            self._listener.leave(self)

    # --- what the listener calls, from its threads -------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Say whether requests are let in."""
        return self._is_reading and not self._is_stopped

    @contextmanager
    def working(self) -> Iterator[None]:
        """A request is in work while the block runs.

        Raises:
            Closed: none are let in.
        """
        with self._changed:
            if not self.is_open:
                raise Closed(f"log {self.log.name!r} takes nothing just now", hint="send it again")
            self._in_work += 1
        try:
            yield
        finally:
            with self._changed:
                self._in_work -= 1
                self._changed.notify_all()

    def store(self, body: bytes, kind: BodyFormat, key: str | None) -> dict[str, Any]:
        """Append the records of a body; they are durable when this returns what to answer.

        Raises:
            InputError: they do not fit, or the key was used for another body; nothing is stored.
            LogLocked, StorageError: not now; perhaps stored, if it says so.
        """
        table = read_body(body, kind, self._arrival.schema, log=self.log.name)
        sent = None if key is None else hashlib.sha256(body).hexdigest()[:16]
        found = self._append(
            self._arrival.fill(table), durability="fsync", request_id=key, request_hash=sent
        )  # fmt: skip
        with self._changed:
            self._stored += 0 if found.is_repeat else len(found)
            self._changed.notify_all()
        return {
            "log": self.log.name,
            "records": len(found),
            "offsets": offsets_of(found),
            "repeat": found.is_repeat,
        }


def offsets_of(appended: Appended) -> list[dict[str, int]]:
    """Return the first and the last offset of the records in each partition."""
    found = []
    for partition in np.unique(appended.partitions).tolist():
        offsets = appended.offsets[appended.partitions == partition]
        found.append({"partition": partition, "first": int(offsets.min()), "last": int(offsets.max())})
    return found


def _resolve(host: str, port: int, *, where: str) -> tuple[str, int]:
    try:
        address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4]
    except OSError as error:
        raise SourceFailed(
            f"cannot listen on {host}:{port}",
            where=where,
            found=str(error),
            hint="name an address of this machine",
        ) from error
    return str(address[0]), int(address[1])


def _check_safe(place: tuple[str, int], token: str | None, *, where: str) -> None:
    """Refuse to let in strangers.

    Raises:
        DefinitionError: the address can be reached from other machines, and there is no token.
    """
    if token == "":
        raise DefinitionError(
            "the token is empty", where=where, expected="a secret: ?token=${NAME}", found="nothing"
        )
    if token is None and not ipaddress.ip_address(place[0].partition("%")[0]).is_loopback:
        raise DefinitionError(
            "other machines could write to the log", where=where, expected="127.0.0.1, [::1] or localhost", found=place[0],
            hint="listen there, behind a reverse proxy that knows its clients; or demand a token: ?token=${NAME}",
        )  # fmt: skip
