"""Clients that mean harm: whatever they send, keep back or do not take, an honest one is answered beside them, and
afterwards the server is as it was. The server runs in a process of its own, whose memory and files are looked at.
"""

from __future__ import annotations

import functools
import json
import os
import random
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from starlette.requests import HTTPConnection
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import connect

from bourne import limits
from bourne.ports import SystemClock
from bourne.problems import Refused
from bourne.serve.api import make_app
from bourne.serve.guard import Guard, needed_role
from bourne.serve.tokens import Role, Tokens
from serve.standing import Standing, standing
from waiting import until

IS_LONG = bool(os.environ.get("BOURNE_LONG"))
SEED = random.randrange(1 << 32)
HOST = b"Host: localhost\r\n"

# What a process keeps for itself after it has had more in work: its allocator's business, not a leak.
SPARE_BYTES = 192 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    with standing(tmp_path_factory.mktemp("hostile") / "data") as found:
        with found.client() as http:
            for view in ("spend", "large", "long"):
                assert (
                    http.get(f"/views/{view}", params={"at_least": found.position, "wait": 30}).status_code
                    == 200
                )
            assert is_answered(http)
        yield found


def is_answered(http: httpx.Client) -> bool:
    """Say whether an honest client gets what it asks for: rows, and a query."""
    rows = http.get("/views/spend", params={"columns": "user", "order": "user"}).json()["rows"]
    query = http.post("/query", json={"sql": "SELECT count(*) AS n FROM orders"})
    return len(rows) == 7 and query.json()["rows"] == [{"n": 500}]


@contextmanager
def attacked(server: Standing) -> Iterator[httpx.Client]:
    """Let a block attack; an honest client is given, and has to be answered to the end. Then all is as it was."""
    files, memory = server.files(), server.memory_bytes()
    with server.client() as http:
        yield http
        assert is_answered(http)
    until(lambda: server.files() <= files + 2, what="the files to be closed")
    until(lambda: server.memory_bytes() <= memory + SPARE_BYTES, what="the memory to be free")
    with server.client() as http:
        assert is_answered(http)


def answer_of(connection: socket.socket) -> bytes:
    """Return all that a server says until it closes, or says nothing for a while."""
    found = b""
    connection.settimeout(60)
    with suppress(OSError):
        while piece := connection.recv(1 << 16):
            found += piece
    return found


def send(connection: socket.socket, data: bytes) -> bool:
    """Send, and say whether the server took it."""
    try:
        connection.sendall(data)
    except OSError:
        return False
    return True


# --- who says nothing, or says it slowly -------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(
    "begin",
    [
        b"",
        b"G",
        b"GET /views HTTP/1.1\r\n" + HOST + b"X-Slow: a",
        b"POST /query HTTP/1.1\r\n" + HOST + b'Content-Length: 1000000\r\n\r\n{"sql": ',
        b"POST /logs/orders HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[",
    ],
    ids=["silent", "a letter", "half a head", "half a body", "half a chunk"],
)  # fmt: skip
def test_many_who_do_not_go_on(server: Standing, begin: bytes) -> None:
    count = 3 * limits.SERVE_WAITING_MAX
    with attacked(server) as http, ExitStack() as held:
        for number in range(count):
            connection = held.enter_context(server.connect(f"127.0.1.{number % 200 + 1}"))
            send(connection, begin)
            if number % 256 == 0:
                assert is_answered(http)
        until(lambda: server.files() < count, what="those who wait longest to be closed")
        assert is_answered(http)


def test_who_brings_all_of_it_is_not_disturbed_by_who_does_not(server: Standing) -> None:
    body = json.dumps({"sql": "SELECT sum(a.i * b.i) AS n FROM range(30000) a(i), range(5000) b(i)"}).encode()
    head = b"POST /query HTTP/1.1\r\n" + HOST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    with attacked(server), ExitStack() as held:
        honest = held.enter_context(server.connect("127.0.0.9"))
        honest.sendall(head + body)
        for _ in range(2 * limits.SERVE_WAITING_MAX):
            send(held.enter_context(server.connect()), b"POST /query HTTP/1.1\r\nContent-Length: 9\r\n\r\n{")
        assert answer_of(honest).startswith(b"HTTP/1.1 200")


