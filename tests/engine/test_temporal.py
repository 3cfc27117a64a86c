"""Conditions on the clock: rows come and go as time goes on, without new input, and replay repeats them.

Oracle: DuckDB with the clock written as a constant.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bourne
from bourne.duck import cursor
from bourne.engine import runner
from bourne.engine.operators import forgetting
from bourne.errors import NotMaintainable
from bourne.testing import SimulatedClock

START = datetime(2024, 5, 5, 22, 0)
HOUR_US = 3_600_000_000

VIEWS = {
    "last hour": "SELECT k, ts FROM t WHERE ts > now() - INTERVAL '1 hour'",
    "last hour, both sides": "SELECT k, ts FROM t WHERE ts BETWEEN now() - INTERVAL 1 HOUR AND now()",
    "turned round": "SELECT k, ts FROM t WHERE now() - INTERVAL 1 HOUR < ts AND k < 3",
    "age": "SELECT k, ts FROM t WHERE now() - ts <= INTERVAL 90 MINUTES",
    "to come": "SELECT k, ts FROM t WHERE ts - now() > INTERVAL 10 MINUTES",
    "not yet": "SELECT k, ts FROM t WHERE ts <= current_timestamp",
    "local": "SELECT k, ts FROM t WHERE ts >= localtimestamp - INTERVAL 30 MINUTES",
    "today": "SELECT k, ts FROM t WHERE ts::DATE = current_date",
    "since midnight": "SELECT k, ts FROM t WHERE ts >= current_date",
    "before yesterday": "SELECT k, ts FROM t WHERE ts < current_date - 1",
    "days": "SELECT k, ts FROM t WHERE ts::DATE > current_date - 2 AND ts::DATE <= today() + 1",
    "counted": "SELECT k, count(*) AS n, max(ts) AS latest FROM t WHERE ts > now() - INTERVAL 1 HOUR GROUP BY k",
    "joined": "SELECT a.k, count(*) AS n FROM t a JOIN t b USING (k) WHERE a.ts > now() - INTERVAL 1 HOUR GROUP BY a.k",
    "to the side": "SELECT a.k, b.k AS l FROM t a LEFT JOIN t b ON a.k + 1 = b.k AND b.ts > now()",
    "of others": "SELECT k, (SELECT count(*) FROM t b WHERE b.k = a.k AND b.ts > now() - INTERVAL 1 HOUR) AS n, "
    "(SELECT max(ts) FROM t b WHERE b.k = a.k AND b.ts < now()) AS latest FROM t a",
    "there is one": "SELECT k, ts FROM t a WHERE EXISTS (SELECT 1 FROM t b WHERE b.k = a.k AND b.ts > a.ts AND b.ts > now())",
    "after an aggregate": "SELECT k, max(ts) AS latest FROM t GROUP BY k HAVING max(ts) < now() - INTERVAL 1 HOUR",
}


def answers(sql: str, rows: list[tuple[int, datetime]], now: datetime) -> list[Any]:
    """Return DuckDB's answer at this time."""
    clock = f"TIMESTAMPTZ '{now.isoformat()}+00'"
    plain = re.sub(r"now\(\)|current_timestamp", clock, sql)
    plain = plain.replace("localtimestamp", f"TIMESTAMP '{now.isoformat()}'")
    plain = re.sub(r"current_date|today\(\)", f"DATE '{now.date()}'", plain)
    connection = cursor()
    connection.register("given", table(rows))
    connection.execute("CREATE TEMP TABLE t AS FROM given")
    return sorted(connection.execute(plain).fetchall(), key=repr)


def table(rows: list[tuple[int, datetime]]) -> pa.Table:
    return pa.table(
        {
            "k": pa.array([k for k, _ in rows], pa.int32()),
            "ts": pa.array([ts for _, ts in rows], pa.timestamp("us")),
        }
    )


