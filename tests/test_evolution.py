"""Which schema may follow which, and that old records are the same records in a new schema's columns."""

from __future__ import annotations

import datetime as dt
import itertools
import os
from decimal import Context, Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bourne.duck import connect
from bourne.errors import DefinitionError
from bourne.evolution import adapt, check_evolution, is_widening
from bourne.schema import Column, Schema, arrow_type, declare_schema, duckdb_type, is_storable, quote

EXAMPLES = 2000 if os.environ.get("BOURNE_LONG") else 60

DATABASE = connect()
CONTEXT = Context(prec=40)


def schema_of(**columns: str) -> Schema:
    return declare_schema(columns, where="log 'x'")


def batch_of(schema: Schema, *columns: Any) -> pa.RecordBatch:
    fields = schema.to_arrow()
    arrays = [pa.array(values, field.type) for values, field in zip(columns, fields, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=fields)


# --- declaring anew ------------------------------------------------------------------------------------

OLD = schema_of(amount="integer", user="varchar not null", 값="smallint[]")


def refusals(new: Schema, old: Schema = OLD) -> list[str]:
    """Return what a declaration is refused for."""
    try:
        check_evolution(old, new, where="log 'x'")
    except DefinitionError as error:
        assert error.where == "log 'x'"
        assert error.expected
        assert error.found
        assert error.hint
        assert str(error).count("\n") == error.what.count("\n") + 4
        return [line.strip() for line in error.what.splitlines()[1:]]
    return []


@pytest.mark.parametrize(
    "new",
    [
        OLD,
        schema_of(amount="bigint", user="varchar not null", 값="bigint[]"),
        schema_of(
            추가="uuid", amount="integer", b="date[]", user="varchar not null", 값="smallint[]", c="json"
        ),
        schema_of(AMOUNT="decimal(38,28)", User="varchar not null", 값="float[]"),
    ],
)
def test_columns_may_be_added_and_widened(new: Schema) -> None:
    assert refusals(new) == []


NO_INTEGER = "INTEGER can become BIGINT, HUGEINT, DOUBLE or DECIMAL(p,s) with p - s >= 10"


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (
            schema_of(amount="varchar", user="varchar not null", 값="smallint[]"),
            [f"column 'amount': INTEGER cannot become VARCHAR; {NO_INTEGER}"],
        ),
        (
            schema_of(amount="smallint", user="json not null", 값="smallint[2]"),
            [
                f"column 'amount': INTEGER cannot become SMALLINT; {NO_INTEGER}",
                "column 'user': VARCHAR cannot become JSON; VARCHAR can become nothing else",
                "column '값': SMALLINT[] cannot become SMALLINT[2]; only the types in it may widen: SMALLINT can become "
                "INTEGER, BIGINT, FLOAT, DOUBLE or DECIMAL(p,s) with p - s >= 5",
            ],
        ),
        (
            schema_of(amount="integer not null", user="varchar", 값="smallint[]"),
            [
                "column 'amount' cannot become NOT NULL: older records may have a NULL there",
                "column 'user' cannot become nullable: it is declared NOT NULL, and readers rely on it",
            ],
        ),
        (
            schema_of(amount="integer", name="varchar not null", 값="smallint[]"),
            [
                "column 'user' is gone: columns cannot be dropped or renamed",
                "column 'name' is new and cannot be NOT NULL: older records have no value for it",
            ],
        ),
        (
            schema_of(값="smallint[]", new="date", USER="varchar not null", amount="text"),
            [
                f"column 'amount': INTEGER cannot become VARCHAR; {NO_INTEGER}",
                "the old columns cannot change their order from amount, user, 값 to 값, USER, amount",
            ],
        ),
    ],
)
def test_everything_else_is_refused_with_all_reasons(new: Schema, expected: list[str]) -> None:
    assert refusals(new) == expected


