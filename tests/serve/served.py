"""An app that runs and is served, in this process, and what its clients need."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

import bourne
from bourne.log.wake import WakingEvent
from bourne.serve.server import Server

_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # made once: it takes longer than a request


@dataclass
class Served:
    """A running app, its server, and a client of it."""

    instance: bourne.Instance
    server: Server
    http: httpx.Client

    @property
    def url(self) -> str:
        return self.server.url

    def get(self, path: str, **parameters: Any) -> httpx.Response:
        return self.http.get(path, params=parameters)

    def query(self, sql: str, **members: Any) -> httpx.Response:
        return self.http.post("/query", json={"sql": sql, **members})


@contextmanager
def served(
    app: bourne.App, folder: Path, *, token: str | None = None, runs: bool = True, file: Path | None = None,
    begins: bool = True,
) -> Iterator[Served]:  # fmt: skip
    """Run an app on a folder and serve it at a free port while the block runs; its jobs too, unless it `begins` none."""
    stop = WakingEvent()
    failures: list[BaseException] = []
    with bourne.open(app, data=folder) as instance, ExitStack() as opened:
        jobs = opened.enter_context(instance.jobs.scheduled()) if app.jobs and begins else None
        server = opened.enter_context(Server(instance, ("127.0.0.1", 0), file=file, jobs=jobs))

        def run() -> None:
            try:
                instance.run(stop=stop, on_progress=server.note)
            except BaseException as error:  # noqa: BLE001  (shown by the test)
                failures.append(error)

        thread = threading.Thread(target=run)
        if runs:
            thread.start()
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            with httpx.Client(base_url=server.url, timeout=60, headers=headers, verify=_TLS) as http:
                yield Served(instance, server, http)
        finally:
            stop.set()
            if runs:
                thread.join()
    assert not failures, failures


@dataclass
class Event:
    name: str
    id: str | None
    data: dict[str, Any]


class Subscriber:
    """Reads Server-Sent Events and keeps the rows that they say, as docs/serving.md tells clients to."""

    def __init__(self, url: str, after: str | None = None, headers: dict[str, str] | None = None) -> None:
        sent = {**(headers or {}), **({} if after is None else {"Last-Event-ID": after})}
        self._http = httpx.Client(timeout=60, verify=_TLS)
        self._stream = self._http.stream("GET", url, headers=sent)
        self.response = self._stream.__enter__()
        self._lines = self.response.iter_lines() if self.response.status_code == 200 else iter(())
        self.replica = Replica()

    def events(self) -> Iterator[Event]:
        name, id_, data = "message", None, ""
        for line in self._lines:
            if not line:
                yield Event(name, id_, json.loads(data))
                name, id_, data = "message", None, ""
            else:
                kind, _, value = line.partition(": ")
                name, id_, data = (
                    (value, id_, data)
                    if kind == "event"
                    else (name, value, data)
                    if kind == "id"
                    else (name, id_, value)
                )

    def read_until(self, position: str) -> Replica:
        """Take in events until that position is reached."""
        from bourne.position import is_within, parse_position  # noqa: PLC0415

        wanted, events = parse_position(position), self.events()
        while not (self.replica.position and is_within(wanted, parse_position(self.replica.position))):
            self.replica.take(next(events))
        return self.replica

    def close(self) -> None:
        self._stream.__exit__(None, None, None)
        self._http.close()


@dataclass
class Replica:
    """The rows of a view, from its events: by key, or counted."""

    rows: dict[Any, Any] = field(default_factory=dict)
    id: str | None = None
    position: str = ""
    names: list[str] = field(default_factory=list)
    pending: list[Event] = field(default_factory=list)

    def take(self, event: Event) -> None:
        self.names.append(event.name)
        assert event.name in ("snapshot", "change", "position"), event
        self.pending.append(event)
        assert (event.id is None) == bool(event.data.get("more", False)), event
        if event.data.get("more"):
            return
        for each in self.pending:
            if each.name == "snapshot" and each is self.pending[0]:
                self.rows = {}
            for change in each.data.get("rows", []) + each.data.get("changes", []):
                self._change(change)
        self.pending = []
        self.id, self.position = event.id, event.data["position"]
        assert all(weight > 0 for weight in self.rows.values() if isinstance(weight, int)), event

    def _change(self, change: dict[str, Any]) -> None:
        if "key" in change:
            if change["row"] is None:
                self.rows.pop(change["key"], None)
            else:
                self.rows[change["key"]] = change["row"]
            return
        text = json.dumps(change["row"], sort_keys=True)
        weight = self.rows.get(text, 0) + change["weight"]
        if weight:
            self.rows[text] = weight
        else:
            self.rows.pop(text, None)

    def sorted(self) -> list[str]:
        """Return the rows as texts, in an order of their own."""
        found: list[str] = []
        for key, row in self.rows.items():
            found += [key] * row if isinstance(row, int) else [json.dumps(row, sort_keys=True)]
        return sorted(found)


def texts(rows: list[dict[str, Any]]) -> list[str]:
    """Return rows as `Replica.sorted` does."""
    return sorted(json.dumps(row, sort_keys=True) for row in rows)
