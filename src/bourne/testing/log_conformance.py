"""What every log must do, whatever keeps it: the promises of `bourne.log.protocol`, each as a check with a name.

What the protocol does not promise is not checked: how records are cut into batches, in which order partitions come, when
files are written. A log that passes can take the place of any other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final, TypeVar, get_args

import pyarrow as pa

from bourne.duck import connect
from bourne.errors import BourneError, Closed, InputError, UnknownColumn, ValueMismatch
from bourne.log.catalog import Durability, LogInfo
from bourne.log.partition import partition_of
from bourne.log.protocol import Appended, Log
from bourne.schema import declare_schema
from bourne.testing.ledger import Follower, Ledger, Row, expect, expect_equal, read
from bourne.testing.type_values import VALUES

Make = Callable[[LogInfo], Log]

_COLUMNS: Final = {"k": "varchar not null", "n": "bigint", "text": "varchar"}
_KEYS: Final = ("서울", "부산", "제주", "ann", "bo", "🚲", "", "k7")
_TEXTS: Final = ("", "a", None, "한글 이름", "🚲🚲", 'a "quoted", one\r\n', "\x00", "é" * 100)

# One append larger than what a log may be tempted to treat as one piece.
_MANY_ROWS: Final = 50_000

_THREADS: Final = 4

# So many appends are made until the clock has moved on, to have several times to read from.
_CLOCK_TRIES: Final = 50

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

T = TypeVar("T")


def check_log(
    make: Make,
    *,
    only: Collection[str] | None = None,
    partitions: Sequence[int] = (1, 4),
    patience_s: float = 30.0,
) -> None:
    """Check that the logs that `make` opens keep the promises of `bourne.log.protocol.Log`.

    Args:
        make: opens the log of that name and declaration, and makes it if it is not there. Called again, also after the
            first one was closed, it opens the same log once more: a second handle. The names are the same at each
            call of `check_log`, and nothing may be in these logs: start with an empty folder, a new server, a prefix.
        only: the names of the checks to run, of `LOG_CHECKS`; by default all.
        partitions: each check runs with logs of so many partitions.
        patience_s: how long to wait for what has to come.

    Raises:
        AssertionError: names the check, and what was expected and found.
    """
    unknown = set(only or ()) - set(_CHECKS)
    if unknown:
        raise ValueError(f"no such checks: {', '.join(sorted(unknown))}")
    for name, check in _CHECKS.items():
        if only is None or name in only:
            for count in partitions:
                _run(name, check, _Subject(make, f"{name}_{count}", count, patience_s))


def _run(name: str, check: Callable[[_Subject], None], subject: _Subject) -> None:
    where = f"check_log: {name}, {subject.partitions} partitions"
    try:
        check(subject)
        subject.close()
    except AssertionError as error:
        raise AssertionError(f"{where}: {error}") from error
    except Exception as error:
        raise AssertionError(f"{where}: {type(error).__name__} is raised: {error}") from error
    finally:
        subject.abandon()


@dataclass
class _Subject:
    """The log that one check is about: its declaration, and the handles that were opened."""

    make: Make
    name: str
    partitions: int
    patience_s: float
    _opened: list[Log] = field(default_factory=list)

    def open(self, columns: dict[str, str] | None = None, *, suffix: str = "", **options: Any) -> Log:
        """Open the log, or one more handle to it; another log with another suffix."""
        name = self.name + suffix
        schema = declare_schema(columns or _COLUMNS, where=name)
        log = self.make(LogInfo(name, schema, key="k", partitions=self.partitions, **options))
        self._opened.append(log)
        return log

    def close(self) -> None:
        """Close all handles, also those that are closed: that is fine."""
        while self._opened:
            self._opened.pop().close()

    def abandon(self) -> None:
        """Close what a failed check left open; its failure is what is told."""
        for log in self._opened:
            with suppress(Exception):
                log.close()

    @contextmanager
    def follower(self, log: Log, *, is_async: bool, **bounds: Any) -> Iterator[Follower]:
        """Follow the log for the block."""
        with closing(Follower(log, is_async=is_async, patience_s=self.patience_s, **bounds)) as follower:
            yield follower

    def at_once(self, work: Sequence[Callable[[], T]]) -> list[T]:
        """Do all of it at the same time, each on a thread."""
        together = threading.Barrier(len(work))

        def do(each: Callable[[], T]) -> T:
            together.wait(self.patience_s)
            return each()

        with ThreadPoolExecutor(len(work)) as pool:
            return [future.result() for future in [pool.submit(do, each) for each in work]]


def _rows(start: int, count: int) -> list[Row]:
    """Return rows of which no two are the same, in several scripts, some with NULL."""
    return [
        {"k": _KEYS[number % len(_KEYS)], "n": number, "text": _TEXTS[number // 3 % len(_TEXTS)]}
        for number in range(start, start + count)
    ]


def _refused(
    error: type[BourneError], what: str, call: Callable[..., object], *values: Any, **options: Any
) -> None:
    """Expect that a call raises this error, or a kind of it."""
    try:
        call(*values, **options)
    except error:
        return
    except Exception as other:
        found = f"{type(other).__name__} is raised: {other}"
        raise AssertionError(f"{what}: expected {error.__name__}, but {found}") from other
    raise AssertionError(f"{what}: expected {error.__name__}, but nothing is raised")


_CHECKS: Final[dict[str, Callable[[_Subject], None]]] = {}


def _check(function: Callable[[_Subject], None]) -> Callable[[_Subject], None]:
    _CHECKS[function.__name__.removeprefix("_")] = function
    return function


# --- appending and reading -----------------------------------------------------------------------------


@_check
def _empty(subject: _Subject) -> None:
    """A new log is what was declared, and has no records."""
    log = subject.open()
    for name in ("name", "schema", "key", "partitions", "durability", "request_id"):
        wanted = {"name": subject.name, "key": "k", "partitions": subject.partitions, "durability": "fsync"}
        wanted["schema"] = declare_schema(_COLUMNS, where=subject.name)
        expect_equal(getattr(log.info, name), wanted.get(name), f"info.{name}")
    ledger = Ledger(log)
    ledger.check(log, "a new log")
    expect_equal(read(log, start=ledger.ends), [], "a new log, read from its end")


@_check
def _append_and_read(subject: _Subject) -> None:
    """What was appended is served, once, unchanged, in order, at the offsets that were returned."""
    log = subject.open()
    ledger = Ledger(log)
    at = 0
    for count in (1, 5, 2, 40, 1):
        ledger.append(log, _rows(at, count))
        at += count
        ledger.check(log, f"after {at} records")
    columns = pa.Table.from_pylist(_rows(at, 10), log.info.schema.to_arrow())
    ledger.enter(log.append(columns), columns.to_pylist())
    for again in ("read once", "read again"):
        ledger.check(log, again)


@_check
def _empty_append(subject: _Subject) -> None:
    """An append without records writes nothing."""
    log = subject.open()
    ledger = Ledger(log)
    for rows in ([], _rows(0, 3), [], log.info.schema.to_arrow().empty_table()):
        if isinstance(rows, list):
            ledger.append(log, rows)
        else:
            ledger.enter(log.append(rows), [])
        ledger.check(log, "after an append without records")


@_check
def _many_records(subject: _Subject) -> None:
    """One large append is stored whole and in order."""
    log = subject.open()
    ledger = Ledger(log)
    ledger.append(log, _rows(0, 1))
    rows = _rows(1, _MANY_ROWS)
    ledger.enter_all([(log.append(rows), rows)])
    ledger.check(log)


@_check
def _types(subject: _Subject) -> None:
    """Values of every type come back as they were, NULL among them."""
    named = {f"c{index}": kind for index, kind in enumerate(VALUES)}
    log = subject.open({"k": "varchar not null", **named})
    count = 1 + max(map(len, VALUES.values()))
    table = _table_of_all_types(log.info, count)
    halves = [table.slice(0, 2), table.slice(2)]
    expected: list[list[pa.Table]] = [[] for _ in range(subject.partitions)]
    for half in halves:
        appended = log.append(half)
        for row, number in enumerate(appended.partitions.tolist()):
            expected[number].append(half.slice(row, 1))
    for number, rows in enumerate(expected):
        batches = [batch.records for batch in read(log, partition=number)]
        found = pa.Table.from_batches(batches, table.schema)
        wanted = pa.concat_tables(rows) if rows else table.slice(0, 0)
        expect_equal(found.num_rows, wanted.num_rows, f"partition {number}: how many records")
        for name, kind in {"k": "VARCHAR", **named}.items():
            is_same = _is_same(found.column(name).combine_chunks(), wanted.column(name).combine_chunks())
            shown = f"expected {wanted.column(name)}, found {found.column(name)}"
            expect(is_same, f"partition {number}, values of type {kind}: {shown}")


def _table_of_all_types(info: LogInfo, count: int) -> pa.Table:
    """Return a table in which each value is in a row of its own, NULL beside it, the last row NULL but for the key."""
    columns = []
    with closing(connect()) as database:
        for kind, values in VALUES.items():
            items = ", ".join(
                f"CAST({value} AS {kind})" for value in (*values, *["NULL"] * (count - len(values)))
            )
            columns.append(database.sql(f"SELECT unnest([{items}]) AS x").to_arrow_table().column("x"))
    keys = pa.array([_KEYS[row % len(_KEYS)] for row in range(count)])
    return pa.table([keys, *columns], schema=info.schema.to_arrow())


def _is_same(found: pa.Array, expected: pa.Array) -> bool:
    """Compare values exactly: NaN is NaN, and 0.0 is not -0.0."""
    if found.type != expected.type or found.is_valid() != expected.is_valid():
        return False
    if pa.types.is_floating(found.type):
        return repr(found.to_pylist()) == repr(expected.to_pylist())
    return bool(found.equals(expected))


@_check
def _key_partitions(subject: _Subject) -> None:
    """A record is in the partition that `bourne.log.partition` says for its key; records of a key stay in order."""
    for suffix, kind, keys in (("t", "varchar", _KEYS), ("i", "bigint", (*range(-20, 20), 1 << 62))):
        log = subject.open({"k": f"{kind} not null", "n": "bigint"}, suffix=suffix)
        ledger = Ledger(log)
        for start in range(0, 3 * len(keys), len(keys)):
            ledger.append(log, [{"k": key, "n": start + index} for index, key in enumerate(keys)])
        ledger.check(log)
        batches = read(log)
        for batch in batches:
            wanted = partition_of(batch.records.column("k"), subject.partitions).tolist()
            expect_equal([batch.partition] * len(wanted), wanted, "the partitions of the keys in a batch")
        for number in range(subject.partitions):
            seen = [
                n for batch in batches if batch.partition == number for n in batch.records["n"].to_pylist()
            ]
            expect_equal(seen, sorted(seen), f"partition {number}: records in the order of their appends")


# --- places --------------------------------------------------------------------------------------------


@_check
def _offset_bounds(subject: _Subject) -> None:
    """Reading from and until offsets, of all partitions or of one, returns what is between them."""
    log = subject.open()
    ledger = Ledger(log)
    for start in range(0, 60, 6):
        ledger.append(log, _rows(start, 6))
    firsts, ends = ledger.firsts, ledger.ends
    places = [
        tuple(first + round((end - first) * part) for first, end in zip(firsts, ends, strict=True))
        for part in (0, 0.1, 0.5, 0.9, 1)
    ]
    for at in places:
        for to in (None, *(place for place in places if place >= at)):
            found = read(log, start=at, until=to)
            ledger.check_batches(found, start=at, until=to, what=f"from {at} until {to}")
        ledger.check_batches(read(log, until=at), until=at, what=f"until {at}")
        for number in range(subject.partitions):
            only = tuple(at[number] if each == number else end for each, end in enumerate(ends))
            starts: tuple[Any, Any] = (at[number], (at[number],))
            for start in starts:
                found = read(log, start=start, partition=number)
                ledger.check_batches(found, start=only, what=f"partition {number} from {start}")
            found = read(log, start=at[number], until=at[number], partition=number)
            expect_equal(found, [], f"partition {number} from {at[number]} until there")
    if subject.partitions == 1:
        for offset in range(firsts[0], ends[0] + 1):
            found = read(log, start=offset, until=min(offset + 7, ends[0]))
            until = (min(offset + 7, ends[0]),)
            ledger.check_batches(found, start=(offset,), until=until, what=f"from {offset}, an int")


@_check
def _time_bounds(subject: _Subject) -> None:
    """Reading from and until an instant returns what was appended at it or later, and what was appended before it."""
    log = subject.open()
    ledger = Ledger(log)
    times: list[int] = []
    for number in range(_CLOCK_TRIES):
        ledger.append(log, _rows(3 * number, 3))
        times = sorted({batch.append_time_us for batch in read(log)})
        if number >= 5 and len(times) >= 3:
            break
    second = 1_000_000
    for instant_us in {times[0] - second, times[0], times[len(times) // 2], times[-1], times[-1] + second}:
        starts = list(ledger.ends)
        for batch in reversed(read(log)):
            if batch.append_time_us >= instant_us:
                starts[batch.partition] = batch.first_offset
        utc = _EPOCH + timedelta(microseconds=instant_us)
        for instant in (utc, utc.astimezone(timezone(timedelta(hours=9))), utc.replace(tzinfo=None)):
            found = read(log, start=instant)
            ledger.check_batches(found, start=starts, what=f"from {instant!r}")
            found = read(log, until=instant)
            ledger.check_batches(found, until=starts, what=f"until {instant!r}")
        for number in range(subject.partitions):
            only = [start if each == number else ledger.ends[each] for each, start in enumerate(starts)]
            found = read(log, start=utc, partition=number)
            ledger.check_batches(found, start=only, what=f"partition {number} from {utc!r}")
        expect_equal(read(log, start=utc, until=utc), [], f"from {utc!r} until then")


@_check
def _places_refused(subject: _Subject) -> None:
    """A place or partition that is not there is an InputError."""
    log = subject.open()
    ledger = Ledger(log)
    count = subject.partitions
    for rows in (0, 40):
        ledger.append(log, _rows(0, rows))
        for number, (first, end) in enumerate(zip(ledger.firsts, ledger.ends, strict=True)):
            for offset in (-1, first - 1, end + 1, end + 1000):
                what = f"partition {number} of {count}, which holds {first} to {end}, read from {offset}"
                _refused(InputError, what, read, log, start=offset, partition=number)
                places = [offset if each == number else end for each, end in enumerate(ledger.ends)]
                _refused(InputError, f"{what}, with all partitions", read, log, start=places)
    for number in (-1, count, count + 100):
        _refused(InputError, f"partition {number} of {count}", read, log, partition=number)
    _refused(InputError, "one offset more than partitions", read, log, start=(*ledger.ends, 0))
    if count > 1:
        _refused(InputError, "one offset for several partitions", read, log, start=0)
    ledger.check(log)


@_check
def _positions(subject: _Subject) -> None:
    """From `positions` one can go on another time, after any batch, without a gap and without a repeat."""
    log = subject.open()
    ledger = Ledger(log)
    for start in range(0, 30, 3):
        ledger.append(log, _rows(start, 3))
    found, places = [], ledger.firsts
    for _ in range(sum(ledger.ends) + 1):
        batches = log.batches(start=places)
        with closing(batches):
            expect_equal(batches.positions, tuple(places), "positions before the first batch")
            for batch in batches:
                found.append(batch)
                break
            else:
                break
        places = batches.positions
        expect_equal(places[found[-1].partition], found[-1].next_offset, "positions after a batch")
    ledger.check_batches(found, what="read one batch at a time, each from the positions before it")
    ledger.append(log, _rows(30, 5))
    rest = read(log, start=places)
    ledger.check_batches(rest, start=places, what=f"what was appended since positions {places}")
    for number in range(subject.partitions):
        batches = log.batches(partition=number)
        with closing(batches):
            list(batches)
        rest = read(log, partition=number, start=batches.positions)
        expect_equal(rest, [], f"partition {number}, read on from its end")


@_check
def _rows_one_by_one(subject: _Subject) -> None:
    """A log that has `rows` serves the same records by it."""
    log: Any = subject.open()
    if not hasattr(log, "rows"):
        return
    ledger = Ledger(log)
    ledger.append(log, _rows(0, 20))
    ends = ledger.ends
    ledger.append(log, _rows(20, 20))
    for number in range(subject.partitions):
        bounds = {"partition": number, "start": ends[number]}
        expected = [row for batch in read(log, **bounds) for row in batch.records.to_pylist()]
        with closing(log.rows(**bounds)) as rows:
            expect_equal(list(rows), expected, f"rows of partition {number} from offset {ends[number]}")


# --- refusing ------------------------------------------------------------------------------------------


@_check
def _misfits_refused(subject: _Subject) -> None:
    """Data that does not fit is refused with its error, and nothing of that call is stored."""
    log = subject.open()
    ledger = Ledger(log)
    ledger.append(log, _rows(0, 8))
    fitting = _rows(8, 8)
    for error, misfit, what in (
        (UnknownColumn, {"k": "a", "nope": 1}, "a column that the log does not have"),
        (ValueMismatch, {"k": "a", "n": "many"}, "a text in a BIGINT column"),
        (ValueMismatch, {"k": "a", "n": 1 << 63}, "a number beyond BIGINT"),
        (ValueMismatch, {"k": "a", "n": 1.5}, "1.5 in a BIGINT column"),
        (ValueMismatch, {"k": None, "n": 1}, "a key that is NULL"),
        (ValueMismatch, {"n": 1}, "no key"),
        (InputError, 7, "a row that is no mapping"),
    ):
        for rows in ([misfit], [*fitting, misfit], [misfit, *fitting]):
            _refused(error, what, log.append, rows)
            ledger.check(log, f"after an append was refused: {what}")
    keyless = pa.table({"k": pa.array(["a", None]), "n": pa.array([1, 2])})
    _refused(ValueMismatch, "a key that is NULL in a table", log.append, keyless)
    _refused(InputError, "a number instead of rows", log.append, 7)
    ledger.check(log, "after appends were refused")
    ledger.append(log, fitting)
    ledger.check(log, "after an append that follows refused ones")


@_check
def _durability(subject: _Subject) -> None:
    """Every level of durability is accepted, of a log or of an append; another is refused."""
    levels = get_args(Durability)
    for declared in levels:
        log = subject.open(suffix=declared, durability=declared)
        ledger = Ledger(log)
        at = 0
        for level in (None, *levels, *reversed(levels)):
            ledger.append(log, _rows(at, 5), durability=level)
            ledger.check(log, f"a log with durability {declared!r}, after an append with {level!r}")
            at += 5
        for level in ("eventually", ""):
            _refused(InputError, f"durability {level!r}", log.append, _rows(at, 5), durability=level)
        ledger.check(log, "after an unknown durability was refused")
        log.close()
        ledger.check(
            subject.open(suffix=declared, durability=declared), f"durability {declared!r}, opened again"
        )


# --- request ids ---------------------------------------------------------------------------------------


@_check
def _request_ids(subject: _Subject) -> None:
    """A repeat of a request id writes nothing and returns the first offsets: here, by another handle, after a restart."""
    log = subject.open()
    ledger = Ledger(log)
    sent: dict[str, tuple[list[Row], Appended]] = {}
    for number, name in enumerate(("요청-1", "b" * 200, "🚲")):
        rows = _rows(10 * number, 6)
        sent[name] = rows, ledger.append(log, rows, request_id=name)
        ledger.append(log, rows)  # without an id, the same rows are others
    other = subject.open()
    for handle, what in ((log, "repeated"), (other, "repeated by another handle")):
        _check_repeats(handle, ledger, sent, what)
    ledger.append(other, _rows(100, 6), request_id="new")
    log.close()
    other.close()
    log = subject.open()
    _check_repeats(log, ledger, sent, "repeated after the log was closed and opened again")
    rows = _rows(200, 6)
    told = subject.at_once([lambda: log.append(rows, request_id="at once")] * _THREADS)
    firsts = [appended for appended in told if not appended.is_repeat]
    expect_equal(len(firsts), 1, "of calls with one id at the same time: how many are no repeats")
    ledger.enter(firsts[0], rows)
    _check_repeats(log, ledger, {"at once": (rows, firsts[0])}, "repeated by several threads")
    for appended in told:
        expect_equal(appended.offsets.tolist(), firsts[0].offsets.tolist(), "offsets of calls with one id")


def _check_repeats(log: Log, ledger: Ledger, sent: dict[str, tuple[list[Row], Appended]], what: str) -> None:
    for name, (rows, first) in sent.items():
        again = log.append(rows, request_id=name)
        ledger.check(log, f"request id {name[:8]!r}, {what}")
        expect(again.is_repeat, f"request id {name[:8]!r}, {what}: is_repeat is not said")
        expect_equal(dict(again.ranges), dict(first.ranges), f"request id {name[:8]!r}, {what}: ranges")
        for part in ("partitions", "offsets"):
            told, wanted = getattr(again, part).tolist(), getattr(first, part).tolist()
            expect_equal(told, wanted, f"request id {name[:8]!r}, {what}: {part}")


@_check
def _request_id_column(subject: _Subject) -> None:
    """Where a column holds ids, a row whose id is there is not stored again; its offset is the first one's."""
    columns = {"k": "varchar not null", "n": "bigint not null", "text": "varchar"}
    log = subject.open(columns, request_id="n")
    ledger = Ledger(log)
    places: dict[int, tuple[int, int]] = {}

    def append(handle: Log, rows: list[Row], what: str) -> None:
        appended = handle.append(rows)
        numbers, offsets = appended.partitions.tolist(), appended.offsets.tolist()
        expect_equal(len(offsets), len(rows), f"{what}: for how many rows an offset is returned")
        for row, number, offset in zip(rows, numbers, offsets, strict=True):
            if row["n"] not in places:
                places[row["n"]] = number, ledger.ends[number]
                ledger.put(number, row)
            expect_equal((number, offset), places[row["n"]], f"{what}: where the row with id {row['n']} is")
        ledger.check(handle, what)

    append(log, _rows(0, 10), "new rows")
    append(log, _rows(5, 10), "rows of which half are there")
    append(log, _rows(0, 15), "rows that are all there")
    append(log, [*_rows(15, 3), *_rows(16, 4)], "rows that are twice in one call")
    other = subject.open(columns, request_id="n")
    append(other, _rows(10, 15), "by another handle")
    append(log, _rows(20, 10), "by the first handle again")
    log.close()
    other.close()
    log = subject.open(columns, request_id="n")
    append(log, _rows(0, 40), "after the log was closed and opened again")