@pytest.mark.parametrize(
    ("spelled", "expected"),
    [
        ("DECIMAL(9,2)", "DECIMAL(9,2) can become DECIMAL(p,s) with s >= 2 and p - s >= 7"),
        ("DECIMAL(37,3)", "DECIMAL(37,3) can become DECIMAL(p,s) with s >= 3 and p - s >= 34"),
        ("DECIMAL(38,3)", "DECIMAL(38,3) can become nothing else"),
        ("HUGEINT", "HUGEINT can become nothing else"),
        ("FLOAT", "FLOAT can become DOUBLE"),
        ("TIME", "TIME can become TIME_NS"),
        (
            'STRUCT("a b" FLOAT, 값 MAP(VARCHAR, DECIMAL(4,1)[2]), c FLOAT)',
            "only the types in it may widen: FLOAT can become DOUBLE, VARCHAR can become nothing else, "
            "DECIMAL(4,1) can become DECIMAL(p,s) with s >= 1 and p - s >= 3",
        ),
    ],
)
def test_a_refusal_says_what_the_type_can_become(spelled: str, expected: str) -> None:
    (problem,) = refusals(schema_of(값="boolean"), schema_of(값=spelled))
    assert problem == f"column '값': {duckdb_type(spelled)} cannot become BOOLEAN; {expected}"


# --- widening ------------------------------------------------------------------------------------------

# Types and the values at their edges, as SQL; those that only Arrow brings in are numbers of its unit.
EXTREMES: dict[str, list[Any]] = {
    "BOOLEAN": ["false", "true"],
    "TINYINT": ["-128", "127"],
    "UTINYINT": ["0", "255"],
    "SMALLINT": ["-32768", "32767"],
    "USMALLINT": ["0", "65535"],
    "INTEGER": ["-2147483648", "2147483647"],
    "UINTEGER": ["0", "4294967295"],
    "BIGINT": ["-9223372036854775808", "9223372036854775807"],
    "UBIGINT": ["0", "18446744073709551615"],
    "HUGEINT": ["-170141183460469231731687303715884105728", "170141183460469231731687303715884105727"],
    "FLOAT": ["'-inf'", "'nan'", "3.4028234663852886e38", "1e-45", "0.1", "16777215"],
    "DOUBLE": ["'-inf'", "'nan'", "1.7976931348623157e308", "5e-324", "0.1", "9007199254740991"],
    "DECIMAL(4,0)": ["-9999", "9999"],
    "DECIMAL(4,1)": ["-999.9", "999.9"],
    "DECIMAL(5,2)": ["-999.99", "999.99"],
    "DECIMAL(9,0)": ["-999999999", "999999999"],
    "DECIMAL(16,0)": ["-9999999999999999", "9999999999999999"],
    "DECIMAL(18,3)": ["-999999999999999.999", "999999999999999.999"],
    "DECIMAL(38,0)": ["-" + "9" * 38, "9" * 38],
    "DECIMAL(38,37)": ["-9." + "9" * 37, "9." + "9" * 37],
    "VARCHAR": ["''", "'한글'", "'1'"],
    "BLOB": [r"'\x00\xFF'", "''"],
    "UUID": ["'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"],
    "JSON": ["""'{"a": [1, null]}'""", "'1'"],
    "DATE": ["'infinity'", "'5877642-06-25 (BC)'", "'5881580-07-10'", "'2024-02-29'"],
    "TIME": ["'00:00:00'", "'24:00:00'", "'23:59:59.999999'"],
    "TIME_NS": ["'00:00:00'", "'24:00:00'", "'23:59:59.999999999'"],
    "TIMESTAMP_S": [-(2**63) + 2, 2**63 - 2, 10**13, 2**63 - 1],
    "TIMESTAMP_MS": [-(2**63) + 2, 2**63 - 2, 10**16, 2**63 - 1],
    "TIMESTAMP": ["'infinity'", "'290309-12-22 (BC)'", "'294247-01-10 04:00:54.775806'"],
    "TIMESTAMP_NS": ["'infinity'", "'1677-09-22'", "'2262-04-11 23:47:16.854775806'"],
    "TIMESTAMP WITH TIME ZONE": ["'infinity'", "'290309-12-22 (BC)'", "'294247-01-10 04:00:54.775806'"],
    "INTERVAL": ["'1 month -1 day 1 microsecond'", "'0 days'", "'24:00:00'"],
    "INTEGER[]": ["[]", "[NULL, 2147483647]"],
    "BIGINT[]": ["[]", "[NULL, 9223372036854775807]"],
    "DECIMAL(18,3)[]": ["[]", "[NULL, 999999999999999.999]"],
    "INTEGER[2]": ["[2147483647, -2147483648]", "[NULL, 1]"],
    "BIGINT[2]": ["[9223372036854775807, -9223372036854775808]", "[NULL, 1]"],
    "BIGINT[3]": ["[9223372036854775807, -9223372036854775808, NULL]"],
    "SMALLINT[][2]": ["[[32767, -32768], NULL]", "[[], [NULL]]"],
    "DOUBLE[][2]": ["[['nan', 'inf'], NULL]", "[[], [NULL, 0.1]]"],
    "STRUCT(a INTEGER, b VARCHAR)": ["{'a': 2147483647, 'b': '한글'}", "{'a': NULL, 'b': NULL}"],
    "STRUCT(a BIGINT, b VARCHAR)": ["{'a': 9223372036854775807, 'b': '한글'}", "{'a': NULL, 'b': NULL}"],
    "STRUCT(a BIGINT, c VARCHAR)": ["{'a': 9223372036854775807, 'c': '한글'}", "{'a': NULL, 'c': NULL}"],
    "STRUCT(b VARCHAR, a BIGINT)": ["{'b': '한글', 'a': 9223372036854775807}", "{'b': NULL, 'a': NULL}"],
    "STRUCT(a BIGINT, b VARCHAR, c DATE)": ["{'a': 9223372036854775807, 'b': '한글', 'c': NULL}"],
    "MAP(VARCHAR, INTEGER)": ["MAP {'한글': 2147483647, '': NULL}", "MAP {}"],
    "MAP(VARCHAR, BIGINT)": ["MAP {'한글': 9223372036854775807, '': NULL}", "MAP {}"],
}  # fmt: skip


