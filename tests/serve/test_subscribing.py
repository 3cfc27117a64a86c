"""Subscriptions: a snapshot, then what changes; after any cut, without gap and without repeat; whoever is slow harms nobody."""

from __future__ import annotations

import gc
import json
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

import bourne
from bourne.serve.feed import Feed
from serve.served import Event, Replica, Served, Subscriber, served, texts
from waiting import until


def shop() -> bourne.App:
    app = bourne.App("shop")
    app.log("orders", schema={"user": "varchar", "amount": "bigint"}, key="user")
    app.view("spend", "SELECT user, sum(amount) AS total, count(*) AS n FROM orders GROUP BY user")  # by key
    app.view("large", "SELECT * FROM orders WHERE amount >= 50 OR amount < -1000000")  # only grows
    app.view("best", "SELECT * FROM spend WHERE total >= (SELECT avg(total) FROM spend)")  # by content
    return app


@pytest.fixture(autouse=True)
def _told_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions are told twenty times a second, so that tests need not wait for them."""
    monkeypatch.setattr("bourne.serve.feed.FEED_POSITION_S", 0.05)


def rows_of(site: Served, view: str, **parameters: Any) -> list[str]:
    return texts(site.get(f"/views/{view}", limit=100_000, **parameters).json()["rows"])


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Served]:
    with served(shop(), tmp_path) as found:
        yield found


def append(site: Served, *rows: tuple[str, int]) -> str:
    return site.instance.append(
        "orders", [{"user": user, "amount": amount} for user, amount in rows]
    ).position


def test_a_snapshot_then_changes(site: Served) -> None:
    position = append(site, ("ann", 5), ("지우", 60))
    assert site.get("/views/spend", at_least=position, wait=20).status_code == 200
    follower = Subscriber(f"{site.url}/views/spend/changes")
    assert follower.response.headers["content-type"].startswith("text/event-stream")
    events = follower.events()
    first = next(events)
    assert (first.name, first.id is not None) == ("snapshot", True)
    assert first.data["view"] == "spend"
    assert first.data["keyed"] is True
    assert first.data["position"] == "orders:2"
    assert first.data["columns"] == [
        {"name": "user", "type": "VARCHAR"}, {"name": "total", "type": "HUGEINT"}, {"name": "n", "type": "BIGINT"}
    ]  # fmt: skip
    assert {row["row"]["user"] for row in first.data["rows"]} == {"ann", "지우"}
    assert next(events).name == "position"
    append(site, ("ann", 7))
    change = next(event for event in events if event.name == "change")
    assert change.data["position"] == "orders:3"
    [row] = change.data["changes"]
    assert row["row"] == {"user": "ann", "total": 12, "n": 2}
    assert row["key"] in {each["key"] for each in first.data["rows"] if each["row"]["user"] == "ann"}
    follower.close()


@pytest.mark.parametrize("view", ["spend", "large", "best"])
@pytest.mark.parametrize("seed", range(3))
def test_replicas_equal_the_view_whatever_was_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, view: str, seed: int
) -> None:
    """Subscribers come and go at random; in the end each has what the view has, however little is kept ready."""
    random_ = random.Random(seed)
    if seed:
        monkeypatch.setattr("bourne.serve.channels.FEED_KEYS_MAX", 3)
        monkeypatch.setattr("bourne.serve.feed.FEED_BYTES_MAX", 5_000)
        monkeypatch.setattr("bourne.serve.feed.FEED_SNAPSHOTS_BYTES", 500)
    filters = ["", "?user=u1", "?where=total>40" if view != "large" else "?where=amount>70", "?columns=user"]
    with served(shop(), tmp_path) as site:
        followers: list[tuple[str, Subscriber]] = []
        position = ""
        for _ in range(25):
            rows = [
                (f"u{random_.randrange(6)}", random_.randrange(-40, 90))
                for _ in range(random_.randrange(1, 40))
            ]
            position = append(site, *rows)
            if random_.random() < 0.4:
                chosen = random_.choice(filters)
                followers.append((chosen, Subscriber(f"{site.url}/views/{view}/changes{chosen}")))
            for number, (chosen, follower) in enumerate(followers):
                if random_.random() < 0.3:
                    follower.read_until(position)
                if random_.random() < 0.2:  # cut, and resumed
                    follower.close()
                    again = Subscriber(f"{site.url}/views/{view}/changes{chosen}", follower.replica.id)
                    again.replica = follower.replica
                    again.replica.pending, again.replica.position = [], ""
                    followers[number] = (chosen, again)
        assert followers
        for chosen, follower in followers:
            replica = follower.read_until(position)
            follower.close()
            parameters = dict(part.split("=", 1) for part in chosen[1:].split("&")) if chosen else {}
            assert replica.sorted() == rows_of(site, view, at_least=position, wait=20, **parameters), chosen


def test_who_comes_back_gets_neither_snapshot_nor_repeat(site: Served) -> None:
    follower = Subscriber(f"{site.url}/views/spend/changes")
    follower.read_until(append(site, ("ann", 1), ("bo", 2)))
    follower.close()
    append(site, ("bo", 3))
    position = append(site, ("cho", 4))
    again = Subscriber(f"{site.url}/views/spend/changes", follower.replica.id)
    again.replica.rows = dict(follower.replica.rows)
    again.read_until(position)
    again.close()
    assert "snapshot" not in again.replica.names
    assert again.replica.sorted() == rows_of(site, "spend")
    # By parameter as by header, and after the server was started anew.
    with_parameter = Subscriber(f"{site.url}/views/spend/changes?after={follower.replica.id}")
    event = next(with_parameter.events())
    with_parameter.close()
    assert (event.name, len(event.data["changes"])) == ("change", 2)


def test_after_a_restart(tmp_path: Path) -> None:
    with served(shop(), tmp_path) as site:
        follower = Subscriber(f"{site.url}/views/best/changes")
        follower.read_until(append(site, ("ann", 10), ("bo", 20)))
        follower.close()
    with served(shop(), tmp_path) as site:
        position = append(site, ("ann", 50), ("bo", 1))
        again = Subscriber(f"{site.url}/views/best/changes", follower.replica.id)
        again.replica.rows = dict(follower.replica.rows)
        again.read_until(position)
        again.close()
        assert "snapshot" not in again.replica.names
        assert again.replica.sorted() == rows_of(site, "best", at_least=position, wait=20)


@pytest.mark.parametrize("after", ["x", "000000000000-5", "-", "🎉", "0" * 5000])
def test_ids_that_are_not_ours_bring_a_snapshot(site: Served, after: str) -> None:
    append(site, ("ann", 1))
    follower = Subscriber(f"{site.url}/views/spend/changes?after={after}")
    assert next(follower.events()).name == "snapshot"
    follower.close()


def test_ids_between_commits_and_beyond_the_end_bring_a_snapshot(site: Served) -> None:
    position = append(site, ("ann", 1), ("bo", 1), ("cho", 1))
    follower = Subscriber(f"{site.url}/views/spend/changes")
    follower.read_until(position)
    assert follower.replica.id is not None
    log, _, offset = follower.replica.id.partition("-")
    for number, name in (
        (int(offset) - 1, "snapshot"),
        (int(offset) + 9, "snapshot"),
        (int(offset), "position"),
    ):
        other = Subscriber(f"{site.url}/views/spend/changes?after={log}-{number}")
        assert next(other.events()).name == name, number
        other.close()
    follower.close()


def test_a_changed_definition_brings_a_snapshot(tmp_path: Path) -> None:
    with served(shop(), tmp_path) as site:
        follower = Subscriber(f"{site.url}/views/large/changes")
        follower.read_until(append(site, ("ann", 60)))
        follower.close()
    changed = shop()
    del changed.views["large"]
    changed.view("large", "SELECT user FROM orders WHERE amount >= 50")
    with served(changed, tmp_path) as site:
        again = Subscriber(f"{site.url}/views/large/changes", follower.replica.id)
        events = again.events()
        while "snapshot" not in again.replica.names or again.replica.position != "orders:1":
            again.replica.take(next(events))  # before it, what becomes of the version that is still served
        again.close()
        assert again.replica.sorted() == ['{"user": "ann"}']


def test_only_what_changes_from_now_on(site: Served) -> None:
    assert site.get("/views/large", at_least=append(site, ("ann", 60)), wait=20).status_code == 200
    follower = Subscriber(f"{site.url}/views/large/changes?snapshot=false")
    events = follower.events()
    assert next(events).name == "position"
    append(site, ("bo", 70))
    assert next(event for event in events if event.name == "change").data["changes"] == [
        {"row": {"user": "bo", "amount": 70}, "weight": 1}
    ]
    follower.close()


def test_positions_go_on_where_nothing_changes(site: Served) -> None:
    follower = Subscriber(f"{site.url}/views/large/changes")
    follower.read_until(append(site, ("ann", 1)))
    follower.read_until(append(site, ("ann", 2)))
    follower.close()
    assert "change" not in follower.replica.names


def test_large_snapshots_and_changes_come_in_parts(site: Served) -> None:
    rows = [(f"사용자{number}", number) for number in range(30_000)]
    position = append(site, *rows)
    assert site.get("/views/spend", at_least=position, wait=30, limit=1).status_code == 200
    follower = Subscriber(f"{site.url}/views/spend/changes")
    follower.read_until(position)
    assert follower.replica.names.count("snapshot") > 5
    position = append(site, *rows)
    follower.read_until(position)
    follower.close()
    assert follower.replica.names.count("change") > 2
    assert follower.replica.sorted() == rows_of(site, "spend")


def test_over_a_websocket(site: Served) -> None:
    address = site.url.replace("http", "ws")
    replica = Replica()

    def read(position: str) -> None:
        while replica.position != position:
            message = json.loads(socket_.recv(timeout=60))
            replica.take(Event(message.pop("event"), message.pop("id", None), message))

    append(site, ("ann", 5))
    with connect(f"{address}/views/spend/changes") as socket_:
        read(append(site, ("지우", 60)))
    position = append(site, ("ann", 1))
    with connect(f"{address}/views/spend/changes?after={replica.id}") as socket_:
        read(position)
    assert replica.names.count("snapshot") == 1
    assert replica.sorted() == rows_of(site, "spend")
    for path, title in (
        ("nothing/changes", "there is no view"),
        ("spend/changes?where=f(x)", "'f' cannot stand"),
    ):
        with connect(f"{address}/views/{path}") as socket_:
            message = json.loads(socket_.recv(timeout=60))
            assert message["event"] == "error"
            assert message["title"].startswith(title)


@pytest.mark.parametrize(
    ("path", "status"),
    [("nothing/changes", 404), ("spend/changes?x=1", 422), ("spend/changes?where=f(1)", 422)],
)
def test_what_cannot_be_followed_is_refused(site: Served, path: str, status: int) -> None:
    assert site.http.get(f"/views/{path}").status_code == status


def test_a_condition_that_fails_on_the_way_ends_the_stream_with_an_error(site: Served) -> None:
    follower = Subscriber(f"{site.url}/views/large/changes?where=-amount=amount")
    events = follower.events()
    assert next(events).name == "snapshot"
    append(site, ("ann", -(2**63)))  # which has no opposite
    last = [event for event in events if event.name not in ("position", "change")]
    assert [event.name for event in last] == ["error"]
    assert last[0].data["status"] == 422
    follower.close()


def test_who_takes_nothing_costs_nothing(site: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that never reads: others go on, nothing piles up, it is cut off, and others with its id go on."""
    monkeypatch.setattr("bourne.serve.guard.SERVE_TAKE_S", 1.0)
    host, port = site.server.address
    lazy = socket.create_connection((host, port))
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lazy.sendall(f"GET /views/spend/changes HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    follower = Subscriber(f"{site.url}/views/spend/changes")
    for number in range(30):
        position = append(site, *((f"user {each} {'x' * 100}", number) for each in range(1_000)))
        follower.read_until(position)
    assert follower.replica.sorted() == rows_of(site, "spend")
    until(lambda: site.get("/status").json()["subscribers"] == 1, what="the lazy one to be cut off")
    follower.close()
    lazy.close()
    until(lambda: site.get("/status").json()["subscribers"] == 0, what="the other one to be gone")


def test_what_subscribers_may_have_is_bounded(site: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bourne.serve.service.SERVE_SUBSCRIBERS_OF_ONE", 5)
    monkeypatch.setattr("bourne.serve.feed.FEED_ASKED_MAX", 2)
    path = f"{site.url}/views/spend/changes"
    there = [
        Subscriber(f"{path}{each}") for each in ("", "?where=total>1", "?where=total>2", "?where=total>1")
    ]
    for each in there:
        next(each.events())
    refused = Subscriber(f"{path}?where=total>3")
    event = next(refused.events())
    assert (event.name, event.data["status"]) == ("error", 429)
    refused.close()
    until(lambda: site.get("/status").json()["subscribers"] == 4)
    there.append(Subscriber(f"{path}?user=ann"))
    next(there[-1].events())
    busy = site.get("/views/spend/changes")
    assert (busy.status_code, busy.headers["retry-after"]) == (429, "1")
    for each in there:
        each.close()
    until(lambda: site.get("/status").json()["subscribers"] == 0)


def test_who_leaves_leaves_nothing_behind(site: Served) -> None:
    """Subscribers come and go while commits move the rows that they hold."""
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            append(site, *((f"u{number}", 1) for number in range(3_000)))

    def follow(number: int) -> None:
        while not stop.is_set():
            follower = Subscriber(f"{site.url}/views/spend/changes?user=u{number}&where=total>={number}")
            for _ in zip(range(5), follower.events(), strict=False):
                pass
            follower.close()

    threads = [
        threading.Thread(target=write),
        *(threading.Thread(target=follow, args=(n,)) for n in range(4)),
    ]
    for each in threads:
        each.start()
    until(lambda: site.instance.log("orders").end_offsets()[0] > 30_000)
    stop.set()
    for each in threads:
        each.join()
    [feed] = [
        each for each in gc.get_objects() if isinstance(each, Feed) and each._reading is site.instance.reading
    ]
    index = feed._index
    until(lambda: not feed._channels, what="the channels to be forgotten")
    assert (index._keys, index._asked, index._by_key, feed._snapshots) == (0, {}, {}, {})
    assert not any(index._by_value.values())


@pytest.mark.parametrize("ways", [1, 40])
def test_conditions_are_evaluated_on_the_rows_that_they_are_about(site: Served, ways: int) -> None:
    """Together, or, where one of them fails on a row that it is not about, each on its own."""
    asked = [f"?where=amount>{50 + number}" for number in range(ways)]
    asked += [f"?user=u{number}&where=-amount<{-number - 51}" for number in range(ways)]
    followers = [Subscriber(f"{site.url}/views/large/changes{each}") for each in asked]
    for follower in followers:
        assert next(follower.events()).name == "snapshot"
    no_opposite = ("nobody", -(2**63))
    append(site, no_opposite, *((f"u{number}", number) for number in range(100)))
    position = append(site, *((f"u{number}", number + 51) for number in range(100)))
    for path, follower in zip(asked, followers, strict=True):
        parameters = dict(part.split("=", 1) for part in path[1:].split("&"))
        whole = rows_of(site, "large", at_least=position, wait=20, **parameters)
        assert follower.read_until(position).sorted() == whole, path
        follower.close()


def test_many_follow(site: Served) -> None:
    """Three hundred, of which a third follow one key each."""
    paths = [f"spend/changes{f'?user=u{number}' if number % 3 == 0 else ''}" for number in range(300)]
    found: dict[int, Replica] = {}
    ready = threading.Barrier(len(paths) + 1)

    def follow(number: int) -> None:
        follower = Subscriber(f"{site.url}/views/{paths[number]}")
        ready.wait(120)
        found[number] = follower.read_until("orders:600")
        follower.close()

    threads = [threading.Thread(target=follow, args=(number,)) for number in range(len(paths))]
    for each in threads:
        each.start()
    ready.wait(120)
    for number in range(300):
        append(site, (f"u{number}", number), (f"u{number + 1}", 1))
    for each in threads:
        each.join()
    whole = rows_of(site, "spend", at_least="orders:600", wait=20)
    for number, replica in found.items():
        wanted = (
            [row for row in whole if json.loads(row)["user"] == f"u{number}"] if number % 3 == 0 else whole
        )
        assert replica.sorted() == wanted, number
