"""Logs that change their mind, as users meet them: declared, appended to, asked, followed by views, declared anew."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

import bourne
from bourne.connect.files import read_file
from bourne.log import retention
from bourne.testing import SimulatedClock

PEOPLE = {"id": "bigint", "이름": "varchar", "city": "varchar"}
DAY_US = 24 * 3600 * 1_000_000


def app_of(schema: dict[str, str] | None = None, *, view: str | None = None, **options: Any) -> bourne.App:
    app = bourne.App("a")
    app.log("people", schema=schema or PEOPLE, **options)
    if view is not None:
        app.view("v", view)
    return app


def rows(instance: Any, sql: str = "SELECT * FROM people ORDER BY ALL") -> list[tuple[Any, ...]]:
    return instance.query(sql).fetchall()


def person(number: int, name: str | None = "ann", city: str | None = "서울", **others: Any) -> dict[str, Any]:
    return {"id": number, "이름": name, "city": city, **others}


UPSERT = {"key": "id", "changes": "upsert", "tombstone": "gone", "schema": {**PEOPLE, "gone": "boolean"}}
WEIGHTS = {"changes": "weights", "weight": "w", "schema": {**PEOPLE, "w": "integer"}}


# --- what SQL sees, and what the log keeps ---------------------------------------------------------------


def test_upserts_are_current_rows_in_sql_and_records_in_the_log(tmp_path: Path) -> None:
    with bourne.open(app_of(**UPSERT), data=tmp_path) as it:
        it.append("people", [person(1), person(2, "bo"), person(1, "ann", None)])
        it.append("people", [person(2, None, None, gone=True), person(3, gone=False)])
        assert rows(it) == [(1, "ann", None), (3, "ann", "서울")]
        assert it.query("SELECT * FROM people").columns == ["id", "이름", "city"]
        assert it.tail("people").column("id").to_pylist() == [1, 2, 1, 2, 3]
        with it.log("people").rows() as records:
            assert next(iter(records)) == person(1, gone=None)
        it.append("people", [person(2, "bo", "부산")])
        assert rows(it)[1] == (2, "bo", "부산")
    with bourne.open(data=tmp_path) as it:  # without the app
        assert rows(it, "SELECT count(*) FROM people") == [(3,)]


def test_before_and_after(tmp_path: Path) -> None:
    with bourne.open(app_of(key="ID", changes="before_after", partitions=3), data=tmp_path) as it:
        it.append("people", [{"before": None, "after": person(number)} for number in range(20)])
        it.append("people", [
            {"before": person(1), "after": person(1, "bo")},
            {"before": {"id": 2}, "after": None},
            {"after": person(3)},  # delivered once more
        ])  # fmt: skip
        assert min(it.log("people").end_offsets()) > 0
        assert rows(it, "SELECT count(*), count(*) FILTER (이름 = 'bo'), count(DISTINCT id) FROM people") == [
            (19, 1, 19)
        ]
        assert it.tail("people").column_names == ["before", "after"]


def test_before_and_after_without_a_key_and_weights_count_equal_rows(tmp_path: Path) -> None:
    with bourne.open(app_of(changes="before_after"), data=tmp_path / "pairs") as it:
        it.append(
            "people", [{"after": person(1)}, {"after": person(1)}, {"before": person(1), "after": person(2)}]
        )
        assert rows(it, "SELECT id, count(*) FROM people GROUP BY id ORDER BY id") == [(1, 1), (2, 1)]
        it.append("people", [{"before": person(9)}, {"after": person(9)}])
        assert rows(it, "SELECT id FROM people ORDER BY id") == [(1,), (2,)]
    with bourne.open(app_of(**WEIGHTS), data=tmp_path / "weights") as it:
        it.append("people", [person(1, w=3), person(2, w=-1), person(3, w=0)])
        assert rows(it) == [(1, "ann", "서울")] * 3
        it.append("people", [person(1, w=-2), person(2, w=2)])
        assert rows(it, "SELECT id FROM people ORDER BY id") == [(1,), (2,)]


QUERIES = [
    "SELECT * FROM people",
    "SELECT city, count(*) AS n, sum(id) AS total FROM people GROUP BY city",
    "SELECT count(*) AS n, min(이름) AS first FROM people",
]
OPTIONS: list[dict[str, Any]] = [
    UPSERT, WEIGHTS, {"changes": "before_after"}, {"changes": "before_after", "key": "id", "partitions": 2}
]  # fmt: skip


def a_record(chance: random.Random, kind: str) -> dict[str, Any]:
    row = person(chance.randrange(4), chance.choice(["ann", "bo", None]), chance.choice(["서울", None]))
    if kind == "upsert":
        return row | {"gone": chance.choice([None, False, True])}
    if kind == "weights":
        return row | {"w": chance.choice([-1, 1, 2])}
    other = row | {"이름": "다른"}
    return chance.choice([{"after": row}, {"before": row}, {"before": other, "after": row}])


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: options["changes"] + options.get("key", ""))
def test_views_follow_whatever_the_cut(tmp_path: Path, options: dict[str, Any]) -> None:
    """A view over a changelog, and one over that view, are what DuckDB says of the relation, in each step."""
    chance = random.Random(7)
    app = app_of(**options)
    for number, sql in enumerate(QUERIES):
        app.view(f"v{number}", sql)
        app.view(f"w{number}", f"SELECT count(*) AS n FROM v{number}")
    for _ in range(2):
        with bourne.open(app, data=tmp_path) as it:
            for _ in range(4):
                it.append(
                    "people", [a_record(chance, options["changes"]) for _ in range(chance.randrange(1, 9))]
                )
                it.catch_up()
                for number, sql in enumerate(QUERIES):
                    expected = rows(it, f"SELECT * FROM ({sql}) ORDER BY ALL")
                    assert rows(it, f"SELECT * FROM v{number} ORDER BY ALL") == expected
                    assert rows(it, f"SELECT n FROM w{number}") == [(len(expected),)]


def test_a_compacted_log_of_upserts_is_the_same_relation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "COMPACT_BYTES_MIN", 1)
    clock = SimulatedClock(1_700_000_000_000_000)
    app = app_of(view="SELECT count(*) AS n, sum(id) AS total FROM people", compact=True, **UPSERT)
    with bourne.open(app, data=tmp_path, clock=clock) as it:
        for number in range(40):
            it.append("people", [person(number % 10, f"x{number}", None), person(number % 3, gone=True)])
        it.catch_up()
        before = rows(it)
        clock.advance(2 * DAY_US)
        it.maintain()  # begins a new segment
        it.append("people", [person(9, "x39", None)])
        it.catch_up()
        assert [done.compacted for done in it.maintain()] == [1]
        kept = sum(batch.records.num_rows for batch in it.log("people").batches())
        assert kept <= 11 and rows(it) == before
    with bourne.open(app, data=tmp_path, clock=clock) as it:
        assert rows(it) == before
        it.append("people", [person(0), person(5, gone=True)])
        it.catch_up()
        assert rows(it, "SELECT n, total FROM v") == rows(it, "SELECT count(*), sum(id) FROM people")


# --- bad input -------------------------------------------------------------------------------------------

BAD_DECLARATIONS: list[tuple[dict[str, Any], str]] = [
    ({"changes": "delete"}, "no such changes"),
    ({"changes": "upsert"}, "upserts without a key"),
    ({"changes": "weights"}, "weights without a column for them"),
    ({"changes": "weights", "weight": "none"}, "'none' is not in the schema"),
    ({"changes": "weights", "weight": "city"}, "weight column 'city' is a VARCHAR"),
    (
        {"changes": "weights", "weight": "x", "schema": {"x": "double", "y": "bigint"}},
        "weight column 'x' is a DOUBLE",
    ),
    (
        {"changes": "weights", "weight": "x", "schema": {"x": "hugeint", "y": "bigint"}},
        "weight column 'x' is a HUGEINT",
    ),
    ({"changes": "weights", "weight": "id", "schema": {"id": "bigint"}}, "rows of no columns"),
    ({"changes": "weights", "weight": "id", "key": "ID"}, "weight column 'id' has another role"),
    ({"weight": "id"}, "a weight column that nothing is done with"),
    ({**UPSERT, "tombstone": "city"}, "tombstone column 'city' is a VARCHAR"),
    ({**UPSERT, "tombstone": "none"}, "'none' is not in the schema"),
    ({**UPSERT, "key": "gone"}, "tombstone column 'gone' has another role"),
    ({**UPSERT, "changes": "append"}, "a tombstone column without compaction"),
    ({**UPSERT, "changes": "before_after"}, "a tombstone column that nothing is done with"),
    ({**UPSERT, "keep": "1 day"}, "cannot forget its older records"),
    ({**WEIGHTS, "keep_bytes": 10}, "cannot forget its older records"),
    ({**WEIGHTS, "compact": True, "key": "id"}, "only upserts and plain records can be compacted"),
    (
        {"changes": "before_after", "compact": True, "key": "id"},
        "only upserts and plain records can be compacted",
    ),
    ({"changes": "before_after", "key": "none"}, "'none' is not in the schema"),
    ({"changes": "before_after", "request_id": "id"}, "request_id column in rows before and after"),
    ({"changes": "before_after", "schema": {"id": "bigint not null"}}, "cannot promise"),
    (
        {"changes": "before_after", "schema": {"id": "uuid"}},
        "is a UUID, which rows before and after cannot hold",
    ),
    ({"changes": "before_after", "partitions": 2}, "without a key"),
]


@pytest.mark.parametrize(
    ("options", "message"), BAD_DECLARATIONS, ids=[message for _, message in BAD_DECLARATIONS]
)
def test_a_bad_declaration(options: dict[str, Any], message: str) -> None:
    with pytest.raises(bourne.DefinitionError, match=message) as raised:
        app_of(**options)
    assert "log 'people'" in str(raised.value)


def test_a_key_that_cannot_decide_a_partition(tmp_path: Path) -> None:
    app = app_of({"id": "double"}, changes="before_after", key="id", partitions=2)
    with pytest.raises(bourne.DefinitionError, match="cannot decide the partition"):
        bourne.open(app, data=tmp_path)


BAD_RECORDS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (UPSERT, person(None), "NULL in column 'id'"),  # type: ignore[arg-type]
    (UPSERT, person(1, gone="x"), "column 'gone': a value does not fit BOOLEAN"),
    (WEIGHTS, person(1), "column 'w' of log 'people' is missing|NULL in column 'w'"),
    (WEIGHTS, person(1, w=None), "NULL in column 'w'"),
    (WEIGHTS, person(1, w=1.5), "column 'w': a value does not fit INTEGER"),
    ({**WEIGHTS, "schema": {**PEOPLE, "w": "bigint"}}, person(1, w=-(1 << 31)), "the weight 'w' is too large"),
    ({"changes": "before_after"}, {"before": None, "after": None}, "neither before nor after"),
    ({"changes": "before_after"}, person(1), "no column 'id'"),
    ({"changes": "before_after"}, {"after": {"id": 1, "strange": 2}}, "column 'after': a value does not fit"),
    ({"changes": "before_after", "key": "id"}, {"after": person(None)}, "NULL in after.id, the key"),  # type: ignore[arg-type]
    ({"changes": "before_after", "key": "id"}, {"before": {"city": "x"}}, "NULL in before.id, the key"),
    ({"changes": "before_after", "key": "id"}, {"before": person(1), "after": person(2)}, "not the same before and after"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "record", "message"), BAD_RECORDS, ids=[message for *_, message in BAD_RECORDS]
)
def test_a_bad_record_is_refused_with_its_whole_append(
    tmp_path: Path, options: dict[str, Any], record: dict[str, Any], message: str
) -> None:
    good = {
        "upsert": person(1),
        "weights": person(1, w=1),
        "before_after": {"after": person(1), "before": person(1, "bo")},
    }[options["changes"]]
    with bourne.open(app_of(**options), data=tmp_path) as it:
        with pytest.raises(bourne.InputError, match=message) as raised:
            it.append("people", [good, record])
        assert "people" in str(raised.value)
        assert it.log("people").end_offsets() == (0,) and rows(it) == []
        it.append("people", [good])
        assert rows(it) == [(1, "ann", "서울")]


# --- declared anew ---------------------------------------------------------------------------------------


def test_how_a_log_changes_its_mind_is_fixed(tmp_path: Path) -> None:
    declared: list[dict[str, Any]] = [
        {"key": "id", "schema": {**PEOPLE, "gone": "boolean", "w": "integer"}, **options}
        for options in (
            {"changes": "append"}, {"changes": "upsert"}, {"changes": "upsert", "tombstone": "gone"},
            {"changes": "weights", "weight": "w"}, {"changes": "before_after"},
        )
    ]  # fmt: skip
    for number, first in enumerate(declared):
        bourne.open(app_of(**first), data=tmp_path / str(number)).close()
        for second in declared:
            if second is not first:
                with pytest.raises(bourne.DefinitionError, match="declared differently"):
                    bourne.open(app_of(**second), data=tmp_path / str(number))
        bourne.open(app_of(**first), data=tmp_path / str(number)).close()


def test_columns_are_added_and_widened_also_a_tombstone(tmp_path: Path) -> None:
    sql = "SELECT count(*) AS n, sum(id) AS total FROM people"
    with bourne.open(
        app_of({"id": "integer", "이름": "varchar"}, key="id", changes="upsert", view=sql), data=tmp_path
    ) as it:
        it.append("people", [{"id": 1, "이름": "ann"}, {"id": 2, "이름": "bo"}])
        it.catch_up()
    with bourne.open(app_of(view=sql, **UPSERT), data=tmp_path) as it:
        it.append("people", [person(1, gone=True), person(1 << 40)])
        it.catch_up()
        assert rows(it) == [(2, "bo", None), (1 << 40, "ann", "서울")]
        assert rows(it, "SELECT n, total::BIGINT FROM v") == [(2, 2 + (1 << 40))]


def test_rows_before_and_after_widen_but_get_no_columns(tmp_path: Path) -> None:
    def app(**columns: str) -> bourne.App:
        return app_of({"id": "integer", "x": "smallint", **columns}, key="id", changes="before_after")

    with bourne.open(app(), data=tmp_path) as it:
        it.append("people", [{"after": {"id": 1, "x": 2}}, {"after": {"id": 2, "x": 3}}])
    with bourne.open(app(id="bigint", x="double"), data=tmp_path) as it:
        it.append("people", [{"before": {"id": 1}}, {"after": {"id": 1 << 40, "x": 0.5}}])
        assert rows(it) == [(2, 3.0), (1 << 40, 0.5)]
    with pytest.raises(bourne.DefinitionError, match="types in it may widen"):
        bourne.open(app(id="bigint", x="double", y="varchar"), data=tmp_path)


def test_a_files_records_of_a_changelog(tmp_path: Path) -> None:
    """What `bourne append` reads: the records, with the columns that only the log has."""
    path = tmp_path / "changes.jsonl"
    path.write_text(
        '{"before": null, "after": {"id": 1, "이름": "ann"}}\n{"before": {"id": 1}, "after": null}\n'
    )
    with bourne.open(app_of(changes="before_after", key="id"), data=tmp_path / "data") as it:
        info = it.log("people").info
        for batch in read_file(str(path), "jsonl", info.schema, log=info.name):
            it.append("people", batch.table)
        assert rows(it) == [] and it.log("people").end_offsets() == (2,)
