"""The HTTP interface, as docs/serving.md describes it: what is asked is read here, what is answered is made elsewhere."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path as FilePath
from typing import Annotated, Any, Final, Literal

from fastapi import FastAPI, Header, Path, Query, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from bourne import __version__
from bourne.errors import BourneError, InputError
from bourne.limits import AT_LEAST_S, AT_LEAST_S_MAX, SERVED_ROWS, SERVED_ROWS_MAX
from bourne.position import parse_position, position_text
from bourne.problems import Refused, problem, refusal
from bourne.serve import described, records, session, streams
from bourne.serve.asked import Asked, answer, read_order, read_selected
from bourne.serve.bodies import read_body
from bourne.serve.encoding import (
    MEDIA_TYPES,
    BodyFormat,
    columns_json,
    json_body,
    json_columns,
    rows_json,
    table_body,
)
from bourne.serve.metrics import metrics_text
from bourne.serve.service import Service
from bourne.serve.tokens import Tokens

# So few rows are looked through, and written, before a thread would have begun with it.
_QUICK_ROWS: Final = 20_000

STATIC: Final = FilePath(__file__).parent / "static"

_PROBLEM: Final[dict[int | str, dict[str, Any]]] = {
    "default": {
        "description": "A problem (RFC 9457): why it is refused",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}

Name = Annotated[str, Path(description="The name of a view or log.", max_length=200)]
Columns = Annotated[str | None, Query(description="The columns to return: `a,b`. By default all.")]
Where = Annotated[str | None, Query(description="A condition over the columns, without functions: `total > 3 AND user <> 'bo'`.")]  # fmt: skip
Format = Annotated[Literal["json", "csv", "arrow"] | None, Query(description="By default as the header Accept says, else JSON.")]  # fmt: skip

_EQUAL: Final = {
    "parameters": [{
        "name": "filter", "in": "query", "style": "form", "explode": True, "required": False,
        "description": "Any column: only the rows with that value. `where.COLUMN` where a column is called like a parameter.",
        "schema": {"type": "object", "additionalProperties": {"type": "string"}},
    }]
}  # fmt: skip


_HEADERS: Final = {
    "Bourne-Position": {"description": "The records that are in the answer.", "schema": {"type": "string"}},
    "Bourne-More": {"description": "Whether there are more rows.", "schema": {"type": "string", "enum": ["true", "false"]}},
}  # fmt: skip


def _rows(*headers: str, members: Mapping[str, Any] | None = None) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says of an answer of rows: in JSON beside their position and columns, else alone."""
    column = {
        "type": "object",
        "required": ["name", "type"],
        "properties": {"name": {"type": "string"}, "type": {"type": "string"}},
    }
    properties = {
        "position": {"type": "string"}, "columns": {"type": "array", "items": column},
        "rows": {"type": "array", "items": {"type": "object"}}, **(members or {}),
    }  # fmt: skip
    json_schema = {"type": "object", "required": list(properties), "properties": properties}
    content = {
        "application/json": {"schema": json_schema},
        "text/csv": {"schema": {"type": "string"}},
        MEDIA_TYPES["arrow"]: {"schema": {"type": "string", "format": "binary"}},
    }
    return {
        200: {
            "description": "Rows",
            "headers": {name: _HEADERS[name] for name in headers},
            "content": content,
        }
    }


_PAGE: Final = _rows("Bourne-Position", "Bourne-More", members={"more": {"type": "boolean"}})
_ANSWER: Final = _rows("Bourne-Position")
_QUESTION: Final = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Question"}}},
    }
}
_NOT_READY: Final[dict[int | str, dict[str, Any]]] = {
    503: {
        "description": "Which views do not follow, and why",
        "content": {"application/json": {"schema": {"type": "object", "required": ["status", "why"]}}},
    }
}


class Problem(BaseModel):
    """Why a request is refused."""

    title: str
    status: int
    where: str | None = None
    expected: str | None = None
    found: str | None = None
    hint: str | None = None