# --- at the same time ----------------------------------------------------------------------------------


@_check
def _two_handles(subject: _Subject) -> None:
    """What one handle has acknowledged, another sees at once, and appends after it."""
    logs = [subject.open(), subject.open()]
    ledger = Ledger(logs[0])
    for number in range(12):
        ledger.append(logs[number % 2], _rows(5 * number, 5))
        ledger.check(logs[(number + 1) % 2], "what the other handle had acknowledged")
        if number == 5:
            logs.append(subject.open())
            ledger.check(logs[2], "a handle that was opened later")
    logs[0].close()
    ledger.append(logs[1], _rows(100, 5))
    ledger.check(logs[2], "after one of the handles was closed")


@_check
def _threads(subject: _Subject) -> None:
    """Threads append through one handle, or through several: nothing is lost, doubled, or out of its thread's order."""
    for suffix, handles in (("one", 1), ("two", 2)):
        logs = [subject.open(suffix=suffix) for _ in range(handles)]
        ledger = Ledger(logs[0])

        def append(thread: int, logs: list[Log] = logs) -> list[tuple[Appended, list[Row]]]:
            told = []
            for number in range(20):
                rows = _rows((thread * 20 + number) * 5, 1 + number % 5)
                told.append((logs[thread % len(logs)].append(rows), rows))
            return told

        told = subject.at_once([lambda t=thread: append(t) for thread in range(_THREADS)])  # type: ignore[misc]
        ledger.enter_all([each for calls in told for each in calls])
        ledger.check(logs[-1])
        for calls in told:
            for number in range(subject.partitions):
                offsets = [
                    offset
                    for appended, _ in calls
                    for at, offset in zip(
                        appended.partitions.tolist(), appended.offsets.tolist(), strict=True
                    )
                    if at == number
                ]
                expect_equal(
                    offsets, sorted(offsets), f"partition {number}: the offsets of one thread's records"
                )


