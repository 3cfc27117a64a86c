"""A process that writes to a sink without end, and is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

_ROWS = 500

_WRITER = """
import sys
from pathlib import Path
{imports}
from bourne.testing.sink_model import make_change
from connect.sink_reading import at, shape
sink = {make}
before = sink.open()
number = before["orders"][0] if before else 0
while True:
    rows = [{{"k": str(number + 1), "n": n, "note": "한글" * 20}} for n in range({rows})]
    sink.write(make_change(shape(), rows), at(number + 1), at(number) if number else None)
    number += 1
    print(number, flush=True)
"""


def killed_writes(
    imports: str, make: str, *, turns: int = 5 if os.environ.get("BOURNE_LONG") else 3
) -> Iterator[int]:
    """Start a writer and kill it, several times; yield after each how many writes are acknowledged."""
    program = _WRITER.format(imports=imports, make=make, rows=_ROWS)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for turn in range(turns):
        with subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment
        ) as child:
            assert child.stdout is not None
            acknowledged = 0
            for _ in range(turn + 2):
                acknowledged = int(child.stdout.readline())
            child.send_signal(signal.SIGKILL)
        yield acknowledged


def check_whole(position: Any, found: pa.Table, acknowledged: int) -> None:
    """Check that the rows of all writes up to the position are there, once, and no others."""
    number = position["orders"][0]
    assert number >= acknowledged
    counts = Counter(found.column("k").to_pylist())
    assert {int(key): count for key, count in counts.items()} == dict.fromkeys(range(1, number + 1), _ROWS)
