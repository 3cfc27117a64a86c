"""Bound expressions of DuckDB's plan, read into ours.

Law: what is read and rendered again is the same expression; `round_trip` checks it. Whatever is unknown is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bourne.limits import SQL_DEPTH_MAX
from bourne.sql.binding import Binding
from bourne.sql.bound_values import WHOLE_NUMBERS, Json, UnknownType, literal_text, type_of, type_text
from bourne.sql.plan import Call, Case, Cast, Expr, Lambda, Literal, Logic, Order, Parameter, Ref, Test, walk
from bourne.sql.unstable import ARRIVAL, hidden, is_mark, is_unstable

_TESTS = {
    "OPERATOR_NOT": "NOT",
    "OPERATOR_IS_NULL": "IS NULL",
    "OPERATOR_IS_NOT_NULL": "IS NOT NULL",
    "COMPARE_IN": "IN",
    "COMPARE_NOT_IN": "NOT IN",
    "OPERATOR_COALESCE": "COALESCE",
    "OPERATOR_TRY": "TRY",
}


def read_expression(binding: Binding, node: Json, types: Sequence[str]) -> Expr:
    """Read a bound expression over columns of these types; functions that are not stable are refused."""
    try:
        expression = read_any(binding, node, types)
    except UnknownType as error:
        span = binding.span(node)
        raise binding.refuse(f"type {error}", span=span, hint="CAST it to another type") from error
    check_calls(binding, expression)
    return expression


def read_order(binding: Binding, node: Json, types: Sequence[str]) -> Order:
    """Read one key of an ORDER BY."""
    return Order(
        read_expression(binding, node["expression"], types),
        is_descending=node["type"] == "DESCENDING",
        is_nulls_first=node["null_order"] == "NULLS FIRST",
    )


def read_any(binding: Binding, node: Json, types: Sequence[str]) -> Expr:
    """Read a bound expression, stable or not.

    Raises:
        UnknownType: it has a type that we do not read.
    """
    return _read(binding, node, [Ref(index, kind) for index, kind in enumerate(types)])


def _read(binding: Binding, node: Json, known: Sequence[Expr], depth: int = 0) -> Expr:
    """Read an expression whose references are positions in `known`."""
    if depth > SQL_DEPTH_MAX:
        raise binding.refuse("an expression nested this deep", "SELECT", hint="split it into several views")

    def below(nodes: Sequence[Json]) -> tuple[Expr, ...]:
        return tuple(_read(binding, child, known, depth + 1) for child in nodes)

    children = node.get("children", [])
    match node["expression_class"]:
        case "BOUND_REF":
            return known[node.get("index", 0)]
        case "BOUND_CONSTANT":
            return _literal(binding, node)
        case "BOUND_CONJUNCTION":
            return Logic("AND" if node["type"] == "CONJUNCTION_AND" else "OR", below(children))
        case "BOUND_CASE":
            branches = tuple(below([check["when_expr"], check["then_expr"]]) for check in node["case_checks"])
            (otherwise,) = below([node["else_expr"]])
            pairs = tuple((when, then) for when, then in branches)
            return Case(pairs, otherwise, type_text(node["return_type"]))
        case "BOUND_OPERATOR" if node["type"] in _TESTS:
            return Test(_TESTS[node["type"]], below(children), type_of(node))
        case "BOUND_FUNCTION" if _is_normalizing(node):
            return below(children)[0]
        case "BOUND_FUNCTION" if node["type"] == "OPERATOR_CAST":
            (argument,) = below(children)
            is_try = node["function_data"]["try_cast"]
            return Cast(argument, type_text(node["return_type"]), is_try, binding.span(node))
        case "BOUND_FUNCTION" if "lambda_expr" in node.get("function_data", {}):
            return _call(binding, node, _lambda_arguments(binding, node, known, depth))
        case "BOUND_FUNCTION":
            return _call(binding, node, below(children))
    raise binding.refuse("this expression", "SELECT", span=binding.span(node))


def _call(binding: Binding, node: Json, arguments: tuple[Expr, ...]) -> Expr:
    function, names = node["qname"]["path"][-1], node.get("named_arguments", [])
    arguments = _without_widening(function, arguments, type_of(node))
    padded = ("",) * (len(arguments) - len(names)) + tuple(names)
    call = Call(function, arguments, padded, type_of(node), binding.span(node))
    # DuckDB gives a failure the type of its place, but can read it back only as a NULL's.
    return Cast(replace(call, type='"NULL"'), call.type, False, None) if _is_failure(call) else call


def _lambda_arguments(binding: Binding, node: Json, known: Sequence[Expr], depth: int) -> tuple[Expr, ...]:
    """Read the arguments of a function that takes a lambda.

    The last of them are the values that the lambda's body takes from outside. The body refers to its parameters,
    the last first, and then to those values.
    """
    children = node["children"]
    places = [index for index, child in enumerate(children) if child["expression_class"] == "BOUND_LAMBDA"]
    if len(places) != 1:
        raise binding.refuse("a lambda of its own", "lambda", span=binding.span(node))
    (place,) = places
    count = place + 1 + bool(node["function_data"].get("has_initial"))
    values = [
        None if index == place else _read(binding, child, known, depth + 1)
        for index, child in enumerate(children)
    ]
    made = children[place]
    names = made.get("parameter_names", [])
    taken = [int(value.name[1:]) for value in known if isinstance(value, Parameter)]
    first = max(taken, default=-1) + 1
    body = made["lambda_expr"]
    kinds = _parameter_types(body, len(names))
    parameters = [
        Parameter(f"p{first + index}", kinds.get(len(names) - 1 - index, '"NULL"'))
        for index in range(len(names))
    ]
    outside = [value for value in values[count:] if value is not None]
    read = Lambda(tuple(parameters), _read(binding, body, [*reversed(parameters), *outside], depth + 1))
    return tuple(read if value is None else value for value in values[:count])


def _parameter_types(body: Any, count: int) -> dict[int, str]:
    """Return the types of a lambda's parameters that its body reads, by their number there."""
    found: dict[int, str] = {}
    if isinstance(body, dict):
        index = body.get("index", 0)
        if body.get("expression_class") == "BOUND_REF" and index < count:
            found[index] = type_text(body["return_type"])
        for key, part in body.items():
            if key not in ("function_data", "lambda_expr"):
                found |= _parameter_types(part, count)
    elif isinstance(body, list):
        for part in body:
            found |= _parameter_types(part, count)
    return found


