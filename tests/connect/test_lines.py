"""Lines from sockets and streams: none lost, none invented, and a sender can neither fill the memory nor hang us."""

from __future__ import annotations

import io
import os
import socket
import threading
from collections.abc import Iterator

import pytest

import bourne
from bourne.connect import lines as lines_module
from bourne.connect.lines import StreamLines, TcpLines
from bourne.connect.sources import Surroundings, open_source
from bourne.errors import DefinitionError, MalformedInput, SourceFailed
from bourne.limits import LINE_BYTES_MAX, SOURCE_BYTES_MAX, SOURCE_LINES_MAX
from bourne.log.catalog import LogInfo
from bourne.schema import declare_schema
from bourne.testing import SimulatedClock
from waiting import until

LOG = LogInfo("seen", declare_schema({"what": "varchar", "at": "timestamp"}, where="test"), time="at")
CLOCK = SimulatedClock()
AROUND = Surroundings(
    LOG, CLOCK, lambda name: pytest.fail("lines are no files"), lambda: pytest.fail("nor tables"),
    lambda *_, **__: pytest.fail("nor do they append"),
)  # fmt: skip


def log(**columns: str) -> LogInfo:
    return LogInfo("seen", declare_schema(columns, where="test"), time="at" if "at" in columns else None)


@pytest.fixture
def source() -> Iterator[TcpLines]:
    listening = TcpLines("127.0.0.1", 0, LOG, CLOCK)
    yield listening
    listening.stop()


def texts(source: TcpLines | StreamLines) -> list[str]:
    """Return what has come, if it has."""
    taken = next(source.read(None, {}), None)
    return [] if taken is None or taken.rows is None else taken.rows.column("what").to_pylist()


def gather(source: TcpLines | StreamLines, count: int) -> list[str]:
    """Poll until so many lines have come."""
    got: list[str] = []
    until(lambda: got.extend(texts(source)) or len(got) >= count, what=f"{count} lines")
    return got


def stream_lines(data: bytes) -> list[str]:
    source = StreamLines(io.BytesIO(data), LOG, CLOCK)
    taken = [part for part in source.read(None, {}) if part is not None]
    assert sum(part.rows.num_rows for part in taken) == (taken[-1].position["lines"] if taken else 0)
    return [text for part in taken for text in part.rows.column("what").to_pylist()]


# --- what a line is ---


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\n\n \n\r\n", []),
        (b"car", ["car"]),
        (b"car\nbus\n", ["car", "bus"]),
        (b"car\r\nbus", ["car", "bus"]),
        ("버스\n🚲\né".encode(), ["버스", "🚲", "é"]),
        (b"\xff\n", ["�"]),
        (b" a \r b \n", [" a \r b "]),
        (b"a\x00b\n", ["a\x00b"]),
    ],
)
def test_a_stream_is_cut_into_lines(data, expected):
    assert stream_lines(data) == expected


def test_lines_are_whole_however_their_bytes_arrive(monkeypatch):
    monkeypatch.setattr(lines_module, "_PIECE_BYTES", 1)
    assert stream_lines("버스\r\n🚲\ncar".encode()) == ["버스", "🚲", "car"]


def test_a_record_has_its_time_of_arrival_in_the_columns_own_unit():
    for kind in ("timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns", "timestamptz"):
        info = log(what="varchar", at=kind)
        source = StreamLines(io.BytesIO(b"car\n"), info, CLOCK)
        rows = until(lambda source=source: next(source.read(None, {}), None)).rows
        assert rows.schema.field("at").type == info.schema.to_arrow().field("at").type
        assert rows.column("at").cast("int64")[0].as_py() > 0 or CLOCK.now_us() == 0


def test_a_log_that_lines_cannot_fill_is_refused():
    for columns in ({"n": "bigint"}, {"a": "varchar", "b": "varchar"}, {"a": "varchar", "n": "int not null"}):
        with pytest.raises(DefinitionError, match="lines cannot go into"):
            StreamLines(io.BytesIO(), log(**columns), CLOCK)


def test_lines_of_json_are_records_and_those_that_are_none_dead_letters():
    info = log(id="bigint not null", text="varchar", at="timestamp")
    lines = '{"id": 1, "text": "한🚲"}\n{"id": "x"}\n\n{"id": 2, "at": "2024-05-01 12:00:00"}\noops\n'
    source = StreamLines(io.BytesIO(lines.encode()), info, CLOCK, kind="jsonl")
    taken = [part for part in source.read({"lines": 10}, {}) if part is not None]
    rows = [row for part in taken for row in part.rows.to_pylist()]
    assert [(row["id"], row["text"], str(row["at"])) for row in rows] == [
        (1, "한🚲", "1970-01-01 00:00:00"),
        (2, None, "2024-05-01 12:00:00"),
    ]
    dead = [letter for part in taken for letter in part.dead]
    assert [(letter.data, letter.format) for letter in dead] == [
        (b'{"id": "x"}', "jsonl"),
        (b"oops", "jsonl"),
    ]
    assert len({letter.origin for letter in dead}) == 2
    assert taken[-1].position == {"lines": 14}


# --- streams ---


def test_the_longest_line_is_taken_and_a_longer_one_fails_the_stream_after_the_lines_before_it():
    longest = b"x" * LINE_BYTES_MAX
    assert stream_lines(longest + b"\r\n" + longest) == [longest.decode()] * 2
    for end in (b"", b"\nafter\n"):
        source = StreamLines(io.BytesIO(b"before\n\n" + longest + b"x" + end), LOG, CLOCK)
        assert gather(source, 1) == ["before"]
        with pytest.raises(MalformedInput, match="line 3"):
            until(lambda source=source: texts(source) and False)


