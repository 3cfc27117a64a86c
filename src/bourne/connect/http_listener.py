"""The server of one address that is pushed to: it lets in requests for its logs, and answers them.

Law: what requests in work hold is bounded, in their number and in bytes; who comes when it is full is told so before its
body is read. A body that is not whole is never looked at.

A refusal is a problem (`bourne.problems`).
"""

from __future__ import annotations

import asyncio
import functools
import hmac
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any, Final, Protocol

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bourne.connect.http_bodies import BodyFormat
from bourne.connect.http_requests import Place, Room, body_kind, idempotency_key, is_zipped
from bourne.errors import (
    BourneError,
    Closed,
    InputError,
    SourceFailed,
    UnknownName,
)
from bourne.limits import (
    HTTP_BODY_S,
    HTTP_CONNECTIONS_MAX,
    HTTP_IDLE_S,
    HTTP_STOP_S,
    HTTP_WORKERS,
)
from bourne.log.catalog import LogInfo
from bourne.problems import Refused, problem, refusal

# How long the server may take to end beyond what is in work.
_END_S: Final = 2

# How many connections may wait to be accepted.
_BACKLOG: Final = 128


class Door(Protocol):
    """A log that is pushed to."""

    log: LogInfo
    token: str | None

    @property
    def is_open(self) -> bool: ...

    def working(self) -> Any: ...

    def store(self, body: bytes, kind: BodyFormat, key: str | None) -> dict[str, Any]: ...


# --- the listeners of this process ---------------------------------------------------------------------------

_listeners: dict[tuple[str, int], Listener] = {}
_mutex = threading.Lock()


def listen(place: tuple[str, int], door: Door) -> Listener:
    """Return the listener of an address, which begins to listen if nobody had it; `leave` ends it with its last log.

    Raises:
        SourceFailed: the port is taken or may not be used, or the log is pushed to there already.
    """
    with _mutex:
        found = _listeners.get(place) or Listener(place)
        found.add(door)
        if place[1]:
            _listeners[place] = found
        return found


