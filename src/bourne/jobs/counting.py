"""Sums over the history of jobs, for those who watch it: runs by status, rows by job.

They are of what is remembered: what `Jobs.prune` forgot does not count any more.
"""

from __future__ import annotations

from typing import NamedTuple

from bourne.jobs.history import History


class RunsCounted(NamedTuple):
    """How many runs of a job have a status."""

    job: str
    status: str
    runs: int


class RowsCounted(NamedTuple):
    """What the chunk steps of a job have done."""

    job: str
    read: int
    filtered: int
    written: int
    skipped: int


def runs_counted(history: History) -> list[RunsCounted]:
    """Return how many runs of each job there are of each status. O(runs)."""
    sql = "SELECT job, status, count(*) FROM runs GROUP BY job, status ORDER BY job, status"
    return [RunsCounted(*row) for row in history.select(sql)]


def rows_counted(history: History) -> list[RowsCounted]:
    """Return the rows of each job. A run that goes on with another one counts on from there, so of each instance the
    largest count is the whole. O(runs)."""
    sql = (
        "SELECT job, sum(read), sum(filtered), sum(written), sum(skipped) FROM (SELECT job, max(s.read) AS read, "
        "max(s.filtered) AS filtered, max(s.written) AS written, max(s.skipped) AS skipped FROM steps s "
        "JOIN runs r ON r.id = s.run WHERE part = '' GROUP BY job, instance, generation, step) GROUP BY job ORDER BY job"
    )
    return [RowsCounted(*row) for row in history.select(sql)]


def rows_read(history: History, run: int) -> dict[tuple[str, str], int]:
    """Return how many rows the chunks of a run itself have read, by step and part. O(chunks of the run)."""
    sql = "SELECT step, part, sum(read) FROM chunks WHERE run = ? AND error IS NULL GROUP BY step, part"
    return {(step, part): rows for step, part, rows in history.select(sql, (run,))}
