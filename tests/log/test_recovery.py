"""After whatever happened: no acknowledged record is lost, none is invented, none that failed comes back."""

from __future__ import annotations

import errno
import os
import shutil
import struct
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bourne.errors import BourneError, Closed, CorruptFrame, FormatTooNew, StorageError
from bourne.log.format import HEADER_BYTES, decode_head, decode_header
from bourne.testing import ScratchLog
from bourne.testing.logs import Seen

IS_LONG = bool(os.environ.get("BOURNE_LONG"))

# Of the slower runs over all bytes, a quick test takes each fifth, which hits every field.
STEP = 1 if IS_LONG else 5


CALLS: list[tuple[list[tuple[int, str]], dict[str, Any] | None]] = [
    ([(1, "하나"), (2, "two")], None),
    ([], {"epoch": 1}),
    ([(3, "🌊")], None),
    ([(4, "four")], {"epoch": 2}),
    ([(5, "five")], None),
]


@pytest.fixture
def log(tmp_path: Path) -> ScratchLog:
    """A log of three small segments, closed, with an empty frame and one of several records."""
    log = ScratchLog(tmp_path)
    _fill(log)
    assert len(log.segments()) == 3
    return log


def _fill(log: ScratchLog) -> list[bytes]:
    """Make the calls; return what `head` held before the first and after each."""
    heads = []
    with log.writer(segment_bytes=1250) as writer:
        heads.append((log.partition / "head").read_bytes())
        for rows, meta in CALLS:
            log.append(writer, rows, meta)
            heads.append((log.partition / "head").read_bytes())
    return heads


def _flips(path: Path, *, step: int = 1, both: bool = IS_LONG) -> Iterator[int]:
    """Flip each byte of a file in turn, wholly or in one bit (or `both`), and mend it again."""
    good = path.read_bytes()
    for at in range(0, len(good), step):
        masks = (0xFF, 1 << at % 8)
        for mask in masks if both else masks[at % 2 : at % 2 + 1]:
            path.write_bytes(good[:at] + bytes([good[at] ^ mask]) + good[at + 1 :])
            yield at
    path.write_bytes(good)


def _read_all(log: ScratchLog) -> tuple[list[Seen], BourneError | None]:
    """Read what is served before an error, and the error."""
    seen: list[Seen] = []
    try:
        reader = log.reader()
    except BourneError as error:
        return seen, error
    try:
        while True:
            frames = reader.read()
            if not frames:
                return seen, None
            seen += log.frames_of(frames)
    except BourneError as error:
        return seen, error
    finally:
        reader.close()


def test_every_flipped_byte_of_a_segment_is_a_named_error_after_a_true_prefix(log: ScratchLog) -> None:
    frames = log.frames()
    for path in log.segments():
        for at in _flips(path):
            seen, error = _read_all(log)
            assert isinstance(error, CorruptFrame), (path.name, at)
            assert path.name in str(error)
            assert seen == frames[: len(seen)], (path.name, at)
    assert log.frames() == frames


def test_opening_for_append_over_a_flipped_byte_never_changes_what_was_there(log: ScratchLog) -> None:
    """With a `head` that is up to date nothing is cut; what is damaged stays a named error."""
    frames = log.frames()
    sizes = [path.stat().st_size for path in log.segments()]
    head = (log.partition / "head").read_bytes()
    for path in log.segments():
        for at in _flips(path, step=STEP):
            try:
                log.writer().close()
            except CorruptFrame:
                pass
            assert [each.stat().st_size for each in log.segments()] == sizes, (path.name, at)
            (log.partition / "head").write_bytes(head)
    assert log.frames() == frames


def test_a_flipped_byte_without_a_head_is_damage_or_the_torn_end(log: ScratchLog) -> None:
    """Without `head` the very last frame cannot be told from a torn one; all before it can."""
    frames = log.frames()
    head = decode_head((log.partition / "head").read_bytes())
    assert head is not None
    good = {path: path.read_bytes() for path in log.segments()}
    for path in log.segments():
        for at in _flips(path, step=STEP):
            (log.partition / "head").unlink(missing_ok=True)
            seen, error = _read_all(log)
            assert seen == frames[: len(seen)], (path.name, at)
            if path == log.segments()[-1] and at >= head.last:
                assert len(seen) >= len(frames) - 1, (path.name, at)
            else:
                assert isinstance(error, CorruptFrame), (path.name, at)
            for each, content in good.items():
                each.write_bytes(content)