class Listener:
    """One server, on a thread of its own, for any number of logs."""

    def __init__(self, place: tuple[str, int]) -> None:
        """Listen.

        Raises:
            SourceFailed: the port is taken or may not be used.
        """
        self._place = place
        self._doors: dict[str, Door] = {}
        self._room = Room()
        self._receiving: dict[asyncio.Timeout, Door] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
        try:
            self._socket = socket.create_server(place, family=family, backlog=_BACKLOG)
        except OSError as error:
            raise SourceFailed(
                f"cannot listen on {place[0]}:{place[1]}", found=str(error),
                hint="choose another port, or stop what uses it",
            ) from error  # fmt: skip
        # Connections inherit it: else a short answer in two writes waits for the client's delayed acknowledgement.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.address: tuple[str, int] = self._socket.getsockname()[:2]
        name = "http {}:{}".format(*self.address)
        self._pool = ThreadPoolExecutor(HTTP_WORKERS, thread_name_prefix=name)
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._app(), loop="asyncio", http="h11", ws="none", lifespan="off", log_config=None, access_log=False,
                proxy_headers=False, server_header=False, backlog=_BACKLOG, limit_concurrency=HTTP_CONNECTIONS_MAX,
                timeout_keep_alive=HTTP_IDLE_S, timeout_graceful_shutdown=_END_S,
            )
        )  # fmt: skip
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name=name, daemon=True
        )
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Say whether it serves."""
        return self._thread.is_alive()

    def add(self, door: Door) -> None:
        """Serve one more log.

        Raises:
            SourceFailed: it is served already.
        """
        if door.log.name in self._doors:
            raise SourceFailed(
                f"log {door.log.name!r} is pushed to at {self.address[0]}:{self.address[1]} already",
                hint="take another port for one of the two",
            )
        self._doors = {**self._doors, door.log.name: door}

    def hurry(self, door: Door) -> None:
        """Let bodies for a log that are still coming have little time. Does not wait."""

        def shorten() -> None:
            assert self._loop is not None
            soon = self._loop.time() + HTTP_STOP_S / 2
            for timeout, of in self._receiving.items():
                if of is door:
                    timeout.reschedule(min(soon, timeout.when() or soon))

        if self._loop is not None and self.is_alive:
            self._loop.call_soon_threadsafe(shorten)

    def leave(self, door: Door) -> None:
        """Serve a log no more, and end with the last one; the port is free then. Safe to call twice."""
        with _mutex:
            if self._doors.get(door.log.name) is not door:
                return
            self._doors = {name: each for name, each in self._doors.items() if each is not door}
            if self._doors:
                return
            if _listeners.get(self._place) is self:
                del _listeners[self._place]
            self._server.should_exit = True
            self._thread.join(2 * _END_S)
            self._socket.close()
            self._pool.shutdown(wait=False)

    # --- its thread --------------------------------------------------------------------------------------

    def _app(self) -> Starlette:
        handlers: dict[Any, Callable[..., Any]] = {HTTPException: _no_such_thing, Exception: _unforeseen}
        route = Route("/logs/{name}", self._push, methods=["POST"])
        return Starlette(routes=[route], exception_handlers=handlers)

    async def _push(self, request: Request) -> Response:
        """Answer one request."""
        self._loop = asyncio.get_running_loop()
        try:
            return JSONResponse(await self._take(request))
        except (Refused, BourneError) as error:
            return refusal(error)
        except ClientDisconnect:
            return Response(status_code=HTTPStatus.BAD_REQUEST)  # for nobody

    async def _take(self, request: Request) -> dict[str, Any]:
        """Store what a request brings.

        Raises:
            Refused, BourneError: it is not taken.
        """
        door = self._door(request)
        kind, key = body_kind(request.headers), idempotency_key(request.headers)
        is_packed = is_zipped(request.headers)
        with door.working(), self._room.place() as place:
            body = await self._body(request, door, place)
            work = functools.partial(_store, door, body, kind, key, place if is_packed else None)
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _door(self, request: Request) -> Door:
        """Return the log that a request is for. Who lacks a token does not learn which logs want it.

        Raises:
            Refused: there is none, or not for this client.
        """
        name = request.path_params["name"]
        doors = self._doors
        known = {each: door for each, door in doors.items() if _is_let_in(request, door)}
        if name not in known and len(known) < len(doors):
            error = InputError(
                "this needs a token", where=request.url.path, expected="Authorization: Bearer TOKEN",
                found="another one" if "authorization" in request.headers else "none",
            )  # fmt: skip
            raise Refused(HTTPStatus.UNAUTHORIZED, error, WWW_Authenticate="Bearer")
        if name not in known:
            unknown = UnknownName(
                f"there is no log {name!r} to push to", where=request.url.path,
                expected=", ".join(f"/logs/{each}" for each in sorted(known)), found=name,
            )  # fmt: skip
            raise Refused(HTTPStatus.NOT_FOUND, unknown)
        if known[name].token is None and "origin" in request.headers:
            error = InputError(
                "a web page may not push without a token", where=request.url.path, expected="no Origin header",
                found=request.headers["origin"], hint="declare the source with ?token=${NAME}",
            )  # fmt: skip
            raise Refused(HTTPStatus.FORBIDDEN, error)
        return known[name]

    async def _body(self, request: Request, door: Door, place: Place) -> bytes:
        """Return a body when all of it has come.

        Raises:
            Refused: it is too large, too slow, or there is no room for it.
            ClientDisconnect: the client is gone.
        """
        expected = int(request.headers.get("content-length", 0))
        place.take(expected)
        pieces, size = [], 0
        try:
            async with asyncio.timeout(HTTP_BODY_S) as limit:
                self._receiving[limit] = door
                try:
                    async for piece in request.stream():
                        pieces.append(piece)
                        size += len(piece)
                        place.take(max(0, size - expected))
                        expected = max(size, expected)
                finally:
                    del self._receiving[limit]
        except TimeoutError as error:
            if door.is_open:
                slow = InputError("the body comes too slowly", expected=f"all of it within {HTTP_BODY_S:g} s")
                raise Refused(HTTPStatus.REQUEST_TIMEOUT, slow, Connection="close") from error
            ends = Closed(f"log {door.log.name!r} takes nothing just now", hint="send it again")
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, ends, Connection="close") from error
        return b"".join(pieces)


def _store(
    door: Door, body: bytes, kind: BodyFormat, key: str | None, unzipped: Place | None
) -> dict[str, Any]:
    """Store a body, which is to be unpacked first if there is a place for that."""
    if unzipped is not None:
        body = unzipped.unzip(body)
    return door.store(body, kind, key)


# --- what the headers say ------------------------------------------------------------------------------------


def _is_let_in(request: Request, door: Door) -> bool:
    if door.token is None:
        return True
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    is_same = hmac.compare_digest(given.strip().encode("latin-1"), door.token.encode())
    return is_same and kind.casefold() == "bearer"


# --- answers -------------------------------------------------------------------------------------------------


async def _no_such_thing(request: Request, error: HTTPException) -> Response:
    """Answer what is no push at all: another path, another method."""
    what = InputError(
        HTTPStatus(error.status_code).phrase, where=request.url.path, expected="POST /logs/NAME",
        found=f"{request.method} {request.url.path}",
    )  # fmt: skip
    return problem(HTTPStatus(error.status_code), what, dict(error.headers or {}))


async def _unforeseen(request: Request, error: Exception) -> Response:
    """Answer after a fault of ours; uvicorn logs it."""
    what = BourneError("this has failed", found=type(error).__name__, hint="please report this")
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, what)