def test_the_types_of_these_tests_are_storable() -> None:
    assert len(EXTREMES) > 40
    for spelled in EXTREMES:
        assert duckdb_type(spelled) == spelled


def extremes_of(spelled: str) -> duckdb.DuckDBPyConnection:
    """Return a database whose table `t` has the extreme values in its column `x`."""
    database = connect()
    values = EXTREMES[spelled]
    if isinstance(values[0], int):
        database.from_arrow(pa.table({"x": pa.array(values, arrow_type(spelled))})).create("t")
    else:
        database.execute(f"CREATE TABLE t (x {spelled})")
        database.execute("INSERT INTO t VALUES " + ", ".join(f"(({value})::{spelled})" for value in values))
    return database


def is_same(one: Any, other: Any) -> bool:
    """Say whether two values from DuckDB are the same: numbers by their exact worth, others by kind and looks."""
    numbers = (int, float, Decimal)
    if isinstance(one, numbers) and isinstance(other, numbers) and bool not in (type(one), type(other)):
        return one == other or str(one) == str(other) == "nan"  # Python compares these exactly
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(map(is_same, one.values(), other.values()))
    return bool(one == other)


def seen(spelled: str, expression: str) -> str:
    """Return SQL that gives numbers and nested values to Python, everything else as DuckDB prints it."""
    is_plain = spelled == "BOOLEAN" or not any(
        mark in spelled for mark in ("INT", "DEC", "FLO", "DOU", "[", "(")
    )
    return f"{expression}::VARCHAR" if is_plain or spelled == "INTERVAL" else expression


def keeps_its_values(old: str, new: str, database: duckdb.DuckDBPyConnection) -> bool:
    """Ask DuckDB: is every extreme value the same after a cast, and the old one again after a cast back?"""
    if new in ("VARCHAR", "JSON"):
        return False  # a text is another thing, whatever it holds
    there = f"CAST(x AS {new})"
    is_back = f"CAST({there} AS {old}) IS NOT DISTINCT FROM x"
    try:
        if not database.sql(f"SELECT bool_and({is_back}) FROM t").fetchall()[0][0]:
            return False
        rows = database.sql(f"SELECT {seen(old, 'x')}, {seen(new, there)} FROM t").fetchall()
    except (
        duckdb.BinderException,
        duckdb.ConversionException,
        duckdb.InvalidInputException,
        UnicodeDecodeError,
    ):
        return False
    return all(is_same(one, other) for one, other in rows)


@pytest.mark.parametrize("old", EXTREMES)
def test_widenings_are_those_that_keep_all_extreme_values(old: str) -> None:
    database = extremes_of(old)
    for new in EXTREMES:
        if old != new:
            try:
                is_kept = keeps_its_values(old, new, database)
            except (
                duckdb.InternalException
            ):  # timestamps that are too far for DuckDB, which then wants a new start
                is_kept, database = False, extremes_of(old)
            assert is_widening(old, new) == is_kept, (old, new)


