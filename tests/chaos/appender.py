"""Appends batch after batch until it is killed: says in a side file what it is about to append, and what was.

    python appender.py DATA SIDE SEED

A line `try BATCH ROWS` goes before each append, `ok BATCH FIRST_OFFSET` after it was acknowledged. Ids are never used
twice: batch b holds the ids b * 1000, b * 1000 + 1, …
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import pyarrow as pa

import bourne

NAMES = ["ann", "보라", "☕ café", "", None, "dieter", "émile", "지우"]


def batch_table(batch: int, rows: int) -> pa.Table:
    """Return the records of a batch: the same for the same number."""
    dice = random.Random(batch)
    ids = range(batch * 1000, batch * 1000 + rows)
    return pa.table(
        {
            "id": pa.array(ids, pa.int64()),
            "name": pa.array([dice.choice(NAMES) for _ in ids], pa.string()),
            "cents": pa.array([dice.randrange(10_000) for _ in ids]).cast(pa.decimal128(21, 2)),
            "at": pa.array([10**15 + batch * 10**5 + dice.randrange(10**7) for _ in ids], pa.timestamp("us")),
        }
    )


def main(data: str, side: Path, seed: int) -> None:
    """Go on after the last batch that was tried."""
    tried = [int(line.split()[1]) for line in side.read_text().splitlines() if line.startswith("try ")]
    batch = max(tried, default=-1) + 1
    dice = random.Random(seed)
    descriptor = os.open(side, os.O_WRONLY | os.O_APPEND)
    with bourne.open(data=data) as instance:
        while True:
            rows = dice.choice([1, 3, 50, 1000])
            os.write(descriptor, f"try {batch} {rows}\n".encode())
            offsets = instance.append("events", batch_table(batch, rows))
            os.write(descriptor, f"ok {batch} {offsets.ranges[0].start}\n".encode())
            batch += 1


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
