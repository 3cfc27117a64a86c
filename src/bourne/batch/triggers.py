"""Events that begin a run, instead of a time. Pure data: who looks for them is `jobs/events`.

Law: each event has an identity, a text that is the same whenever and by whomever it is seen, so that it begins one run:
a file's path and version, the multiple that a view has reached, the number of a job's end, the id of a call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bourne.errors import DefinitionError
from bourne.schema import check_name, interval_us


@dataclass(frozen=True, slots=True)
class FileArrived:
    """A file that the pattern names is there and has lain still for `settle_us`; changed later, it arrives again."""

    pattern: str
    settle_us: int


@dataclass(frozen=True, slots=True)
class ViewReached:
    """A view reflects another `rows` records of its inputs. Several multiples that are passed at once are one event."""

    view: str
    rows: int


@dataclass(frozen=True, slots=True)
class JobEnded:
    """A run of a job has ended, with that status, or with any."""

    job: str
    status: str | None


@dataclass(frozen=True, slots=True)
class HttpCall:
    """Somebody has called, over HTTP or in Python."""

    name: str


Trigger = FileArrived | ViewReached | JobEnded | HttpCall


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: its identity, when it was noticed (UTC), and what is known of it.

    `details` are `path` of a file, `view` and `rows`, `job`, `run` and `status`, or what the caller gave.
    """

    key: str
    at: datetime
    details: Mapping[str, Any] = field(default_factory=dict)


def file_arrived(pattern: str, *, settle: str = "1 second") -> FileArrived:
    """Return the event of a new file: a path, a pattern (`in/*.csv`), a folder, or `s3://bucket/prefix/*.csv`.

    `settle`: a file that was written to within that time may be half-written. Files that are there already arrive, too.

    Raises:
        DefinitionError: there is no pattern, or `settle` is no interval.
    """
    if not pattern.strip():
        raise DefinitionError(
            "which files?", where="file_arrived(…)", expected="a path or a pattern", found=repr(pattern)
        )
    return FileArrived(pattern, interval_us(settle, where="file_arrived(…), settle"))


def view_reached(view: str, *, rows: int) -> ViewReached:
    """Return the event of a view that reflects `rows` records more, counted from its beginning.

    Raises:
        DefinitionError: that is no name, or no number above zero.
    """
    check_name(view, kind="view", where="view_reached(…)")
    if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
        raise DefinitionError(
            "a number of records is needed",
            where="view_reached(…)",
            expected="rows=1 or more",
            found=repr(rows),
        )
    return ViewReached(view, rows)


def job_ended(job: str, *, status: str | None = "COMPLETED") -> JobEnded:
    """Return the event of a run that ended with that status; None: with any.

    Raises:
        DefinitionError: that is no name.
    """
    check_name(job, kind="job", where="job_ended(…)")
    return JobEnded(job, None if status is None else status.upper())


def http_call(name: str) -> HttpCall:
    """Return the event of a call by that name.

    Raises:
        DefinitionError: that is no name.
    """
    check_name(name, kind="call", where="http_call(…)")
    return HttpCall(name)
