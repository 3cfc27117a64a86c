"""A view of 10 M records computed again beside the live one, while appends go on and readers read.

`bourne run` serves in a process of its own; this one appends, asks over HTTP, and checks each answer: its counts have to add up to
the position that it says, which never goes back. So a state that is half built, or two that are mixed, ends the run. How old answers
are is told by the records that were acknowledged before the question, and are not in the answer. `make bench-replay` writes
docs/benchmarks_replay.md.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa

import bourne

DOCS = Path(__file__).parent.parent / "docs"

_KEYS = 100_000
_CALL_ROWS = 100
_CALLS_PER_S = 20
_LOAD_ROWS = 500_000
_BEFORE_S = 5.0

APP = """
import bourne

app = bourne.App("bench")
app.log("events", schema={"k": "integer", "v": "bigint"})
app.view("totals", "SELECT k, count(*) AS n, sum(v) AS total FROM events GROUP BY k")
app.view("parts", "SELECT k % 100 AS part, CAST(sum(n) AS BIGINT) AS n FROM totals GROUP BY ALL")
"""


class Work:
    """Appends and questions, from threads, until the block ends."""

    def __init__(self, data: Path, url: str, records: int) -> None:
        self._data, self._url = data, url
        self.end = records
        self.asked: list[
            tuple[float, float, int]
        ] = []  # when, how long it took, how many records it was behind
        self.failures: list[BaseException] = []
        self._is_over = threading.Event()
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,)) for work in (self._append, self._ask)
        ]

    def __enter__(self) -> Work:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()
        if self.failures:
            raise self.failures[0]

    def _guarded(self, work: object) -> None:
        try:
            work()  # type: ignore[operator]
        except BaseException as error:  # noqa: BLE001  (raised at the end)
            self.failures.append(error)

    def _append(self) -> None:
        with bourne.open(data=self._data) as it:
            while not self._is_over.wait(1 / _CALLS_PER_S):
                it.append("events", some(self.end, _CALL_ROWS))
                self.end += _CALL_ROWS

    def _ask(self) -> None:
        before = 0
        with httpx.Client(base_url=self._url, timeout=120) as http:
            while not self._is_over.is_set():
                end, began = self.end, time.monotonic()
                found = http.get("/views/parts")
                found.raise_for_status()
                position = int(found.json()["position"].partition(":")[2] or 0)
                rows = found.json()["rows"]
                assert sum(row["n"] for row in rows) == position >= before, (position, before)
                before = position
                self.asked.append((began, time.monotonic() - began, max(0, end - position)))

    def line(self, what: str, since: float, until: float) -> str:
        """Return the figures of a time as a line of a table."""
        asked = [each for each in self.asked if since <= each[0] < until]
        took, behind = np.array([each[1] for each in asked]) * 1e3, np.array([each[2] for each in asked])
        return (
            f"| {what} | {until - since:,.1f} | {len(asked):,} | {np.median(took):,.1f} | {took.max():,.0f} "
            f"| {np.median(behind):,.0f} | {behind.max():,} |"
        )


def some(first: int, count: int) -> pa.Table:
    """Return records, each determined by its offset."""
    numbers = np.arange(first, first + count)
    return pa.table({"k": pa.array((numbers * 7919 % _KEYS).astype(np.int32)), "v": pa.array(numbers)})


def main(records: int) -> None:
    """Measure, and write the page."""
    with tempfile.TemporaryDirectory(prefix="bourne-replay-") as scratch:
        app, data = Path(scratch, "app.py"), Path(scratch, "data")
        app.write_text(APP, encoding="utf-8")
        command = [sys.executable, "-c", "from bourne.cli import main; main()"]
        subprocess.run(
            [*command, "run", app, "--data", data, "--until-caught-up"], check=True, stdout=subprocess.DEVNULL
        )
        with bourne.open(data=data) as it:
            for first in range(0, records, _LOAD_ROWS):
                it.append("events", some(first, min(_LOAD_ROWS, records - first)))
        subprocess.run(
            [*command, "run", app, "--data", data, "--until-caught-up"], check=True, stdout=subprocess.DEVNULL
        )
        run = subprocess.Popen(
            [*command, "run", app, "--data", data, "--serve", "--address", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        try:
            assert run.stdout is not None
            url = next(line.split()[1] for line in run.stdout if line.startswith("serves "))
            threading.Thread(target=run.stdout.read, daemon=True).start()
            with Work(data, url, records) as work:
                while not work.asked and not work.failures:
                    time.sleep(0.01)
                began = time.monotonic()
                time.sleep(_BEFORE_S)
                replayed = time.monotonic()
                told = subprocess.run(
                    [*command, "replay", "totals", "--data", data],
                    check=True,
                    stdout=subprocess.PIPE,
                    text=True,
                ).stdout
                ended = time.monotonic()
                time.sleep(_BEFORE_S)
            lines = [
                work.line("before", began, replayed), work.line("while it is replayed", replayed, ended),
                work.line("after the switch", ended, ended + _BEFORE_S),
            ]  # fmt: skip
        finally:
            run.terminate()
            run.wait()
        subprocess.run(
            [*command, "run", app, "--data", data, "--until-caught-up"], check=True, stdout=subprocess.DEVNULL
        )
        with bourne.open(data=data) as it:  # what is served in the end is what the log says
            whole = "SELECT k, count(*) AS n, sum(v) AS total FROM events GROUP BY k"
            for wrong in (f"{whole} EXCEPT FROM totals", f"FROM totals EXCEPT {whole}"):
                assert not it.query(wrong).fetchall()
    text = page(records, lines, told)
    print(text)
    (DOCS / "benchmarks_replay.md").write_text(text, encoding="utf-8")


def page(records: int, lines: list[str], told: str) -> str:
    """Return the page."""
    said = "\n".join(line for line in told.splitlines() if "at position" not in line)
    return f"""# Benchmarks: replay

Written by `make bench-replay` on {os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()} {platform.machine()}. `bourne run` serves a view by key ({_KEYS:,} keys) of
{records:,} records, and a view over it, in one process; another one appends ({_CALLS_PER_S} calls of {_CALL_ROWS} records a second), and
asks for the upper view over HTTP, one question after the other. Then `bourne replay totals` computes both again. Each answer is checked: its counts add up to the position
that it says, and positions never go back.

| | seconds | answers | p50 in ms | most | records behind, p50 | most |
|---|---:|---:|---:|---:|---:|---:|
{chr(10).join(lines)}

```text
{said}
```

`records behind`: those that were acknowledged when the question was asked, and are not in the answer. While the new versions take in the records, an epoch at a time, the old ones
wait for each of those epochs.
"""


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000)
