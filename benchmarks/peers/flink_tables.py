"""Nexmark's events as Flink's tables: a bounded sequence of row numbers, and the formulas as computed columns.

Law: the rows are those of `benchmarks.nexmark.generator`; `make bench-peers` checks sums of every column before it
measures. What is done to make generating cheap for Flink, so that it is the queries that are measured:

* Columns that a query does not read are not generated.
* Flink merges nested SELECTs and so would compute a draw anew wherever it is used. `+ RAND_INTEGER(1)`, which is always
  0, keeps it from that.
* `SUBSTRING` of a long text walks over its letters; `LETTERS` is a function in Java that cuts it at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from benchmarks.nexmark import generator
from benchmarks.nexmark.formulas import Columns, Settings, stages

_LONG_SUBSTRING: Final = re.compile(r"SUBSTRING\('([a-z]{512,})', ")
_NAME: Final = re.compile(r"\b[a-z_]\w*\b")

# Late events do not occur; 4 seconds are what Nexmark for Flink waits for them.
_WATERMARK: Final = ", WATERMARK FOR date_time AS date_time - INTERVAL '4' SECOND"


def tables(
    reads: dict[str, list[str]], events: int, settings: Settings, *, has_event_time: bool
) -> list[str]:
    """Return the statements that make the logs that a query reads, each with the columns that it reads."""
    return [
        statement
        for relation, columns in reads.items()
        for statement in _table(relation, columns, events, settings, has_event_time)
    ]


def letters_source(settings: Settings) -> str:
    """Return the Java class of the function LETTERS(start, length): a piece of the settings' text."""
    formulas = " ".join(stages("bids", settings)[-1].values())
    found = _LONG_SUBSTRING.search(formulas)
    if found is None:
        raise ValueError("the formulas have no long text any more: LETTERS is not needed, remove it")
    return f"""
        public final class Letters extends org.apache.flink.table.functions.ScalarFunction {{
            private static final String TEXT = "{found[1]}";
            public String eval(Integer start, Integer length) {{
                return TEXT.substring(start - 1, start - 1 + length);
            }}
        }}"""


def checksum(relation: str, clock: Callable[[str], str]) -> str:
    """Return a query whose one row of numbers tells whether a log's rows are right, for DuckDB and for Flink.

    Args:
        relation: the log.
        clock: turns a timestamp into the BIGINT HHMMSSmmm.
    """
    numbers = {
        "bigint": lambda column: column,
        "varchar": _text_number,
        "timestamp": clock,
    }
    sums = [
        f"SUM({numbers[kind](column)}) AS {column}_sum"
        for column, kind in generator.SCHEMAS[relation].items()
    ]
    return f"SELECT COUNT(*) AS row_count, {', '.join(sums)} FROM {relation}"


def _text_number(column: str) -> str:
    """A number of a text: of its length and its first, fourth and last letters."""
    letters = {"1": 7, "4": 28, f"CHAR_LENGTH({column})": 1000}
    parts = [f"ASCII(SUBSTRING({column}, {place}, 1)) * {factor}" for place, factor in letters.items()]
    return f"CAST(CHAR_LENGTH({column}) + {' + '.join(parts)} AS BIGINT)"


def _table(
    relation: str, columns: list[str], events: int, settings: Settings, has_event_time: bool
) -> list[str]:
    found = stages(relation, settings)
    instant = ", date_time AS " + _instant(_milliseconds(found)) + (_WATERMARK if has_event_time else "")
    last = generator.rows_before(relation, events) - 1
    return [
        f"CREATE TABLE {relation}_numbers (k BIGINT{instant if 'date_time' in columns else ''}) WITH ("
        "'connector' = 'datagen', 'rows-per-second' = '1000000000', 'fields.k.kind' = 'sequence', "
        f"'fields.k.start' = '0', 'fields.k.end' = '{last}')",
        f"CREATE VIEW {relation} AS {_rows(relation, found, columns)}",
    ]


def _rows(relation: str, found: list[Columns], columns: list[str]) -> str:
    """Return a SELECT like `rows_sql`, of some columns and with the table's own date_time."""
    has_instant = "date_time" in columns
    sql = f"{relation}_numbers"
    kept = _prune([*found[:-1], found[-1] | {"date_time": "date_time"}], columns)
    for depth, stage in enumerate(kept):
        is_last = depth == len(kept) - 1
        items = {name: formula if formula == name or is_last else f"{formula} + RAND_INTEGER(1)"
                 for name, formula in stage.items()}  # fmt: skip
        if is_last and "expires" in items:
            items["expires"] = _instant(items["expires"])
        if has_instant:
            items["date_time"] = "date_time"
        selected = ", ".join(f"{formula} AS {name}" for name, formula in items.items())
        sql = f"(SELECT {_LONG_SUBSTRING.sub('LETTERS(', selected)} FROM {sql} AS stage{depth})"
    return sql[1:-1]


def _prune(found: list[Columns], columns: list[str]) -> list[Columns]:
    """Keep of each stage what the next one needs."""
    kept: list[Columns] = []
    needed = set(columns)
    for stage in reversed(found):
        kept.insert(0, {name: formula for name, formula in stage.items() if name in needed})
        needed = set(_NAME.findall(" ".join(kept[0].values())))
    return kept


def _milliseconds(found: list[Columns]) -> str:
    """Return the formula of an event's milliseconds over k alone, as a table's computed column needs it."""
    formula = next(stage[name] for stage in found for name in ("date_ms", "date_time") if name in stage)
    return re.sub(r"\bn\b", f"({found[0]['n']})", formula)


def _instant(milliseconds: str) -> str:
    return f"TO_TIMESTAMP_LTZ({milliseconds}, 3)"
