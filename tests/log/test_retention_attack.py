"""Retention under attack: what an evil user, disk or moment can do to old segments."""

from __future__ import annotations

import itertools
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bourne
from bourne.errors import BourneError, CorruptFrame, StorageError
from bourne.limits import TOMBSTONE_KEEP_US
from bourne.log import embedded, retention
from bourne.log.cold import make_cold, open_segment
from bourne.log.embedded import EmbeddedLog
from bourne.log.reader import LogReader
from bourne.log.verify import verify_log
from bourne.log.writer import LogWriter
from bourne.testing import FaultyFiles, SimulatedClock

IS_LONG = bool(os.environ.get("BOURNE_LONG"))
DAY_US = 24 * 3600 * 1_000_000
SCHEMA = {"key": "bigint", "text": "varchar", "gone": "boolean"}
Row = dict[str, Any]


class House:
    """A data folder with a log of small segments, a clock that is told the time, and files that can fail."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.clock = SimulatedClock(1_700_000_000_000_000)
        self.files: FaultyFiles | None = None
        self.declare(**options)

    def declare(
        self, schema: dict[str, str] = SCHEMA, views: dict[str, str] | None = None, **options: Any
    ) -> None:
        """Open the folder with this declaration."""
        app = bourne.App("house")
        app.log("l", schema=schema, **options)
        for name, sql in (views or {}).items():
            app.view(name, sql)
        if hasattr(self, "instance"):
            self.instance.close()
        self.app = app
        self.instance = bourne.open(app, data=self.folder, clock=self.clock, files=self.files)

    def reopen(self) -> None:
        self.instance.close()
        self.instance = bourne.open(self.app, data=self.folder, clock=self.clock, files=self.files)

    @property
    def log(self) -> EmbeddedLog:
        return self.instance.log("l")

    @property
    def partition(self) -> Path:
        return self.folder / "logs" / "l" / "0"

    def append(self, *keys: Any, **values: Any) -> None:
        self.log.append([{"key": key, **values} for key in keys])

    def rows(self) -> list[tuple[int, Row]]:
        """Return offset and record of all that is served, and check that the log is sound."""
        result = []
        with self.log.batches() as batches:
            for batch in batches:
                result += list(zip(batch.offsets.tolist(), batch.records.to_pylist(), strict=True))
        for head in verify_log(self.log.folder, self.log.info):
            assert head == self.log.head(head.partition)
        return result

    def keys(self) -> list[Any]:
        return [row["key"] for _, row in self.rows()]

    def later(self, days: float) -> None:
        self.clock.advance(round(days * DAY_US))


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., House]]:
    """Logs whose segments hold about two appends, and are compacted whatever their size."""
    made: list[House] = []

    def small(*arguments: Any, **options: Any) -> LogWriter:
        return LogWriter(*arguments, **{"segment_bytes": 1500, **options})

    monkeypatch.setattr(embedded, "LogWriter", small)
    monkeypatch.setattr(retention, "COMPACT_BYTES_MIN", 1)

    def make(name: str = "data", **options: Any) -> House:
        made.append(House(tmp_path / name, **options))
        return made[-1]

    yield make
    for each in made:
        each.instance.close()


# --- columns that change ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "low", "high"),
    [
        ("tinyint", "bigint", 1, 2**40),
        ("integer", "bigint", 1, 2**40),
        ("integer", "hugeint", -5, 2**100),
        ("bigint", "hugeint", 2**62, -(2**100)),
        ("ubigint", "hugeint", 2**64 - 1, -(2**100)),
        ("utinyint", "integer", 255, -7),
        ("uinteger", "bigint", 2**32 - 1, -7),
    ],
)
def test_a_key_that_was_widened_is_compacted(
    house: Callable[..., House], old: str, new: str, low: int, high: int
) -> None:
    """Newer keys need not fit the older type, and older keys are the same in the newer one."""
    wide = house(schema={**SCHEMA, "key": old}, key="key", compact=True)
    for number in range(6):
        wide.append(low, low - 1 if low > 0 else low + 1, text=str(number))
    wide.instance.maintain()  # some are compacted under the old type already
    wide.declare(schema={**SCHEMA, "key": new}, key="key", compact=True)
    for number in range(20):
        wide.append(low, high, text=f"new {number}")
    wide.instance.maintain()
    wide.instance.maintain()
    latest = {row["key"]: row["text"] for _, row in wide.rows()}
    assert sorted(wide.keys()) == sorted({low, low - 1 if low > 0 else low + 1, high})
    assert latest[low] == latest[high] == "new 19"


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("varchar", ["a", "b", "", "\0", "가"]),
        ("blob", [b"a", b"", b"\xff\0"]),
        ("uuid", ["12345678-1234-1234-1234-123456789012", "00000000-0000-0000-0000-000000000000"]),
        ("boolean", [True, False]),
        ("hugeint", [2**100, 0, -1]),
        ("ubigint", [2**64 - 1, 0]),
    ],
)
def test_keys_of_every_type_are_compacted(house: Callable[..., House], kind: str, values: list[Any]) -> None:
    every = house(schema={**SCHEMA, "key": kind}, key="key", compact=True)
    for number in range(12):
        every.append(*values, text=str(number))
    (done,) = every.instance.maintain()
    assert done.compacted > 0
    found = every.rows()
    assert (
        sorted(map(str, (row["key"] for _, row in found))) == sorted(map(str, values))
        or len(found) <= len(values) * 3
    )
    assert {row["text"] for _, row in found[-len(values) :]} == {"11"}


def test_columns_may_be_added_and_change_their_case_around_tiering(house: Callable[..., House]) -> None:
    old = {"key": "integer", "text": "varchar"}
    kept = house(schema=old, key="key", cold_after="1 day")
    for number in range(6):
        kept.append(number, text="a")
    kept.later(2)
    kept.instance.maintain()
    kept.declare(
        schema={"KEY": "bigint", "gone": "boolean", "TEXT": "varchar"}, key="key", cold_after="1 day"
    )
    for number in range(6, 12):
        kept.log.append([{"KEY": number, "TEXT": "b", "gone": False}])
    kept.later(2)
    kept.instance.maintain()
    rows = [tuple(row.values()) for _, row in kept.rows()]
    assert rows == [(n, None, "a") for n in range(6)] + [(n, False, "b") for n in range(6, 12)]


def test_a_tombstone_column_may_come_later_and_in_another_case(house: Callable[..., House]) -> None:
    small = house(schema={"key": "integer"}, key="key", compact=True)
    for _ in range(5):
        small.append(1, 2, 3)
    small.instance.maintain()
    small.declare(schema={"Key": "bigint", "Gone": "boolean"}, key="key", compact=True, tombstone="gone")
    small.log.append([{"Key": 2, "Gone": True}])
    for number in range(10, 20):
        small.log.append([{"Key": number}])
    small.instance.maintain()
    small.clock.advance(TOMBSTONE_KEEP_US + 1)
    for number in range(20, 40):
        small.log.append([{"Key": number}])
    small.instance.maintain()
    assert [row["Key"] for _, row in small.rows()] == [1, 3, *range(10, 40)]


# --- tombstones ------------------------------------------------------------------------------------------


def test_a_tombstone_stays_while_what_it_stands_for_cannot_go(
    house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment that Parquet cannot give back exactly stays as it is: so must the tombstones behind it."""
    small = house(key="key", compact=True, tombstone="gone")
    small.append(1, 2, 3)
    small.append(4)
    for number in range(10):
        small.append(2, gone=True, text=str(number))
    small.clock.advance(TOMBSTONE_KEEP_US + 1)
    small.append(*range(100, 140))

    def stubborn(*arguments: Any, base: int, **options: Any) -> Any:
        return None if base == 0 else make_cold(*arguments, base=base, **options)

    monkeypatch.setattr(retention, "make_cold", stubborn)
    for _ in range(3):
        small.instance.maintain()
    rows = [row for _, row in small.rows() if row["key"] == 2]
    assert rows[-1]["gone"] is True


