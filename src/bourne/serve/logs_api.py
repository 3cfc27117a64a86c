"""Logs over HTTP: what there is, records, appends, verification."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import FastAPI, Header, Query, Request
from fastapi.responses import JSONResponse, Response

from bourne.connect.http_requests import body_kind, is_zipped
from bourne.connect.http_requests import idempotency_key as checked_key
from bourne.errors import InputError
from bourne.limits import SERVED_ROWS, SERVED_ROWS_MAX
from bourne.position import position_text
from bourne.serve import described, records
from bourne.serve.encoding import MEDIA_TYPES, json_body, rows_json, table_body
from bourne.serve.interface import PAGE, Columns, Format, Name, kind_of, service_of


def add_logs(app: FastAPI) -> None:
    """Add the routes."""

    @app.get("/logs", tags=["logs"])
    async def logs(request: Request) -> JSONResponse:
        """Say which logs there are."""
        service = service_of(request)
        return JSONResponse({"logs": await service.work(described.logs, service)})

    @app.get("/logs/{name}", tags=["logs"], response_class=Response, responses=PAGE)
    async def log(
        request: Request, name: Name,
        start: Annotated[int | None, Query(ge=0, le=1 << 62, description="The first offset.")] = None,
        last: Annotated[int | None, Query(ge=0, le=SERVED_ROWS_MAX, description="The last so many records.")] = None,
        partition: Annotated[int | None, Query(ge=0, le=1 << 20)] = None,
        limit: Annotated[int, Query(ge=1, le=SERVED_ROWS_MAX)] = SERVED_ROWS,
        columns: Columns = None, format: Format = None,
    ) -> Response:  # fmt: skip
        """Return records of a log, with their offsets: from one on, or the last ones."""
        service = service_of(request)
        kind = kind_of(request, format)
        if start is not None and last is not None:
            raise InputError("start and last exclude each other", hint="leave one out")

        def read() -> Response:
            found = records.read(
                service.reading,
                name,
                start=start,
                last=last,
                partition=partition,
                limit=limit,
                columns=columns,
            )
            headers = {
                "Bourne-Position": position_text(found.position),
                "Bourne-More": json.dumps(found.is_more),
            }
            if kind != "json":
                body = b"".join(table_body(found.table, kind, [each["type"] for each in found.columns]))
                return Response(body, 200, headers, MEDIA_TYPES[kind])
            head = {
                "position": position_text(found.position),
                "columns": found.columns,
                "more": found.is_more,
            }
            return Response(
                json_body(head, rows_json(found.table, found.json_columns)), 200, headers, MEDIA_TYPES["json"]
            )

        return await service.work(read)

    @app.post("/logs/{name}", tags=["logs"], openapi_extra=records.BODY)
    async def append(
        request: Request, name: Name,
        idempotency_key: Annotated[str | None, Header(description="A repeat with the same key writes nothing.")] = None,
    ) -> JSONResponse:  # fmt: skip
        """Append records; they are durable when this answers."""
        service = service_of(request)
        kind, is_packed = body_kind(request.headers), is_zipped(request.headers)
        key = checked_key(request.headers)
        with service.room.place() as place:
            body = await records.receive(request, place)
            if is_packed:
                body = await service.work(place.unzip, body)
            found = await service.work(records.append, service.instance, name, body, kind, key)
        return JSONResponse(found, headers={"Bourne-Position": found["position"]})

    @app.post("/logs/{name}/verify", tags=["logs"])
    async def verify(request: Request, name: Name) -> JSONResponse:
        """Read every frame of a log, and compare its hash."""
        service = service_of(request)
        return JSONResponse(await service.work(described.verify, service, name))
