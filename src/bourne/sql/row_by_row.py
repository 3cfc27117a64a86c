"""Whether a query treats each row of one relation by itself: then how the rows are cut into chunks does not show.

Law: accepted is only what is linear in that relation, all others held fast: q(a + b) = q(a) + q(b). So filters, projections,
unnesting, UNION ALL, and joins with other relations in which a row of this one finds its partners whatever else is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import duckdb

from bourne.errors import SqlError
from bourne.schema import Schema
from bourne.sql.binding import Binding
from bourne.sql.bound_values import Json
from bourne.sql.windows import rewrite_windows

# Operators that treat each row of their child by itself.
_PLAIN: Final = frozenset({"LOGICAL_PROJECTION", "LOGICAL_FILTER", "LOGICAL_UNNEST", "LOGICAL_GET"})

_JOINS: Final = frozenset(
    {"LOGICAL_COMPARISON_JOIN", "LOGICAL_ANY_JOIN", "LOGICAL_CROSS_PRODUCT", "LOGICAL_ASOF_JOIN"}
)

# Joins in which a row of the first side takes only the best of the second.
_BEST: Final = "LOGICAL_ASOF_JOIN"

# Which side of a join may be the relation: of INNER either, of RIGHT the second.
_SIDES: Final[Mapping[str, tuple[int, ...]]] = {
    "INNER": (0, 1), "LEFT": (0,), "RIGHT": (1,), "SEMI": (0,), "ANTI": (0,), "MARK": (0,), "SINGLE": (0,),
}  # fmt: skip

_WORDS: Final[Mapping[str, str]] = {
    "LOGICAL_AGGREGATE_AND_GROUP_BY": "an aggregate", "LOGICAL_WINDOW": "a window function", "LOGICAL_DISTINCT": "DISTINCT",
    "LOGICAL_LIMIT": "LIMIT", "LOGICAL_ORDER_BY": "ORDER BY", "LOGICAL_TOP_N": "ORDER BY with LIMIT",
    "LOGICAL_EXCEPT": "EXCEPT", "LOGICAL_INTERSECT": "INTERSECT", "LOGICAL_UNION": "UNION", "LOGICAL_SAMPLE": "SAMPLE",
}  # fmt: skip


def check_row_by_row(
    sql: str, connection: duckdb.DuckDBPyConnection, relations: Mapping[str, Schema], *, relation: str
) -> None:
    """Refuse a query that looks at more than one row of a relation at a time. The connection has all relations.

    Raises:
        SqlError: it does, or it is wrong; names the construct.
    """
    text = rewrite_windows(sql, relations, is_view=False)
    plan = Binding(connection, text, relations).plan_json(text.sql)
    construct = _Reading(relation).construct(plan)
    if construct is not None:
        raise SqlError(
            f"{construct} looks at several rows of {relation!r} at once: how they are cut into chunks would show",
            sql=sql, hint="treat each row by itself here; compute it in a view, or in the target",
        )  # fmt: skip
    if not _Reading(relation).reads(plan):
        raise SqlError(f"the query does not read {relation!r}", sql=sql, hint=f"SELECT … FROM {relation}")


class _Reading:
    """Reads one plan. `_common` are the common table expressions that depend on the relation."""

    def __init__(self, relation: str) -> None:
        self._relation = relation.casefold()
        self._common: set[int] = set()

    def reads(self, node: Json) -> bool:
        """Say whether a part of the plan depends on the relation."""
        if node["type"] == "LOGICAL_MATERIALIZED_CTE" and self.reads(node["children"][0]):
            self._common.add(node.get("table_index", 0))
        if node["type"] == "LOGICAL_CTE_REF" and node.get("cte_index", 0) in self._common:
            return True
        table = node.get("function_data", {}).get("table", "") if node["type"] == "LOGICAL_GET" else ""
        return table.casefold() == self._relation or any(map(self.reads, node.get("children", ())))

    def construct(self, node: Json) -> str | None:
        """Return what in a part of the plan is not linear in the relation, None if nothing is."""
        kind, children = node["type"], node.get("children", [])
        if not self.reads(node):
            return None
        if kind == "LOGICAL_CTE_REF":
            return None
        if kind == "LOGICAL_MATERIALIZED_CTE" or kind in _PLAIN:
            return next((found for child in children if (found := self.construct(child)) is not None), None)
        if kind == "LOGICAL_UNION":  # a plain UNION has a DISTINCT around it
            if not all(map(self.reads, children)):
                return "UNION ALL with rows of something else"
            return next((found for child in children if (found := self.construct(child)) is not None), None)
        if kind in _JOINS:
            return self._of_join(node, kind, children)
        word: str = kind.removeprefix("LOGICAL_").replace("_", " ").lower()
        return _WORDS.get(kind, word)

    def _of_join(self, node: Json, kind: str, children: list[Json]) -> str | None:
        sides = [number for number, child in enumerate(children) if self.reads(child)]
        join = "INNER" if kind == "LOGICAL_CROSS_PRODUCT" else node.get("join_type", "INNER")
        if len(sides) > 1:
            return f"a join with {self._relation!r} itself"
        if kind == _BEST and sides != [0]:
            return f"an ASOF join that takes the best row of {self._relation!r}"
        if sides[0] not in _SIDES.get(join, ()):
            return f"a {join} join that keeps rows without a partner in {self._relation!r}"
        return self.construct(children[sides[0]])