# --- who sends too much ------------------------------------------------------------------------------------------

MIB = 1 << 20


def endless(kind: str) -> tuple[bytes, bytes]:
    """Return how a request begins, and what comes again and again after it."""
    chunked = b"GET /healthz HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    letters = b"a" * (1 << 16)
    return {
        "a URL": (b"GET /", letters),
        "a header": (b"GET / HTTP/1.1\r\n" + HOST + b"X: ", letters),
        "a header's name": (b"GET / HTTP/1.1\r\n" + HOST, letters),
        "headers": (b"GET / HTTP/1.1\r\n" + HOST, b"X: y\r\n" * 10_000),
        "trailers": (chunked + b"0\r\n", b"X: y\r\n" * 10_000),
        "a trailer": (chunked + b"0\r\nX: ", letters),
        "a chunk's extension": (chunked + b"5;a=", letters),
    }[kind]


@pytest.mark.long
@pytest.mark.parametrize(
    "kind",
    ["a URL", "a header", "a header's name", "headers", "trailers", "a trailer", "a chunk's extension"],
)
def test_what_has_no_end_is_ended(server: Standing, kind: str) -> None:
    begin, again = endless(kind)
    with attacked(server), server.connect() as connection:
        assert send(connection, begin)
        sent = 0
        while send(connection, again):
            sent += len(again)
            assert sent < 64 * MIB, "it takes it without end"


@pytest.mark.long
def test_bodies_without_end(server: Standing) -> None:
    with attacked(server) as http, ExitStack() as held:
        before = server.memory_bytes()
        for _ in range(20):
            connection = held.enter_context(server.connect())
            send(connection, b"POST /query HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n")
            for _ in range(200):
                if not send(connection, b"10000\r\n" + b" " * (1 << 16) + b"\r\n"):
                    break
        assert server.memory_bytes() < before + SPARE_BYTES
        assert is_answered(http)


