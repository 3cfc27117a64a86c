"""What Pathway is given: the rows of our generator in CSV files; and its answer, read."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.csv

from benchmarks.nexmark import generator
from benchmarks.nexmark.formulas import Settings
from benchmarks.peers.environments import ROOT
from benchmarks.peers.flink_queries import FLINK_QUERIES
from benchmarks.peers.processes import PeerFailed, PeerTimes, run

# It has no rank within a group, which q19 needs.
QUERIES: Final = (
    "q0", "q1", "q2", "q3", "q4", "q5", "q7", "q8", "q9", "q15", "q16", "q17", "q18", "q20",
)  # fmt: skip
WORKERS: Final = 2

_CHUNK_EVENTS: Final = 500_000
_TIMEOUT_S: Final = 3600.0


def measure(
    python: Path,
    query: str,
    folder: Path,
    *,
    events: int,
    warm_events: int,
    rows_of_few: int,
    settings: Settings,
) -> PeerTimes:
    """Run a query over a few events, over all, and then only read all.

    Raises:
        PeerFailed: it ends with an error, or has another number of rows than `rows_of_few` for the few events.
    """
    reads = FLINK_QUERIES[query].reads
    folders = [folder / "few", folder / "all"]
    try:
        for place, count in zip(folders, (warm_events, events), strict=True):
            place.mkdir(parents=True)
            columns = {name: write(name, wanted, count, settings, place) for name, wanted in reads.items()}
        os.sync()  # else the disk would still be writing the files
        request = {"query": query, "columns": columns, "folders": [str(place) for place in folders]}
        finished = run(
            [str(python), str(Path(__file__).with_name("pathway_child.py")), json.dumps(request)],
            environment=os.environ | {"PATHWAY_THREADS": str(WORKERS)}, folder=ROOT, timeout_s=_TIMEOUT_S,
        )  # fmt: skip
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    answer = finished.answer
    if answer["rows_of_few"] != rows_of_few:
        raise PeerFailed(f"{query}: Pathway has {answer['rows_of_few']} rows, expected {rows_of_few}")
    return PeerTimes(answer["seconds"], answer["reading_s"], answer["start_s"], finished.bytes_max)


def write(relation: str, columns: list[str], events: int, settings: Settings, folder: Path) -> dict[str, str]:
    """Write those columns of a log as RELATION.csv, times as milliseconds; return the columns' kinds, int or str.

    `id` is a name of Pathway's own: an `id` of ours is called `number`.
    """
    names = ["number" if name == "id" else name for name in columns]
    kinds: dict[str, str] = {}
    writer: pyarrow.csv.CSVWriter | None = None
    for first in range(0, events, _CHUNK_EVENTS):
        rows = generator.rows(relation, first, min(_CHUNK_EVENTS, events - first), settings).select(columns)
        arrays = [
            column.cast(pa.timestamp("ms")).cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
            for column in rows.columns
        ]
        table = pa.table(arrays, names=names)
        if writer is None:
            writer = pyarrow.csv.CSVWriter(folder / f"{relation}.csv", table.schema)
            kinds = {each.name: "int" if pa.types.is_integer(each.type) else "str" for each in table.schema}
        writer.write_table(table)
    if writer is not None:
        writer.close()
    return kinds
