"""Old segments: deleted, compacted, cold; offsets, readers, views and the head hash stay as they were."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import bourne
from bourne.errors import CorruptFrame, DefinitionError, InputError
from bourne.limits import TOMBSTONE_KEEP_US
from bourne.log import embedded, retention, segment
from bourne.log.cold import ColdSegment, make_cold, open_segment
from bourne.log.embedded import EmbeddedLog
from bourne.log.segment import HotSegment
from bourne.log.verify import verify_log
from bourne.log.writer import LogWriter
from bourne.testing import FaultyFiles, SimulatedClock

DAY_US = 24 * 3600 * 1_000_000
SCHEMA = {"key": "bigint", "text": "varchar", "gone": "boolean"}


class House:
    """A data folder with a log of small segments, and a clock that is told the time."""

    def __init__(
        self,
        folder: Path,
        schema: dict[str, str] = SCHEMA,
        views: dict[str, str] | None = None,
        **options: Any,
    ):
        self.folder = folder
        self.clock = SimulatedClock(1_700_000_000_000_000)
        self.app = bourne.App("house")
        self.app.log("l", schema=schema, **options)
        self.partition = folder / "logs" / "l" / "0"
        for name, sql in (views or {}).items():
            self.app.view(name, sql)
        self.instance = bourne.open(self.app, data=folder, clock=self.clock)

    @property
    def log(self) -> EmbeddedLog:
        return self.instance.log("l")

    def append(self, *keys: int, text: str = "x", gone: bool | None = None) -> None:
        self.log.append([{"key": key, "text": text, "gone": gone} for key in keys])

    def names(self, suffix: str) -> list[int]:
        return sorted(int(path.name[:20]) for path in self.partition.glob(f"*.{suffix}"))

    def rows(self) -> list[tuple[int, int, str]]:
        """Return offset, key and text of all that is served."""
        result = []
        with self.log.batches() as batches:
            for batch in batches:
                records = batch.records.to_pydict()
                result += list(zip(batch.offsets.tolist(), records["key"], records["text"], strict=True))
        return result

    def later(self, days: float) -> None:
        self.clock.advance(round(days * DAY_US))

    def verify(self) -> str:
        (head,) = verify_log(self.log.folder, self.log.info)
        return head.hash


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., House]]:
    """Logs whose segments hold about two appends."""
    made: list[House] = []

    def small(*arguments: Any, **options: Any) -> LogWriter:
        return LogWriter(*arguments, segment_bytes=1500, **options)

    monkeypatch.setattr(embedded, "LogWriter", small)

    def make(name: str = "data", **options: Any) -> House:
        made.append(House(tmp_path / name, **options))
        return made[-1]

    yield make
    for each in made:
        each.instance.close()


def test_records_are_deleted_by_age_and_none_earlier(house: Callable[..., House]) -> None:
    old = house(keep="8 days")
    for number in range(10):
        old.append(number)
    old.later(7)
    old.instance.maintain()
    assert [offset for offset, _, _ in old.rows()] == list(range(10))
    old.later(2)
    old.append(10)
    (done,) = old.instance.maintain()
    left = [offset for offset, _, _ in old.rows()]
    assert done.deleted > 0 and left[0] > 0 and left[-1] == 10
    old.later(10)  # nobody appends any more: the last segment goes, too
    old.instance.maintain()
    old.later(10)
    old.instance.maintain()
    assert old.rows() == []
    assert old.log.first_offsets() == old.log.end_offsets() == (11,)
    assert old.log.append([{"key": 1}]).offsets.tolist() == [11]
    assert old.verify() == old.log.head().hash


def test_records_are_deleted_by_size(house: Callable[..., House]) -> None:
    much = house(keep_bytes=20_000)
    for number in range(100):
        much.append(number, text="x" * 100)
    (done,) = much.instance.maintain()
    size = sum(path.stat().st_size for path in much.partition.glob("*.seg"))
    assert done.deleted > 0 and 15_000 < size <= 20_000
    offsets = [offset for offset, _, _ in much.rows()]
    assert offsets == list(range(offsets[0], 100))
    with pytest.raises(InputError, match="no offset 0"):
        list(much.log.batches(start=0))


def test_a_view_holds_what_its_recovery_needs(house: Callable[..., House]) -> None:
    held = house(keep="1 day", views={"n": "SELECT key, count(*) AS n FROM l GROUP BY key"})
    for number in range(10):
        held.append(number % 3)
    held.later(30)
    (done,) = held.instance.maintain()
    assert done.deleted == 0 and [pin.holder for pin in done.held] == ["view n"]
    assert held.instance.status().logs[0].pins[0] == bourne.Pin(0, 0, "view n")
    held.instance.catch_up()
    for _ in range(3):
        held.later(30)
        held.instance.maintain()
    assert held.rows() == []
    answer = sorted(held.instance.query("SELECT key, n FROM n").fetchall())
    assert answer == [(0, 4), (1, 3), (2, 3)]
    held.instance.close()
    again = bourne.open(held.app, data=held.folder, clock=held.clock)
    again.append("l", [{"key": 0}])
    again.catch_up()
    assert sorted(again.query("SELECT key, n FROM n").fetchall()) == [(0, 5), (1, 3), (2, 3)]
    again.close()


def test_another_process_view_holds_too(house: Callable[..., House]) -> None:
    held = house(keep="1 day", views={"big": "SELECT key FROM l WHERE key > 1"})
    for number in range(10):
        held.append(number)
    held.instance.close()
    held.later(30)
    other = bourne.open(data=held.folder, clock=held.clock)  # knows the view from the folder only
    (done,) = other.maintain()
    assert done.deleted == 0 and done.held[0].holder == "view big"
    other.close()


def test_a_reader_holds_its_segment_and_all_behind_it(house: Callable[..., House]) -> None:
    held = house(keep="1 day")
    for number in range(10):
        held.append(number)
    reader = held.instance.reader("l")
    reader.seek(5)
    held.later(30)
    (done,) = held.instance.maintain()
    first = held.log.first_offsets()[0]
    assert 0 < first <= 5 and [pin.holder for pin in done.held] == ["a reader"]
    assert "a reader" in [pin.holder for pin in held.instance.status().logs[0].pins]
    assert [key for frame in reader.read() for key in frame.batch.column(0).to_pylist()] == [5, 6, 7, 8, 9]
    reader.close()
    held.later(30)
    held.instance.maintain()
    assert held.log.first_offsets()[0] > 5


def test_what_is_cold_is_read_as_before(house: Callable[..., House]) -> None:
    cold = house(cold_after="1 day")
    for number in range(12):
        cold.append(number, number + 100, text=f"서울 {number} 🎉")
    before, head = cold.rows(), cold.verify()
    raw = {path.name: path.read_bytes() for path in cold.partition.glob("*.seg")}
    cold.later(2)
    (done,) = cold.instance.maintain()
    assert done.cold == len(cold.names("cold")) > 3 and len(cold.names("seg")) == 1
    assert cold.rows() == before and cold.instance.tail("l").num_rows == 24
    assert cold.log.head().hash == cold.verify() and head != ""
    for base in cold.names("cold"):
        segment_ = open_segment(cold.partition, base)
        assert isinstance(segment_, ColdSegment)
        bytes_ = b"".join(
            header.raw + bytes(segment_.body(byte, header))
            for byte, header in segment_.headers(0, segment_.size())
        )
        assert bytes_ == raw[f"{base:020d}.seg"]
        segment_.close()
    for start in range(25):
        reader = cold.instance.reader("l")
        reader.seek(start)
        assert sum(frame.batch.num_rows for frame in reader.read()) == 24 - start
        reader.close()
    parquet = sorted(cold.partition.glob("*.parquet"))
    assert pa.parquet.read_table(parquet[0]).column_names == ["__offset", "key", "text", "gone"]
    cold.append(99)  # goes on
    assert cold.rows()[:-1] == before


def test_a_reader_goes_on_while_its_log_becomes_cold(house: Callable[..., House]) -> None:
    cold = house(cold_after="1 day")
    for number in range(10):
        cold.append(number)
    reader = cold.instance.reader("l")
    seen = [frame.base_offset for frame in reader.read(rows_max=3)]
    cold.later(2)
    cold.instance.maintain()
    while frames := reader.read(rows_max=1):
        seen += [frame.base_offset for frame in frames]
    assert seen == list(range(10))
    reader.close()


def test_times_are_found_in_cold_segments(house: Callable[..., House]) -> None:
    cold = house(cold_after="1 hour")
    instants = []
    for number in range(10):
        instants.append(cold.clock.now_us())
        cold.append(number)
        cold.later(0.1)
    cold.instance.maintain()
    assert len(cold.names("cold")) > 3
    for number, instant in enumerate(instants):
        reader = cold.instance.reader("l")
        reader.seek_time(instant)
        assert reader.offset == number
        reader.close()


@pytest.mark.parametrize("suffix", ["cold", "parquet"])
def test_every_flipped_byte_of_a_cold_segment_is_noticed(house: Callable[..., House], suffix: str) -> None:
    cold = house(cold_after="1 day")
    for number in range(4):
        cold.append(number, text="abc" * number)
    before = cold.rows()
    cold.later(2)
    cold.instance.maintain()
    path = sorted(cold.partition.glob(f"*.{suffix}"))[0]
    good = path.read_bytes()
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ (1 << at % 8)]) + good[at + 1 :])
        with pytest.raises((CorruptFrame, bourne.FormatTooNew)):
            cold.rows()
        if at % 7 == 0:
            with pytest.raises((CorruptFrame, bourne.FormatTooNew)):
                cold.verify()
    path.unlink()
    with pytest.raises((CorruptFrame, InputError)):
        assert cold.rows() != before
        raise CorruptFrame("the first records are gone", log="l", partition=0, file="", byte=0)
    path.write_bytes(good)
    assert cold.rows() == before


def test_parquet_of_other_values_is_noticed_by_the_head_hash(house: Callable[..., House]) -> None:
    """Somebody makes both files anew, with checksums that fit, from other records."""
    cold, other = house("one", cold_after="1 day"), house("two", cold_after="1 day")
    for number in range(4):
        cold.append(number, text="true")
        other.append(number, text="lies")
    for each in (cold, other):
        each.later(2)
        each.instance.maintain()
    for path in (*cold.partition.glob("*.cold"), *cold.partition.glob("*.parquet")):
        path.unlink()
    for path in (*other.partition.glob("*.cold"), *other.partition.glob("*.parquet")):
        (cold.partition / path.name).write_bytes(path.read_bytes())
    with pytest.raises(CorruptFrame):
        cold.verify()


def test_compaction_keeps_the_newest_per_key(
    house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bourne.log.retention.COMPACT_BYTES_MIN", 1)
    small = house(key="key", compact=True, cold_after="1000 days")
    rng = np.random.default_rng(7)
    for number in range(30):
        small.append(*rng.integers(0, 6, 3).tolist(), text=f"v{number}" + "x" * 5000)
    before = small.rows()
    newest = {key: (offset, key, text) for offset, key, text in before}
    (done,) = small.instance.maintain()
    assert done.compacted > 5
    after = small.rows()
    assert set(newest.values()) <= set(after) <= set(before) and after == sorted(after)
    assert after == sorted(newest.values())
    assert small.log.end_offsets() == (90,)
    assert small.verify() == small.log.head().hash
    offsets = [offset for offset, _, _ in after]
    for start in range(91):
        reader = small.instance.reader("l")
        reader.seek(start)
        found = [offset for frame in reader.read() for offset in frame.offsets().tolist()]
        assert found == [offset for offset in offsets if offset >= start]
        reader.seek(start)
        assert [o for f in reader.read(until=60) for o in f.offsets().tolist()] == [
            o for o in found if o < 60
        ]
        reader.seek(start)
        one_by_one = []
        while frames := reader.read(rows_max=1):
            one_by_one += [offset for frame in frames for offset in frame.offsets().tolist()]
        assert one_by_one == found
        reader.close()
    assert small.instance.query("SELECT count(*) FROM l").fetchall() == [(len(after),)]
    for number in range(30):  # and again, over what is compacted already
        small.append(*rng.integers(0, 8, 3).tolist(), text=f"w{number}" + "x" * 5000)
    newest |= {key: (offset, key, text) for offset, key, text in small.rows()}
    small.instance.maintain()
    assert small.rows() == sorted(newest.values())
    small.verify()


def test_tombstones_outlive_what_they_stand_for(
    house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bourne.log.retention.COMPACT_BYTES_MIN", 1)
    small = house(key="key", compact=True, tombstone="gone")
    small.append(1, 2, 3)
    small.append(2, gone=True)
    small.append(9)
    small.instance.maintain()
    assert [(key) for _, key, _ in small.rows()] == [1, 3, 2, 9]
    small.clock.advance(TOMBSTONE_KEEP_US + 1)
    small.append(9, text="x" * 10_000)
    small.instance.maintain()
    assert [(key) for _, key, _ in small.rows()] == [1, 3, 9]
    small.verify()


def test_a_forged_compaction_is_noticed(house: Callable[..., House], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bourne.log.retention.COMPACT_BYTES_MIN", 1)
    small = house(key="key", compact=True)
    for number in range(10):
        small.append(number % 2, 5, text=str(number))
    small.instance.maintain()
    base = next(base for base in small.names("cold") if ColdSegment(small.partition, base).has_compacted)
    found = ColdSegment(small.partition, base)
    forged = make_cold(
        found, base=base, log_id=small.log.info.id, partition=0, now_us=1, keep=np.zeros(0, np.int64)
    )
    found.close()
    assert forged is not None and forged.parquet is None
    (small.partition / f"{base:020d}.cold").write_bytes(forged.content)
    with pytest.raises(CorruptFrame, match="not as the log says"):
        small.verify()


def test_values_of_all_types_come_back_from_parquet(house: Callable[..., House]) -> None:
    types = {
        "a": "boolean", "b": "hugeint", "c": "float", "d": "double", "e": "decimal(38,5)", "f": "blob", "g": "date",
        "h": "time", "i": "timestamp", "j": "timestamp_s", "k": "timestamp_ms", "l": "timestamp_ns", "m": "timestamptz",
        "n": "uuid", "o": "json", "p": "double[]", "q": "struct(x integer, y varchar)[]", "r": "map(varchar, integer)",
        "s": "integer[3]", "t": "ubigint", "u": "struct(x integer[], y struct(z varchar))",
    }  # fmt: skip
    full = {
        "a": True, "b": 2**100, "c": 0.5, "d": float("nan"), "e": "1.25", "f": b"\x00\xff", "g": "0001-01-01",
        "h": "23:59:59.999999", "i": "9999-12-31 23:59:59.999999", "j": "2024-01-01 00:00:01", "k": "2024-01-01 00:00:00.001",
        "l": "2024-01-01 00:00:00.000000001", "m": "2024-01-01 00:00:00+09:00", "n": "12345678-1234-1234-1234-123456789012",
        "o": '{"a": [1, null]}', "p": [float("nan"), -0.0, None], "q": [{"x": 1, "y": "🎉"}, None], "r": {"가": 1, "b": None},
        "s": [1, None, 3], "t": 2**64 - 1, "u": {"x": [], "y": {"z": None}},
    }  # fmt: skip
    every = house(schema=types, cold_after="1 day")
    empty: dict[str, Any] = dict.fromkeys(types)
    for rows in ([full], [empty], [full, empty, full], [empty] * 5, [full] * 3):
        every.log.append(rows)
    before = every.instance.tail("l")
    every.later(2)
    (done,) = every.instance.maintain()
    assert done.cold > 0
    after = every.instance.tail("l")
    assert after.schema.equals(before.schema, check_metadata=True)
    assert repr(after.to_pylist()) == repr(before.to_pylist())
    assert every.log.head().hash == every.verify()


def test_what_parquet_cannot_hold_stays_as_it_is(house: Callable[..., House]) -> None:
    stays = house(schema={"key": "bigint", "text": "interval", "gone": "boolean"}, cold_after="1 day")
    for number in range(10):
        stays.log.append([{"key": number}])
    stays.later(2)
    (done,) = stays.instance.maintain()
    assert done.cold == 0 and not stays.names("cold") and not stays.names("parquet")
    assert [key for _, key, _ in stays.rows()] == list(range(10))


def test_a_damaged_segment_is_never_made_cold(house: Callable[..., House]) -> None:
    bad = house(cold_after="1 day")
    for number in range(10):
        bad.append(number)
    path = sorted(bad.partition.glob("*.seg"))[1]
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    bad.later(2)
    with pytest.raises(CorruptFrame, match="is not what was written"):
        bad.instance.maintain()
    assert path.read_bytes() == content


def test_request_ids_are_known_from_cold_segments(house: Callable[..., House]) -> None:
    cold = house(cold_after="1 day")
    first = cold.log.append([{"key": 1}], request_id="r1")
    for number in range(10):
        cold.append(number)
    cold.later(2)
    cold.instance.maintain()
    cold.instance.close()
    again = bourne.open(cold.app, data=cold.folder, clock=cold.clock)
    repeat = again.append("l", [{"key": 1}], request_id="r1")
    assert repeat.is_repeat and repeat.ranges == first.ranges
    again.close()


def test_the_only_segment_left_hot_cannot_be_torn(house: Callable[..., House]) -> None:
    """It was durable before the others were made cold: without its first frame, the chain would be another one."""
    cold = house(cold_after="1 day")
    for number in range(4):
        cold.append(number)
    cold.later(2)
    cold.instance.maintain()  # the last segment has no records now
    cold.instance.close()
    (last,) = sorted(cold.partition.glob("*.seg"))
    (cold.partition / "head").unlink()
    content = last.read_bytes()
    for cut in (0, 100, len(content) - 64):
        last.write_bytes(content[:cut])
        with pytest.raises(CorruptFrame, match="does not start with its schema"):
            bourne.open(cold.app, data=cold.folder, clock=cold.clock).append("l", [{"key": cut}])
    last.write_bytes(content)
    with bourne.open(cold.app, data=cold.folder, clock=cold.clock) as again:
        assert again.append("l", [{"key": 4}]).offsets.tolist() == [4]
        verify_log(again.log("l").folder, again.log("l").info)


def test_two_at_it_at_once_do_not_disturb_each_other(house: Callable[..., House]) -> None:
    both = house(cold_after="1 day")
    for number in range(10):
        both.append(number)
    both.later(2)
    with retention._alone(both.partition / "maintain"):
        (done,) = both.instance.maintain()
    assert done.is_busy and done.cold == 0
    (done,) = both.instance.maintain()
    assert not done.is_busy and done.cold > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compact": True}, "without a key"),
        ({"tombstone": "gone"}, "without compaction"),
        ({"compact": True, "key": "key", "tombstone": "text"}, "is a VARCHAR"),
        ({"compact": True, "key": "key", "tombstone": "none"}, "not in the schema"),
        ({"keep": "1 month"}, "fixed length"),
        ({"keep": "0 days"}, "age of nothing"),
        ({"cold_after": "soon"}, "not an interval"),
        ({"keep_bytes": 0}, "no such number"),
        ({"keep_bytes": "1 GB"}, "no such number"),
    ],
)
def test_retention_that_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        bourne.App("a").log("l", schema=SCHEMA, **options)


def test_hot_segments_have_no_records_compacted(house: Callable[..., House]) -> None:
    plain = house()
    plain.append(1)
    found = open_segment(plain.partition, 0)
    assert isinstance(found, HotSegment) and not found.is_compacted(0)
    assert found.name == segment.segment_name(0) and zlib.crc32(b"") == 0
    found.close()


@pytest.mark.parametrize("call", ["open", "write", "truncate", "sync", "sync_folder"])
def test_a_segment_that_could_not_be_begun_is_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Any
) -> None:
    """The roll fails, the last segment goes on: a file named by an offset in its middle would be a gap later."""
    files = FaultyFiles()
    app = bourne.App("a")
    app.log("l", schema=SCHEMA)
    with bourne.open(app, data=tmp_path, files=files) as instance:
        log = instance.log("l")
        writer = log.writer(0)
        log.append([{"key": 0}])
        files.fail(call, name="*1.seg" if call != "sync_folder" else "0")
        with pytest.raises(bourne.StorageError):
            writer.roll()
        log.append([{"key": 1}])
        writer.roll()
        log.append([{"key": 2}])
        assert [row["key"] for row in log.rows()] == [0, 1, 2]
        verify_log(log.folder, log.info)


def test_a_reader_keeps_its_parquet_file_though_all_in_it_is_superseded(
    house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bourne.log.retention.COMPACT_BYTES_MIN", 1)
    small = house(key="key", compact=True)
    small.append(1, 2, text="x" * 3000)
    small.append(1, text="y")
    small.instance.maintain()
    reader = small.instance.reader("l")
    reader.seek(0)
    small.append(1, 2, text="z" * 30_000)
    (done,) = small.instance.maintain()
    assert [pin.holder for pin in done.held] == ["a reader"]
    assert sum(frame.batch.num_rows for frame in reader.read(until=3)) == 2
    reader.close()
    small.instance.maintain()
    small.append(3, text="w" * 50_000)
    small.instance.maintain()
    assert [key for _, key, _ in small.rows()] == [1, 2, 3]
    small.verify()
