"""Redis: rows and position change together, whichever side dies, and when."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as NoConnection
from redis.retry import Retry

from bourne.connect.json_text import to_json
from bourne.connect.redis_rows import Form, key_names
from bourne.connect.redis_sink import RedisSink
from bourne.connect.sink import Shape, Sink
from bourne.errors import DefinitionError, Rejected, SinkFailed, Unreachable
from bourne.testing import SINK_CHECKS, check_sink
from bourne.testing.sink_model import make_change
from connect.killed_writes import check_whole, killed_writes
from connect.sink_reading import HUGE_ROWS, SEEDS, STRIDE, at, columns_of, shape, table_of_texts
from servers.proxy import Proxy
from servers.redis import RedisServer

KEYED = shape(key=("k",))


def read(server: RedisServer, prefix: str, shape: Shape, form: Form) -> pa.Table:
    client = server.client()
    names = [column.name for column in columns_of(shape)]
    rows: list[dict[str, Any]] = []
    if form == "stream":
        entries = [entry for _, entry in client.xrange(prefix)]
        rows = [{name.decode(): value for name, value in entry.items()} for entry in entries]
    else:
        keys = [
            key
            for key in client.scan_iter(count=10_000)
            if key.startswith(prefix.encode()) and b"%position" not in key
        ]
        with client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.hgetall(key) if form == "hash" else pipeline.get(key)
            found = pipeline.execute()
        if form == "hash":
            rows = [{name.decode(): value for name, value in row.items()} for row in found]
        else:
            rows = [json.loads(row, parse_float=Decimal, parse_int=Decimal) for row in found]
            rows = [{name: _text(value) for name, value in row.items()} for row in rows]
    client.close()
    columns = {column.name: column.type for column in columns_of(shape)}
    return table_of_texts(
        {name: [_decoded(row.get(name), columns[name]) for row in rows] for name in names}, shape
    )


def _text(value: Any) -> Any:
    return value if value is None or isinstance(value, str) else to_json(value)


def _decoded(value: Any, kind: str) -> Any:
    return value.decode() if isinstance(value, bytes) and kind != "BLOB" else value


def sink_of(
    server: RedisServer, shape: Shape, form: Form | None = None, *, client: Any = None, **options: Any
) -> RedisSink:
    def connect() -> Any:
        return client or server.client(retry=Retry(NoBackoff(), 0))

    return RedisSink(connect, shape, form=form, **{"prefix": f"{shape.name}:", **options})


class Dying:
    """A client of a process that dies at its so many-th command: before that is sent, or after."""

    def __init__(self, client: Any, point: int) -> None:
        self._send, self._left, self._is_sent = client.execute_command, point // 2 + 1, point % 2
        client.execute_command = self

    def __call__(self, *values: Any, **options: Any) -> Any:
        self._left -= 1
        if self._left > 0:
            return self._send(*values, **options)
        if self._left == 0 and self._is_sent:
            self._send(*values, **options)
        raise NoConnection("the process is dead")


@pytest.mark.parametrize("form", ["hash", "json", "stream"])
@pytest.mark.parametrize("check", SINK_CHECKS)
def test_it_is_a_sink(redis, check, form):
    deaths = 0
    start = f"{check}.{form}."

    @contextmanager
    def crash(shape: Shape, point: int) -> Iterator[Sink]:
        nonlocal deaths
        deaths += 1
        client = redis.client(retry=Retry(NoBackoff(), 0))
        Dying(client, STRIDE * point - 1)
        yield sink_of(redis, shape, form, client=client, prefix=f"{start}{shape.name}:", part_rows=4)

    @contextmanager
    def outage() -> Iterator[None]:
        redis.kill()
        yield
        redis.start()

    with Proxy(redis.port) as proxy:
        slow = redis.client(retry=Retry(NoBackoff(), 0), port=proxy.port) if check == "slow_peer" else None
        check_sink(
            lambda shape: sink_of(redis, shape, form, prefix=f"{start}{shape.name}:", client=slow),
            lambda shape: read(redis, f"{start}{shape.name}:", shape, form),
            kinds=["append", "weights"] if form == "stream" else ["key"],
            only=[check], outage=outage, slowness=proxy.slowness, crash=crash, huge_rows=HUGE_ROWS // 5, seeds=SEEDS,
            held_as={"JSON": {"'null'": "NULL"}} if form == "json" else {},
        )  # fmt: skip
        assert check != "slow_peer" or proxy.bytes_answered > 500
    assert check != "crashes" or deaths > 10 // STRIDE


def test_the_scripts_are_known_again_after_a_restart(redis):
    sink = sink_of(redis, KEYED, prefix="known:")
    sink.open()
    redis.client().script_flush()
    sink.write(make_change(KEYED, [{"k": "a", "n": 1}]), at(1), None)
    redis.restart()
    assert sink.open() == at(1)
    sink.write(make_change(KEYED, [{"k": "a", "n": 2}]), at(2), at(1))
    assert redis.client().hgetall("known:a") == {b"k": b"a", b"n": b"2"}


@pytest.fixture
def own(tmp_path) -> Iterator[RedisServer]:
    from servers.redis import find  # noqa: PLC0415

    if find() is None:
        pytest.skip("redis-server is not installed")
    server = RedisServer(tmp_path)
    yield server
    server.kill()


def test_a_log_that_is_torn_anywhere_gives_rows_and_position_together(own):
    """Of the last script's transaction, a power cut may leave any part in Redis's own log."""
    sink = sink_of(own, KEYED, prefix="t:")
    sink.open()
    sizes = []
    for number in range(1, 4):
        rows = [{"k": str(key), "n": number} for key in range(6)]
        sink.write(make_change(KEYED, rows), at(number), at(number - 1) if number > 1 else None)
        sizes.append(own.log_files()[-1].stat().st_size)
    sink.close()
    own.kill()
    (path,) = own.log_files()
    whole = path.read_bytes()
    seen = set()
    for size in range(sizes[1] - 40, sizes[2], 23):
        path.write_bytes(whole[:size])
        own.start()
        held = sink.open()
        found = read(own, "t:", KEYED, "hash").column("n").to_pylist()
        assert found == [held["orders"][0]] * 6
        seen.add(held["orders"][0])
        sink.close()
        own.kill()
    assert seen == {1, 2}
    own.start()


def test_a_server_that_is_killed_under_load(own):
    """What was acknowledged is there, and what is there is whole."""
    sink = sink_of(own, shape(), prefix="s", part_rows=50)
    number = 0
    for turn in range(4):
        held = sink.open()
        assert (held["orders"][0] if held else 0) >= number
        number = held["orders"][0] if held else 0
        killer = threading.Timer(0.05 * turn, own.kill)
        with pytest.raises(Unreachable):
            while True:
                rows = [{"k": str(number + 1), "n": n} for n in range(500)]
                sink.write(make_change(shape(), rows), at(number + 1), at(number) if number else None)
                number += 1
                if killer.ident is None:  # the first write is acknowledged, however slow the machine
                    killer.start()
        killer.join()
        own.start()
    check_whole(sink.open(), read(own, "s", shape(), "stream"), number)


def test_a_process_that_is_killed_leaves_rows_and_position_together(own):
    make = f"RedisSink.from_url({own.url('prefix=s')!r}, shape())"
    for acknowledged in killed_writes("from bourne.connect.redis_sink import RedisSink", make):
        sink = sink_of(own, shape(), prefix="s")
        check_whole(sink.open(), read(own, "s", shape(), "stream"), acknowledged)
        sink.close()


def test_a_large_change_that_is_cut_short_does_not_stay_in_the_way(own):
    """Its rows do not show before it counts; what was staged is dropped; what counts is finished."""
    sink = sink_of(own, KEYED, prefix="t:", part_rows=10)
    sink.open()
    sink.write(make_change(KEYED, [{"k": "0", "n": 0}]), at(1), None)
    change = make_change(KEYED, [{"k": str(key), "n": 1} for key in range(100)])
    staged_seen = applied_seen = 0
    for point in range(20, 90):
        client = own.client(retry=Retry(NoBackoff(), 0))
        Dying(client, point)
        dying = sink_of(own, KEYED, prefix="t:", part_rows=10, client=client)
        with pytest.raises(Unreachable):
            dying.open()
            dying.write(change, at(2), at(1))
        fields = own.client().hgetall("t:%position")
        rows = read(own, "t:", KEYED, "hash").num_rows
        if b"applying" in fields:
            applied_seen += 1
            assert sink.open() == at(2)
            assert read(own, "t:", KEYED, "hash").num_rows == 100
            sink.write(make_change(KEYED, [], gone=[{"k": str(key)} for key in range(1, 100)]), at(1), at(2))
        elif fields[b"position"] == b'{"orders":[1,0]}':
            staged_seen += b"staging" in fields
            assert rows == 1
            assert sink.open() == at(1)
        else:
            break
        assert own.client().keys("t:%position:*") == []
    assert staged_seen > 5 and applied_seen > 5


def test_who_stages_late_is_told(own):
    """Two large changes at the same time: one of them counts."""
    first, second = (sink_of(own, KEYED, prefix="t:", part_rows=10) for _ in range(2))
    first.open()
    client = own.client(retry=Retry(NoBackoff(), 0))
    send, count = client.execute_command, 0

    def slow(*values: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count == 14:  # in the midst of staging
            second.open()
            second.write(make_change(KEYED, [{"k": str(key), "n": 2} for key in range(50)]), at(2), None)
        return send(*values, **options)

    client.execute_command = slow
    first = sink_of(own, KEYED, prefix="t:", part_rows=10, client=client)
    first.open()
    with pytest.raises(Unreachable, match="somebody else"):
        first.write(make_change(KEYED, [{"k": str(key), "n": 1} for key in range(200)]), at(1), None)
    assert set(read(own, "t:", KEYED, "hash").column("n").to_pylist()) == {2}


def test_keys_are_never_the_same():
    keys = [
        ("a", "b:c"),
        ("a:b", "c"),
        ("a%3Ab", "c"),
        (None, "c"),
        ("%N", "c"),
        ("", "c"),
        ("", None),
        ("", ""),
        ("%", ""),
    ]
    table = pa.table({"k": [k for k, _ in keys], "l": [other for _, other in keys]})
    names = key_names(table, "orders:").to_pylist()
    assert len(set(names)) == len(keys)
    assert names[0] == b"orders:a:b%3Ac"
    assert key_names(pa.table({"k": ["https://서울", "%", None]}), "").to_pylist() == [
        "https://서울".encode(),
        b"%25",
        b"%N",
    ]
    assert key_names(pa.table({"k": [0.0, -0.0]}), "").to_pylist() == [b"0.0", b"0.0"]


def test_how_rows_look(redis):
    rows = [{"k": "한:글", "n": 7, "note": None}]
    for form, wanted in (
        ("hash", {b"k": "한:글".encode(), b"n": b"7"}),
        ("json", '{"k": "한:글", "n": 7, "note": null}'.encode()),
    ):
        sink = sink_of(redis, KEYED, form, prefix=f"look:{form}:")
        sink.open()
        sink.write(make_change(KEYED, rows), at(1), None)
        client, key = redis.client(), f"look:{form}:한:글"
        assert (client.hgetall(key) if form == "hash" else client.get(key)) == wanted
        assert client.hgetall(f"look:{form}:%position") == {
            b"sink": b"orders",
            b"position": b'{"orders":[1,0]}',
        }


def test_a_row_without_a_value_is_refused(redis):
    sink = sink_of(redis, shape(), prefix="empty")
    sink.open()
    change = make_change(shape(), [{"k": "a"}, {}])
    assert not sink.accepts(change)
    with pytest.raises(Rejected, match="as=json"):
        sink.write(change, at(1), None)
    assert sink.open() is None


def test_a_server_that_is_full_is_unreachable(own):
    sink = sink_of(own, KEYED, prefix="t:")
    sink.open()
    sink.write(make_change(KEYED, [{"k": "a"}]), at(1), None)
    own.client().config_set("maxmemory", "1")
    with pytest.raises(Unreachable, match="maxmemory"):
        sink.write(make_change(KEYED, [{"k": "b"}]), at(2), at(1))
    own.client().config_set("maxmemory", "0")
    assert sink.open() == at(1)
    assert read(own, "t:", KEYED, "hash").num_rows == 1


def test_what_is_no_stream_is_refused(redis):
    redis.client().set("text", "mine")
    with pytest.raises(SinkFailed, match="no stream"):
        sink_of(redis, shape(), prefix="text").open()


def test_the_prefix_of_another_sink_is_refused(redis):
    for name, error in (("orders", None), ("sums", "another sink")):
        sink = sink_of(redis, shape(key=("k",), name=name), prefix="other:")
        if error:
            with pytest.raises(SinkFailed, match=error):
                sink.open()
        else:
            sink.open()
            sink.write(make_change(KEYED, [{"k": "a"}]), at(1), None)


def test_a_wrong_password_is_told_and_not_shown(own):
    own.client().config_set("requirepass", "hidden")
    for url in ("redis://:secret@127.0.0.1:{}/0", "redis://127.0.0.1:{}/0"):
        with pytest.raises((SinkFailed, Unreachable)) as raised:
            RedisSink.from_url(url.format(own.port), KEYED).open()
        assert isinstance(raised.value, SinkFailed)
        assert "secret" not in str(raised.value) and "hidden" not in str(raised.value)
    assert RedisSink.from_url(f"redis://:hidden@127.0.0.1:{own.port}", KEYED).open() is None


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis:a",
        "redis://h/0?form=hash",
        "redis://h/0?as=list",
        "redis://:secret@h:port/0",
        "http://h/0",
        "redis://h/x",
    ],
)
def test_urls_that_name_no_redis(url):
    with pytest.raises(DefinitionError) as raised:
        RedisSink.from_url(url, KEYED)
    assert "redis://" in str(raised.value) and "secret" not in str(raised.value)


def test_shapes_that_do_not_go_with_the_form():
    with pytest.raises(DefinitionError, match="need a key"):
        RedisSink.from_url("redis://h/0?as=hash", shape())
    with pytest.raises(DefinitionError, match="cannot be replaced"):
        RedisSink.from_url("redis://h/0?as=stream", KEYED)
    with pytest.raises(DefinitionError, match="needs a name"):
        RedisSink.from_url("redis://h/0?as=stream&prefix=", shape())
    with pytest.raises(Unreachable, match="not open"):
        RedisSink.from_url("redis://h/0", KEYED).write(make_change(KEYED), at(1), None)
