"""What is intact is copied, what is lost is named, and the damaged log stays as it is."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import bourne
from bourne.errors import BourneError, DefinitionError, DiskFull, FormatTooNew, StorageError
from bourne.log import embedded
from bourne.log.catalog import LogInfo, read_log_info, write_log_info
from bourne.log.embedded import EmbeddedLog
from bourne.log.format import CONTINUED, HEADER_BYTES, Header, decode_header
from bourne.log.intact import Intact, Lost
from bourne.log.reader import LogReader
from bourne.log.repair import Repaired, repair_log
from bourne.log.segment import headers
from bourne.log.verify import verify_log
from bourne.log.writer import LogWriter
from bourne.ports import OsFiles
from bourne.schema import declare_schema
from bourne.testing import FaultyFiles, ScratchLog, SimulatedClock

IS_LONG = bool(os.environ.get("BOURNE_LONG"))

# Each byte, or each third: prime to 8, so that each bit of a byte has its turn.
STEP = 1 if IS_LONG else 5
CLOCK = SimulatedClock(1_800_000_000_000_000)
Row = tuple[int, str]


def state_of(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return all there is to a folder: names, times of change, modes and bytes."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            path.stat().st_mode,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in [folder, *folder.rglob("*")]
    }


def repair(log: ScratchLog, name: str = "copy", files: Any = None, **options: Any) -> Repaired:
    """Repair a scratch log as `logs/copy`; the old one must not change."""
    before = state_of(log.folder)
    try:
        return repair_log(
            log.folder, log.folder.parent / name, files=files or FaultyFiles(), clock=CLOCK, **options
        )
    finally:
        assert state_of(log.folder) == before


def rows_of(folder: Path) -> list[Row]:
    """Return all records of a log, which has to be sound."""
    info = read_log_info(folder)
    assert info is not None
    rows = []
    for partition in range(info.partitions):
        reader = LogReader(folder, info, partition=partition)
        while frames := reader.read():
            for frame in frames:
                rows += list(zip(*frame.batch.to_pydict().values(), strict=True))
        reader.close()
    verify_log(folder, info)
    return rows


def repaired(log: ScratchLog) -> tuple[list[Row], Repaired]:
    """Repair, and return what was copied."""
    done = repair(log)
    copy = log.folder.parent / "copy"
    rows = rows_of(copy)
    assert len(rows) == sum(done.copied)
    shutil.rmtree(copy)
    assert not (log.folder.parent.parent / "repair").exists()
    return rows, done


def looked_at(log: ScratchLog) -> tuple[list[Row], list[Lost]]:
    """Return what is intact and what is lost without copying it, which is quicker."""
    rows: list[Row] = []
    lost = []
    for each in Intact(log.folder, log.info, 0, boot_id=log.files.boot_id()).read():
        if isinstance(each, Lost):
            lost.append(each)
        else:
            rows += zip(*each.batch.to_pydict().values(), strict=True)
    return rows, lost


def ranges(done: Repaired) -> list[tuple[int, int | None]]:
    return [(each.first, each.next) for each in done.lost]


@pytest.fixture
def log(tmp_path: Path) -> ScratchLog:
    """A log of several segments and frames of one and several records."""
    made = ScratchLog(tmp_path / "logs", name="로그")
    with made.writer(segment_bytes=1800) as writer:
        for number in range(9):
            made.append(writer, [(number * 10 + each, f"값{each}") for each in range(number % 3 + 1)])
    assert len(made.segments()) >= 3
    return made


def frames_of(path: Path) -> list[tuple[int, Header]]:
    with path.open("rb") as file:
        return list(headers(file.fileno(), 0, path.stat().st_size, file=path.name))


def flip(path: Path, at: int, mask: int = 0x10) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= mask
    path.write_bytes(content)


def test_a_sound_log_is_copied_whole(log: ScratchLog) -> None:
    rows, done = repaired(log)
    assert rows == log.rows() and done.lost == () and done.copied == (len(rows),)
    assert done.log.name == "copy" and done.log.id != log.info.id
    assert done.log == replace(log.info, name="copy")


def test_of_every_flipped_byte_exactly_the_frame_is_lost(log: ScratchLog) -> None:
    """A schema frame costs nothing: what its bytes were can be proven."""
    everything = log.rows()
    for path in log.segments():
        good = path.read_bytes()
        for byte, header in frames_of(path):
            for at in range(byte, byte + header.frame_bytes, STEP):
                flip(path, at, 1 << at % 8)
                rows, named = looked_at(log)
                if at % 97 == 0:
                    copied, done = repaired(log)
                    assert (copied, list(done.lost)) == (rows, named)
                path.write_bytes(good)
                lost = everything[header.base_offset : header.next_offset]
                assert rows == [row for row in everything if row not in lost], (path.name, at)
                expected = [(header.base_offset, header.next_offset)] if lost else []
                assert [(each.first, each.next) for each in named] == expected, (path.name, at)
                for each in named:
                    assert (each.partition, each.file, each.byte) == (0, path.name, byte)


@pytest.mark.parametrize("has_head", [True, False])
def test_truncated_anywhere_the_rest_is_there(log: ScratchLog, has_head: bool) -> None:
    everything = log.rows()
    for path in log.segments():
        good, whole = path.read_bytes(), frames_of(path)
        is_last = path == log.segments()[-1]
        if not has_head:
            (log.partition / "head").unlink(missing_ok=True)
        behind = [header.next_offset for _, header in whole][-1]
        for cut in range(0, len(good), STEP):
            path.write_bytes(good[:cut])
            rows, named = looked_at(log)
            if cut % 97 == 0:
                copied, done = repaired(log)
                assert (copied, list(done.lost)) == (rows, named)
            kept = [header for byte, header in whole if byte + header.frame_bytes <= cut]
            first = kept[-1].next_offset if kept else whole[0][1].base_offset
            assert rows == [*everything[:first], *everything[behind:]], (path.name, cut)
            end: int | None = behind
            if is_last and not has_head:
                end = first if cut == sum(header.frame_bytes for header in kept) else None
            found = [(each.first, each.next) for each in named]
            assert found == ([(first, end)] if first != end else []), (path.name, cut)
        path.write_bytes(good)


def test_a_missing_segment_is_a_range(log: ScratchLog) -> None:
    everything, paths = log.rows(), log.segments()
    bases = [int(path.name[:20]) for path in paths]
    for index, path in enumerate(paths):
        good = path.read_bytes()
        path.unlink()
        rows, done = repaired(log)
        path.write_bytes(good)
        end = [*bases, len(everything)][index + 1]
        assert rows == everything[: bases[index]] + everything[end:]
        assert ranges(done) == [(bases[index], end)]
    for path in paths:
        path.unlink()
    rows, done = repaired(log)
    assert rows == [] and ranges(done) == [(0, len(everything))]


def test_without_a_head_all_whole_appends_are_there(log: ScratchLog) -> None:
    everything = log.rows()
    head = log.partition / "head"
    good = head.read_bytes()
    for at in range(len(good)):
        head.write_bytes(good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :])
        assert looked_at(log) == (everything, [])
    head.unlink()
    rows, done = repaired(log)
    assert rows == everything and done.lost == ()


def large_append(log: ScratchLog, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, Header]]:
    """Append five records as one call of several frames; return the last segment's frames."""
    monkeypatch.setattr("bourne.log.end.FRAME_ROWS_MAX", 2)
    with log.writer() as writer:
        log.append(writer, [(100 + number, "큰") for number in range(5)])
    found = frames_of(log.segments()[-1])
    assert [bool(header.flags & CONTINUED) for _, header in found[-3:]] == [True, True, False]
    return found


