"""What a log has acknowledged, written down beside it, to be compared with what it serves.

Law: what a fresh log serves is what its ledger says: the same records, at the same places, in the same order.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any, Final

from bourne.log.protocol import Appended, Batch, Log

Row = dict[str, Any]

# Where one record is in its partition, and what it is.
Entry = tuple[int, Row]

_SHOWN_CHARS: Final = 300


def expect(is_so: bool, text: str) -> None:
    """Raise AssertionError with this text unless it is so; also under `python -O`."""
    if not is_so:
        raise AssertionError(text)


def expect_equal(found: object, expected: object, what: str) -> None:
    """Raise AssertionError, naming both, unless they are equal."""
    expect(found == expected, f"{what}: expected {_shown(expected)}, found {_shown(found)}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}… ({len(text):,} characters)"


# --- reading -------------------------------------------------------------------------------------------


def read(log: Log, **bounds: Any) -> list[Batch]:
    """Return the batches between these bounds, each checked by itself and with the one before it."""
    batches = log.batches(**bounds)
    with closing(batches):
        found = list(batches)
        check_batches(found, log.info.partitions)
        for number, end in _ends(found).items():
            served, acknowledged = end, log.end_offsets()[number]
            expect(
                served <= acknowledged,
                f"partition {number}: records up to offset {served} are served, but only those up to {acknowledged} are "
                "said to be there (end_offsets)",
            )
    return found


def _ends(batches: Iterable[Batch]) -> dict[int, int]:
    return {batch.partition: batch.next_offset for batch in batches}


def check_batches(batches: Iterable[Batch], partitions: int) -> None:
    """Check what each batch says of itself, and that the batches of a partition follow one another without a gap."""
    following: dict[int, int] = {}
    for batch in batches:
        number = batch.partition
        where = f"a batch of partition {number}"
        expect(0 <= number < partitions, f"{where}: there are {partitions} partitions")
        first = following.get(number, batch.first_offset)
        expect_equal(batch.first_offset, first, f"{where}: its first_offset")
        rows = batch.records.num_rows
        expect(rows > 0, f"{where}: it has no records")
        expect_equal(
            batch.next_offset, first + rows, f"{where} with {rows} records from {first}: next_offset"
        )
        expect_equal(batch.offsets.tolist(), list(range(first, first + rows)), f"{where}: its offsets")
        following[number] = batch.next_offset


def entries_of(batches: Iterable[Batch], partitions: int) -> list[list[Entry]]:
    """Return the records of each partition, with their offsets, in the order in which they came."""
    found: list[list[Entry]] = [[] for _ in range(partitions)]
    for batch in batches:
        found[batch.partition] += zip(batch.offsets.tolist(), batch.records.to_pylist(), strict=True)
    return found


# --- the ledger ----------------------------------------------------------------------------------------


class Ledger:
    """The records that a log has acknowledged since it was new."""

    def __init__(self, log: Log) -> None:
        """Start with a log without records."""
        self.firsts = log.first_offsets()
        self._rows: list[list[Row]] = [[] for _ in self.firsts]
        expect_equal(len(self.firsts), log.info.partitions, "first_offsets: how many")
        expect_equal(log.end_offsets(), self.firsts, "a new log: its end_offsets")

    @property
    def ends(self) -> tuple[int, ...]:
        """The offset after the last record of each partition."""
        return tuple(first + len(rows) for first, rows in zip(self.firsts, self._rows, strict=True))

    def append(self, log: Log, rows: Sequence[Row], **options: Any) -> Appended:
        """Append rows to the log, and write down where they are said to be: the next offsets, and no others."""
        appended = log.append(rows, **options)
        self.enter(appended, rows)
        return appended

    def enter(self, appended: Appended, rows: Sequence[Row]) -> None:
        """Write down what an append says that it has done."""
        before = self.ends
        expect(not appended.is_repeat, "an append that is no repeat says that it is one (is_repeat)")
        _check_lengths(appended, len(rows))
        for row, number, offset in zip(
            rows, appended.partitions.tolist(), appended.offsets.tolist(), strict=True
        ):
            expect(0 <= number < len(self._rows), f"a record was put into partition {number}: there is none")
            expect_equal(offset, self.ends[number], f"the offset of the next record of partition {number}")
            self._rows[number].append(row)
        written = {
            number: range(first, end)
            for number, (first, end) in enumerate(zip(before, self.ends, strict=True))
            if first < end
        }
        said = {number: places for number, places in appended.ranges.items() if len(places)}
        expect_equal(said, written, "the ranges that an append says it has written")

    def enter_all(self, told: Iterable[tuple[Appended, Sequence[Row]]]) -> None:
        """Write down what several appends say that were made at the same time: together they fill the next offsets."""
        places: list[tuple[int, int, Row]] = []
        for appended, rows in told:
            _check_lengths(appended, len(rows))
            places += zip(appended.partitions.tolist(), appended.offsets.tolist(), rows, strict=True)
        for number, offset, row in sorted(places, key=lambda place: place[:2]):
            expect_equal(offset, self.ends[number], f"the offset of the next record of partition {number}")
            self._rows[number].append(row)

    def put(self, partition: int, row: Row) -> None:
        """Write down one record, as the next of its partition."""
        self._rows[partition].append(row)

    def check(self, log: Log, what: str = "the log") -> None:
        """Compare with all that the log serves now."""
        expect_equal(log.first_offsets(), self.firsts, f"{what}: first_offsets")
        expect_equal(log.end_offsets(), self.ends, f"{what}: end_offsets")
        self.check_batches(read(log), what=f"{what}, read from the start")

    def check_batches(
        self,
        batches: Iterable[Batch],
        *,
        start: Sequence[int] | None = None,
        until: Sequence[int] | None = None,
        what: str,
    ) -> None:
        """Compare with batches that were read from the offsets `start` to before `until`."""
        found = entries_of(batches, len(self._rows))
        bounds = zip(self.firsts, start or self.firsts, until or self.ends, self._rows, strict=True)
        for number, (first, begin, end, rows) in enumerate(bounds):
            expected = [(offset, rows[offset - first]) for offset in range(begin, max(begin, end))]
            self._compare(found[number], expected, f"{what}: partition {number}")

    @staticmethod
    def _compare(found: list[Entry], expected: list[Entry], where: str) -> None:
        for pair, wanted in zip(found, expected, strict=False):
            expect(
                pair == wanted,
                f"{where}: expected offset {wanted[0]} with {_shown(wanted[1])}, "
                f"found offset {pair[0]} with {_shown(pair[1])}",
            )
        expect_equal(len(found), len(expected), f"{where}: how many records")


def _check_lengths(appended: Appended, rows: int) -> None:
    lengths = len(appended), len(appended.partitions), len(appended.offsets)
    expect_equal(lengths, (rows,) * 3, "an append says where each record is (len, partitions, offsets)")


# --- following -----------------------------------------------------------------------------------------


class Follower:
    """Follows a log on a thread of its own, by `for` or by `async for`."""

    def __init__(self, log: Log, *, is_async: bool, patience_s: float, **bounds: Any) -> None:
        """Start to follow; whatever it is to wait for has to come within `patience_s` seconds."""
        self.stop = threading.Event()
        self.batches = log.batches(follow=True, stop=self.stop, **bounds)
        self._patience_s = patience_s
        self._came: queue.Queue[Batch | BaseException | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, args=(is_async,), name="follower", daemon=True)
        self._thread.start()

    def _run(self, is_async: bool) -> None:
        try:
            if is_async:
                asyncio.run(self._follow())
            else:
                for batch in self.batches:
                    self._came.put(batch)
        except BaseException as error:  # noqa: BLE001  (raised by `take`)
            self._came.put(error)
        else:
            self._came.put(None)

    async def _follow(self) -> None:
        async for batch in self.batches:
            self._came.put(batch)

    def take(self, rows: int) -> list[Batch]:
        """Return the next batches, which have so many records."""
        found: list[Batch] = []
        while (missing := rows - sum(batch.records.num_rows for batch in found)) > 0:
            came = self._next(f"a follower did not get {missing} of {rows} records that are there")
            if came is None:
                raise AssertionError(f"a follower's iteration ended, {missing} of {rows} records early")
            found.append(came)
        return found

    def check_end(self, why: str) -> None:
        """Check that the iteration ends, and brings nothing more."""
        came = self._next(f"a follower's iteration does not end though {why}")
        expect(came is None, f"a follower got records that it should not, {why}: {_shown(came)}")
        self._thread.join(self._patience_s)

    def _next(self, problem: str) -> Batch | None:
        try:
            came = self._came.get(timeout=self._patience_s)
        except queue.Empty:
            raise AssertionError(f"{problem}, within {self._patience_s} s") from None
        if isinstance(came, BaseException):
            raise came
        return came

    def close(self) -> None:
        """End it."""
        self.stop.set()
        self.batches.close()
        self._thread.join(self._patience_s)
