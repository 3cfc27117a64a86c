"""The text of a query: its tokens and words, and where the pieces of a rewritten one come from."""

from __future__ import annotations

from dataclasses import dataclass

import sqlglot
from sqlglot.tokens import Token, TokenType

from bourne.errors import Span, SqlError


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
