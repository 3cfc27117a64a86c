"""The suite that every log has to pass: ours does, and one that breaks a promise is found out by the check for it."""

from __future__ import annotations

import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bourne
from bourne.log.catalog import LogInfo, read_log_info, write_log_info
from bourne.log.embedded import EmbeddedLog
from bourne.log.protocol import Appended, Batch
from bourne.ports import OsFiles, SystemClock
from bourne.testing import LOG_CHECKS, SimulatedClock, check_log


def maker(folder: Path, clock: Any = None) -> Callable[[LogInfo], EmbeddedLog]:
    """Return what opens the logs in a folder."""
    files = OsFiles()

    def make(info: LogInfo) -> EmbeddedLog:
        found = read_log_info(folder / info.name) or write_log_info(folder / info.name, info, files)
        return EmbeddedLog(folder / info.name, found, files=files, clock=clock or SystemClock())

    return make


@pytest.mark.parametrize("check", LOG_CHECKS)
def test_the_embedded_log_keeps_every_promise(tmp_path, check):
    check_log(maker(tmp_path), only=[check])


def test_a_clock_that_stands_still_is_no_excuse(tmp_path):
    check_log(maker(tmp_path, SimulatedClock(1_700_000_000_000_000)), only=["time_bounds"])


# --- logs that break a promise -------------------------------------------------------------------------


class Broken:
    """A log in all but what a subclass does otherwise."""

    raises: str | None = None

    def __init__(self, log: Any) -> None:
        self.log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self.log, name)

    def rows(self, **bounds: Any) -> Any:
        return self.log.rows(**bounds)


class Altered:
    """Batches, each as a function leaves it."""

    def __init__(self, batches: Any, alter: Callable[[Batch], Batch]) -> None:
        self.batches = batches
        self.alter = alter

    def __getattr__(self, name: str) -> Any:
        return getattr(self.batches, name)

    def __iter__(self) -> Iterator[Batch]:
        return map(self.alter, self.batches)

    async def __aiter__(self) -> AsyncIterator[Batch]:
        async for batch in self.batches:
            yield self.alter(batch)


class HasARecordFromTheStart(Broken):
    def __init__(self, log: Any) -> None:
        super().__init__(log)
        if not any(log.end_offsets()):
            log.append([{"k": "a"}])


class LosesTheLastRow(Broken):
    def append(self, rows: Any, **options: Any) -> Appended:
        found = self.log.append(rows[:-1], **options)
        if len(rows) == 0:
            return found
        last = found.offsets[-1] + 1 if len(found) else self.log.end_offsets()[0]
        return replace(
            found, ranges={0: range(last - len(found), last + 1)},
            offsets=np.append(found.offsets, last), partitions=np.append(found.partitions, 0),
        )  # fmt: skip


class LosesRowsOfALargeAppend(Broken):
    def append(self, rows: Any, **options: Any) -> Appended:
        if len(rows) < 10_000:
            return self.log.append(rows, **options)
        return self.log.append([*rows[:9_000], *rows[:1], *rows[9_001:]], **options)


class Reverses(Broken):
    def append(self, rows: Any, **options: Any) -> Appended:
        return self.log.append(rows[::-1], **options)


class IsOneOffsetOff(Broken):
    def append(self, rows: Any, **options: Any) -> Appended:
        found = self.log.append(rows, **options)
        return replace(found, offsets=found.offsets + 1)


class ServesTwice(Broken):
    def batches(self, **bounds: Any) -> Any:
        return Altered(self.log.batches(**bounds), self.double)

    @staticmethod
    def double(batch: Batch) -> Batch:
        doubled = batch.records.take([0, *range(batch.records.num_rows)])
        return replace(batch, records=doubled, offsets=np.append(batch.offsets[:1], batch.offsets))


class WritesSomethingForNothing(Broken):
    def append(self, rows: Any, **options: Any) -> Appended:
        found = self.log.append(rows, **options)
        if not len(found):
            self.log.append([{"k": "a"}])
        return found


