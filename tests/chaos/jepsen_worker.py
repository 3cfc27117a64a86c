"""Appends to a log, or follows it, until it is killed; says in a side file of its own what it does.

    python jepsen_worker.py

starts such processes, and kills them, as lines on its standard input ask for (`serve`). It has imported all that they
need and done nothing else, so that a new one takes milliseconds: a kill is soon followed by the next.

Each line of a side file is JSON, written at once. `{"start": life}` comes first in each life.

An appender writes `{"try": call}` before each append, and `{"ok": call, "partitions": …, "offsets": …, "repeat": …}` when
it is acknowledged. Calls are counted through all lives. A call whose life ended before its acknowledgement is repeated
with its request id, if it had one; otherwise nobody knows. It ends when there is a file `stop` beside the side file.

A tailer writes `{"saw": partition, "first": offset, "digests": […], "positions": […]}`. A new life begins at the start
of the log or where the last one came to. It ends when it has seen a record of the appender `END` in each partition.
"""

from __future__ import annotations

import faulthandler
import json
import os
import random
import signal
import sys
import traceback
from collections.abc import Iterable
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

import bourne.log.embedded
import bourne.log.writer
from bourne.log.catalog import read_log_info
from bourne.log.embedded import EmbeddedLog
from bourne.ports import OsFiles, SystemClock

COLUMNS = {
    "key": "integer not null",
    "appender": "integer not null",
    "call": "bigint not null",
    "row": "integer not null",
    "payload": "varchar",
}
KEYS = 16

# Not an appender: its one call is what tailers wait for.
END = -1

# Small, so that kills come to hit appends of several frames, and the change from one segment to the next.
FRAME_ROWS = 2
SEGMENT_BYTES = 1 << 15


class Call(NamedTuple):
    """What one call appends. The same for the same appender and number."""

    keys: list[int]
    payloads: list[str | None]
    request_id: str | None
    is_repeated: bool  # also when it was acknowledged


def call_of(appender: int, number: int) -> Call:
    """Return a call: single rows and batches, small and large, some with a request id."""
    dice = random.Random(f"{appender}/{number}")
    if appender == END:
        return Call(list(range(KEYS)), [None] * KEYS, None, False)
    rows = dice.choice([1, 1, 1, 2, 7, 20, 101])
    size = 300_000 if rows == 1 and dice.random() < 0.03 else dice.choice([0, 10, 100, 1000])
    payloads = [None if dice.random() < 0.1 else f"글{row}" + "x" * size for row in range(rows)]
    request_id = f"{appender}-{number}" if dice.random() < 0.5 else None
    return Call([dice.randrange(KEYS) for _ in range(rows)], payloads, request_id, dice.random() < 0.2)


def table_of(appender: int, number: int) -> pa.Table:
    """Return the records of a call."""
    call = call_of(appender, number)
    rows = len(call.keys)
    return pa.table(
        {
            "key": pa.array(call.keys, pa.int32()),
            "appender": pa.array([appender] * rows, pa.int32()),
            "call": pa.array([number] * rows, pa.int64()),
            "row": pa.array(range(rows), pa.int32()),
            "payload": pa.array(call.payloads, pa.string()),
        }
    )


def digests_of(records: pa.Table | pa.RecordBatch) -> list[str]:
    """Return what stands for each record: no two records that are appended have the same."""
    columns = [records.column(name).to_pylist() for name in COLUMNS]
    return [blake2b(repr(row).encode(), digest_size=8).hexdigest() for row in zip(*columns, strict=True)]


def open_log(folder: Path) -> EmbeddedLog:
    """Open the log as users do."""
    info = read_log_info(folder)
    assert info is not None
    return EmbeddedLog(folder, info, files=OsFiles(), clock=SystemClock())


def append_call(log: EmbeddedLog, appender: int, number: int) -> dict[str, Any]:
    """Append the records of a call; return the line that says so."""
    records = table_of(appender, number)
    rows = records.to_pylist() if records.num_rows == 1 else records
    done = log.append(rows, request_id=call_of(appender, number).request_id)
    return {
        "ok": number,
        "partitions": done.partitions.tolist(),
        "offsets": done.offsets.tolist(),
        "repeat": done.is_repeat,
    }


