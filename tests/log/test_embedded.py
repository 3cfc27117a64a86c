"""The log as users call it: partitions, request ids, durability, evolution, time travel, following, many processes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import bourne
from bourne.log.verify import verify_log
from bourne.testing import FaultyFiles, SimulatedClock

ROWS = [{"k": f"사용자-{number % 7}", "n": number} for number in range(100)]


def app_of(**options: Any) -> bourne.App:
    app = bourne.App("a")
    app.log("events", schema={"k": "varchar", "n": "bigint"}, key="k", **options)
    return app


def numbers(log: Any, **bounds: Any) -> list[int]:
    with log.batches(**bounds) as batches:
        return [number for batch in batches for number in batch.records.column("n").to_pylist()]


def test_a_log_in_partitions_and_a_view_over_all_of_them(tmp_path: Path) -> None:
    app = app_of(partitions=3)
    app.view("totals", "SELECT k, count(*) AS n, sum(n) AS total FROM events GROUP BY k")
    expected = sorted(
        (f"사용자-{key}", len(part), sum(part)) for key in range(7) if (part := [*range(key, 100, 7)])
    )
    for _ in range(2):
        with bourne.open(app, data=tmp_path) as it:
            if not it.log("events").end_offsets()[0]:
                for start in range(0, 100, 10):
                    appended = it.append("events", ROWS[start : start + 10])
                    assert len(appended) == sum(map(len, appended.ranges.values())) == 10
                    if start == 50:
                        it.catch_up()
            it.catch_up()
            rows = it.query("SELECT k, n, total::BIGINT FROM totals ORDER BY k").fetchall()
            assert rows == expected
            ends = it.log("events").end_offsets()
            assert sum(ends) == 100 and max(ends) < 100
            for number, end in enumerate(ends):
                found = numbers(it.log("events"), partition=number)
                assert len(found) == end and found == sorted(found)  # in order, dense
            assert sorted(numbers(it.log("events"))) == list(range(100))
            assert it.status().views[0].lag_records == 0
            with pytest.raises(bourne.InputError, match="3 partitions"):
                numbers(it.log("events"), start=5)


def test_a_repeated_request_id_writes_nothing_also_after_a_restart(tmp_path: Path) -> None:
    for partitions in (1, 3):
        for _ in range(2):
            with bourne.open(app_of(partitions=partitions), data=tmp_path / str(partitions)) as it:
                appended = it.append("events", ROWS, request_id="요청-1")
                again = it.append("events", ROWS, request_id="요청-1")
                assert again.is_repeat and again.ranges == appended.ranges
                assert (again.offsets == appended.offsets).all()
                assert sum(it.log("events").end_offsets()) == 100
    with bourne.open(app_of(), data=tmp_path / "1") as it:
        with pytest.raises(bourne.InputError, match="another append"):
            it.append("events", ROWS[:5], request_id="요청-1")
        with pytest.raises(bourne.InputError, match="length"):
            it.append("events", ROWS, request_id="")


def test_a_request_id_is_not_taken_for_other_data_of_the_same_size(tmp_path: Path) -> None:
    for partitions in (1, 3):
        for _ in range(2):
            with bourne.open(app_of(partitions=partitions), data=tmp_path / str(partitions)) as it:
                log = it.log("events")
                first = log.append(ROWS[:10], request_id="a", request_hash="x")
                again = log.append(ROWS[:10], request_id="a", request_hash="x")
                assert again.is_repeat and again.ranges == first.ranges
                with pytest.raises(bourne.InputError, match="other data"):
                    log.append(ROWS[:10], request_id="a", request_hash="y")
                assert log.append(ROWS[:10], request_id="a").is_repeat  # nobody says what it was
                log.append(ROWS[:10], request_id="b")
                assert log.append(ROWS[:10], request_id="b", request_hash="y").is_repeat
                assert sum(log.end_offsets()) == 20


def test_rows_with_ids_are_stored_once(tmp_path: Path) -> None:
    for _ in range(2):
        with bourne.open(app_of(request_id="n"), data=tmp_path) as it:
            assert it.append("events", ROWS[:10]).offsets.tolist() == list(range(10))
            appended = it.append("events", ROWS[5:15] + ROWS[12:16])
            assert appended.offsets.tolist() == [*range(5, 15), 12, 13, 14, 15]
            assert numbers(it.log("events")) == list(range(16))


def test_what_each_durability_loses_to_a_power_cut(tmp_path: Path) -> None:
    for level in ("fsync", "interval", "none"):
        for seed in (None, *range(20)):
            files = FaultyFiles()
            folder = tmp_path / f"{level}-{seed}"
            it = bourne.open(app_of(), data=folder, files=files)
            it.append("events", ROWS[:3])
            for row in ROWS[3:8]:
                it.append("events", [row], durability=level)
            assert numbers(it.log("events")) == list(range(8))  # acknowledged is visible
            files.crash(seed)
            with bourne.open(app_of(), data=folder, files=files) as again:
                found = numbers(again.log("events"))
                assert found == list(range(len(found))), (level, seed)
                assert len(found) == 8 if level == "fsync" else len(found) >= 3
                assert again.append("events", [ROWS[99]]).ranges == {0: range(len(found), len(found) + 1)}
            it.close()


def test_a_view_never_reflects_what_a_power_cut_can_take(tmp_path: Path) -> None:
    files = FaultyFiles()
    app = app_of(durability="none")
    app.view("totals", "SELECT k, count(*) AS n FROM events GROUP BY k")
    it = bourne.open(app, data=tmp_path, files=files)
    it.append("events", ROWS)
    it.catch_up()
    files.crash()
    with pytest.raises(bourne.StorageError, match="durable"):  # its files are gone
        it.close()
    with bourne.open(app, data=tmp_path, files=files) as again:
        again.catch_up()
        assert again.query("SELECT sum(n)::BIGINT AS n FROM totals").fetchall() == [(100,)]


def test_a_log_gets_columns_and_wider_types(tmp_path: Path) -> None:
    def declared(**schema: str) -> bourne.App:
        app = bourne.App("a")
        app.log("events", schema=schema)
        app.view("small", "SELECT n FROM events WHERE n < 5")
        return app

    with bourne.open(declared(n="integer"), data=tmp_path) as old:
        old.append("events", [{"n": 1}])
        old.catch_up()
        with bourne.open(declared(n="integer", who="varchar"), data=tmp_path) as new:
            new.append("events", [{"n": 2, "who": "앤"}])
            old.append("events", [{"n": 3}])  # a program that still runs with the old declaration
            assert list(new.log("events").rows()) == [
                {"n": 1, "who": None}, {"n": 2, "who": "앤"}, {"n": 3, "who": None},
            ]  # fmt: skip
            assert list(old.log("events").rows()) == [{"n": 1}, {"n": 2}, {"n": 3}]
    with bourne.open(declared(n="bigint", who="varchar"), data=tmp_path) as wide:
        wide.append("events", [{"n": 1 << 40}])
        wide.catch_up()
        assert wide.query("SELECT n FROM small ORDER BY n").fetchall() == [(1,), (2,), (3,)]
        assert wide.query("SELECT max(n) AS n FROM events").fetchall() == [(1 << 40,)]
    for schema in ({"n": "integer", "who": "varchar"}, {"n": "bigint"}, {"n": "smallint", "who": "varchar"}):
        with pytest.raises(bourne.DefinitionError, match="cannot be declared anew"):
            bourne.open(declared(**schema), data=tmp_path)


def test_reading_from_and_up_to_an_instant_though_the_clock_jumps_back(tmp_path: Path) -> None:
    clock = SimulatedClock(1_700_000_000_000_000)
    with bourne.open(app_of(), data=tmp_path, clock=clock) as it:
        log = it.log("events")
        it.append("events", ROWS[:2])
        clock.advance(10_000_000)
        it.append("events", ROWS[2:4])
        clock.advance(-60_000_000)
        it.append("events", ROWS[4:6])
        at = [datetime.fromtimestamp(1_700_000_000 + seconds, UTC) for seconds in (0, 5, 10, 11)]
        assert [numbers(log, start=instant) for instant in at] == [
            list(range(6)), list(range(2, 6)), list(range(2, 6)), []
        ]  # fmt: skip
        assert [numbers(log, until=instant) for instant in at] == [[], [0, 1], [0, 1], list(range(6))]
        assert numbers(log, start=1, until=5) == [1, 2, 3, 4]
        for place in (-1, 7):
            with pytest.raises(bourne.InputError, match="no offset"):
                numbers(log, start=place)


def test_followers_wake_and_go_on_where_they_stood(tmp_path: Path) -> None:
    with bourne.open(app_of(), data=tmp_path) as it:
        it.append("events", ROWS[:5])
        seen: list[int] = []
        stop, came = threading.Event(), threading.Event()

        def follow() -> None:
            for row in it.log("events").rows(follow=True, stop=stop):
                seen.append(row["n"])
                came.set()

        thread = threading.Thread(target=follow)
        thread.start()
        for row in ROWS[5:20]:
            came.clear()
            it.append("events", [row])
            assert came.wait(20)
        stop.set()
        thread.join(20)
        assert seen == list(range(20))

        async def read() -> list[int]:
            with it.log("events").batches(start=10, until=30, follow=True) as batches:
                found: list[int] = []
                async for batch in batches:
                    found += batch.records.column("n").to_pylist()
                    if len(found) == 10:
                        await asyncio.to_thread(it.append, "events", ROWS[20:40])
                assert batches.positions == (30,)
                return found

        assert asyncio.run(read()) == list(range(10, 30))


APPENDER = """
import sys, bourne
with bourne.open(data=sys.argv[1]) as it:
    for number in range(40):
        offsets = it.append("events", [{"k": sys.argv[2], "n": number}]).offsets
        print(int(offsets[0]), flush=True)