class TakesNoHeedOfTheSignOfZero(Broken):
    def batches(self, **bounds: Any) -> Any:
        return Altered(self.log.batches(**bounds), self.add_zero)

    @staticmethod
    def add_zero(batch: Batch) -> Batch:
        columns = [
            np.add(column, 0.0) if str(column.type) == "double" else column
            for column in batch.records.columns
        ]
        return replace(batch, records=type(batch.records).from_arrays(columns, schema=batch.records.schema))


class HashesKeysInItsOwnWay(Broken):
    """Every partition has its neighbour's number, wherever one looks."""

    def append(self, rows: Any, **options: Any) -> Appended:
        found, count = self.log.append(rows, **options), self.info.partitions
        ranges = {(number + 1) % count: places for number, places in found.ranges.items()}
        return replace(found, ranges=ranges, partitions=(found.partitions + 1) % count)

    def end_offsets(self) -> tuple[int, ...]:
        *others, last = self.log.end_offsets()
        return last, *others

    def batches(self, **bounds: Any) -> Any:
        count = self.info.partitions
        return Altered(
            self.log.batches(**bounds), lambda batch: replace(batch, partition=(batch.partition + 1) % count)
        )


class TakesUntilAsTheLast(Broken):
    def batches(self, *, until: Any = None, **bounds: Any) -> Any:
        ends = self.log.end_offsets()
        if isinstance(until, int):
            until += 1
        elif isinstance(until, tuple):
            until = tuple(min(to + 1, end) for to, end in zip(until, ends, strict=True))
        return self.log.batches(until=until, **bounds)


class TakesLocalTimes(Broken):
    def batches(self, *, start: Any = None, **bounds: Any) -> Any:
        if isinstance(start, datetime):
            start = start.replace(tzinfo=None)
        return self.log.batches(start=start, **bounds)


class StartsAfterTheInstant(Broken):
    def batches(self, *, start: Any = None, **bounds: Any) -> Any:
        if isinstance(start, datetime):
            start = start.replace(microsecond=start.microsecond + 1 if start.microsecond < 999_999 else 0)
        return self.log.batches(start=start, **bounds)


class StartsWhereItCan(Broken):
    def batches(self, *, start: Any = None, partition: Any = None, **bounds: Any) -> Any:
        if isinstance(start, int) and partition in range(self.info.partitions):
            ends = self.log.end_offsets()
            start = min(max(start, 0), ends[partition or 0])
        return self.log.batches(start=start, partition=partition, **bounds)


class WrapsPartitionNumbers(Broken):
    def batches(self, *, partition: Any = None, **bounds: Any) -> Any:
        if partition is not None:
            partition %= self.info.partitions
        return self.log.batches(partition=partition, **bounds)


class StandsBeforeTheLastBatch(Broken):
    def batches(self, **bounds: Any) -> Any:
        class Behind(Altered):
            positions = self.log.first_offsets()

        return Behind(self.log.batches(**bounds), lambda batch: batch)


class LeavesOutARow(Broken):
    def rows(self, **bounds: Any) -> Any:
        rows = self.log.rows(**bounds)
        next(iter(rows), None)
        return rows


class KeepsPartOfWhatItRefuses(Broken):
    def append(self, rows: Any, **options: Any) -> Appended:
        try:
            return self.log.append(rows, **options)
        except bourne.BourneError:
            self.log.append(rows[:1])
            raise


class StoresNullKeys(Broken):
    def append(self, rows: Any, **options: Any) -> Appended:
        if isinstance(rows, list):
            rows = [{**row, "k": row.get("k") or ""} if isinstance(row, dict) else row for row in rows]
        return self.log.append(rows, **options)


class TakesAnyDurability(Broken):
    def append(self, rows: Any, *, durability: Any = None, **options: Any) -> Appended:
        level = durability if durability in ("fsync", "interval", "none") else None
        return self.log.append(rows, durability=level, **options)