def test_a_key_comes_back_after_its_tombstone(house: Callable[..., House]) -> None:
    small = house(key="key", compact=True, tombstone="gone")
    for number in range(4):
        small.append(1, 2, text=f"old {number}")
    small.append(1, gone=True)
    for number in range(4):
        small.append(1, text=f"new {number}")
    small.clock.advance(TOMBSTONE_KEEP_US + 1)
    small.append(9, 9)
    small.instance.maintain()
    assert [(row["key"], row["text"]) for _, row in small.rows() if row["key"] != 9] == [
        (2, "old 3"), (1, "new 3"),
    ]  # fmt: skip


# --- ids, readers, views ---------------------------------------------------------------------------------


def test_who_remembers_request_ids_does_not_keep_old_records(house: Callable[..., House]) -> None:
    """A process that once appended with an id, and is idle since, is no reader: `keep` is a promise."""
    old = house(keep="8 days")
    for number in range(10):
        old.log.append([{"key": number}], request_id=f"r{number}")
    old.later(10)
    old.instance.maintain()
    old.later(10)
    (done,) = old.instance.maintain()
    assert done.held == [] and old.rows() == []
    assert old.log.append([{"key": 10}], request_id="r10").offsets.tolist() == [10]
    assert old.log.append([{"key": 10}], request_id="r10").is_repeat
    old.reopen()
    assert old.log.append([{"key": 10}], request_id="r10").is_repeat


