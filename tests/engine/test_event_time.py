"""The law of event time: whatever the order of arrival within the lateness, the cut, the partitions, the restarts.

The final result is DuckDB's over the same rows, where windows are written in plain SQL, by joining records with a list of
windows. On the way, rows of `EMIT FINAL` are exactly those whose windows have ended by the watermark.

    BOURNE_LONG=1 pytest tests/engine/test_event_time.py
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import bourne
from bourne.duck import cursor
from bourne.engine import runner
from bourne.engine.operators import forgetting
from bourne.testing import SimulatedClock

_LONG = bool(os.environ.get("BOURNE_LONG"))
_SETTINGS = settings(
    max_examples=int(os.environ.get("BOURNE_EXAMPLES", "2000" if _LONG else "20")),
    derandomize=not _LONG,
    deadline=None,
    print_blob=True,
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)

EPOCH = datetime(2024, 3, 9)  # the clocks of New York change on the day after
SCHEMA = {"k": "integer", "v": "integer", "ts": "timestamp"}
LATENESS_S = 40


@dataclass(frozen=True)
class Case:
    """A view, and what it means over a table `t` with the records, and one `windows` of (s, e) that cover them."""

    view: str
    plain: str
    size_s: int = 60
    slide_s: int = 60
    is_closed_at_end: bool = True  # a row is complete when the watermark comes to its window_end
    is_whole: bool = True  # a record that is late for one of the reads is in none


def tumble(size: int = 60) -> str:
    return f"TUMBLE(t, ts, INTERVAL {size} SECONDS)"


JOINED = "t JOIN windows ON t.ts >= s AND t.ts < e"
SESSIONS = (
    "SELECT *, sum(is_new) OVER (PARTITION BY k ORDER BY ts) AS number FROM (SELECT *, "
    "CASE WHEN ts - lag(ts) OVER (PARTITION BY k ORDER BY ts) < INTERVAL 15 SECONDS THEN 0 ELSE 1 END AS is_new FROM t)"
)
CASES = {
    "count": Case(
        f"SELECT k, window_start, window_end, count(*) AS n, sum(v) AS total, min(v) AS least, max(v) AS most, avg(v) AS mean "
        f"FROM {tumble()} GROUP BY k, window_start, window_end",
        f"SELECT k, s, e, count(*), sum(v), min(v), max(v), avg(v) FROM {JOINED} GROUP BY k, s, e",
    ),
    "distinct values": Case(
        f"SELECT window_end, count(DISTINCT v) AS n, count(DISTINCT k) FILTER (v > 2) AS m FROM {tumble()} GROUP BY window_end",
        f"SELECT e, count(DISTINCT v), count(DISTINCT k) FILTER (v > 2) FROM {JOINED} GROUP BY e",
    ),
    "anew": Case(
        f"SELECT k, window_end, median(v) AS m, list(v ORDER BY v) AS vs FROM {tumble()} GROUP BY ALL",
        f"SELECT k, e, median(v), list(v ORDER BY v) FROM {JOINED} GROUP BY ALL",
    ),
    "hop": Case(
        "SELECT k, window_start, window_end, count(*) AS n FROM HOP(t, ts, INTERVAL 20 SECONDS, INTERVAL 1 MINUTE) GROUP BY ALL",
        f"SELECT k, s, e, count(*) FROM {JOINED} GROUP BY ALL", slide_s=20,
    ),
    "hop, more": Case(
        "SELECT k + 1 AS l, window_end, sum(v) AS total, avg(v) AS mean, min(v) AS least, max(v) AS most, bool_and(v > 1) AS large, "
        "count(*) FILTER (v > 2) AS n, avg(v / 2) AS half, max(k::VARCHAR) AS name "
        "FROM HOP(t, ts, INTERVAL 10 SECONDS, INTERVAL 1 MINUTE, offset => INTERVAL 3 SECONDS) WHERE v <> 5 "
        "GROUP BY k + 1, window_end HAVING count(*) > 1",
        "SELECT k + 1, e + INTERVAL 3 SECONDS, sum(v), avg(v), min(v), max(v), bool_and(v > 1), count(*) FILTER (v > 2), avg(v / 2), "
        "max(k::VARCHAR) FROM t JOIN windows ON t.ts >= s + INTERVAL 3 SECONDS AND t.ts < e + INTERVAL 3 SECONDS WHERE v <> 5 "
        "GROUP BY ALL HAVING count(*) > 1", slide_s=10,
    ),
    "hop of days": Case(
        "SELECT window_end, count(*) AS n FROM HOP(t, ts, INTERVAL 1 DAY, INTERVAL 3 DAYS, timezone => 'America/New_York') GROUP BY 1",
        "SELECT timezone('UTC', timezone('America/New_York', date_trunc('day', timezone('America/New_York', "
        "timezone('UTC', ts))) + to_days(n::INTEGER))) AS e, count(*) FROM t, range(1, 4) AS r(n) GROUP BY e",
    ),
    "windows in two groups": Case(
        "SELECT window_end, k, n, sum(n) OVER (PARTITION BY window_end) AS m FROM (SELECT window_end, k, count(*) AS n "
        "FROM HOP(t, ts, INTERVAL 20 SECONDS, INTERVAL 1 MINUTE) GROUP BY ALL)",
        f"SELECT e, k, n, sum(n) OVER (PARTITION BY e) FROM (SELECT e, k, count(*) AS n FROM {JOINED} GROUP BY ALL)", slide_s=20,
    ),
    "distinct": Case(f"SELECT DISTINCT k, window_end FROM {tumble()}", f"SELECT DISTINCT k, e FROM {JOINED}"),
    "having": Case(
        f"SELECT k, window_end, sum(v) + 1 AS total FROM {tumble()} GROUP BY k, window_end HAVING sum(v) > 3",
        f"SELECT k, e, sum(v) + 1 FROM {JOINED} GROUP BY k, e HAVING sum(v) > 3",
    ),
    "top": Case(
        f"SELECT window_end, k, n FROM (SELECT window_end, k, count(*) AS n FROM {tumble()} GROUP BY ALL) "
        "QUALIFY row_number() OVER (PARTITION BY window_end ORDER BY n DESC, k) <= 2",
        f"SELECT e, k, n FROM (SELECT e, k, count(*) AS n FROM {JOINED} GROUP BY ALL) "
        "QUALIFY row_number() OVER (PARTITION BY e ORDER BY n DESC, k) <= 2",
    ),
    "first rows": Case(
        f"SELECT window_end, k, v, ts FROM {tumble()} QUALIFY row_number() OVER (PARTITION BY window_end ORDER BY v, ts, k) <= 3",
        f"SELECT e, k, v, ts FROM {JOINED} QUALIFY row_number() OVER (PARTITION BY e ORDER BY v, ts, k) <= 3",
    ),
    "ranks": Case(
        f"SELECT window_end, k, v, rank() OVER (PARTITION BY window_end ORDER BY v) AS place FROM {tumble()}",
        f"SELECT e, k, v, rank() OVER (PARTITION BY e ORDER BY v) FROM {JOINED}",
    ),
    "nested": Case(
        f"SELECT window_end, max(n) AS most FROM TUMBLE((SELECT k, window_start, window_end, count(*) AS n FROM {tumble(20)} "
        "GROUP BY ALL), window_start, INTERVAL 1 MINUTE) GROUP BY window_end",
        "SELECT e, max(n) FROM (SELECT e, k, time_bucket(INTERVAL 20 SECONDS, ts) AS part, count(*) AS n "
        f"FROM {JOINED} GROUP BY ALL) GROUP BY e",
    ),
    "two sizes": Case(
        f"SELECT window_end, count(*) AS n FROM {tumble()} GROUP BY window_end UNION ALL "
        f"SELECT window_end, -count(*) FROM {tumble(120)} GROUP BY window_end",
        f"SELECT e, count(*) FROM {JOINED} GROUP BY e UNION ALL SELECT date_add(time_bucket(INTERVAL 120 SECONDS, ts), "
        "INTERVAL 120 SECONDS) AS f, -count(*) FROM t GROUP BY f",
        is_whole=False,
    ),
    "plain sql": Case(
        "SELECT date_trunc('minute', ts) + INTERVAL 1 MINUTE AS window_end, k, sum(v) AS total FROM t GROUP BY ALL",
        f"SELECT e, k, sum(v) FROM {JOINED} GROUP BY ALL",
    ),
    "days": Case(
        "SELECT window_end, count(*) AS n FROM TUMBLE(t, ts, INTERVAL 1 DAY, timezone => 'America/New_York') GROUP BY ALL",
        "SELECT timezone('UTC', timezone('America/New_York', date_trunc('day', timezone('America/New_York', "
        "timezone('UTC', ts))) + INTERVAL 1 DAY)) AS e, count(*) FROM t GROUP BY e",
    ),
    "cumulate": Case(
        "SELECT window_start, window_end, count(*) AS n FROM CUMULATE(t, ts, INTERVAL 20 SECONDS, INTERVAL 1 MINUTE) GROUP BY ALL",
        "SELECT s, e2, count(*) FROM (SELECT s, s + (n * INTERVAL 20 SECONDS) AS e2 FROM windows, range(1, 4) AS r(n)) "
        "JOIN t ON t.ts >= s AND t.ts < e2 GROUP BY ALL",
    ),
    "read twice": Case(
        "WITH c AS (SELECT * FROM TUMBLE(t, ts, INTERVAL 1 MINUTE)) SELECT window_end, count(*) AS n, max(ts) AS latest FROM c "
        "GROUP BY window_end UNION ALL SELECT window_end, -count(*), ts FROM c GROUP BY window_end, ts",
        f"WITH c AS (SELECT * FROM {JOINED}) SELECT e, count(*), max(ts) FROM c GROUP BY e UNION ALL "
        "SELECT e, -count(*), ts FROM c GROUP BY e, ts", is_closed_at_end=False, is_whole=False,
    ),
    "months": Case(
        "SELECT ts + INTERVAL 1 DAY AS window_end, date_trunc('day', ts) + INTERVAL 1 MONTH AS due, count(*) AS n FROM t GROUP BY ALL",
        "SELECT ts + INTERVAL 1 DAY, date_trunc('day', ts) + INTERVAL 1 MONTH, count(*) FROM t GROUP BY ALL", is_closed_at_end=False,
    ),
    "windows of a union": Case(
        "SELECT window_end, count(*) AS n FROM TUMBLE((SELECT k, ts FROM t UNION ALL SELECT k, ts FROM u), ts, INTERVAL 1 MINUTE) "
        "GROUP BY window_end",
        "SELECT e, count(*) FROM (SELECT ts FROM t UNION ALL SELECT ts FROM u) x JOIN windows ON ts >= s AND ts < e GROUP BY e",
    ),
    "a value looked up": Case(
        "SELECT k, v, ts AS window_end, (SELECT max(b.v) FROM u b WHERE b.k = a.k AND b.ts = a.ts) AS w FROM t a",
        "SELECT k, v, ts, (SELECT max(b.v) FROM u b WHERE b.k = a.k AND b.ts = a.ts) FROM t a", is_closed_at_end=False,
    ),
    "interval join": Case(
        "SELECT a.k, a.v, b.v AS w, a.ts AS window_end FROM t a JOIN u b ON a.k = b.k AND b.ts BETWEEN a.ts AND a.ts + INTERVAL 1 MINUTE",
        "SELECT a.k, a.v, b.v, a.ts FROM t a JOIN u b ON a.k = b.k AND b.ts BETWEEN a.ts AND a.ts + INTERVAL 1 MINUTE",
        is_closed_at_end=False,
    ),
    "interval join without a key": Case(
        "SELECT a.k, b.k AS l, a.ts, b.ts AS window_end FROM t a, u b WHERE a.ts > b.ts - INTERVAL 20 SECONDS AND a.ts < b.ts",
        "SELECT a.k, b.k, a.ts, b.ts FROM t a, u b WHERE a.ts > b.ts - INTERVAL 20 SECONDS AND a.ts < b.ts",
        is_closed_at_end=False,
    ),
    "interval left join": Case(
        "SELECT a.k, a.v, b.v AS w, a.ts AS window_end FROM t a LEFT JOIN u b ON a.k = b.k AND b.ts >= a.ts - INTERVAL 30 SECONDS "
        "AND b.ts <= a.ts + INTERVAL 10 SECONDS",
        "SELECT a.k, a.v, b.v, a.ts FROM t a LEFT JOIN u b ON a.k = b.k AND b.ts >= a.ts - INTERVAL 30 SECONDS "
        "AND b.ts <= a.ts + INTERVAL 10 SECONDS", is_closed_at_end=False,
    ),
    "interval anti join": Case(
        "SELECT k, v, ts AS window_end FROM t a WHERE NOT EXISTS (SELECT 1 FROM u b WHERE b.k = a.k AND b.ts BETWEEN a.ts AND "
        "a.ts + INTERVAL 1 MINUTE)",
        "SELECT k, v, ts FROM t a WHERE NOT EXISTS (SELECT 1 FROM u b WHERE b.k = a.k AND b.ts BETWEEN a.ts AND "
        "a.ts + INTERVAL 1 MINUTE)", is_closed_at_end=False,
    ),
    "window join": Case(
        "SELECT x.k, x.window_end, n, m FROM (SELECT k, window_end, count(*) AS n FROM TUMBLE(t, ts, INTERVAL 1 MINUTE) GROUP BY ALL) x "
        "JOIN (SELECT k, window_end, count(*) AS m FROM TUMBLE(u, ts, INTERVAL 1 MINUTE) GROUP BY ALL) y USING (k, window_end)",
        "SELECT x.k, x.e, n, m FROM (SELECT k, e, count(*) AS n FROM t JOIN windows ON t.ts >= s AND t.ts < e GROUP BY ALL) x "
        "JOIN (SELECT k, e, count(*) AS m FROM u JOIN windows ON u.ts >= s AND u.ts < e GROUP BY ALL) y USING (k, e)",
    ),
    "full window join": Case(
        "SELECT k, window_end, n, m FROM (SELECT k, window_end, count(*) AS n FROM TUMBLE(t, ts, INTERVAL 1 MINUTE) GROUP BY ALL) x "
        "FULL JOIN (SELECT k, window_end, count(*) AS m FROM TUMBLE(u, ts, INTERVAL 1 MINUTE) GROUP BY ALL) y USING (k, window_end)",
        "SELECT k, e, n, m FROM (SELECT k, e, count(*) AS n FROM t JOIN windows ON t.ts >= s AND t.ts < e GROUP BY ALL) x "
        "FULL JOIN (SELECT k, e, count(*) AS m FROM u JOIN windows ON u.ts >= s AND u.ts < e GROUP BY ALL) y USING (k, e)",
    ),
    "rows of a window": Case(
        "SELECT a.k, a.v, b.v AS w, a.window_end FROM TUMBLE(t, ts, INTERVAL 1 MINUTE) a JOIN TUMBLE(u, ts, INTERVAL 1 MINUTE) b "
        "ON a.k = b.k AND a.window_end = b.window_end",
        "SELECT a.k, a.v, b.v, e FROM windows JOIN t a ON a.ts >= s AND a.ts < e JOIN u b ON b.ts >= s AND b.ts < e WHERE a.k = b.k",
        is_closed_at_end=False,
    ),
    "windows of a join": Case(
        "SELECT window_end, count(*) AS n, sum(w) AS total FROM TUMBLE((SELECT a.ts, b.v AS w FROM t a JOIN u b ON a.k = b.k AND "
        "b.ts BETWEEN a.ts - INTERVAL 10 SECONDS AND a.ts + INTERVAL 10 SECONDS), ts, INTERVAL 1 MINUTE) GROUP BY window_end",
        "SELECT e, count(*), sum(b.v) FROM t a JOIN u b ON a.k = b.k AND b.ts BETWEEN a.ts - INTERVAL 10 SECONDS AND "
        "a.ts + INTERVAL 10 SECONDS JOIN windows ON a.ts >= s AND a.ts < e GROUP BY e", is_closed_at_end=False,
    ),
    "asof": Case(
        "SELECT a.k, a.v, b.v AS w, a.ts AS window_end FROM t a ASOF JOIN u b ON a.k = b.k AND a.ts >= b.ts",
        "SELECT a.k, a.v, b.v, a.ts FROM t a ASOF JOIN u b ON a.k = b.k AND a.ts >= b.ts", is_closed_at_end=False,
    ),
    "asof left": Case(
        "SELECT a.k, a.v, b.v AS w, a.ts AS window_end FROM t a ASOF LEFT JOIN u b ON a.k = b.k AND a.ts > b.ts",
        "SELECT a.k, a.v, b.v, a.ts FROM t a ASOF LEFT JOIN u b ON a.k = b.k AND a.ts > b.ts", is_closed_at_end=False,
    ),
    "asof, later": Case(
        "SELECT a.k, a.v, b.v AS w, a.ts AS window_end FROM t a ASOF JOIN u b ON a.k = b.k AND a.ts + INTERVAL 1 MINUTE >= b.ts",
        "SELECT a.k, a.v, b.v, a.ts FROM t a ASOF JOIN u b ON a.k = b.k AND a.ts + INTERVAL 1 MINUTE >= b.ts",
        is_closed_at_end=False,
    ),
    "asof, earlier": Case(
        "SELECT a.k, a.v, b.v AS w, a.ts AS window_end FROM t a ASOF LEFT JOIN u b ON a.k = b.k AND a.ts - INTERVAL 1 MINUTE > b.ts",
        "SELECT a.k, a.v, b.v, a.ts FROM t a ASOF LEFT JOIN u b ON a.k = b.k AND a.ts - INTERVAL 1 MINUTE > b.ts",
        is_closed_at_end=False,
    ),
    "windows of asof": Case(
        "SELECT window_end, sum(w) AS total FROM TUMBLE((SELECT a.ts, b.v AS w FROM t a ASOF JOIN u b ON a.k = b.k AND "
        "a.ts >= b.ts + INTERVAL 5 SECONDS), ts, INTERVAL 1 MINUTE) GROUP BY window_end",
        "SELECT e, sum(b.v) FROM t a ASOF JOIN u b ON a.k = b.k AND a.ts >= b.ts + INTERVAL 5 SECONDS "
        "JOIN windows ON a.ts >= s AND a.ts < e GROUP BY e", is_closed_at_end=False,
    ),
    "sessions": Case(
        "SELECT k, window_start, window_end, count(*) AS n FROM SESSION(t, ts, INTERVAL 15 SECONDS PARTITION BY k) GROUP BY ALL",
        f"SELECT k, min(ts), max(ts) + INTERVAL 15 SECONDS, count(*) FROM ({SESSIONS}) GROUP BY k, number",
    ),
    "rows of sessions": Case(
        "SELECT k, v, window_start, window_end FROM SESSION(t, ts, INTERVAL 15 SECONDS, k)",
        f"SELECT k, v, min(ts) OVER (PARTITION BY k, number), max(ts) OVER (PARTITION BY k, number) + INTERVAL 15 SECONDS "
        f"FROM ({SESSIONS})",
    ),
    "sessions of all": Case(
        "SELECT window_end, sum(v) AS total FROM SESSION(t, ts, INTERVAL 15 SECONDS) GROUP BY window_end",
        f"SELECT max(ts) + INTERVAL 15 SECONDS, sum(v) FROM ({SESSIONS.replace('PARTITION BY k', '')}) GROUP BY number",
    ),
}  # fmt: skip
EMITS = {
    "final": "EMIT FINAL",
    "final, late": f"EMIT FINAL LATENESS INTERVAL {LATENESS_S} SECONDS",
    "final, early": "EMIT FINAL EARLY INTERVAL 10 SECONDS",
    "changes": "EMIT CHANGES",
    "changes, closed": "EMIT CHANGES LATENESS INTERVAL 0 SECONDS",
}


@dataclass(frozen=True)
class Arrival:
    """Records in the order in which they come; how many at a time; and where the app is opened again."""

    rows: list[tuple[int, int, int]]
    steps: list[tuple[int, bool]]
    partitions: int
    seed: int


@st.composite
def arrivals(draw: st.DrawFn) -> Arrival:
    """Draw records that come within the lateness behind the latest of them."""
    span = draw(st.sampled_from([100, 400, 30_000, 200_000]))
    rows = draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, span)), max_size=40))
    delays = [draw(st.integers(0, LATENESS_S)) for _ in rows]
    if not draw(st.booleans()):  # one record at a time, so that the nearest one is
        rows = list({row[2]: row for row in rows}.values())
    else:
        rows = [row for row in rows if row[1] <= 3] or rows[:1]  # or none that could be nearest
    order = sorted(range(len(rows)), key=lambda i: rows[i][2] + delays[i])
    steps = draw(st.lists(st.tuples(st.integers(1, 15), st.booleans()), min_size=1, max_size=6))
    return Arrival([rows[i] for i in order], steps, draw(st.integers(1, 3)), 0)


@_SETTINGS
@given(arrival=arrivals(), case=st.sampled_from(list(CASES)), emit=st.sampled_from(list(EMITS)))
def test_any_arrival_gives_the_batch_answer(arrival: Arrival, case: str, emit: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), arrival, CASES[case], EMITS[emit])


def _some(emits: list[str], most: int) -> list[tuple[str, str]]:
    """Return each case with each way to emit; but in the daily run each with so many, in turn, so that all come."""
    most = len(emits) if _LONG else most
    return [(case, emits[(at * most + n) % len(emits)]) for at, case in enumerate(CASES) for n in range(most)]


@pytest.mark.parametrize(("case", "emit"), _some(list(EMITS), 2))
def test_each_case(case: str, emit: str, tmp_path: Path) -> None:
    rows = [(i % 5, i * 7 % 6, i * 11 + (i * 29) % LATENESS_S) for i in range(60)]
    run(tmp_path, Arrival(rows, [(7, False), (9, True), (20, False)], 2, 0), CASES[case], EMITS[emit])


@_SETTINGS
@given(
    arrival=arrivals(), lateness_s=st.sampled_from([0, 3, 15]), case=st.sampled_from(list(CASES)),
    emit=st.sampled_from(["final", "changes, closed"]),
)  # fmt: skip
def test_what_is_late_is_in_no_answer(arrival: Arrival, lateness_s: int, case: str, emit: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run_late(Path(folder), arrival, lateness_s, CASES[case], EMITS[emit])


@pytest.mark.parametrize(("case", "emit"), _some(["final", "changes, closed"], 1))
def test_what_is_late_is_not_in_each_case(case: str, emit: str, tmp_path: Path) -> None:
    rows = [(i % 3, i * 7 % 6, i * 6 + (i * 29) % 60 - 30 * (i % 7 == 3)) for i in range(60)]
    steps = [(7, False), (9, True), (20, False)]
    run_late(tmp_path, Arrival(rows, steps, 1, 0), 10, CASES[case], EMITS[emit])


def run_late(folder: Path, arrival: Arrival, lateness_s: int, case: Case, emit: str) -> None:
    """Compare the answer, and what is late, between two cuts; and with DuckDB's over the rows that are not late."""
    found = []
    whole = Arrival(arrival.rows, [], 1, 0)
    for number, given_cut in enumerate((replace(arrival, partitions=1), whole)):
        app = app_of(case, emit, given_cut.partitions, lateness_s)
        clock = SimulatedClock(1_700_000_000_000_000)
        instance, come = bourne.open(app, data=folder / f"{number}", clock=clock), 0
        try:
            for count, is_restarted in [*given_cut.steps, (len(arrival.rows), False)]:
                append(instance, arrival.rows[come : come + count])
                come += count
                instance.catch_up()
                if is_restarted:
                    instance.close()
                    instance = bourne.open(app, data=folder / f"{number}", clock=clock)
            instance.catch_up(final=True)
            late = instance.query("SELECT input, input_offset, error FROM w_late ORDER BY ALL").fetchall()
            found.append((answer(instance), late))
        finally:
            instance.close()
    assert found[0] == found[1]
    rows, late = found[0]
    if not any("some of its windows" in error or "of its windows" in error for _, _, error in late):
        gone = {(log, offset) for log, offset, _ in late}
        places = {"t": 0, "u": 0}
        kept = []
        for row in arrival.rows:
            log = log_of(row)
            kept += [] if (log, places[log]) in gone else [row]
            places[log] += 1
        if case.is_whole:
            assert rows == batch(case, kept)


