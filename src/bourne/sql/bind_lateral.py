"""Table functions that make rows of values, alone (`FROM range(3)`) or of each row before them (`FROM a, unnest(l)`).

DuckDB binds the second as a correlated subquery: the function over the distinct values D of the columns that it
reads, joined back. Where a value may be a list, it numbers the outer rows to tell them apart.

Law 1: that number may be replaced by the columns that the subquery reads, packed into one value: rows that are alike
in them get the same rows from it, each its own.

Law 2: an inner join of L with what projections, filters and unnests make of D, on all of D's columns, is L with the
same done to its own rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bourne.sql.binding import GENERATED, Binding
from bourne.sql.bound_values import Json, literal_text, spelled, type_text
from bourne.sql.plan import (
    Aggregate,
    Call,
    Cast,
    Expr,
    Filter,
    Join,
    Literal,
    Plan,
    Project,
    Ref,
    Temporal,
    Unnest,
    Values,
)
from bourne.sql.rules.tree import columns, project, replace_refs

_FUNCTIONS = frozenset({"range", "generate_series", "unnest"})


# --- the functions ---


def bind_table_function(binding: Binding, node: Json, child: Plan | None) -> Plan:
    """Read a table function; `child` has its arguments, and then columns to hand on, if they come from other rows."""
    name = node["qname"]["path"][-1]
    is_numbered = node.get("ordinality_idx") == 1
    if name not in _FUNCTIONS or node["named_parameters"] or len(node["returned_types"]) != 1 + is_numbered:
        raise binding.refuse(f"the table function {name}", name)
    if child is None:
        child = Values(((),), ())
        arguments = [_constant(binding, value) for value in node["parameters"]]
    else:
        arguments = list(columns(child)[: len(node["input_table_types"])])
    kinds = tuple(type_text(kind) for kind in node["returned_types"])
    values = _list(node, name, arguments, kinds[0])
    rows = Unnest(child, (values, _places(values))[: len(kinds)], kinds)
    made = columns(rows)[len(child.types) :]
    # DuckDB asks for the row number where it needs rows but no column: any will do.
    indexes = [entry.get("index", 0) for entry in node["column_indexes"]]
    own = [made[index if index < len(made) else 0] for index in indexes]
    return project(rows, (*own, *(Ref(index, child.types[index]) for index in node["projected_input"])))


def _list(node: Json, name: str, arguments: list[Expr], kind: str) -> Expr:
    if name == "unnest":
        return arguments[0]
    wanted = [type_text(argument) for argument in node["arguments"]]
    fitting = tuple(
        value if value.type == target else Cast(value, target, False, None)
        for value, target in zip(arguments, wanted, strict=True)
    )
    return Call(name, fitting, ("",) * len(fitting), f"{kind}[]", None)


def _places(values: Expr) -> Expr:
    """Return the list of 1, 2, … for each element: WITH ORDINALITY."""
    count = Call("len", (values,), ("",), "BIGINT", None)
    first = Literal("(1)::BIGINT", "BIGINT")
    return Call("generate_series", (first, count), ("", ""), "BIGINT[]", None)


def _constant(binding: Binding, value: Json) -> Expr:
    kind = type_text(value["type"])
    if value["is_null"]:
        return Literal(f"NULL::{kind}", kind)
    text = literal_text(kind, value["type"], value.get("value"))
    if text is None:
        raise binding.refuse(f"a constant of type {kind}", "FROM")
    return Literal(text, kind)


def with_positions(binding: Binding, expression: Json, below: Json) -> Json:
    """Return a bound expression whose columns are named by table as one whose columns are positions in `below`."""
    places = {place: index for index, place in enumerate(_outputs(binding, below))}

    def placed(part: Any) -> Any:
        if isinstance(part, list):
            return [placed(item) for item in part]
        if not isinstance(part, dict):
            return part
        if part.get("expression_class") == "BOUND_COLUMN_REF":
            found = part["binding"]
            index = places.get((found.get("table_index", 0), found.get("column_index", 0)))
            if index is None:
                raise binding.refuse("a table function of these columns", "LATERAL", "UNNEST", "FROM",
                                     span=binding.span(part))  # fmt: skip
            kept = {key: value for key, value in part.items() if key != "binding"}
            return {**kept, "expression_class": "BOUND_REF", "type": "BOUND_REF", "index": index}
        return {key: placed(value) for key, value in part.items()}

    result: Json = placed(expression)
    return result


def _outputs(binding: Binding, node: Json) -> list[tuple[int, int]]:
    """Return the table and column number of each output column."""
    table = node.get("table_index", 0)
    match node["type"]:
        case "LOGICAL_CTE_REF":
            count = len(node["chunk_types"])
        case "LOGICAL_PROJECTION":
            count = len(node["expressions"])
        case "LOGICAL_DUMMY_SCAN":
            count = 0
        case _:
            raise binding.refuse("a table function of these columns", "LATERAL", "UNNEST", "FROM")
    return [(table, column) for column in range(count)]


# --- what tells the outer rows apart ---


def is_numbering(node: Json) -> bool:
    """Say whether an operator gives each row a number of no order, to tell it from the others."""
    if node["type"] != "LOGICAL_WINDOW" or len(node["expressions"]) != 1:
        return False
    function = node["expressions"][0]
    return function.get("alias") == GENERATED and not function["partitions"] and not function["orders"]


def numbered_below(definition: Json, body: Json, table: int) -> tuple[Json, list[int]] | None:
    """Return the numbering in the definition of a table, if there is one, and what of its rows the body asks for.

    The columns are those of the numbering; the body reads the definition's as those of `table`.
    """
    asked = _distinct_columns(body, table)
    node = definition
    while node["type"] in ("LOGICAL_PROJECTION", "LOGICAL_FILTER"):
        if node["type"] == "LOGICAL_PROJECTION":
            asked = [node["expressions"][index].get("index", 0) for index in asked]
        elif "projection_map" in node:
            asked = [node["projection_map"][index] for index in asked]
        (node,) = node["children"]
    return (node, asked) if is_numbering(node) else None


def with_identity(child: Plan, asked: Sequence[int]) -> Project:
    """Return the rows with their identity, made of the columns asked for, as the last column."""
    width = len(child.types)
    parts = [Ref(i, child.types[i]) for i in dict.fromkeys(asked) if i < width]
    parts = parts or [Ref(i, kind) for i, kind in enumerate(child.types)]
    if len(parts) == 1:
        identity: Expr = parts[0]
    else:
        names = tuple(f"v{i}" for i in range(len(parts)))
        fields = ", ".join(f"{n} {part.type}" for n, part in zip(names, parts, strict=True))
        identity = Call("struct_pack", tuple(parts), names, spelled(f"STRUCT({fields})"), None)
    return Project(child, (*columns(child), identity))


def _distinct_columns(body: Json, table: int) -> list[int]:
    """Return which columns of a table the first distinct values of it have that the body asks for."""
    inner = body.get("children", [])
    if (
        inner
        and inner[0]["type"] == "LOGICAL_CTE_REF"
        and inner[0].get("cte_index", 0) == table
        and "groups" in body
    ):
        return [group.get("index", 0) for group in body.get("groups", [])]
    return next((found for child in inner if (found := _distinct_columns(child, table))), [])


# --- the join back ---


@dataclass(frozen=True, slots=True)
class _Carried:
    """A plan over L instead of over D: where D's plan's columns are in it, and L's."""

    plan: Plan
    places: tuple[int, ...]
    lefts: tuple[int, ...]


