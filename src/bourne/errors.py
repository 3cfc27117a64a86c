"""Every error that Bourne raises on purpose, on one screen, under one root; and its one warning, last.

Each message says what failed, where, what was expected and found, and what to do next; the same facts are
fields of the exception, so that programs need not read prose. `exit_code` is what the command line exits
with (the table is in docs/cli.md).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a text: `start` and exclusive `end`, in characters, from 0."""

    start: int
    end: int

    def point_at(self, text: str) -> str:
        """Return the line of `text` that holds the span, with a marker below it."""
        line_start = text.rfind("\n", 0, self.start) + 1
        line_end = text.find("\n", self.start)
        line = text[line_start : line_end if line_end >= 0 else len(text)]
        column = self.start - line_start
        width = max(1, min(self.end - self.start, len(line) - column))
        line_number = text.count("\n", 0, self.start) + 1
        return f"line {line_number}, column {column + 1}\n    {line}\n    {' ' * column}{'^' * width}"


class BourneError(Exception):
    """The root of all of them: catch this to catch everything that Bourne raises on purpose."""

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        expected: object = None,
        found: object = None,
        hint: str | None = None,
    ) -> None:
        self.what = what
        self.where = where
        self.expected = expected
        self.found = found
        self.hint = hint
        lines = [what]
        for label, value in (("where", where), ("expected", expected), ("found", found), ("to do", hint)):
            if value is not None:
                lines.append(f"  {label + ':':<10}{value}")
        super().__init__("\n".join(lines))


class DefinitionError(BourneError):
    """An app, a log or a view is declared in a way that cannot work."""

    exit_code = 3


class SqlError(DefinitionError):
    """A view's SQL is wrong. `span` is its place in `sql`, where known."""

    def __init__(self, what: str, *, sql: str, span: Span | None = None, view: str | None = None,
                 hint: str | None = None) -> None:  # fmt: skip
        self.sql = sql
        self.span = span
        self.view = view
        place = span.point_at(sql) if span else None
        named = f"view {view!r}" if view else None
        super().__init__(what, where=", ".join(part for part in (named, place) if part) or None, hint=hint)

    def in_view(self, view: str | None) -> SqlError:
        """Return the same error, naming the view."""
        return type(self)(self.what, sql=self.sql, span=self.span, view=view or self.view, hint=self.hint)


class NotMaintainable(SqlError):
    """Correct SQL that Bourne cannot keep up to date incrementally (yet). `construct` names what."""

    def __init__(self, construct: str, *, sql: str, span: Span | None = None, view: str | None = None,
                 hint: str | None = None) -> None:  # fmt: skip
        self.construct = construct
        super().__init__(
            f"{construct} cannot be maintained incrementally yet", sql=sql, span=span, view=view, hint=hint
        )

    def in_view(self, view: str | None) -> NotMaintainable:
        """Return the same error, naming the view."""
        return NotMaintainable(
            self.construct, sql=self.sql, span=self.span, view=view or self.view, hint=self.hint
        )


class InputError(BourneError):
    """Data handed in does not fit: nothing of that call was stored."""

    exit_code = 4


class UnknownColumn(InputError):
    """The data has a column that the log's schema does not know."""


class ValueMismatch(InputError):
    """A value does not fit the type of its column."""


class MalformedInput(InputError):
    """A file or a line cannot be parsed at all."""


class BodyTooLarge(InputError):
    """A body holds more than is taken at once."""


class UnknownName(BourneError):
    """There is no log or view of that name."""

    exit_code = 4


class QueryError(BourneError):
    """A query could not be answered."""

    exit_code = 8


class Behind(QueryError):
    """Views have not come to the position that was asked for, or to none that all of them share, in time. Ask again."""


class ServerRefused(BourneError):
    """A server does not do what it was asked for; `status` is that of HTTP. `retry_after_s`: when to ask again."""

    exit_code = 8

    def __init__(
        self, what: str, *, status: int, where: str | None = None, expected: object = None, found: object = None,
        hint: str | None = None, retry_after_s: float | None = None,
    ) -> None:  # fmt: skip
        self.status = status
        self.retry_after_s = retry_after_s
        super().__init__(what, where=where, expected=expected, found=found, hint=hint)