def app_of(case: Case, emit: str, partitions: int, lateness_s: int) -> bourne.App:
    app = bourne.App("times")
    for name in ("t", "u"):
        app.log(
            name, schema=SCHEMA, key="k", time="ts", watermark=f"{lateness_s} seconds", partitions=partitions
        )
    app.view("w", f"{case.view} {emit}", grows=True)
    return app


def append(instance: Any, rows: list[tuple[int, int, int]]) -> None:
    for name in ("t", "u"):
        if given := [row for row in rows if log_of(row) == name]:
            instance.append(name, table(given))


def run(folder: Path, arrival: Arrival, case: Case, emit: str) -> None:
    """Append step by step, and compare after each."""
    app = app_of(case, emit, arrival.partitions, LATENESS_S)
    clock = SimulatedClock(1_700_000_000_000_000)
    instance, given_rows = bourne.open(app, data=folder / "data", clock=clock), list[tuple[int, int, int]]()
    try:
        steps = [*arrival.steps, (len(arrival.rows), False)]
        for count, is_restarted in steps:
            rows, given_rows = (
                arrival.rows[len(given_rows) :][:count],
                arrival.rows[: len(given_rows) + count],
            )
            append(instance, rows)
            clock.advance(3_000_000)
            instance.catch_up()
            check(instance, case, emit, given_rows)
            if is_restarted:
                instance.close()
                instance = bourne.open(app, data=folder / "data", clock=clock)
                check(instance, case, emit, given_rows)
        instance.catch_up(final=True)
        assert answer(instance) == batch(case, given_rows)
        if emit != EMITS["changes"]:
            assert instance.query("SELECT count(*) FROM w_late").fetchall() == [(0,)]
            assert instance.query("SELECT count(*) FROM w_errors").fetchall() == [(0,)]
    finally:
        instance.close()