def test_damage_behind_a_stale_head_is_not_cut(log: ScratchLog) -> None:
    """A frame that was acknowledged after `head` was last written to the disk, and then damaged."""
    frames = log.frames()
    stale = _heads(log)[1]
    stale_head = decode_head(stale)
    assert stale_head is not None
    stale_end = stale_head.end
    good = {path: path.read_bytes() for path in log.segments()}
    last_frame = decode_head((log.partition / "head").read_bytes())
    assert last_frame is not None
    for path in log.segments():
        for at in _flips(path, step=STEP):
            if path == log.segments()[0] and at < stale_end:
                continue  # tested above
            (log.partition / "head").write_bytes(stale)
            seen, error = _read_all(log)
            assert seen == frames[: len(seen)], (path.name, at)
            if path == log.segments()[-1] and at >= last_frame.last:
                assert error is None or isinstance(error, CorruptFrame)
            else:
                assert isinstance(error, CorruptFrame), (path.name, at)
                assert {each: each.stat().st_size for each in good} == {
                    each: len(content) for each, content in good.items()
                }
            for each, content in good.items():
                each.write_bytes(content)


def _heads(log: ScratchLog) -> list[bytes]:
    """Return what `head` held after each call of the fixture."""
    copy = ScratchLog(log.folder.parent / "heads")
    heads = _fill(copy)
    assert copy.frames() == log.frames()
    return heads


def test_every_flipped_cut_or_missing_head_is_mended(log: ScratchLog) -> None:
    frames = log.frames()
    path = log.partition / "head"
    good = path.read_bytes()
    for at in _flips(path):
        assert log.frames() == frames, at
        assert decode_head(path.read_bytes()) == decode_head(good), at
    for size in range(len(good)):
        path.write_bytes(good[:size])
        with log.writer() as writer:
            assert writer.next_offset == 5, size
    path.unlink()
    assert log.frames() == frames
    assert decode_head(path.read_bytes()) == decode_head(good)


def test_any_stale_head_is_caught_up(log: ScratchLog) -> None:
    frames = log.frames()
    for head in _heads(log):
        (log.partition / "head").write_bytes(head)
        assert log.frames() == frames
        (log.partition / "head").write_bytes(head)
        with log.writer() as writer:
            assert writer.next_offset == 5


@pytest.mark.parametrize("is_head_there", [True, False])
def test_every_cut_of_the_last_segment_is_a_whole_frame_prefix(tmp_path: Path, is_head_there: bool) -> None:
    """The torn tail of a crash, at every byte, with a `head` that points before it and without."""
    log = ScratchLog(tmp_path)
    with log.writer() as writer:
        ends = [writer.head.end]
        head = (log.partition / "head").read_bytes()
        log.append(writer, [(1, "하나")], {"epoch": 1})
        ends.append(writer.head.end)
        log.append(writer, [], {"epoch": 2})
        ends.append(writer.head.end)
        log.append(writer, [(2, "🌊"), (3, "x")])
        ends.append(writer.head.end)
    frames = log.frames()
    path = log.segments()[0]
    content = path.read_bytes()
    for size in range(ends[0] if is_head_there else 0, len(content) + 1):
        path.write_bytes(content[:size])
        (log.partition / "head").unlink(missing_ok=True)
        if is_head_there:
            (log.partition / "head").write_bytes(head)
        kept = frames[: max(0, sum(end <= size for end in ends) - 1)]
        if size % 8 == 1:
            assert log.frames() == kept, size
        with log.writer() as writer:
            assert path.stat().st_size == writer.head.end
            log.append(writer, [(9, "after")])
        assert [frame[1:] for frame in log.frames()] == [frame[1:] for frame in kept] + [([(9, "after")], {})]


