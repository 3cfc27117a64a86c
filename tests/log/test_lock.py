"""One writer at a time, and who it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bourne.errors import LogLocked
from bourne.log import lock
from bourne.log.lock import WriterLock
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
    monkeypatch.setattr(lock, "_WAIT_S", 0.02)
    monkeypatch.setattr(lock, "_RETRY_S", 0.01)


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
        assert writer.head.fence == 2
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
    first = WriterLock.acquire(tmp_path / "lock", what="x")
    assert first.fence == 1
    first.outrun(0)
    assert first.fence == 1
    first.outrun(7)
    assert first.fence == 8
    assert json.loads((tmp_path / "lock").read_bytes()) == {"pid": os.getpid(), "fence": 8}
    first.release()
    first.release()
    first.outrun(100)
    second = WriterLock.acquire(tmp_path / "lock", what="x")
    assert second.fence == 9
    with pytest.raises(LogLocked):
        WriterLock.acquire(tmp_path / "lock", what="x", wait=False)
    second.release()
