"""One query while it is bound: DuckDB with the relations' empty tables, and the user's text for spans and refusals.

Companion of `bind`. It asks for plans, and says where and why something is refused; it reads nothing into our plan.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

import duckdb

from bourne.errors import NotMaintainable, Span, SqlError
from bourne.schema import Schema
from bourne.sql.bound_values import Json
from bourne.sql.plan import Expr
from bourne.sql.text import Rewritten, find_word
from bourne.sql.unstable import CLOCKS, named_in, past_hiding

# How DuckDB calls a row number that no one wrote: of a LIMIT in a correlated subquery, or to tell rows apart.
GENERATED = "limit_rownum"


class Binding:
    """What every part of `bind` shares. Lives as long as `bind` runs."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, text: Rewritten, relations: Mapping[str, Schema]
    ) -> None:
        self.connection = connection
        self.text = text
        self.relations = relations

    def plan_json(self, sql: str) -> Json:
        """Return the root operator of the bound, unoptimised plan.

        Raises:
            SqlError: DuckDB cannot bind the text, with the place in the user's.
        """
        options = "skip_null := true, skip_empty := true, skip_default := true"
        row = self.connection.execute(f"SELECT json_serialize_plan(?, {options})", [sql]).fetchall()[0]
        try:
            answer = json.loads(row[0])
        except json.JSONDecodeError as error:  # DuckDB writes some NaNs as no JSON has them
            raise self.refuse("a constant that is not a number", "nan", "SELECT", hint="ask isnan(x)") \
                from error  # fmt: skip
        if answer["error"]:
            raise self._error(answer)
        plans = answer["plans"]
        if len(plans) != 1:
            raise SqlError(f"a view is one SELECT; here are {len(plans)} statements", sql=self.text.original)
        root: Json = plans[0]
        return root

    def check_hiding(self) -> None:
        """Refuse functions whose answer changes from call to call and that DuckDB would compute while it binds.

        Raises:
            NotMaintainable: there is one.
        """
        row = self.connection.execute("SELECT json_serialize_sql(?)", [self.text.sql]).fetchall()[0]
        for name, node in past_hiding(json.loads(row[0])):
            raise self.refuse_unstable(name, self.span(node))

    def _error(self, answer: Json) -> SqlError:
        """Map DuckDB's error to ours, with the place in the user's text."""
        message = str(answer.get("error_message", "DuckDB cannot bind this")).strip()
        if any(statement.named_parameters for statement in statements(self.text.sql)):
            return SqlError("a view has no parameters", sql=self.text.original,
                            span=find_word(self.text.original, "?", "$"), hint="write the value")  # fmt: skip
        if (unstable := named_in(message)) is not None:
            return self.refuse_unstable(unstable)
        span = None
        if "position" in answer:
            location = str(answer.get("location", "[0,1]")).strip("[]").split(",")
            span = self.text.origin(int(answer["position"]), int(location[1]) if len(location) > 1 else 1)
        known = ", ".join(self.relations) or "none"
        hint = f"known logs: {known}" if answer.get("error_type") == "catalog" else None
        hint = function_hint(message) or hint or quoting_hint(message, self.relations)
        return SqlError(message, sql=self.text.original, span=span, hint=hint)

    def expect(self, node: Json, *known: str) -> None:
        """Refuse an operator with fields that we do not know: they would change its meaning."""
        unknown = set(node) - set(known) - {"type", "children"}
        if unknown:
            what = f"{node['type'].removeprefix('LOGICAL_')} with {', '.join(sorted(unknown))}"
            raise self.refuse(what, "SELECT")

    def span(self, node: Json) -> Span | None:
        """Return where an expression, or the first part of it that says so, stands in the user's text."""
        if "query_location" not in node:
            return next((s for child in node.get("children", []) if (s := self.span(child))), None)
        return self.text.origin(node["query_location"], node.get("query_location_length", 1))

    def place(self, *words: str) -> Span | None:
        """Return where the first of these words that occurs stands in the user's text."""
        return find_word(self.text.original, *words)

    def refuse(
        self, construct: str, *words: str, span: Span | None = None, hint: str | None = None
    ) -> NotMaintainable:
        """Return the error that names what cannot be maintained, at `span` or at the first of the words."""
        place = span or self.place(*words)
        return NotMaintainable(construct, sql=self.text.original, span=place, hint=hint)

    def refuse_unstable(self, name: str, span: Span | None = None) -> NotMaintainable:
        """Return the error for a function whose answer changes from call to call."""
        if name == "error":
            return self.refuse(
                "error()", name, span=span, hint="TRY_CAST or CASE say what is to be in its place"
            )
        hint = "record the value in the log when the event happens, and read it from there"
        if name in CLOCKS:
            hint += (
                "; a condition in WHERE may compare a column with the clock: at > now() - INTERVAL '1 hour'"
            )
        return self.refuse(
            f"{name}(), whose answer changes from call to call,", name, "SELECT", span=span, hint=hint
        )

    def check_keys(self, keys: Iterable[Expr], *words: str) -> None:
        """Refuse intervals as keys of groups: DuckDB shows any one of those that are equal, and these may differ."""
        if any(key.type == "INTERVAL" for key in keys):
            raise self.refuse(
                "a group of intervals", *words,
                hint="group by a number or a text of it, such as epoch(…) or …::VARCHAR: intervals that are equal, such as "
                "30 days and 1 month, need not be the same",
            )  # fmt: skip


def quoting_hint(message: str, relations: Iterable[str]) -> str | None:
    """Return what to do if DuckDB stumbled over the name of a relation that is a word of SQL, such as `order`."""
    found = re.search(r'syntax error at or near "([^"]+)"', message)
    if found is None or found[1].casefold() not in {name.casefold() for name in relations}:
        return None
    return f'{found[1]} is a word of SQL, too: write "{found[1]}"'


def function_hint(message: str) -> str | None:
    """Return what to do if DuckDB does not know a function."""
    if not re.search(r"Function with name \S+ does not exist", message):
        return None
    return (
        "an app's Python functions are known where it declares them (@app.udf), not to its data folder alone"
    )


def statements(sql: str) -> list[duckdb.Statement]:
    """Return the statements of a text; none if it cannot be parsed."""
    try:
        return list(duckdb.extract_statements(sql))
    except duckdb.Error:
        return []