def test_a_file_shorter_than_head_says_is_damage(log: ScratchLog) -> None:
    last = log.segments()[-1]
    content = last.read_bytes()
    for size in range(len(content)):
        last.write_bytes(content[:size])
        with pytest.raises(CorruptFrame):
            log.writer()
        with pytest.raises(CorruptFrame):
            log.reader()
    last.unlink()
    for opened in (log.writer, log.reader):
        with pytest.raises(CorruptFrame):
            opened()
    for path in log.segments():
        path.unlink()
    for opened in (log.writer, log.reader):
        with pytest.raises(CorruptFrame):
            opened()


def test_a_missing_segment_is_damage(log: ScratchLog) -> None:
    frames = log.frames()
    heads = _heads(log)
    log.segments()[1].unlink()
    seen, error = _read_all(log)
    assert isinstance(error, CorruptFrame)
    assert seen == frames[: len(seen)]
    (log.partition / "head").write_bytes(heads[1])
    with pytest.raises(CorruptFrame, match="missing"):
        log.writer()


def test_a_segment_that_was_created_but_not_published_is_taken_over_or_removed(tmp_path: Path) -> None:
    rows = [(0, "x"), (1, "y")]
    whole = b""
    for size in (0, 1, 128, 400, -1):
        for is_head_there in (True, False):
            log = ScratchLog(tmp_path / f"{size}-{is_head_there}")
            with log.writer(segment_bytes=1) as writer:
                log.append(writer, rows[:1])
                log.append(writer, rows[1:])
                log.files.fail("sync_folder", error=errno.EIO)
                log.files.fail("remove", error=errno.EIO, always=True)  # else it would be gone at once
                with pytest.raises(StorageError):
                    log.append(writer, [(2, "lost")])
            leftover = log.segments()[-1]
            whole = leftover.read_bytes()
            leftover.write_bytes(whole if size < 0 else whole[:size])
            if not is_head_there:
                (log.partition / "head").unlink()
            log.files.kill()
            if size % 2:
                assert log.rows() == rows
            with log.writer(segment_bytes=1) as writer:
                log.append(writer, [(3, "z")])
            assert log.rows() == [*rows, (3, "z")]
            assert len(log.segments()) == 3
    assert len(whole) > 400


def test_a_name_that_was_not_yet_durable_is_made_so_before_it_is_used(tmp_path: Path) -> None:
    """The process dies between syncing a new segment and syncing its folder; then the power fails later."""
    log = ScratchLog(tmp_path)
    with log.writer(segment_bytes=1) as writer:
        log.append(writer, [(0, "x")])
        log.files.fail("sync_folder", error=errno.EIO)
        with pytest.raises(StorageError):
            log.append(writer, [(1, "lost")])
    log.files.kill()
    with log.writer() as writer:
        log.append(writer, [(2, "y")])
        log.files.crash()
    assert log.rows() == [(0, "x"), (2, "y")]


def test_a_frame_that_a_failed_sync_left_is_written_again_before_it_is_served(tmp_path: Path) -> None:
    """After a failed sync the system may believe that its pages are on the disk; the next sync does nothing."""
    log = ScratchLog(tmp_path)
    with log.writer() as writer:
        log.append(writer, [(0, "x")])
        log.files.fail("sync", error=errno.EIO)
        log.files.fail("truncate", error=errno.EIO)
        with pytest.raises(StorageError, match="nor take back"):
            log.append(writer, [(1, "in doubt")])
        log.files.fail("truncate", error=errno.EIO, always=True)
    log.files.heal()
    with log.writer() as writer:
        log.append(writer, [(2, "y")])
        log.files.crash()
    assert log.rows() == [(0, "x"), (1, "in doubt"), (2, "y")]


def test_what_was_taken_back_stays_away_after_a_power_cut(tmp_path: Path) -> None:
    """A frame that was written whole before the write failed, then cut: the cut is durable."""
    for seed in range(60):
        log = ScratchLog(tmp_path / str(seed))
        with log.writer() as writer:
            log.append(writer, [(0, "x")])
            log.files.fail("write", error=errno.EIO, bytes_written=10_000)
            with pytest.raises(StorageError):
                log.append(writer, [(1, "lost")])
            log.files.crash(seed)
        assert log.rows() == [(0, "x")], seed


