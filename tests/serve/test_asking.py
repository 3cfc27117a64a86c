"""Views, logs and queries over HTTP: the answers of SQL, at a position that is said, or a refusal with a reason."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import httpx
import pyarrow as pa
import pytest

import bourne
from bourne.connect import http_requests
from bourne.errors import QueryError
from bourne.loading import load_app
from bourne.schema import Column
from bourne.serve.asked import as_text
from bourne.serve.server import Server
from serve.served import Served, Subscriber, served


def shop() -> bourne.App:
    app = bourne.App("shop")
    app.log(
        "orders",
        schema={"user": "varchar", "amount": "decimal(10,2)", "at": "timestamp", "id": "bigint"},
        key="user",
    )
    app.log("주문", schema={"이름": "varchar", "limit": "integer"}, partitions=2, key="이름")
    app.view("spend", "SELECT user, sum(amount) AS total, count(*) AS n FROM orders GROUP BY user")
    app.view("large", "SELECT * FROM orders WHERE amount >= 50")
    app.view("limits", 'SELECT "이름", "limit" FROM 주문')
    return app


ORDERS = [
    {"user": "ann", "amount": "12.50", "at": "2026-01-01 09:00:10", "id": 1},
    {"user": "지우", "amount": "3", "at": "2026-01-01 09:00:40.5", "id": 2},
    {"user": "ann", "amount": "60", "at": "2026-01-01 09:00:59", "id": 9007199254740993},
    {"user": "🎉", "amount": None, "at": None, "id": 4},
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(shop(), tmp_path_factory.mktemp("data")) as found:
        position = found.instance.append("orders", ORDERS).position
        limits = found.instance.append(
            "주문", [{"이름": f"n{number}", "limit": number} for number in range(10)]
        )
        for name in ("spend", "large"):
            assert found.get(f"/views/{name}", at_least=position, wait=30).status_code == 200
        assert found.get("/views/limits", at_least=limits.position, wait=30).status_code == 200
        yield found


def test_rows_of_a_view(site: Served) -> None:
    found = site.get("/views/spend", order="user")
    assert found.headers["content-type"] == "application/json"
    assert found.headers["bourne-position"] == "orders:4"
    assert found.json() == {
        "position": "orders:4",
        "columns": [{"name": "user", "type": "VARCHAR"}, {"name": "total", "type": "DECIMAL(38,2)"}, {"name": "n", "type": "BIGINT"}],
        "more": False,
        "rows": [
            {"user": "ann", "total": 72.5, "n": 2}, {"user": "지우", "total": 3.0, "n": 1}, {"user": "🎉", "total": None, "n": 1},
        ],
    }  # fmt: skip
    assert '"total": 72.50' in found.text  # all digits
    assert "9007199254740993" in site.get("/views/large").text


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"user": "ann"}, [2]),
        ({"user": "지우"}, [1]),
        ({"user": "nobody"}, []),
        ({"n": "2"}, [2]),
        ({"n": "2", "user": "지우"}, []),
        ({"total": "72.5"}, [2]),
        ({"where": "total > 3"}, [2]),
        ({"where": "total is null or user = 'ann'", "order": "n"}, [1, 2]),
        ({"order": "n.desc,user", "limit": "1"}, [2]),
        ({"order": "n.desc,user", "limit": "1", "page": "2"}, [1]),
        ({"order": "n", "page": "9"}, []),
        ({"where.user": "ann"}, [2]),
        ({"USER": "ann"}, [2]),
    ],
)
def test_what_is_asked_for(site: Served, parameters: dict[str, str], expected: list[int]) -> None:
    found = site.get("/views/spend", **parameters)
    assert found.status_code == 200, found.text
    assert [row["n"] for row in found.json()["rows"]] == expected


def test_times_and_columns_named_like_parameters(site: Served) -> None:
    found = site.get("/views/large", at="2026-01-01T09:00:59", columns="id,amount").json()
    assert found["rows"] == [{"id": 9007199254740993, "amount": 60.0}]
    assert [each["name"] for each in found["columns"]] == ["id", "amount"]
    found = site.get("/views/limits", **{"where.limit": "3"}).json()
    assert found["rows"] == [{"이름": "n3", "limit": 3}]
    assert site.get("/views/limits", limit="3").json()["more"] is True


def test_other_formats(site: Served) -> None:
    found = site.http.get("/views/spend?order=user", headers={"Accept": "text/csv"})
    assert found.text == "user,total,n\nann,72.50,2\n지우,3.00,1\n🎉,,1\n"
    found = site.get("/views/spend", order="user", format="arrow", limit=2)
    table = pa.ipc.open_stream(found.content).read_all()
    assert table.column("n").to_pylist() == [2, 1]
    assert found.headers["bourne-more"] == "true"


@pytest.mark.parametrize(
    ("path", "status", "title"),
    [
        ("/views/nothing", 404, "there is no view 'nothing'"),
        ("/views/spend?nobody=1", 422, "there is no column 'nobody'"),
        ("/views/spend?n=many", 422, "this is no BIGINT"),
        ("/views/spend?order=x", 422, "there is no column 'x'"),
        ("/views/spend?columns=x", 422, "there is no column 'x'"),
        ("/views/spend?limit=0", 422, "the request is not understood"),
        ("/views/spend?limit=100001", 422, "the request is not understood"),
        ("/views/spend?page=x", 422, "the request is not understood"),
        ("/views/spend?where=lower(user)='a'", 422, "'lower' cannot stand in a condition"),
        ("/views/spend?where=n=(select+1)", 422, "'select' cannot stand in a condition"),
        ("/views/spend?where=total>'x'", 422, "the rows cannot be compared"),
        ("/views/spend?at_least=x", 422, "this is no position"),
        ("/views/spend?wait=31", 422, "the request is not understood"),
        ("/views/spend?wait=nan", 422, "the request is not understood"),
        ("/views/spend?format=xml", 422, "the request is not understood"),
        ("/views/spend?at_least=orders:5&wait=0", 503, "spend: not there yet"),
        ("/logs/nothing", 404, "there is no log 'nothing'"),
        ("/logs/orders?start=99", 422, "log 'orders' has no offset 99"),
        ("/logs/orders?start=1&last=2", 422, "start and last exclude each other"),
        ("/logs/orders?partition=1", 422, "there is no such partition"),
        ("/logs/주문?start=1", 422, "log '주문' has 2 partitions, and each counts its own offsets"),
        ("/nothing", 404, "Not Found"),
        ("/views/spend/more", 404, "Not Found"),
    ],
)
def test_refusals(site: Served, path: str, status: int, title: str) -> None:
    found = site.http.get(path)
    assert (found.status_code, found.headers["content-type"]) == (status, "application/problem+json"), (
        found.text
    )
    problem = found.json()
    assert problem["status"] == status
    assert problem["title"].startswith(title), problem
    if status == 503:
        assert "retry-after" not in found.headers
        assert (problem["expected"], problem["found"]) == ("orders:5", "spend at orders:4")


def test_records_of_a_log(site: Served) -> None:
    found = site.get("/logs/orders", start=1, limit=2).json()
    assert [(row["__offset"], row["id"]) for row in found["rows"]] == [(1, 2), (2, 9007199254740993)]
    assert (found["more"], found["position"]) == (True, "orders:4")
    assert [row["__offset"] for row in site.get("/logs/orders", last=2).json()["rows"]] == [2, 3]
    assert [row["__offset"] for row in site.get("/logs/orders").json()["rows"]] == [0, 1, 2, 3]
    found = site.get("/logs/주문", last=4).json()
    assert len(found["rows"]) == 4
    assert {"__partition", "__offset"} < set(found["rows"][0])
    one = site.get("/logs/주문", partition=1, start=0, columns="limit", format="csv")
    assert one.text.splitlines()[0] == "__partition,__offset,limit"
    assert site.get("/logs/orders", start=4).json()["rows"] == []


def test_a_query(site: Served) -> None:
    found = site.query(
        "SELECT user, total, (SELECT count(*) FROM orders) AS c FROM spend WHERE n > $least",
        parameters={"least": 1},
    )
    assert found.status_code == 200, found.text
    assert found.json() == {
        "position": "orders:4",
        "columns": [{"name": "user", "type": "VARCHAR"}, {"name": "total", "type": "DECIMAL(38,2)"}, {"name": "c", "type": "BIGINT"}],
        "rows": [{"user": "ann", "total": 72.5, "c": 4}],
    }  # fmt: skip
    assert found.headers["bourne-position"] == "orders:4"
    assert site.query("SELECT 1 AS a, 2 AS a").json()["rows"] == [{"a": 1, "a_1": 2}]
    assert site.query("SELECT 1 WHERE false", format="csv").text == "1\n"
    for explain in ("EXPLAIN", "explain analyze"):
        found = site.query(f"{explain} SELECT * FROM spend")
        assert found.status_code == 200, found.text
    table = pa.ipc.open_stream(io.BytesIO(site.query("FROM range(3)", format="arrow").content)).read_all()
    assert table.num_rows == 3
    assert site.query("SELECT $1::int + $2::int AS x", parameters=[1, 2]).json()["rows"] == [{"x": 3}]


@pytest.mark.parametrize(
    ("sql", "title"),
    [
        ("SELEC 1", "the query cannot be answered: Parser Error"),
        ("SELECT nothing FROM spend", "the query cannot be answered: Binder Error"),
        ("SELECT 1; SELECT 2", "a query is one SELECT"),
        ("", "a query is one SELECT"),
        ("DROP TABLE spend", "a query is one SELECT"),
        ("COPY spend TO '/tmp/x'", "a query is one SELECT"),
        ("SELECT * FROM '/etc/passwd'", "the query cannot be answered"),
        ("SELECT * FROM read_csv('/etc/passwd')", "the query cannot be answered: Permission Error"),
        ("SELECT * FROM read_text('bourne.json')", "the query cannot be answered: Permission Error"),
        ("SELECT * FROM glob('*')", "the query cannot be answered: Permission Error"),
        ("INSTALL httpfs", "a query is one SELECT"),
        ("LOAD httpfs", "a query is one SELECT"),
        ("ATTACH 'x.db'", "a query is one SELECT"),
        ("SET memory_limit='100GB'", "a query is one SELECT"),
        ("PRAGMA memory_limit='100GB'", "a query is one SELECT"),
        ("SELECT repeat('x', 4000000000)", "the query cannot be answered: Out of Memory"),
        ("SELECT list(i) FROM range(1000000000) t(i)", "the query cannot be answered: Out of Memory"),
        ("SELECT * FROM range(100000000)", "the answer is too large"),
        (
            "SELECT write_log('x') UNION ALL SELECT '{'::json FROM duckdb_memory()",
            "the query cannot be answered: Conversion Error",
        ),
    ],
)
def test_queries_that_are_refused(site: Served, sql: str, title: str) -> None:
    found = site.query(sql)
    assert found.status_code == 422, found.text
    assert found.json()["title"].startswith(title), found.text


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"x", 400),
        (b"\xff", 400),
        (b"[]", 422),
        (b'{"sql": 1}', 422),
        (b'{"sql": "SELECT 1", "more": 2}', 422),
        (b'{"sql": "SELECT 1", "wait": 1e9}', 422),
    ],
)
def test_questions_that_are_none(site: Served, body: bytes, status: int) -> None:
    found = site.http.post("/query", content=body)
    assert found.status_code == status
    assert found.json()["title"] == "the request is not understood"


def test_too_large_a_question(site: Served) -> None:
    assert site.http.post("/query", content=b" " * (1 << 21)).status_code == 413


def test_who_writes_reads_his_own_writes(tmp_path: Path) -> None:
    with served(shop(), tmp_path) as site:
        for number in range(1, 30):
            found = site.http.post(
                "/logs/orders", json=[{"user": "ann", "amount": 2, "at": None, "id": number}]
            )
            assert found.status_code == 200, found.text
            assert found.json()["position"] == f"orders:{number}"
            read = site.get(
                "/views/spend", user="ann", at_least=found.headers["bourne-position"], wait=20
            ).json()
            assert read["rows"][0]["n"] == number
            asked = site.query(
                "SELECT n FROM spend", at_least=found.headers["bourne-position"], wait=20
            ).json()
            assert asked["rows"][0]["n"] == number


def test_appending(tmp_path: Path) -> None:
    with served(shop(), tmp_path) as site:
        row = b'{"user": "ann", "amount": 2, "at": null, "id": 1}\n'
        headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": "a1"}
        first = site.http.post("/logs/orders", content=row, headers=headers).json()
        again = site.http.post("/logs/orders", content=row, headers=headers).json()
        assert (first["repeat"], again["repeat"], again["position"]) == (False, True, "orders:1")
        other = site.http.post("/logs/orders", content=row + row, headers=headers)
        assert other.status_code == 422
        for content, kind, status in [
            (b"x", "application/json", 400),
            (b'[{"user": 1, "nobody": 2}]', "application/json", 422),
            (b"x", "text/html", 415),
            (b'[{"id": 1e99}]', "application/json", 422),
        ]:
            found = site.http.post("/logs/orders", content=content, headers={"Content-Type": kind})
            assert found.status_code == status, found.text
        assert site.http.post("/logs/nothing", json=[]).status_code == 404
        assert site.http.post("/logs/dead_letters", json=[]).status_code in (404, 422)
        assert site.instance.log("orders").end_offsets() == (1,)


def test_what_is_appended_at_once_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = b'{"user": "ann", "amount": 2, "at": null, "id": 1}\n'
    headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
    with served(shop(), tmp_path) as site:
        monkeypatch.setattr(http_requests, "HTTP_BYTES_MAX", 5_000)
        for _ in range(3):  # what one had is given back
            assert (
                site.http.post("/logs/orders", content=gzip.compress(row * 50), headers=headers).json()[
                    "records"
                ]
                == 50
            )
            busy = site.http.post("/logs/orders", content=gzip.compress(row * 500), headers=headers)
            assert (busy.status_code, busy.headers["retry-after"]) == (429, "1")
        assert site.http.post("/logs/orders", content=b"no gzip", headers=headers).status_code == 400
        assert site.instance.log("orders").end_offsets() == (150,)


def test_a_filter_is_equality_as_sql_has_it(tmp_path: Path) -> None:
    app = bourne.App("kinds")
    app.log(
        "a",
        schema={
            "d": "double",
            "f": "float",
            "i": "interval",
            "t": "timestamptz",
            "s": "struct(x double)",
            "b": "blob",
        },
    )
    app.view("v", "SELECT d, f, i, t, s, b, 1 AS n FROM a")
    rows = [
        {"d": d, "f": d, "i": i, "t": "2026-03-29 01:00:00+00", "s": {"x": d}, "b": b"\x00a"}
        for d, i in [
            (0.0, "30 days"),
            (-0.0, "1 month"),
            (float("inf"), "720 hours"),
            (float("nan"), "0 days"),
        ]
    ]
    with served(app, tmp_path) as site:
        follower = Subscriber(f"{site.url}/views/v/changes?d=-0")
        next(follower.events())
        table = pa.table(
            {
                "d": [row["d"] for row in rows], "f": pa.array([row["f"] for row in rows], pa.float32()),
                "t": [datetime(2026, 3, 29, 1, tzinfo=UTC)] * 4, "s": [row["s"] for row in rows], "b": [b"\x00a"] * 4,
            }
        )  # fmt: skip
        position = site.instance.append("a", table).position
        for name, text, count in [
            ("d", "0", 2), ("d", "-0", 2), ("f", "0.0", 2), ("d", "inf", 1), ("d", "nan", 1), ("d", "-nan", 1), ("d", "1e-9", 0),
            ("t", "2026-03-29 03:00:00+02", 4), ("b", "\\x00a", 4),
        ]:  # fmt: skip
            found = site.get("/views/v", at_least=position, wait=20, **{name: text}).json()["rows"]
            asked = site.query(f"SELECT coalesce(sum(n), 0)::INT AS n FROM v WHERE {name} = '{text}'").json()[
                "rows"
            ]
            assert sum(row["n"] for row in found) == count == asked[0]["n"], (name, text)
        assert sum(follower.read_until(position).rows.values()) == 2
        follower.close()
        for name in ("i", "s"):
            refused = site.get("/views/v", **{name: "30 days"})
            assert refused.status_code == 422 and "where=" in refused.json()["hint"]


def test_how_all_is(site: Served) -> None:
    views = {each["name"]: each for each in site.get("/views").json()["views"]}
    assert views["spend"]["inputs"] == ["orders"]
    assert (views["spend"]["keyed"], views["large"]["keyed"]) == (True, False)
    logs = {each["name"]: each for each in site.get("/logs").json()["logs"]}
    assert logs["주문"]["partitions"] == 2
    status = site.get("/status").json()
    assert status["app"] == "shop"
    assert {each["name"]: each["rows"] for each in status["views"]} == {"spend": 3, "large": 1, "limits": 10}
    assert site.get("/healthz").json() == {"status": "alive"}
    assert site.get("/readyz").json() == {"status": "ready"}
    metrics = site.get("/metrics").text
    assert 'bourne_log_records_total{log="주문"} 10\n' in metrics
    assert 'bourne_view_rows{view="spend"} 3\n' in metrics
    explained = site.get("/views/spend/explain").json()
    assert explained["operators"]
    assert site.get("/dead-letters").json() == {"letters": [], "more": False}
    assert site.http.post("/logs/orders/verify").json()["heads"][0]["offset"] == 4


def test_headers_that_every_answer_has(site: Served) -> None:
    for path in ("/", "/views", "/nothing", "/static/nothing.js", "/openapi.json"):
        headers = site.http.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers


def test_a_failing_view_is_not_ready(tmp_path: Path) -> None:
    app = bourne.App("shop")
    app.log("orders", schema={"amount": "varchar"})
    app.view("sums", "SELECT sum(amount::integer) AS s FROM orders")
    app.view("counts", "SELECT count(*) AS n FROM orders")
    with bourne.open(app, data=tmp_path):
        pass
    from waiting import until  # noqa: PLC0415

    with pytest.raises(AssertionError, match="ViewFailed"), served(app, tmp_path) as site:
        site.instance.append("orders", [{"amount": "x"}])
        until(lambda: site.get("/readyz").status_code == 503, what="the view to fail")
        assert "view 'sums' has failed" in site.get("/readyz").json()["why"][0]
        failures = {each["name"]: each["failure"] for each in site.get("/status").json()["views"]}
        assert failures["sums"] is not None
        assert failures["counts"] is None
        found = site.get("/views/counts", at_least="orders:1", wait=20)
        assert found.json()["rows"] == [{"n": 1}]
        assert site.get("/views/sums", at_least="orders:1", wait=0).status_code == 503


def test_who_is_not_on_this_machine(site: Served) -> None:
    assert site.http.get("/views", headers={"Host": "evil.example"}).status_code == 403
    assert site.http.get("/views", headers={"Origin": "http://evil.example"}).status_code == 403
    port = httpx.URL(site.url).port
    assert site.http.get("/views", headers={"Origin": f"http://127.0.0.1:{port}"}).status_code == 200


def test_functions_of_the_app_in_queries(tmp_path: Path) -> None:
    file = tmp_path / "app.py"
    file.write_text(
        "import bourne\n"
        "app = bourne.App('shop')\n"
        "app.log('orders', schema={'user': 'varchar'})\n"
        "@app.udf(returns='varchar', scalar=True)\n"
        "def shout(x: str) -> str:\n"
        "    return x.upper()\n"
    )
    app = load_app(file)
    with served(app, tmp_path / "data", file=file) as site:
        site.instance.append("orders", [{"user": "ann"}])
        assert site.query("SELECT shout(user) AS loud FROM orders").json()["rows"] == [{"loud": "ANN"}]
    file.write_text("raise SystemExit('not today')\n")
    with served(app, tmp_path / "data", file=file) as site:
        found = site.query("SELECT 1")
        assert found.status_code == 500
        assert found.json()["title"] == "the process that answers queries cannot begin"
        assert site.get("/logs/orders").status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.2", "localhost", "::1"])
def test_each_address_of_this_machine_is_a_name_of_it(tmp_path: Path, host: str) -> None:
    with bourne.open(shop(), data=tmp_path / "data") as instance, Server(instance, (host, 0)) as server:
        assert httpx.get(f"{server.url}/views").status_code == 200
        port = server.address[1]
        assert httpx.get(f"{server.url}/views", headers={"Host": f"other:{port}"}).status_code == 403


@pytest.mark.parametrize(
    "kind", ["TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"]
)
@pytest.mark.parametrize("bits", [0, 7, 8, 15, 16, 31, 32, 59, 63, 64])
def test_whole_numbers_are_read_as_duckdb_reads_them(kind: str, bits: int) -> None:
    for number in (1 << bits, (1 << bits) - 1, -(1 << bits), -(1 << bits) - 1):
        for text in (str(number), f"{number:+05d}", f" {number} "):
            try:
                [(expected,)] = duckdb.execute(f"SELECT CAST(? AS {kind})::VARCHAR", [text]).fetchall()
            except duckdb.Error:
                with pytest.raises(QueryError):
                    as_text(Column("k", kind), text)
            else:
                assert as_text(Column("k", kind), text) == expected
