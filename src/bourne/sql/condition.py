"""Conditions on rows that strangers may ask for: comparisons of columns with literals, joined by AND, OR and NOT.

Law: a condition that is let through calls no function, reads nothing but the row, and costs about as much as its columns
and texts are long. It is checked word by word and put together again from these words, so that DuckDB, whose matter its
meaning is, sees nothing that was not checked.
"""

from __future__ import annotations

from typing import Final

import duckdb
from sqlglot.tokens import Token, TokenType

from bourne.duck import cursor
from bourne.errors import QueryError, Span, SqlError
from bourne.limits import CONDITION_CHARS_MAX, CONDITION_WORDS_MAX
from bourne.schema import Schema, cast_back, quote
from bourne.sql.text import tokenize
from bourne.udf import explained

_PLAIN: Final = {
    TokenType.STRING, TokenType.NUMBER, TokenType.TRUE, TokenType.FALSE, TokenType.NULL,
    TokenType.AND, TokenType.OR, TokenType.NOT, TokenType.IN, TokenType.IS, TokenType.BETWEEN,
    TokenType.LIKE, TokenType.ILIKE, TokenType.DISTINCT,
    TokenType.EQ, TokenType.NEQ, TokenType.LT, TokenType.LTE, TokenType.GT, TokenType.GTE, TokenType.DASH,
    TokenType.L_PAREN, TokenType.R_PAREN, TokenType.COMMA,
}  # fmt: skip

# What is a value whatever columns are called.
_LITERALS: Final = {
    TokenType.BYTE_STRING,
    TokenType.HEX_STRING,
    TokenType.BIT_STRING,
    TokenType.HEREDOC_STRING,
    TokenType.RAW_STRING,
    TokenType.UNICODE_STRING,
    TokenType.NATIONAL_STRING,
}

# Words before a text that say its type: DATE '2026-01-31'.
_TYPES: Final = {"date", "timestamp", "timestamptz", "time", "interval", "uuid"}

# What may stand right before a parenthesis; anything else would be called.
_BEFORE_PARENTHESIS: Final = {
    TokenType.AND, TokenType.OR, TokenType.NOT, TokenType.IN, TokenType.L_PAREN, TokenType.EQ, TokenType.NEQ,
    TokenType.LT, TokenType.LTE, TokenType.GT, TokenType.GTE, TokenType.COMMA, TokenType.BETWEEN,
}  # fmt: skip

# A pattern is tried at each place that its first % stands for, and there at each of the second …
_WILD_MAX: Final = 3


def check_condition(text: str, schema: Schema) -> str:
    """Return a condition over a relation's columns that is safe to evaluate.

    Raises:
        SqlError: it has more than comparisons in it, or a name that is no column; says where.
        QueryError: DuckDB cannot make sense of it.
    """
    if len(text) > CONDITION_CHARS_MAX:
        raise QueryError(
            "the condition is too long",
            expected=f"{CONDITION_CHARS_MAX:,} characters",
            found=f"{len(text):,}",
        )
    tokens = tokenize(text)
    if not tokens or len(tokens) > CONDITION_WORDS_MAX:
        raise QueryError(
            "a condition has words", expected=f"1 to {CONDITION_WORDS_MAX:,}", found=f"{len(tokens):,}"
        )
    names = {column.name.casefold() for column in schema.columns}
    words = []
    for number, token in enumerate(tokens):
        before = tokens[number - 1] if number else None
        after = tokens[number + 1] if number + 1 < len(tokens) else None
        words.append(_word(text, token, before, after, names))
    checked = " ".join(words)
    _try(checked, schema)
    return checked


def _word(text: str, token: Token, before: Token | None, after: Token | None, names: set[str]) -> str:
    """Return one word as it is to be evaluated."""
    kind, word = token.token_type, token.text.casefold()
    span = Span(token.start, token.end + 1)
    if kind in (TokenType.VAR, TokenType.IDENTIFIER) or kind not in _PLAIN:
        if word == "from" and before is not None and before.token_type == TokenType.DISTINCT:
            return str(word)  # IS DISTINCT FROM
        if word in _TYPES and after is not None and after.token_type == TokenType.STRING:
            return str(word)
        if word not in names or kind in _LITERALS:
            raise SqlError(
                f"{token.text!r} cannot stand in a condition", sql=text, span=span,
                hint=f"{_HINT}; the columns are {', '.join(sorted(names))}",
            )  # fmt: skip
        return quote(str(token.text))
    if kind == TokenType.L_PAREN:
        if before is not None and before.token_type not in _BEFORE_PARENTHESIS:
            raise SqlError("a condition calls no functions", sql=text, span=span, hint=_HINT)
    elif kind == TokenType.STRING:
        is_pattern = before is not None and before.token_type in (TokenType.LIKE, TokenType.ILIKE)
        if is_pattern and token.text.count("%") > _WILD_MAX:
            raise SqlError(
                f"a pattern with more than {_WILD_MAX} wild cards", sql=text, span=span, hint=_HINT
            )
        doubled = str(token.text).replace("'", "''")
        return f"'{doubled}'"
    return str(token.text)


_HINT: Final = "compare columns with literals (=, <, IN, BETWEEN, LIKE, IS NULL), joined by AND, OR, NOT; for more: POST /query"


def _try(condition: str, schema: Schema) -> None:
    """Let DuckDB make sense of it, over no rows."""
    columns = ", ".join(cast_back(column) for column in schema.columns)
    with cursor() as connection:
        connection.register("__rows", schema.to_arrow().empty_table())
        try:
            connection.execute(f"SELECT * FROM (SELECT {columns} FROM __rows) WHERE ({condition})")
        except duckdb.Error as error:
            raise QueryError(f"the condition makes no sense: {explained(error)}", found=condition) from error