class RowsAsked(BaseModel):
    """Which rows of a view, and how."""

    columns: str | None = Field(None, description="The columns to return: `a,b`. By default all.")
    where: str | None = Field(None, description="A condition over the columns: `total > 3 AND user <> 'bo'`.")
    order: str | None = Field(None, description="The columns to order by: `a,b.desc`.")
    limit: int = Field(SERVED_ROWS, ge=1, le=SERVED_ROWS_MAX, description="How many rows at most.")
    page: int = Field(1, ge=1, le=1_000_000, description="Which of the pages of so many rows.")
    at_least: str = Field("", description="A position whose records have to be in the answer.")
    wait: float = Field(AT_LEAST_S, ge=0, le=AT_LEAST_S_MAX, allow_inf_nan=False, description="How long to wait for it, in seconds.")  # fmt: skip
    format: Literal["json", "csv", "arrow"] | None = Field(None, description="By default as the header Accept says, else JSON.")  # fmt: skip


def _described(model: type[BaseModel]) -> dict[str, Any]:
    """Return what OpenAPI says of parameters that a model reads, beside any column."""
    found = model.model_json_schema()
    parameters = [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": schema.pop("description"),
            "schema": schema,
        }
        for name, schema in found["properties"].items()
    ]
    return {"parameters": [*parameters, *_EQUAL["parameters"]]}


class Question(BaseModel):
    """One SELECT over views and logs."""

    model_config = ConfigDict(extra="forbid")

    sql: str = Field(max_length=200_000)
    parameters: list[Any] | dict[str, Any] | None = None
    at_least: str = ""
    wait: float = Field(AT_LEAST_S, ge=0, le=AT_LEAST_S_MAX, allow_inf_nan=False)
    format: Literal["json", "csv", "arrow"] | None = None


class Chosen(BaseModel):
    """Dead letters, by id or its beginning."""

    model_config = ConfigDict(extra="forbid")

    ids: list[str] = Field(min_length=1, max_length=1_000)


def make_app(make_service: Callable[[], Service], tokens: Tokens) -> FastAPI:
    """Return the application; `make_service` is called in the server's loop."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = app.state.service = make_service()
        try:
            yield
        finally:
            await service.close()

    app = FastAPI(
        title="Bourne", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
        description="Asks and follows views and logs. Every answer says its position.", responses=_PROBLEM,
        separate_input_output_schemas=False,
    )  # fmt: skip
    _add_views(app)
    _add_logs(app)
    _add_whole(app, tokens)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_exception_handler(BourneError, _on_error)
    app.add_exception_handler(Refused, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_fault)
    _describe_problems(app)
    return app


def _service(request: Request | WebSocket) -> Service:
    service: Service = request.app.state.service
    return service


# --- views -----------------------------------------------------------------------------------------------------


def _add_views(app: FastAPI) -> None:
    @app.get("/views", tags=["views"])
    async def views(request: Request) -> JSONResponse:
        """Say which views there are."""
        service = _service(request)
        return JSONResponse({"views": await service.work(described.views, service)})

    @app.get("/views/{name}", tags=["views"], openapi_extra=_described(RowsAsked), response_class=Response,
             responses=_PAGE)  # fmt: skip
    async def view(request: Request, name: Name) -> Response:
        """Return rows of a view."""
        service = _service(request)
        info = service.view(name)
        given = request.query_params.multi_items()
        try:
            # One call, not one for each parameter: this is the most frequent request.
            said = RowsAsked.model_validate(dict(given))
        except ValidationError as error:
            raise _not_understood(error.errors()[0]) from error
        wanted = parse_position(said.at_least)
        kind = _kind(request, said.format)

        def read() -> Asked:
            selected = read_selected(info.schema, given, where=said.where, columns=said.columns)
            return Asked(selected, read_order(info.schema, said.order), said.limit, said.page)

        asked = read() if said.where is None else await service.work(read)
        found = await service.together([name], wanted, said.wait)
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

    @app.get("/views/{name}/changes", tags=["views"], openapi_extra=_EQUAL,
             response_class=Response, responses={200: {"content": {"text/event-stream": {}}}})  # fmt: skip
    async def changes(
        request: Request, name: Name, columns: Columns = None, where: Where = None,
        after: Annotated[str | None, Query(description="The id of the last event; else the header Last-Event-ID.")] = None,
        snapshot: Annotated[bool, Query(description="Begin with all rows.")] = True,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> Response:  # fmt: skip
        """Follow a view: Server-Sent Events `snapshot`, `change`, `position`."""
        service = _service(request)
        info = service.view(name)
        parameters = request.query_params.multi_items()
        selected = await service.work(
            lambda: read_selected(info.schema, parameters, where=where, columns=columns)
        )
        events = service.feed(info).follow(selected, after or last_event_id, is_whole=snapshot)
        return streams.EventStream(events)

    @app.websocket("/views/{name}/changes")
    async def messages(socket: WebSocket, name: str) -> None:
        """Follow a view over a WebSocket."""
        await streams.websocket(_service(socket), socket, name)

    @app.get("/views/{name}/explain", tags=["views"])
    async def explain(request: Request, name: Name) -> JSONResponse:
        """Return a view's plan, and what each operator of it remembers."""
        service = _service(request)
        return JSONResponse(await service.work(described.explain, service, name))


