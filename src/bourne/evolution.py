"""Logs that are declared anew: which schema may follow which, and old records in a new schema's columns.

Law: a schema may follow another only if every record of the old one is, value by value, a record of the new one.
Added columns may be NULL, and a widened type has every value of the old type, exactly. So it does not matter under
which of its log's schemas a record was written: `adapt` gives it the columns that the reader knows.

Widening is an order (reflexive, transitive, and no two types widen to each other): several steps are as good as one.
Nothing here renames, fills in defaults, or changes what is stored.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa

from bourne.duck import cursor
from bourne.errors import DefinitionError
from bourne.schema import Column, Schema, arrow_type, is_storable


def check_evolution(old: Schema, new: Schema, *, where: str) -> None:
    """Refuse to declare a log of schema `old` anew as `new`, unless columns are only widened and added.

    Added columns may be NULL and may stand anywhere; the old ones keep their order. Names are compared as SQL
    does, ignoring case. Equal schemas are fine.

    Raises:
        DefinitionError: it lists every problem, a line each.
    """
    problems = [*_column_problems(old, new), *_order_problems(old, new)] if old != new else []
    if problems:
        raise DefinitionError(
            "\n    ".join(
                ["the log holds records of another schema, and cannot be declared anew like this:", *problems]
            ),
            where=where,
            expected=f"{_shown(old)}; types may widen, and columns that may be NULL may be added",
            found=_shown(new),
            hint="take those changes back, or declare a new log and append the old one's records to it",
        )


@functools.lru_cache(maxsize=4096)
def is_widening(old_type: str, new_type: str) -> bool:
    """Say whether every value of a storable type is the same value in the other one; a type widens to itself.

    Numbers are the same if they are equal; nothing becomes a text, and no text becomes anything. Nested types
    widen with their parts, and keep their shape: a list's elements, an array's of the same length, a map's keys and
    values, a struct's fields under the same names in the same order.

    Coarser timestamps do not widen: seconds and milliseconds reach further than microseconds do.
    """
    return old_type == new_type or _widens(_parse(old_type), _parse(new_type))


def adapt(batch: pa.RecordBatch, target: Schema) -> pa.RecordBatch:
    """Return a batch of any of a log's schemas (as `Schema.to_arrow` writes it) in the columns of another one.

    A column that the batch lacks becomes NULL; one that the target does not know is left out; a widened one is
    cast. The others share the batch's memory: O(columns). A batch of the target's schema is returned as it is.

    Raises:
        DefinitionError: a column would have to be narrowed, or lacks values: the log is no longer what the target says.
    """
    fields = target.to_arrow()
    if batch.schema.equals(fields, check_metadata=True):
        return batch
    source = Schema.from_arrow(batch.schema)
    index_of = {column.name.casefold(): index for index, column in enumerate(source.columns)}
    arrays = []
    for column in target.columns:
        index = index_of.get(column.name.casefold())
        if index is not None:
            arrays.append(_adapt_column(batch.column(index), source.columns[index], column))
        elif column.nullable:
            arrays.append(pa.nulls(batch.num_rows, arrow_type(column.type)))
        else:
            raise _declared_anew(column, "missing in its records")
    return pa.RecordBatch.from_arrays(arrays, schema=fields)


def _adapt_column(values: pa.Array, old: Column, new: Column) -> pa.Array:
    if not is_widening(old.type, new.type):
        raise _declared_anew(new, old.type)
    if old.nullable and not new.nullable and values.null_count:
        raise _declared_anew(new, "NULL in its records")
    arrow = arrow_type(new.type)
    if values.type == arrow:
        return values
    try:
        return values.cast(arrow)
    except pa.ArrowException as error:  # e.g. a decimal with more digits than its type has
        raise DefinitionError(
            f"column {new.name!r} holds a value that is none of its type, {old.type}",
            expected=new.type,
            found=str(error).splitlines()[0],
            hint=f"declare the column as {old.type} again",
        ) from error


def _declared_anew(column: Column, found: str) -> DefinitionError:
    return DefinitionError(
        f"the log was declared anew meanwhile: column {column.name!r} is not what this program declares",
        expected=_shown_column(column),
        found=found,
        hint="start the program again with the log's new declaration",
    )


# --- problems ------------------------------------------------------------------------------------------


def _column_problems(old: Schema, new: Schema) -> Iterator[str]:
    """Yield what is wrong with single columns: the old ones in their order, then the added ones."""
    before = {column.name.casefold(): column for column in old.columns}
    after = {column.name.casefold(): column for column in new.columns}
    for name, was in before.items():
        column = after.get(name)
        if column is None:
            yield f"column {was.name!r} is gone: columns cannot be dropped or renamed"
            continue
        if not is_widening(was.type, column.type):
            yield f"column {was.name!r}: {was.type} cannot become {column.type}; {_widenings(was.type)}"
        if was.nullable and not column.nullable:
            yield f"column {was.name!r} cannot become NOT NULL: older records may have a NULL there"
        elif column.nullable and not was.nullable:
            yield f"column {was.name!r} cannot become nullable: it is declared NOT NULL, and readers rely on it"
    for name, column in after.items():
        if name not in before and not column.nullable:
            yield f"column {column.name!r} is new and cannot be NOT NULL: older records have no value for it"


def _order_problems(old: Schema, new: Schema) -> Iterator[str]:
    known = {name.casefold() for name in old.names} & {name.casefold() for name in new.names}
    before, after = ([name for name in each.names if name.casefold() in known] for each in (old, new))
    if list(map(str.casefold, before)) != list(map(str.casefold, after)):
        yield f"the old columns cannot change their order from {', '.join(before)} to {', '.join(after)}"


def _shown(schema: Schema) -> str:
    return ", ".join(map(_shown_column, schema.columns))


def _shown_column(column: Column) -> str:
    return f"{column.name} {column.type}{'' if column.nullable else ' NOT NULL'}"


# --- types ---------------------------------------------------------------------------------------------

# Exact numbers are the multiples of 10 ** -scale from low * 10 ** -scale to high * 10 ** -scale.
_Range = tuple[int, int, int]

_INTEGERS: Final[dict[str, _Range]] = {
    "TINYINT": (-(2**7), 2**7 - 1, 0),
    "UTINYINT": (0, 2**8 - 1, 0),
    "SMALLINT": (-(2**15), 2**15 - 1, 0),
    "USMALLINT": (0, 2**16 - 1, 0),
    "INTEGER": (-(2**31), 2**31 - 1, 0),
    "UINTEGER": (0, 2**32 - 1, 0),
    "BIGINT": (-(2**63), 2**63 - 1, 0),
    "UBIGINT": (0, 2**64 - 1, 0),
    "HUGEINT": (-(2**127), 2**127 - 1, 0),
}

# Up to here (inclusive), a binary floating-point type has every integer.
_WHOLE_MAX: Final = {"FLOAT": 2**24, "DOUBLE": 2**53}

_OTHERS: Final = frozenset({("FLOAT", "DOUBLE"), ("TIME", "TIME_NS")})

_DIGITS_MAX: Final = 38


@functools.lru_cache(maxsize=4096)
def _parse(spelled: str) -> Any:
    """Return DuckDB's own type object: `id`, `children`, and its spelling as `str`."""
    return cursor().sqltype(spelled)