def test_of_an_append_of_several_frames_the_whole_ones_are_there(
    log: ScratchLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    (_, one), (byte, two), (_, three) = large_append(log, monkeypatch)[-3:]
    everything = log.rows()
    flip(log.segments()[-1], byte + HEADER_BYTES)
    rows, done = repaired(log)
    assert rows == everything[: one.next_offset] + everything[three.base_offset :]
    assert ranges(done) == [(two.base_offset, two.next_offset)]


def test_an_append_without_its_end_does_not_count_without_a_head(
    log: ScratchLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    (_, one), _, (last, three) = large_append(log, monkeypatch)[-3:]
    everything, path = log.rows(), log.segments()[-1]
    (log.partition / "head").unlink()
    good = path.read_bytes()
    path.write_bytes(good[:last])
    rows, done = repaired(log)
    assert rows == everything[: one.base_offset]
    assert ranges(done) == [(one.base_offset, three.base_offset)] and "has no end" in done.lost[0].reason
    path.write_bytes(good[: last + 100])
    rows, done = repaired(log)
    assert rows == everything[: one.base_offset] and ranges(done) == [(one.base_offset, None)]


def test_what_head_does_not_acknowledge_is_named_or_copied_after_a_restart(log: ScratchLog) -> None:
    """A head of this run of the machine is up to date; one from before it may be older than what was acknowledged."""
    head = log.partition / "head"
    with log.writer() as writer:
        log.append(writer, [(500, "이전")])
        old = head.read_bytes()
        log.append(writer, [(501, "past")])
        log.append(writer, [(502, "past")])
    everything = log.rows()
    head.write_bytes(old)
    done = repair(log, files=log.files)
    assert rows_of(log.folder.parent / "copy") == everything[:-2]
    assert ranges(done) == [(len(everything) - 2, len(everything))] and "acknowledges" in done.lost[0].reason
    shutil.rmtree(log.folder.parent / "copy")
    restarted = FaultyFiles()
    restarted.crash()
    done = repair(log, files=restarted)
    assert rows_of(log.folder.parent / "copy") == everything and done.lost == ()


# --- data that looks like frames ------------------------------------------------------------------------


class Blobs:
    """A log of blobs, in which a record's bytes can stand at a multiple of 64, as frames do."""

    def __init__(self, folder: Path, name: str = "blobs") -> None:
        self.folder = folder / name
        schema = declare_schema({"data": "blob"}, where=name)
        self.info = write_log_info(self.folder, LogInfo(name, schema, id=b"the same id here"), OsFiles())
        self.path = self.folder / "0" / ("0" * 20 + ".seg")
        self.clock = SimulatedClock(1_700_000_000_000_000)

    def append(self, *records: bytes) -> None:
        """Append each record as a frame."""
        with LogWriter(self.folder, self.info, files=OsFiles(), clock=self.clock) as writer:
            for record in records:
                table = pa.table([[record]], schema=self.info.schema.to_arrow())
                writer.append(table)

    def frames(self) -> list[bytes]:
        content = self.path.read_bytes()
        return [content[at : at + header.frame_bytes] for at, header in frames_of(self.path)]

    def rows(self, copy: str) -> list[bytes]:
        return [row[0] for row in rows_of(self.folder.parent / copy)]


def aligned(blobs: Blobs, *parts: bytes) -> bytes:
    """Return a record in which these bytes come to stand at a multiple of 64 bytes of the file."""
    probe = b"#" * 64 + b"".join(parts)
    for pad in range(64):
        record = b"." * pad + probe[64:]
        table = pa.table([[record]], schema=blobs.info.schema.to_arrow())
        message = bytes(table.to_batches()[0].serialize())
        if message.find(b"".join(parts)) % 64 == 0:
            return record
    raise AssertionError("never aligned")


@pytest.mark.parametrize("where", ["header", "body"])
def test_frames_in_a_record_are_not_taken_for_frames(tmp_path: Path, where: str) -> None:
    """Of its own log: before the damage, so with an offset that does not fit."""
    blobs = Blobs(tmp_path / "logs")
    blobs.append(b"one", b"two", b"three")
    own = blobs.frames()
    record = aligned(blobs, *own[1:4])
    assert any(record.find(frame) >= 0 for frame in own)
    blobs.append(record, b"four", b"five")
    at = sum(map(len, own))
    assert blobs.path.read_bytes().find(own[1], at) % 64 == 0  # looks like a frame in every respect
    flip(blobs.path, at + (20 if where == "header" else HEADER_BYTES + 8))
    done = repair_log(blobs.folder, tmp_path / "logs" / "copy", files=OsFiles(), clock=CLOCK)
    assert blobs.rows("copy") == [b"one", b"two", b"three", b"four", b"five"]
    assert ranges(done) == [(3, 4)]


def test_frames_of_a_twin_in_a_record_are_not_taken_for_frames(tmp_path: Path) -> None:
    """A copy of the log went its own way: same id, offsets that would fit. The way to the log's end decides."""
    twin, blobs = Blobs(tmp_path / "twins"), Blobs(tmp_path / "logs")
    twin.append(*[b"same"] * 2, *[b"lie"] * 5)
    blobs.append(*[b"same"] * 2)
    record = aligned(blobs, *twin.frames()[3:])
    blobs.append(record, b"a", b"b", b"c")
    at = sum(map(len, blobs.frames()[:3]))
    for damage in (at + 24, at + HEADER_BYTES + 3):
        flip(blobs.path, damage)
        done = repair_log(blobs.folder, tmp_path / "logs" / f"copy{damage}", files=OsFiles(), clock=CLOCK)
        flip(blobs.path, damage)
        assert blobs.rows(f"copy{damage}") == [b"same", b"same", b"a", b"b", b"c"]
        assert ranges(done) == [(2, 3)]


def test_whole_frames_that_hold_frames_are_copied_as_they_are(tmp_path: Path) -> None:
    other, blobs = Blobs(tmp_path / "other"), Blobs(tmp_path / "logs")
    other.append(b"x")
    blobs.append(b"a", aligned(blobs, *other.frames()), b"b", b"c")
    before = [row[0] for row in rows_of(blobs.folder)]
    flip(blobs.path, sum(map(len, blobs.frames()[:1])) + 5)  # the frame before
    done = repair_log(blobs.folder, tmp_path / "logs" / "copy", files=OsFiles(), clock=CLOCK)
    assert blobs.rows("copy") == before[1:] and ranges(done) == [(0, 1)]


def test_a_newer_bournes_frame_in_a_record_does_not_stop_it(tmp_path: Path) -> None:

    blobs = Blobs(tmp_path / "logs")
    blobs.append(b"a")
    raw = bytearray(blobs.frames()[1][:HEADER_BYTES])
    raw[8] = 99
    struct.pack_into("<I", raw, 60, zlib.crc32(raw[64:], zlib.crc32(raw[:60])))
    with pytest.raises(FormatTooNew):
        decode_header(raw)
    at = sum(map(len, blobs.frames()))
    blobs.append(aligned(blobs, bytes(raw)), b"b")
    flip(blobs.path, at + 4)
    done = repair_log(blobs.folder, tmp_path / "logs" / "copy", files=OsFiles(), clock=CLOCK)
    assert blobs.rows("copy") == [b"a", b"b"] and ranges(done) == [(1, 2)]


def test_two_damaged_places_in_one_file(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "logs")
    records = [b"%d" % number * 40 for number in range(12)]
    blobs.append(*records)
    starts = [at for at, _ in frames_of(blobs.path)]
    for broken in ((3, 4, 8), (1, 12), (0, 5), (2, 4, 6, 8)):
        good = blobs.path.read_bytes()
        for number in broken:
            flip(blobs.path, starts[number] + 30)
        done = repair_log(blobs.folder, tmp_path / "logs" / "copy", files=OsFiles(), clock=CLOCK)
        blobs.path.write_bytes(good)
        assert blobs.rows("copy") == [
            record for number, record in enumerate(records) if number + 1 not in broken
        ]
        lost = {offset for each in done.lost for offset in range(each.first, each.next or 0)}
        assert lost == {number - 1 for number in broken if number}
        shutil.rmtree(tmp_path / "logs" / "copy")


def test_a_file_of_another_history_is_left_out(log: ScratchLog, tmp_path: Path) -> None:
    """A twin's segment, whole in itself, of the same offsets: the next segment does not continue it."""
    everything = log.rows()
    twin = ScratchLog(tmp_path / "twins", name="로그")
    with twin.writer(segment_bytes=1800) as writer:
        for number in range(9):
            twin.append(writer, [(number * 10 + each, f"말{each}") for each in range(number % 3 + 1)])
    assert [path.name for path in twin.segments()] == [path.name for path in log.segments()]
    bases = [int(path.name[:20]) for path in log.segments()]
    for index, (ours, theirs) in enumerate(zip(log.segments(), twin.segments(), strict=True)):
        good = ours.read_bytes()
        ours.write_bytes(theirs.read_bytes())
        rows, done = repaired(log)
        ours.write_bytes(good)
        end = [*bases, len(everything)][index + 1]
        assert rows == everything[: bases[index]] + everything[end:]
        assert ranges(done) == [(bases[index], end)]


# --- schemas ---------------------------------------------------------------------------------------------


def evolving(folder: Path) -> tuple[Path, list[Row]]:
    """Make a log of four segments in three schemas: (a), (a), (a, b), (a as BIGINT, b)."""
    log = folder / "logs" / "e"
    clock = SimulatedClock(1_700_000_000_000_000)
    number = 0
    for columns, segments in (
        ({"a": "integer"}, 2),
        ({"a": "integer", "b": "varchar"}, 1),
        ({"a": "bigint", "b": "varchar"}, 1),
    ):
        schema = declare_schema(columns, where="e")
        old = read_log_info(log)
        info = LogInfo("e", schema, id=old.id if old else bytes(16))
        info = write_log_info(log, info, OsFiles())
        with LogWriter(log, info, files=OsFiles(), clock=clock) as writer:
            for _ in range(segments):
                writer.roll()
                for _ in range(2):
                    values = [[number], [f"t{number}"]][: len(columns)]
                    writer.append(pa.table(values, schema=schema.to_arrow()))
                    number += 1
    return log, rows_of(log)


def test_old_schemas_are_read_as_the_newest(tmp_path: Path) -> None:
    log, rows = evolving(tmp_path)
    assert rows[0] == (0, None) and rows[-1] == (7, "t7")
    done = repair_log(log, log.with_name("copy"), files=OsFiles(), clock=CLOCK)
    assert rows_of(log.with_name("copy")) == rows and done.lost == ()


@pytest.mark.parametrize(
    ("segment", "is_provable"),
    [(0, True), (1, False), (2, False), (3, True)],
    ids=["next the same", "between others", "between others too", "the log's own"],
)
def test_a_damaged_schema_is_replaced_where_another_is_provably_the_same(
    tmp_path: Path, segment: int, is_provable: bool
) -> None:
    """Whichever byte is damaged, when the newer schema is the same; else all of the segment's records are lost."""
    log, rows = evolving(tmp_path)
    path = sorted(log.glob("0/*.seg"))[segment]
    base = int(path.name[:20])
    _, header = frames_of(path)[0]
    for at in (0, 20, 50, 54, 100, HEADER_BYTES + 4, HEADER_BYTES + 100, header.frame_bytes - 100):
        flip(path, at)
        done = repair_log(log, log.with_name("copy"), files=OsFiles(), clock=CLOCK)
        flip(path, at)
        found = rows_of(log.with_name("copy"))
        shutil.rmtree(log.with_name("copy"))
        if is_provable:
            assert found == rows and done.lost == (), at
        else:
            assert found == rows[:base] + rows[base + 2 :], at
            assert ranges(done) == [(base, base + 2)] and "schema" in done.lost[0].reason


def test_a_missing_schema_between_two_equal_ones_is_known(tmp_path: Path) -> None:
    """Not a byte of it is left; but schemas only grow, so there is only one that it can have been."""
    log = ScratchLog(tmp_path / "logs")
    with log.writer() as writer:
        for number in range(3):
            writer.roll()
            log.append(writer, [(number, "a"), (number, "b")])
            log.append(writer, [(number, "c")])
    middle = log.segments()[1]
    good = wiped(middle)
    everything = [(number, text) for number in range(3) for text in "abc"]
    rows, done = repaired(log)
    assert rows == everything and done.lost == ()
    first = log.segments()[0]
    middle.write_bytes(good)
    wiped(first)
    rows, done = repaired(log)  # the log may have had fewer columns then
    assert rows == everything[3:] and ranges(done) == [(0, 3)]
    done = repair(log, trusts_schema=True)
    assert rows_of(log.folder.parent / "copy") == everything and done.lost == ()


def wiped(path: Path) -> bytes:
    """Overwrite a segment's schema frame with zeros; return what was there before."""
    good = path.read_bytes()
    size = frames_of(path)[0][1].frame_bytes
    path.write_bytes(bytes(size) + good[size:])
    return good


# --- partitions, cold segments, request ids ------------------------------------------------------------


class House:
    """A data folder with one log, and a clock that is told the time."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.clock = SimulatedClock(1_700_000_000_000_000)
        app = bourne.App("house")
        app.log("주문", schema={"key": "bigint", "text": "varchar"}, **options)
        self.instance = bourne.open(app, data=folder, clock=self.clock)

    @property
    def log(self) -> EmbeddedLog:
        return self.instance.log("주문")

    @property
    def partition(self) -> Path:
        return self.log.folder / "0"

    def append(self, *keys: int, text: str = "x", request_id: str | None = None) -> None:
        self.log.append([{"key": key, "text": text} for key in keys], request_id=request_id)

    def keys(self, name: str = "주문") -> list[list[int]]:
        """Return the keys of each partition of a sound log."""
        with bourne.open(data=self.folder) as instance:
            log = instance.log(name)
            verify_log(log.folder, log.info)
            return [
                [key for batch in log.batches(partition=each) for key in batch.records.column(0).to_pylist()]
                for each in range(log.info.partitions)
            ]

    def repair(self, name: str = "새것") -> Repaired:
        before = state_of(self.log.folder)
        done = repair_log(self.log.folder, self.log.folder.parent / name, files=OsFiles(), clock=self.clock)
        assert state_of(self.log.folder) == before
        return done

    def repaired(self) -> tuple[list[list[int]], Repaired]:
        done = self.repair()
        keys = self.keys("새것")
        shutil.rmtree(self.log.folder.parent / "새것")
        return keys, done


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., House]]:
    """Data folders whose logs' segments hold about two appends."""
    made: list[House] = []

    def small(*arguments: Any, **options: Any) -> LogWriter:
        return LogWriter(*arguments, **{"segment_bytes": 1500, **options})

    monkeypatch.setattr(embedded, "LogWriter", small)

    def make(name: str = "data", **options: Any) -> House:
        made.append(House(tmp_path / name, **options))
        return made[-1]

    yield make
    for each in made:
        each.instance.close()


DAY_US = 24 * 3600 * 1_000_000


def test_partitions_and_definition_are_kept(house: Callable[..., House]) -> None:
    many = house(key="key", partitions=3, keep="9 days", compact=True, durability="interval")
    for number in range(30):
        many.append(number)
    many.log.sync()  # else it is done in a moment, while repair is at work
    before = many.keys()
    keys, done = many.repaired()
    assert keys == before and done.copied == tuple(map(len, before)) and done.lost == ()
    assert replace(done.log, name="주문") == many.log.info
    flip(sorted((many.log.folder / "1").glob("*.seg"))[0], -10)
    shutil.rmtree(many.log.folder / "2")
    keys, done = many.repaired()
    assert keys[0] == before[0] and set(keys[1]) < set(before[1]) and keys[2] == []
    assert [(each.partition, each.next) for each in done.lost] == [(1, done.lost[0].next), (2, None)]
    assert keys[1] == before[1][: done.lost[0].first] + before[1][done.lost[0].next :]
    assert "folder is missing" in done.lost[1].reason


def test_every_flipped_byte_of_a_cold_segment_costs_its_records(house: Callable[..., House]) -> None:
    cold = house(cold_after="1 day")
    for number in range(8):
        cold.append(number, text="abc" * number)
    cold.clock.advance(2 * DAY_US)
    cold.instance.maintain()
    bases = sorted(int(path.name[:20]) for path in cold.partition.glob("*.cold"))
    keys, done = cold.repaired()
    assert keys == [list(range(8))] and done.lost == () and len(bases) == 4
    for suffix in ("cold", "parquet"):
        path = sorted(cold.partition.glob(f"*.{suffix}"))[1]
        good = path.read_bytes()
        for at in range(0, len(good), 7):
            flip(path, at)
            intact, lost = Intact(cold.log.folder, cold.log.info, 0, boot_id=bytes(16)), []
            rows: list[int] = []
            for each in intact.read():
                lost += [each] if isinstance(each, Lost) else []
                rows += [] if isinstance(each, Lost) else each.batch.column(0).to_pylist()
            path.write_bytes(good)
            assert rows == [number for number in range(8) if not bases[1] <= number < bases[2]], at
            assert [offset for each in lost for offset in range(each.first, each.next or 0)] == list(
                range(bases[1], bases[2])
            )
        path.unlink()
        keys, done = cold.repaired()
        assert keys == [[number for number in range(8) if not bases[1] <= number < bases[2]]]
        assert ranges(done) == [(bases[1], bases[2])]
        assert (".parquet" in done.lost[0].reason) is True, done.lost[0].reason
        path.write_bytes(good)


def test_only_the_damaged_row_group_is_lost(
    house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bourne.log.cold.COLD_GROUP_BYTES", 1)
    cold = house(cold_after="1 day")
    for number in range(4):
        cold.append(number, 10 + number, text="abc" * number)
    cold.clock.advance(2 * DAY_US)
    cold.instance.maintain()
    flip(sorted(cold.partition.glob("*.parquet"))[0], 30)
    keys, done = cold.repaired()
    assert keys == [[1, 11, 2, 12, 3, 13]] and ranges(done) == [(0, 2)]


def test_compacted_records_are_not_lost_ones(
    house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bourne.log.retention.COMPACT_BYTES_MIN", 1)
    small = house(key="key", compact=True)
    for number in range(12):
        small.append(number % 3, 100 + number, text=str(number), request_id=f"r{number}")
    small.instance.maintain()
    before = small.keys()
    assert len(before[0]) < 24
    keys, done = small.repaired()
    assert keys == before and done.lost == ()


def test_what_retention_deleted_is_not_lost(house: Callable[..., House]) -> None:
    for options in ({"keep": "1 day"}, {}):
        old = house(f"data{len(options)}", **options)
        for number in range(8):
            old.append(number)
        bases = sorted(old.partition.glob("*.seg"))
        first = int(bases[1].name[:20])
        bases[0].unlink()
        keys, done = old.repaired()
        assert keys == [list(range(first, 8))] and done.first_offsets == (first,)
        assert ranges(done) == ([] if options else [(0, first)])


def test_request_ids_of_whole_appends_are_known_to_the_copy(
    house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bourne.log.end.FRAME_ROWS_MAX", 2)
    asked = house()
    for number in range(4):
        rows = [{"key": key, "text": "x"} for key in range(10 * number, 10 * number + 5)]
        asked.log.append(rows, request_id=f"r{number}", request_hash="h" if number % 2 else None)
    path = sorted(asked.partition.glob("*.seg"))[1]
    (byte, header) = [each for each in frames_of(path) if each[1].row_count][1]
    flip(path, byte + HEADER_BYTES + 5)
    done = asked.repair()
    assert ranges(done) == [(header.base_offset, header.next_offset)]
    broken = header.base_offset // 5
    before = asked.keys("새것")[0]
    with bourne.open(data=asked.folder) as instance:
        log = instance.log("새것")
        for number in range(4):
            appended = log.append(
                [{"key": key} for key in range(10 * number, 10 * number + 5)], request_id=f"r{number}"
            )
            assert appended.is_repeat == (number != broken)
            if appended.is_repeat:
                first = before.index(10 * number)
                assert appended.offsets.tolist() == list(range(first, first + 5))
    again = repair_log(
        asked.log.folder.parent / "새것", asked.log.folder.parent / "셋째", files=OsFiles(), clock=asked.clock
    )
    with bourne.open(data=asked.folder) as instance:  # and to a copy of the copy
        for number in range(4):
            rows = [{"key": key} for key in range(10 * number, 10 * number + 5)]
            third = instance.log("셋째")
            assert third.append(rows, request_id=f"r{number}", request_hash="h").is_repeat
            if number % 2 and number != broken:
                with pytest.raises(bourne.InputError, match="other data"):
                    third.append(rows, request_id=f"r{number}", request_hash="i")
    assert again.lost == ()


def test_rows_with_the_same_id_stay_as_they_were(house: Callable[..., House]) -> None:
    """They were appended before the log had ids."""
    twice = house()
    twice.append(1, 1, 2, 1)
    app = bourne.App("house")
    app.log("주문", schema={"key": "bigint", "text": "varchar"})
    info = replace(twice.log.info, request_id="key")
    write_log_info(twice.log.folder, info, OsFiles())
    keys, done = twice.repaired()
    assert keys == [[1, 1, 2, 1]] and done.log.request_id == "key"


# --- names, places, errors -------------------------------------------------------------------------------


def test_a_read_only_log_is_repaired(log: ScratchLog) -> None:
    everything = log.rows()
    for path in [*log.folder.rglob("*"), log.folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        rows, done = repaired(log)
        assert rows == everything and done.lost == ()
    finally:
        for path in [log.folder, *log.folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_a_log_that_needs_mending_is_not_mended(log: ScratchLog) -> None:
    with log.segments()[-1].open("ab") as file:
        file.write(b"torn" * 100)
    (log.partition / "lock").unlink()
    (log.partition / "turn").unlink()
    content = log.segments()[-1].read_bytes()
    rows, done = repaired(log)  # which looks that nothing has changed
    assert log.segments()[-1].read_bytes() == content and not (log.partition / "lock").exists()
    assert rows == log.rows() and done.lost == ()


def test_a_name_that_is_taken_is_refused(log: ScratchLog) -> None:
    for name in (log.info.name, "Other"):
        ScratchLog(log.folder.parent, name=name)
        before = state_of(log.folder.parent)
        with pytest.raises(DefinitionError, match="is taken"):
            repair_log(log.folder, log.folder.parent / name.swapcase(), files=OsFiles(), clock=CLOCK)
        assert state_of(log.folder.parent) == before


def test_an_interrupted_repair_leaves_no_log(log: ScratchLog) -> None:
    everything = log.rows()
    files = FaultyFiles()
    repair(log, files=files)
    calls = len(files.calls)
    shutil.rmtree(log.folder.parent / "copy")
    for number in range(1, calls + 1):
        files = FaultyFiles()
        files.die_at(number)
        try:
            repair(log, files=files)
        except BourneError as error:
            assert isinstance(error, StorageError)
        is_there = (log.folder.parent / "copy").exists()
        assert is_there == (number == calls)  # only its name may not be durable yet
        if is_there:
            assert rows_of(log.folder.parent / "copy") == everything
            shutil.rmtree(log.folder.parent / "copy")
    files = FaultyFiles()
    files.fail("write", nth=5, name="*.seg")
    with pytest.raises(DiskFull):
        repair(log, files=files)
    assert sorted(each.name for each in log.folder.parent.iterdir()) == [log.info.name]


def test_a_killed_repair_is_named(log: ScratchLog) -> None:
    left = log.folder.parent.parent / "repair" / "copy"
    left.mkdir(parents=True)
    with pytest.raises(DefinitionError, match="was interrupted"):
        repair(log)
    assert left.exists()
    left.rmdir()
    assert repair(log).lost == ()


def test_a_damaged_definition_is_an_error_that_says_what_to_do(log: ScratchLog) -> None:
    path = log.folder / "log.json"
    good = path.read_bytes()
    everything = log.rows()
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ (1 << at % 7)]) + good[at + 1 :])
        try:
            rows, done = repaired(log)
        except BourneError as error:
            assert error.hint
        else:
            assert rows == everything and done.lost == (), at
    path.unlink()
    with pytest.raises(StorageError, match=f"put the id of this log's frames into it .{log.info.id.hex()}"):
        repair(log)
    content = json.loads(good)
    for change, message in (({"id": "00" * 16}, "id"), ({"partitions": 0}, "partition 0")):
        path.write_text(json.dumps(content | change))
        with pytest.raises(StorageError, match=message):
            repair(log)
    for columns in ([["number", "TINYINT", True], ["text", "VARCHAR", True]], [["number", "BIGINT", True]]):
        path.write_text(json.dumps(content | {"columns": columns}))
        with pytest.raises(DefinitionError):
            repair(log)
    assert sorted(each.name for each in log.folder.parent.iterdir()) == [log.info.name]


def test_an_empty_log_is_copied(tmp_path: Path) -> None:
    log = ScratchLog(tmp_path / "logs")
    rows, done = repaired(log)
    assert rows == [] and done.lost == () and done.first_offsets == (0,)


# --- anything --------------------------------------------------------------------------------------------


def damage(path: Path, chance: random.Random) -> None:
    """Do to a file what disks and people do."""
    content = bytearray(path.read_bytes())
    kind = chance.choice(("flip", "zeros", "cut", "shift", "double", "garbage"))
    at = chance.randrange(max(1, len(content)))
    size = chance.choice((64, 512, 4096))
    if kind == "flip" and content:
        content[at] ^= 1 << chance.randrange(8)
    elif kind == "zeros":
        content[at : at + size] = bytes(len(content[at : at + size]))
    elif kind == "cut":
        del content[at:]
    elif kind == "shift":
        del content[at : at + size]
    elif kind == "double":
        content[at:at] = content[at : at + size]
    else:
        content[at : at + size] = chance.randbytes(len(content[at : at + size]))
    path.write_bytes(content)


@pytest.mark.parametrize("seed", range(300 if IS_LONG else 20))
def test_whatever_happens_each_record_is_copied_or_listed_and_none_invented(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    log = ScratchLog(tmp_path / "logs")
    with log.writer(segment_bytes=chance.choice((1500, 6000, 100_000))) as writer:
        for number in range(40):
            log.append(writer, [(number, f"{each}" * 20) for each in range(chance.randrange(1, 4))])
    everything = log.rows()
    good = {path: path.read_bytes() for path in log.segments()}
    for _ in range(8):
        for path, content in good.items():
            path.write_bytes(content)
        for _ in range(chance.randrange(1, 5)):
            damage(chance.choice(log.segments()), chance)
        if chance.random() < 0.2:
            chance.choice(log.segments()).unlink()
        rows, lost = looked_at(log)
        gone = {offset for each in lost for offset in range(each.first, each.next or 0)}
        assert rows == [row for offset, row in enumerate(everything) if offset not in gone]
        assert sum((each.next or 0) - each.first for each in lost) == len(gone)  # each once
    repaired(log)
