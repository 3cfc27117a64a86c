"""What a user declares of batch jobs: parameters, steps, flow, retries, schedules.

>>> import bourne
>>> from bourne.batch import chunk
>>> app = bourne.App("shop")
>>> @app.job
... def stamp(source: str, target: str):
...     return chunk("stamp", read=source, process="SELECT *, now() AS at FROM input", write=target)

Pure data and pure decisions: nothing here does I/O or looks at a clock. `bourne.jobs` is where it is done.
"""

from bourne.batch.context import Context
from bourne.batch.cron import cron
from bourne.batch.days import business_days, calendar
from bourne.batch.flow import Flow
from bourne.batch.inputs import by_file, by_hash, by_range, query, records
from bourne.batch.retry import retry, skip
from bourne.batch.schedule import every
from bourne.batch.steps import Exit, Step, check, chunk, subjob, task, view
from bourne.batch.triggers import Event, file_arrived, http_call, job_ended, view_reached
from bourne.batch.window import window

__all__ = [
    "Context",
    "Event",
    "Exit",
    "Flow",
    "Step",
    "business_days",
    "by_file",
    "by_hash",
    "by_range",
    "calendar",
    "check",
    "chunk",
    "cron",
    "every",
    "file_arrived",
    "http_call",
    "job_ended",
    "query",
    "records",
    "retry",
    "skip",
    "subjob",
    "task",
    "view",
    "view_reached",
    "window",
]