def _widens(old: Any, new: Any) -> bool:
    if str(old) == str(new) or (str(old), str(new)) in _OTHERS:
        return True
    parts, new_parts = _parts(old), _parts(new)
    if parts or new_parts:
        has_same_shape = old.id == new.id and list(map(_name, parts)) == list(map(_name, new_parts))
        return has_same_shape and all(
            _widens(part, new_part) for (_, part), (_, new_part) in zip(parts, new_parts, strict=True)
        )
    exact, new_exact = _range(old), _range(new)
    if exact is None:
        return False
    low, high, scale = exact
    if new_exact is None:
        return scale == 0 and max(-low, high) <= _WHOLE_MAX.get(str(new), 0)
    new_low, new_high, new_scale = new_exact
    shift = new_scale - scale
    return shift >= 0 and new_low <= low * 10**shift and high * 10**shift <= new_high


def _parts(kind: Any) -> list[tuple[str, Any]]:
    """Return the named types that a nested type is made of (an array's name has its length); none for others."""
    if kind.id not in ("list", "array", "struct", "map"):
        return []
    children = list(kind.children)
    return [(f"{children[1][1]} elements", children[0][1])] if kind.id == "array" else children


def _name(part: tuple[str, Any]) -> str:
    return part[0]


def _range(kind: Any) -> _Range | None:
    """Return the range of a type of exact numbers; None for any other."""
    if kind.id != "decimal":
        return _INTEGERS.get(str(kind))
    digits = dict(kind.children)
    high = 10 ** digits["precision"] - 1
    return -high, high, digits["scale"]


def _widenings(spelled: str) -> str:
    """Say in words what a type can become."""
    kind = _parse(spelled)
    is_nested = bool(_parts(kind))
    leaves = dict.fromkeys(_leaves(kind))
    told = [f"{leaf} can become {_leaf_widenings(leaf, is_nested=is_nested)}" for leaf in leaves]
    return ("only the types in it may widen: " if is_nested else "") + ", ".join(told)


def _leaves(kind: Any) -> Iterator[str]:
    parts = _parts(kind)
    if not parts:
        yield str(kind)
    for _, part in parts:
        yield from _leaves(part)


def _leaf_widenings(leaf: str, *, is_nested: bool) -> str:
    others = dict.fromkeys([*_INTEGERS, *_WHOLE_MAX, *(new for _, new in _OTHERS)])
    found = [other for other in others if other != leaf and is_widening(leaf, other)]
    found = [other for other in found if not is_nested or is_storable(f"{other}[]")]
    exact = _range(_parse(leaf))
    if exact is not None:
        low, high, scale = exact
        digits = len(str(max(-low, high))) - scale
        if digits + scale + (leaf not in _INTEGERS) <= _DIGITS_MAX:
            found.append(f"DECIMAL(p,s) with {f's >= {scale} and ' if scale else ''}p - s >= {digits}")
    return " or ".join(filter(None, [", ".join(found[:-1]), *found[-1:]])) or "nothing else"
