"""Pushes over HTTP: what is answered with 200 is in the log, whole and once; what is refused is not, and says why."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bourne
from bourne.connect import http_listener, http_requests
from bourne.connect.http_bodies import read_body
from bourne.connect.sources import Surroundings, open_source
from bourne.errors import (
    AppendInDoubt,
    Closed,
    CorruptFrame,
    DefinitionError,
    DiskFull,
    InputError,
    LogLocked,
    SourceFailed,
)
from bourne.limits import HTTP_ARROW_BYTES_MAX, HTTP_BODY_BYTES_MAX, HTTP_RECORDS_MAX
from bourne.log.catalog import LogInfo
from bourne.log.embedded import EmbeddedLog
from bourne.schema import conform, declare_schema
from bourne.testing import SimulatedClock
from connect.pushing import Client, Raw, Reading, no_files, no_rows, running
from connect.test_files import EVERY_TYPE, ROWS, csv_text, json_rows
from waiting import until

JSONL, CSV = "application/x-ndjson", "text/csv"
STREAM, FILE = "application/vnd.apache.arrow.stream", "application/vnd.apache.arrow.file"

ORDERS = {"id": "bigint not null", "who": "varchar", "amount": "decimal(10,2)"}
ORDER = b'{"id": 1}'


def make(url: str = "http://127.0.0.1:0", *, schema: Any = ORDERS, **options: Any) -> bourne.App:
    app = bourne.App("shop")
    app.log("orders", schema=schema, **options)
    app.source(url, into="orders")
    return app


def rows_of(instance: bourne.Instance) -> list[dict[str, Any]]:
    return instance.tail("orders").to_pylist() if instance.log("orders").info.partitions == 1 else [
        row for batch in instance.log("orders").batches() for row in batch.records.to_pylist()
    ]  # fmt: skip


def arrow(table: pa.Table, kind: str = STREAM, **options: Any) -> bytes:
    sink = io.BytesIO()
    new = pa.ipc.new_stream if kind == STREAM else pa.ipc.new_file
    with new(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[tuple[bourne.Instance, Client, Any]]:
    """An app that runs, a client of its log, and its source."""
    with running(make(), tmp_path / "data") as (instance, (source,)):
        client = Client(source.address)
        yield instance, client, source
        client.close()


class Held:
    """An append that waits, once it is called, until it is let go."""

    def __init__(self) -> None:
        self.calls = 0
        self.go = threading.Event()
        self.fails: bourne.BourneError | None = None

    def __call__(self, rows: pa.Table, **_: Any) -> Any:
        self.calls += 1
        assert self.go.wait(60)
        if self.fails is not None:
            raise self.fails
        partitions = pa.nulls(rows.num_rows, pa.int32()).fill_null(0).to_numpy()
        return bourne.log.protocol.Appended(
            {0: range(rows.num_rows)}, False, partitions, partitions.astype("int64")
        )


@pytest.fixture
def held() -> Iterator[tuple[Held, Reading]]:
    """A log whose appends wait, pushed to."""
    append = Held()
    reading = Reading(LogInfo("orders", declare_schema(ORDERS, where="test")), append)
    yield append, reading
    append.go.set()
    reading.stop()


# --- what is taken ---


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", '{"id": 1, "who": "지우🚲", "amount": 12.50}'),
        ("application/json; charset=utf-8", '\ufeff[{"id": 1, "who": "지우🚲", "amount": "12.5"}]'),
        (JSONL, '{"id": 1, "who": "지우🚲", "amount": 12.50}'),
        ("application/jsonl", '\ufeff\n{"id": 1, "WHO": "지우🚲", "amount": 1250e-2}\r\n\n'),
        ("Application/JSONLines", '{"amount": 12.5, "id": 1, "who": "지우🚲"}\n'),
        (CSV, "id,who,amount\r\n1,지우🚲,12.5\r\n"),
        ("text/csv", '\ufeffwho,id,amount\n"지우🚲",1,12.50'),
        (STREAM, arrow(pa.table({"id": [1], "who": pa.array(["지우🚲"]).dictionary_encode(), "amount": ["12.5"]}))),
        (FILE, arrow(pa.table({"id": [1], "who": pa.array(["지우🚲"], pa.string_view()), "amount": [12.5]}), FILE)),
    ],
)  # fmt: skip
def test_every_kind_of_body_is_the_same_record(shop, kind, body):
    instance, client, _ = shop
    data = body.encode() if isinstance(body, str) else body
    for number, (sent, headers) in enumerate(
        [(data, {}), (gzip.compress(data), {"Content_Encoding": "gzip"})]
    ):
        found = client.post(sent, kind, **headers)
        place = {"partition": 0, "first": number, "last": number}
        assert found.content == {"log": "orders", "records": 1, "offsets": [place], "repeat": False}
        assert (found.status, found.headers["content-type"]) == (200, "application/json")
    assert [(row["id"], row["who"], str(row["amount"])) for row in rows_of(instance)] == [
        (1, "지우🚲", "12.50")
    ] * 2


@pytest.mark.parametrize(
    ("kind", "body"),
    [("application/json", "[]"), (JSONL, ""), (JSONL, "\n \r\n"), (CSV, ""), (CSV, "id,who\n"), (STREAM, arrow(pa.table({"id": pa.array([], pa.int64())})))],
)  # fmt: skip
def test_no_records_are_none(shop, kind, body):
    instance, client, _ = shop
    found = client.post(body, kind, Idempotency_Key="none")
    assert (found.status, found.content["records"], found.content["offsets"]) == (200, 0, [])
    assert rows_of(instance) == []


def test_numbers_are_exact_and_null_is_null(shop):
    instance, client, _ = shop
    big = 9_007_199_254_740_993
    assert (
        client.post(f'[{{"id": {big}, "who": null}}, {{"id": -{big}, "amount": 99999999.99}}]').status == 200
    )
    found = [(row["id"], row["who"], row["amount"] and str(row["amount"])) for row in rows_of(instance)]
    assert found == [(big, None, None), (-big, None, "99999999.99")]


def test_whatever_is_pushed_is_what_append_would_have_stored(tmp_path):
    texts = {"json": "application/json", "jsonl": JSONL, "csv": CSV, "stream": STREAM, "file": FILE}
    with running(make(schema={c.name: f"{c.type}{'' if c.nullable else ' not null'}" for c in EVERY_TYPE.columns}), tmp_path) as (
        instance, (source,),
    ):  # fmt: skip
        client = Client(source.address)

        @settings(max_examples=30, deadline=None)
        @given(
            rows=st.lists(ROWS, min_size=1, max_size=6),
            kind=st.sampled_from([*texts]),
            is_zipped=st.booleans(),
        )
        def check(rows: list[dict[str, Any]], kind: str, is_zipped: bool) -> None:
            table = conform(rows, EVERY_TYPE, log="orders")
            if kind == "csv":
                body = "".join(csv_text(table)).encode()
            elif kind in ("json", "jsonl"):
                lines = list(json_rows(table))
                body = (f"[{','.join(lines)}]" if kind == "json" else "\n".join(lines)).encode()
            else:
                body = arrow(table, texts[kind])
            zipped = {"Content_Encoding": "gzip"} if is_zipped else {}
            found = client.post(gzip.compress(body) if is_zipped else body, texts[kind], **zipped)
            assert found.status == 200, found
            (place,) = found.content["offsets"]
            stored = instance.tail("orders", start=place["first"])
            assert stored.to_pylist() == table.to_pylist()
            assert place["last"] == place["first"] + len(rows) - 1

        check()
        client.close()


def test_a_record_that_does_not_say_its_time_has_that_of_its_arrival(tmp_path):
    app = make(schema={"id": "bigint", "at": "timestamp not null"}, time="at")
    with running(app, tmp_path) as (instance, (source,)):
        client = Client(source.address)
        before = time.time_ns() // 1000
        for body, kind in (
            ('{"id": 1}', JSONL),
            ("id\n1\n", CSV),
            ('[{"id": 1, "at": "2024-05-01"}]', "application/json"),
        ):
            assert client.post(body, kind).status == 200
        client.close()
        first, second, third = instance.tail("orders").column("at").cast("int64").to_pylist()
        assert before <= first <= second <= time.time_ns() // 1000
        assert third == 1_714_521_600_000_000


# --- what is refused ---


REFUSED: list[tuple[str, bytes, int, str]] = [
    ("application/json", b"", 400, "not JSON"),
    ("application/json", b'{"id": 1', 400, "line 1, column 9"),
    ("application/json", b'[{"id": 1}, 7]', 400, "record 2"),
    ("application/json", b'{"id": 1, "who": "\xff"}', 400, "not JSON"),
    ("application/json", b"[" * 100_000, 400, "not JSON"),
    ("application/json", b'[{"id": 1}, {"who": "x"}]', 422, "record 2"),
    ("application/json", b'{"id": 1e999999999}', 422, "does not fit BIGINT"),
    (JSONL, b'{"id": 1}\n\n{"id": "x"}\n', 422, "line 3"),
    (JSONL, b'{"id": 1}\n{"id": 2, "nobody": 1}\n', 422, "nobody"),
    (JSONL, b'{"id": 1}\n{"id": 2\n', 400, "line 2"),
    (JSONL, b"{}\n" * (HTTP_RECORDS_MAX + 1), 413, "too many records"),
    (CSV, b"id,who\n1,a\n2,b,c\n", 400, "line 3"),
    (CSV, b"id,who\n1,a\nx,b\n", 422, "line 3"),
    (CSV, b"id,nobody\n1,a\n", 422, "nobody"),
    (STREAM, b"", 400, "not an Arrow stream"),
    (STREAM, arrow(pa.table({"id": [1]}))[:-50], 400, "not an Arrow stream"),
    (STREAM, arrow(pa.table({"id": [1, None]})), 422, "row 2"),
    (STREAM, arrow(pa.table({"id": [1]}), compression="zstd"), 400, "compressed buffers"),
    (FILE, arrow(pa.table({"id": [1]}), FILE, compression="lz4"), 400, "compressed buffers"),
    (FILE, arrow(pa.table({"id": [1]})), 400, "not an Arrow file"),
    (FILE, arrow(pa.table({"id": [1]}), FILE)[:-1], 400, "not an Arrow file"),
    (STREAM, arrow(pa.table({"id": pa.nulls(HTTP_RECORDS_MAX + 1)})), 413, "too many records"),
    ("text/plain", b"x", 415, "application/json"),
    ("", b"x", 415, "no Content-Type"),
]  # fmt: skip


def test_what_does_not_fit_is_refused_whole_and_says_why(shop):
    instance, client, _ = shop
    for kind, body, status, words in REFUSED:
        found = client.post(body, kind, Idempotency_Key="k")
        assert (found.status, found.content["status"]) == (status, status), (kind, body[:50], found)
        assert found.headers["content-type"] == "application/problem+json"
        assert words in json.dumps(found.content), found
        assert "retry-after" not in found.headers
    assert rows_of(instance) == []
    assert (
        client.post(ORDER, Idempotency_Key="k").content["repeat"] is False
    )  # nothing was remembered, either


def test_what_is_no_push_is_told_what_is(shop):
    _, client, _ = shop
    found = client.post(ORDER)
    for method, path, status, words in [
        ("POST", "/logs/nobody", 404, "/logs/orders"),
        ("POST", "/logs/ORDERS", 404, "/logs/orders"),
        ("POST", "/", 404, "POST /logs/NAME"),
        ("POST", "/logs/orders/1", 404, "POST /logs/NAME"),
        ("GET", "/logs/orders", 405, "POST /logs/NAME"),
        ("OPTIONS", "/logs/orders", 405, "POST /logs/NAME"),
    ]:
        found = client.ask(method, path, ORDER, Content_Type="application/json")
        assert (found.status, words in json.dumps(found.content)) == (status, True), (method, path, found)
    assert found.headers["allow"] == "POST"
    assert client.post(ORDER, Idempotency_Key="x" * 201).status == 400
    assert client.post(ORDER, Content_Encoding="br").status == 415
    assert client.post(ORDER, Origin="http://evil.example").status == 403


def test_what_unpacks_to_too_much_is_refused_before_it_has(shop):
    instance, client, source = shop
    bomb = gzip.compress(bytes(4 * HTTP_BODY_BYTES_MAX))
    assert client.post(bomb, JSONL, Content_Encoding="gzip").status == 413
    for zipped in (gzip.compress(ORDER)[:-1], gzip.compress(ORDER) + b"x", ORDER):
        assert client.post(zipped, Content_Encoding="gzip").status == 400
    text = pa.DictionaryArray.from_arrays(
        pa.array([0] * 1000, pa.int16()), pa.array(["x" * (HTTP_ARROW_BYTES_MAX // 500)])
    )
    many = arrow(pa.table({"id": range(1000), "who": text}))
    assert len(many) < HTTP_BODY_BYTES_MAX
    found = client.post(many, STREAM)
    assert (found.status, "large values" in found.content["title"]) == (413, True)
    assert rows_of(instance) == []
    assert source._listener._room._bytes == 0


def test_a_body_that_is_too_large_is_refused_however_it_comes(shop):
    _, client, source = shop
    assert client.post(b" " * (HTTP_BODY_BYTES_MAX + 1)).status == 413
    said = Raw(source.address).send("", length=HTTP_BODY_BYTES_MAX + 1)
    assert said.answer().status == 413  # before the body has come
    said.close()
    chunked = Raw(source.address).send("", length=5, more="Transfer-Encoding: chunked\r\n")
    piece = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
    for _ in range(17):
        chunked.socket.sendall(piece)
    chunked.socket.sendall(b"0\r\n\r\n")
    assert chunked.answer().status == 413
    chunked.close()


def test_damaged_arrow_is_an_error_and_never_a_crash():
    schema = declare_schema({"id": "bigint", "who": "varchar", "tags": "varchar[]"}, where="test")
    table = pa.table(
        {"id": [1, 2], "who": pa.array(["a", "버스" * 9], pa.string_view()), "tags": [["x"], None]}
    )
    whole = arrow(table) + arrow(
        table.set_column(1, "who", table.column("who").cast("string").dictionary_encode())
    )
    rng = random.Random(7)
    for _ in range(1500):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
        try:
            read_body(bytes(data), "arrow stream", schema, log="x")
        except InputError:
            continue


# --- once ---


def test_a_key_makes_a_repeat_the_same_also_after_a_restart(tmp_path):
    bodies = [json.dumps([{"id": n, "who": str(n)} for n in range(start, start + 20)]) for start in (0, 100)]
    for partitions in (1, 3):
        app = make(key="id", partitions=partitions)
        first: list[Any] = []
        for turn in range(3):
            with running(app, tmp_path / str(partitions)) as (instance, (source,)):
                client = Client(source.address)
                for number, body in enumerate(bodies):
                    zipped = {"Content_Encoding": "gzip"} if turn == 1 else {}
                    data = gzip.compress(body.encode()) if turn == 1 else body.encode()
                    found = client.post(
                        data, Idempotency_Key=f"요청 {number}".encode().decode("latin-1"), **zipped
                    )
                    if turn == 0:
                        first.append(found.content["offsets"])
                    assert found.content == {
                        "log": "orders",
                        "records": 20,
                        "offsets": first[number],
                        "repeat": turn > 0,
                    }
                other = client.post(
                    bodies[0].replace('"0"', '"1"'), Idempotency_Key="요청 0".encode().decode("latin-1")
                )
                assert (other.status, other.content["found"]) == (422, "other data")
                client.close()
                assert sorted(row["id"] for row in rows_of(instance)) == [*range(20), *range(100, 120)]
                (state,) = instance.status().sources
                assert (state.delivery, state.error) == ("at least once", None)


def test_a_repeat_completes_what_was_torn_between_partitions(tmp_path, monkeypatch):
    with running(make(key="id", partitions=3), tmp_path) as (instance, (source,)):
        client = Client(source.address)
        writer = EmbeddedLog.writer
        failing = [2]

        def fail_once(log: EmbeddedLog, partition: int) -> Any:
            if log.info.name == "orders" and failing and partition == failing[0]:
                failing.clear()
                raise DiskFull("no space left", where="partition 2")
            return writer(log, partition)

        monkeypatch.setattr(EmbeddedLog, "writer", fail_once)
        body = json.dumps([{"id": n} for n in range(50)])
        found = client.post(body, Idempotency_Key="k")
        assert (found.status, found.headers["retry-after"]) == (503, "1")
        assert 0 < len(rows_of(instance)) < 50
        found = client.post(body, Idempotency_Key="k")
        assert (found.status, sum(each["last"] + 1 for each in found.content["offsets"])) == (200, 50)
        client.close()
        assert sorted(row["id"] for row in rows_of(instance)) == list(range(50))


KILLED = """
import os, sys, threading
import bourne
from bourne.connect import http_push
app = bourne.App("shop")
app.log("orders", schema={"id": "bigint not null"})
app.source("http://127.0.0.1:0", into="orders")
answer, left = http_push.offsets_of, [int(sys.argv[2])]
def answer_or_die(appended):  # the records are durable by now
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), 9)
    return answer(appended)
