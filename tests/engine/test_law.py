"""The law: however the input is cut, and wherever it is restored, a view equals DuckDB's one answer.

Schemas, records, views, cuts and restarts are drawn by Hypothesis from what Bourne supports. A quick, repeatable run is
part of the suite; the long one looks for new cases and prints what it draws when it finds one:

    BOURNE_LONG=1 pytest tests/engine/test_law.py            # about 10 minutes
    BOURNE_LONG=1 BOURNE_EXAMPLES=20000 pytest tests/engine/test_law.py
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from bourne.errors import NotMaintainable, SqlError, ViewFailed
from bourne.schema import declare_schema
from engine.oracle import Bench, ask_duckdb, table_of
from engine.random_views import SCHEMA, records, views

_LONG = bool(os.environ.get("BOURNE_LONG"))
_EXAMPLES = int(os.environ.get("BOURNE_EXAMPLES", "3000" if _LONG else "40"))
_SETTINGS = settings(
    max_examples=_EXAMPLES,
    derandomize=not _LONG,
    deadline=None,
    print_blob=True,
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)

_DECLARED = declare_schema(SCHEMA, where="events")

# Append so many records, run epochs of at most so many, bounded this way; then restart in this way.
Step = tuple[int, int, str, str]
Restart = st.sampled_from(["none", "none", "replay", "save", "save", "damage", "lose"])


@st.composite
def cuts(draw: st.DrawFn, rows: int) -> list[Step]:
    """Draw how the records are cut into steps."""
    steps, left = [], rows
    while left > 0 or not steps:
        count = draw(st.integers(0, left)) if len(steps) < 7 else left
        epoch_rows = draw(st.sampled_from([1, 2, 3, 7, 50, 1 << 16]))
        steps.append((count, epoch_rows, draw(st.sampled_from(["offset", "rows"])), draw(Restart)))
        left -= count
    return steps


@_SETTINGS
@given(data=st.data())
def test_view_equals_duckdb(data: st.DataObject) -> None:
    sql = data.draw(views(), label="view")
    table = table_of(_DECLARED, data.draw(records(), label="records"))
    steps = data.draw(cuts(table.num_rows), label="steps")
    snapshot_rows = data.draw(st.sampled_from([1, 2, 5, 1 << 40]), label="snapshot_rows")
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), sql, table, steps, snapshot_rows)


def run(folder: Path, sql: str, table: pa.Table, steps: list[Step], snapshot_rows: int) -> None:
    """Take the steps and compare after each."""
    try:
        bench = Bench(folder, SCHEMA, sql, time="at", snapshot_rows=snapshot_rows)
    except (NotMaintainable, SqlError) as error:
        pytest.fail(f"the grammar draws only what is supported: {sql}\n{error}")
    try:
        done = 0
        bench.check()
        for count, epoch_rows, cut, restart in steps:
            if count:
                bench.append(table.slice(done, count))
            done += count
            if not follow(bench, done, epoch_rows, cut):
                return
            bench.check()
            damage(bench, restart)
            if restart != "none":
                bench.reopen(save=restart == "save")
                bench.check()
                assert bench.position == done
    finally:
        bench.close()


def follow(bench: Bench, end: int, epoch_rows: int, cut: str) -> bool:
    """Run epochs up to `end`; say whether that is possible. Where it is not, DuckDB must fail, too."""
    while bench.position < end:
        until = end if cut == "rows" else min(end, bench.position + epoch_rows)
        bench.runner._epoch_rows = epoch_rows if cut == "rows" else 1 << 16
        try:
            bench.step(until)
        except ViewFailed:
            bench.check()
            prefix = bench.records.slice(0, until)
            with pytest.raises(duckdb.Error):
                # Unoptimised, as DuckDB leaves out what nobody asks for, and Bourne does not (yet).
                ask_duckdb(bench.query.sql, {bench.info.name: (bench.schema, prefix)}, is_optimised=False)
            return False
    return True


def damage(bench: Bench, restart: str) -> None:
    """Spoil the newest snapshot, or lose all: the state must then be computed again."""
    snapshots = sorted((bench.view.folder / "snapshots").glob("[0-9]*"))
    note(f"{restart} of {len(snapshots)} snapshots")
    if restart == "damage" and snapshots:
        largest = max(snapshots[-1].iterdir(), key=lambda path: path.stat().st_size)
        content = bytearray(largest.read_bytes())
        content[len(content) // 2] ^= 0x55
        largest.write_bytes(content)
    if restart == "lose":
        for snapshot in snapshots:
            (snapshot / "manifest.json").unlink(missing_ok=True)
