"""Subscriptions over HTTP: Server-Sent Events, and the same as messages of a WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

from fastapi import WebSocket, WebSocketDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bourne.errors import BourneError, InputError
from bourne.limits import STREAM_LOOK_S
from bourne.problems import Refused, problem_text
from bourne.serve.asked import Selected, read_selected
from bourne.serve.events import Event
from bourne.serve.guard import LET_IN, who_asks
from bourne.serve.service import Service
from bourne.views.catalog import ViewInfo

# What a WebSocket is closed with: our fault, a refusal, or the end of the server.
_FAILED, _REFUSED, _GOING_AWAY = 1011, 1008, 1001

# What a parameter may say, as those of requests may.
_TRUTHS: Final = {
    **dict.fromkeys(("true", "1", "yes", "on", "t", "y"), True),
    **dict.fromkeys(("false", "0", "no", "off", "f", "n"), False),
}


class EventStream(Response):
    """An answer that goes on as the view changes, until the client leaves."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[Sequence[Event], None]) -> None:
        self._events = events
        self.status_code = 200
        self.background = None
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events, and let the view go when the client has gone."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with contextlib.aclosing(self._events) as events:
            await _first(self._send(_allowed(scope, events), send), leaves(receive))

    async def _send(self, events: AsyncIterator[Sequence[Event]], send: Send) -> None:
        try:
            async for some in events:
                for event in some:
                    await send({"type": "http.response.body", "body": event.sse, "more_body": True})
        except (BourneError, Refused) as error:
            body = Event("error", problem_text(error)).sse
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _allowed(
    scope: Mapping[str, Any], events: AsyncGenerator[Sequence[Event], None]
) -> AsyncIterator[Sequence[Event]]:
    """Yield events as long as the client may have them: its token may be revoked meanwhile.

    Raises:
        Refused: it may not any more.
    """
    look: Callable[[], object] = scope.get(LET_IN, lambda: None)
    look_at_s = time.monotonic() + STREAM_LOOK_S
    async for some in events:
        if time.monotonic() >= look_at_s:
            look()
            look_at_s = time.monotonic() + STREAM_LOOK_S
        yield some


async def leaves(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] not in ("http.disconnect", "websocket.disconnect"):
        pass


async def _first(*works: Coroutine[Any, Any, None]) -> None:
    """Do both until one is done, end the other, and raise what the first has failed with."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        is_done = [task.done() for task in tasks]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task, was_done in zip(tasks, is_done, strict=True):
        error = None if task.cancelled() else task.exception()
        if was_done and error is not None:
            raise error


async def websocket(service: Service, socket: WebSocket, name: str) -> None:
    """Let a client follow a view until it leaves. What it sends is not looked at."""
    await socket.accept()
    parameters = socket.query_params
    try:
        view = service.view(name)
        where, columns = parameters.get("where"), parameters.get("columns")
        items = parameters.multi_items()

        def select(view: ViewInfo) -> Selected:
            return read_selected(view.schema, items, where=where, columns=columns)

        selected = await service.work(select, view)
        is_whole = _truth(parameters.get("snapshot", "true"))
        who = who_asks(socket)
        events = service.follow(view, selected, select, who, after=parameters.get("after"), is_whole=is_whole)
    except (BourneError, Refused) as error:
        await socket.send_text(Event("error", problem_text(error)).message)
        await socket.close(_REFUSED)
        return
    async with contextlib.aclosing(events):
        with contextlib.suppress(WebSocketDisconnect):
            await _first(_send(socket, _allowed(socket.scope, events)), leaves(socket.receive))


def _truth(text: str) -> bool:
    if text.casefold() not in _TRUTHS:
        raise InputError(
            "this is neither true nor false", where="snapshot", expected="true or false", found=text
        )
    return _TRUTHS[text.casefold()]


async def _send(socket: WebSocket, events: AsyncIterator[Sequence[Event]]) -> None:
    try:
        async for some in events:
            for event in some:
                await socket.send_text(event.message)
        await socket.close(_GOING_AWAY)
    except (BourneError, Refused) as error:
        await socket.send_text(Event("error", problem_text(error)).message)
        await socket.close(_REFUSED if isinstance(error, Refused) else _FAILED)