class StoresLessDurableRowsLater(Broken):
    def append(self, rows: Any, *, durability: Any = None, **options: Any) -> Appended:
        if durability != "none":
            return self.log.append(rows, durability=durability, **options)
        places = np.arange(len(rows)) + self.log.end_offsets()[0]
        return Appended({0: range(places[0], places[-1] + 1)}, False, np.zeros(len(rows), np.int32), places)


class KnowsNoIds(Broken):
    def append(self, rows: Any, *, request_id: Any = None, **options: Any) -> Appended:
        return self.log.append(rows, **options)


class KnowsItsOwnIdsOnly(Broken):
    def append(self, rows: Any, *, request_id: Any = None, **options: Any) -> Appended:
        own = request_id and f"{id(self)} {request_id}"[-200:]
        return self.log.append(rows, request_id=own, **options)


class DoesNotSayThatItIsARepeat(Broken):
    def append(self, rows: Any, **options: Any) -> Appended:
        return replace(self.log.append(rows, **options), is_repeat=False)


class SaysOtherOffsetsOfARepeat(Broken):
    def append(self, rows: Any, **options: Any) -> Appended:
        found = self.log.append(rows, **options)
        return replace(found, offsets=found.offsets + 1) if found.is_repeat else found


class SeesOnlyItsOwn(Broken):
    """What other handles append later is not seen."""

    def __init__(self, log: Any) -> None:
        super().__init__(log)
        self.seen = log.end_offsets()

    def append(self, rows: Any, **options: Any) -> Appended:
        found = self.log.append(rows, **options)
        self.seen = self.log.end_offsets()
        return found

    def end_offsets(self) -> tuple[int, ...]:
        return self.seen


class DoublesWhatThreadsAppend(Broken):
    def append(self, rows: Any, **options: Any) -> Appended:
        if threading.current_thread() is not threading.main_thread():
            self.log.append(rows, **options)
        return self.log.append(rows, **options)


class CountsWhatIsNotThereYet(Broken):
    def end_offsets(self) -> tuple[int, ...]:
        is_main = threading.current_thread() is threading.main_thread()
        return tuple(end + (0 if is_main else 1) for end in self.log.end_offsets())


class DoesNotFollow(Broken):
    def batches(self, *, follow: bool = False, stop: Any = None, **bounds: Any) -> Any:
        return self.log.batches(**bounds)


class NeverStops(Broken):
    def batches(self, *, stop: Any = None, **bounds: Any) -> Any:
        return self.log.batches(**bounds)


class StopsOnlyAfterARecord(Broken):
    def batches(self, *, stop: Any = None, **bounds: Any) -> Any:
        return self.log.batches(stop=stop if any(self.log.end_offsets()) else None, **bounds)


class FollowsPastUntil(Broken):
    def batches(self, *, follow: bool = False, until: Any = None, **bounds: Any) -> Any:
        return self.log.batches(follow=follow, until=None if follow else until, **bounds)


class CannotBeClosedWhileFollowing(Broken):
    def batches(self, **bounds: Any) -> Any:
        class Open(Altered):
            def close(self) -> None:
                if bounds.get("stop") is None or bounds["stop"].is_set():
                    self.batches.close()

        return Open(self.log.batches(**bounds), lambda batch: batch)


class FollowsByForOnly(Broken):
    def batches(self, **bounds: Any) -> Any:
        once = self.log.batches(**bounds | {"follow": False})

        class ByForOnly(Altered):
            def __aiter__(self) -> AsyncIterator[Batch]:
                return aiter(once)

        return ByForOnly(self.log.batches(**bounds), lambda batch: batch)


class ClosesOnce(Broken):
    raises = "Closed"
    is_closed = False

    def close(self) -> None:
        if self.is_closed:
            raise bourne.Closed("it is closed")
        self.is_closed = True
        self.log.close()


