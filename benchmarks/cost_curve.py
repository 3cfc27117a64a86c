"""What does a step cost while the state grows? It should follow the change, not the state.

Each view's state is filled up to one size after the other. At each size some steps of the same number of rows are taken
through the real path: the log is appended to (not timed), then the view reads it, computes, and writes its output with
its position, durably; the circuit's share is timed inside. A small query of DuckDB is timed in turn with every step, so
that the machine's own noise can be told. Run with `make bench-cost`; it writes docs/benchmarks_cost.md and its picture.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

import bourne
from benchmarks.cost_shapes import CURVES, LATENCIES, Rows, Shape
from benchmarks.line_plot import Panel, draw
from benchmarks.main_path import timed
from bourne.duck import connect
from bourne.engine.compile import compile_circuit
from bourne.engine.runner import ViewInput, ViewRunner
from bourne.limits import SNAPSHOT_ROWS
from bourne.log.relation import relation_schema
from bourne.ports import OsFiles, SystemClock
from bourne.sql.bind import bind
from bourne.views.catalog import Catalog

DOCS = Path(__file__).parent.parent / "docs"
PICTURE = "cost_curve.svg"
_KEYS = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)

# More than any run takes in: no snapshot comes between the steps.
_NEVER = 1 << 60
_REFERENCE = "SELECT k, count(*), sum(v) FROM delta GROUP BY k"


@dataclass(frozen=True, slots=True)
class Settings:
    """How much is measured. On the way to `growing_to` keys all steps are of `step_rows`, and each is timed."""

    keys: tuple[int, ...] = tuple(
        keys for keys in _KEYS if keys <= int(os.environ.get("BOURNE_BENCH_KEYS", str(_KEYS[-1])))
    )
    flat_from: int = 100_000
    growing_to: int = 3_000_000
    step_rows: int = 10_000
    steps: int = int(os.environ.get("BOURNE_BENCH_STEPS", "21"))
    fill_rows: int = 1_000_000
    latency_keys: int = 100_000
    latency_rows: int = 1_000
    latency_steps: int = 100


@dataclass(frozen=True, slots=True)
class Step:
    """One step, in seconds: from the log to the committed output, of it in the circuit, and on the processor.

    The last is that of all threads. `reference_s` is the reference's time beside it.
    """

    total_s: float
    circuit_s: float
    processor_s: float
    reference_s: float
    rows_out: int


@dataclass(frozen=True, slots=True)
class Point:
    """Medians at one size of the state. `ratio` is that of each step to the reference beside it."""

    keys: int
    total_s: float
    circuit_s: float
    processor_s: float
    reference_s: float
    ratio: float
    rows_out: float
    state_bytes: int


@dataclass(frozen=True, slots=True)
class Curve:
    """One view over all sizes; the steps in which it grew by new keys; and what it took to save the largest state."""

    shape: Shape
    points: tuple[Point, ...]
    growing: tuple[Step, ...]
    snapshot_s: float
    snapshot_rows: int


class TimedCircuit:
    """A circuit that says how long its last step took, and how many rows it gave."""

    def __init__(self, circuit: Any) -> None:
        self._circuit = circuit
        self.step_s = 0.0
        self.rows_out = 0

    def step(self, *arguments: Any) -> Any:
        start = time.perf_counter()
        delta = self._circuit.step(*arguments)
        self.step_s = time.perf_counter() - start
        self.rows_out = delta.rows
        return delta

    def __getattr__(self, name: str) -> Any:
        return getattr(self._circuit, name)


class Bench:
    """One view at work in a folder of its own."""

    def __init__(self, instance: bourne.Instance, runner: ViewRunner) -> None:
        self._instance = instance
        self.runner = runner
        self._reference = duckdb.connect(config={"threads": 1})

    def append(self, rows: Rows) -> None:
        """Append to the logs."""
        for log, table in rows.items():
            self._instance.append(log, table)

    def catch_up(self, rows: Rows) -> None:
        """Append, and take all in, untimed."""
        self.append(rows)
        while self.runner.step():
            pass

    def step(self, rows: Rows) -> Step:
        """Append, then take one step, which takes all in."""
        self.append(rows)
        reference_s = timed(lambda: self._ask_reference(next(iter(rows.values()))))
        start, processor = time.perf_counter(), time.process_time()
        taken = self.runner.step()
        total_s, processor_s = time.perf_counter() - start, time.process_time() - processor
        assert taken == sum(table.num_rows for table in rows.values()), "one step takes in one append"
        circuit: Any = self.runner.circuit
        return Step(total_s, circuit.step_s, processor_s, reference_s, circuit.rows_out)

    def _ask_reference(self, table: pa.Table) -> None:
        """A small aggregate that keeps nothing, over rows like those of a step."""
        self._reference.register("delta", table.rename_columns(["k", "v", *table.column_names[2:]]))
        self._reference.sql(_REFERENCE).to_arrow_table()
        self._reference.unregister("delta")

    def state_bytes(self) -> int:
        """Return the memory that the view's state takes."""
        return sum(state.bytes for state in self.runner.circuit.states())

    def answers(self) -> tuple[list[Any], list[Any]]:
        """Return the view's rows, and DuckDB's answer to the same SQL over the same logs, both in order."""
        sql = self._instance.app.views["answer"].sql if self._instance.app is not None else ""
        ours, theirs = (self._instance.query(text).fetchall() for text in ("FROM answer", sql))
        return sorted(ours, key=repr), sorted(theirs, key=repr)

    def close(self) -> None:
        """Let go of everything."""
        self._reference.close()
        self.runner.close()
        self._instance.close()