@pytest.mark.parametrize(
    ("data", "statuses"),
    [
        (b"\x00" * 100, {400}),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", {400}),
        (b"GET / HTTP/9.9\r\n\r\n", {400}),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n", {400}),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X : y\r\n\r\n", {400}),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n", {400}),
        (b"POST /query HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}", {400}),
        (b"POST /query HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
        (b"POST /query HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", {400}),
        (b"POST /query HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", {400}),
        (b"POST /query HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", {400}),
        (b"GET http://localhost/healthz HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n", {200}),
        (b"GET http://evil.example/views HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", {403}),
        (b"CONNECT evil.example:80 HTTP/1.1\r\nHost: evil.example:80\r\nConnection: close\r\n\r\n", {400, 403, 405}),
        (b"TRACE / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n", {405}),
        (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n", {400, 404, 405}),
        (b"GET / HTTP/1.0\r\n\r\n", {403}),
        (b"GET /healthz HTTP/1.0\r\n" + HOST + b"\r\n", {200}),
        (b"GET /healthz HTTP/1.1\r\n" + HOST + b"Origin: http://[\r\nConnection: close\r\n\r\n", {403}),
        (b"GET /healthz HTTP/1.1\r\nHost: [\r\nConnection: close\r\n\r\n", {403}),
        (b"GET /healthz HTTP/1.1\r\nHost: \xff\xfe\r\nConnection: close\r\n\r\n", {403}),
        (b"GET /views/spend?user=%0d%0aX-Bad:1 HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n", {200}),
        (b"GET /views/%0d%0aX-Bad:1 HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n", {404}),
    ],
    ids=lambda value: value[:60].decode("latin-1") if isinstance(value, bytes) else "",
)  # fmt: skip
def test_what_is_no_good_http(server: Standing, data: bytes, statuses: set[int]) -> None:
    with attacked(server), server.connect() as connection:
        send(connection, data)
        if 400 in statuses:  # else who ends his side is taken to be gone
            connection.shutdown(socket.SHUT_WR)
        answer = answer_of(connection)
        assert answer.startswith(b"HTTP/1.1 "), answer
        assert int(answer.split()[1]) in statuses, answer
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b"x-bad" not in answer.partition(b"\r\n\r\n")[0].lower()


@pytest.mark.long
def test_random_bytes(server: Standing) -> None:
    chance = random.Random(SEED)
    good = [
        b"GET /views/spend?where=n>1 HTTP/1.1\r\n" + HOST + b"\r\n",
        b"POST /query HTTP/1.1\r\n" + HOST + b'Content-Length: 19\r\n\r\n{"sql": "SELECT 1"}',
        b"GET /views/spend/changes HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x81\x80\x00\x00\x00\x00",
    ]
    print("seed", SEED)
    with attacked(server):
        for _ in range(2_000 if IS_LONG else 200):
            data = bytearray(b"".join(chance.choices(good, k=chance.randint(1, 3))))
            for _ in range(chance.randint(1, 8)):
                place = chance.randrange(len(data))
                data[place : place + chance.randint(0, 4)] = chance.randbytes(chance.randint(0, 4))
            with server.connect(f"127.0.2.{chance.randint(1, 200)}") as connection:
                send(connection, bytes(data))
                with suppress(OSError):
                    connection.settimeout(0.05)
                    answer = connection.recv(1 << 16)
                    assert b" 500 " not in answer.partition(b"\r\n")[0], (bytes(data), answer)


def test_many_requests_in_one_packet_are_answered_in_order(server: Standing) -> None:
    count = 500
    ask = b"".join(b"GET /views/spend?n=%d HTTP/1.1\r\n" % number + HOST + b"\r\n" for number in range(count))
    with attacked(server), server.connect() as connection:
        connection.sendall(ask + b"GET /healthz HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
        answers = answer_of(connection)
        assert answers.count(b"HTTP/1.1 200 OK") == count + 1
        assert answers.endswith(b'{"status":"alive"}')


# --- who takes nothing -------------------------------------------------------------------------------------------


def greedy(server: Standing, ask: bytes, source: str = "127.0.0.2") -> socket.socket:
    """Return a connection that asks, and reads nothing."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.bind((source, 0))
    connection.connect(server.address)
    connection.sendall(ask)
    return connection


@pytest.mark.long
@pytest.mark.parametrize("ending", [b"", b"Connection: close\r\n"], ids=["kept", "closed"])
def test_answers_that_nobody_takes(server: Standing, ending: bytes) -> None:
    body = json.dumps({"sql": "SELECT repeat('x', 1000000) AS a FROM range(60)"}).encode()
    ask = b"POST /query HTTP/1.1\r\n" + HOST + ending + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with attacked(server) as http, ExitStack() as held:
        before = server.memory_bytes()
        connections = [held.enter_context(greedy(server, ask, f"127.0.0.{n}")) for n in range(2, 18)]
        most = 0
        for number in range(16):
            assert is_answered(http)
            until(lambda n=number: connections[n].recv(1), what="the beginning of an answer")
            most = max(most, server.memory_bytes())
        # What is not taken, and besides what is being written for the queries that are answered at once.
        assert most < before + limits.SERVE_UNSENT_BYTES_MAX + 6 * limits.QUERY_ANSWER_BYTES_MAX


@pytest.mark.long
def test_streams_that_nobody_reads(server: Standing) -> None:
    ask = b"GET /views/long/changes HTTP/1.1\r\n" + HOST + b"\r\n"
    with attacked(server) as http, ExitStack() as held:
        before = server.memory_bytes()
        for number in range(200):
            held.enter_context(greedy(server, ask, f"127.0.3.{number % 200 + 1}"))
        assert is_answered(http)
        assert server.memory_bytes() < before + 2 * SPARE_BYTES


# --- WebSockets --------------------------------------------------------------------------------------------------

UPGRADE = (
    b"GET /views/spend/changes HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def upgraded(server: Standing) -> socket.socket:
    connection = greedy(server, UPGRADE + b"\r\n")
    connection.settimeout(60)
    assert connection.recv(12) == b"HTTP/1.1 101"
    return connection


def frame(opcode: int, body: bytes = b"", *, is_last: bool = True, is_masked: bool = True) -> bytes:
    assert len(body) < 126
    head = bytes([opcode | (0x80 if is_last else 0), len(body) | (0x80 if is_masked else 0)])
    return head + (b"\x00" * 4 if is_masked else b"") + body


@pytest.mark.parametrize(
    ("begin", "again"),
    [
        (b"", frame(9, b"x" * 125) * 500),
        (frame(1, is_last=False), frame(0, is_last=False) * 1_000),
        (frame(1, is_last=False), frame(0, b"x" * 125, is_last=False) * 500),
        (b"\x81\xff" + struct.pack("!Q", 1 << 62) + b"\x00" * 4, b"x" * (1 << 16)),
        (b"", frame(1, b"x", is_masked=False) * 100),
        (b"", b"\xff" * 1000),
        (frame(1, b"\xff\xfe"), b""),
    ],
    ids=["pings", "empty fragments", "fragments", "a huge frame", "not masked", "no frames", "no UTF-8"],
)
def test_websockets_that_send_what_they_should_not(server: Standing, begin: bytes, again: bytes) -> None:
    with attacked(server), upgraded(server) as connection:
        connection.sendall(begin)
        sent = 0
        while again and send(connection, again):
            sent += len(again)
            assert sent < 64 * MIB, "it takes it without end"
        if not again:
            assert answer_of(connection) is not None  # it is closed


def test_messages_that_nobody_wants_do_no_harm(server: Standing) -> None:
    with attacked(server) as http, upgraded(server) as connection:
        for _ in range(50):
            send(connection, frame(2, b"x" * 100) * 200)
        assert is_answered(http)


@pytest.mark.long
@pytest.mark.parametrize("size", [7_000, 9_000, 100_000])
def test_long_addresses_of_websockets(server: Standing, size: int) -> None:
    ask = UPGRADE.replace(b"/changes", b"/changes?where=" + b"1" * size)
    with attacked(server), server.connect() as connection:
        send(connection, ask + b"\r\n")
        assert not answer_of(connection).startswith(b"HTTP/1.1 500")


@pytest.mark.long
def test_a_thousand_websockets(server: Standing) -> None:
    with attacked(server) as http, ExitStack() as held:
        for number in range(1_000):
            held.enter_context(upgraded(server))
            if number % 200 == 0:
                assert is_answered(http)
        assert http.get("/status").json()["subscribers"] >= 500
    with server.client() as http:
        until(lambda: http.get("/status").json()["subscribers"] == 0, what="all to be let go")


# --- queries -----------------------------------------------------------------------------------------------------

ENDLESS = "SELECT sum(a.i * b.i) FROM range(10000000) a(i), range(10000000) b(i)"


def question(sql: str) -> bytes:
    body = json.dumps({"sql": sql}).encode()
    return b"POST /query HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.long
def test_who_leaves_takes_his_query_with_him(server: Standing) -> None:
    """Each would take its half minute; so many of them, were one left, would keep the honest one waiting for minutes."""
    chance = random.Random(SEED)
    print("seed", SEED)
    text = question(ENDLESS)
    with attacked(server) as http:
        for number in range(200 if IS_LONG else 60):
            with server.connect("127.0.0.1") as connection:
                send(connection, text[: chance.choice([len(text), len(text), chance.randrange(len(text))])])
                if number % 10 == 9:
                    assert is_answered(http)
        assert is_answered(http)


@pytest.mark.long
def test_hogs_of_one_client_leave_room_for_others(server: Standing) -> None:
    with attacked(server) as http, ExitStack() as held:
        hogs = [held.enter_context(server.connect()) for _ in range(limits.QUERIES_WAITING_OF_ONE + 5)]
        for hog in hogs:
            hog.sendall(question(ENDLESS))
        for _ in range(5):
            assert is_answered(http)
        refused = [hog for hog in hogs if _has_come(hog)]
        assert len(refused) == 5
        assert all(b" 429 " in hog.recv(1 << 16).partition(b"\r\n")[0] for hog in refused)


def _has_come(connection: socket.socket) -> bool:
    connection.settimeout(0.01)
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except TimeoutError:
        return False
    finally:
        connection.settimeout(60)


@pytest.mark.long
def test_a_killed_worker_is_replaced(server: Standing) -> None:
    with server.client() as http:
        for _ in range(3):
            assert is_answered(http)
            (worker,) = server.children()
            os.kill(worker, signal.SIGKILL)
            assert is_answered(http)
        with server.connect() as beside:
            beside.sendall(question("SELECT sum(a.i * b.i) AS n FROM range(30000) a(i), range(10000) b(i)"))
            assert is_answered(http)
            for worker in server.children():
                os.kill(worker, signal.SIGKILL)
            beside.settimeout(60)
            assert beside.recv(1 << 16).startswith(b"HTTP/1.1 200")  # asked again
        until(lambda: len(server.children()) == 1, what="one worker to be left")


# --- too often ---------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_flood_of_requests_is_told_to_come_later(server: Standing) -> None:
    refused = 0
    with attacked(server) as http, server.client("127.0.0.77") as flood:
        with ExitStack() as held:
            count = 2 * limits.SERVE_RATE_BURST // 500
            ask = (b"GET /nothing HTTP/1.1\r\n" + HOST + b"\r\n") * 500
            last = b"GET /nothing HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
            for _ in range(count):  # each brings five hundred, and all are answered, one way or the other
                connection = held.enter_context(server.connect("127.0.0.77"))
                connection.sendall(ask + last)
                answers = answer_of(connection)
                assert answers.count(b"HTTP/1.1 404") + answers.count(b"HTTP/1.1 429") == 501
                assert answers.count(b"HTTP/1.1 429") == answers.lower().count(b"retry-after: 1")
                refused += answers.count(b"HTTP/1.1 429")
                assert is_answered(http)
        until(lambda: flood.get("/healthz").status_code == 200, what="the flood to be let in again")
    print(refused, "refused")


def test_no_more_clients_are_remembered_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bourne.serve.guard.SERVE_CLIENTS_MAX", 10)
    monkeypatch.setattr("bourne.serve.guard.SERVE_RATE_BURST", 2)
    monkeypatch.setattr("bourne.serve.guard.SERVE_RATE", 1e-9)
    guard = Guard(None, None, local_host="127.0.0.1")  # type: ignore[arg-type]

    def is_let_in(address: str) -> bool:
        try:
            guard._check_rate(HTTPConnection({"type": "http", "client": (address, 1), "headers": []}))
        except Refused as error:
            assert error.status == 429
            return False
        return True

    for number in range(1_000):
        assert is_let_in(f"10.0.{number // 256}.{number % 256}")
        assert is_let_in("10.1.1.1") is (number < 2)  # who keeps asking is not forgotten
    assert len(guard._allowances) <= 10


# --- other sites, other names ------------------------------------------------------------------------------------

PATHS = [
    "/",
    "/views",
    "/views/spend",
    "/openapi.json",
    "/static/style.css",
    "/healthz",
    "/views/spend/changes",
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "localhost.evil.example"},
        {"Host": "127.0.0.1.evil.example:8040"},
        {"Host": "localhost@evil.example"},
        {"Host": "evil.example/localhost"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost"},  # of another port
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    ],
    ids=str,
)
def test_other_sites_and_names(server: Standing, path: str, headers: dict[str, str]) -> None:
    with server.client() as http:
        found = http.get(path, headers=headers)
        assert found.status_code == 403, found.text
        assert "access-control-allow-origin" not in found.headers


def test_a_link_of_another_site_may_be_followed(server: Standing) -> None:
    with server.client() as http:
        assert (
            http.get("/", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}).status_code
            == 200
        )


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"Host": "evil.example"}, {"Origin": "null"}], ids=str)  # fmt: skip
def test_websockets_of_other_sites(server: Standing, headers: dict[str, str]) -> None:
    names = b"".join(f"{name}: {value}\r\n".encode() for name, value in headers.items())
    ask = UPGRADE.replace(HOST, b"") + (b"" if "Host" in headers else HOST) + names + b"\r\n"
    with server.connect() as connection:
        connection.sendall(ask)
        assert answer_of(connection).startswith(b"HTTP/1.1 403")


@pytest.mark.parametrize(
    "path",
    [
        "/static/../api.py", "/static/%2e%2e/api.py", "/static/..%2fapi.py", "/static/..%5capi.py", "/static//etc/passwd",
        "/static/%2fetc/passwd", "/static/....//api.py", "/static/%00", "/static/style.css%00", "/static/", "/static",
        "/static/pages", "/logs/..%2f..", "/logs/%2e%2e", "/views/%00", "/static/" + "a" * 5_000,
    ],
)  # fmt: skip
def test_paths_that_lead_elsewhere(server: Standing, path: str) -> None:
    with server.connect() as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\n".encode() + HOST + b"Connection: close\r\n\r\n")
        answer = answer_of(connection)
        assert answer.split()[1] in (b"404", b"307"), answer
        assert b"import" not in answer and b"root:" not in answer


# --- who may -----------------------------------------------------------------------------------------------------

# What each role may do, as docs/serving.md says. Who adds a route says here who may use it.
NEEDED: dict[tuple[str, str], Role] = {
    ("GET", "/views"): Role.READER,
    ("GET", "/views/{name}"): Role.READER,
    ("GET", "/views/{name}/changes"): Role.READER,
    ("WS", "/views/{name}/changes"): Role.READER,
    ("GET", "/views/{name}/explain"): Role.READER,
    ("GET", "/logs"): Role.READER,
    ("GET", "/logs/{name}"): Role.READER,
    ("POST", "/logs/{name}"): Role.WRITER,
    ("POST", "/logs/{name}/verify"): Role.ADMIN,
    ("POST", "/query"): Role.READER,
    ("GET", "/status"): Role.READER,
    ("GET", "/metrics"): Role.READER,
    ("GET", "/dead-letters"): Role.READER,
    ("POST", "/dead-letters/retry"): Role.ADMIN,
    ("POST", "/dead-letters/discard"): Role.ADMIN,
    ("GET", "/openapi.json"): Role.READER,
    ("GET", "/jobs"): Role.READER,
    ("GET", "/jobs/runs"): Role.READER,
    ("GET", "/jobs/runs/{run}"): Role.READER,
    ("GET", "/jobs/runs/{run}/chunks"): Role.READER,
    ("GET", "/jobs/runs/{run}/messages"): Role.READER,
    ("POST", "/jobs/{job}/runs"): Role.WRITER,
    ("POST", "/jobs/runs/{run}/stop"): Role.WRITER,
    ("POST", "/jobs/runs/{run}/restart"): Role.WRITER,
    ("POST", "/jobs/calls/{name}"): Role.WRITER,
}

# What anybody may ask.
OPEN = {
    ("GET", "/"), ("GET", "/docs"), ("GET", "/healthz"), ("GET", "/readyz"), ("MOUNT", "/static"),
    ("GET", "/session"), ("POST", "/session"), ("DELETE", "/session"),
}  # fmt: skip


def routes() -> set[tuple[str, str]]:
    def none() -> None:
        raise AssertionError

    found = set()
    for route in make_app(none, Tokens(Path())).routes:  # type: ignore[arg-type]
        methods = getattr(route, "methods", None)
        if methods is None:
            kind = "WS" if type(route).__name__ == "APIWebSocketRoute" else "MOUNT"
            found.add((kind, route.path))  # type: ignore[attr-defined]
        else:
            found |= {(method, route.path) for method in methods - {"HEAD"}}  # type: ignore[attr-defined]
    return found


def test_each_route_has_somebody_who_may() -> None:
    assert routes() == set(NEEDED) | OPEN
    for (method, path), role in NEEDED.items():
        assert needed_role(_filled(path, "orders"), "GET" if method == "WS" else method) is role


def test_roles_tokens_and_names(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with standing(folder) as server, server.client() as http:
        tokens = Tokens(folder)
        secrets = {role: tokens.create(role.name.lower(), role, SystemClock()) for role in Role}
        for (method, path), needed in NEEDED.items():
            name = "orders" if path.startswith("/logs") else "spend"
            address = _filled(path, name)
            ask = functools.partial(_status, server, http, method, address)
            assert ask(None) == 401, path
            assert ask("bourne_" + "A" * 43) == 401, path
            for role, secret in secrets.items():
                assert (ask(secret) in (401, 403)) is (role < needed), (method, path, role)
        for path in ("/", "/docs", "/healthz", "/readyz"):
            assert http.get(path).status_code in (200, 307, 503)
        assert http.get("/session").status_code == 401
        secret = secrets[Role.READER]
        assert http.get("/views", headers={"Cookie": f"bourne_session={secret}"}).status_code == 200
        http.cookies.clear()
        assert http.get("/views", headers={"Cookie": 'bourne_session="; bourne_session=x'}).status_code == 401
        # A name that looks like an open path opens nothing.
        for host in ("x/static/", "x/static/?", "x/healthz#", "[", "a b", ""):
            assert http.get("/views", headers={"Host": host}).status_code in (400, 401, 403), host
        for path in (
            "/static/../views",
            "/static/%2e%2e/views",
            "//static/../views",
            "/healthz/../views",
            "/views%3F/static/",
        ):
            assert http.get(path).status_code in (401, 404), path
        tokens.revoke("reader")
        assert http.get("/views", headers={"Authorization": f"Bearer {secret}"}).status_code == 401
        (folder / "tokens.json").write_text("{")
        assert http.get("/views", headers={"Authorization": f"Bearer {secret}"}).status_code == 503


def _filled(path: str, name: str) -> str:
    return path.replace("{name}", name).replace("{job}", "load").replace("{run}", "1")


def _status(server: Standing, http: httpx.Client, method: str, path: str, token: str | None) -> int:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    if method == "WS":
        try:
            with connect(server.url.replace("http", "ws") + path, additional_headers=headers) as socket_:
                socket_.recv(timeout=60)
            return 101
        except InvalidHandshake as error:
            return error.response.status_code  # type: ignore[attr-defined, no-any-return]
        except ConnectionClosed:
            return 101
    with http.stream(method, path, headers=headers, content=b"[]" if method == "POST" else None) as found:
        return found.status_code


# --- the end -----------------------------------------------------------------------------------------------------


def test_a_server_ends_whoever_is_there(tmp_path: Path) -> None:
    with ExitStack() as held:
        with standing(tmp_path / "data") as server:
            with server.client() as http:
                assert (
                    http.get("/views/spend", params={"at_least": server.position, "wait": 30}).status_code
                    == 200
                )
                assert is_answered(http)
            for begin in (b"", b"GET / HT", question(ENDLESS), UPGRADE + b"\r\n", question(ENDLESS)[:-5],
                          b"GET /views/long/changes HTTP/1.1\r\n" + HOST + b"\r\n",
                          b"GET /views/spend?at_least=orders:9999&wait=30 HTTP/1.1\r\n" + HOST + b"\r\n"):  # fmt: skip
                held.enter_context(greedy(server, begin))
            with server.client("127.0.0.5") as http:
                assert is_answered(http)
            workers = server.children()
            assert workers
        for worker in workers:
            until(lambda number=worker: not Path(f"/proc/{number}").exists(), what="the worker to end")


def test_the_data_folder_is_gone(tmp_path: Path) -> None:
    """Nothing is invented: what needs the folder says so, and the server lives."""
    with standing(tmp_path / "data") as server, server.client() as http:
        assert http.get("/views/spend", params={"at_least": server.position, "wait": 30}).status_code == 200
        (tmp_path / "data").rename(tmp_path / "elsewhere")
        for _ in range(3):
            for path in ("/views", "/views/spend", "/logs/orders", "/status", "/metrics"):
                assert http.get(path).status_code in (200, 404, 422, 503), path
            http.post("/query", json={"sql": "SELECT count(*) FROM orders"})
            assert http.get("/healthz").status_code == 200
        (tmp_path / "elsewhere").rename(tmp_path / "data")
        assert is_answered(http)
