"""A small faithful server of the contract in docs/serving.md, whose views are what a test says, and whose net is bad.

It keeps every state that its view has been in, by position, so that a test can ask whether what a page shows was ever
the whole truth.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serve.quick_server import QuickServer

Row = dict[str, Any]
Change = dict[str, Any]  # as it is sent: {"key", "row"} with keys, {"row", "weight"} without


def text(row: Row) -> str:
    """Return what tells the row from others."""
    return json.dumps(row, ensure_ascii=False)


@dataclass
class Net:
    """What may go wrong on the way; all of it, by default, does not."""

    chance: random.Random = field(default_factory=random.Random)
    cut_after: Callable[[], int | None] = lambda: None  # so many bytes of a stream, and the connection breaks
    piece: Callable[[], int] = lambda: 1 << 16  # bytes that are sent at once
    part: Callable[[], int] = lambda: 1 << 30  # changes in an event; if there are others, it says "more"
    interrupted: bool = False  # signs of life come between the parts, too
    silent: bool = False  # connections stay open, and nothing comes for as long


class FakeView:
    """A view's rows, and all that became of them."""

    def __init__(self, name: str, *, keyed: bool, columns: dict[str, str]) -> None:
        self.name, self.keyed, self.version = name, keyed, 1
        self.columns = [{"name": name, "type": type_} for name, type_ in columns.items()]
        self.commits: list[list[Change]] = []
        self.offset = 0  # of the log that it depends on
        self.epoch = "a"  # of the output log; another one is another view
        self.forgotten = 0  # commits that are not to be had any more
        self.keys: dict[Any, Row] = {}
        self.weights: Counter[str] = Counter()
        self.states: dict[str, list[str]] = {self.position: []}

    @property
    def position(self) -> str:
        return f"orders:{self.offset}"

    @property
    def id(self) -> str:
        return f"{self.epoch}-{len(self.commits)}"

    def commit(self, changes: list[Change], *, records: int = 1) -> None:
        for change in changes:
            if not self.keyed:
                self.weights[text(change["row"])] += change["weight"]
            elif change["row"] is None:
                self.keys.pop(change["key"], None)
            else:
                self.keys[change["key"]] = change["row"]
        assert all(weight >= 0 for weight in self.weights.values())
        if changes:
            self.commits.append(changes)
        self.offset += records
        self.states[self.position] = self.state()

    def rows(self) -> list[Row]:
        return (
            list(self.keys.values()) if self.keyed else [json.loads(row) for row in self.weights.elements()]
        )

    def state(self) -> list[str]:
        return sorted(text(row) for row in self.rows())

    def as_changes(self) -> list[Change]:
        if self.keyed:
            return [{"key": key, "row": row} for key, row in self.keys.items()]
        return [{"row": json.loads(row), "weight": weight} for row, weight in self.weights.items() if weight]

    def since(self, id: str) -> int | None:
        """Return how many commits the client has; None if it needs a snapshot."""
        epoch, _, count = id.rpartition("-")
        known = epoch == self.epoch and self.forgotten <= int(count) <= len(self.commits)
        return int(count) if known else None