@contextlib.contextmanager
def opened(shape: Shape, folder: Path) -> Iterator[Bench]:
    """Open a view of this shape in a new folder, which is removed at the end."""
    app = bourne.App("bench")
    for name, declared in shape.logs.items():
        app.log(name, **declared)
    app.view("answer", shape.sql, grows=True)
    instance = bourne.open(app, data=folder)
    catalog = Catalog(folder)
    view = catalog.view("answer")
    assert view is not None
    inputs = {each.name: each for each in view.inputs}
    query = bind(view.sql, {name: relation_schema(each) for name, each in inputs.items()}, view=view.name)
    database = connect(threads=2)
    runner = ViewRunner(
        lambda: TimedCircuit(compile_circuit(query, database, sql=view.sql, inputs=inputs, view=view.name)),  # type: ignore[arg-type,return-value]
        folder=view.folder,
        output=view.output,
        inputs=[ViewInput(each, catalog.log_folder(each.name)) for each in view.inputs],
        files=OsFiles(),
        clock=SystemClock(),
        snapshot_rows=_NEVER,
    )
    bench = Bench(instance, runner)
    try:
        yield bench
    finally:
        bench.close()
        database.close()
        shutil.rmtree(folder)


# --- measuring -------------------------------------------------------------------------------------------


def measure_curve(shape: Shape, folder: Path, settings: Settings) -> Curve:
    """Fill the state up to each number of keys in turn, and take steps there."""
    random = np.random.default_rng(11)
    points, growing = [], []
    known = number = 0
    with opened(shape, folder) as bench:
        for keys in settings.keys:
            is_growing = keys == settings.growing_to
            for new in _parts(known, keys, settings.step_rows if is_growing else settings.fill_rows):
                rows = shape.fill(new, 0)
                if is_growing:
                    growing.append(bench.step(rows))
                else:
                    bench.catch_up(rows)
            known = keys
            changes = []
            for _ in range(settings.steps + 2):
                number += 1
                touched = random.choice(keys, min(keys, settings.step_rows), replace=False)
                changes.append(shape.change(touched, number))
            steps = [bench.step(rows) for rows in changes][2:]
            points.append(_point(keys, steps, bench.state_bytes()))
        state_rows = sum(state.rows for state in bench.runner.circuit.states())
        snapshot_s = timed(bench.runner.snapshot)
    return Curve(shape, tuple(points), tuple(growing), snapshot_s, max(SNAPSHOT_ROWS, 2 * state_rows))


def _parts(first: int, end: int, size: int) -> Iterator[np.ndarray[Any, Any]]:
    for start in range(first, end, size):
        yield np.arange(start, min(end, start + size))


def _point(keys: int, steps: Sequence[Step], state_bytes: int) -> Point:
    return Point(
        keys,
        median(step.total_s for step in steps),
        median(step.circuit_s for step in steps),
        median(step.processor_s for step in steps),
        median(step.reference_s for step in steps),
        median(step.total_s / step.reference_s for step in steps),
        median(step.rows_out for step in steps),
        state_bytes,
    )


