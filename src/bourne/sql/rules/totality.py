"""Which expressions cannot fail, whatever the row, and which are never true where a column is NULL.

Both answers err on the safe side: what is not known here may fail, and may be true of NULL.
"""

from __future__ import annotations

import re

from bourne.sql.plan import Call, Case, Cast, Expr, Literal, Logic, Ref, Test
from bourne.sql.rules.tree import refs

COMPARISONS = frozenset({"=", "!=", "<>", "<", "<=", ">", ">="})

_TOTAL = COMPARISONS | {
    "IS DISTINCT FROM", "IS NOT DISTINCT FROM", "~~", "!~~", "~~*", "!~~*", "||", "lower", "upper", "length", "strlen",
    "prefix", "suffix", "contains", "starts_with", "ends_with", "trim", "ltrim", "rtrim", "reverse", "md5", "hash",
    "struct_extract", "struct_extract_at", "isnan", "isinf", "isfinite", "year", "month", "day", "hour", "minute",
    "second", "quarter", "dayofweek", "isodow", "dayofyear", "least", "greatest",
}  # fmt: skip

_FLOATS = frozenset({"FLOAT", "DOUBLE"})
_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
_UNSIGNED = ("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT")
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")


def cannot_fail(expression: Expr) -> bool:
    """Say whether the expression has a value for every row. One without columns fails for all rows or for none."""
    if not refs(expression):
        return True
    match expression:
        case Ref() | Literal():
            return True
        case Cast(argument=argument, type=target, is_try=is_try):
            return (is_try or _is_widening(argument.type, target)) and cannot_fail(argument)
        case Case(branches=branches, otherwise=otherwise):
            return cannot_fail(otherwise) and all(cannot_fail(a) and cannot_fail(b) for a, b in branches)
        case Logic(arguments=arguments):
            return all(cannot_fail(argument) for argument in arguments)
        case Test(kind=kind, arguments=arguments):
            return kind == "TRY" or all(cannot_fail(argument) for argument in arguments)
        case Call(function=function, arguments=arguments):
            is_float = function in {"+", "-", "*"} and expression.type in _FLOATS
            return (function in _TOTAL or is_float) and all(cannot_fail(argument) for argument in arguments)
    return False


def _is_widening(source: str, target: str) -> bool:
    """Say whether every value of `source` is one of `target`."""
    if target in (source, "VARCHAR"):
        return True
    for ladder in (_INTEGERS, _UNSIGNED):
        if source in ladder and target in ladder:
            return ladder.index(source) <= ladder.index(target)
    if source in _UNSIGNED and target in _INTEGERS:
        return _UNSIGNED.index(source) < _INTEGERS.index(target)
    if source in (*_INTEGERS, *_UNSIGNED, "FLOAT") and target == "DOUBLE":
        return True
    before, after = _DECIMAL.fullmatch(source), _DECIMAL.fullmatch(target)
    if before and after:
        whole = int(before[1]) - int(before[2]), int(after[1]) - int(after[2])
        return int(before[2]) <= int(after[2]) and whole[0] <= whole[1]
    return bool(before) and target == "DOUBLE"


def is_null_of(expression: Expr, nulls: frozenset[int]) -> bool:
    """Say whether the expression is surely NULL where all the columns `nulls` are."""
    match expression:
        case Ref(index=index):
            return index in nulls
        case Literal(text=text):
            return text == "NULL" or text.startswith("NULL::")
        case Cast(argument=argument):
            return is_null_of(argument, nulls)
        case Call(function=function, arguments=arguments):
            is_strict = function in COMPARISONS | {"+", "-", "*", "/"}
            return is_strict and any(is_null_of(argument, nulls) for argument in arguments)
        case Test(kind="NOT", arguments=arguments):
            return is_null_of(arguments[0], nulls)
        case Logic(arguments=arguments):
            return all(is_null_of(argument, nulls) for argument in arguments)
    return False


def rejects_nulls(predicate: Expr, nulls: frozenset[int]) -> bool:
    """Say whether the predicate is surely not true where all the columns `nulls` are NULL."""
    match predicate:
        case Test(kind="IS NOT NULL", arguments=arguments):
            return is_null_of(arguments[0], nulls)
        case Logic(word="AND", arguments=arguments):
            return any(rejects_nulls(argument, nulls) for argument in arguments)
        case Logic(word="OR", arguments=arguments):
            return all(rejects_nulls(argument, nulls) for argument in arguments)
    return is_null_of(predicate, nulls)
