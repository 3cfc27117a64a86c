"""Views written as dataframe expressions: Ibis renders them to DuckDB's SQL, which is what the view then is.

Ibis is loaded only when it is used; `pip install bourne[ibis]` has it.
"""

from __future__ import annotations

from typing import Any

from bourne.errors import DefinitionError
from bourne.schema import Schema


def unbound_table(name: str, schema: Schema) -> Any:
    """Return an Ibis table of this name and these columns, with no data behind it.

    Raises:
        DefinitionError: Ibis is not installed, or does not know a type.
    """
    ibis = _load()
    from ibis.backends.sql.datatypes import DuckDBType  # noqa: PLC0415  (optional)

    columns = {}
    for column in schema.columns:
        try:
            columns[column.name] = DuckDBType.from_string(column.type, nullable=column.nullable)
        except Exception as error:
            raise DefinitionError(
                f"Ibis does not know the type of column {column.name!r}", where=f"relation {name!r}",
                found=f"{column.type}: {error}", hint="write the view in SQL",
            ) from error  # fmt: skip
    return ibis.table(columns, name=name)


def sql_of(query: object, *, where: str) -> str:
    """Return the SQL of a view that was given as SQL or as an Ibis expression.

    Raises:
        DefinitionError: it is neither, or Ibis cannot say it in SQL.
    """
    if isinstance(query, str):
        return query
    if type(query).__module__.partition(".")[0] != "ibis":
        raise DefinitionError("a view is given as a text or an Ibis expression", where=where,
                              expected="a SELECT", found=repr(query)[:80])  # fmt: skip
    ibis = _load()
    try:
        return str(ibis.to_sql(query, dialect="duckdb"))
    except Exception as error:
        raise DefinitionError(
            "Ibis cannot say this expression in SQL", where=where, found=str(error).partition("\n")[0],
            hint="build it on tables from app.ibis(…), or write the view in SQL",
        ) from error  # fmt: skip


def _load() -> Any:
    try:
        import ibis  # noqa: PLC0415  (optional)
    except ImportError as error:
        raise DefinitionError("Ibis is not installed", hint='pip install "bourne[ibis]"') from error
    return ibis
