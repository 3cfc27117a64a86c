"""Following a log by `batches`: what it lets go of, and when it ends."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import bourne
from bourne.log import embedded
from bourne.log.wake import WakingEvent
from bourne.testing import SimulatedClock
from waiting import until

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
NOON_US = int(NOON.timestamp()) * 1_000_000


def app_of(partitions: int = 1) -> bourne.App:
    app = bourne.App("a")
    app.log("events", schema={"k": "varchar", "n": "bigint"}, key="k", partitions=partitions)
    return app


def open_files() -> int:
    files = Path("/proc/self/fd")
    if not files.is_dir():
        pytest.skip("counts files as Linux shows them")
    return len(list(files.iterdir()))


def test_a_closed_follower_lets_go_of_its_files_though_somebody_still_has_it(tmp_path: Path) -> None:
    with bourne.open(app_of(), data=tmp_path) as it:
        log = it.log("events")
        log.append([{"k": "a", "n": 1}])
        before = open_files()
        kept = [log.batches(follow=True) for _ in range(3)]
        for batches in kept:
            next(iter(batches))
            batches.close()
            batches.close()
        assert open_files() == before


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("how", ["close", "stop"])
def test_one_that_waits_ends_at_once_and_lets_go_of_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_async: bool, how: str
) -> None:
    monkeypatch.setattr(embedded, "_LOOK_S", 3600.0)
    with bourne.open(app_of(), data=tmp_path) as it:
        log = it.log("events")
        log.append([{"k": "a", "n": 1}])
        before = open_files()
        stop = WakingEvent()
        batches = log.batches(follow=True, stop=stop)

        async def follow() -> None:
            async for _ in batches:
                pass

        def work() -> None:
            if is_async:
                asyncio.run(follow())
            else:
                list(batches)

        thread = threading.Thread(target=work)
        thread.start()
        until(lambda: batches._is_waiting)
        batches.close() if how == "close" else stop.set()
        thread.join(60)
        assert not thread.is_alive()
        batches.close()
        assert open_files() == before


def test_closing_at_any_moment_ends_it_without_an_error(tmp_path: Path) -> None:
    with bourne.open(app_of(), data=tmp_path) as it:
        log = it.log("events")
        log.append([{"k": "a", "n": 1}])
        failures: list[BaseException] = []

        def work(batches: embedded.EmbeddedBatches, is_async: bool) -> None:
            async def follow() -> None:
                async for _ in batches:
                    pass

            try:
                if is_async:
                    asyncio.run(follow())
                else:
                    list(batches)
            except BaseException as error:  # noqa: BLE001  (told below)
                failures.append(error)

        for number in range(60):
            batches = log.batches(follow=True)
            thread = threading.Thread(target=work, args=(batches, number % 2 == 1))
            thread.start()
            for _ in range(number * 20):
                pass
            batches.close()
            thread.join(60)
            assert not thread.is_alive()
        assert not failures


def test_what_is_appended_before_the_instant_to_start_at_is_not_served(tmp_path: Path) -> None:
    clock = SimulatedClock(NOON_US)
    with bourne.open(app_of(), data=tmp_path, clock=clock) as it:
        log = it.log("events")
        with log.batches(start=NOON + timedelta(minutes=5), until=8, follow=True) as batches:
            for number in range(10):
                log.append([{"k": "a", "n": number}])
                clock.advance(60_000_000)
            assert [batch.records["n"].to_pylist() for batch in batches] == [[5], [6], [7]]


def test_frames_without_wanted_records_do_not_end_the_iteration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_READ_BYTES", 1)  # one frame at a time
    clock = SimulatedClock(NOON_US)
    with bourne.open(app_of(), data=tmp_path, clock=clock) as it:
        log = it.log("events")
        batches = log.batches(start=NOON + timedelta(minutes=5))
        for number in range(10):
            log.append([{"k": "a", "n": number}])
            clock.advance(60_000_000)
        assert [batch.first_offset for batch in batches] == [5, 6, 7, 8, 9]