http_push.offsets_of = answer_or_die
with bourne.open(app, data=sys.argv[1]) as instance:
    def tell(state):
        if state.state == "running":
            print(instance.sources[0].address[1], flush=True)
    instance.run(on_state=tell)
"""


def test_killed_between_the_disk_and_the_answer_a_repeat_is_not_stored_twice(tmp_path):
    rng = random.Random(11)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    sent = 0
    for _ in range(2):
        lives = rng.randint(1, 4)
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path), str(lives)], stdout=subprocess.PIPE, env=environment
        ) as child:
            assert child.stdout is not None
            client = Client(("127.0.0.1", int(child.stdout.readline())))
            repeats = []
            with pytest.raises(OSError):  # the connection is gone
                while True:
                    repeats.append(
                        client.insist(f'{{"id": {sent}}}', Idempotency_Key=str(sent)).content["repeat"]
                    )
                    sent += 1
            client.close()
            assert child.wait(60) == -signal.SIGKILL
        assert repeats[1:] == [False] * (lives - 1)
    with bourne.open(data=tmp_path) as instance:
        assert [row["id"] for row in rows_of(instance)] == list(range(sent + 1))


def test_fifty_clients_at_once_are_stored_once_each(tmp_path):
    app = make()
    app.view("sums", "SELECT count(*) AS n, count(DISTINCT id) AS ids, sum(amount) AS total FROM orders")
    with running(app, tmp_path) as (instance, (source,)):

        def push(number: int) -> None:
            client = Client(source.address)
            rng = random.Random(number)
            for part in range(5):
                rows = [{"id": number * 1000 + part * 10 + n, "amount": 1} for n in range(3)]
                for _ in range(rng.choice([1, 2])):  # some do not trust the first answer
                    assert client.insist(json.dumps(rows), Idempotency_Key=f"{number}/{part}").status == 200
            client.close()

        threads = [threading.Thread(target=push, args=(number,)) for number in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        until(lambda: instance.query("SELECT n, ids, total FROM sums").fetchall() == [(750, 750, 750)])
        until(lambda: instance.status().sources[0].records == 750)


# --- too much, too slow, gone ---


def test_who_comes_when_all_places_are_taken_is_told_to_come_again(held, monkeypatch):
    append, reading = held
    monkeypatch.setattr(http_requests, "HTTP_REQUESTS_MAX", 2)
    raws = [Raw(reading.source.address).send('{"id": 1}', length=9) for _ in range(2)]
    until(lambda: append.calls == 2)
    refused = Raw(reading.source.address).send("", length=9)
    found = refused.answer()  # though its body has not come
    assert (found.status, found.headers["retry-after"]) == (429, "1")
    refused.socket.sendall(b'{"id": 2}')  # which is not kept
    append.go.set()
    assert [raw.answer().status for raw in raws] == [200, 200]
    refused.send('{"id": 3}', length=9)
    assert refused.answer().status == 200
    for raw in (*raws, refused):
        raw.close()
    until(lambda: reading.records == 3)


def test_bodies_in_work_are_bounded_in_bytes(held, monkeypatch):
    append, reading = held
    monkeypatch.setattr(http_requests, "HTTP_BYTES_MAX", 1000)
    slow = Raw(reading.source.address).send('{"id": 1}', length=900)
    until(lambda: reading.source._listener._room._bytes == 900)
    client = Client(reading.source.address)
    assert client.post(b" " * 200).status == 429
    assert client.post(gzip.compress(b" " * 500), JSONL, Content_Encoding="gzip").status == 429
    append.go.set()
    assert client.post(ORDER).status == 200
    slow.close()
    until(lambda: reading.source._listener._room._bytes == 0)
    assert client.post(b" " * 200, JSONL).status == 200
    client.close()


def test_answers_are_sent_at_once(held):
    _, reading = held
    option = reading.source._listener._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert option  # without it each answer takes 40 ms


def test_half_a_body_is_none(shop):
    instance, client, source = shop
    for cut in (True, False):
        leaver = Raw(source.address).send('{"id": 1}\n', length=20)
        until(lambda: source._in_work == 1)
        if cut:
            leaver.socket.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0"
            )  # with a reset
        leaver.close()
        until(lambda: source._in_work == 0)
    assert client.post('{"id": 2}').content["offsets"][0]["first"] == 0
    assert [row["id"] for row in rows_of(instance)] == [2]
    assert (source._listener._room._requests, source._listener._room._bytes) == (0, 0)


def test_a_slow_body_holds_up_nobody_and_has_its_time(shop, monkeypatch):
    _, client, source = shop
    monkeypatch.setattr(http_listener, "HTTP_BODY_S", 0.3)
    slow = [Raw(source.address).send('{"id"', length=20) for _ in range(40)]
    until(lambda: source._in_work == 40)
    monkeypatch.setattr(http_listener, "HTTP_BODY_S", 60)
    assert client.post(ORDER).status == 200
    for each in slow:
        assert each.answer().status == 408
        assert each.socket.recv(1) == b""  # and the connection is closed
        each.close()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (LogLocked("held", where="x", pid=1), 503),
        (DiskFull("full"), 503),
        (AppendInDoubt("in doubt"), 503),
        (Closed("closed"), 503),
        (CorruptFrame("bits", log="orders", partition=0, file="x", byte=1), 500),
        (InputError("not so"), 422),
    ],
)
def test_what_the_log_says_is_told(held, error, status):
    append, reading = held
    append.fails = error
    append.go.set()
    client = Client(reading.source.address)
    found = client.post(ORDER)
    assert (found.status, found.content["title"]) == (status, error.what)
    assert ("retry-after" in found.headers) == (status == 503)
    client.close()
    assert reading.is_alive


def test_a_fault_of_ours_is_an_answer_too(held, caplog):
    append, reading = held
    append.fails = ZeroDivisionError("x")
    append.go.set()
    client = Client(reading.source.address)
    assert client.post(ORDER).status == 500
    client.close()  # as the server has done
    append.fails = None
    again = Client(reading.source.address)
    assert again.post(ORDER).status == 200
    again.close()
    assert "ZeroDivisionError" in caplog.text


# --- the end ---


def test_stopping_answers_what_is_in_work_and_lets_in_nothing_more(held):
    append, reading = held
    raw = Raw(reading.source.address).send('{"id": 1}', length=9)
    idle = Client(reading.source.address)
    assert idle.ask("GET", "/").status == 404  # its connection is kept
    until(lambda: append.calls == 1)
    reading.source.stop()
    late = idle.post(ORDER)
    assert (late.status, late.headers["retry-after"]) == (503, "1")
    assert reading.is_alive
    append.go.set()
    assert raw.answer().status == 200
    reading.stop()
    assert reading.records == 1
    with pytest.raises(OSError):
        socket.create_connection(reading.source.address)


def test_stopping_does_not_wait_for_ever(held, monkeypatch):
    append, reading = held
    monkeypatch.setattr(http_listener, "HTTP_STOP_S", 0.2)
    monkeypatch.setattr("bourne.connect.http_push.HTTP_STOP_S", 0.5)
    slow = Raw(reading.source.address).send('{"id"', length=20)
    stuck = Raw(reading.source.address).send('{"id": 1}', length=9)
    until(lambda: append.calls == 1 and reading.source._in_work == 2)
    reading.stop()
    assert slow.answer().status == 503
    with pytest.raises(OSError):
        socket.create_connection(reading.source.address)
    slow.close()
    stuck.close()


def test_a_source_that_is_not_read_takes_nothing_and_gives_the_port_back():
    log = LogInfo("orders", declare_schema(ORDERS, where="test"))
    source = open_source("http://127.0.0.1:0", Surroundings(log, SimulatedClock(), no_files, no_rows, Held()))
    client = Client(source.address)
    assert client.post(ORDER).status == 503
    client.close()
    source.stop()
    source.stop()
    again = Reading(log, Held(), f"http://127.0.0.1:{source.address[1]}")
    again.stop()


def test_several_logs_share_a_port(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    app = make(f"http://127.0.0.1:{port}")
    app.log("visits", schema={"page": "varchar"})
    app.source(f"http://localhost:{port}?token=visitors", into="visits")
    with running(app, tmp_path) as (instance, (orders, visits)):
        assert orders._listener is visits._listener
        client = Client(orders.address)
        assert client.post(ORDER).status == 200
        page = '{"page": "버스"}'
        for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic visitors"}):
            found = client.ask("POST", "/logs/visits", page, Content_Type="application/json", **headers)
            assert (found.status, found.headers["www-authenticate"]) == (401, "Bearer")
        assert client.ask("POST", "/logs/nobody", page).status == 401
        right = {"Content_Type": "application/json", "Authorization": "bearer visitors", "Origin": "http://x"}
        assert client.ask("POST", "/logs/visits", page, **right).status == 200
        found = client.ask("POST", "/logs/nobody", page, **right)
        assert (found.status, found.content["expected"]) == (404, "/logs/orders, /logs/visits")
        assert instance.tail("visits").to_pylist() == [{"page": "버스"}]
        with pytest.raises(SourceFailed, match="already"):
            Reading(instance.log("orders").info, Held(), f"http://127.0.0.1:{port}")
        states = instance.status().sources
        assert [state.name for state in states] == [
            f"http://127.0.0.1:{port}/logs/orders", f"http://localhost:{port}/logs/visits",
        ]  # fmt: skip
        assert "visitors" not in f"{states} {client.ask('POST', '/logs/visits').content} {app.sources[0]}"
        visits.stop()
        until(lambda: client.ask("POST", "/logs/visits", page, **right).status == 404)
        assert client.post(ORDER).status == 200
        client.close()


def test_a_taken_port_is_said_and_a_listener_that_died_too(monkeypatch):
    log = LogInfo("orders", declare_schema(ORDERS, where="test"))
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SourceFailed, match="cannot listen"):
        Reading(log, Held(), f"http://127.0.0.1:{taken.getsockname()[1]}")
    reading = Reading(log, Held())
    reading.source._listener._server.should_exit = True
    until(lambda: not reading.is_alive)
    assert isinstance(reading.failure, SourceFailed)
    reading.stop()


@pytest.mark.parametrize(
    ("url", "error", "words"),
    [
        ("http://0.0.0.0:0", DefinitionError, "reverse proxy"),
        ("http://[::]:0", DefinitionError, "reverse proxy"),
        ("http://127.0.0.1:0?token=", DefinitionError, "empty"),
        ("http://127.0.0.1:0?tokn=x", DefinitionError, "no such option"),
        ("http://127.0.0.1", DefinitionError, "is not a source"),
        ("http://127.0.0.1:0/orders", DefinitionError, "is not a source"),
        ("https://127.0.0.1:0", DefinitionError, "is not a source"),
        ("http://no.such.host.invalid:1", SourceFailed, "cannot listen"),
    ],
)
def test_what_is_no_place_to_listen_on_is_refused(url, error, words):
    with pytest.raises(error, match=words):
        Reading(LogInfo("orders", declare_schema(ORDERS, where="test")), Held(), url)


def test_with_a_token_any_address_will_do_and_it_is_shown_nowhere(monkeypatch):
    monkeypatch.setenv("PUSH_TOKEN", "s3cret")
    log = LogInfo("orders", declare_schema(ORDERS, where="test"))
    for url in ("http://0.0.0.0:0?token=${PUSH_TOKEN}", "http://0.0.0.0:0?token=s3cret"):
        append = Held()
        append.go.set()
        reading = Reading(log, append, url)
        client = Client(("127.0.0.1", reading.source.address[1]))
        assert client.post(ORDER).status == 401
        assert client.post(ORDER, Authorization="Bearer s3cret").status == 200
        client.close()
        reading.stop()
        assert "s3cret" not in f"{reading.source.name} {bourne.connect.urls.parse_url(url)!r}"
        with pytest.raises(DefinitionError) as caught:
            open_source(f"{url}&nobody=1", None)  # type: ignore[arg-type]
        assert "s3cret" not in str(caught.value)
