"""Runs one query in Bourne, or its text in DuckDB, over logs that are there; first over a few events, to warm up.

Arguments: `bourne` or `duckdb`, the query's name, then data folders; the last one is the one that counts. Prints one
line of JSON: {"seconds": s, "rows": number of rows in the answer, "rows_of_few": the same in the first folder}.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Final

import bourne
from benchmarks.main_path import timed
from benchmarks.nexmark.queries import EVENT_TIME_QUERIES, QUERIES, app_of, inputs_of
from bourne.errors import GrowingState

ALL: Final = QUERIES | EVENT_TIME_QUERIES


def main() -> None:
    """Run the query over each folder."""
    peer, query, *folders = sys.argv[1:]
    warnings.simplefilter("ignore", GrowingState)
    measure = {"bourne": run_view, "duckdb": run_batch}[peer]
    measured = [measure(query, Path(folder)) for folder in folders]
    seconds, rows = measured[-1]
    print(json.dumps({"seconds": seconds, "rows": rows, "rows_of_few": measured[0][1]}))


def run_view(query: str, folder: Path) -> tuple[float, int]:
    """From the logs to the committed output; the answer is counted afterwards."""
    app, is_final = app_of(inputs_of(query)), query in EVENT_TIME_QUERIES
    app.view("answer", ALL[query] + (" EMIT FINAL" if is_final else ""))
    with bourne.open(app, data=folder) as instance:
        seconds = timed(lambda: instance.catch_up(final=is_final))
        return seconds, instance.query("SELECT count(*) FROM answer").fetchall()[0][0]


def run_batch(query: str, folder: Path) -> tuple[float, int]:
    """DuckDB's one-shot answer over the same logs, kept in memory."""
    with bourne.open(data=folder) as instance:
        answers: list[int] = []
        seconds = timed(lambda: answers.append(instance.query(ALL[query]).to_arrow().num_rows))
        return seconds, answers[0]


main()
