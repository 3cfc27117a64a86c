"""Does memory stay flat while event time goes on? What is closed has to be forgotten.

Events of some thousand keys come out of order, 5,000 per second of event time, for hours of it. Three views close their
windows: counts per key and minute, sessions, and pairs of events that are two seconds apart at most. The log forgets its
older records meanwhile. After each tenth of the events it is noted what each view remembers, and how much memory the
process has (without what it maps from files). `make bench-flat` writes docs/benchmarks_event_time.md.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

import bourne

DOCS = Path(__file__).parent.parent / "docs"

_EVENTS_PER_S = 5_000
_KEYS = 10_000
_LATE_US = 5_000_000
_CHUNK = 1_000_000
_START_US = 1_767_225_600_000_000
_MARKS = 10

VIEWS = {
    "per minute": """SELECT k, window_start, count(*) AS n, sum(v) AS total
        FROM TUMBLE(events, at, INTERVAL 1 MINUTE) GROUP BY k, window_start EMIT FINAL""",
    "sessions": """SELECT k, window_start, window_end, count(*) AS n
        FROM SESSION((SELECT k, at FROM events WHERE k < 1000), at, INTERVAL 5 SECONDS PARTITION BY k)
        GROUP BY k, window_start, window_end EMIT FINAL""",
    "pairs": """SELECT a.k, a.at, b.at AS later FROM events a JOIN events b
        ON a.k = b.k AND b.at > a.at AND b.at <= a.at + INTERVAL 2 SECONDS WHERE a.k < 1000 AND b.k < 1000 EMIT FINAL""",
}


@dataclass(frozen=True, slots=True)
class Mark:
    """What was there after so many events: rows and bytes that each view remembers, and the process's memory."""

    events: int
    seconds: float
    rows: dict[str, int]
    state_bytes: dict[str, int]
    memory_bytes: int


def main() -> None:
    """Measure and write the page."""
    events = int(os.environ.get("EVENTS", "100000000"))
    folder = Path(tempfile.mkdtemp(prefix="bourne-flat-", dir=os.environ.get("BOURNE_BENCH_DIR")))
    try:
        marks = measure(folder / "data", events)
    finally:
        shutil.rmtree(folder)
    text = page(marks, events)
    (DOCS / "benchmarks_event_time.md").write_text(text, encoding="utf-8")
    print(text)


def measure(folder: Path, events: int) -> list[Mark]:
    """Append and follow; return what was noted."""
    warnings.simplefilter("ignore", bourne.GrowingState)
    app = bourne.App("flat")
    app.log("events", schema={"k": "integer", "v": "bigint", "at": "timestamp"}, time="at", watermark="5 seconds",
            keep_bytes=256 << 20)  # fmt: skip
    names = {name: name.replace(" ", "_") for name in VIEWS}
    for name, sql in VIEWS.items():
        app.view(names[name], sql)
    rng, marks, began = np.random.default_rng(1), list[Mark](), time.perf_counter()
    with bourne.open(app, data=folder) as instance:
        for first in range(0, events, _CHUNK):
            instance.append("events", chunk(rng, first, min(_CHUNK, events - first)))
            instance.catch_up()
            instance.maintain()
            done = min(first + _CHUNK, events)
            if done * _MARKS // events > first * _MARKS // events:
                state = {name: instance.explain(name).operators for name in names.values()}
                marks.append(
                    Mark(
                        done, time.perf_counter() - began,
                        {name: sum(each.rows or 0 for each in state[names[name]]) for name in VIEWS},
                        {name: sum(each.bytes or 0 for each in state[names[name]]) for name in VIEWS},
                        memory_bytes(),
                    )
                )  # fmt: skip
                print(marks[-1], flush=True)
    return marks


def chunk(rng: np.random.Generator, first: int, count: int) -> pa.Table:
    """Return the next events, each up to five seconds late."""
    times = _START_US + (first + np.arange(count)) * (1_000_000 // _EVENTS_PER_S)
    late = times - rng.integers(0, _LATE_US, count)
    keys = rng.integers(0, _KEYS, count).astype(np.int32)
    return pa.table(
        {"k": keys, "v": rng.integers(0, 1000, count), "at": pa.array(late).cast(pa.timestamp("us"))}
    )


def memory_bytes() -> int:
    """Return the memory that the process has by itself, without files that it maps."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text("ascii"))
    assert found is not None
    return int(found[1]) * 1024


def page(marks: list[Mark], events: int) -> str:
    """Return the page in Markdown."""
    hours = events / _EVENTS_PER_S / 3600
    head = "| events | " + " | ".join(f"{name}: rows, MB" for name in VIEWS) + " | process, MB |"
    lines = [head, "|---" * (len(VIEWS) + 2) + "|"]
    for mark in marks:
        states = " | ".join(f"{mark.rows[name]:,}, {mark.state_bytes[name] / 1e6:.1f}" for name in VIEWS)
        lines.append(f"| {mark.events:,} | {states} | {mark.memory_bytes / 1e6:,.0f} |")
    half = marks[len(marks) // 2 - 1 :]
    growth = max(mark.memory_bytes for mark in half) / half[0].memory_bytes
    return f"""# Memory while event time goes on

<!-- written by `make bench-flat` -->

{events:,} events of {_KEYS:,} keys, each up to {_LATE_US // 1_000_000} seconds late, over {hours:.1f} hours of event time, in
appends of {_CHUNK:,}. Three views with `EMIT FINAL`: counts per key and minute, sessions of a tenth of the keys, pairs of
their events that are two seconds apart at most. What each remembers, and the process's own memory (RssAnon), after each
tenth:

{chr(10).join(lines)}

In the second half the process's memory is at most {growth:.2f} times that after the first half. The run took
{marks[-1].seconds:,.0f} s ({events / marks[-1].seconds / 1e6:.1f} M events/s for all three together, appends included) on
{os.cpu_count()} cores, Python {platform.python_version()}.
"""


if __name__ == "__main__":
    main()