STEPS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(0, 4), st.integers(-200, 200)), max_size=4),
        st.sampled_from([0, 1, 7, 30, 59, 60, 600]),
        st.booleans(),
    ),
    min_size=1, max_size=6,
)  # fmt: skip


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(steps=STEPS, name=st.sampled_from(list(VIEWS)))
def test_rows_come_and_go(
    steps: list[Any], name: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_CLOSING_SNAPSHOT_ROWS", 1)
    monkeypatch.setattr(forgetting, "_MIN", 0)
    monkeypatch.setattr(forgetting, "_SHARE", 0)
    folder = tmp_path_factory.mktemp("temporal")
    app = bourne.App("clocks")
    app.log("t", schema={"k": "integer", "ts": "timestamp"}, time="ts")
    app.view("v", VIEWS[name], grows=True)
    clock = SimulatedClock((START - datetime(1970, 1, 1)) // timedelta(microseconds=1))
    instance, rows = bourne.open(app, data=folder / "data", clock=clock), list[tuple[int, datetime]]()
    try:
        for offsets, minutes, is_restarted in steps:
            now = datetime.fromtimestamp(clock.now_us() / 1e6, UTC).replace(tzinfo=None)
            new = [(k, now + timedelta(minutes=offset)) for k, offset in offsets]
            if new:
                instance.append("t", table(new))
            rows += new
            clock.advance(minutes * 60_000_000)
            if is_restarted:
                instance.close()
                instance = bourne.open(app, data=folder / "data", clock=clock)
            instance.catch_up()
            now = datetime.fromtimestamp(clock.now_us() / 1e6, UTC).replace(tzinfo=None)
            found = sorted(instance.query("SELECT * FROM v").fetchall(), key=repr)
            assert found == answers(VIEWS[name], rows, now)
    finally:
        instance.close()


def test_a_row_goes_at_its_instant_without_new_input(tmp_path: Path) -> None:
    app = bourne.App("clocks")
    app.log("t", schema={"k": "integer", "ts": "timestamp"})
    app.view("v", VIEWS["last hour"])
    clock = SimulatedClock(10 * HOUR_US)
    with bourne.open(app, data=tmp_path / "data", clock=clock) as instance:
        instance.append("t", table([(1, datetime(1970, 1, 1, 9, 30))]))
        instance.catch_up()
        clock.advance(HOUR_US // 2 - 1)
        instance.catch_up()
        assert len(instance.query("SELECT * FROM v").fetchall()) == 1
        epoch = instance.status().views[0].epoch
        clock.advance(1)
        instance.catch_up()
        assert instance.query("SELECT * FROM v").fetchall() == []
        assert instance.status().views[0].epoch == epoch + 1
        assert instance.status().views[0].state_rows == 0  # what has ended is forgotten
        instance.catch_up()
        assert instance.status().views[0].epoch == epoch + 1  # an epoch only where something changes


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT now() AS x FROM t",
        "SELECT k FROM t WHERE now() > ts OR k = 1",
        "SELECT k FROM t WHERE ts > now() - INTERVAL 1 MONTH",
        "SELECT k FROM t WHERE date_trunc('hour', now()) = ts",
        "SELECT k FROM t WHERE ts > now() - to_minutes(k)",
        "SELECT k FROM t WHERE ts = now()",
        "SELECT a.k FROM t a LEFT JOIN t b ON a.k = b.k AND a.ts > now()",
        "SELECT k FROM t WHERE random() < 0.5 AND ts > now()",
        "SELECT count(*) FILTER (WHERE ts > now()) AS n FROM t",
        "SELECT k FROM t WHERE extract('hour' FROM now()) > k",
    ],
)
def test_other_questions_to_the_clock_are_refused(sql: str, tmp_path: Path) -> None:
    app = bourne.App("clocks")
    app.log("t", schema={"k": "integer", "ts": "timestamp"})
    app.view("v", sql, grows=True)
    with pytest.raises(NotMaintainable) as caught:
        bourne.open(app, data=tmp_path / "data")
    assert caught.value.span is not None
    assert caught.value.hint is not None