# --- logs ------------------------------------------------------------------------------------------------------


def _add_logs(app: FastAPI) -> None:
    @app.get("/logs", tags=["logs"])
    async def logs(request: Request) -> JSONResponse:
        """Say which logs there are."""
        service = _service(request)
        return JSONResponse({"logs": await service.work(described.logs, service)})

    @app.get("/logs/{name}", tags=["logs"], response_class=Response, responses=_PAGE)
    async def log(
        request: Request, name: Name,
        start: Annotated[int | None, Query(ge=0, le=1 << 62, description="The first offset.")] = None,
        last: Annotated[int | None, Query(ge=0, le=SERVED_ROWS_MAX, description="The last so many records.")] = None,
        partition: Annotated[int | None, Query(ge=0, le=1 << 20)] = None,
        limit: Annotated[int, Query(ge=1, le=SERVED_ROWS_MAX)] = SERVED_ROWS,
        columns: Columns = None, format: Format = None,
    ) -> Response:  # fmt: skip
        """Return records of a log, with their offsets: from one on, or the last ones."""
        service = _service(request)
        kind = _kind(request, format)
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
        service = _service(request)
        kind = records.body_kind(request.headers.get("content-type", ""))
        records.check_key(idempotency_key)
        body = await records.receive(request)
        found = await service.work(records.append, service.instance, name, body, kind, idempotency_key)
        return JSONResponse(found, headers={"Bourne-Position": found["position"]})

    @app.post("/logs/{name}/verify", tags=["logs"])
    async def verify(request: Request, name: Name) -> JSONResponse:
        """Read every frame of a log, and compare its hash."""
        service = _service(request)
        return JSONResponse(await service.work(described.verify, service, name))


# --- all -------------------------------------------------------------------------------------------------------


