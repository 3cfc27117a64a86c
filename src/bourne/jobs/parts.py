"""The parts of a partitioned chunk step: which there are, and what each of them reads.

Law: the parts are disjoint and together they are everything, rows whose column is NULL included. They are fixed when the
step first begins, and noted: an instance that goes on has the same parts, though a file came or a table grew meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any, Final

from bourne.batch.inputs import ByFile, ByHash, ByRange, Query
from bourne.batch.steps import Chunk
from bourne.connect.sinks import sink_kind
from bourne.connect.source import Position, Taken
from bourne.connect.urls import parse_url
from bourne.duck import connect
from bourne.errors import DefinitionError, SourceFailed, UnknownColumn
from bourne.jobs.host import Host
from bourne.jobs.inputs import files_of, open_reader
from bourne.jobs.reader import Reader
from bourne.limits import PARTITIONS_MAX
from bourne.schema import quote

POSTGRES: Final = ("postgres", "postgresql")


@dataclass(frozen=True, slots=True)
class Narrowed:
    """What one part reads of the input: one `file`, or the rows for which a `condition` holds; plain data.

    `name` is the label as a part of a file's name, another one for each part. The first part tells of rows that cannot be read:
    nobody knows whose they would be.
    """

    label: str
    file: str | None = None
    condition: str | None = None
    name: str = ""
    is_first: bool = True


def plan_parts(step: Chunk, host: Host) -> list[Narrowed]:
    """Return the parts of a step, as they are now; one that is all of it, if it is not partitioned.

    Raises: as `_planned`.
    """
    names: dict[str, int] = {}
    named = []
    for part in _planned(step, host):
        stem = PurePath(part.label).stem if part.file is not None else part.label
        name = "".join(char if char.isalnum() or char in "-_." else "_" for char in stem).strip(".") or "part"
        names[name.casefold()] = count = names.get(name.casefold(), 0) + 1
        named.append(replace(part, name=name if count == 1 else f"{name}-{count}"))
    if len({part.name.casefold() for part in named}) < len(named):  # x-2, made by us, and another x-2
        named = [replace(part, name=f"{number}-{part.name}") for number, part in enumerate(named, 1)]
    return [replace(part, is_first=number == 0) for number, part in enumerate(named)]


def _planned(step: Chunk, host: Host) -> list[Narrowed]:
    """Return the parts, without names.

    Raises:
        DefinitionError: this input has no such parts. SourceFailed: there are no files.
    """
    where, by = f"step {step.name!r}", step.partition
    if by is None:
        return [Narrowed("")]
    if isinstance(by, ByFile):
        if not isinstance(step.read, str):
            raise DefinitionError("only files can be read file by file", where=where, expected="read='in/*.csv'", found=repr(step.read),
                                  hint="by_range(…) or by_hash(…)")  # fmt: skip
        entries = files_of(step.read)[1]
        if not entries:
            raise SourceFailed(
                f"there are no files {step.read}", where=where, hint="check the path or the pattern"
            )
        if len(entries) > PARTITIONS_MAX:
            raise DefinitionError("too many files", where=where, expected=f"at most {PARTITIONS_MAX:,}", found=f"{len(entries):,}",
                                  hint="read them as one input: they are read one after the other")  # fmt: skip
        return [Narrowed(entry.path, file=entry.path) for entry in entries]
    if isinstance(by, ByHash):
        return [
            Narrowed(f"{number + 1} of {by.count}", condition=_of_hash(step, by, number))
            for number in range(by.count)
        ]
    return list(_ranges(by, by.bounds or _bounds(step, by, host, where)))


def narrow(step: Chunk, part: Narrowed) -> Chunk:
    """Return a step that reads one part, as far as the other side can do that by itself."""
    if part.condition is not None and _can_push(step):
        assert isinstance(step.read, Query)
        return replace(
            step,
            read=replace(step.read, sql=f"SELECT * FROM ({step.read.sql}) AS part WHERE {part.condition}"),
        )
    return step


def open_part(step: Chunk, part: Narrowed, host: Host, where: str) -> Reader:
    """Open what a part reads."""
    reader = open_reader(
        narrow(step, part).read, step.columns, host=host, where=where, file=part.file, since=step.since, overlap=step.overlap,
        key=step.key, is_whole=not step.goes_on, is_processed=bool(step.process),
    )  # fmt: skip
    if part.condition is None or _can_push(step):
        return reader
    assert isinstance(step.partition, ByRange | ByHash)
    if reader.schema.column(step.partition.column) is None:
        reader.close()
        raise UnknownColumn(
            f"there is no column {step.partition.column!r} to make parts by", where=where,
            expected=", ".join(column.name for column in reader.schema.columns), found=step.partition.column,
        )  # fmt: skip
    return _Filtered(reader, part.condition, tells=part.is_first)


def _can_push(step: Chunk) -> bool:
    """Say whether the other side evaluates conditions: any database a range, PostgreSQL also our hash."""
    return isinstance(step.read, Query) and (
        isinstance(step.partition, ByRange) or parse_url(step.read.url).scheme in POSTGRES
    )


def _of_hash(step: Chunk, by: ByHash, number: int) -> str:
    column = quote(by.column)
    if _can_push(step):
        return f"mod(abs(hashtextextended(coalesce({column}::text, ''), 0)::numeric), {by.count}) = {number}"
    # MD5, as that is the same in each version and on each machine.
    return f"md5_number_lower(coalesce(CAST({column} AS VARCHAR), '')) % {by.count} = {number}"


def _ranges(by: ByRange, bounds: tuple[Any, ...]) -> Iterator[Narrowed]:
    column, cuts = quote(by.column), [_literal(each) for each in bounds]
    if not cuts:
        yield Narrowed("all")
        return
    yield Narrowed(f"before {bounds[0]}", condition=f"{column} < {cuts[0]}")
    for number in range(1, len(cuts)):
        yield Narrowed(
            f"{bounds[number - 1]} to {bounds[number]}",
            condition=f"{column} >= {cuts[number - 1]} AND {column} < {cuts[number]}",
        )
    yield Narrowed(f"from {bounds[-1]}", condition=f"({column} >= {cuts[-1]} OR {column} IS NULL)")


def _bounds(step: Chunk, by: ByRange, host: Host, where: str) -> tuple[Any, ...]:
    """Ask a database for the least and the largest value, and cut between them."""
    if not isinstance(step.read, Query):
        raise DefinitionError("only a database says how far a column reaches", where=where, expected="bounds=[…]",
                              found=f"count={by.count}", hint="say where to cut: by_range(…, bounds=[1000, 2000])")  # fmt: skip
    column = quote(by.column)
    ends = f"SELECT min({column}) AS low, max({column}) AS high FROM ({step.read.sql}) AS ends"
    query = Query(step.read.url, f"SELECT * FROM ({ends}) AS ends WHERE low IS NOT NULL", ("low",))
    reader = open_reader(query, None, host=host, where=where)
    try:
        rows = [
            row for taken in reader.read(None) if taken.rows is not None for row in taken.rows.to_pylist()
        ]
    finally:
        reader.close()
    if not rows or by.count == 1:
        return ()
    low, high = rows[0]["low"], rows[0]["high"]
    try:
        cuts = [low + (high - low) * number // by.count for number in range(1, by.count)]
    except TypeError:
        try:
            cuts = [low + (high - low) / by.count * number for number in range(1, by.count)]
        except TypeError as error:
            raise DefinitionError(f"{by.column!r} cannot be cut into ranges of equal width", where=where, found=f"{low!r} to {high!r}",
                                  hint="say where to cut: bounds=[…]; or by_hash(…)") from error  # fmt: skip
    return tuple(dict.fromkeys(cut for cut in cuts if cut > low))


def _literal(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        raise DefinitionError(
            "that is no bound of a range", expected="a number, a text, a date", found=repr(value)
        )
    if isinstance(value, int | float):
        return repr(value)
    text = str(value).replace("'", "''")
    return f"'{text}'"


class _Filtered:
    """A reader of those rows for which a condition holds."""

    def __init__(self, reader: Reader, condition: str, *, tells: bool) -> None:
        """`tells`: of rows that cannot be read."""
        self._tells = tells
        self.schema = reader.schema
        self._reader = reader
        self._condition = condition
        self._database = connect()

    def read(self, position: Position | None) -> Iterator[Taken]:
        """Yield the parts of the reader, each with the rows that are wanted."""
        for taken in self._reader.read(position):
            rows = taken.rows
            if rows is not None and rows.num_rows:
                self._database.register("input", rows)
                kept = self._database.sql(f"SELECT {self._condition} AS kept FROM input").to_arrow_table()
                self._database.unregister("input")
                rows = rows.filter(kept.column(0).combine_chunks())
            yield replace(taken, rows=rows, dead=taken.dead if self._tells else ())

    def share(self, position: Position | None) -> float | None:
        """Return the reader's."""
        return self._reader.share(position)

    def close(self) -> None:
        """Close the reader."""
        self._reader.close()
        self._database.close()


def check_target(step: Chunk, parts: list[Narrowed]) -> None:
    """Refuse parts that would write to one file, or would each replace one table.

    Raises:
        DefinitionError: they would.
    """
    if len(parts) <= 1 or not isinstance(step.write, str) or "{part}" in step.write:
        return
    kind = sink_kind(parse_url(step.write))
    if kind in ("csv", "jsonl", "parquet"):
        raise DefinitionError(
            "the parts cannot write to one file", where=f"step {step.name!r}", expected="a target with {part} in its name",
            found=step.write, hint="write='out/{part}.csv'; or write to a table or a log",
        )  # fmt: skip
    if step.mode == "replace":
        raise DefinitionError(
            "the parts cannot each replace one table: the last one would be all that is there", where=f"step {step.name!r}",
            expected="a target with {part} in its name, or no parts", found=step.write,
            hint="delete what is there in a step before; or replace a table by one step without partition=",
        )  # fmt: skip


def part_target(step: Chunk, part: Narrowed) -> Chunk:
    """Return the step with the part's own target, if its name has `{part}`."""
    if not isinstance(step.write, str):
        return step
    return replace(step, write=step.write.replace("{part}", part.name or "all"))
