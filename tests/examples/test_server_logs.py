"""The statistics of server logs are what plain Python says of the same files, also after days are read again."""

from __future__ import annotations

import csv
import json
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

import bourne
from examples.example import bourne_jobs, data_of

data = data_of("server_logs")
DAYS = 2


def of_files(folder: Path) -> tuple[Counter[tuple[str, str]], int]:
    """Return the sums by page and by hour of a day's files, and how many lines are broken, in plain Python."""
    sums: Counter[tuple[str, str]] = Counter()
    broken = 0
    for line in (line for path in sorted(folder.iterdir()) for line in path.open()):
        try:
            row = json.loads(line)
            status = int(row["status"])
        except ValueError:
            broken += 1
            continue
        if row["path"] == "/health":
            continue
        for group in (row["path"], str(int(row["at"][11:13]))):
            sums[group, "requests"] += 1
            sums[group, "errors"] += status >= 500
            sums[group, "bytes"] += row["bytes"]
            sums[group, "slow"] += row["ms"] > 300
            sums[group, "slowest_ms"] = max(sums[group, "slowest_ms"], row["ms"])
    return sums, broken


def check_days(folder: Path, *, rows: int) -> None:
    """Make logs, work on the first day and then on all of them, and compare."""
    data.write(folder / "logs", rows=rows, days=DAYS)
    (folder / "statistics").mkdir()
    first = data.FIRST_DAY
    bourne_jobs(folder, "server_logs", "statistics", f"day={first}")
    bourne_jobs(
        folder, "server_logs", "backfill", f"first={first}", f"last={first + timedelta(days=DAYS - 1)}"
    )
    broken = read = 0
    for day in (first + timedelta(days=number) for number in range(DAYS)):
        expected, cut = of_files(folder / "logs" / str(day))
        broken += cut
        found: Counter[tuple[str, str]] = Counter()
        for group, name in (("path", "pages"), ("hour", "hours")):
            with (folder / "statistics" / f"{name}-{day}.csv").open() as file:
                for row in csv.DictReader(file):
                    assert row.pop("day") == str(day)
                    key = row.pop(group)
                    found.update({(key, column): int(value) for column, value in row.items()})
        assert +found == +expected
        read += sum(value for key, value in found.items() if key[1] == "requests" and key[0].startswith("/"))
    with bourne.open(data=folder / "data") as logs:
        assert logs.query("SELECT count(*) FROM requests").fetchall() == [(read,)]
        assert logs.query("SELECT count(DISTINCT place) FROM dead_letters").fetchall() == [(broken,)]
    assert broken > 0


def test_days_of_logs_are_counted_as_plain_python_counts_them(tmp_path):
    check_days(tmp_path, rows=20_000)


@pytest.mark.long
def test_a_million_lines(tmp_path):
    check_days(tmp_path, rows=1_000_000)


def test_a_silent_hour_is_noticed(tmp_path):
    data.write(tmp_path / "logs", rows=2_000, days=1)
    for path in (tmp_path / "logs" / str(data.FIRST_DAY)).iterdir():
        path.write_text("".join(line for line in path.open() if "T13:" not in line))
    said = bourne_jobs(tmp_path, "server_logs", "statistics", f"day={data.FIRST_DAY}", status=12)
    assert "'hour': 13" in said
    assert not (tmp_path / "statistics").exists()
