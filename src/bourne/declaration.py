"""A log's declaration, and everything in it that cannot be, or not together. Pure data, pure checks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple, get_args

from bourne.errors import DefinitionError
from bourne.limits import PARTITIONS_MAX
from bourne.schema import Schema, is_storable

Durability = Literal["fsync", "interval", "none"]
Changes = Literal["append", "upsert", "before_after", "weights"]

# Whole numbers that 64 bits with a sign hold.
_WEIGHT_TYPES: Final = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")


@dataclass(frozen=True, slots=True)
class LogDefinition:
    """A declared log. `watermark_us` is how late its records may be, in microseconds of event time.

    `schema` is as declared: that of the rows, where `changes` is `"before_after"`.
    """

    name: str
    schema: Schema
    key: str | None
    time: str | None
    watermark_us: int
    partitions: int = 1
    durability: Durability = "fsync"
    request_id: str | None = None
    keep_us: int | None = None
    keep_bytes: int | None = None
    cold_after_us: int | None = None
    is_compacted: bool = False
    tombstone: str | None = None
    changes: Changes = "append"
    weight: str | None = None
    idle_us: int | None = None
    punctuation: str | None = None
    seen: tuple[tuple[str, str], ...] = ()


class Problem(NamedTuple):
    """What is wrong, and what to do about it."""

    what: str
    expected: Any = None
    found: Any = None
    hint: str | None = None


def checked(log: LogDefinition) -> LogDefinition:
    """Return the log with what its columns' roles say of their schema: key, request id and weight are not NULL.

    Raises:
        DefinitionError: something in it does not fit together.
    """
    for problems in (
        _column_problems,
        _option_problems,
        _seen_problems,
        _retention_problems,
        _change_problems,
    ):
        for problem in problems(log):
            raise DefinitionError(
                problem.what, where=f"log {log.name!r}", expected=problem.expected, found=problem.found,
                hint=problem.hint,
            )  # fmt: skip
    schema = log.schema
    for name in (log.key, log.request_id, log.weight):
        if name is not None:
            schema = schema.with_not_null(name)
    return replace(log, schema=schema)


def _roles(log: LogDefinition) -> dict[str, str]:
    """Return the columns that have a role, by role."""
    names = {role: getattr(log, role) for role in ("key", "time", "request_id", "tombstone", "weight")}
    return {role: name for role, name in names.items() if name is not None}


def _column_problems(log: LogDefinition) -> Iterator[Problem]:
    """Yield columns that are not there, or whose type is not that of their role."""
    for role, name in _roles(log).items():
        column = log.schema.column(name)
        if column is None:
            yield Problem(
                f"the {role} column {name!r} is not in the schema", ", ".join(log.schema.names), name
            )
            return
        expected, is_right = {
            "time": ("a timestamp", column.type.startswith("TIMESTAMP")),
            "tombstone": ("a BOOLEAN", column.type == "BOOLEAN"),
            "weight": ("a whole number: " + ", ".join(_WEIGHT_TYPES), column.type in _WEIGHT_TYPES),
        }.get(role, ("", True))
        if not is_right:
            yield Problem(f"the {role} column {name!r} is a {column.type}", expected, column.type)


def _option_problems(log: LogDefinition) -> Iterator[Problem]:
    if not 1 <= log.partitions <= PARTITIONS_MAX:
        yield Problem("no such number of partitions", f"1 to {PARTITIONS_MAX}", log.partitions)
    if log.durability not in get_args(Durability):
        yield Problem("no such durability", ", ".join(get_args(Durability)), log.durability)
    if log.time is None:
        for option, value in (("idle", log.idle_us), ("punctuation", log.punctuation)):
            if value is not None:
                yield Problem(
                    f"{option} without a time", hint="name the column that says when it happened: time=…"
                )
        if log.watermark_us:
            yield Problem(
                "a watermark without a time", hint="name the column that says when it happened: time=…"
            )
    if log.punctuation is not None and not log.punctuation.strip():
        yield Problem("an empty punctuation", "a column, or an SQL expression over columns", log.punctuation)
    if log.punctuation is not None and log.watermark_us:
        yield Problem(
            "a watermark that is said twice", "punctuation or watermark", "both",
            "leave one out: with punctuation, the records say the watermark themselves",
        )  # fmt: skip
    if log.key is None and log.partitions > 1:
        yield Problem("several partitions without a key", hint="name a key column: key=…")


def _seen_problems(log: LogDefinition) -> Iterator[Problem]:
    for other, name in log.seen:
        column = log.schema.column(name)
        if column is None or column.type not in _WEIGHT_TYPES:
            found = "no such column" if column is None else column.type
            yield Problem(
                f"the column {name!r}, which is to say what was seen of {other!r}, is no whole number",
                ", ".join(_WEIGHT_TYPES), found, 'add it to the schema: "bigint"',
            )  # fmt: skip
        if other.casefold() == log.name.casefold():
            yield Problem("a log that waits for itself", hint="its records are in order already")
        if log.changes == "before_after":
            yield Problem("seen= of rows that are kept before and after", hint="use another kind of changes")


def _retention_problems(log: LogDefinition) -> Iterator[Problem]:
    if log.is_compacted and log.key is None:
        yield Problem("compaction without a key", hint="name the column of which the newest is kept: key=…")
    if log.keep_bytes is not None and (not isinstance(log.keep_bytes, int) or log.keep_bytes <= 0):
        yield Problem("no such number of bytes to keep", "a whole number above 0", log.keep_bytes)


# --- what does not go with how the records change the rows -------------------------------------------------


def _change_problems(log: LogDefinition) -> Iterator[Problem]:
    found = f"changes={log.changes!r}"
    if log.changes not in get_args(Changes):
        yield Problem("no such changes", ", ".join(get_args(Changes)), log.changes)
    if log.changes == "upsert" and log.key is None:
        yield Problem(
            "upserts without a key",
            found=found,
            hint="name the column of which the newest record counts: key=…",
        )
    if log.changes != "append" and not (log.keep_us is None and log.keep_bytes is None):
        yield Problem(
            "a log that changes its mind cannot forget its older records: what they did to its rows would be undone",
            found=found,
            hint="leave keep and keep_bytes out; a log of upserts can be compacted: compact=True",
        )
    if log.is_compacted and log.changes not in ("append", "upsert"):
        yield Problem(
            "only upserts and plain records can be compacted", found=found,
            hint='leave compact out, or use changes="upsert"',
        )  # fmt: skip
    yield from _weight_problems(log, found)
    yield from _tombstone_problems(log, found)
    if log.changes == "before_after":
        yield from _row_problems(log)


def _weight_problems(log: LogDefinition, found: str) -> Iterator[Problem]:
    if log.weight is None:
        if log.changes == "weights":
            yield Problem(
                "weights without a column for them",
                found=found,
                hint="name a column of whole numbers: weight=…",
            )
        return
    if log.changes != "weights":
        yield Problem(
            "a weight column that nothing is done with",
            found=found,
            hint='add changes="weights", or leave it out',
        )
    if len(log.schema.columns) == 1:
        yield Problem(
            "rows of no columns: there is only the weight", hint="add the columns of the rows to `schema`"
        )
    yield from _second_roles(log, "weight")


def _tombstone_problems(log: LogDefinition, found: str) -> Iterator[Problem]:
    if log.tombstone is None:
        return
    if log.changes not in ("append", "upsert"):
        yield Problem(
            "a tombstone column that nothing is done with", found=found,
            hint="leave it out: such a log takes rows back in its own way",
        )  # fmt: skip
    if log.changes == "append" and not log.is_compacted:
        yield Problem(
            "a tombstone column without compaction", found=found,
            hint='add compact=True or changes="upsert", or leave it out',
        )  # fmt: skip
    yield from _second_roles(log, "tombstone")


def _second_roles(log: LogDefinition, role: str) -> Iterator[Problem]:
    roles = _roles(log)
    name = roles.pop(role)
    if name.casefold() in map(str.casefold, roles.values()):
        yield Problem(f"the {role} column {name!r} has another role, too", hint="name two columns")


def _row_problems(log: LogDefinition) -> Iterator[Problem]:
    """Yield what cannot be of rows that are kept as `before` and `after`."""
    if log.request_id is not None:
        yield Problem(
            "a request_id column in rows before and after", hint="give each append its request_id instead"
        )
    for column in log.schema.columns:
        if not column.nullable:
            yield Problem(
                f"column {column.name!r} is declared not null, which rows before and after cannot promise",
                hint="leave `not null` out; the key may not be NULL anyway",
            )
        if not is_storable(f"STRUCT(x {column.type})"):
            yield Problem(
                f"column {column.name!r} is a {column.type}, which rows before and after cannot hold",
                hint="store it as varchar and CAST it in the view",
            )