def undo_lateral(join: Plan) -> Plan:
    """Return an inner join with what was made of its own left rows as the same made of those rows, by law 2."""
    if not isinstance(join, Join) or join.kind != "inner" or join.residual is not None:
        return join
    carried = _carry(join.right, join.left)
    if carried is None or not all(
        key.is_null_safe and _is_itself(key.left, key.right, carried) for key in join.keys
    ):
        return join
    if not _sources(join.right, [key.right for key in join.keys]):
        return join
    picked = (*carried.lefts, *carried.places)
    return Project(carried.plan, tuple(Ref(index, carried.plan.types[index]) for index in picked))


def _is_itself(left: Expr, right: Expr, carried: _Carried) -> bool:
    """Say whether a column of what was made of a row is that row's own column."""
    if not (isinstance(left, Ref) and isinstance(right, Ref)):
        return False
    node, index = _origin(carried.plan, carried.places[right.index])
    own, own_index = _origin(carried.plan, carried.lefts[left.index])
    return node is own and index == own_index


def determined(plan: Plan, known: Sequence[Expr]) -> frozenset[int]:
    """Return the columns that are the same wherever these expressions over the plan are.

    If all distinct values of D are known, or the identity among them, then all of D's columns are.
    """
    sources = _sources(plan, known)
    own = {part.index for part in known if isinstance(part, Ref)}
    found = {i for i in range(len(plan.types)) if any(_origin(plan, i)[0] is node for node in sources)}
    return frozenset(own | found)


