"""Subscriptions over HTTP: Server-Sent Events, and the same as messages of a WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from fastapi import WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse

from bourne.errors import BourneError
from bourne.problems import Refused, problem_text
from bourne.serve.asked import Selected, read_selected
from bourne.serve.events import Event
from bourne.serve.service import Service
from bourne.views.catalog import ViewInfo

# What a WebSocket is closed with: our fault, a refusal, or the end of the server.
_FAILED, _REFUSED, _GOING_AWAY = 1011, 1008, 1001


def sse(
    service: Service, view: ViewInfo, selected: Selected, after: str | None, *, is_whole: bool
) -> StreamingResponse:
    """Return an answer that goes on as the view changes.

    Raises:
        Refused: too many follow.
    """
    events = service.feed(view).follow(selected, after, is_whole=is_whole)
    return StreamingResponse(
        _texts(events), media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )  # fmt: skip


async def _texts(events: AsyncIterator[Sequence[Event]]) -> AsyncIterator[bytes]:
    try:
        async for some in events:
            yield b"".join(event.sse() for event in some)
    except (BourneError, Refused) as error:
        yield Event("error", problem_text(error)).sse()
    finally:
        with contextlib.suppress(RuntimeError):
            await events.aclose()  # type: ignore[attr-defined]


async def websocket(service: Service, socket: WebSocket, name: str) -> None:
    """Let a client follow a view until it leaves. What it sends is not looked at."""
    await socket.accept()
    parameters = socket.query_params
    try:
        view = service.view(name)
        where, columns = parameters.get("where"), parameters.get("columns")
        items = parameters.multi_items()
        selected = await service.work(lambda: read_selected(view.schema, items, where=where, columns=columns))
        is_whole = parameters.get("snapshot", "true") not in ("false", "0")
        events = service.feed(view).follow(selected, parameters.get("after"), is_whole=is_whole)
    except (BourneError, Refused) as error:
        await socket.send_text(Event("error", problem_text(error)).message())
        await socket.close(_REFUSED)
        return
    sending = asyncio.ensure_future(_send(socket, events))
    leaving = asyncio.ensure_future(_leave(socket))
    await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
    for task in (sending, leaving):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
            await task
    await events.aclose()  # type: ignore[attr-defined]


async def _send(socket: WebSocket, events: AsyncIterator[Sequence[Event]]) -> None:
    try:
        async for some in events:
            for event in some:
                await socket.send_text(event.message())
        await socket.close(_GOING_AWAY)
    except (BourneError, Refused) as error:
        await socket.send_text(Event("error", problem_text(error)).message())
        await socket.close(_FAILED)


async def _leave(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass
