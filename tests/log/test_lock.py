"""One writer at a time, and who it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bourne.errors import LogLocked
from bourne.log import end as end_module
from bourne.log.lock import WriterLock
from bourne.log.writer import LogWriter
from bourne.testing import ScratchLog

HOLD = """
import sys
from pathlib import Path
from bourne.testing import ScratchLog

log = ScratchLog(Path(sys.argv[1]))
writer = log.writer()
log.append(writer, [(1, "theirs")])
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(end_module, "LOCK_WAIT_EXCLUSIVE_S", 0.02)


def test_a_writer_of_another_process_is_named_until_it_dies(tmp_path: Path) -> None:
    log = ScratchLog(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(LogLocked) as caught:
            log.writer()
        assert caught.value.pid == process.pid
        assert str(process.pid) in str(caught.value)
        assert log.rows() == [(1, "theirs")]
        process.kill()
        process.wait()
    with log.writer() as writer:
        log.append(writer, [(2, "ours")])
        assert writer.head.fence > 1
    assert log.rows() == [(1, "theirs"), (2, "ours")]


def test_a_second_writer_in_the_same_process_is_refused_and_leaves_the_first_alone(tmp_path: Path) -> None:
    log = ScratchLog(tmp_path)
    with log.writer() as writer:
        with pytest.raises(LogLocked) as caught:
            log.writer()
        assert caught.value.pid == os.getpid()
        log.append(writer, [(1, "a")])
    log.writer().close()


def test_a_writer_that_cannot_open_gives_the_lock_back(tmp_path: Path) -> None:
    log = ScratchLog(tmp_path)
    for call in ("open", "write", "sync", "sync_folder"):
        log.files.fail(call)  # type: ignore[arg-type]
        with pytest.raises(Exception, match="no space left"):
            log.writer()
    log.writer().close()


def test_release_twice_and_numbers(tmp_path: Path) -> None:
    first = WriterLock(tmp_path / "lock", what="x")
    assert first.take(0)
    assert first.fence == 1
    first.outrun(0)
    assert first.fence == 1
    first.outrun(7)
    assert first.fence == 8
    assert json.loads((tmp_path / "lock").read_bytes()) == {"pid": os.getpid(), "fence": 8}
    first.release()
    first.release()
    assert not first.take(0)  # nobody else had it: the number stays
    assert first.fence == 8
    second = WriterLock(tmp_path / "lock", what="x")
    with pytest.raises(LogLocked):
        second.take(0)
    first.release()
    assert second.take(0)
    assert second.fence == 9
    second.release()
    assert first.take(0)
    assert first.fence == 10
    first.close()
    second.close()


def test_a_writer_that_lost_its_lock_appends_no_more(tmp_path: Path) -> None:
    """Somebody deleted the lock file, and another writer took over."""
    log = ScratchLog(tmp_path)
    with log.writer() as old:
        log.append(old, [(1, "a")])
        (log.partition / "lock").unlink()
        with log.writer() as new:
            log.append(new, [(2, "b")])
            with pytest.raises(LogLocked, match="lost its lock"):
                log.append(old, [(3, "c")])
            log.append(new, [(4, "d")])
    assert log.rows() == [(1, "a"), (2, "b"), (4, "d")]


def test_a_shared_writer_that_lost_its_kept_lock_harms_nobody(tmp_path: Path) -> None:
    """Between two groups the lock is kept; whoever has it meanwhile must find the file as they left it."""
    log = ScratchLog(tmp_path)

    def shared() -> LogWriter:
        return LogWriter(log.folder, log.info, files=log.files, clock=log.clock, is_exclusive=False)

    with shared() as ours:
        log.append(ours, [(0, "x")])
        ours._end.enter()  # as when others of this process wait for the next group
        (log.partition / "lock").unlink()
        with shared() as theirs:
            log.append(theirs, [(1, "y")])
            ours._end.doubt()
            with pytest.raises(LogLocked, match="lost its lock"):
                log.append(ours, [(2, "lost")])
            assert log.rows() == [(0, "x"), (1, "y")]
            log.append(ours, [(3, "z")])
            log.append(theirs, [(4, "w")])
    assert log.rows() == [(0, "x"), (1, "y"), (3, "z"), (4, "w")]