def _literal(binding: Binding, node: Json) -> Literal:
    value = node["value"]
    kind = type_text(value["type"])
    if value["is_null"]:
        return Literal("NULL" if kind == '"NULL"' else f"NULL::{kind}", kind)
    text = literal_text(kind, value["type"], value.get("value"))
    if text is None:
        raise binding.refuse(f"a constant of type {kind}", "SELECT", span=binding.span(node))
    return Literal(text, kind)


def check_calls(binding: Binding, expression: Expr) -> None:
    """Refuse functions whose answer depends on more than their arguments."""
    for part in walk(expression):
        if isinstance(part, Cast) and (name := hidden(part)) not in (None, ARRIVAL):
            assert name is not None
            raise binding.refuse_unstable(name, part.span)
        is_kept = isinstance(part, Call) and (_is_failure(part) or is_mark(part, ARRIVAL))
        if isinstance(part, Call) and not is_kept and is_unstable(part):
            raise binding.refuse_unstable(part.function, part.span)


def _is_failure(call: Call) -> bool:
    """Say whether this is how DuckDB fails where a scalar subquery has more than one row; no one wrote it."""
    return call.function == "error" and call.span is None


_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")


def _is_normalizing(node: Json) -> bool:
    """Find what DuckDB puts around intervals before it compares or sorts them: binding again puts it there again."""
    is_added = "query_location" not in node  # nobody wrote it
    return is_added and node["qname"]["path"][-1] == "normalized_interval"


def _without_widening(function: str, arguments: tuple[Expr, ...], result: str) -> tuple[Expr, ...]:
    """Drop the casts that DuckDB adds to decimals before it adds or multiplies: binding again adds them again."""
    if len(arguments) != 2 or function not in ("+", "-", "*") or not (wide := _DECIMAL.fullmatch(result)):
        return arguments

    def plain(argument: Expr) -> Expr:
        if not isinstance(argument, Cast) or argument.is_try or not (to := _DECIMAL.fullmatch(argument.type)):
            return argument
        source = _DECIMAL.fullmatch(argument.argument.type)
        if source is None and argument.argument.type not in WHOLE_NUMBERS:
            return argument
        scale, scale_before = int(to[2]), int(source[2]) if source else 0
        is_added = scale == scale_before and to[1] == wide[1] if function == "*" else argument.type == result
        return argument.argument if is_added and scale >= scale_before else argument

    first, second = arguments
    return plain(first), plain(second)
