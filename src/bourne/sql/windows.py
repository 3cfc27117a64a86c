"""Rewrites window table functions to plain DuckDB SQL, and finds words in a text.

`FROM TUMBLE(orders, at, INTERVAL '1 minute')` becomes a subquery that adds `window_start` (inclusive) and
`window_end` (exclusive). Windows are aligned as DuckDB's `time_bucket` does it: to Monday 2000-01-03, so that
any width that divides a day or a week falls on the usual boundaries.

Everything else of the text stays as it is, letter by letter; `Rewritten.origin` maps places back.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import duckdb
import sqlglot
from sqlglot.tokens import Token, TokenType

from bourne.duck import connect
from bourne.errors import DefinitionError, NotMaintainable, Span, SqlError
from bourne.schema import Schema, interval_us, quote

_LATER = {"HOP", "CUMULATE", "SESSION"}
_TABLE_COMES = {TokenType.FROM, TokenType.JOIN, TokenType.COMMA}


@dataclass(frozen=True, slots=True)
class Rewritten:
    """DuckDB's SQL, and from where each piece of it comes: (start in `sql`, end in `sql`, original span)."""

    sql: str
    original: str
    pieces: tuple[tuple[int, int, Span], ...]

    def origin(self, byte: int, length_bytes: int = 1) -> Span:
        """Return the place in the original text of some UTF-8 bytes of `sql`."""
        raw = self.sql.encode()
        start = len(raw[:byte].decode(errors="ignore"))
        length = max(1, len(raw[byte : byte + length_bytes].decode(errors="ignore")))
        return Span(self._place(start).start, self._place(start + length - 1).end)

    def _place(self, index: int) -> Span:
        """Return the place in the original text of one character of `sql`: itself, or what it was made from."""
        shift = 0
        for piece_start, piece_end, span in self.pieces:
            if index < piece_start:
                break
            if index < piece_end:
                return span
            shift = span.end - piece_end
        size = len(self.original)
        return Span(min(index + shift, size), min(index + shift + 1, size))


def rewrite_windows(sql: str, relations: Mapping[str, Schema]) -> Rewritten:
    """Return DuckDB's SQL for a text that may use `TUMBLE` and columns named like DuckDB's keywords.

    Raises:
        SqlError: a window function is used wrongly.
        NotMaintainable: a window function that is not there yet.
    """
    tokens = tokenize(sql)
    columns = {column.name for schema in relations.values() for column in schema.columns}
    touchy = {name.casefold() for name in columns if not _can_stand_bare(name)}
    parts: list[str] = []
    pieces: list[tuple[int, int, Span]] = []
    done = length = index = 0
    while index < len(tokens):
        token, replacement, last = tokens[index], None, index
        if _is_window_function(tokens, index):
            replacement, last = _rewrite_call(sql, tokens, index, relations)
        elif token.token_type == TokenType.VAR and token.text.casefold() in touchy:
            following = tokens[index + 1].text.upper() if index + 1 < len(tokens) else ""
            if following not in ("TIME", "("):
                replacement = quote(token.text)
        if replacement is not None:
            span = Span(token.start, tokens[last].end + 1)
            kept = sql[done : span.start]
            pieces.append((length + len(kept), length + len(kept) + len(replacement), span))
            parts += [kept, replacement]
            length += len(kept) + len(replacement)
            done = span.end
        index = last + 1
    parts.append(sql[done:])
    return Rewritten("".join(parts), sql, tuple(pieces))


def tokenize(sql: str) -> list[Token]:
    """Return the tokens of a text.

    Raises:
        SqlError: it cannot be cut into tokens (an open string, say).
    """
    try:
        return list(sqlglot.tokenize(sql, dialect="duckdb"))
    except sqlglot.errors.TokenError as error:
        raise SqlError(f"the SQL cannot be read: {error}", sql=sql) from error


def words_of(sql: str) -> frozenset[str]:
    """Return all words and quoted names of a text, case folded: whatever could name a relation.

    Raises:
        SqlError: as `tokenize`.
    """
    tokens = tokenize(sql)
    return frozenset(token.text.casefold() for token in tokens if token.token_type != TokenType.STRING)


def find_word(sql: str, *words: str) -> Span | None:
    """Return the place of the first of the words that occurs in the text outside strings and comments."""
    tokens = tokenize(sql)
    for word in words:
        for token in tokens:
            # A token may be two words: GROUP BY.
            found = token.text.upper()
            if token.token_type != TokenType.STRING and (
                found == word.upper() or found.startswith(f"{word.upper()} ")
            ):
                return Span(token.start, token.end + 1)
    return None


def _is_window_function(tokens: list[Token], index: int) -> bool:
    name = tokens[index].text.upper()
    return (
        0 < index < len(tokens) - 1
        and (name == "TUMBLE" or name in _LATER)
        and tokens[index + 1].token_type == TokenType.L_PAREN
        and tokens[index - 1].token_type in _TABLE_COMES
    )