def test_widening_is_an_order() -> None:
    pairs = {(old, new) for old in EXTREMES for new in EXTREMES if is_widening(old, new)}
    assert len(pairs) > 100
    assert all((one, one) in pairs for one in EXTREMES)
    assert not any((new, old) in pairs for old, new in pairs if old != new)
    assert all((old, last) in pairs for old, new in pairs for other, last in pairs if new == other)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("int", "int8"),
        ("text", "varchar"),
        ("decimal(10,2)", "decimal(12,4)"),
        ("bigint", "decimal(38,19)"),
        ("decimal(15,0)", "double"),
        ("decimal(7,0)", "float"),
        ('struct("b c" int, 값 float[2])', 'struct("b c" double, 값 double[2])'),
        ("map(tinyint, date)", "map(bigint, date)"),
    ],
)
def test_widening_goes_one_way(old: str, new: str) -> None:
    assert is_widening(old, new)
    assert not is_widening(new, old) or duckdb_type(old) == duckdb_type(new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("decimal(10,2)", "decimal(11,4)"),
        ("bigint", "decimal(38,20)"),
        ("decimal(16,0)", "double"),
        ("decimal(8,0)", "float"),
        ("decimal(3,1)", "double"),
        ("hugeint", "decimal(38,0)"),
        ("integer[3]", "integer[]"),
        ("integer[3]", "bigint[4]"),
        ("integer", "integer[]"),
        ("integer[]", "integer"),
        ("struct(a int, b int)", "struct(b int, a int)"),
        ("struct(a int)", "struct(A int)"),
        ("struct(a int)", "struct(a int, b int)"),
        ("struct(key int, value int)", "map(int, int)"),
        ("struct(child int)", "int[]"),
    ],
)
def test_no_widening(old: str, new: str) -> None:
    assert not is_widening(old, new)


# --- old records ---------------------------------------------------------------------------------------


def test_a_batch_of_the_same_schema_is_returned_as_it_is() -> None:
    batch = batch_of(OLD, [1, None], ["a", "b"], [[1], None])
    assert adapt(batch, OLD) is batch


def test_what_does_not_change_shares_memory() -> None:
    batch = batch_of(OLD, [1, None, 3], ["a", "b", "나"], [[1], None, []]).slice(1)
    new = schema_of(추가="text[]", AMOUNT="bigint", more="hugeint", user="varchar not null", 값="smallint[]")
    result = adapt(batch, new)
    assert result.schema.equals(new.to_arrow(), check_metadata=True)
    assert result.to_pylist() == [
        {"추가": None, "AMOUNT": None, "more": None, "user": "b", "값": None},
        {"추가": None, "AMOUNT": 3, "more": None, "user": "나", "값": []},
    ]
    for name in ("user", "값"):
        buffers = zip(batch.column(name).buffers(), result.column(name).buffers(), strict=True)
        assert all(old is None or old.address == new.address for old, new in buffers)


def test_columns_that_the_reader_does_not_know_are_left_out() -> None:
    batch = batch_of(schema_of(a="int", b="int", c="int"), [1], [2], [3])
    assert adapt(batch, schema_of(C="bigint", d="date")).to_pylist() == [{"C": 3, "d": None}]
    alone = schema_of(d="date")
    assert adapt(batch, alone).equals(batch_of(alone, [None]))


def test_the_duckdb_type_counts_not_its_arrow_form() -> None:
    batch = batch_of(schema_of(a="decimal(38,0)", b="varchar"), [Decimal("9" * 38)], ["x"])
    wider = schema_of(a="hugeint", b="varchar")
    result = adapt(batch, wider)
    assert result.schema.equals(wider.to_arrow(), check_metadata=True)
    for other in (schema_of(b="json"), schema_of(b="uuid")):
        with pytest.raises(DefinitionError, match="declared anew"):
            adapt(batch, other)


@pytest.mark.parametrize(
    ("declared", "found"),
    [
        ({"a": "smallint"}, "INTEGER"),
        ({"a": "varchar"}, "INTEGER"),
        ({"a": "int not null"}, "NULL in its records"),
        ({"a": "int", "b": "int not null"}, "missing in its records"),
    ],
)
def test_what_cannot_be_adapted_was_declared_anew(declared: dict[str, str], found: str) -> None:
    with pytest.raises(DefinitionError, match="the log was declared anew meanwhile: column") as caught:
        adapt(batch_of(schema_of(A="int"), [1, None]), schema_of(**declared))
    assert caught.value.found == found
    assert caught.value.hint == "start the program again with the log's new declaration"


