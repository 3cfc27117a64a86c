"""Every acknowledged byte is checked: whatever is flipped is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from bourne.errors import CorruptFrame
from bourne.log.verify import verify_log
from bourne.testing import ScratchLog


def filled(folder: Path) -> ScratchLog:
    log = ScratchLog(folder)
    with log.writer(segment_bytes=1500) as writer:
        for number in range(4):
            log.append(writer, [(number, "글" * 30)])
    assert len(log.segments()) > 1
    return log


def test_a_sound_log_has_the_writers_head(tmp_path: Path) -> None:
    log = ScratchLog(tmp_path / "empty")
    assert [(head.offset, head.hash) for head in verify_log(log.folder, log.info)] == [(0, "")]
    log = filled(tmp_path)
    seen: list[tuple[int, int]] = []
    (head,) = verify_log(log.folder, log.info, on_progress=lambda done, total: seen.append((done, total)))
    with log.writer() as writer:
        assert (head.offset, head.hash) == (4, writer.head.hash.hex())
        frames = writer.head.number
    assert seen[-1] == (frames, frames) and len(seen) == len(log.segments())


def test_every_flipped_byte_is_named(tmp_path: Path) -> None:
    log = filled(tmp_path)
    for path in log.segments():
        content = path.read_bytes()
        for at in range(len(content)):
            bad = bytearray(content)
            bad[at] ^= 1 << at % 8
            path.write_bytes(bad)
            with pytest.raises(CorruptFrame) as caught:
                verify_log(log.folder, log.info)
            assert caught.value.file == path.name
            assert caught.value.byte <= at
        path.write_bytes(content)
    verify_log(log.folder, log.info)


def test_a_missing_segment_and_a_replaced_frame_are_named(tmp_path: Path) -> None:
    log, other = filled(tmp_path / "a"), ScratchLog(tmp_path / "b")
    with other.writer(segment_bytes=1500) as writer:
        for number in range(4):
            other.append(writer, [(number, "말" * 30)])
    first = log.segments()[0]
    good = first.read_bytes()
    first.write_bytes(other.segments()[0].read_bytes())
    with pytest.raises(CorruptFrame):
        verify_log(log.folder, log.info)
    first.write_bytes(good)
    log.segments()[1].unlink()
    with pytest.raises(CorruptFrame):
        verify_log(log.folder, log.info)