class Side:
    """The side file of one process."""

    def __init__(self, path: Path) -> None:
        self.before = lines_of(path)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            os.write(self._descriptor, b"\n")  # the last life ended within a line

    def say(self, **line: Any) -> None:
        """Write a line: it stays even if this process is killed right now."""
        os.write(self._descriptor, json.dumps(line).encode() + b"\n")


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a side file. One that was cut short by a kill was never said."""
    lines: list[dict[str, Any]] = []
    is_cut = False
    for raw in path.read_bytes().split(b"\n") if path.exists() else []:
        if not raw:
            continue
        try:
            line = json.loads(raw)
        except ValueError:
            is_cut = True
            continue
        assert not is_cut or "start" in line, f"{path}: a broken line within a life"
        is_cut = False
        lines.append(line)
    return lines


def append(folder: Path, side: Side, number: int, stop: Path) -> None:
    """Append call after call; first the one that nobody knows about, if it can be repeated."""
    last, is_known = -1, True
    for line in side.before:
        if "try" in line:
            last, is_known = line["try"], False
        elif "ok" in line:
            is_known = True
    with open_log(folder) as log:

        def run(call: int) -> None:
            side.say(**{"try": call})
            side.say(**append_call(log, number, call))

        if not is_known and call_of(number, last).request_id is not None:
            run(last)
        while not stop.exists():
            last += 1
            run(last)
            if call_of(number, last).request_id is not None and call_of(number, last).is_repeated:
                run(last)


def tail(folder: Path, side: Side, number: int, life: int) -> None:
    """Follow the log, and say what is there."""
    positions = [line["positions"] for line in side.before if "saw" in line]
    goes_on = bool(positions) and random.Random(f"{number}/{life}").random() < 0.7
    with open_log(folder) as log:
        start = positions[-1] if goes_on else [0] * log.info.partitions
        side.say(at=start)
        ended: set[int] = set()
        with log.batches(start=start, follow=True) as batches:
            for batch in batches:
                side.say(
                    saw=batch.partition, first=batch.first_offset, digests=digests_of(batch.records),
                    positions=batches.positions,
                )  # fmt: skip
                assert batch.offsets.tolist() == list(range(batch.first_offset, batch.next_offset))
                if END in batch.records.column("appender").to_pylist():
                    ended.add(batch.partition)
                if len(ended) == log.info.partitions:
                    return


def live(role: str, folder: str, path: str, number: int, life: int) -> None:
    """Be an appender or a tailer, with small frames and segments."""
    bourne.log.writer.FRAME_ROWS_MAX = FRAME_ROWS
    bourne.log.embedded.LogWriter = partial(bourne.log.writer.LogWriter, segment_bytes=SEGMENT_BYTES)
    side = Side(Path(path))
    side.say(start=life)
    if role == "append":
        append(Path(folder), side, number, Path(path).parent / "stop")
    else:
        tail(Path(folder), side, number, life)


def fork(role: str, folder: str, path: str, number: int, life: int) -> int:
    """Start a process; return its id. What it says of errors is appended to a file beside the side file."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.dup2(os.open(f"{path}.err", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        faulthandler.register(signal.SIGUSR1)  # says where it is, should it ever hang
        live(role, folder, path, number, life)
        code = 0
    except BaseException:  # noqa: BLE001  (whatever it is, this process is not the one that serves)
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def serve() -> None:
    """Do what each line asks for, and answer it; in the end kill all that is left.

    `["start", …]` as `fork` has it: its id. `["kill", id, …]`: how each ended, when all are gone. `["ended"]`: the id of
    each that has ended by itself since this was asked last, and how.
    """
    alive: set[int] = set()
    try:
        for line in sys.stdin:
            command, *rest = json.loads(line)
            answer: Any = None
            if command == "start":
                answer = fork(*rest)
                alive.add(answer)
            elif command == "kill":
                answer = kill(rest)
                alive.difference_update(rest)
            else:
                answer = ended(alive)
                alive.difference_update(pid for pid, _ in answer)
            print(json.dumps(answer), flush=True)
    finally:
        kill(alive)


def ended(pids: Iterable[int]) -> list[tuple[int, int]]:
    """Return which of these have ended, and how."""
    found = [os.waitpid(pid, os.WNOHANG) for pid in pids]
    return [(pid, os.waitstatus_to_exitcode(status)) for pid, status in found if pid]


def kill(pids: Iterable[int]) -> list[int]:
    """Kill these processes, all of them before the first is waited for; return how they ended."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


if __name__ == "__main__":
    serve()