def test_a_torn_frame_that_holds_a_log_is_not_damage(tmp_path: Path) -> None:
    """Records may hold copies of frames: those inside of a torn frame do not follow it."""
    log = ScratchLog(tmp_path)
    with log.writer() as writer:
        log.append(writer, [(0, "x")])
        end = writer.head.end
    path = log.segments()[0]
    frames = path.read_bytes()
    with log.writer() as writer:
        log.append(writer, [(1, "y" * len(frames) * 3)])
    content = bytearray(path.read_bytes())
    header = decode_header(content[end:])
    assert header is not None
    body = end + HEADER_BYTES
    at = body + 64 * ((header.body_bytes - len(frames)) // 128)
    content[at : at + len(frames)] = frames
    path.write_bytes(content)
    (log.partition / "head").unlink()
    assert log.rows() == [(0, "x")]


@pytest.mark.parametrize(("form", "at", "value"), [("<H", 8, 3), ("<I", 12, 4)])
def test_newer_frames_are_not_cut(log: ScratchLog, form: str, at: int, value: int) -> None:
    head = decode_head((log.partition / "head").read_bytes())
    assert head is not None
    path = log.segments()[-1]
    content = bytearray(path.read_bytes())
    newer = content[head.last : head.last + HEADER_BYTES]
    struct.pack_into(form, newer, at, value)
    struct.pack_into("<I", newer, 60, zlib.crc32(newer[:60] + newer[64:]))
    path.write_bytes(content + newer)
    for opened in (log.writer, log.reader):
        with pytest.raises(FormatTooNew):
            opened()
    assert path.stat().st_size == len(content) + HEADER_BYTES


# --- power cuts ----------------------------------------------------------------------------------------------


def test_the_power_can_fail_at_every_call(tmp_path: Path) -> None:
    """Run, die at each call in turn, keep an arbitrary part of what was not synced, open, compare, go on."""
    seeds = range(20 if IS_LONG else 3)
    for call_number in range(1, 1000):
        for seed in (None, *seeds):
            folder = tmp_path / "run"
            log = ScratchLog(folder)
            log.files.die_at(call_number)
            acknowledged, attempted, is_done = _run_until_death(log)
            log.files.crash(seed)
            rows = log.rows()
            assert rows[: len(acknowledged)] == acknowledged, (call_number, seed)
            assert rows in (acknowledged, *attempted), (call_number, seed)
            with log.writer(segment_bytes=900) as writer:
                assert log.append(writer, [(99, "after")]) == range(len(rows), len(rows) + 1)
                log.files.crash(seed)
            assert log.rows() == [*rows, (99, "after")], (call_number, seed)
            shutil.rmtree(folder)
        if is_done:
            assert call_number > 30
            return
    pytest.fail("the run never got through")


def _run_until_death(log: ScratchLog) -> tuple[list[tuple[int, str]], list[list[tuple[int, str]]], bool]:
    """Return what was acknowledged, what may be there as well, and whether the run got through."""
    acknowledged: list[tuple[int, str]] = []
    rows: list[tuple[int, str]] = []
    writer = None
    try:
        for number in range(6):
            if number == 3 and writer is not None:
                writer.close()
                writer = None
            writer = writer or log.writer(segment_bytes=900)
            rows = [(number, "가" * 150 * (number % 2))]
            log.append(writer, rows)
            acknowledged += rows
    except StorageError:
        return acknowledged, [acknowledged + rows], False
    finally:
        if writer is not None:
            writer.close()
    return acknowledged, [], True


class LogMachine(RuleBasedStateMachine):
    """A log against a list, through failures, kills and power cuts."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.log = ScratchLog(self.folder)
        self.writer: Any = None
        self.reader: Any = None
        self.followed: list[Seen] = []
        self.model: list[Seen] = []  # the frames that must be there
        self.maybe: list[Seen] = []  # what a call that died left in doubt comes right after them
        self.number = 0

    @initialize(segment_bytes=st.sampled_from([1, 900, 1500, 100_000]))
    def begin(self, segment_bytes: int) -> None:
        self.segment_bytes = segment_bytes

    def _open(self) -> bool:
        """Open for appending, and learn what became of a call in doubt."""
        if self.writer is None:
            try:
                self.writer = self.log.writer(segment_bytes=self.segment_bytes)
            except StorageError:
                return False
            self._settle()
        return True

    def _settle(self) -> None:
        frames = self.log.frames()
        assert frames in (self.model, self.model + self.maybe)
        self.model, self.maybe = frames, []

    def _close(self) -> None:
        for opened in (self.writer, self.reader):
            if opened is not None:
                opened.close()
        self.writer = self.reader = None
        self.followed = []

    def _append(self, rows: list[tuple[int, str]], meta: dict[str, Any] | None) -> None:
        if not self._open():
            return
        offset = sum(len(rows) for _, rows, _ in self.model)
        frame: Seen = (offset, rows, meta or {})
        try:
            assert self.log.append(self.writer, rows, meta) == range(offset, offset + len(rows))
            self.model.append(frame)
        except Closed:
            self._close()
        except StorageError as error:
            if "nor take back" in str(error):
                self.maybe = [frame]

    @rule(count=st.integers(1, 3), width=st.sampled_from([0, 1, 700]))
    def append(self, count: int, width: int) -> None:
        rows = [(self.number + index, "글" * width) for index in range(count)]
        self.number += count
        self._append(rows, None)

    @rule()
    def append_again(self) -> None:
        """The same bytes as before, by a clock that stands still: stale frames would fit."""
        if self.model:
            self._append(self.model[-1][1] or [(0, "")], self.model[-1][2] or None)

    @rule(is_empty=st.booleans())
    def append_meta(self, is_empty: bool) -> None:
        self.number += 1
        self._append([] if is_empty else [(self.number, "m")], {"epoch": self.number})

    @rule(
        call=st.sampled_from(["open", "write", "truncate", "sync", "sync_folder", "remove"]),
        nth=st.integers(1, 4),
        error=st.sampled_from([errno.ENOSPC, errno.EIO]),
        bytes_written=st.integers(0, 1500),
        always=st.booleans(),
    )
    def fail(self, **fault: Any) -> None:
        self.log.files.fail(**fault)

    @rule()
    def heal(self) -> None:
        self.log.files.heal()

    @rule()
    def kill(self) -> None:
        """The process ends; the machine goes on."""
        self.log.files.kill()
        self._close()

    @rule(seed=st.none() | st.integers(0, 1000))
    def cut_power(self, seed: int | None) -> None:
        self._close_followers()
        self.log.files.crash(seed)
        self._close()

    @precondition(lambda self: self.writer is not None)
    @rule(calls=st.integers(1, 12), seed=st.none() | st.integers(0, 1000))
    def cut_power_in_an_append(self, calls: int, seed: int | None) -> None:
        self.log.files.heal()
        self.log.files.die_at(calls)
        self.append(1, 700)
        self._close_followers()
        self.log.files.crash(seed)
        self._close()

    @rule()
    def reopen(self) -> None:
        self._close()
        self._open()

    @rule()
    def lose_head(self) -> None:
        """Somebody deletes `head`. The writer must be closed, or it would go on to publish into nowhere."""
        self.log.files.heal()
        self._close()
        (self.log.partition / "head").unlink(missing_ok=True)
        self._open()

    @precondition(lambda self: self.writer is not None)
    @rule()
    def follow(self) -> None:
        """A reader that stays open sees what is published, in order, and nothing that is not."""
        if self.reader is None:
            self.reader, self.followed = self.log.reader(), []
        self.followed += self.log.read_on(self.reader)
        assert self.followed == self.model[: len(self.followed)]

    def _close_followers(self) -> None:
        if self.reader is not None:
            self.reader.close()
            self.reader = None

    @precondition(lambda self: self.writer is None and not self.maybe)
    @rule()
    def read(self) -> None:
        self.log.files.heal()
        assert self.log.frames() == self.model

    @invariant()
    def nothing_is_invented(self) -> None:
        """Whatever a reader sees while the writer is open is acknowledged."""
        if self.writer is not None:
            frames = self.log.frames()
            assert frames == self.model[: len(frames)]

    def teardown(self) -> None:
        self.log.files.heal()
        self._close()
        self._open()
        assert self.log.frames() == self.model
        self._close()
        shutil.rmtree(self.folder)


LogMachine.TestCase.settings = settings(
    max_examples=2000 if IS_LONG else 60,
    stateful_step_count=40 if IS_LONG else 25,
    deadline=None,
    derandomize=not IS_LONG,
)
TestLogMachine = LogMachine.TestCase
