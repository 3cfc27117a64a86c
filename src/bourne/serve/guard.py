"""What stands before every request: who may, how often, how much; and what every answer says.

Laws: without tokens, only this machine is served, and only under names of this machine, so that no page of another site can
pass for one of ours; a page of another site cannot ask at all (no CORS). With tokens, every request needs one, of a role
that may. What a client does not take in time is not kept for it. Every request leaves a line in the access log.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import Response

from bourne.errors import BourneError, InputError
from bourne.limits import (
    SERVE_CLIENTS_MAX,
    SERVE_RATE,
    SERVE_RATE_BURST,
    SERVE_SEND_BUFFER_BYTES,
    SERVE_TAKE_S,
    SERVE_UNSENT_BYTES_MAX,
)
from bourne.problems import Refused, refusal
from bourne.serve.access_log import ACCESS_LOG
from bourne.serve.connection import ABORT, FLOW
from bourne.serve.tokens import Role, Tokens

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE: Final = "bourne_session"

# What an application finds in the scope: the token that a request brought, if tokens are set up.
TOKEN: Final = "bourne.token"

# And this looks whether who has asked may still do so; raises Refused.
LET_IN: Final = "bourne.let_in"

_LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})

_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"),
)  # fmt: skip

# What anybody may ask: whether it lives, and what a browser needs before it has signed in.
_OPEN_PATHS: Final = frozenset({"/", "/docs", "/healthz", "/readyz", "/session", "/favicon.ico"})
_OPEN_FOLDERS: Final = ("/static/",)

_READS: Final = frozenset({"GET", "HEAD"})


@dataclass(slots=True)
class _Allowance:
    """How many requests a client may still make, as of a moment: a bucket that fills up again."""

    left: float
    at_s: float


class Guard:
    """An ASGI application before another one."""

    def __init__(self, app: Asgi, tokens: Tokens, *, local_host: str | None) -> None:
        """`local_host`: the loopback address at which it is reached, if only that."""
        self._app = app
        self._tokens = tokens
        self._local_names = frozenset() if local_host is None else _LOCAL_NAMES | {local_host}
        self._allowances: OrderedDict[str, _Allowance] = OrderedDict()  # who has asked last is last
        self._unsent = _Unsent()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        began_s = time.monotonic()
        answer = _Answer(scope, send, self._unsent)
        who = "-"
        try:
            try:
                who = self._let_in(HTTPConnection(scope))
            except (Refused, BourneError) as error:
                await _refuse(scope, receive, answer.send, refusal(error))
                return
            await self._app(scope, receive, answer.send)
        except ClientGone:
            pass  # nobody is left to tell
        finally:
            if ACCESS_LOG.isEnabledFor(logging.INFO):
                client = scope["client"][0] if scope.get("client") else "-"
                ACCESS_LOG.info(
                    "%s %s %s %s %d %d bytes %.1f ms", client, who, scope.get("method", "WS"),
                    _printable(scope["path"]), answer.status, answer.size, 1e3 * (time.monotonic() - began_s),
                )  # fmt: skip

    def _let_in(self, request: HTTPConnection) -> str:
        """Return who asks.

        Raises:
            Refused: he may not.
        """
        self._check_rate(request)
        self._check_site(request)
        request.scope[LET_IN] = functools.partial(self._who, request)
        return self._who(request)

    def _who(self, request: HTTPConnection) -> str:
        """Return who asks, as of now. Raises: as `_let_in`."""
        path: str = request.scope["path"]  # not of the URL: the header Host is a part of that
        method = request.scope.get("method", "GET")
        if self._local_names and not self._tokens.are_set_up:
            return "local"
        given = token_of(request)
        token = None if given is None else self._tokens.find(given)
        request.scope[TOKEN] = token
        if path in _OPEN_PATHS or path.startswith(_OPEN_FOLDERS):
            return "-" if token is None else token.name
        if token is None:
            error = InputError(
                "this needs a token", where=_printable(path), expected="Authorization: Bearer TOKEN",
                found="none" if given is None else "another one", hint="bourne token create NAME --role reader",
            )  # fmt: skip
            raise Refused(HTTPStatus.UNAUTHORIZED, error, WWW_Authenticate="Bearer")
        needed = needed_role(path, method)
        if token.role < needed:
            error = InputError(
                f"this is for a {needed.name.lower()}", where=f"{method} {_printable(path)}", expected=needed.name.lower(),
                found=token.role.name.lower(), hint=f"bourne token create NAME --role {needed.name.lower()}",
            )  # fmt: skip
            raise Refused(HTTPStatus.FORBIDDEN, error)
        return token.name

    def _check_rate(self, request: HTTPConnection) -> None:
        """Refuse who asks too often; each address has its own allowance."""
        client = request.client.host if request.client else "-"
        now_s = time.monotonic()
        found = self._allowances.setdefault(client, _Allowance(SERVE_RATE_BURST, now_s))
        self._allowances.move_to_end(client)
        if len(self._allowances) > SERVE_CLIENTS_MAX:
            self._allowances.popitem(last=False)
        found.left = min(SERVE_RATE_BURST, found.left + (now_s - found.at_s) * SERVE_RATE)
        found.at_s = now_s
        if found.left < 1:
            error = InputError(
                "too many requests", expected=f"at most {SERVE_RATE:,} a second", found="more",
                hint="ask less often; or subscribe: GET /views/NAME/changes",
            )  # fmt: skip
            raise Refused(HTTPStatus.TOO_MANY_REQUESTS, error)
        found.left -= 1

    def _check_site(self, request: HTTPConnection) -> None:
        """Refuse what a page of another site has sent, and names of this machine that others have given it."""
        host = _host(f"//{request.headers.get('host', '')}")
        if self._local_names and not self._tokens.are_set_up and host not in self._local_names:
            error = InputError(
                "this is served to this machine only", where="header Host", expected="localhost or 127.0.0.1",
                found=host or "none", hint="open it under that name; or set up tokens: bourne token create",
            )  # fmt: skip
            raise Refused(HTTPStatus.FORBIDDEN, error)
        origin = request.headers.get("origin")
        site = request.headers.get("sec-fetch-site", "none")
        is_read = site in ("cross-site", "same-site") and request.headers.get("sec-fetch-mode") != "navigate"
        if is_read or (origin is not None and _netloc(origin) != request.headers.get("host")):
            error = InputError(
                "a page of another site may not ask", where="header Origin", expected=request.headers.get("host"),
                found=(origin or site)[:200], hint="serve the page from the same address, behind one reverse proxy",
            )  # fmt: skip
            raise Refused(HTTPStatus.FORBIDDEN, error)


def needed_role(path: str, method: str) -> Role:
    """Return the least role that may do this."""
    if method in _READS or path == "/query":
        return Role.READER
    is_append = path.startswith("/logs/") and path.count("/") == 2
    return Role.WRITER if is_append or path.startswith("/jobs/") else Role.ADMIN


def token_of(request: HTTPConnection) -> str | None:
    """Return the token that a request brings: in its header, or in the dashboard's cookie."""
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    if kind.casefold() == "bearer":
        return given.strip()
    return request.cookies.get(COOKIE)


