"""Jobs of one chunk step, run in this process, with faults between its writes: what the tests of jobs share."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import bourne
from bourne.batch import chunk
from bourne.errors import JobFailed, SqlError
from bourne.jobs import chunk_step
from bourne.jobs.history import Run, StepRun


class Broken(Exception):
    """What a test breaks a run with: nobody tries it again."""


def app_of(**step: Any) -> bourne.App:
    """Return an app with a job `load` of one chunk step, also called `load`."""
    app = bourne.App("shop")
    app.log("sold", schema={"id": "bigint", "amount": "decimal(10,2)"})

    @app.job
    def load() -> Any:
        return chunk("load", **step)

    return app


def run_once(app: bourne.App, data: Path, job: str = "load", **parameters: Any) -> tuple[Run, list[StepRun]]:
    """Run a job in an instance of its own; return the run and its steps."""
    with bourne.open(app, data=data) as shop:
        run = shop.jobs.start(job, parameters)
        return run, shop.jobs.steps(run.id)


def run_until_done(app: bourne.App, data: Path, *, most: int = 200) -> tuple[StepRun, int]:
    """Start a job again and again, each time opened anew, until it completes; return its step, and how often it failed."""
    for failures in range(most):
        try:
            return run_once(app, data)[1][0], failures
        except JobFailed:
            continue
    raise AssertionError("it never completes")


def counts(step: StepRun) -> tuple[int, int, int, int]:
    """Return what a step read, filtered, wrote and skipped."""
    return step.read, step.filtered, step.written, step.skipped


def csv_rows(path: Path) -> list[tuple[str, ...]]:
    """Return the rows of a CSV file, its header too."""
    with path.open(newline="", encoding="utf-8") as file:
        return [tuple(row) for row in csv.reader(file)]


def letters(data: Path) -> Counter[tuple[str, str]]:
    """Return place and bytes of all dead letters."""
    with bourne.open(data=data) as shop:
        try:
            found = shop.query("SELECT place, decode(data) FROM dead_letters").fetchall()
        except SqlError:  # there is no such log
            found = []
    return Counter((place, text) for place, text in found)


@contextmanager
def breaking(break_at: Callable[[int, str], bool]) -> Iterator[list[int]]:
    """Break writes of any target: `break_at` is asked with the number of each write, and "before" or "after" it.

    Yields a list with the number of the writes so far.
    """
    done = [0]
    opened = chunk_step.open_target

    def open_breaking(*args: Any, **kwargs: Any) -> Any:
        target = opened(*args, **kwargs)
        write, finish = target.sink.write, target.finish

        def put(what: Callable[[], None]) -> None:
            number = done[0] = done[0] + 1
            if break_at(number, "before"):
                raise Broken
            what()
            if break_at(number, "after"):
                raise Broken

        target.sink.write = lambda *args: put(lambda: write(*args))
        target.finish = lambda: put(finish)
        return target

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunk_step, "open_target", open_breaking)
        yield done