def measure_latency(shape: Shape, folder: Path, settings: Settings) -> list[Step]:
    """Take small steps on a state of middle size."""
    random = np.random.default_rng(12)
    with opened(shape, folder) as bench:
        bench.catch_up(shape.fill(np.arange(settings.latency_keys), 0))
        steps = []
        for number in range(1, settings.latency_steps + 11):
            touched = random.choice(settings.latency_keys, settings.latency_rows, replace=False)
            steps.append(bench.step(shape.change(touched, number)))
    return steps[10:]


def spread(values: Sequence[float]) -> float:
    """Return how many times the least the greatest is."""
    return max(values) / min(values)


# --- telling ---------------------------------------------------------------------------------------------


def curve_table(curve: Curve) -> str:
    """Return the table of one curve."""
    lines = [
        f"| {each.keys:,} | {each.total_s * 1e3:.1f} | {each.circuit_s * 1e3:.1f} | "
        f"{each.processor_s * 1e3:.1f} | {each.rows_out:,.0f} | {each.reference_s * 1e3:.1f} | {each.ratio:.1f} | {each.state_bytes / 2**20:,.0f} |"
        for each in curve.points
    ]
    return "\n".join([
        f"**{curve.shape.title}**: `{curve.shape.sql}`", "",
        "| keys | step, ms | of it the circuit | processor, ms | rows out | reference, ms | step / reference | state, MiB |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
        *lines,
    ])  # fmt: skip


def spread_line(curve: Curve, flat_from: int) -> str:
    """Return how flat a curve is, over the large sizes and over all."""
    flat = [point for point in curve.points if point.keys >= flat_from]
    cells = [
        f"{spread([value(point) for point in points]):.2f}"
        for value in (_total, _processor, _ratio)
        for points in (flat, curve.points)
    ]
    return f"| {curve.shape.title} | {' | '.join(cells)} |"


def _total(point: Point) -> float:
    return point.total_s


def _ratio(point: Point) -> float:
    return point.ratio


def _processor(point: Point) -> float:
    return point.processor_s


def _circuit(point: Point) -> float:
    return point.circuit_s


def growing_line(curve: Curve) -> str:
    """Return what the steps cost in which the state grew by new keys."""
    times = sorted(step.total_s * 1e3 for step in curve.growing)
    slow = quantiles(times, n=100, method="inclusive")[98]
    return (
        f"| {curve.shape.title} | {len(times)} | {median(times):.1f} | {sum(times) / len(times):.1f} | {slow:.0f} | "
        f"{times[-1]:.0f} | {curve.snapshot_s:.1f} | {curve.snapshot_rows / 1e6:,.0f} M |"
    )


def latency_line(shape: Shape, steps: Sequence[Step]) -> str:
    """Return the times of one view's small steps."""
    times = [step.total_s * 1e3 for step in steps]
    slow = quantiles(times, n=20, method="inclusive")[18]
    circuit = median(step.circuit_s * 1e3 for step in steps)
    return f"| {shape.title} | {median(times):.1f} | {slow:.1f} | {circuit:.1f} | {median(step.rows_out for step in steps):,.0f} |"


def picture(curves: Sequence[Curve], settings: Settings) -> str:
    """Return the curves as SVG."""
    panels = [
        Panel(title, {each.shape.title: [(p.keys, value(p) * 1e3) for p in each.points] for each in curves})
        for title, value in (
            ("from the log to the committed output", _total),
            ("the circuit alone", _circuit),
        )
    ]
    return draw(
        panels, title=f"A step of {settings.step_rows:,} rows while the state grows", x_label="keys in the state",
        y_label="milliseconds per step",
    )  # fmt: skip


def page(curves: Sequence[Curve], latencies: Sequence[tuple[Shape, list[Step]]], settings: Settings) -> str:
    """Return the whole document."""
    references = [point.reference_s for curve in curves for point in curve.points]
    spreads = [spread([p.total_s for p in curve.points if p.keys >= settings.flat_from]) for curve in curves]
    return PAGE_TEXT.format(
        picture=PICTURE, step_rows=settings.step_rows, steps=settings.steps, flat_from=settings.flat_from,
        verdict=verdict(max(spreads), settings),
        spreads="\n".join(spread_line(curve, settings.flat_from) for curve in curves),
        tables="\n\n".join(curve_table(curve) for curve in curves),
        growing="\n".join(growing_line(curve) for curve in curves), growing_to=settings.growing_to,
        growing_from=max((keys for keys in settings.keys if keys < settings.growing_to), default=0),
        largest=settings.keys[-1], snapshot_rows=SNAPSHOT_ROWS, reference_spread=spread(references),
        latency_keys=settings.latency_keys, latency_rows=settings.latency_rows, latency_steps=settings.latency_steps,
        latencies="\n".join(latency_line(shape, steps) for shape, steps in latencies),
        machine=f"{os.cpu_count()} cores, {platform.machine()}",
        versions=f"Python {platform.python_version()}, DuckDB {duckdb.__version__}, PyArrow {pa.__version__}, "
        f"Bourne {bourne.__version__}",
    )  # fmt: skip