def who_asks(request: HTTPConnection) -> str:
    """Return whose part of a bound a request takes: its token's, else its address's."""
    token = request.scope.get(TOKEN)
    if token is not None:
        return str(token.name)
    return request.client.host if request.client else "-"


async def _refuse(scope: Scope, receive: Receive, send: Send, response: Response) -> None:
    """Answer, also who wanted a WebSocket."""
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    if scope["type"] == "websocket":
        headers = response.raw_headers
        await send(
            {"type": "websocket.http.response.start", "status": response.status_code, "headers": headers}
        )
        await send({"type": "websocket.http.response.body", "body": response.body})
        return
    await response(scope, receive, send)


class _Answer:
    """Sends an answer, with the headers that all have, to a client that takes it."""

    def __init__(self, scope: Scope, send: Send, unsent: _Unsent) -> None:
        self._scope = scope
        self._send = send
        self._unsent = unsent
        self.status = self.size = 0

    async def send(self, message: Message) -> None:
        """Send a part of an answer; end the connection if the client does not take it in time."""
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            self.status = message["status"]
            given = {name.lower() for name, _ in message.get("headers", ())}
            message["headers"] = [
                *message.get("headers", ()),
                *((name, value) for name, value in _HEADERS if name not in given),
            ]
        elif message["type"] == "websocket.accept":
            self.status = 101
        body = message.get("body", b"")
        self.size += len(body) or len(message.get("text") or "")
        if len(body) <= SERVE_SEND_BUFFER_BYTES or message["type"] != "http.response.body":
            await self._let_take(message)
            return
        goes_on = message.get("more_body", False)
        with self._unsent.held(self, len(body)) as taken:
            for start in range(0, len(body), SERVE_SEND_BUFFER_BYTES):
                end = start + SERVE_SEND_BUFFER_BYTES
                await self._let_take(
                    {**message, "body": body[start:end], "more_body": goes_on or end < len(body)}
                )
                taken()

    async def _let_take(self, message: Message) -> None:
        flow = self._scope.get(FLOW)
        if flow is not None and not flow.write_paused:
            await self._send(message)
            return
        try:
            async with asyncio.timeout(SERVE_TAKE_S):
                await self._send(message)
        except TimeoutError as error:
            self.abort()
            raise ClientGone from error

    def abort(self) -> None:
        """End the connection, whatever is still to be sent."""
        if abort := self._scope.get(ABORT):
            abort()


class _Unsent:
    """Large answers that clients are taking; when they are too much, the client that has taken nothing for longest is cut off."""

    def __init__(self) -> None:
        self._sizes: OrderedDict[_Answer, int] = OrderedDict()
        self._bytes = 0

    @contextlib.contextmanager
    def held(self, answer: _Answer, size: int) -> Iterator[Callable[[], None]]:
        """Count an answer for the block, which is given what to call whenever a part of it was taken."""
        self._sizes[answer] = size
        self._bytes += size
        while self._bytes > SERVE_UNSENT_BYTES_MAX and len(self._sizes) > 1:
            slowest = next(iter(self._sizes))
            slowest.abort()
            self._drop(slowest)
        try:
            yield lambda: self._taken(answer)
        finally:
            self._drop(answer)

    def _taken(self, answer: _Answer) -> None:
        if answer in self._sizes:
            self._sizes.move_to_end(answer)

    def _drop(self, answer: _Answer) -> None:
        self._bytes -= self._sizes.pop(answer, 0)


class ClientGone(Exception):
    """A client takes nothing any more."""


def _host(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


def _netloc(address: str) -> str | None:
    try:
        return urlsplit(address).netloc
    except ValueError:
        return None


def _printable(path: str) -> str:
    """Return a path as one line of a log."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in path[:500])
