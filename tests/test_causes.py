"""Order by cause: a record that says what its author had seen is taken in only after that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import bourne
from bourne.errors import DefinitionError, InputError
from bourne.log.reader import LogReader

TOLD = """SELECT m.id, f.friend FROM messages m JOIN friends f ON f.person = m.author"""


def make_app(*, seen: bool = True) -> bourne.App:
    app = bourne.App("friends")
    app.log("friends", schema={"pair": "varchar", "person": "varchar", "friend": "varchar", "gone": "boolean"},
            key="pair", changes="upsert", tombstone="gone")  # fmt: skip
    schema = {"id": "bigint", "author": "varchar", "friends_seen": "bigint"}
    app.log("messages", schema=schema, seen={"friends": "friends_seen"} if seen else None)
    app.view("told", TOLD, grows=True)
    return app


FRIENDS = [
    {"pair": "ann-bob", "person": "ann", "friend": "bob"},
    {"pair": "ann-cy", "person": "ann", "friend": "cy"},
]
UNFRIEND = [{"pair": "ann-bob", "person": "ann", "friend": "bob", "gone": True}]


def ever_told(instance: Any) -> set[tuple[int, str]]:
    """Return all rows that the view ever had: what somebody who follows it has seen."""
    view = instance.reading.views()["told"]
    reader = LogReader(view.folder, view.output)
    rows = [row for frame in reader.read() for row in frame.batch.to_pylist()]
    reader.close()
    return {(row["id"], row["friend"]) for row in rows if row["id"] is not None}


@pytest.mark.parametrize("seen", [True, False])
def test_the_message_waits_for_what_its_author_knew(tmp_path: Path, seen: bool) -> None:
    with bourne.open(make_app(seen=seen), data=tmp_path / "data") as instance:
        instance.append("friends", FRIENDS)
        instance.catch_up()
        # Ann has ended it with Bob, the third record, and says so to her friends; that record comes later than this one.
        instance.append("messages", [{"id": 1, "author": "ann", "friends_seen": 3}])
        instance.catch_up()
        assert instance.status().views[0].lag_records == int(seen)
        instance.append("friends", UNFRIEND)
        instance.catch_up()
        assert instance.query("SELECT * FROM told").fetchall() == [(1, "cy")]
        assert instance.status().views[0].lag_records == 0
        assert ever_told(instance) == ({(1, "cy")} if seen else {(1, "bob"), (1, "cy")})


def test_what_does_not_wait_goes_first_and_order_is_kept(tmp_path: Path) -> None:
    with bourne.open(make_app(), data=tmp_path / "data") as instance:
        instance.append("friends", FRIENDS[1:])
        instance.append(
            "messages",
            [{"id": i, "author": "ann", "friends_seen": s} for i, s in enumerate([None, 1, 2, None, 5])],
        )
        instance.catch_up()
        assert sorted(instance.query("SELECT id FROM told").fetchall()) == [(0,), (1,)]
        instance.append("friends", FRIENDS[1:])
        instance.catch_up()
        assert sorted(instance.query("SELECT id FROM told").fetchall()) == [(0,), (1,), (2,), (3,)]
    with bourne.open(make_app(), data=tmp_path / "data") as instance:
        instance.catch_up()
        instance.append("friends", FRIENDS[1:] * 4)
        instance.catch_up()
        assert len(instance.query("SELECT id FROM told").fetchall()) == 5


def test_a_call_says_it_for_all_its_rows(tmp_path: Path) -> None:
    with bourne.open(make_app(), data=tmp_path / "data") as instance:
        instance.append(
            "messages", [{"id": 1, "author": "ann"}, {"id": 2, "author": "ann"}], seen={"friends": 1}
        )
        assert instance.query("SELECT friends_seen FROM messages").fetchall() == [(1,), (1,)]
        for wrong in ("x", 1.5, 1 << 63, -1, True):
            with pytest.raises(InputError, match="no such position in 'friends'"):
                instance.append("messages", [{"id": 3, "author": "ann"}], seen={"friends": wrong})  # type: ignore[dict-item]
        with pytest.raises(InputError, match="does not say what was seen of 'foes'"):
            instance.append("messages", [{"id": 3, "author": "ann"}], seen={"foes": 1})


def test_views_over_views_wait_together(tmp_path: Path) -> None:
    app = make_app()
    app.view("counted", "SELECT friend, count(*) AS n FROM told GROUP BY friend")
    app.view("sent", "SELECT count(*) AS n, (SELECT count(*) FROM counted) AS friends FROM messages")
    with bourne.open(app, data=tmp_path / "data") as instance:
        instance.append("friends", FRIENDS)
        instance.append("messages", [{"id": i, "author": "ann"} for i in range(3)])
        instance.append("messages", [{"id": 9, "author": "ann"}], seen={"friends": 3})
        instance.catch_up()
        assert instance.query("SELECT * FROM sent").fetchall() == [(3, 2)]
        instance.append("friends", UNFRIEND)
        instance.catch_up()
        assert instance.query("SELECT * FROM sent").fetchall() == [(4, 1)]


@pytest.mark.parametrize(
    ("seen", "message"),
    [
        ({"friends": "nope"}, "is no whole number"),
        ({"friends": "author"}, "is no whole number"),
        ({"messages": "friends_seen"}, "waits for itself"),
        ({"foes": "friends_seen"}, "which is no log"),
        ({"many": "friends_seen"}, "several partitions"),
    ],
)
def test_bad_declarations(tmp_path: Path, seen: dict[str, str], message: str) -> None:
    app = bourne.App("friends")
    app.log("many", schema={"k": "varchar"}, key="k", partitions=2)
    app.log("friends", schema={"k": "varchar"})
    with pytest.raises(DefinitionError, match=message):
        app.log("messages", schema={"author": "varchar", "friends_seen": "bigint"}, seen=seen)
        bourne.open(app, data=tmp_path / "data")


def test_at_the_end_nothing_waits_any_more(tmp_path: Path) -> None:
    with bourne.open(make_app(), data=tmp_path / "data") as instance:
        instance.append("friends", FRIENDS)
        instance.append("messages", [{"id": 1, "author": "ann", "friends_seen": 9}])
        instance.catch_up()
        assert instance.query("SELECT * FROM told").fetchall() == []
        instance.catch_up(final=True)
        assert len(instance.query("SELECT * FROM told").fetchall()) == 2
