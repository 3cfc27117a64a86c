"""Event time as users see it: windows that close though nothing more comes for their key, idle partitions, absurd times.

The law itself is in tests/engine/test_event_time.py.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import bourne
from bourne.engine.operators import forgetting
from bourne.errors import DefinitionError, InputError, NotMaintainable, SqlError, ViewFailed
from bourne.testing import SimulatedClock

MINUTE_US = 60_000_000
SCHEMA = {"k": "varchar", "at": "timestamp"}
COUNTED = "SELECT k, window_start, count(*) AS n FROM TUMBLE(t, at, INTERVAL 1 MINUTE) GROUP BY k, window_start EMIT FINAL"
SESSIONS = """SELECT k, window_start, window_end, count(*) AS n
              FROM SESSION(t, at, INTERVAL 10 SECONDS PARTITION BY k) GROUP BY ALL """


class Bench:
    """An app of one log `t` and one view `v`, opened, with a clock that only moves when told to."""

    def __init__(self, folder: Path, sql: str, **log: Any) -> None:
        self.app = bourne.App("times")
        self.app.log("t", schema=SCHEMA, key="k", time="at", **log)
        self.app.view("v", sql, grows=True)
        self.clock = SimulatedClock(1_767_225_600_000_000)
        self._folder = folder / "data"
        self.instance = bourne.open(self.app, data=self._folder, clock=self.clock)

    def append(self, *records: str) -> None:
        """Append records, each `key time`, in one call, and catch up."""
        rows = [dict(zip(("k", "at"), record.split(" ", 1), strict=True)) for record in records]
        self.instance.append(
            "t", [{"k": row["k"], "at": None if row["at"] == "-" else row["at"]} for row in rows]
        )
        self.instance.catch_up()

    def rows(self, sql: str = "SELECT * FROM v ORDER BY ALL") -> list[str]:
        return [" ".join(map(_text, row)) for row in self.instance.query(sql).fetchall()]

    def close(self) -> None:
        self.instance.close()

    def restart(self) -> None:
        self.instance.close()
        self.instance = bourne.open(self.app, data=self._folder, clock=self.clock)

    @property
    def status(self) -> Any:
        return self.instance.status().views[0]


def _text(value: Any) -> str:
    return f"{value:%m-%d %H:%M:%S}" if isinstance(value, datetime) else str(value)


@pytest.fixture
def make(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    def make(sql: str, **log: Any) -> Bench:
        bench = Bench(tmp_path, sql, **log)
        request.addfinalizer(bench.close)
        return bench

    return make


def test_a_key_that_never_comes_again_still_closes(make: Any) -> None:
    bench = make(COUNTED)
    bench.append("ann 2026-01-01 00:00:10")
    bench.append("bo 2026-01-01 00:01:00")
    assert bench.rows() == ["ann 01-01 00:00:00 1"]


def test_a_window_after_a_gap_of_a_year(make: Any) -> None:
    bench = make(COUNTED)
    bench.append("ann 2026-01-01 00:00:10")
    bench.append("ann 2027-01-01 00:00:00")
    assert bench.rows() == ["ann 01-01 00:00:00 1"]
    bench.append("ann 2028-06-01 00:00:00")
    assert len(bench.rows()) == 2
    assert bench.status.state_rows == 1  # no state for the windows between


def test_a_late_record_joins_three_sessions_into_one(make: Any) -> None:
    bench = make(SESSIONS + "EMIT CHANGES LATENESS INTERVAL 1 MINUTE")
    bench.append(
        "ann 2026-01-01 00:00:00",
        "ann 2026-01-01 00:00:12",
        "ann 2026-01-01 00:00:30",
        "bo 2026-01-01 00:00:20",
    )
    assert bench.rows() == [
        "ann 01-01 00:00:00 01-01 00:00:10 1", "ann 01-01 00:00:12 01-01 00:00:22 1",
        "ann 01-01 00:00:30 01-01 00:00:40 1", "bo 01-01 00:00:20 01-01 00:00:30 1",
    ]  # fmt: skip
    bench.restart()
    bench.append("ann 2026-01-01 00:00:21")
    assert bench.rows()[:2] == ["ann 01-01 00:00:00 01-01 00:00:10 1", "ann 01-01 00:00:12 01-01 00:00:40 3"]
    bench.append("ann 2026-01-01 00:00:06")
    assert bench.rows() == ["ann 01-01 00:00:00 01-01 00:00:40 5", "bo 01-01 00:00:20 01-01 00:00:30 1"]


def test_a_session_is_not_closed_before_a_record_that_may_still_come(make: Any) -> None:
    bench = make(SESSIONS + "EMIT FINAL", watermark="1 minute")
    bench.append("ann 2026-01-01 00:00:00", "ann 2026-01-01 00:01:05")
    assert bench.rows() == []
    bench.append("ann 2026-01-01 00:00:09")
    bench.append("ann 2026-01-01 00:01:19")
    assert bench.rows() == ["ann 01-01 00:00:00 01-01 00:00:19 2"]


def test_a_partition_that_is_empty_for_ever_holds_back_unless_it_may_be_idle(make: Any) -> None:
    bench = make(COUNTED, partitions=2)
    bench.append("a 2026-01-01 00:00:00", "a 2026-01-01 00:05:00")
    assert bench.rows() == []
    assert bench.status.watermark_us is None
    (mark,) = bench.status.watermarks
    assert sorted(mark.partitions, key=str) == [1_767_225_900_000_000, None]  # which says who holds it back


def test_idle_partitions_do_not_hold_others_back(make: Any) -> None:
    bench = make(COUNTED, partitions=2, idle="1 minute")
    bench.append("a 2026-01-01 00:00:00", "a 2026-01-01 00:05:00")
    assert bench.rows() == []
    bench.clock.advance(MINUTE_US - 1)
    bench.instance.catch_up()
    assert bench.rows() == []
    bench.append("a 2026-01-01 00:06:00")
    bench.clock.advance(1)  # only the other partition is idle now
    bench.instance.catch_up()
    assert bench.rows() == ["a 01-01 00:00:00 1", "a 01-01 00:05:00 1"]
    epoch = bench.status.epoch
    bench.instance.catch_up()
    assert bench.status.epoch == epoch
    bench.restart()
    other = next(k for k in "bcdefgh" if _partition(k) != _partition("a"))
    bench.append(f"{other} 2026-01-01 00:05:30", f"{other} 2026-01-01 00:06:01")
    assert bench.rows("SELECT error FROM v_late")[0].startswith("late")
    bench.append("a 2026-01-01 00:07:00")
    assert len(bench.rows()) == 2  # the other one holds back again
    bench.append(f"{other} 2026-01-01 00:07:00")
    assert bench.rows()[2:] == ["a 01-01 00:06:00 1", f"{other} 01-01 00:06:00 1"]


def _partition(key: str) -> int:
    import pyarrow as pa  # noqa: PLC0415

    from bourne.log.partition import split  # noqa: PLC0415

    table = pa.table({"k": [key]})
    return next(number for number, _, _ in split(table, "k", 2, keys=table.column("k")))


def test_records_may_say_the_watermark_themselves(make: Any) -> None:
    bench = make(COUNTED, punctuation="CASE WHEN k = 'mark' THEN at END")
    bench.append("ann 2026-01-01 00:00:10", "ann 2026-01-01 00:03:10")
    assert bench.rows() == []
    bench.append("ann 2026-01-01 00:00:20", "mark 2026-01-01 00:02:00")
    assert bench.rows() == ["ann 01-01 00:00:00 2"]
    bench.append("ann 2026-01-01 00:01:59")
    assert bench.status.late_records == 1


@pytest.mark.parametrize("time", ["-", "0001-01-01 00:00:00", "9999-12-31 00:00:00", "2900-01-01 00:00:00"])
def test_a_time_that_is_none_does_not_move_the_watermark(make: Any, time: str) -> None:
    bench = make(COUNTED)
    bench.append("ann 2026-01-01 00:00:10", f"bo {time}", "ann 2026-01-01 00:00:20")
    assert bench.rows() == []
    bench.append("ann 2026-01-01 00:01:20")
    bench.restart()
    assert bench.rows() == ["ann 01-01 00:00:00 2"]
    assert bench.rows("SELECT input_offset, error FROM v_errors") == [
        "1 its time, at, is none: NULL, or not from the year 1000 to 2899"
    ]
    assert (bench.status.failed_records, bench.status.late_records) == (1, 0)


HOPS = """SELECT k, window_start, count(*) AS n FROM HOP(t, at, INTERVAL 1 MINUTE, INTERVAL 10 MINUTES)
          GROUP BY k, window_start EMIT FINAL"""


@pytest.mark.parametrize("sql", [COUNTED, HOPS, SESSIONS + "EMIT FINAL"])
def test_which_records_are_late_does_not_depend_on_the_cut(tmp_path: Path, sql: str) -> None:
    records = [f"{'ab'[i % 2]} 2026-01-01 00:{(i * 37) % 60:02}:00" for i in range(60)]
    answers = []
    for number, size in enumerate((1, 7, 60)):
        bench = Bench(tmp_path / str(number), sql, watermark="5 minutes", partitions=2)
        for start in range(0, len(records), size):
            bench.append(*records[start : start + size])
        bench.instance.catch_up(final=True)
        answers.append((bench.rows(), bench.rows("SELECT input_offset, error FROM v_late ORDER BY ALL")))
        bench.instance.close()
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][1]


def test_nothing_follows_the_end(make: Any) -> None:
    bench = make(COUNTED, watermark="1 hour")
    bench.append("ann 2026-01-01 00:00:10")
    bench.instance.catch_up(final=True)
    assert bench.rows() == ["ann 01-01 00:00:00 1"]
    assert bench.status.is_complete
    bench.restart()
    bench.append("ann 2026-01-01 05:00:00")
    assert bench.rows() == ["ann 01-01 00:00:00 1"]
    assert bench.status.late_records == 1
    assert "have ended" in bench.rows("SELECT error FROM v_late")[0]


def test_early_rows_come_by_the_clock(make: Any) -> None:
    bench = make(COUNTED + " EARLY INTERVAL 10 SECONDS")
    bench.append("ann 2026-01-01 00:00:10")
    assert bench.rows() == []
    bench.clock.advance(10_000_000)
    bench.instance.catch_up()
    assert bench.rows() == ["ann 01-01 00:00:00 1"]
    bench.append("ann 2026-01-01 00:00:11")
    assert bench.rows() == ["ann 01-01 00:00:00 1"]
    bench.restart()
    bench.clock.advance(10_000_000)
    bench.instance.catch_up()
    assert bench.rows() == ["ann 01-01 00:00:00 2"]


def test_what_is_closed_is_forgotten(make: Any) -> None:
    bench = make(COUNTED)
    for hour in range(20):
        rows = [{"k": f"k{i % 50}", "at": datetime(2026, 1, 1, hour, i // 50, i % 50)} for i in range(3000)]
        bench.instance.append("t", rows)
        bench.instance.catch_up()
        assert bench.status.state_rows <= 50
    assert bench.status.state_bytes < 2_000_000


@pytest.mark.parametrize(
    ("declare", "error", "message"),
    [
        ({"time": "k"}, DefinitionError, "the time column 'k' is a VARCHAR"),
        ({"watermark": "1 second"}, DefinitionError, "a watermark without a time"),
        ({"idle": "1 second"}, DefinitionError, "idle without a time"),
        ({"time": "at", "idle": "0 seconds"}, DefinitionError, "an age of nothing"),
        ({"time": "at", "punctuation": "at", "watermark": "1 second"}, DefinitionError, "said twice"),
        ({"time": "at", "punctuation": " "}, DefinitionError, "an empty punctuation"),
        ({"seen": "k"}, DefinitionError, "seen is no mapping"),
    ],
)
def test_bad_logs(declare: dict[str, str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        bourne.App("times").log("t", schema=SCHEMA, **declare)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sql", "error", "message"),
    [
        ("SELECT k, count(*) AS n FROM t GROUP BY k EMIT FINAL", NotMaintainable, "EMIT FINAL of rows that are never complete"),
        ("SELECT count(*) AS n FROM t EMIT FINAL", NotMaintainable, "EMIT FINAL of rows that are never complete"),
        ("SELECT a.k FROM t a LEFT JOIN t b ON a.k = b.k EMIT FINAL", NotMaintainable, "never complete"),
        ("SELECT k FROM t EMIT FINAL LATENESS INTERVAL 1 MONTH", SqlError, "LATENESS is a number of months"),
        ("SELECT k FROM t EMIT FINAL LATENESS INTERVAL '-1 hour'", SqlError, "LATENESS is below zero"),
        ("SELECT k FROM t EMIT FINAL EARLY INTERVAL '0 hours'", SqlError, "EARLY is not above zero"),
        ("SELECT k FROM t EMIT FINAL EARLY k", SqlError, "EARLY is not a constant interval"),
        ("SELECT k FROM t EMIT CHANGES EARLY INTERVAL 1 HOUR", SqlError, "EMIT CHANGES is never early"),
        ("SELECT k FROM t EMIT FINALLY", SqlError, "EMIT is not understood here"),
        ("SELECT k FROM t GROUP BY k EMIT", SqlError, "EMIT is not understood here"),
        ("SELECT k FROM (SELECT k FROM t EMIT FINAL)", SqlError, "EMIT is not understood here"),
        ("FROM TUMBLE(TUMBLE(t, at, INTERVAL 1 HOUR), at, INTERVAL 1 HOUR)", SqlError, "of a log, a view or a subquery"),
        ("FROM TUMBLE(t, at + INTERVAL 1 HOUR, INTERVAL 1 HOUR)", SqlError, "a column is expected"),
        ("FROM TUMBLE(t, t.at, INTERVAL 1 HOUR)", SqlError, "a column is expected"),
        ("FROM SESSION(t, at, INTERVAL 1 HOUR PARTITON BY k)", SqlError, "cannot be read from 'PARTITON' on"),
        ("FROM SESSION(t, at, INTERVAL 1 HOUR PARTITION BY)", SqlError, "cannot be read from 'PARTITION' on"),
        ("FROM SESSION(t, at, INTERVAL 1 HOUR PARTITION BY k || 'x')", SqlError, "a column is expected"),
        ("SELECT k FROM t EMIT FINAL TWICE", SqlError, "EMIT cannot be read from 'TWICE' on"),
        ("SELECT k FROM t EMIT FINAL LATENESS INTERVAL 1 HOUR LATENESS INTERVAL 1 HOUR", SqlError, "LATENESS is there twice"),
    ],
)  # fmt: skip
def test_bad_views(tmp_path: Path, sql: str, error: type[Exception], message: str) -> None:
    app = bourne.App("times")
    app.log("t", schema=SCHEMA, time="at")
    app.view("v", sql, grows=True)
    with pytest.raises(error, match=message) as caught:
        bourne.open(app, data=tmp_path / "data")
    assert isinstance(caught.value, SqlError)
    assert caught.value.span is not None
    assert caught.value.hint is not None


def test_names_of_side_logs_are_kept_free(tmp_path: Path) -> None:
    app = bourne.App("times")
    app.log("t", schema=SCHEMA, time="at")
    app.log("v_late", schema=SCHEMA)
    app.view("v", COUNTED)
    with pytest.raises(DefinitionError, match="view 'v' needs a log 'v_late', but that name is taken"):
        bourne.open(app, data=tmp_path / "data")


def test_windows_of_a_final_view(tmp_path: Path) -> None:
    app = bourne.App("times")
    app.log("t", schema=SCHEMA, time="at")
    app.view(
        "minutes",
        COUNTED.replace("window_start,", "window_start, window_end,").replace(
            "k, window_start EMIT", "k, window_start, window_end EMIT"
        ),
    )
    app.view(
        "hours",
        "SELECT window_start, sum(n) AS n FROM TUMBLE(minutes, window_start, INTERVAL 1 HOUR) GROUP BY window_start EMIT FINAL",
    )
    with bourne.open(app, data=tmp_path / "data") as instance:
        instance.append("t", [{"k": "a", "at": f"2026-01-01 0{i // 60}:{i % 60:02}:30"} for i in range(130)])
        instance.catch_up()
        assert instance.query("SELECT n FROM hours ORDER BY window_start").fetchall() == [(60,), (60,)]
        instance.catch_up(final=True)
        assert instance.query("SELECT n FROM hours ORDER BY window_start").fetchall() == [(60,), (60,), (10,)]


ARRIVALS = "SELECT k, window_end, count(*) AS n FROM {} GROUP BY k, window_end EMIT FINAL"


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        ("TUMBLE(t, now(), INTERVAL 1 MINUTE)", ["a 01-01 00:01:00 2", "a 01-01 00:02:00 1"]),
        ("HOP(t, now(), INTERVAL 1 MINUTE, INTERVAL 2 MINUTES)",
         ["a 01-01 00:01:00 2", "a 01-01 00:02:00 3", "a 01-01 00:03:00 1"]),
        ("TUMBLE(t, NOW ( ), INTERVAL 1 DAY, timezone => 'Asia/Seoul')", ["a 01-01 15:00:00 3"]),
    ],
)  # fmt: skip
def test_windows_by_the_time_of_arrival(make: Any, windows: str, expected: list[str]) -> None:
    bench = make(ARRIVALS.format(windows))
    bench.append("a 2020-01-01 00:00:00")
    bench.clock.advance(50_000_000)
    bench.append("a 2019-01-01 00:00:00")  # whatever its own time is
    bench.restart()
    bench.clock.advance(20_000_000)
    bench.append("a 2020-06-01 00:00:00")
    bench.clock.advance(2 * 24 * 60 * MINUTE_US)
    bench.instance.catch_up()
    assert bench.rows() == expected
    epoch = bench.status.epoch
    bench.restart()
    bench.instance.catch_up()
    assert (bench.rows(), bench.status.epoch, bench.status.late_records) == (expected, epoch, 0)


@pytest.mark.parametrize(
    "windows",
    ["TUMBLE((SELECT k FROM t), now(), INTERVAL 1 MINUTE)", "TUMBLE(u, now(), INTERVAL 1 MINUTE)"],
)
def test_what_does_not_arrive(tmp_path: Path, windows: str) -> None:
    app = bourne.App("times")
    app.log("t", schema=SCHEMA)
    app.log("u", schema=SCHEMA, key="k", changes="upsert")
    app.view("v", ARRIVALS.format(windows), grows=True)
    with pytest.raises(NotMaintainable, match="by the time of arrival") as caught:
        bourne.open(app, data=tmp_path / "data")
    assert caught.value.span is not None


def two_logs(folder: Path, sql: str, **log: Any) -> Any:
    """Open an app of two logs, an upsert log of names and one view."""
    app = bourne.App("two")
    for name in ("t", "u"):
        app.log(name, schema=SCHEMA, time="at", **log)
    app.log("names", schema={"k": "varchar", "name": "varchar"}, key="k", changes="upsert")
    app.view("v", sql, grows=True)
    return bourne.open(app, data=folder / "data", clock=SimulatedClock(1_767_225_600_000_000))


def test_what_is_looked_up_stays_when_rows_are_forgotten(tmp_path: Path) -> None:
    with two_logs(
        tmp_path,
        "SELECT at, k, (SELECT name FROM names n WHERE n.k = t.k) AS name FROM t EMIT FINAL",
        watermark="1 hour",
    ) as found:
        found.append("names", [{"k": str(n), "name": "x"} for n in range(10)])
        for hour in range(4):
            rows = [
                {"k": str(n % 10), "at": datetime(2026, 1, 1, hour, n // 100, n % 60)} for n in range(5000)
            ]
            found.append("t", rows)
            found.catch_up()
            found.append("names", [{"k": "1", "name": f"y{hour}"}])
        found.catch_up(final=True)
        assert found.query("SELECT count(*) FROM v").fetchall() == [(20_000,)]
        assert found.query("SELECT DISTINCT name FROM v WHERE k = '2'").fetchall() == [("x",)]


def test_a_table_whose_own_rows_come_out_cannot_be_closed_over(tmp_path: Path) -> None:
    for join in (
        "names n LEFT JOIN t ON n.k = t.k",
        "t RIGHT JOIN names n ON n.k = t.k",
        "t FULL JOIN names n ON n.k = t.k",
    ):
        with pytest.raises(NotMaintainable, match="never complete"):
            two_logs(tmp_path, f"SELECT n.name, t.at FROM {join} EMIT FINAL")


def test_a_month_later_is_no_order_of_instants(tmp_path: Path) -> None:
    with pytest.raises(NotMaintainable, match="never complete"):
        two_logs(
            tmp_path, "SELECT at + INTERVAL 1 MONTH AS due, count(*) AS n FROM t GROUP BY due EMIT FINAL"
        )


def test_an_idle_log_does_not_hold_another_one_back(tmp_path: Path) -> None:
    union = "(SELECT at FROM t UNION ALL SELECT at FROM u)"
    sql = f"SELECT window_start, count(*) AS n FROM TUMBLE({union}, at, INTERVAL 1 MINUTE) GROUP BY window_start EMIT FINAL"
    with two_logs(tmp_path, sql, idle="1 minute") as found:
        found.append("u", [{"k": "a", "at": "2026-01-01 00:00:10"}])
        for minute in range(3):
            found.append("t", [{"k": "a", "at": f"2026-01-01 00:0{minute}:10"}])
            found.catch_up()
            found.clock.advance(MINUTE_US)
        found.append("t", [{"k": "a", "at": "2026-01-01 00:03:00"}])
        found.catch_up()
        assert found.query("SELECT n FROM v ORDER BY window_start").fetchall() == [(2,), (1,), (1,)]


@pytest.mark.parametrize("kind", ["timestamp_s", "timestamp_ms", "timestamp_ns", "timestamptz"])
@pytest.mark.parametrize("emit", ["", "EMIT FINAL"])
def test_times_of_every_kind(tmp_path: Path, kind: str, emit: str) -> None:
    app = bourne.App("kinds")
    app.log("t", schema={"k": "varchar", "at": kind}, time="at")
    for name, windows in (
        ("tumble", "TUMBLE(t, at, INTERVAL 1 MINUTE)"),
        ("session", "SESSION(t, at, INTERVAL 1 MINUTE, k)"),
    ):
        app.view(
            name, f"SELECT window_end, count(*) AS n FROM {windows} GROUP BY window_end {emit}", grows=True
        )
    with bourne.open(app, data=tmp_path / "data") as found:
        found.append("t", [{"k": "a", "at": f"2026-01-01 00:0{minute}:00"} for minute in (1, 5)])
        found.catch_up(final=True)
        for name in ("tumble", "session"):
            assert found.query(f"SELECT n FROM {name}").fetchall() == [(1,), (1,)]


def test_an_offset_that_some_months_have_not(tmp_path: Path) -> None:
    with pytest.raises(SqlError, match="an offset of 28 days or more beside months"):
        two_logs(tmp_path, "SELECT * FROM TUMBLE(t, at, INTERVAL 1 MONTH, offset => INTERVAL '30 days')")


@pytest.mark.parametrize(
    ("punctuation", "message"),
    [
        ("k", "the punctuation is no timestamp"),
        ("nope", "the punctuation cannot be read"),
        ("max(at)", "the punctuation is not of one record"),
        ("unnest([at, at])", "the punctuation is not of one record"),
        ("lag(at) OVER ()", "the punctuation"),
        ("now()", "the punctuation cannot be read: now"),
        ("at + random() * INTERVAL 1 DAY", "the punctuation cannot be read: random"),
        ("(SELECT max(at) FROM t)", "the punctuation"),
        ("at); DROP TABLE t; --", "the punctuation cannot be read"),
    ],
)
def test_a_punctuation_is_of_the_record_alone(tmp_path: Path, punctuation: str, message: str) -> None:
    app = bourne.App("times")
    app.log("t", schema=SCHEMA, time="at", punctuation=punctuation)
    with pytest.raises(DefinitionError, match=message):
        bourne.open(app, data=tmp_path / "data")


def test_a_punctuation_that_cannot_be_computed(make: Any) -> None:
    bench = make(COUNTED, punctuation="k::TIMESTAMP")
    with pytest.raises(ViewFailed, match="the punctuation of log 't' cannot be computed") as caught:
        bench.append("2026-01-01 2026-01-01 00:00:00", "ann 2026-01-01 00:00:00")
    assert caught.value.where == "log 't', offset 1"


def test_a_view_above_one_that_changes_says_why_it_is_never_complete(tmp_path: Path) -> None:
    app = bourne.App("times")
    app.log("t", schema=SCHEMA, time="at")
    app.view("changing", "SELECT k, at FROM t")
    app.view("v", COUNTED.replace("TUMBLE(t,", "TUMBLE(changing,"))
    with pytest.raises(NotMaintainable, match="never complete") as caught:
        bourne.open(app, data=tmp_path / "data")
    assert "of changing none is known" in str(caught.value.hint)
    assert "a view ends with EMIT FINAL" in str(caught.value.hint)


def test_only_the_view_appends_to_its_side_logs(make: Any) -> None:
    bench = make(COUNTED)
    bench.append("ann 2026-01-01 00:00:00")
    for log in ("v_late", "v_errors"):
        with pytest.raises(InputError, match="only that view appends to it"):
            bench.instance.append(log, bench.instance.tail(log))


def test_a_run_without_an_end_has_no_final_watermark(make: Any) -> None:
    with pytest.raises(InputError, match="final=True of a run without an end"):
        make(COUNTED).instance.run(final=True)


def test_what_is_held_back_says_until_when(tmp_path: Path) -> None:
    app = bourne.App("times")
    app.log("t", schema=SCHEMA, time="at")
    app.view("v", f"{COUNTED} LATENESS INTERVAL 90 SECONDS")
    with bourne.open(app, data=tmp_path / "data") as it:
        assert (
            "changes come out when the row's window_start is over, corrections for 90 s after it"
            in it.explain("v").text
        )


def test_sessions_of_rows_that_are_taken_back(tmp_path: Path) -> None:
    app = bourne.App("sessions")
    app.log("t", schema={"id": "integer", "k": "varchar", "at": "timestamp", "gone": "boolean"}, key="id",
            changes="upsert", tombstone="gone")  # fmt: skip
    sql = SESSIONS.replace("k, window_start", "k, max(id) AS last, window_start")
    app.view("v", sql, grows=True)
    with bourne.open(app, data=tmp_path / "data") as found:
        for step in range(12):
            rows = [
                {"id": (step * 5 + i * 3) % 11, "k": "ab"[i % 2], "at": datetime(2026, 1, 1, 0, 0, (step * 17 + i * 7) % 60),
                 "gone": (step + i) % 4 == 0}
                for i in range(4)
            ]  # fmt: skip
            found.append("t", rows)
            found.catch_up()
            now = sorted(found.query("SELECT * FROM v").fetchall())
            assert now == sorted(found.query(sql).fetchall())
        assert len(now) > 1


@pytest.mark.parametrize("emit", ["EMIT FINAL", "EMIT CHANGES LATENESS INTERVAL 0 SECONDS"])
def test_a_rate_is_kept_as_long_as_a_purchase_may_be_matched_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, emit: str
) -> None:
    monkeypatch.setattr(forgetting, "_MIN", 0)
    app = bourne.App("times")
    app.log("p", schema={"k": "integer", "at": "timestamp"}, time="at", watermark="0 seconds")
    app.log(
        "r", schema={"k": "integer", "v": "integer", "at": "timestamp"}, time="at", watermark="40 seconds"
    )
    app.view(
        "v",
        "SELECT p.k, p.at AS at, r.v FROM p ASOF JOIN r ON p.k = r.k AND p.at + INTERVAL 1 MINUTE >= r.at "
        + emit,
    )

    def rates(*rows: tuple[int, int, str]) -> None:
        it.append("r", [{"k": k, "v": v, "at": f"2026-01-01 00:0{at}"} for k, v, at in rows])
        it.catch_up()

    with bourne.open(app, data=tmp_path / "data") as it:
        it.append("p", [{"k": 1, "at": "2026-01-01 00:00:00"}])
        rates((1, 1, "0:20"), (1, 2, "1:15"))
        it.append("p", [{"k": 2, "at": "2026-01-01 00:00:40"}])
        rates(*[(3, 0, "1:14")] * 5)  # time goes on to 0:34, and there is enough to forget
        rates((1, 3, "0:50"))
        it.catch_up(final=True)
        assert it.query("SELECT k, v FROM v").fetchall() == [(1, 3)]


class Ticking:
    """A clock that is later each time it is looked at: a view above has a later one than the view that it reads."""

    def __init__(self) -> None:
        self._now_us = 1_767_225_600_000_000

    def now_us(self) -> int:
        self._now_us += 70_000
        return self._now_us


def test_a_view_above_windows_of_arrival_waits_for_their_clock(tmp_path: Path) -> None:
    app = bourne.App("arrivals")
    for name in ("a", "b"):
        app.log(name, schema={"id": "integer"})
    windows = "SELECT window_end, {} AS n FROM TUMBLE({}, now(), INTERVAL 1 SECOND)"
    app.view("low", windows.format("count(*)", "a") + " GROUP BY window_end EMIT FINAL")
    both = f"SELECT window_end, n FROM low UNION ALL {windows.format('0', 'b')}"
    app.view("top", f"SELECT window_end, sum(n) AS n FROM ({both}) GROUP BY window_end EMIT FINAL")
    with bourne.open(app, data=tmp_path / "data", clock=Ticking()) as it:
        for number in range(60):
            for name in ("a", "b"):
                it.append(name, [{"id": number}])
            it.catch_up()
        it.catch_up(final=True)
        found = it.query("SELECT sum(n), count(*), count(DISTINCT window_end) FROM top").fetchall()
        assert found[0][0] == 60
        assert found[0][1] == found[0][2], "a window came out twice"