@_check
def _reading_while_appending(subject: _Subject) -> None:
    """Who reads while others append sees, in each partition, a prefix of what comes to be there; it only grows."""
    log, reader = subject.open(), subject.open()
    ledger = Ledger(log)
    is_done = threading.Event()

    def append() -> list[tuple[Appended, list[Row]]]:
        try:
            return [(log.append(rows), rows) for rows in (_rows(7 * number, 7) for number in range(40))]
        finally:
            is_done.set()

    def look() -> list[list[Any]]:
        seen = []
        while not is_done.is_set():
            ends = reader.end_offsets()
            seen.append([ends, read(reader)])
        return seen[:: max(1, len(seen) // 20)]

    work: list[Callable[[], Any]] = [append, look]
    told, seen = subject.at_once(work)
    ledger.enter_all(told)
    before = ledger.firsts
    for ends, batches in seen:
        grown = all(end >= was for end, was in zip(ends, before, strict=True))
        expect(grown, f"end_offsets went back from {before} to {ends}")
        reached = list(ledger.firsts)
        for batch in batches:
            reached[batch.partition] = batch.next_offset
        missing = [number for number, end in enumerate(ends) if reached[number] < end]
        expect(not missing, f"read up to {reached}, though up to {ends} was there before")
        ledger.check_batches(batches, until=reached, what="read while others append")
        before = ends


# --- following -----------------------------------------------------------------------------------------


def _follow_by(subject: _Subject, *, is_async: bool) -> None:
    log, other = subject.open(), subject.open()
    ledger = Ledger(log)
    ledger.append(log, _rows(0, 10))
    with subject.follower(log, is_async=is_async) as follower:
        found = follower.take(10)
        for number in range(10):
            ledger.append((log, other)[number % 2], _rows(10 + 5 * number, 5))
            found += follower.take(5)
            ledger.check_batches(found, what="followed")
        expect_equal(follower.batches.positions, ledger.ends, "a follower's positions")
        follower.stop.set()
        follower.check_end("its stop is set")
    with subject.follower(log, is_async=is_async, start=ledger.ends) as follower:
        before = ledger.ends
        ledger.append(other, _rows(100, 5))
        found = follower.take(5)
        ledger.check_batches(found, start=before, what="followed from the end")
        follower.batches.close()
        follower.check_end("it is closed")
    until = tuple(end + 2 for end in ledger.ends)
    with subject.follower(log, is_async=is_async, until=until) as follower:
        number = 200
        while any(end < to for end, to in zip(ledger.ends, until, strict=True)):
            ledger.append(log, _rows(number, len(_KEYS)))
            number += len(_KEYS)
        rows = sum(until) - sum(ledger.firsts)
        found = follower.take(rows)
        ledger.check_batches(found, until=until, what=f"followed until {until}")
        follower.check_end(f"all records up to {until} have come")


@_check
def _follow(subject: _Subject) -> None:
    """Who follows with `for` gets what is appended later, until it is stopped or closed, or has all up to `until`."""
    _follow_by(subject, is_async=False)


@_check
def _follow_async(subject: _Subject) -> None:
    """Who follows with `async for` gets the same."""
    _follow_by(subject, is_async=True)


@_check
def _stop_before_following(subject: _Subject) -> None:
    """Without `follow` the iteration ends by itself; with it, a `stop` that is set, or a close, ends it at any time."""
    log = subject.open()
    Ledger(log)
    expect_equal(read(log), [], "an empty log, not followed")
    for is_async in (False, True):
        with subject.follower(log, is_async=is_async) as follower:
            follower.stop.set()
            follower.check_end("its stop is set, and nothing was ever there")
        with subject.follower(log, is_async=is_async) as follower:
            follower.batches.close()
            follower.batches.close()
            follower.check_end("it is closed, and nothing was ever there")


# --- ending --------------------------------------------------------------------------------------------


@_check
def _close_and_reopen(subject: _Subject) -> None:
    """What was acknowledged is there when the log is opened again, and offsets go on; closing twice is fine."""
    ledger: Ledger | None = None
    for number in range(3):
        log = subject.open()
        ledger = ledger or Ledger(log)
        ledger.check(log, "opened again")
        ledger.append(log, _rows(10 * number, 10))
        ledger.check(log, "opened again, and appended to")
        log.close()
        log.close()


@_check
def _closed(subject: _Subject) -> None:
    """A closed log says that it is closed."""
    for is_used in (False, True):
        log = subject.open()
        if is_used:
            log.append(_rows(0, 3))
            read(log)
        log.close()
        _refused(Closed, "append to a closed log", log.append, _rows(3, 3))
        _refused(Closed, "batches of a closed log", read, log)
        _refused(Closed, "end_offsets of a closed log", log.end_offsets)
        _refused(Closed, "first_offsets of a closed log", log.first_offsets)
    log = subject.open()
    expect_equal(sum(batch.records.num_rows for batch in read(log)), 3, "what was appended before the close")


LOG_CHECKS: Final = tuple(_CHECKS)
"""The names of the checks that `check_log` runs, in order."""
