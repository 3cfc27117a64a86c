"""The Python client against a real server: what it asks, what it follows, and what becomes of it when the network fails."""

from __future__ import annotations

import datetime
import json
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import bourne
from bourne.client.following import Change
from bourne.errors import InputError
from bourne.serve.server import Server
from bourne.serve.tokens import Role, Tokens
from bourne.testing import SimulatedClock
from serve.served import Served, served
from servers.proxy import Proxy
from waiting import until

TYPES = {
    "k": "bigint", "small": "tinyint", "huge": "hugeint", "price": "decimal(18,4)", "ratio": "double", "is_it": "boolean",
    "name": "varchar", "data": "blob", "day": "date", "at": "timestamp", "zoned": "timestamptz", "time": "time",
    "id": "uuid", "about": "json", "list": "varchar[]", "pair": 'struct(a integer, "b c" decimal(9,2))',
    "map": "map(varchar, integer)",
}  # fmt: skip

FULL = {
    "k": 1, "small": -128, "huge": 2**126, "price": Decimal("12345678901234.5678"), "ratio": 0.1, "is_it": True,
    "name": "지우 🎉 \"q\" 'x' \\n\n,", "data": b"\x00a\\'\"\xff", "day": datetime.date(2024, 2, 29),
    "at": datetime.datetime(2026, 1, 1, 9, 0, 10, 123456),
    "zoned": datetime.datetime(2026, 1, 1, 9, 0, tzinfo=datetime.timezone(datetime.timedelta(hours=9))),
    "time": datetime.time(23, 59, 59, 1), "id": "12345678-1234-5678-1234-567812345678", "about": {"a": [15, None, "x"]},
    "list": ["a, b", 'q"\\', None, "", "null", "한"], "pair": {"a": -1, "b c": Decimal("1.50")}, "map": [("x=, ", 1), ("", None)],
}  # fmt: skip


def shop() -> bourne.App:
    app = bourne.App("shop")
    app.log("orders", schema={"user": "varchar", "amount": "bigint"}, key="user")
    app.log("주문", schema=TYPES, key="k", partitions=2)
    app.view("spend", "SELECT user, sum(amount) AS total, count(*) AS n FROM orders GROUP BY user")  # by key
    app.view("large", "SELECT * FROM orders WHERE amount >= 50")  # only grows, with equal rows
    app.view("best", "SELECT * FROM spend WHERE total >= (SELECT avg(total) FROM spend)")  # by content
    app.view("everything", "SELECT * FROM 주문")
    app.view(
        "newest",
        "SELECT k, arg_max(name, at) AS name, max(huge) AS huge, max(price) AS price FROM 주문 GROUP BY k",
    )
    return app


def orders(*rows: tuple[str, int]) -> list[dict[str, Any]]:
    return [{"user": user, "amount": amount} for user, amount in rows]