def verdict(worst: float, settings: Settings) -> str:
    """Return one sentence that says whether the aim was met in this run."""
    sizes = f"from {settings.flat_from:,} to {settings.keys[-1]:,} keys"
    if worst <= 2:
        return f"In this run it held: {sizes} no step's median was more than {worst:.2f} times another's."
    return f"In this run it did not hold: {sizes} the steps of one view differ by a factor of {worst:.2f}."


def run(
    folder: Path, settings: Settings, curves: Sequence[Shape] = CURVES, latencies: Sequence[Shape] = LATENCIES
) -> tuple[str, str]:
    """Measure everything; return the document and the picture."""
    few = replace(settings, keys=settings.keys[:2], growing_to=settings.keys[1], steps=3)
    for shape in curves:
        measure_curve(shape, folder / "warm", few)  # so that compilation is not measured
    found = [measure_curve(shape, folder / "curve", settings) for shape in curves]
    small = [(shape, measure_latency(shape, folder / "latency", settings)) for shape in latencies]
    return page(found, small, settings), picture(found, settings)


def main() -> None:
    """Measure and write the page and the picture."""
    folder = Path(tempfile.mkdtemp(prefix="bourne-cost-", dir=os.environ.get("BOURNE_BENCH_DIR")))
    try:
        text, drawn = run(folder, Settings())
    finally:
        shutil.rmtree(folder)
    (DOCS / "benchmarks_cost.md").write_text(text, encoding="utf-8")
    (DOCS / PICTURE).write_text(drawn, encoding="utf-8")
    print(text)


PAGE_TEXT = """# What a step costs while the state grows

Written by `make bench-cost`; do not edit. {machine}; {versions}.

The promise is that a step costs what the change costs, whatever the size of the state. Here the state of four views grows
up to {largest:,} keys; at each size, {steps} steps of {step_rows:,} rows are taken, for {step_rows:,} different keys
chosen at random among those that are there. The figure is the median step, from the log to the committed output: read
and check the log, compute, write the output with its position, fsync. The aim is a curve that is flat within a factor
of 2. {verdict}

![Time of a step over the number of keys]({picture})

What remains of a slope is the memory: a small state lies in the processor's caches, a large one does not, and a row of
a step then waits for main memory at each of the few places where its key is kept.

Greatest median over least, over the sizes from {flat_from:,} keys on, and over all sizes:

| view | step, large | step, all | processor, large | all | step / reference, large | all |
|---|---:|---:|---:|---:|---:|---:|
{spreads}

The reference is a query of DuckDB over the rows of the step (count and sum per key, in memory, nothing kept), timed in
turn with each step: where it differs, the machine was busier. Its medians differ by a factor of {reference_spread:.2f}.

{tables}

## What is not in these medians

Work that grows with the state is done rarely, by a step that pays for many: tables double, and what was deleted is
cleared away, when as much again has come; a snapshot is written when {snapshot_rows:,} rows have come since the last
one, and at least twice as many as the state has. So their cost per row has a bound, but not that of a single step. The
first figures are of steps that bring {step_rows:,} rows of new keys each, from {growing_from:,} to {growing_to:,} keys,
in milliseconds; the last ones are of the snapshot of the state at the end.

| view | steps | median | mean | 99th percentile | longest | snapshot, s | every … rows |
|---|---:|---:|---:|---:|---:|---:|---:|
{growing}

## How soon a small change is there

Steps of {latency_rows:,} rows on a state of {latency_keys:,} keys, from the log to the committed output, in milliseconds,
over {latency_steps} steps. The aim is less than 10.

| view | median | 95th percentile | of it the circuit | rows out |
|---|---:|---:|---:|---:|
{latencies}
"""

if __name__ == "__main__":
    main()