def test_a_value_that_is_none_of_its_type_is_not_cast() -> None:
    """Arrow does not look at what a producer puts into a decimal."""
    schema = schema_of(값="decimal(4,1)")
    digits = pa.py_buffer((10**38 - 1).to_bytes(16, "little"))
    values = pa.Array.from_buffers(pa.decimal128(4, 1), 1, [None, digits])
    batch = pa.RecordBatch.from_arrays([values], schema=schema.to_arrow())
    with pytest.raises(DefinitionError, match=r"'값' holds a value that is none of its type, DECIMAL\(4,1\)"):
        adapt(batch, schema_of(값="decimal(38,4)"))


def test_the_end_of_the_day_stays() -> None:
    """Python has no 24:00:00."""
    day_us = 24 * 60 * 60 * 1_000_000
    batch = batch_of(schema_of(x="time"), pa.array([0, day_us, None]).cast(pa.time64("us")))
    widened = adapt(batch, schema_of(x="time_ns")).column(0)
    assert widened.cast(pa.int64()).to_pylist() == [0, day_us * 1000, None]


# --- any schema, any steps, any values -----------------------------------------------------------------

# A type is its spelling, or for nested ones (kind, detail, parts): detail is an array's length or a struct's names.
Tree = Any

SCALARS = [spelled for spelled in EXTREMES if "[" not in spelled and "(a" not in spelled and "MAP" not in spelled
           and "(b" not in spelled]  # fmt: skip
NESTABLE = [spelled for spelled in SCALARS if is_storable(f"{spelled}[]")]

NAMES = ["a", "나", "Über", "d_4"]


def spelled_of(tree: Tree) -> str:
    if isinstance(tree, str):
        return tree
    kind, detail, parts = tree
    spelled = [spelled_of(part) for part in parts]
    if kind == "list":
        return f"{spelled[0]}[]"
    if kind == "array":
        return f"{spelled[0]}[{detail}]"
    if kind == "map":
        return f"MAP({spelled[0]}, {spelled[1]})"
    return f"STRUCT({', '.join(f'{quote(name)} {part}' for name, part in zip(detail, spelled, strict=True))})"


def nest(parts: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    keys = st.sampled_from(["VARCHAR", "TINYINT", "DECIMAL(4,1)"])
    return st.one_of(
        st.tuples(st.just("list"), st.none(), st.tuples(parts)),
        st.tuples(st.just("array"), st.integers(1, 3), st.tuples(parts)),
        st.tuples(st.just("map"), st.none(), st.tuples(keys, parts)),
        st.lists(parts, min_size=1, max_size=3).map(
            lambda each: ("struct", ["b c", "나", "A"][: len(each)], tuple(each))
        ),
    )


TREES = st.sampled_from(SCALARS) | nest(st.recursive(st.sampled_from(NESTABLE), nest, max_leaves=3))


def widened(tree: Tree, *, is_nested: bool = False) -> st.SearchStrategy[Tree]:
    if isinstance(tree, str):
        known = NESTABLE if is_nested else SCALARS
        return st.sampled_from([tree, *(new for new in known if new != tree and is_widening(tree, new))])
    kind, detail, parts = tree
    wider = st.tuples(*(widened(part, is_nested=True) for part in parts))
    return st.tuples(st.just(kind), st.just(detail), wider)


UTC = dt.UTC
LEAF_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "BOOLEAN": st.booleans(),
    "HUGEINT": st.integers(-(10**38) + 1, 10**38 - 1),
    "FLOAT": st.floats(width=32),
    "DOUBLE": st.floats(),
    "VARCHAR": st.text(max_size=4),
    "BLOB": st.binary(max_size=4),
    "UUID": st.uuids().map(str),
    "JSON": st.sampled_from(["1", '{"a":[1,null]}', "null"]),
    "DATE": st.dates(),
    "TIME": st.times(),
    "TIME_NS": st.times(),
    "TIMESTAMP_S": st.datetimes().map(lambda time: time.replace(microsecond=0)),
    "TIMESTAMP_MS": st.datetimes().map(lambda time: time.replace(microsecond=1000)),
    "TIMESTAMP": st.datetimes(),
    "TIMESTAMP_NS": st.datetimes(dt.datetime(1678, 1, 1), dt.datetime(2262, 1, 1)),
    "TIMESTAMP WITH TIME ZONE": st.datetimes(timezones=st.just(UTC)),
    "INTERVAL": st.builds(
        lambda *parts: pa.MonthDayNano(parts), st.integers(-99, 99), st.integers(-99, 99), st.just(7000)
    ),
}