class ReadsOnWhenClosed(Broken):
    def close(self) -> None:
        self.log._writers.clear()


BROKEN: list[tuple[type[Broken], str]] = [
    (HasARecordFromTheStart, "empty"),
    (LosesTheLastRow, "append_and_read"),
    (Reverses, "append_and_read"),
    (IsOneOffsetOff, "append_and_read"),
    (ServesTwice, "append_and_read"),
    (WritesSomethingForNothing, "empty_append"),
    (LosesRowsOfALargeAppend, "many_records"),
    (TakesNoHeedOfTheSignOfZero, "types"),
    (HashesKeysInItsOwnWay, "key_partitions"),
    (TakesUntilAsTheLast, "offset_bounds"),
    (TakesLocalTimes, "time_bounds"),
    (StartsAfterTheInstant, "time_bounds"),
    (StartsWhereItCan, "places_refused"),
    (WrapsPartitionNumbers, "places_refused"),
    (StandsBeforeTheLastBatch, "positions"),
    (LeavesOutARow, "rows_one_by_one"),
    (KeepsPartOfWhatItRefuses, "misfits_refused"),
    (StoresNullKeys, "misfits_refused"),
    (TakesAnyDurability, "durability"),
    (StoresLessDurableRowsLater, "durability"),
    (KnowsNoIds, "request_ids"),
    (KnowsItsOwnIdsOnly, "request_ids"),
    (DoesNotSayThatItIsARepeat, "request_ids"),
    (SaysOtherOffsetsOfARepeat, "request_ids"),
    (SeesOnlyItsOwn, "two_handles"),
    (DoublesWhatThreadsAppend, "threads"),
    (CountsWhatIsNotThereYet, "reading_while_appending"),
    (DoesNotFollow, "follow"),
    (NeverStops, "follow"),
    (FollowsPastUntil, "follow"),
    (CannotBeClosedWhileFollowing, "follow"),
    (FollowsByForOnly, "follow_async"),
    (StopsOnlyAfterARecord, "stop_before_following"),
    (ClosesOnce, "close_and_reopen"),
    (ReadsOnWhenClosed, "closed"),
]


@pytest.mark.parametrize(("broken", "check"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
def test_a_log_that_breaks_a_promise_is_found_out(tmp_path, broken, check):
    make = maker(tmp_path)
    with pytest.raises(AssertionError, match=rf"^check_log: {check}, \d partitions: ") as caught:
        check_log(lambda info: broken(make(info)), only=[check], patience_s=1.0)
    raised = re.search(r": (\w+) is raised", str(caught.value))
    assert (raised and raised[1]) == broken.raises  # found by comparing, not by an accident


def test_a_log_that_forgets_row_ids_is_found_out(tmp_path):
    make = maker(tmp_path)
    with pytest.raises(AssertionError, match="check_log: request_id_column, "):
        check_log(lambda info: make(replace(info, request_id=None)), only=["request_id_column"])


@pytest.mark.parametrize("check", ["two_handles", "request_ids", "request_id_column", "close_and_reopen"])
def test_a_log_that_is_another_one_each_time_is_found_out(tmp_path, check):
    numbers = iter(range(100))

    def make(info: LogInfo) -> EmbeddedLog:
        return maker(tmp_path / str(next(numbers)))(info)

    with pytest.raises(AssertionError, match=f"check_log: {check}, "):
        check_log(make, only=[check])


def test_each_check_is_proved_able_to_fail():
    assert {check for _, check in BROKEN} | {"request_id_column"} == set(LOG_CHECKS)


def test_an_error_is_told_with_the_check_that_met_it(tmp_path):
    def make(info: LogInfo) -> EmbeddedLog:
        raise OSError("no broker")

    with pytest.raises(AssertionError, match="check_log: empty, 1 partitions: OSError is raised: no broker"):
        check_log(make)
    with pytest.raises(ValueError, match="no such checks: nope"):
        check_log(make, only=["nope"])