class NotAllowed(ServerRefused):
    """A server wants a token, another one, or one of another role."""


class StorageError(BourneError):
    """The disk or the data folder refuses: full, read-only, missing, of another format."""

    exit_code = 7


class DiskFull(StorageError):
    """No space (or quota, or file size limit) for a frame. What was acknowledged before is safe."""


class AppendInDoubt(StorageError):
    """An append failed and could not be taken back: it may come to be stored. Repeat it with its request id."""


class FormatTooNew(StorageError):
    """The data folder was written by a newer Bourne."""


class SourceFailed(BourneError):
    """A source cannot be opened or read. What came before is in the log."""

    exit_code = 10


class SinkFailed(BourneError):
    """A sink cannot be written to as it is: it stands still, and its position with it."""

    exit_code = 11


class Unreachable(BourneError):
    """The other side of a source, a sink or a client is not there just now. What was not acknowledged is tried again."""

    exit_code = 10


class Rejected(BourneError):
    """The other side of a sink refuses a row. Nothing of that write was kept."""

    exit_code = 11


class LogLocked(BourneError):
    """Another process writes to this log or runs these views. `pid` is its process, where known."""

    exit_code = 5

    def __init__(self, what: str, *, where: str, pid: int | None) -> None:
        self.pid = pid
        super().__init__(
            what,
            where=where,
            expected="one writer at a time",
            found=f"held by process {pid}" if pid else "held by another process",
            hint="let that process do the work, or stop it and try again",
        )


class JobFailed(BourneError):
    """A run of a job failed. What its chunks committed holds; `run` is its number, to restart it by."""

    exit_code = 12

    def __init__(
        self, what: str, *, run: int, where: str | None = None, found: object = None, hint: str | None = None
    ) -> None:
        self.run = run
        super().__init__(what, where=where, found=found, hint=hint)


class JobRunning(BourneError):
    """The same instance of a job is running already: its lease is held. `run` is that run's number."""

    exit_code = 5

    def __init__(self, what: str, *, run: int, where: str | None = None, found: object = None) -> None:
        self.run = run
        super().__init__(
            what, where=where, expected="one run of an instance at a time", found=found,
            hint=f"wait for it, or stop it: bourne jobs stop {run}",
        )  # fmt: skip


class JobCompleted(BourneError):
    """The same instance of a job has completed already. `run` is that run's number."""

    exit_code = 4

    def __init__(self, what: str, *, run: int, where: str | None = None) -> None:
        self.run = run
        super().__init__(
            what, where=where, expected="an instance that has not completed", found=f"run {run} did",
            hint="give it other parameters; or, to do all of it once more: --again",
        )  # fmt: skip


class Closed(BourneError):
    """A method was called on something that is closed."""


class CorruptFrame(BourneError):
    """Bytes on disk are not what was written: never served, never skipped."""

    exit_code = 6

    def __init__(self, reason: str, *, log: str, partition: int, file: str, byte: int,
                 offset: int | None = None) -> None:  # fmt: skip
        self.log = log
        self.partition = partition
        self.file = file
        self.byte = byte
        self.offset = offset
        after = f", records from offset {offset}" if offset is not None else ""
        super().__init__(
            f"log {log!r} is damaged: {reason}",
            where=f"partition {partition}{after}, file {file}, byte {byte}",
            hint="restore that file from a copy; if the log is a view's output, delete the view's folder: "
            "it is rebuilt from its input logs",
        )


class InvalidProof(BourneError):
    """A proof does not prove what it says, or not under the head that was asked for."""

    exit_code = 6


class ViewFailed(BourneError):
    """A view's step failed. Its committed output is intact; it goes on from there when run again."""

    exit_code = 9


class GrowingState(UserWarning):
    """What a view remembers grows with every record, without a bound. No error: a warning from `bourne.open`.

    `App.view(…, grows=True)` says that this is known.
    """

    def __init__(self, what: str, *, view: str) -> None:
        self.what = what
        self.view = view
        super().__init__(what)