def values_of(tree: Tree) -> st.SearchStrategy[Any]:
    """Return the values of a type, extreme ones often."""
    if not isinstance(tree, str):
        kind, detail, parts = tree
        within = [st.none() | values_of(part) for part in parts]
        if kind == "struct":
            return st.fixed_dictionaries(dict(zip(detail, within, strict=True)))
        if kind == "map":
            pairs = st.tuples(values_of(parts[0]), within[1])
            return st.lists(pairs, max_size=2, unique_by=lambda pair: pair[0])
        sizes = {"min_size": detail, "max_size": detail} if kind == "array" else {"max_size": 3}
        return st.lists(within[0], **sizes)
    if tree in LEAF_VALUES:
        return LEAF_VALUES[tree]
    low, high = (Decimal(edge) for edge in EXTREMES[tree])
    if tree.startswith("DECIMAL"):
        scale = -int(high.as_tuple().exponent)
        edges = [int(edge.scaleb(scale, CONTEXT)) for edge in (low, high)]
        return (st.integers(*edges) | st.sampled_from(edges)).map(
            lambda units: Decimal(units).scaleb(-scale, CONTEXT)
        )
    return st.integers(int(low), int(high)) | st.sampled_from([int(low), int(high)])


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Schema], pa.RecordBatch]:
    """Return the schemas that a log had, one after another, and a batch of the first."""
    columns = [
        (name, draw(TREES), draw(st.booleans()))
        for name in draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    ]
    schemas = [schema_from(columns)]
    rows = draw(st.integers(0, 4))
    values = []
    for _, tree, is_nullable in columns:
        value = st.none() | values_of(tree) if is_nullable else values_of(tree)
        values.append(draw(st.lists(value, min_size=rows, max_size=rows)))
    for step in range(draw(st.integers(1, 3))):
        columns = [(name, draw(widened(tree)), is_nullable) for name, tree, is_nullable in columns]
        for number in range(draw(st.integers(0, 2))):
            columns.insert(draw(st.integers(0, len(columns))), (f"추가_{step}_{number}", draw(TREES), True))
        schemas.append(schema_from(columns))
    return schemas, batch_of(schemas[0], *values)


def schema_from(columns: list[tuple[str, Tree, bool]]) -> Schema:
    return Schema(
        tuple(Column(name, duckdb_type(spelled_of(tree)), nullable) for name, tree, nullable in columns)
    )


def cast(values: pa.Array, *types: str) -> list[str]:
    """Return what DuckDB makes of a column that it casts to one type after another, each value shown."""
    expression = "::".join(["x", *types])
    relation = DATABASE.from_arrow(pa.table({"x": values})).select(duckdb.SQLExpression(f"{expression} AS x"))
    return shown(relation.to_arrow_table().column("x"))


def shown(values: Any) -> list[str]:
    return [repr(value) for value in values.to_pylist()]


@settings(deadline=None, max_examples=EXAMPLES)
@given(histories(), st.integers(0, 4), st.integers(0, 4))
def test_adapted_values_are_those_that_duckdb_casts_to_and_back(
    history: tuple[list[Schema], pa.RecordBatch], start: int, count: int
) -> None:
    schemas, batch = history
    old, new = schemas[0], schemas[-1]
    for before, after in itertools.combinations(schemas, 2):
        check_evolution(before, after, where="log 'x'")
        if before != after:
            with pytest.raises(DefinitionError):
                check_evolution(after, before, where="log 'x'")
    result = adapt(batch, new)
    result.validate(full=True)
    assert result.schema.equals(new.to_arrow(), check_metadata=True)
    assert result.num_rows == batch.num_rows
    for column in new.columns:
        values, was = result.column(column.name), old.column(column.name)
        if was is None:
            assert values.null_count == batch.num_rows
            continue
        assert shown(values) == cast(batch.column(was.name), was.type, column.type)
        assert cast(values, column.type, was.type) == shown(batch.column(was.name))
    stepwise = batch
    for schema in schemas:
        stepwise = adapt(stepwise, schema)
    part = adapt(batch.slice(start, count), new)
    part.validate(full=True)
    for column in new.columns:
        assert shown(stepwise.column(column.name)) == shown(result.column(column.name))
        assert shown(part.column(column.name)) == shown(result.column(column.name))[start : start + count]