def test_a_line_without_end_is_not_gathered_in_memory():
    class Endless(io.RawIOBase):
        given = 0

        def read1(self, size: int) -> bytes:
            self.given += size
            return b"x" * size

    endless = Endless()
    source = StreamLines(endless, LOG, CLOCK)
    with pytest.raises(MalformedInput):
        until(lambda: texts(source) and False)
    assert endless.given <= 2 * LINE_BYTES_MAX


def test_a_stream_that_cannot_be_read_is_a_failure_and_not_an_end():
    reading, writing = os.pipe()
    os.close(writing)
    closed = os.fdopen(reading, "rb")
    closed.close()
    source = StreamLines(closed, LOG, CLOCK)
    with pytest.raises(SourceFailed):
        until(lambda: texts(source) and False)


def test_run_takes_in_everything_of_a_stream_and_ends(tmp_path, monkeypatch):
    count = 3 * SOURCE_LINES_MAX + 7
    data = io.BytesIO("\n".join(f"v{n % 10}" for n in range(count)).encode())
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(data))
    app = bourne.App("bridge")
    app.log("seen", schema={"what": "varchar"})
    app.view("totals", "SELECT what, count(*) AS n FROM seen GROUP BY what")
    app.source("stdin:", into="seen")
    with bourne.open(app, data=tmp_path) as running:
        running.run(until_caught_up=True)
        assert running.query("SELECT sum(n) FROM totals").fetchall() == [(count,)]


def test_no_standard_input_at_all_is_an_empty_one(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    assert [part for part in open_source("stdin:", AROUND).read(None, {}) if part] == []


# --- TCP ---


def test_lines_of_several_clients_keep_their_order_each(source):
    def send(name: str) -> None:
        with socket.create_connection(source.address) as client:
            client.sendall("".join(f"{name}{n}\n" for n in range(1000)).encode())

    threads = [threading.Thread(target=send, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    got = gather(source, 4000)
    for name in "abcd":
        assert [line for line in got if line[0] == name] == [f"{name}{n}" for n in range(1000)]


def test_a_client_may_end_without_a_newline_or_vanish(source):
    with socket.create_connection(source.address) as client:
        client.sendall(b"whole\nlast")
    assert gather(source, 2) == ["whole", "last"]
    client = socket.create_connection(source.address)
    client.sendall(b"one\n")
    assert gather(source, 1) == ["one"]
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    client.close()  # with a reset
    with socket.create_connection(source.address) as client:
        client.sendall(b"next\n")
    assert gather(source, 1) == ["next"]


def test_a_client_with_a_line_that_is_too_long_is_told_and_the_others_go_on(source):
    with (
        socket.create_connection(source.address) as other,
        socket.create_connection(source.address) as client,
    ):
        client.sendall(b"good\n" + b"x" * (LINE_BYTES_MAX + 2))
        assert b"line 2" in client.makefile("rb").read()
        other.sendall(b"other\n")
        assert sorted(gather(source, 2)) == ["good", "other"]


def test_a_full_buffer_makes_clients_wait_and_nothing_is_lost(source):
    line = "x" * 1000
    count = 4 * SOURCE_BYTES_MAX // len(line)

    def send() -> None:
        with socket.create_connection(source.address) as client:
            client.sendall(f"{line}\n".encode() * count)

    sending = threading.Thread(target=send)
    sending.start()
    until(lambda: not source._buffer._has_room(), what="a full buffer")
    assert sending.is_alive()
    assert source._buffer._bytes < SOURCE_BYTES_MAX + (1 << 20)
    assert len(gather(source, count)) == count
    sending.join()


def test_too_many_clients_are_told(source, monkeypatch):
    monkeypatch.setattr(lines_module, "CLIENTS_MAX", 1)
    with socket.create_connection(source.address) as first:
        first.sendall(b"first\n")
        assert gather(source, 1) == ["first"]
        with socket.create_connection(source.address) as second:
            assert second.makefile("rb").read() == b"too many clients, at most 1\n"
        first.sendall(b"still here\n")
        assert gather(source, 1) == ["still here"]


def test_closing_lets_go_of_clients_even_of_those_that_wait_for_room(source):
    with socket.create_connection(source.address) as quiet, socket.create_connection(source.address) as busy:
        quiet.sendall(b"hello\n")
        assert gather(source, 1) == ["hello"]
        busy.sendall(b"x\n" * (SOURCE_LINES_MAX * 2))
        until(lambda: not source._buffer._has_room())
        source.stop()
        source.stop()
        assert quiet.recv(1) == b""
        assert not source._clients
    with pytest.raises(OSError):
        socket.create_connection(source.address)


def test_a_port_can_be_taken_once_and_again_after_closing(source):
    port = source.address[1]
    with pytest.raises(SourceFailed, match="cannot listen") as caught:
        TcpLines("127.0.0.1", port, LOG, CLOCK)
    assert caught.value.exit_code == 10
    source.stop()
    TcpLines("127.0.0.1", port, LOG, CLOCK).stop()


def test_ipv6():
    try:
        source = open_source("tcp://[::1]:0", AROUND)
    except SourceFailed:
        pytest.skip("this machine has no IPv6")
    with socket.create_connection(source.address) as client:
        client.sendall(b"six\n")
    assert gather(source, 1) == ["six"]
    source.stop()


@pytest.mark.parametrize(
    "url", ["tcp://localhost", "tcp://localhost:99999", "udp://localhost:1", "file:", ""]
)
def test_what_is_no_source_is_refused(url):
    with pytest.raises(DefinitionError, match=r"not a (source|URL)"):
        open_source(url, AROUND)


def test_an_unknown_host_is_refused():
    with pytest.raises(SourceFailed):
        open_source("tcp://no.such.host.invalid:1", AROUND)
