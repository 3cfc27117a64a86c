"""A case: relations, one query, a history in steps, restarts. Whoever maintains the query is asked after every step.

Law: after every step the driver's rows are DuckDB's answer to the query over the relations as they are now. Where
DuckDB fails, whether its optimizer is on or not, the driver has to fail; where only one of both does, it may.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

import duckdb
import numpy as np
import pyarrow as pa

from bourne.duck import connect
from bourne.errors import NotMaintainable, SqlError
from bourne.schema import Schema, cast_back, declare_schema
from engine.oracle import Rows, difference, rows_of, table_of
from engine.random_changes import (
    Contents,
    Relation,
    Restart,
    Row,
    Step,
    draw_history,
    draw_relations,
    draw_restarts,
)
from engine.random_expressions import Column
from engine.random_queries import draw_query

ANSWER_ROWS_MAX = 3_000


@dataclass(frozen=True, slots=True)
class Case:
    """What one seed stands for."""

    relations: Mapping[str, Relation]
    sql: str
    steps: Sequence[Step]
    restarts: Sequence[Restart]
    seed: int | None = None

    def schema(self, name: str) -> Schema:
        """Return a relation's declared schema."""
        return declare_schema(dict(self.relations[name].schema), where=name)

    def __str__(self) -> str:
        lines = [f"seed {self.seed}", self.sql]
        for name, relation in self.relations.items():
            lines.append(f"{name} ({relation.kind}): {dict(relation.schema)}")
        for index, step in enumerate(self.steps):
            lines.append(
                f"step {index}{'' if self.restarts[index] == 'none' else ', then ' + self.restarts[index]}:"
            )
            lines += [
                f"  {name} {weight:+d} {row!r}" for name, changes in step.items() for row, weight in changes
            ]
        return "\n".join(lines)


Weights = np.ndarray[Any, np.dtype[Any]]
Signed = tuple[pa.Table, Weights]


class Driver(Protocol):
    """Something that maintains the query of a case."""

    def apply(self, step: Mapping[str, Signed]) -> None:
        """Take the changes of one step: per relation rows with weights."""
        ...

    def restart(self, how: Restart) -> None:
        """Lose what is in memory, and come back."""
        ...

    def rows(self) -> Rows:
        """Return the rows of the answer as of now, as `rows_of` gives those of DuckDB."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


# Raises `bourne.errors.NotMaintainable` or `SqlError` where the query is refused.
MakeDriver = Callable[[Case], Driver]


class CaseFailed(AssertionError):
    """The driver's rows are not DuckDB's answer."""

    def __init__(self, case: Case, step: int, found: str) -> None:
        super().__init__(f"{case}\nafter step {step}: {found}")
        self.case, self.step, self.found = case, step, found

    @property
    def kind(self) -> str:
        """Say what a smaller case has to share: a wrong answer is no crash, and a crash no other crash."""
        return ":".join(self.found.split(":")[:2]) if self.found.startswith("failed") else "wrong"


class Database:
    """DuckDB with the tables of a case."""

    _shared: duckdb.DuckDBPyConnection | None = None

    def __init__(self, relations: Mapping[str, Relation]) -> None:
        if Database._shared is None:
            Database._shared = connect()
        self.connection = Database._shared.cursor()
        self.schemas = {n: declare_schema(dict(r.schema), where=n) for n, r in relations.items()}
        for name, schema in self.schemas.items():
            columns = ", ".join(f"{c.name} {c.type}" for c in schema.columns)
            self.connection.execute(f"CREATE TEMP TABLE {name} ({columns})")

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def fill(self, rows: Mapping[str, Sequence[Row]]) -> None:
        """Make these the relations' rows."""
        for name, schema in self.schemas.items():
            self.connection.execute(f"DELETE FROM {name}")
            if rows[name]:
                self.connection.register("__rows", table_of(schema, rows[name]))
                casts = ", ".join(cast_back(column) for column in schema.columns)
                self.connection.execute(f"INSERT INTO {name} SELECT {casts} FROM __rows")
                self.connection.unregister("__rows")

    def describe(self, sql: str) -> list[tuple[str, str]]:
        """Return a query's columns.

        Raises:
            duckdb.Error: it does not bind.
        """
        relation = self.connection.sql(sql)
        return [(n, str(t)) for n, t in zip(relation.columns, relation.types, strict=True)]

    def answer(self, sql: str, *, is_optimised: bool = True) -> pa.Table:
        """Return the answer.

        Raises:
            duckdb.Error: it cannot be computed.
        """
        self.connection.execute("PRAGMA enable_optimizer" if is_optimised else "PRAGMA disable_optimizer")
        return self.connection.sql(sql).to_arrow_table()