@pytest.fixture(autouse=True)
def _saves_and_forgets_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_CLOSING_SNAPSHOT_ROWS", 1)
    monkeypatch.setattr(forgetting, "_MIN", 0)
    monkeypatch.setattr(forgetting, "_SHARE", 0)


def log_of(row: tuple[int, int, int]) -> str:
    """Return the log that a record goes to: some are of the second one, which most views do not read."""
    return "u" if row[1] > 3 else "t"


def check(instance: Any, case: Case, emit: str, rows: list[tuple[int, int, int]]) -> None:
    """Compare what there is now with what there should be by the watermark."""
    found, expected = answer(instance), batch(case, rows)
    if emit.startswith("EMIT CHANGES"):
        assert found == expected
        return
    watermark_us = instance.status().views[0].watermark_us
    names = instance.query("SELECT * FROM w").columns
    at = names.index("window_end")
    ended = [
        row for row in expected
        if watermark_us is not None and (row[at] - datetime(1970, 1, 1)) // timedelta(microseconds=1) <= watermark_us
    ]  # fmt: skip
    if not case.is_closed_at_end:
        assert all(row in expected for row in found) or emit == EMITS["final, early"]
    elif emit in (EMITS["final"], EMITS["final, late"]):
        assert found == ended
    else:
        assert all(row in found for row in ended)


