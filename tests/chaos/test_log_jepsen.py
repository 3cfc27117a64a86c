"""Eight processes append to a log and four follow it, while all of them are killed and started again, again and again.

In the manner of Jepsen's tests of queues: each process says what it does in a file of its own, and in the end all of
it is compared with the log (`jepsen_history`). Short in the suite; `make chaos` kills hundreds of times, under each
durability: of a killed process, nothing is lost under any.
"""

from __future__ import annotations

import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bourne.log.catalog import LogInfo, partition_folder, write_log_info
from bourne.log.verify import verify_log
from bourne.ports import OsFiles
from bourne.schema import declare_schema
from chaos.jepsen_history import Acknowledgement, Call, History, Life, problems
from chaos.jepsen_worker import COLUMNS, END, append_call, call_of, digests_of, lines_of, open_log, table_of
from waiting import until

HERE = Path(__file__).parent
SEED = int(os.environ.get("BOURNE_SEED", "1"))
APPENDERS, TAILERS = 8, 4

# Partitions, durability, kills.
SHORT = [(1, "fsync", 30), (3, "fsync", 30)]
LONG = [(partitions, level, 300) for level in ("fsync", "interval", "none") for partitions in (1, 3)]


class Server:
    """Starts and kills workers (`jepsen_worker.serve`)."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "jepsen_worker.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.workers: list[Worker] = []

    def ask(self, *command: object) -> Any:
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def look(self) -> None:
        """Note which workers have ended by themselves: well, and when they were to."""
        for pid, code in self.ask("ended"):
            worker = next(each for each in self.workers if each.pid == pid)
            assert (code, worker.errors()) == (0, ""), f"{worker.name} failed"
            worker.has_ended = True

    def kill(self, victims: Sequence[Worker]) -> None:
        """Kill these at once, and start their next lives."""
        assert not any(each.has_ended for each in victims)
        ended = self.ask("kill", *(each.pid for each in victims))
        for each, code in zip(victims, ended, strict=True):
            assert (code, each.errors()) == (-signal.SIGKILL, "")
            each.start()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:  # closes its standard input, so that it kills what is left and ends
            pass
        assert self._process.returncode == 0


class Worker:
    """An appender or a tailer, life after life."""

    def __init__(self, server: Server, role: str, number: int, log: Path, side: Path) -> None:
        self.name = f"{role}-{number}"
        self.pid = 0
        self.has_ended = False
        self._server = server
        self._side = side / self.name
        self._start = ("start", role, str(log), str(self._side), number)
        self._lives = 0
        self._lines = self._read = 0
        server.workers.append(self)
        self.start()

    def start(self) -> None:
        """Begin a life."""
        self.pid = self._server.ask(*self._start, self._lives)
        self._lives += 1

    def wait(self, more: int) -> None:
        """Wait until it has said some lines more. Nobody may end meanwhile."""
        lines = self._lines + more
        until(lambda: self._has_said(lines), what=f"{self.name} to go on")

    def _has_said(self, lines: int) -> bool:
        if self._side.exists():
            with self._side.open("rb") as file:
                file.seek(self._read)
                new = file.read()
            self._read += len(new)
            self._lines += new.count(b"\n")
        self._server.look()
        assert not self.has_ended
        return self._lines >= lines

    def join(self) -> None:
        """Wait until it has ended by itself."""
        until(lambda: self._server.look() or self.has_ended, what=f"{self.name} to end")

    def errors(self) -> str:
        """Return what its lives have said of errors."""
        path = self._side.with_suffix(".err")
        return path.read_text() if path.exists() else ""


@pytest.mark.parametrize(
    ("partitions", "durability", "kills"), LONG if os.environ.get("BOURNE_LONG") else SHORT
)
def test_log_under_kills(tmp_path, partitions, durability, kills):
    began = time.monotonic()
    print(f"\nseed {SEED}, {partitions} partitions, {durability}, {kills} kills")
    info = LogInfo(
        "records",
        declare_schema(COLUMNS, where="records"),
        key="key",
        partitions=partitions,
        durability=durability,
    )
    folder, side = tmp_path / "log", tmp_path / "side"
    info = write_log_info(folder, info, OsFiles())
    side.mkdir()
    with Server() as server:
        appenders = [Worker(server, "append", number, folder, side) for number in range(APPENDERS)]
        tailers = [Worker(server, "tail", number, folder, side) for number in range(TAILERS)]
        for each in appenders + tailers:
            each.wait(2)
        kill_again_and_again(server, appenders, tailers, folder, kills, random.Random(SEED))
        for each in appenders:
            each.wait(6)
        (side / "stop").touch()
        for each in appenders:
            each.join()
        with open_log(folder) as log:
            end = append_call(log, END, 0)
        for each in tailers:
            each.join()
    history = collect(folder, side, end)
    assert problems(history) == []
    verify_log(folder, info)
    for number in range(partitions):
        fences = list(fences_of(partition_folder(folder, number)))
        assert fences == sorted(fences)
    assert len(list(folder.glob("*/*.seg"))) > partitions  # the change of segments was hit, too
    report(history, kills, time.monotonic() - began)


def kill_again_and_again(
    server: Server,
    appenders: list[Worker],
    tailers: list[Worker],
    folder: Path,
    kills: int,
    dice: random.Random,
) -> None:
    """Kill one, some, or all appenders at once, or who writes just then; each time when somebody has said some more."""
    while kills:
        count = dice.choice([0, 0, 0, 1, 1, 2, 4, APPENDERS])
        victims = dice.sample(appenders + tailers, count or 1) if count < APPENDERS else list(appenders)
        victims[0].wait(dice.choice([1, 2, 3, 4, 7, 15]))
        if not count:
            pid = who_writes(partition_folder(folder, dice.randrange(len(list(folder.glob("[0-9]"))))))
            victims = [each for each in appenders if each.pid == pid] or victims
        server.kill(victims[:kills])
        kills -= len(victims[:kills])


def who_writes(folder: Path) -> int | None:
    """Return the process that has the lock of a partition, or had it last."""
    try:
        return json.loads((folder / "lock").read_bytes())["pid"]
    except FileNotFoundError:
        return None  # nobody has had it yet
    except ValueError:
        return None  # it was being written


def collect(folder: Path, side: Path, end: dict[str, object]) -> History:
    """Put together what everybody said, and what is in the log now."""
    calls = [call_from(END, 0, [acknowledgement_from(end)])]
    for number in range(APPENDERS):
        acknowledgements: dict[int, list[Acknowledgement]] = {}
        for line in lines_of(side / f"append-{number}"):
            if "try" in line:
                acknowledgements.setdefault(line["try"], [])
            elif "ok" in line:
                acknowledgements[line["ok"]].append(acknowledgement_from(line))
        calls += [call_from(number, call, found) for call, found in acknowledgements.items()]
    lives = [life for number in range(TAILERS) for life in lives_from(side / f"tail-{number}")]
    log: dict[int, list[tuple[int, str]]] = {}
    with open_log(folder) as reader:
        for partition in range(reader.info.partitions):
            entries = log[partition] = []
            for batch in reader.batches(partition=partition):
                entries += zip(batch.offsets.tolist(), digests_of(batch.records), strict=True)
            assert reader.end_offsets()[partition] == len(entries)
    return History(calls, log, lives)


def call_from(appender: int, number: int, acknowledgements: list[Acknowledgement]) -> Call:
    keys = call_of(appender, number).keys
    return Call(appender, number, digests_of(table_of(appender, number)), keys, acknowledgements)


def acknowledgement_from(line: dict[str, object]) -> Acknowledgement:
    return Acknowledgement(list(zip(line["partitions"], line["offsets"], strict=True)), line["repeat"])


def lives_from(path: Path) -> Iterator[Life]:
    """Yield the lives of a tailer that came to read."""
    life = None
    for line in lines_of(path):
        if "at" in line:
            if life is not None:
                yield life
            start = dict(enumerate(line["at"]))
            life = Life(path.name, start, {partition: [] for partition in start})
        elif "saw" in line:
            life.seen[line["saw"]].extend(enumerate(line["digests"], line["first"]))
    assert life is not None
    yield replace(life, is_last=True)


def fences_of(folder: Path) -> Iterator[int]:
    """Yield the fencing number of each frame of a partition, from the bytes, as docs/log_format.md has them."""
    for path in sorted(folder.glob("*.seg")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            fence, meta, payload = struct.unpack_from("<QII", data, at + 40)
            assert data[at : at + 8] == b"BOURNEFR"
            yield fence
            at += 192 + meta + -meta % 64 + payload + -payload % 64


def report(history: History, kills: int, seconds: float) -> None:
    """Print how much was tried."""
    there = {record for log in history.log.values() for _, record in log}
    unknown = [call for call in history.calls if not call.acknowledgements]
    kept = sum(call.records[0] in there for call in unknown)
    told = [each for call in history.calls for each in call.acknowledgements]
    seen = sum(len(seen) for life in history.lives for seen in life.seen.values())
    print(
        f"{kills} kills in {seconds:.1f} s: {len(told):,} acknowledged appends ({sum(each.is_repeat for each in told):,} "
        f"of them repeats), {len(unknown)} unknown ({kept} of them kept), {len(there):,} records; "
        f"{len(history.lives)} lives of tailers saw {seen:,}"
    )
    assert told and seen


# --- the judge judged ----------------------------------------------------------------------------------

A, B = Call(0, 0, ["a0", "a1"], [1, 1]), Call(0, 1, ["b0"], [1])
C = Call(1, 0, ["c0", "c1"], [1, 2])
LOG = {0: ["a0", "a1", "b0", "c0"], 1: ["c1"]}
AT = {record: (partition, offset) for partition, log in LOG.items() for offset, record in enumerate(log)}


def acknowledged(call: Call, *, is_repeat: bool = False) -> Call:
    places = [AT[record] for record in call.records]
    return replace(call, acknowledgements=[*call.acknowledgements, Acknowledgement(places, is_repeat)])


def entries(log: dict[int, list[str]]) -> dict[int, list[tuple[int, str]]]:
    return {partition: list(enumerate(records)) for partition, records in log.items()}


def watched(seen: dict[int, list[str]], start: tuple[int, int] = (0, 0), *, is_last: bool = False) -> Life:
    at = dict(enumerate(start))
    return Life("tail-0", at, {number: list(enumerate(seen[number], at[number])) for number in seen}, is_last)


SOUND = History(
    [acknowledged(acknowledged(A), is_repeat=True), acknowledged(B), C],
    entries(LOG),
    [watched({0: ["a0", "a1"], 1: []}), watched({0: ["b0", "c0"], 1: ["c1"]}, (2, 0), is_last=True)],
)


def with_log(first: list[str], second: list[str] = LOG[1], calls: tuple[Call, ...] = (A, B, C)) -> History:
    """Return a history of which only the log is known, not what was acknowledged or seen."""
    return History(calls, entries({0: first, 1: second}))


def with_life(life: Life) -> History:
    return replace(SOUND, lives=[life])


@pytest.mark.parametrize(
    "history",
    [
        SOUND,
        with_log(LOG[0]),
        with_log([], []),
        with_log(["a0", "a1"], []),  # b and c were never acknowledged
        with_log(["b0", "c0"]),
        with_log(["c0", "a0", "a1", "b0"]),  # the order of different appenders is free
        with_log(LOG[0], []),  # of c, only the part of one partition
    ],
)
def test_sound_histories_pass(history):
    assert problems(history) == []


@pytest.mark.parametrize(
    ("kind", "history"),
    {
        "lost at the end": replace(SOUND, log=entries({0: ["a0", "a1"], 1: ["c1"]}), lives=[]),
        "lost, and another one there": replace(SOUND, log=entries({0: ["c0", "a0", "a1", "b0"], 1: ["c1"]}), lives=[]),
        "lost to a tailer": with_life(watched({0: ["a0", "a1", "b0"], 1: ["c1"]}, is_last=True)),
        "lost to a tailer, all": with_life(watched({0: [], 1: []}, is_last=True)),
        "duplicated": with_log([*LOG[0], "a0"]),
        "duplicated as a whole": with_log([*LOG[0], "c0"], ["c1", "c1"]),
        "duplicated in another partition": with_log(LOG[0], ["c1", "b0"]),
        "duplicated by a repeat": History([acknowledged(acknowledged(A)), B, C], SOUND.log),
        "reordered calls": with_log(["b0", "a0", "a1", "c0"]),
        "reordered rows": with_log(["a1", "a0", "b0", "c0"]),
        "reordered for a tailer": with_life(Life("t", {0: 0, 1: 0}, {0: [(1, "a1"), (0, "a0")], 1: []})),
        "reordered for a tailer, which skipped one": with_life(Life("t", {0: 0, 1: 0}, {0: [(0, "a0"), (2, "b0")]})),
        "phantom": with_log([*LOG[0], "x"]),
        "phantom for a tailer": with_life(watched({0: ["a0", "a1", "b0", "x"], 1: []})),
        "phantom for a tailer, behind the end": with_life(watched({0: [*LOG[0], "x"], 1: []})),
        "torn at its end": with_log(["a0", "b0", "c0"]),
        "torn at its start": with_log(["a1", "b0", "c0"]),
        "torn apart": with_log(["a0", "c0", "a1", "b0"]),
        "torn in one partition": with_log(
            ["a0", "a1", "b0", "c0"], ["c1", "d1"], (A, B, C, Call(2, 0, ["d0", "d1", "d2"], [1, 2, 2]))
        ),
        "misplaced": with_log(["a0", "a1", "c0"], ["c1", "b0"]),
        "gap": History([A, B, C], {0: [(0, "a0"), (1, "a1"), (3, "b0"), (4, "c0")], 1: [(0, "c1")]}),
        "gap at the start": History([A, B, C], {0: [(1, "a0"), (2, "a1")], 1: []}),
    }.items(),
)  # fmt: skip
def test_unsound_histories_do_not(kind, history):
    assert kind.split()[0].rstrip(",") in {problem.split(":")[0] for problem in problems(history)}