def draw_case(seed: int, *, depth: int = 3) -> Case:
    """Return the case of this number, its query nested at most so deep."""
    for attempt in range(10_000):
        random = Random(f"{seed}/{attempt}")
        relations = draw_relations(random)
        with Database(relations) as database:
            tables = {
                name: tuple(Column(column.name, column.type) for column in schema.columns)
                for name, schema in database.schemas.items()
            }
            sql = draw_query(random, tables, database.describe, depth=depth)
            leaves = sum(sql.count(f" {name} AS ") for name in relations)
            rows = random.choice([4, 8, 12, 12, 20]) if leaves > 3 else random.choice([5, 10, 20, 30, 60])
            if leaves <= 2 and random.random() < 0.03:
                rows = 600
            steps = draw_history(random, relations, rows=rows)
            case = Case(relations, sql, steps, draw_restarts(random, len(steps)), seed)
            if _is_wanted(case, database, random):
                return case
    raise AssertionError(f"no case found for seed {seed}")


def _is_wanted(case: Case, database: Database, random: Random) -> bool:
    """Say whether the answers are few enough, and if there never are any, only now and then."""
    contents = Contents(case.relations)
    counts = [0]
    for index, step in enumerate(case.steps):
        contents.apply(step)
        if index not in (len(case.steps) // 2, len(case.steps) - 1):
            continue
        database.fill(contents.rows())
        try:
            counts.append(database.answer(f"SELECT count(*) FROM ({case.sql})").column(0)[0].as_py())
        except duckdb.Error:
            counts.append(0)
        if counts[-1] > ANSWER_ROWS_MAX:
            return False
    return max(counts) > 1 or random.random() < 0.2


def open_answer(case: Case, *, shuffles: int = 2) -> str | None:
    """Say how DuckDB's answer depends on the order of rows or on its optimizer, or return None: it does not."""
    contents = Contents(case.relations)
    with Database(case.relations) as database:
        for step in [{}, *case.steps]:
            contents.apply(step)
            rows = contents.rows()
            found: list[str | Rows] = []
            for shuffle in range(shuffles + 1):
                mixed = {n: Random(shuffle).sample(r, len(r)) if shuffle else r for n, r in rows.items()}
                database.fill(mixed)
                found.append(_answer(database, case.sql, is_optimised=shuffle % 2 == 0))
            for other in found[1:]:
                if isinstance(other, str) or isinstance(found[0], str):
                    if isinstance(other, str) is not isinstance(found[0], str):
                        return f"sometimes an error: {other if isinstance(other, str) else found[0]}"
                elif (unlike := difference(other, found[0])) is not None:
                    return unlike
    return None


def _answer(database: Database, sql: str, *, is_optimised: bool) -> str | Rows:
    try:
        return rows_of(database.answer(sql, is_optimised=is_optimised))
    except duckdb.Error as error:
        return str(error)


def check_case(case: Case, make: MakeDriver) -> None:
    """Drive a case through all its steps.

    Raises:
        CaseFailed: an answer is wrong, or the driver failed where DuckDB does not, or did not where DuckDB does.
        NotMaintainable, SqlError: the query is refused.
    """
    with Database(case.relations) as database:
        contents = Contents(case.relations)
        database.fill(contents.rows())
        try:
            driver = make(case)
        except (NotMaintainable, SqlError):
            raise
        except Exception as error:  # it computes what the query says of nothing
            if _fails(case, database):
                return
            raise CaseFailed(case, -1, f"failed: {type(error).__name__}: {error}") from error
        try:
            for index, step in enumerate([{}, *case.steps]):
                contents.apply(step)
                database.fill(contents.rows())
                if not _check_step(case, driver, database, index - 1, step):
                    return
        finally:
            driver.close()


def _fails(case: Case, database: Database) -> bool:
    """Say whether DuckDB fails, if only unoptimised: it may not compute what nobody asks for."""
    return any(isinstance(_answer(database, case.sql, is_optimised=each), str) for each in (True, False))


def _check_step(case: Case, driver: Driver, database: Database, index: int, step: Step) -> bool:
    """Compare after one step (the step before the first: nothing yet); say whether to go on."""
    expected = _answer(database, case.sql, is_optimised=True)
    try:
        if step:
            driver.apply({name: _signed(case.schema(name), changes) for name, changes in step.items()})
        if index >= 0:
            driver.restart(case.restarts[index])
        got = driver.rows()
    except Exception as error:
        if _fails(case, database):  # then ours is right to fail, too
            return False
        raise CaseFailed(case, index, f"failed: {type(error).__name__}: {error}") from error
    if isinstance(expected, str):
        if isinstance(_answer(database, case.sql, is_optimised=False), str):
            raise CaseFailed(case, index, f"got {got[:20]}, but DuckDB fails: {expected}")
        return False
    unlike = difference(got, expected)
    if unlike is not None and _is_right(got, _answer(database, case.sql, is_optimised=False)):
        return True  # DuckDB's optimizer is wrong: it is with LIKE 'a%' on a field of a struct
    if unlike is not None:
        raise CaseFailed(case, index, unlike)
    return True


def _is_right(got: Rows, expected: str | Rows) -> bool:
    return not isinstance(expected, str) and difference(got, expected) is None


def _signed(schema: Schema, changes: Sequence[tuple[Row, int]]) -> Signed:
    return table_of(schema, [row for row, _ in changes]), np.array(
        [weight for _, weight in changes], np.int64
    )