def answer(instance: Any) -> list[tuple[Any, ...]]:
    return sorted(instance.query("SELECT * FROM w").fetchall(), key=repr)


def table(rows: list[tuple[int, int, int]]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    times = [EPOCH + timedelta(seconds=second) for second in columns[2]]
    return pa.table({"k": pa.array(columns[0], pa.int32()), "v": pa.array(columns[1], pa.int32()),
                     "ts": pa.array(times, pa.timestamp("us"))})  # fmt: skip


def batch(case: Case, rows: list[tuple[int, int, int]]) -> list[tuple[Any, ...]]:
    """Return DuckDB's answer, windows in plain SQL."""
    connection = cursor()
    for name in ("t", "u"):
        connection.register("given", table([row for row in rows if log_of(row) == name]))
        connection.execute(f"CREATE TEMP TABLE {name} AS FROM given")
    connection.execute(
        f"""CREATE TEMP TABLE windows AS SELECT s, s + INTERVAL {case.size_s} SECONDS AS e
        FROM (SELECT DISTINCT unnest(generate_series(date_trunc('hour', ts) - INTERVAL 1 HOUR,
            date_trunc('hour', ts) + INTERVAL 2 HOURS, INTERVAL {case.slide_s} SECONDS)) AS s FROM (FROM t UNION ALL FROM u))"""
    )
    return sorted(connection.execute(case.plain).fetchall(), key=repr)
