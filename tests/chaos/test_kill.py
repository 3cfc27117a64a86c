"""kill -9, again and again: of the process that runs the views, and of the one that appends.

Afterwards every acknowledged record is there once, at its offset; a batch that was never acknowledged is there whole
or not at all; and every view is exact. A few kills in the suite; `make chaos` makes fifty.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import bourne
from bourne.loading import load_app

HERE = Path(__file__).parent
KILLS = 50 if os.environ.get("BOURNE_LONG") else 3
SEED = int(os.environ.get("BOURNE_SEED", "1"))

RUN = [
    sys.executable,
    "-u",
    "-c",
    "from bourne.cli import main; main()",
    "run",
    str(HERE / "app.py"),
    "--data",
]


def start(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_until_it_runs(process: subprocess.Popen[bytes]) -> None:
    """Return when the process has opened the app: what it does from then on is restore and follow."""
    assert process.stdout is not None
    assert b"views follow" in process.stdout.readline()


def kill_after(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Kill the process at that moment of its life; it must not have ended by itself."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return
    assert process.stderr is not None
    raise AssertionError(f"it ended by itself: {process.stderr.read().decode()}")


def test_nothing_is_lost_or_counted_twice(tmp_path):
    data, side = tmp_path / "data", tmp_path / "side"
    side.touch()
    bourne.open(load_app(HERE / "app.py", name=None), data=data).close()
    appender_command = [sys.executable, str(HERE / "appender.py"), str(data), str(side)]
    dice = random.Random(SEED)
    print(f"seed {SEED}, {KILLS} kills")
    appender = start([*appender_command, "0"])
    try:
        for number in range(KILLS):
            running = start([*RUN, str(data)])
            if number % 4:
                wait_until_it_runs(running)
            kill_after(running, dice.uniform(0.0, 1.5))
            if number % 3 == 1:
                appender.kill()
                appender.communicate()
                appender = start([*appender_command, str(number)])
            assert appender.poll() is None, appender.stderr and appender.stderr.read().decode()
    finally:
        appender.kill()
        appender.communicate()
    done = subprocess.run(
        [*RUN, str(data), "--until-caught-up"], capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    with bourne.open(data=data) as instance:
        check_records(instance, side)
        check_views(instance)


def check_records(instance: bourne.Instance, side: Path) -> None:
    """Compare the log with what the appenders said."""
    tried, acknowledged = {}, {}
    for line in side.read_text().splitlines():
        word, batch, number = line.split()
        (tried if word == "try" else acknowledged)[int(batch)] = int(number)
    ids = instance.tail("events").column("id").to_pylist()
    place = {record: offset for offset, record in enumerate(ids)}
    assert len(place) == len(ids), "a record is there twice"
    assert ids == sorted(ids), "the order was not kept"
    for batch, first in acknowledged.items():
        expected = range(first, first + tried[batch])
        found = [place.get(batch * 1000 + row) for row in range(tried[batch])]
        assert found == list(expected), f"acknowledged batch {batch} is not where it was acknowledged"
    for batch, rows in tried.items():
        there = sum(batch * 1000 + row in place for row in range(rows))
        assert there in (0, rows), f"batch {batch} is there in part"
    assert len(ids) == sum(rows for batch, rows in tried.items() if batch * 1000 in place), "invented records"
    print(f"{len(ids):,} records in {len(acknowledged):,} acknowledged batches")
    assert acknowledged


def check_views(instance: bourne.Instance) -> None:
    """Compare each view with DuckDB's answer over the log."""
    app = load_app(HERE / "app.py", name=None)
    for view in instance.status().views:
        assert view.lag_records == 0
        sql = app.views[view.name].sql
        got = sorted(map(repr, instance.query(f"FROM {view.name}").fetchall()))
        expected = sorted(map(repr, instance.query(sql).fetchall()))
        assert got == expected, view.name
        print(f"{view.name}: {len(got):,} rows, {view.epoch + 1:,} epochs, exact")