class FakeServer:
    """Serves one view and the log `orders` on one port, as often as it is started."""

    def __init__(self, view: FakeView, *, net: Net | None = None, token: str | None = None) -> None:
        self.view, self.net, self.token = view, net or Net(), token
        self.appended: dict[str, JSONResponse] = {}
        self.rows: list[Row] = []
        self.append: Callable[[list[Row]], None] = lambda rows: view.commit([], records=len(rows))
        self.problems: list[Response] = []  # given, in turn, instead of the next answers
        self.requests: list[Request] = []
        self.sign_of_life_s = 15.0
        self.cuts = 0
        self._lock = threading.Lock()
        self._stopping = False
        self._thread: threading.Thread | None = None
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> FakeServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self._stopping = False
        routes = [
            Route("/views/{name}/changes", self._changes),
            Route("/views/{name}", self._rows),
            Route("/logs/{name}", self._append, methods=["POST"]),
            Route("/logs/{name}", self._log),
            Route("/query", self._query, methods=["POST"]),
            Route("/status", self._status),
        ]
        config = uvicorn.Config(
            Starlette(routes=routes), port=self.port, log_level="critical", lifespan="off"
        )
        self._uvicorn = QuickServer(config)
        self._thread = threading.Thread(target=self._uvicorn.run, daemon=True)
        self._thread.start()
        while not self._uvicorn.started:
            assert self._thread.is_alive()
            time.sleep(0.001)  # there is nothing to wait on

    def stop(self) -> None:
        """Cut every connection, and be gone until `start`."""
        if self._thread is not None:
            self._stopping = self._uvicorn.should_exit = True
            self._thread.join()
            self._thread = None

    def commit(self, *changes: Change, records: int = 1) -> None:
        with self._lock:
            self.view.commit(list(changes), records=records)

    def forget(self) -> None:
        """Old commits are not to be had any more."""
        with self._lock:
            self.view.forgotten = len(self.view.commits)

    def redefine(self, columns: dict[str, str], rows: list[Change], *, keyed: bool) -> None:
        with self._lock:
            new = FakeView(self.view.name, keyed=keyed, columns=columns)
            new.version, new.epoch, new.offset = (
                self.view.version + 1,
                self.view.epoch + "b",
                self.view.offset,
            )
            new.commit(rows, records=0)
            self.view = new
        self.cut()

    def cut(self) -> None:
        """Cut every stream once."""
        self.cuts += 1

    def _refusal(self, request: Request) -> Response | None:
        self.requests.append(request)
        if self.problems:
            return self.problems.pop(0)
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return problem(401, "a token is needed", hint="bourne token create NAME")
        name = request.path_params.get("name", "orders")
        if name not in (self.view.name, "orders"):
            return problem(404, "there is no such view", found=name)
        return None

    def _answer(self, rows: list[Row]) -> Response:
        body = {"position": self.view.position, "columns": self.view.columns, "rows": rows, "more": False}
        return JSONResponse(body)

    async def _rows(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        with self._lock:
            fits, cut = _part(request)
            rows = [cut(row) for row in self.view.rows() if fits(row)]
            return self._answer(rows[: int(request.query_params.get("limit", 1000))])

    async def _query(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        asked = json.loads(await request.body())
        if not asked["sql"].startswith("SELECT"):
            return problem(422, "only SELECT", where="line 1", expected="SELECT", found=asked["sql"])
        if asked.get("at_least"):
            return problem(503, "not reached in time", expected=asked["at_least"], found=self.view.position)
        with self._lock:
            return self._answer([{"parameters": asked.get("parameters")}])

    async def _log(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        return self._answer(self.rows[-int(request.query_params.get("last", 1000)) :])

    async def _append(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        rows, key = json.loads(await request.body()), request.headers["Idempotency-Key"]
        with self._lock:
            if key not in self.appended:
                self.rows += rows
                self.append(rows)
                self.appended[key] = JSONResponse({"position": self.view.position, "count": len(rows)})
        return self.appended[key]

    async def _status(self, request: Request) -> Response:
        return self._refusal(request) or JSONResponse({"views": [self.view.name]})

    async def _changes(self, request: Request) -> Any:
        if refusal := self._refusal(request):
            return refusal
        return _Stream(self._events(request), self.net)

    async def _events(self, request: Request) -> AsyncIterator[bytes]:
        """What the client does not have yet, as it comes; ends with an error when the server does."""
        after = request.query_params.get("after") or request.headers.get("Last-Event-ID") or "-0"
        fits, cut = _part(request)
        sent: tuple[str, str] | None = None
        cuts, spoke = self.cuts, 0.0
        while not self._stopping and self.cuts == cuts:
            events: list[bytes] = []
            with self._lock:
                view = self.view
                if sent != (view.id, view.position) or time.monotonic() - spoke > self.sign_of_life_s:
                    have = view.since(after)
                    if have is None:
                        events += self._snapshot(fits, cut)
                    elif have < len(view.commits):
                        changes = [change for commit in view.commits[have:] for change in commit]
                        events += self._change(_fitting(changes, view.keyed, fits, cut))
                    else:
                        events.append(event("position", view.id, {"position": view.position}))
                    after, sent, spoke = view.id, (view.id, view.position), time.monotonic()
            for each in events:
                yield each
            await asyncio.sleep(0.002)
        raise ConnectionResetError

    def _snapshot(self, fits: Callable[[Row], bool], cut: Callable[[Row], Row]) -> Iterator[bytes]:
        view = self.view
        about = {"view": view.name, "version": view.version, "keyed": view.keyed, "columns": view.columns}
        rows = [{**each, "row": cut(each["row"])} for each in view.as_changes() if fits(each["row"])]
        return self._parts("snapshot", "rows", about, rows)

    def _change(self, changes: list[Change]) -> Iterator[bytes]:
        return self._parts("change", "changes", {}, changes)

    def _parts(self, name: str, member: str, about: Row, changes: list[Change]) -> Iterator[bytes]:
        while True:
            count = self.net.part()
            part, changes = changes[:count], changes[count:]
            said = {**about, "position": self.view.position, member: part, "more": bool(changes)}
            yield event(name, None if changes else self.view.id, said)
            if not changes:
                return
            if self.net.interrupted:
                yield b": this is a comment\n\n" + event("position", None, {"position": self.view.position})


def _part(request: Request) -> tuple[Callable[[Row], bool], Callable[[Row], Row]]:
    """Return which rows, and which of their columns, are asked for."""
    asked = request.query_params
    equal = {name.removeprefix("where."): value for name, value in asked.items() if name.startswith("where.")}
    above = re.fullmatch(r"(\w+) > (\d+)", asked["where"]) if "where" in asked else None
    names = asked["columns"].split(",") if "columns" in asked else None

    def fits(row: Row) -> bool:
        return all(str(row[name]) == value for name, value in equal.items()) and (
            above is None or row[above[1]] > int(above[2])
        )

    return fits, lambda row: row if names is None else {name: row[name] for name in names}


def _fitting(
    changes: list[Change], keyed: bool, fits: Callable[[Row], bool], cut: Callable[[Row], Row]
) -> list[Change]:
    if keyed:
        return [
            {**each, "row": cut(each["row"]) if each["row"] is not None and fits(each["row"]) else None}
            for each in changes
        ]
    found = [{**each, "row": cut(each["row"])} for each in changes if fits(each["row"])]
    return sorted(found, key=lambda change: change["weight"])  # in the middle, there may be fewer than none


def event(name: str, id: str | None, said: Row) -> bytes:
    lines = [
        f"event: {name}",
        *([f"id: {id}"] if id else []),
        f"data: {json.dumps(said, ensure_ascii=False)}",
    ]
    return ("\n".join(lines) + "\n\n").encode()


def problem(status: int, title: str, *, headers: dict[str, str] | None = None, **members: str) -> Response:
    body = {"type": "about:blank", "title": title, "status": status, **members}
    return JSONResponse(body, status, headers, media_type="application/problem+json")


class _Stream:
    """A streamed answer over a bad net: an ASGI application that breaks off in the middle."""

    def __init__(self, events: AsyncIterator[bytes], net: Net) -> None:
        self.events, self.net = events, net

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        left = self.net.cut_after()
        gone = asyncio.ensure_future(receive_disconnect(receive))
        try:
            async for data in self.events:
                while data:
                    while self.net.silent and not gone.done():
                        await asyncio.sleep(0.002)
                    count = self.net.piece() if left is None else min(self.net.piece(), left)
                    await send({"type": "http.response.body", "body": data[:count], "more_body": True})
                    data = data[count:]
                    left = None if left is None else left - count
                    if left == 0:
                        raise ConnectionResetError
                    await asyncio.sleep(0)
                if gone.done():
                    return
        finally:
            gone.cancel()


async def receive_disconnect(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