def test_ids_of_rows_are_known_in_compacted_and_deleted_logs(house: Callable[..., House]) -> None:
    for name, options in (
        ("a", {"compact": True}),
        ("b", {"keep": "2 days"}),
        ("c", {"cold_after": "1 day"}),
    ):
        known = house(name, key="key", request_id="text", **options)
        for number in range(12):
            known.append(number % 2, text=f"id{number}")
        known.instance.maintain()
        known.later(1.5)
        for number in range(12, 24):
            known.append(number % 2, text=f"id{number}")
        known.later(1)
        known.instance.maintain()
        before = known.rows()
        known.reopen()
        done = known.log.append([{"key": row["key"], "text": row["text"]} for _, row in before])
        assert done.is_repeat and done.offsets.tolist() == [offset for offset, _ in before]


def test_opening_a_reader_does_not_fail_because_of_what_is_deleted_just_then(
    house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = house(keep="1 day")
    for number in range(10):
        old.append(number)
    old.later(9)
    old.append(10)
    opened = LogReader.end_offset
    calls = []

    def deleting(self: LogReader) -> int:
        if not calls:
            calls.append(1)
            old.instance.maintain()
        return opened(self)

    monkeypatch.setattr(LogReader, "end_offset", deleting)
    reader = LogReader(old.log.folder, old.log.info)
    assert calls and reader.first_offset > 0
    assert [key for frame in reader.read() for key in frame.batch.column(0).to_pylist()][-1] == 10
    reader.close()


def test_followers_and_maintenance_at_once(house: Callable[..., House]) -> None:
    """Followers see every record that is the newest of its key, in order, while all is rewritten under them."""
    busy = house(key="key", compact=True, cold_after="1 second")
    stop = threading.Event()
    seen: list[list[tuple[int, int]]] = [[], [], []]
    errors: list[BaseException] = []

    def follow(index: int) -> None:
        try:
            with busy.log.batches(follow=True, stop=stop) as batches:
                for batch in batches:
                    keys = batch.records.column(0).to_pylist()
                    seen[index] += list(zip(batch.offsets.tolist(), keys, strict=True))
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    def maintain() -> None:
        try:
            while not stop.is_set():
                busy.clock.advance(1_000_000)
                busy.instance.maintain()
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=follow, args=(index,)) for index in range(3)]
    threads += [threading.Thread(target=maintain)]
    for thread in threads:
        thread.start()
    for number in range(150):
        busy.append(number % 7, number % 3, text="x" * 50)
    end = busy.log.end_offsets()[0]
    while not errors and any(not each or each[-1][0] < end - 1 for each in seen):
        threading.Event().wait(0.01)
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    final = {(offset, row["key"]) for offset, row in busy.rows()}
    for each in seen:
        offsets = [offset for offset, _ in each]
        assert offsets == sorted(set(offsets))
        assert final <= set(each)


def test_a_view_catches_up_over_compacted_and_cold_segments(house: Callable[..., House]) -> None:
    views = {"n": "SELECT key, count(*) AS n FROM l GROUP BY key"}
    late = house(key="key", compact=True, cold_after="1 day", views=views)
    for number in range(20):
        late.append(number % 3, text=str(number))
    late.instance.catch_up()
    for _ in range(4):
        late.later(2)
        for number in range(6):
            late.append(number % 3)
        late.instance.maintain()
        late.instance.catch_up()
        late.reopen()
        late.instance.catch_up()
    assert sorted(late.instance.query("SELECT key, n FROM n").fetchall()) == [(0, 15), (1, 15), (2, 14)]
    late.rows()


# --- sizes, times, levels --------------------------------------------------------------------------------


def test_records_larger_than_a_row_group(house: Callable[..., House]) -> None:
    """Also such that a segment is read as a memory map, which must not count as a reader."""
    rng = np.random.default_rng(1)
    large = house(schema={"key": "bigint", "data": "blob"}, key="key", cold_after="1 day")
    blobs = [rng.bytes(40 << 20), b"", rng.bytes(33 << 20), b"\0" * (40 << 20)]
    for number, blob in enumerate(blobs):
        large.append(number, data=blob)
    large.append(*[9] * 5, data=b"small")
    large.later(2)
    (done,) = large.instance.maintain()
    assert done.held == [] and done.cold == len(list(large.partition.glob("*.cold"))) == 4
    assert [row["data"] for _, row in large.rows()] == [*blobs, *[b"small"] * 5]
    large.declare(schema={"key": "bigint", "data": "blob"}, key="key", compact=True)
    large.append(0, data=b"new")
    large.append(9, data=b"new")
    (done,) = large.instance.maintain()
    assert done.held == [] and done.compacted == 2
    assert [row["data"] for _, row in large.rows()] == [*blobs[1:], b"new", b"new"]