def _add_whole(app: FastAPI, tokens: Tokens) -> None:
    @app.post("/query", tags=["query"], openapi_extra=_QUESTION, response_class=Response, responses=_ANSWER)
    async def query(request: Request) -> Response:
        """Answer one SELECT over views and logs, all at one position."""
        try:
            question = Question.model_validate_json(await read_body(request))
        except ValidationError as error:
            raise _not_understood(error.errors()[0]) from error
        kind = _kind(request, question.format)
        asked = {**question.model_dump(exclude={"format"}), "format": kind}
        who = request.client.host if request.client else ""
        asking = asyncio.ensure_future(_service(request).queries.ask(asked, who))
        leaving = asyncio.ensure_future(_leaves(request))
        try:
            await asyncio.wait({asking, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                return Response(status_code=HTTPStatus.BAD_REQUEST)  # nobody waits for it any more
        finally:
            leaving.cancel()
            asking.cancel()
        found = asking.result()
        headers = {} if found.position is None else {"Bourne-Position": found.position}
        return Response(found.body, found.status, headers, found.media_type or MEDIA_TYPES[kind])

    @app.get("/status", tags=["status"])
    async def status(request: Request) -> JSONResponse:
        """Say how logs, views, sources and sinks are."""
        service = _service(request)
        return JSONResponse(await service.work(described.status, service))

    @app.get("/metrics", tags=["status"], response_class=Response,
             responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})  # fmt: skip
    async def metrics(request: Request) -> Response:
        """Say the same to Prometheus."""
        service = _service(request)
        text = await service.work(lambda: metrics_text(service.instance.status(), service.subscribers))
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/dead-letters", tags=["status"])
    async def dead_letters(
        request: Request, limit: Annotated[int, Query(ge=1, le=SERVED_ROWS_MAX)] = SERVED_ROWS
    ) -> JSONResponse:
        """List what sources could not take in, and sinks refused."""
        service = _service(request)
        return JSONResponse(await service.work(described.letters, service, limit))

    @app.post("/dead-letters/retry", tags=["status"])
    async def retry(request: Request, chosen: Chosen) -> JSONResponse:
        """Take letters in again; say of each why it still does not fit."""
        service = _service(request)
        return JSONResponse(await service.work(described.retry, service, chosen.ids))

    @app.post("/dead-letters/discard", tags=["status"])
    async def discard(request: Request, chosen: Chosen) -> JSONResponse:
        """Give letters up."""
        service = _service(request)
        return JSONResponse(await service.work(described.discard, service, chosen.ids))

    @app.get("/healthz", tags=["status"])
    async def healthz() -> JSONResponse:
        """Say that the server lives."""
        return JSONResponse({"status": "alive"})

    @app.get("/readyz", tags=["status"], responses=_NOT_READY)
    async def readyz(request: Request) -> JSONResponse:
        """Say whether all views follow their logs."""
        service = _service(request)
        problems = await service.work(described.not_ready, service)
        if problems:
            return JSONResponse({"status": "not ready", "why": problems}, HTTPStatus.SERVICE_UNAVAILABLE)
        return JSONResponse({"status": "ready"})

    @app.get("/session", tags=["session"])
    async def who(request: Request) -> JSONResponse:
        """Say whose token this is."""
        return await _service(request).work(session.who, request, tokens)

    @app.post("/session", tags=["session"])
    async def sign_in(request: Request, given: session.SignIn) -> JSONResponse:
        """Sign in: the token is kept in a cookie."""
        return await _service(request).work(session.sign_in, request, tokens, given.token)

    @app.delete("/session", tags=["session"])
    async def sign_out() -> JSONResponse:
        """Sign out."""
        return session.sign_out()

    @app.get("/docs", include_in_schema=False)
    async def docs() -> RedirectResponse:
        return RedirectResponse("./#/api")

    @app.get("/", include_in_schema=False)
    async def dashboard(request: Request) -> FileResponse:
        _service(request).queries.prepare()  # who looks may soon ask
        return FileResponse(STATIC / "index.html")


async def _leaves(request: Request) -> None:
    """Return when the client is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _kind(request: Request, asked: BodyFormat | None) -> BodyFormat:
    if asked is not None:
        return asked
    accepted = request.headers.get("accept", "")
    found: BodyFormat = "json"
    if "text/csv" in accepted:
        found = "csv"
    elif "arrow" in accepted:
        found = "arrow"
    return found


# --- errors ----------------------------------------------------------------------------------------------------


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, BourneError | Refused)
    return refusal(error)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return refusal(_not_understood(error.errors()[0]))


def _not_understood(first: Mapping[str, Any]) -> InputError:
    """Return what to say of the first thing that is wrong with a request."""
    where = " ".join(str(part) for part in first.get("loc", ())) or "the body"
    found = str(first.get("input"))[:200]
    return InputError("the request is not understood", where=where, expected=first.get("msg"), found=found)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    what = InputError(
        status.phrase,
        where=request.url.path[:200],
        found=request.method,
        hint="what there is: GET /openapi.json",
    )
    return problem(status, what, error.headers)


async def _on_fault(request: Request, error: Exception) -> Response:
    what = BourneError("this has failed", found=type(error).__name__, hint="please report this")
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, what)


def _describe_problems(app: FastAPI) -> None:
    """Let the description name the shape of problems."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = make()
            schemas = found.setdefault("components", {}).setdefault("schemas", {})
            schemas["Problem"] = Problem.model_json_schema()
            schemas["Question"] = Question.model_json_schema()
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
