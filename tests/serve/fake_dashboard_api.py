"""A shop that moves, behind the addresses that the dashboard asks: no engine, but the shapes of `docs/serving.md`.

It serves the dashboard's own files with the policy that the real server sends, so that what the policy forbids shows here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from bourne.connect.states import SinkState, SourceState
from bourne.errors import Span
from bourne.log.retention import Pin
from bourne.status import Status
from bourne.views.status import LogStatus, OperatorStatus, ViewStatus, WatermarkStatus
from serve.quick_server import QuickServer

_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}
STATIC = Path(__file__).resolve().parents[2] / "src" / "bourne" / "serve" / "static"
POLICY = "default-src 'self'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'"
_HEADERS = {"Content-Security-Policy": POLICY}
TICK_S = 0.2
EVIL = '<script>window.evil = 1</script><img src=x onerror="window.evil = 2">'
HUGE = 9_223_372_036_854_775_807

_LOGS = {
    "orders": 40,
    "clicks": 320,
    "customers": 2,
    "products": 1,
    "payments": 38,
    "shipments": 12,
    "재고": 6,
    "prices": 0,
}
_VIEWS: dict[str, tuple[tuple[str, ...], str]] = {
    "spend": (("orders", "customers"), "SELECT c.name, c.city, count(*) AS orders, sum(o.amount) AS total -- per person\nFROM orders o JOIN customers c ON c.user_id = o.user_id\nWHERE o.status <> 'cancelled' AND o.amount > 0.5\nGROUP BY c.name, c.city"),
    "orders_per_minute": (("orders",), "SELECT window_start, count(*) AS orders, sum(amount) AS total\nFROM TUMBLE(orders, at, INTERVAL '1 minute')\nGROUP BY window_start"),
    "paid": (("orders", "payments"), "SELECT o.order_id, p.at FROM orders o JOIN payments p USING (order_id)"),
    "unpaid": (("orders", "paid"), "SELECT * FROM orders WHERE order_id NOT IN (SELECT order_id FROM paid)"),
    "stock": (("재고", "shipments", "products"), "SELECT product_id, sum(quantity) AS left_over FROM 재고 GROUP BY product_id"),
    "지우의_주문": (("orders",), "SELECT * FROM orders WHERE user_id = '지우'"),
    "clicks_by_page": (("clicks",), "SELECT page, count(*) AS clicks FROM clicks GROUP BY page"),
    "funnel": (("clicks", "orders", "paid"), "SELECT page, clicks, orders FROM clicks_by_page"),
    "top_products": (("orders", "products"), "SELECT product_id, sum(amount) AS total FROM orders GROUP BY product_id ORDER BY total DESC LIMIT 10"),
    "margin": (("orders", "prices"), "SELECT o.order_id, o.amount / p.price AS margin FROM orders o ASOF JOIN prices p ON o.at >= p.at"),
    "late_shipments_of_customers_who_have_ordered_more_than_once_this_year": (("shipments", "spend"), "SELECT 1 AS one FROM shipments"),
    "report": (("spend", "stock", "funnel", "top_products"), "SELECT city, sum(total) AS total FROM spend GROUP BY city"),
}  # fmt: skip
_FAILED = "cannot divide: line 1, column 20: division by zero in o.amount / p.price\n  to do:    NULLIF"
_ORDER_COLUMNS = [("order_id", "BIGINT"), ("user_id", "VARCHAR"), ("amount", "DECIMAL(10,2)"), ("at", "TIMESTAMP"), ("status", "VARCHAR")]  # fmt: skip
_SPEND_COLUMNS = [("name", "VARCHAR"), ("city", "VARCHAR"), ("orders", "BIGINT"), ("total", "DECIMAL(38,2)")]
_NAMES = ["ann", "bo", "지우", "💐 florist", EVIL, "a very long name " * 8, "cy", "dee", "eve", "fay", None]
_CITIES = ["Seoul", "Oslo", "Lisbon", "부산", None]


def _columns(pairs: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"name": name, "type": kind} for name, kind in pairs]


class Digits(float):
    """A number that JSON gets exactly as written: json has no decimals."""

    def __new__(cls, text: str) -> Digits:
        made = super().__new__(cls, text)
        made.text = text  # type: ignore[attr-defined]
        return made

    def __repr__(self) -> str:
        return str(self.text)  # type: ignore[attr-defined]


def _dumps(content: Any) -> str:
    marked: list[str] = []

    def mark(value: Any) -> Any:
        if isinstance(value, Digits):
            marked.append(repr(value))
            return f"\ue000{len(marked) - 1}\ue000"
        if isinstance(value, dict):
            return {key: mark(each) for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [mark(each) for each in value]
        return value

    text = json.dumps(mark(content), ensure_ascii=False)
    for number, digits in enumerate(marked):
        text = text.replace(f'"\ue000{number}\ue000"', digits)
    return text


@dataclass
class Shop:
    """What the server answers from. Tests change it while it runs."""

    is_empty: bool = False
    is_moving: bool = True
    token: str | None = None
    role: str = "admin"
    refuses_verify: bool = False
    rows_said: int | None = None
    """How many rows the status says that views have, if not the truth."""
    many: int = 0
    """How many more views there are, for large pictures."""
    ends: dict[str, int] = field(default_factory=lambda: {name: rate * 100 for name, rate in _LOGS.items()})
    ticks: int = 0
    signed_in: set[str] = field(default_factory=set)
    letters: list[dict[str, Any]] = field(default_factory=list)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    followed: list[dict[str, str]] = field(default_factory=list)
    """What each stream was asked for with."""
    followers: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(7)
        self.spend = {
            number: {
                "name": _NAMES[number % len(_NAMES)],
                "city": _CITIES[number % len(_CITIES)],
                "orders": HUGE if number == 3 else 1 + number,
                "total": Digits(f"{(number * 37) % 900}.50"),
            }
            for number in range(30)
        }
        self.changes: list[tuple[int, dict[str, Any]]] = []
        self.letters = [
            {"id": "a1", "at": "2026-11-22 09:00:01", "origin": "kafka_orders", "place": "partition 3, offset 812", "reason": "column amount: 'twelve' is no DECIMAL(10,2)", "payload": '{"order_id": 77, "amount": "twelve"}'},
            {"id": "a2", "at": "2026-11-22 09:00:07", "origin": "csv_products", "reason": "line 3 has 4 fields, not 3", "payload": EVIL + " " + "x" * 300},
            {"id": "a3", "at": "2026-11-22 09:01:12", "origin": "to_postgres", "reason": "duplicate key value violates unique constraint", "payload": '{"name": "지우 💐"}'},
        ]  # fmt: skip

    def tick(self) -> None:
        """Let a moment go by."""
        if not self.is_moving or self.is_empty:
            return
        self.ticks += 1
        for name, rate in _LOGS.items():
            self.ends[name] += int(rate * TICK_S * self.random.uniform(0.5, 1.5) + self.random.random())
        changed = self.random.sample(range(30), 3)
        for key in changed:
            row = self.spend[key]
            total = float(row["total"]) + self.random.randint(1, 40)
            self.spend[key] = {
                **row,
                "orders": row["orders"] if key == 3 else row["orders"] + 1,
                "total": Digits(f"{total:.2f}"),
            }
        self.changes.append((self.ticks, {key: self.spend[key] for key in changed}))

    @property
    def position(self) -> str:
        return f"orders:{self.ends['orders']},customers:{self.ends['customers']}"

    def status(self) -> dict[str, Any]:
        """Return what `GET /status` answers."""
        if self.is_empty:
            return {**asdict(Status((), ())), "app": None}
        now_us = int(datetime.now(UTC).timestamp() * 1e6)
        logs = [self._log_status(name) for name in _LOGS]
        logs.append(
            LogStatus("dead_letters", len(self.letters), len(self.letters), 900, (len(self.letters),))
        )
        logs += [LogStatus(name, 4, 4, 310, (4,)) for name in ("orders_per_minute_late", "margin_errors")]
        views = [self._view_status(name, inputs, now_us) for name, (inputs, _) in _VIEWS.items()]
        views += [
            self._view_status(f"more_{n}", (f"more_{n - 7}" if n > 7 else "clicks",), now_us)
            for n in range(self.many)
        ]
        sources = (
            SourceState("kafka_orders", "kafka://broker:9092/orders", "orders", "exactly once", "running", self.ends["orders"], 1, 12, 5400, None, None, now_us),
            SourceState("http_clicks", "http://127.0.0.1:8041/clicks", "clicks", "exactly once", "running", self.ends["clicks"], 0, None, None, None, None, now_us),
            SourceState("csv_products", "files:///data/products/*.csv", "products", "exactly once", "running", self.ends["products"], 1, 0, 0, None, None, now_us),
            SourceState("pg_customers", "postgres://db/shop?table=customers", "customers", "exactly once", "waiting", self.ends["customers"], 0, 3, 0, None, "cannot connect to db: connection refused", now_us),
        )  # fmt: skip
        sinks = (
            SinkState("to_postgres", "postgres://db/reports?table=spend", "spend", "exactly once", "running", self.ends["orders"], 1, 100, 4, None, now_us),
            SinkState("to_redis", "redis://cache/0", "top_products", "at least once", "failed", 10, 0, 10, 5000, "Redis says: OOM command not allowed when used memory > 'maxmemory'", now_us),
            SinkState("to_parquet", "parquet:///data/out/", "report", "exactly once", "running", self.ends["orders"], 0, 100, 0, None, now_us),
        )  # fmt: skip
        found = asdict(Status(tuple(logs), tuple(views), sources, sinks))
        for view in found["views"]:
            view["failure"] = _FAILED if view["name"] == "margin" else None
        return {**found, "app": "shop"}

    def _log_status(self, name: str) -> LogStatus:
        end = self.ends[name]
        ends = (end // 2, end - end // 2) if name == "clicks" else (end,)
        return LogStatus(
            name, end, end, end * 87, ends, (Pin(0, end // 3, "view spend"),) if name == "orders" else ()
        )

    def _view_status(self, name: str, inputs: tuple[str, ...], now_us: int) -> ViewStatus:
        position = sum(self.ends.get(each, self.ends["orders"]) for each in inputs)
        fails = name == "margin"
        marks = (
            ()
            if name == "clicks_by_page"
            else (WatermarkStatus(inputs[0], now_us - 5_000_000, (now_us - 5_000_000, None)),)
        )
        return ViewStatus(
            name=name, version=2 if name == "spend" else 1, inputs=inputs, position=4000 if fails else position,
            lag_records=position - 4000 if fails else self.ticks % 7, rows=self.rows_said or len(self.spend), epoch=self.ticks, watermark_us=marks[0].watermark_us if marks else None,
            state_rows=4210, state_bytes=1_240_000, output_bytes=88_000, state=(OperatorStatus(2, "join", 4180, 1_200_000),), watermarks=marks,
            is_complete=name == "paid", late_records=4 if name == "orders_per_minute" else 0, failed_records=4 if fails else 0,
        )  # fmt: skip

    def rows(self, name: str) -> tuple[list[dict[str, str]], list[dict[str, Any]]]:
        """Return the columns and rows of a view or log."""
        if name in _LOGS:
            end = self.ends[name]
            rows = [
                {"__offset": at, "order_id": at, "user_id": ["ann", "지우", EVIL][at % 3], "amount": Digits(f"{at % 90}.10"),
                 "at": str(datetime(2026, 11, 22) + timedelta(seconds=at)), "status": None if at % 5 else "cancelled"}
                for at in range(max(0, end - 50), end)
            ]  # fmt: skip
            return _columns([("__offset", "BIGINT"), *_ORDER_COLUMNS]), rows
        return _columns(_SPEND_COLUMNS), list(self.spend.values())

    def connection(self) -> duckdb.DuckDBPyConnection:
        """Return DuckDB with some of the shop in it."""
        connection = duckdb.connect()
        plain = [{**row, "total": float(row["total"])} for row in self.spend.values()]
        connection.register("spend_now", pa.Table.from_pylist(plain))
        connection.execute(
            "CREATE TABLE spend AS SELECT name, city, orders, total::DECIMAL(38,2) AS total FROM spend_now"
        )
        orders = [{**row, "amount": float(row["amount"])} for row in self.rows("orders")[1]]
        connection.register("orders_now", pa.Table.from_pylist(orders))
        connection.execute("CREATE TABLE orders AS SELECT * EXCLUDE (__offset) FROM orders_now")
        return connection


def _value(value: Any) -> Any:
    if isinstance(value, Decimal):
        return Digits(str(value))
    return value if value is None or isinstance(value, (int, float, str)) else str(value)


def _problem(status: int, title: str, **members: Any) -> Response:
    content = {"type": "about:blank", "title": title, "status": status, **members}
    return JSONResponse(content, status, media_type="application/problem+json")


def _json(content: Any) -> Response:
    return Response(_dumps(content), media_type="application/json")


def make_app(shop: Shop) -> Starlette:
    """Return the application; all its answers come from `shop`."""

    async def status(_: Request) -> Response:
        return _json(shop.status())

    async def views(_: Request) -> Response:
        found = [
            {
                "name": name,
                "version": 1,
                "sql": sql,
                "inputs": list(inputs),
                "columns": shop.rows(name)[0],
                "keyed": True,
            }
            for name, (inputs, sql) in ({} if shop.is_empty else _VIEWS).items()
        ]
        return _json({"views": found})

    async def logs(_: Request) -> Response:
        found = [
            {"name": name, "columns": _columns(_ORDER_COLUMNS), "partitions": 2 if name == "clicks" else 1, "key": "user_id", "time": "at",
             "changes": "append", "retention": {"keep_us": 7 * 86_400_000_000, "is_compacted": True} if name == "orders" else {}}
            for name in ({} if shop.is_empty else _LOGS)
        ]  # fmt: skip
        return _json({"logs": found})

    async def view_rows(request: Request) -> Response:
        columns, rows = shop.rows(request.path_params["name"])
        shop.asked.append((request.url.path, dict(request.query_params)))
        if order := request.query_params.get("order"):
            name, _, way = order.partition(".")
            rows = sorted(rows, key=lambda row: (row[name] is not None, row[name]), reverse=way == "desc")
        rows = rows[: int(request.query_params.get("limit", 1000))]
        return _json({"position": shop.position, "columns": columns, "rows": rows, "more": False})

    async def log_rows(request: Request) -> Response:
        columns, rows = shop.rows(request.path_params["name"])
        return _json({"position": shop.position, "columns": columns, "rows": rows, "more": False})

    async def explain(request: Request) -> Response:
        operators = [
            {"number": 0, "operator": "scan orders", "rows": None, "bytes": None, "detail": None},
            {
                "number": 1,
                "operator": "filter",
                "rows": None,
                "bytes": None,
                "detail": "status <> 'cancelled'",
            },
            {
                "number": 2,
                "operator": "join",
                "rows": 4180,
                "bytes": 1_200_000,
                "detail": "keeps every row of both sides: grows for ever",
            },
            {"number": 3, "operator": "aggregate", "rows": 30, "bytes": 40_000, "detail": "a row per group"},
        ]
        text = f"view {request.path_params['name']}\n  3 aggregate by name, city\n  └ 2 join on user_id\n    ├ 1 filter\n    │ └ 0 scan orders\n    └ scan customers"
        return _json({"text": text, "operators": operators, "mermaid": "flowchart LR"})

    class Followed(StreamingResponse):
        async def __call__(self, *of: Any) -> None:
            shop.followers += 1
            try:
                await super().__call__(*of)
            finally:  # the generator's own may wait for the garbage collector
                shop.followers -= 1

    async def changes(request: Request) -> Response:
        shop.followed.append(dict(request.query_params))
        where = request.query_params.get("where")
        wanted = set(shop.spend)
        if where:
            try:
                with shop.connection() as connection:
                    names = connection.execute(f"SELECT name FROM spend WHERE {where}").fetchall()
            except duckdb.Error as error:
                return _problem(
                    422,
                    f"where= is no condition: {str(error).splitlines()[0]}",
                    where=where,
                    hint="comparisons, AND, OR, NOT",
                )
            kept = {name for (name,) in names}
            wanted = {key for key, row in shop.spend.items() if row["name"] in kept}

        async def events() -> AsyncIterator[str]:
            at = shop.ticks
            if request.query_params.get("after") is None:
                rows = [{"key": key, "row": row} for key, row in shop.spend.items() if key in wanted]
                head = {
                    "view": "spend",
                    "version": 1,
                    "position": shop.position,
                    "keyed": True,
                    "columns": _columns(_SPEND_COLUMNS),
                }
                # In two pieces, as a large one comes.
                yield _event("snapshot", None, {**head, "rows": rows[:20], "more": True})
                yield _event("snapshot", f"e-{at}", {**head, "rows": rows[20:], "more": False})
            while True:
                await asyncio.sleep(TICK_S)
                found = [
                    {"key": key, "row": row}
                    for tick, rows in shop.changes
                    if tick > at
                    for key, row in rows.items()
                    if key in wanted
                ]
                at = shop.ticks
                if found:
                    yield _event(
                        "change", f"e-{at}", {"position": shop.position, "changes": found, "more": False}
                    )
                else:
                    yield _event("position", f"e-{at}", {"position": shop.position})

        return Followed(events(), media_type="text/event-stream")

    async def query(request: Request) -> Response:
        sql = (await request.json())["sql"]
        shop.asked.append(("query", sql))
        try:
            with shop.connection() as connection:
                relation = connection.sql(sql)
                names, types = relation.columns, [str(each) for each in relation.types]
                found = relation.fetchall()
        except duckdb.Error as error:
            words = str(error).splitlines()[0]
            start = sql.find("nowhere")
            place = Span(start, start + 7).point_at(sql) if start >= 0 else None
            return _problem(422, words, where=place, hint="GET /views lists the views")
        if "csv" in request.headers["accept"]:
            return PlainTextResponse("name,total\nann,1.50\n", media_type="text/csv")
        columns = _columns(list(zip(names, types, strict=True)))
        rows = [dict(zip(names, map(_value, row), strict=True)) for row in found]
        return _json({"position": shop.position, "columns": columns, "rows": rows, "more": False})

    async def dead_letters(_: Request) -> Response:
        return _json({"letters": shop.letters, "more": False})

    async def settle_letters(request: Request) -> Response:
        ids = (await request.json())["ids"]
        shop.asked.append((request.url.path, ids))
        if shop.role != "admin":
            return _problem(403, "this needs the role admin", found=shop.role)
        shop.letters = [each for each in shop.letters if each["id"] not in ids]
        return _json({})

    async def verify(request: Request) -> Response:
        if shop.refuses_verify:
            return _problem(
                500,
                "a frame is not what was written",
                where="clicks, partition 0, offset 812",
                hint="bourne repair clicks",
            )
        return _json(
            {
                "log": request.path_params["name"],
                "heads": [{"partition": 0, "offset": 4000, "hash": "9f" * 32}],
            }
        )

    async def session(request: Request) -> Response:
        if request.method == "POST":
            if (await request.json())["token"] != shop.token:
                return _problem(401, "this token is not known")
            answer = _json({"name": "ann", "role": shop.role})
            answer.set_cookie("bourne", shop.token or "", httponly=True, samesite="strict")
            return answer
        if request.method == "DELETE":
            answer = _json({})
            answer.delete_cookie("bourne", httponly=True, samesite="strict")
            return answer
        return _json({"name": "ann" if shop.token else None, "role": shop.role})

    async def file(request: Request) -> Response:
        found = STATIC / request.path_params.get("path", "index.html")
        return Response(found.read_bytes(), media_type=_TYPES[found.suffix], headers=_HEADERS)

    async def guard(request: Request, call_next: Any) -> Response:
        path = request.url.path
        is_open = path == "/session" and request.method != "GET"
        if shop.token and not is_open and request.cookies.get("bourne") != shop.token:
            return _problem(401, "a token is asked for")
        answer: Response = await call_next(request)
        answer.headers.update(_HEADERS)
        return answer

    guarded = Starlette(
        routes=[
            Route("/status", status),
            Route("/views", views),
            Route("/logs", logs),
            Route("/views/{name}", view_rows),
            Route("/views/{name}/explain", explain),
            Route("/views/{name}/changes", changes),
            Route("/logs/{name}", log_rows),
            Route("/logs/{name}/verify", verify, methods=["POST"]),
            Route("/query", query, methods=["POST"]),
            Route("/dead-letters", dead_letters),
            Route("/dead-letters/{what}", settle_letters, methods=["POST"]),
            Route("/session", session, methods=["GET", "POST", "DELETE"]),
        ],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=guard)],
    )
    # The page's own files do without the guard: there are twenty of them, for each test.
    return Starlette(routes=[Route("/", file), Route("/static/{path:path}", file), Mount("/", guarded)])


def _event(event: str, id: str | None, data: Any) -> str:
    head = f"event: {event}\n" + (f"id: {id}\n" if id else "")
    return f"{head}data: {_dumps(data)}\n\n"


class FakeApi:
    """The server in a thread; `stop` and `start` make it go and come back at the same address."""

    def __init__(self, shop: Shop, port: int = 0) -> None:
        self.shop = shop
        self._port = port
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/"

    def start(self) -> None:
        config = uvicorn.Config(
            make_app(self.shop),
            host="127.0.0.1",
            port=self._port,
            log_level="critical",
            lifespan="off",
        )
        self._server = QuickServer(config)
        started = threading.Event()

        async def serve() -> None:
            ticking = asyncio.create_task(tick())
            await self._server.serve()
            ticking.cancel()

        async def tick() -> None:
            while True:
                if self._server.started and not started.is_set():
                    self._port = self._server.servers[0].sockets[0].getsockname()[1]
                    started.set()
                self.shop.tick()
                await asyncio.sleep(TICK_S if started.is_set() else 0.01)

        self._thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
        self._thread.start()
        assert started.wait(30), "the fake server did not start"

    def stop(self) -> None:
        if self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join(30)
        self._thread = None


@contextlib.contextmanager
def serving(shop: Shop, port: int = 0) -> Iterator[FakeApi]:
    """Serve a shop until the block ends."""
    api = FakeApi(shop, port)
    api.start()
    try:
        yield api
    finally:
        api.stop()
