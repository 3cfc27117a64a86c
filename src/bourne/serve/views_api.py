"""Views over HTTP: what there is, rows, changes, the plan."""

from __future__ import annotations

import json
from typing import Annotated, Final

from fastapi import FastAPI, Header, Query, Request, WebSocket
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError

from bourne.position import parse_position, position_text
from bourne.serve import described, streams
from bourne.serve.asked import Asked, Selected, answer, read_order, read_selected
from bourne.serve.encoding import MEDIA_TYPES, columns_json, json_body, json_columns, rows_json, table_body
from bourne.serve.guard import who_asks
from bourne.serve.interface import (
    EQUAL,
    PAGE,
    Columns,
    Name,
    RowsAsked,
    Where,
    described_parameters,
    kind_of,
    not_understood,
    service_of,
)
from bourne.views.catalog import ViewInfo

# So few rows are looked through, and written, before a thread would have begun with it.
_QUICK_ROWS: Final = 20_000


def add_views(app: FastAPI) -> None:
    """Add the routes."""

    @app.get("/views", tags=["views"])
    async def views(request: Request) -> JSONResponse:
        """Say which views there are."""
        service = service_of(request)
        return JSONResponse({"views": await service.work(described.views, service)})

    @app.get("/views/{name}", tags=["views"], openapi_extra=described_parameters(RowsAsked), response_class=Response,
             responses=PAGE)  # fmt: skip
    async def view(request: Request, name: Name) -> Response:
        """Return rows of a view."""
        service = service_of(request)
        given = request.query_params.multi_items()
        try:
            # One call, not one for each parameter: this is the most frequent request.
            said = RowsAsked.model_validate(dict(given))
        except ValidationError as error:
            raise not_understood(error.errors()[0]) from error
        wanted = parse_position(said.at_least)
        kind = kind_of(request, said.format)

        def read(info: ViewInfo) -> Asked:
            selected = read_selected(info.schema, given, where=said.where, columns=said.columns)
            return Asked(selected, read_order(info.schema, said.order), said.limit, said.page)

        while True:
            info = service.view(name)
            asked = read(info) if said.where is None else await service.work(read, info)
            found = await service.together([name], wanted, said.wait)
            if found.views[name].id == info.id:  # else it is of another version
                break
        table = found.tables[name]

        def write() -> Response:
            rows, is_more = answer(table, info.schema, asked)
            columns = columns_json(info.schema, rows.column_names)
            headers = {"Bourne-Position": position_text(found.position), "Bourne-More": json.dumps(is_more)}
            if kind != "json":
                body = b"".join(table_body(rows, kind, [each["type"] for each in columns]))
                return Response(body, 200, headers, MEDIA_TYPES[kind])
            head = {
                "position": position_text(found.position),
                "columns": columns,
                "more": is_more,
            }
            body = json_body(head, rows_json(rows, json_columns(info.schema) & set(rows.column_names)))
            return Response(body, 200, headers, MEDIA_TYPES["json"])

        is_quick = said.where is None and said.order is None and table.num_rows <= _QUICK_ROWS
        return write() if is_quick else await service.work(write)

    @app.get("/views/{name}/changes", tags=["views"], openapi_extra=EQUAL,
             response_class=Response, responses={200: {"content": {"text/event-stream": {}}}})  # fmt: skip
    async def changes(
        request: Request, name: Name, columns: Columns = None, where: Where = None,
        after: Annotated[str | None, Query(description="The id of the last event; else the header Last-Event-ID.")] = None,
        snapshot: Annotated[bool, Query(description="Begin with all rows.")] = True,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> Response:  # fmt: skip
        """Follow a view: Server-Sent Events `snapshot`, `change`, `position`."""
        service = service_of(request)
        info = service.view(name)
        parameters = request.query_params.multi_items()

        def select(view: ViewInfo) -> Selected:
            return read_selected(view.schema, parameters, where=where, columns=columns)

        selected = await service.work(select, info)
        events = service.follow(
            info, selected, select, who_asks(request), after=after or last_event_id, is_whole=snapshot
        )
        return streams.EventStream(events)

    @app.websocket("/views/{name}/changes")
    async def messages(socket: WebSocket, name: str) -> None:
        """Follow a view over a WebSocket."""
        await streams.websocket(service_of(socket), socket, name)

    @app.get("/views/{name}/explain", tags=["views"])
    async def explain(request: Request, name: Name) -> JSONResponse:
        """Return a view's plan, and what each operator of it remembers."""
        service = service_of(request)
        return JSONResponse(await service.work(described.explain, service, name))