def test_what_a_closed_reader_has_read_holds_nothing(house: Callable[..., House]) -> None:
    """It stays valid all the same: the memory map outlives its file."""
    held = house(schema={"key": "bigint", "data": "blob"}, keep="1 day")
    blobs = [bytes([number]) * (2 << 20) for number in range(4)]
    for number, blob in enumerate(blobs):
        held.append(number, data=blob)
    reader = LogReader(held.log.folder, held.log.info)
    frames = reader.read()
    reader.close()
    assert held.instance.query("SELECT count(*) FROM l").fetchall() == [(4,)]  # whose rows are kept at hand
    held.later(9)
    held.append(4)
    (done,) = held.instance.maintain()
    assert done.held == [] and done.deleted == 4
    assert [frame.batch.column(1)[0].as_py() for frame in frames] == blobs
    assert held.instance.query("SELECT key FROM l").fetchall() == [(4,)]


def test_a_clock_that_jumps_back_and_forth(house: Callable[..., House]) -> None:
    odd = house(keep="8 days", cold_after="1 day")
    for number in range(8):
        odd.append(number)
        odd.later(-1 if number % 2 else 0.5)
    odd.instance.maintain()
    assert odd.keys() == list(range(8))
    odd.later(-1000)
    odd.append(8)
    odd.instance.maintain()
    assert odd.keys() == list(range(9))
    odd.later(1000 + 20)
    odd.append(9)
    odd.instance.maintain()
    assert odd.keys()[-1] == 9 and len(odd.keys()) <= 2


def test_records_without_durability_survive_what_retention_does_around_them(
    house: Callable[..., House],
) -> None:
    loose = house(durability="none", cold_after="1 day", key="key", compact=True)
    loose.files = FaultyFiles()
    loose.reopen()
    for number in range(20):
        loose.append(number % 5, text=str(number))
    loose.later(2)
    loose.instance.maintain()
    before = loose.rows()
    loose.instance.close()
    loose.files.crash(seed=1)
    loose.reopen()
    assert loose.rows() == before


def test_empty_logs_and_partitions(house: Callable[..., House]) -> None:
    empty = house(key="key", partitions=3, compact=True, cold_after="1 day", keep="2 days", keep_bytes=1)
    for _ in range(3):
        assert all(not done.deleted for done in empty.instance.maintain())
        empty.later(3)
    empty.append(1)
    empty.later(3)
    empty.append(1)
    empty.instance.maintain()
    empty.instance.maintain()
    assert sum(map(len, (list(batch.offsets) for batch in empty.log.batches()))) <= 2
    assert [row["key"] for row in empty.instance.tail("l").to_pylist()] in ([1], [1, 1], [])


# --- power cuts ------------------------------------------------------------------------------------------


def filled(folder: Path, **options: Any) -> House:
    """Return a log of 12 appends with files that can fail."""
    made = House(folder, key="key", **options)
    made.files = FaultyFiles()
    made.reopen()
    for number in range(12):
        made.append(number % 4, text=str(number))
    made.append(1, gone=True)
    made.later(3)
    made.append(50, text="x" * 2000)
    return made


RETENTIONS: list[Row] = [
    {"keep": "2 days"},
    {"keep_bytes": 6000},
    {"cold_after": "1 day"},
    {"compact": True, "tombstone": "gone"},
    {"compact": True, "tombstone": "gone", "cold_after": "1 day", "keep": "60 days"},
]