def _sources(plan: Plan, known: Sequence[Expr]) -> list[Plan]:
    """Return each D below the plan of which these expressions say which of its rows it is."""
    origins = [_origin(plan, part.index) for part in known if isinstance(part, Ref)]
    return [
        node
        for node, _ in origins
        if isinstance(node, Aggregate)
        and not node.aggregations
        and _is_all(node, {node.groups[i] for other, i in origins if other is node})
    ]


def _origin(plan: Plan, index: int) -> tuple[Plan, int]:
    """Return the node in which a column is made, and its position there."""
    while True:
        match plan:
            case Project(child=child, expressions=expressions):
                part = expressions[index]
                if not isinstance(part, Ref):
                    return plan, index
                plan, index = child, part.index
            case Filter(child=child) | Temporal(child=child):
                plan = child
            case Unnest(child=child) if index < len(child.types):
                plan = child
            case Join(kind="inner" | "left", left=left) if index < len(left.types):
                plan = left
            case Join(kind="inner", left=left, right=right):
                plan, index = right, index - len(left.types)
            case _:
                return plan, index


def _is_all(distinct: Aggregate, known: set[Expr]) -> bool:
    """Say whether these of D's columns are all of them, or have the identity of the outer rows."""

    def made(part: Expr) -> tuple[int, int] | None:
        """Return where a value is made; None for an identity."""
        if not isinstance(part, Ref):
            return None
        node, index = _origin(distinct.child, part.index)
        is_identity = isinstance(node, Project) and _is_packed(node.expressions[index])
        return None if is_identity else (id(node), index)

    values, wanted = {made(part) for part in known}, {made(part) for part in distinct.groups}
    return wanted <= values or (None in values and None in wanted)


def _is_packed(expression: Expr) -> bool:
    """Say whether this is an identity of several columns; what a user packs stands somewhere in the text."""
    return isinstance(expression, Call) and expression.function == "struct_pack" and expression.span is None


def _carry(plan: Plan, left: Plan) -> _Carried | None:
    """Return the plan over `left` instead of over its distinct values, with the left's columns kept."""
    if isinstance(plan, Aggregate):
        if plan.child is not left or plan.aggregations:
            return None
        places = tuple(group.index for group in plan.groups if isinstance(group, Ref))
        return (
            _Carried(left, places, tuple(range(len(left.types)))) if len(places) == len(plan.groups) else None
        )
    if not isinstance(plan, Project | Filter | Unnest):
        return None
    below = _carry(plan.child, left)
    if below is None:
        return None

    def moved(ref: Ref) -> Expr:
        return Ref(below.places[ref.index], ref.type)

    types = below.plan.types
    match plan:
        case Project(expressions=expressions):
            kept = tuple(Ref(index, types[index]) for index in below.lefts)
            made = replace_refs(expressions, moved)
            lefts = tuple(range(len(made), len(made) + len(kept)))
            return _Carried(Project(below.plan, (*made, *kept)), tuple(range(len(made))), lefts)
        case Filter(predicates=predicates):
            return _Carried(Filter(below.plan, replace_refs(predicates, moved)), below.places, below.lefts)
        case Unnest(lists=lists, list_types=list_types):
            made_at = range(len(types), len(types) + len(lists))
            unnested = Unnest(below.plan, replace_refs(lists, moved), list_types)
            return _Carried(unnested, (*below.places, *made_at), below.lefts)