"""


def test_processes_and_threads_append_in_turns(tmp_path: Path) -> None:
    with bourne.open(app_of(), data=tmp_path) as it:
        command = [sys.executable, "-c", APPENDER, str(tmp_path)]
        processes = [
            subprocess.Popen([*command, f"p{number}"], stdout=subprocess.PIPE, text=True)
            for number in range(3)
        ]
        told: dict[tuple[str, int], int] = {}

        def append(name: str) -> None:
            for number in range(40):
                told[name, number] = int(it.append("events", [{"k": name, "n": number}]).offsets[0])

        threads = [threading.Thread(target=append, args=(f"t{number}",)) for number in range(4)]
        for thread in threads:
            thread.start()
        for number, process in enumerate(processes):
            out, _ = process.communicate(timeout=100)
            assert process.returncode == 0
            told.update({(f"p{number}", index): int(line) for index, line in enumerate(out.split())})
        for thread in threads:
            thread.join()
        rows = list(it.log("events").rows())
        assert len(rows) == len(told) == 7 * 40
        assert [told[row["k"], row["n"]] for row in rows] == list(range(7 * 40))


def test_a_forked_process_is_told_to_open_its_own(tmp_path: Path) -> None:
    script = (
        "import os, sys, bourne\n"
        "app = bourne.App('a'); app.log('events', schema={'n': 'bigint'})\n"
        "it = bourne.open(app, data=sys.argv[1])\n"
        "it.append('events', [{'n': 1}])\n"
        "if os.fork() == 0:\n"
        "    try:\n"
        "        it.append('events', [{'n': 2}])\n"
        "    except bourne.Closed:\n"
        "        os._exit(7)\n"
        "    os._exit(0)\n"
        "assert os.waitstatus_to_exitcode(os.wait()[1]) == 7\n"
        "it.append('events', [{'n': 3}])\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, timeout=100)


def test_a_large_append_is_whole_or_absent_after_a_crash(tmp_path: Path) -> None:
    """Several frames, cut at each of their ends: none of them counts without the last."""
    table = pa.table({"k": pa.array(["x"] * 3_000_000), "n": pa.array(range(3_000_000))})
    with bourne.open(app_of(), data=tmp_path) as it:
        it.append("events", ROWS[:1])
        path = tmp_path / "logs" / "events" / "0" / f"{0:020d}.seg"
        before = path.stat().st_size
        it.append("events", table)
    content = path.read_bytes()
    starts = [at for at in range(before, len(content), 64) if content[at : at + 8] == b"BOURNEFR"]
    assert len(starts) > 2
    for cut in (*starts[1:], len(content) - 1):
        path.write_bytes(content[:cut])
        (path.parent / "head").unlink()
        with bourne.open(app_of(), data=tmp_path) as it:
            assert it.log("events").end_offsets() == (1,)


def test_a_schema_that_changes_before_the_first_record_counts(tmp_path: Path) -> None:
    def opened(**schema: str) -> bourne.Instance:
        app = bourne.App("l")
        app.log("l", schema=schema)
        return bourne.open(app, data=tmp_path)

    with opened(k="integer") as old, opened(k="bigint", t="varchar") as new:
        older, newer = old.log("l"), new.log("l")
        older.writer(0)  # begins the first segment
        rows = [{"k": 2**40 + 7, "t": "서울"}, {"k": 5, "t": None}, {"k": 6, "t": "x"}]
        newer.append(rows)
        older.append([{"k": 8}])  # by who knows the older schema only: in the segment's newer one
        assert list(newer.rows()) == [*rows, {"k": 8, "t": None}]
        assert new.tail("l", start=1).to_pylist() == [*rows[1:], {"k": 8, "t": None}]
        assert new.query("SELECT max(k) FROM l").fetchall() == [(2**40 + 7,)]
        with newer.batches(start=2) as batches:
            assert [batch.records.to_pylist() for batch in batches] == [[rows[2]], [{"k": 8, "t": None}]]
        reader = new.reader("l")
        last = reader.last_frame()
        assert last is not None and last.batch.to_pylist() == [{"k": 8, "t": None}]
        reader.seek_time(0)
        assert sum(frame.batch.num_rows for frame in reader.read()) == 4
        reader.close()
        for offset in range(4):
            proved = bourne.check_proof(newer.prove(offset), newer.head())
            assert proved.record.to_pylist() == [[*rows, {"k": 8, "t": None}][offset]]
        verify_log(newer.folder, newer.info)


def test_who_takes_over_a_log_writes_in_the_schema_that_counts(tmp_path: Path) -> None:
    def opened(**schema: str) -> bourne.Instance:
        app = bourne.App("l")
        app.log("l", schema=schema)
        return bourne.open(app, data=tmp_path)

    with opened(k="integer") as old:
        old.log("l").writer(0)
        with opened(k="bigint") as new:
            new.append("l", [{"k": 2**40}])
        again = old.log("l")
        again.append([{"k": 1}])
    with opened(k="bigint") as new:
        new.append("l", [{"k": 2}])
        assert [row["k"] for row in new.log("l").rows()] == [2**40, 1, 2]
        verify_log(new.log("l").folder, new.log("l").info)