@pytest.mark.parametrize("options", RETENTIONS, ids="+".join)
@pytest.mark.parametrize("seed", [None, 1, 2])
def test_power_cuts_at_every_call(
    tmp_path: Path, house: Callable[..., House], options: Row, seed: int | None
) -> None:
    """What is to be there is there, the log is sound, and the next time the job is finished."""
    done = filled(tmp_path / "all", **options)
    everything = done.rows()
    assert done.files is not None
    count = len(done.files.calls)
    done.instance.maintain()
    calls = len(done.files.calls) - count
    done.instance.maintain()
    final = done.rows()
    done.instance.close()
    assert final != everything or "cold_after" in options
    for number in range(1 if IS_LONG else seed or 3, calls + 1, 1 if IS_LONG else 5):
        cut = filled(tmp_path / f"{number}", **options)
        assert cut.files is not None
        cut.files.die_at(number)
        with pytest.raises(BourneError):
            cut.instance.maintain()
        cut.instance.close()
        cut.files.crash(seed=None if seed is None else seed * 1000 + number)
        cut.reopen()
        between = cut.rows()
        assert set(map(repr, final)) <= set(map(repr, between)) <= set(map(repr, everything)), number
        for gone in [
            row for row in everything if row not in between
        ]:  # newer ones of the key, or all before it
            assert gone not in final
        if "tombstone" in options:  # no key comes back
            last = {row["key"]: row["gone"] for _, row in between}
            assert last.get(1, True) is True, number
        for _ in range(2):
            cut.instance.maintain()
        assert cut.rows() == final, number
        cut.instance.close()
        shutil.rmtree(cut.folder)


@pytest.mark.parametrize("call", ["write", "sync", "sync_folder", "replace", "remove", "open", "truncate"])
@pytest.mark.parametrize("options", RETENTIONS[2:4], ids="+".join)
def test_a_disk_that_refuses_once(
    tmp_path: Path, house: Callable[..., House], call: Any, options: Row
) -> None:
    """The error is named, nothing is lost, and it works the next time, by the same process."""
    well = filled(tmp_path / "well", **options)
    for _ in range(2):
        well.instance.maintain()
    final = well.rows()
    well.instance.close()
    for nth in range(1, 30):
        sick = filled(tmp_path / f"{call}{nth}", **options)
        assert sick.files is not None
        everything = sick.rows()
        sick.files.fail(call, nth=nth)
        try:
            sick.instance.maintain()
        except StorageError:
            failed = True
        else:
            failed = False
        sick.files.heal()
        between = sick.rows()
        assert set(map(repr, between)) <= set(map(repr, everything))
        for _ in range(2):
            sick.instance.maintain()
        after = sick.rows()
        sick.instance.close()
        shutil.rmtree(sick.folder)
        # What could not be closed in time may wait until as much again was appended.
        assert set(map(repr, final)) <= set(map(repr, after)) <= set(map(repr, between))
        if not failed:
            break


def test_a_damaged_segment_stops_compaction_with_its_name(house: Callable[..., House]) -> None:
    """Also if it was compacted before, and is only read again."""
    bad = house(key="key", compact=True)
    for number in range(8):
        bad.append(number, 10 + number, text="x" * 300)
    bad.instance.maintain()
    for number in range(8, 30):
        bad.append(number, 10 + number, text="x" * 300)
    path = sorted(bad.partition.glob("0*.*"))[0]
    content = bytearray(path.read_bytes())
    content[-200] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptFrame, match="is not what was written"):
        bad.instance.maintain()
    assert path.read_bytes() == content


def test_compaction_waits_for_a_reader_and_writes_nothing_meanwhile(house: Callable[..., House]) -> None:
    small = house(key="key", compact=True)
    for number in range(10):
        small.append(number % 2, text=str(number))
    reader = LogReader(small.log.folder, small.log.info)
    reader.read(rows_max=1)
    small.instance.maintain()
    before = small.log.head()
    for _ in range(3):
        (done,) = small.instance.maintain()
        assert done.compacted == 0 and [pin.holder for pin in done.held] == ["a reader"]
    assert small.log.head() == before
    reader.close()
    small.instance.maintain()
    assert [row["text"] for _, row in small.rows()] == ["8", "9"]


@pytest.mark.parametrize(
    "options", [{"keep_bytes": 6000}, {"compact": True}, {"cold_after": "1 second"}], ids=str
)
@pytest.mark.parametrize("when", range(4))
def test_verifying_beside_maintenance_is_no_alarm(
    house: Callable[..., House], monkeypatch: pytest.MonkeyPatch, options: Row, when: int
) -> None:
    """What is compacted meanwhile is noted past the end that verifying began with; what is deleted is not missing."""
    busy = house(key="key", **options)
    for number in range(20):
        busy.append(number % 3, text=str(number) * 20)
    busy.later(1)
    count = itertools.count()

    def open_late(folder: Path, base: int) -> Any:
        if next(count) == when:
            busy.instance.maintain()
        return open_segment(folder, base)

    monkeypatch.setattr("bourne.log.verify.open_segment", open_late)
    (head,) = verify_log(busy.log.folder, busy.log.info)
    assert next(count) > when and head.offset == 20
    monkeypatch.undo()
    (later,) = verify_log(busy.log.folder, busy.log.info)
    assert later == busy.log.head()
