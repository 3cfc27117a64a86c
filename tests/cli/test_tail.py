"""`bourne tail` by place and time, over partitions, and following."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

import bourne
from bourne.cli import tail as tail_module
from bourne.log.cursor import Piece
from bourne.log.reader import Frame
from bourne.testing import SimulatedClock

TEN = 1_769_853_600_000_000  # 2026-01-31 10:00:00 UTC
MINUTE = 60_000_000


@pytest.fixture
def grow(tmp_path):
    """Append rows with the numbers `first` to before `end` to a log, at that many minutes after ten, one at a time."""

    def append(first: int, end: int, *, partitions: int = 1, size: int = 1) -> dict[int, tuple[int, int]]:
        app = bourne.App("a")
        app.log("events", schema={"k": "varchar", "n": "bigint"}, key="k", partitions=partitions)
        clock = SimulatedClock(TEN + first * MINUTE)
        places = {}
        with bourne.open(app, data=tmp_path / "data", clock=clock) as it:
            for start in range(first, end, size):
                rows = [{"k": f"사용자-{n % 13}", "n": n} for n in range(start, start + size)]
                appended = it.append("events", rows)
                numbers = range(start, start + size)
                where = zip(appended.partitions.tolist(), appended.offsets.tolist(), strict=True)
                places |= dict(zip(numbers, where, strict=True))
                clock.advance(MINUTE * size)
        return places

    return append


@pytest.fixture
def shown(bourne_here):
    """Run `bourne tail events` and return the numbers that it shows."""

    def run(*arguments: str) -> list[int]:
        done = bourne_here("tail", "events", "--format", "jsonl", *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        return [json.loads(line)["n"] for line in done.stdout.splitlines()]

    return run


@pytest.mark.parametrize(
    ("arguments", "numbers"),
    [
        (("--from", "2026-01-31T10:03"), range(3, 10)),
        (("--from", "2026-01-31 10:02:00.000001"), range(3, 10)),
        (("--from", "2026-01-31T10:03Z"), range(3, 10)),
        (("--from", "2026-01-31T19:03:00+09:00"), range(3, 10)),
        (("--from", "2026-01-31"), range(10)),
        (("--from", "2026-01-31T11"), []),
        (("--until", "2026-01-31T10:03"), range(3)),
        (("--until", "2026-01-31"), []),
        (("--until", "2026-01-31T10:05", "-n", "2"), [3, 4]),
        (("--from", "2026-01-31T10:03", "--until", "2026-01-31T10:07"), range(3, 7)),
        (("--from", "2026-01-31T10:07", "--until", "2026-01-31T10:03"), []),
        (("--from", "2026-01-31T10:03", "-n", "2"), [3, 4]),
        (("--from", "4", "--until", "2026-01-31T10:07"), range(4, 7)),
        (("--from", "2026-01-31T10:03", "--until", "5"), [3, 4]),
        (("--from", "4", "--until", "6"), [4, 5]),
        (("--until", "6", "-n", "3"), [3, 4, 5]),
        (("--until", "6", "-n", "0"), []),
        (("--until", "0"), []),
        (("--from", "8", "--until", "1000"), [8, 9]),
        (("--from", "6", "--until", "4"), []),
        (("-n", "3"), [7, 8, 9]),
    ],
)
def test_from_and_until_take_an_offset_or_a_time(grow, shown, arguments, numbers):
    grow(0, 10)
    assert shown(*arguments) == list(numbers)


def test_records_that_were_appended_together_are_cut_too(grow, shown):
    grow(0, 30, size=10)
    assert shown("-n", "13") == list(range(17, 30))
    assert shown("--from", "5", "--until", "25") == list(range(5, 25))
    assert shown("--from", "5", "-n", "7") == list(range(5, 12))
    assert shown("--from", "2026-01-31T10:01", "-n", "12") == list(range(10, 22))


@pytest.mark.parametrize("option", ["--from", "--until"])
@pytest.mark.parametrize(
    "text", ["yesterday", "-1", "1.5", "2026-13-01", "10:00", "", "9" * 30, "1_000", "٣"]
)
def test_nonsense_is_a_usage_error_that_says_what_is_expected(grow, bourne_here, option, text):
    grow(0, 1)
    done = bourne_here("tail", "events", option, text)
    assert (done.returncode, done.stdout) == (2, "")
    for words in (option, repr(text), "neither an offset", "2026-01-31T10:00"):
        assert words in done.stderr


# --- several partitions ---


def test_all_partitions_are_shown_in_the_order_of_time_with_their_numbers(grow, bourne_here, shown):
    places = grow(0, 40, partitions=3)
    assert len({partition for partition, _ in places.values()}) == 3
    assert shown() == list(range(20, 40))
    assert shown("-n", "1000") == list(range(40))
    assert shown("-n", "5") == list(range(35, 40))
    assert shown("--from", "2026-01-31T10:10", "--until", "2026-01-31T10:30") == list(range(10, 30))
    assert shown("--until", "2026-01-31T10:30", "-n", "4") == list(range(26, 30))
    assert shown("--from", "2026-01-31T10:10", "-n", "7") == list(range(10, 17))
    done = bourne_here("tail", "events", "-n", "100", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert list(rows[0]) == ["__partition", "__offset", "k", "n"]
    assert {int(row["n"]): (int(row["__partition"]), int(row["__offset"])) for row in rows} == places
    assert bourne_here("tail", "events").stdout.split()[:2] == ["partition", "offset"]


def test_one_partition_is_shown_by_its_offsets(grow, bourne_here, shown):
    places = grow(0, 40, partitions=3)
    for number in range(3):
        there = [n for n, (partition, _) in places.items() if partition == number]
        chosen = ("--partition", str(number))
        assert shown(*chosen) == there[-20:]
        assert shown(*chosen, "--from", "2", "--until", "4") == there[2:4]
        assert shown(*chosen, "--from", "2026-01-31T10:20") == [n for n in there if n >= 20]
    done = bourne_here("tail", "events", "--partition", "1", "--format", "jsonl", "-n", "1")
    assert list(json.loads(done.stdout)) == ["__offset", "k", "n"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--from", "0"), "--partition 0 to 2"),
        (("--until", "7"), "--partition 0 to 2"),
        (("--partition", "3"), "no partition 3"),
        (("--partition", "1", "--from", "1000"), "no offset 1000"),
    ],
)
def test_an_offset_of_which_partition_is_asked_back(grow, bourne_here, arguments, words):
    grow(0, 10, partitions=3)
    done = bourne_here("tail", "events", *arguments)
    assert (done.returncode, done.stdout) == (4, "") and words in done.stderr


def test_the_last_records_are_found_though_others_were_compacted_away(monkeypatch):
    """Of a thousand offsets every hundredth is left: the last three are not in the last three offsets."""

    def merged(log, partitions, starts, ends):
        for number, start, end in zip(partitions, starts, ends, strict=True):
            for at in range(-(-start // 100) * 100, end, 100):
                batch = pa.record_batch({"n": [at]})
                yield Piece(number, Frame(at, at + 1, batch, {}, at, 100, np.array([at])))

    cursor = SimpleNamespace(partitions=(0,), first_offsets=lambda: (0,))
    monkeypatch.setattr(tail_module, "_merged", merged)
    for count, wanted in ((3, [700, 800, 900]), (50, list(range(0, 1000, 100))), (0, [])):
        tables = tail_module.last_records(None, cursor, (1000,), count, False)
        assert [row for table in tables for row in table.column("__offset").to_pylist()] == wanted


# --- following ---


def test_following_shows_every_partition_as_records_come(grow, start_bourne):
    grow(0, 10, partitions=3)
    process = start_bourne("tail", "events", "--follow", "-n", "2", "--format", "jsonl")
    assert [json.loads(process.stdout.readline())["n"] for _ in range(2)] == [8, 9]
    for number in range(10, 20):
        places = grow(number, number + 1, partitions=3)
        row = json.loads(process.stdout.readline())
        assert (row["__partition"], row["__offset"]) == places[row["n"]] and row["n"] == number
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "numbers"),
    [
        (("--from", "3", "--until", "12"), range(3, 12)),
        (("--from", "3", "--until", "7"), range(3, 7)),
        (("--from", "8", "--limit", "5"), range(8, 13)),
        (("--until", "2026-01-31T10:13", "--limit", "2"), [8, 9, 10, 11, 12]),
        (("--from", "2026-01-31T10:12", "--until", "2026-01-31T10:14"), [12, 13]),
        (("--until", "2026-01-31T10:02"), [0, 1]),
    ],
)
def test_following_ends_at_its_bound(grow, start_bourne, arguments, numbers):
    grow(0, 10)
    process = start_bourne("tail", "events", "--follow", "--format", "jsonl", *arguments)
    if numbers[0] < 10:
        assert json.loads(process.stdout.readline())["n"] == numbers[0]
        numbers = numbers[1:]
    grow(10, 20)
    assert [json.loads(line)["n"] for line in process.stdout] == list(numbers)
    assert (process.stderr.read(), process.wait(60)) == ("", 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_wait_itself_not_the_next_look(grow, environment, tmp_path, number):
    grow(0, 3)
    code = "import bourne.cli, bourne.cli.program, sys; sys.modules['bourne.cli.tail']._LOOK_S = 3600.0; bourne.cli.main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "tail", "events", "--follow", "--format", "jsonl"],
        env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for _ in range(3):
        process.stdout.readline()
    process.send_signal(number)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 0