def ordered(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted(rows, key=repr)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions are told twenty times a second, so that tests need not wait for them."""
    monkeypatch.setattr("bourne.serve.feed.FEED_POSITION_S", 0.05)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Served]:
    with served(shop(), tmp_path) as found:
        yield found


@pytest.fixture
def client(site: Served) -> Iterator[bourne.Client]:
    with bourne.Client(site.url) as found:
        yield found


# --- asking ----------------------------------------------------------------------------------------------------


def test_append_and_read_it(client: bourne.Client) -> None:
    sent = client.append("orders", orders(("ann", 5), ("지우", 60), ("ann", 7)))
    assert (len(sent), sent.offsets, sent.is_repeat, sent.position) == (3, {0: (0, 2)}, False, "orders:3")
    answer = client.view("spend", at_least=sent, wait_s=20, order=["total.desc"])
    assert answer.fetchall() == [("지우", 60, 1), ("ann", 12, 2)]
    assert [type(value) for value in answer.fetchall()[0]] == [str, int, int]  # also of the HUGEINT
    assert (answer.types, answer.position, answer.is_more) == (
        ["VARCHAR", "HUGEINT", "BIGINT"],
        "orders:3",
        False,
    )
    assert client.view("spend", filter={"user": "지우"}, columns=["total"]).fetchall() == [(60,)]
    assert client.view("spend", where="total < 60 AND user <> 'x'").to_polars()["user"].to_list() == ["ann"]
    page = client.view("spend", order=["user"], limit=1)
    assert (len(page), page.is_more) == (1, True)
    assert client.view("spend", order=["user"], limit=1, page=2).to_pandas()["user"].tolist() == ["지우"]
    found = client.query(
        "SELECT sum(total)::HUGEINT AS s FROM spend WHERE user = ?", ["ann"], at_least=sent.position
    )
    assert (found.fetchall(), found.types, found.position) == ([(12,)], ["HUGEINT"], "orders:3")
    assert client.query("SELECT $a::decimal(2,1) + 1 AS x", {"a": Decimal("1.5")}).fetchall() == [
        (Decimal("2.5"),)
    ]
    assert client.log("orders", start=1, limit=1).to_arrow().to_pylist() == [
        {"__offset": 1, "user": "지우", "amount": 60}
    ]
    assert client.log("orders", start=1, limit=1).is_more
    assert client.log("orders", last=1, columns=["amount"]).fetchall() == [(2, 7)]
    assert [log["name"] for log in client.status()["logs"]] == ["orders", "주문"]


@pytest.mark.parametrize(
    "make",
    [pa.Table.from_pylist, pl.DataFrame, pd.DataFrame, list],
    ids=["arrow", "polars", "pandas", "list"],
)
def test_records_in_any_form(client: bourne.Client, make: Any) -> None:
    sent = client.append("orders", make(orders(("ann", 5), ("한", 60))))
    assert client.view("spend", at_least=sent, wait_s=20, order=["user"]).fetchall() == [
        ("ann", 5, 1),
        ("한", 60, 1),
    ]


def test_every_type_comes_back_as_it_was(client: bourne.Client) -> None:
    rows = [FULL, {"k": 2}, {**FULL, "k": 3, "ratio": float("-inf"), "list": [], "map": []}]
    sent = client.append("주문", rows)
    answer = client.view("everything", at_least=sent, wait_s=20, order=["k"])
    expected = answer.to_arrow().to_pylist()
    assert expected[0] == {**FULL, "huge": Decimal(2**126), "about": expected[0]["about"]}
    assert json.loads(expected[0]["about"]) == FULL["about"]
    assert answer.fetchall()[0][2] == 2**126
    assert set(expected[1].values()) == {2, None}
    with client.replica("everything") as replica:
        replica.reaches(sent)
        for found, row in zip(replica.to_arrow().sort_by("k").to_pylist(), expected, strict=True):
            assert {name for name, value in found.items() if value != row[name]} <= {"about"}
            assert json.loads(found["about"] or "null") == json.loads(
                row["about"] or "null"
            )  # but for spaces
        assert replica.to_arrow().schema == answer.to_arrow().schema
        assert {(row[0], row[2]) for row in replica.fetchall()} == {(1, 2**126), (2, None), (3, 2**126)}
    for name in ("price", "data", "day", "at", "huge", "name", "id", "zoned"):
        assert len(client.view("everything", filter={name: FULL[name]})) == 2, name
    with pytest.raises(bourne.InputError, match="NULL"):
        client.view("everything", filter={"price": None})


def test_a_repeat_writes_nothing(client: bourne.Client) -> None:
    first = client.append("orders", orders(("ann", 5)), request_id="a-1")
    again = client.append("orders", orders(("ann", 5)), request_id="a-1")
    assert (first.is_repeat, again.is_repeat, again.position) == (False, True, first.position)
    assert client.append("orders", orders(("ann", 5))).position == "orders:2"
    with pytest.raises(bourne.InputError):
        client.append("orders", orders(("ann", 6)), request_id="a-1")


def test_errors_are_those_of_the_house(site: Served, client: bourne.Client) -> None:
    with pytest.raises(bourne.UnknownName, match="spent"):
        client.view("spent")
    with pytest.raises(bourne.UnknownName):
        next(client.follow("x/../y"))
    with pytest.raises(bourne.QueryError, match="totl"):
        client.view("spend", where="totl > 3")
    with pytest.raises(bourne.QueryError):
        client.query("SELECT * FROM nowhere")
    with pytest.raises(bourne.QueryError):
        next(client.follow("spend", columns=["nothing"]))
    with pytest.raises(bourne.InputError, match="amount"):
        client.append("orders", [{"user": "ann", "amount": "x"}])
    with pytest.raises(bourne.InputError):
        client.append("orders", "ann,5")
    with pytest.raises(bourne.Behind) as raised:
        client.view("spend", at_least="orders:99", wait_s=0)
    assert raised.value.expected == "orders:99"
    with pytest.raises(bourne.Behind), client.replica("spend") as replica:
        replica.reaches("orders:99", timeout_s=0.01)
    with pytest.raises(bourne.UnknownName), client.replica("spent"):
        raise AssertionError
    for url in ("ftp://x", "nothing", "http://"):
        with pytest.raises(bourne.InputError):
            bourne.Client(url)
    client.close()
    with pytest.raises(bourne.Closed):
        client.view("spend")


def test_a_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bourne.client.asking.RETRY_S_MAX", 0.001)
    with (
        bourne.Client("http://127.0.0.1:9") as client,
        pytest.raises(bourne.Unreachable, match="cannot be reached"),
    ):
        client.status()


def test_tokens(tmp_path: Path) -> None:
    with bourne.open(shop(), data=tmp_path):
        pass
    tokens = Tokens(tmp_path)
    reader, writer = (
        tokens.create(role.name.lower(), role, SimulatedClock(0)) for role in (Role.READER, Role.WRITER)
    )
    with served(shop(), tmp_path, token=writer) as site:
        for token, status in ((None, 401), ("wrong", 401)):
            with bourne.Client(site.url, token=token) as client:
                with pytest.raises(bourne.NotAllowed) as raised:
                    client.view("spend")
                assert raised.value.status == status
                with pytest.raises(bourne.NotAllowed):
                    next(client.follow("spend"))
        with bourne.Client(site.url, token=reader) as client:
            assert client.view("spend").fetchall() == []
            assert next(client.follow("spend")).is_snapshot
            with pytest.raises(bourne.NotAllowed) as raised:
                client.append("orders", orders(("ann", 1)))
            assert raised.value.status == 403
        with bourne.Client(site.url, token=writer) as client:
            assert len(client.append("orders", orders(("ann", 1)))) == 1


def test_monotonic_reads_are_those_of_its_own_writes(site: Served) -> None:
    with bourne.Client(site.url, is_monotonic=True) as client:
        for number in range(1, 20):
            client.append("orders", orders(("ann", 1)))
            assert client.view("spend", wait_s=20).fetchall() == [("ann", number, number)]
            assert client.query("SELECT n FROM spend", wait_s=20).fetchall() == [(number,)]


def test_a_lost_answer_is_asked_for_again_and_appends_once(site: Served) -> None:
    with Proxy(site.server.address[1]) as proxy, bourne.Client(f"http://{proxy.url_host}") as client:
        for lost in (0, 20, 150):
            before = site.instance.log("orders").end_offsets()[0]
            proxy.truncate(lost)
            sent = client.append("orders", orders(("ann", 1), ("bo", 2)))
            assert sent.is_repeat
            assert site.instance.log("orders").end_offsets() == (before + 2,)


# --- following -------------------------------------------------------------------------------------------------


class Applied:
    """What a reader has who applies changes one after another, and nothing else."""

    def __init__(self) -> None:
        self.by_key: dict[Any, Any] = {}
        self.counts: dict[str, int] = {}
        self.snapshots = 0
        self.ids: list[str] = []
        self.position = ""

    def take(self, change: Change) -> None:
        if change.is_snapshot:
            self.by_key, self.counts = {}, {}
            self.snapshots += 1
        assert change.id not in self.ids or not change.raw
        self.ids.append(change.id)
        self.position = change.position
        for key, row, weight in change.changes:
            if key is None:
                text = repr(tuple((row or {}).values()))
                self.counts[text] = self.counts.get(text, 0) + weight
                assert self.counts[text] >= 0
            elif row is None:
                self.by_key.pop(key, None)
            else:
                self.by_key[key] = tuple(row.values())

    def rows(self) -> list[str]:
        counted = [text for text, count in self.counts.items() for _ in range(count)]
        return sorted([*map(repr, self.by_key.values()), *counted])


def rows_of(answer: Any) -> list[str]:
    return sorted(repr(tuple(row.values())) for row in answer.to_arrow().to_pylist())


def test_follow_a_view(client: bourne.Client) -> None:
    sent = client.append("orders", orders(("ann", 5), ("지우", 60)))
    client.view("spend", at_least=sent, wait_s=20)
    changes = client.follow("spend")
    first = next(changes)
    assert (first.is_snapshot, first.is_keyed, first.position, len(first)) == (True, True, "orders:2", 2)
    client.append("orders", orders(("ann", 7)))
    second = next(changes)
    [change] = second.changes
    assert (second.is_snapshot, second.position) == (False, "orders:3")
    assert change.row == {"user": "ann", "total": Decimal(12), "n": 2}
    assert second.to_arrow().num_rows == 1
    # From an id on, and only what is new, with filters.
    client.append("orders", orders(("bo", 1), ("bo", 2)))
    third = next(client.follow("spend", after=second.id))
    assert (third.is_snapshot, [each.row["user"] for each in third.changes if each.row]) == (False, ["bo"])
    news = client.follow("large", snapshot=False, positions=True, filter={"user": "cho"}, columns=["amount"])
    assert next(news).changes == []
    client.append("orders", orders(("bo", 70), ("cho", 80), ("cho", 80)))
    change = next(each for each in news if each.raw)
    assert (change.is_keyed, [(row, weight) for _, row, weight in change.changes]) == (
        False,
        [({"amount": 80}, 1)] * 2,
    )


@pytest.mark.parametrize("view", ["spend", "large", "best"])
def test_follow_across_restarts_of_the_server(tmp_path: Path, view: str) -> None:
    """The server ends and another one begins at its port: no gap, no repeat, no second snapshot."""
    rng = random.Random(1)
    with served(shop(), tmp_path) as site, bourne.Client(site.url) as client:
        address, server = site.server.address, site.server
        applied, sent = Applied(), client.append("orders", orders(("ann", 60), ("bo", 1)))
        client.view(view, at_least=sent, wait_s=20)
        changes = client.follow(view, positions=True)
        for turn in range(4):
            if turn:
                server.close()
                site.instance.append(
                    "orders", orders(*[(f"u{rng.randrange(9)}", rng.randrange(99)) for _ in range(20)])
                )
                server = Server(site.instance, address)
            sent = client.append("orders", orders(("ann", turn), ("bo", 90)))
            while applied.position != sent.position:
                applied.take(next(changes))
            assert applied.rows() == rows_of(client.view(view, at_least=sent, wait_s=20, limit=10_000))
        assert applied.snapshots == 1
        changes.close()  # type: ignore[attr-defined]
        server.close()


@pytest.mark.parametrize("view", ["spend", "large", "best"])
@pytest.mark.parametrize("seed", range(2))
def test_a_replica_equals_the_view_whatever_is_cut(
    site: Served, view: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bourne.client.asking.RETRY_S_MAX", 0.01)
    rng = random.Random(seed)
    with (
        Proxy(site.server.address[1]) as proxy,
        bourne.Client(site.url) as direct,
        bourne.Client(f"http://{proxy.url_host}") as client,
    ):
        seen: list[int] = []
        with (
            client.replica(view, on_change=lambda it: seen.append(len(it))) as whole,
            client.replica(view, filter={"user": "u1"}) as part,
        ):
            for _ in range(25):
                rows = [(f"u{rng.randrange(6)}", rng.randrange(-40, 90)) for _ in range(rng.randrange(1, 40))]
                sent = direct.append("orders", orders(*rows))
                fault = rng.choice([None, proxy.cut, proxy.reset, lambda: proxy.truncate(rng.randrange(400))])
                if fault is not None:
                    fault()
                if rng.random() < 0.5:
                    proxy.heal(reset=rng.random() < 0.5)
                    whole.reaches(sent)
                    now = direct.view(view, at_least=whole.position, wait_s=20, limit=100_000)
                    assert now.position == whole.position
                    assert rows_of(whole) == rows_of(now)
            proxy.heal()
            for replica, filter_ in ((whole, None), (part, {"user": "u1"})):
                replica.reaches(sent)
                now = direct.view(view, filter=filter_, at_least=sent, wait_s=20, limit=100_000)
                assert rows_of(replica) == rows_of(now)
                assert len(replica) == len(now)
            until(lambda: whole.state == "live", what="the replica")
            assert seen[-1] == len(whole)
        assert whole.state == "closed"
        assert rows_of(whole) == rows_of(direct.view(view, limit=100_000))  # it keeps what it had


def test_a_callback_that_fails_ends_its_replica(client: bourne.Client) -> None:
    def fail(replica: object) -> None:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError), client.replica("spend", on_change=fail) as replica:
        replica.reaches(client.append("orders", orders(("ann", 1))))
        until(lambda: replica.state == "closed")
        replica.reaches("orders:99")


# --- ending ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["live", "silent", "away"])
def test_close_ends_what_follows_at_once(site: Served, state: str) -> None:
    with Proxy(site.server.address[1]) as proxy:
        client = bourne.Client(f"http://{proxy.url_host}")
        seen: list[Change] = []
        ended = threading.Event()

        def follow() -> None:
            for change in client.follow("spend"):
                seen.append(change)
            ended.set()

        if state == "silent":
            proxy.half_open()
        thread = threading.Thread(target=follow)
        thread.start()
        until((lambda: proxy.connections > 0) if state == "silent" else (lambda: seen))
        if state == "away":
            proxy.cut()
        began_s = time.monotonic()
        client.close()
        thread.join(20)
        assert ended.is_set() and time.monotonic() - began_s < 5


@pytest.fixture
def heard() -> Iterator[None]:
    """Ctrl-C is heard: a shell lets what it starts in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_while_following(client: bourne.Client, heard: None) -> None:
    changes = client.follow("spend")
    next(changes)
    main = threading.main_thread().ident or 0

    def press() -> None:
        until(lambda: sys._current_frames()[main].f_code.co_name == "read", what="the wait for the network")
        signal.pthread_kill(main, signal.SIGINT)

    killer = threading.Thread(target=press)
    began_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        killer.start()
        next(changes)
    assert time.monotonic() - began_s < 5
    assert list(changes) == []  # it has ended, and its connection with it


def test_a_replica_that_nobody_entered(client: bourne.Client) -> None:
    replica = client.replica("spend")
    with pytest.raises(InputError, match="nothing keeps this replica current"):
        replica.reaches("")
    replica.close()