def _rewrite_call(
    sql: str, tokens: list[Token], index: int, relations: Mapping[str, Schema]
) -> tuple[str, int]:
    """Return the subquery for the call at `index`, and the index of the call's last token."""
    name = tokens[index].text.upper()
    arguments, last = _arguments(sql, tokens, index)
    call = Span(tokens[index].start, tokens[last].end + 1)
    if name in _LATER:
        raise NotMaintainable(
            f"the window function {name}", sql=sql, span=call, hint="TUMBLE is there; the others follow"
        )
    if len(arguments) != 3:
        raise SqlError(
            f"TUMBLE takes 3 arguments, here are {len(arguments)}", sql=sql, span=call,
            hint="write TUMBLE(log, time_column, INTERVAL '10 seconds')",
        )  # fmt: skip
    log_span, time_span, width_span = arguments
    log = _unquote(sql[log_span.start : log_span.end])
    found = next((key for key in relations if key.casefold() == log.casefold()), None)
    if found is None:
        raise SqlError(
            f"there is no log {log!r}",
            sql=sql,
            span=log_span,
            hint=f"known are {', '.join(relations) or 'none'}",
        )
    time = _unquote(sql[time_span.start : time_span.end])
    column = relations[found].column(time)
    if column is None:
        raise SqlError(
            f"log {found!r} has no column {time!r}", sql=sql, span=time_span,
            hint=f"it has {', '.join(relations[found].names)}",
        )  # fmt: skip
    if not column.type.startswith("TIMESTAMP"):
        raise SqlError(
            f"column {time!r} is a {column.type}, not a time", sql=sql, span=time_span,
            hint="TUMBLE needs a timestamp column",
        )  # fmt: skip
    taken = next((c for name in ("window_start", "window_end") if (c := relations[found].column(name))), None)
    if taken is not None:
        raise SqlError(
            f"log {found!r} has a column {taken.name!r} already, which TUMBLE adds", sql=sql, span=log_span,
            hint="give the log's column another name",
        )  # fmt: skip
    width_us = _width_us(sql, width_span)
    width = f"to_microseconds({width_us})"
    start = f"time_bucket({width}, {quote(column.name)})"
    text = f"(SELECT *, {start} AS window_start, {start} + {width} AS window_end FROM {quote(found)})"
    has_alias = last + 1 < len(tokens) and tokens[last + 1].token_type in (
        TokenType.ALIAS,
        TokenType.VAR,
        TokenType.IDENTIFIER,
    )
    return (text if has_alias else f"{text} AS {quote(found)}"), last


def _width_us(sql: str, span: Span) -> int:
    """Return the width of a window: a constant interval of fixed, positive length."""
    text = sql[span.start : span.end]
    try:
        spelled = connect().execute(f"SELECT ({text})::INTERVAL::VARCHAR").fetchall()[0][0]
        width_us = interval_us(spelled, where="TUMBLE")
    except (duckdb.Error, DefinitionError) as error:
        raise SqlError(
            f"the width of a window is not an interval of fixed length: {str(error).splitlines()[0]}",
            sql=sql, span=span, hint="write for example INTERVAL '10 seconds'",
        ) from error  # fmt: skip
    if width_us == 0:
        raise SqlError("a window needs a width above zero", sql=sql, span=span,
                       hint="write for example INTERVAL '10 seconds'")  # fmt: skip
    return width_us


def _arguments(sql: str, tokens: list[Token], index: int) -> tuple[list[Span], int]:
    """Return the spans of a call's arguments and the index of its closing parenthesis."""
    depth, arguments, first = 0, list[Span](), index + 2
    for position in range(index + 1, len(tokens)):
        kind = tokens[position].token_type
        depth += (kind == TokenType.L_PAREN) - (kind == TokenType.R_PAREN)
        if depth == 0 or (depth == 1 and kind == TokenType.COMMA):
            if position > first:
                arguments.append(Span(tokens[first].start, tokens[position - 1].end + 1))
            first = position + 1
        if depth == 0:
            return arguments, position
    raise SqlError("a parenthesis is not closed", sql=sql,
                   span=Span(tokens[index].start, tokens[index].end + 1))  # fmt: skip


def _unquote(text: str) -> str:
    return text[1:-1].replace('""', '"') if text.startswith('"') else text


@functools.lru_cache(maxsize=4096)
def _can_stand_bare(name: str) -> bool:
    """Say whether DuckDB's grammar takes this name without quotes as a column."""
    try:
        duckdb.extract_statements(f"SELECT {name} FROM t WHERE {name} = 1 GROUP BY {name}")
    except duckdb.Error:
        return False
    return True
