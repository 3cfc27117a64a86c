"""When a view's rows come out: the clause `EMIT …` at the end of its text.

    EMIT CHANGES                        whenever they change (the default), for ever
    EMIT CHANGES LATENESS INTERVAL …    and no more, that long after they were complete
    EMIT FINAL                          once, when they are complete
    EMIT FINAL LATENESS INTERVAL …      and corrected for that long
    EMIT FINAL EARLY INTERVAL …         and before that as they are, that often

The clause is Bourne's, not DuckDB's: it says when, the SELECT before it says what.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
from sqlglot.tokens import Token, TokenType

from bourne.errors import Span, SqlError
from bourne.sql.intervals import NoInterval, read_interval
from bourne.sql.text import tokenize

_KINDS = ("CHANGES", "FINAL")
_OPTIONS = ("EARLY", "LATENESS")


@dataclass(frozen=True, slots=True)
class Emit:
    """When rows come out. `lateness_us` is how long after that they may change; None: for ever.

    `early_us` is how often rows that are not complete come out as they are; None: not at all.
    """

    is_final: bool = False
    lateness_us: int | None = None
    early_us: int | None = None

    @property
    def closes(self) -> bool:
        """Whether there comes a time after which a row does not change any more."""
        return self.lateness_us is not None


CHANGES = Emit()


def split_emit(sql: str, *, view: str | None = None) -> tuple[str, Emit]:
    """Return a view's SELECT and what its EMIT clause says. The SELECT is the beginning of the text, letter by letter.

    Raises:
        SqlError: the clause is written wrongly.
    """
    try:
        return _split(sql)
    except SqlError as error:
        raise error.in_view(view) from error.__cause__


def _split(sql: str) -> tuple[str, Emit]:
    tokens = tokenize(sql)
    while tokens and tokens[-1].token_type == TokenType.SEMICOLON:
        tokens.pop()
    at = _clause(tokens)
    if at is None:
        _check_no_emit(sql, tokens)
        return sql, CHANGES
    kind = tokens[at + 1].text.upper()
    found = _options(sql, tokens[at + 2 :])
    for option, span in found.items():
        if option == "EARLY" and kind == "CHANGES":
            raise SqlError("EMIT CHANGES is never early: each change comes out at once", sql=sql, span=span,
                           hint="leave EARLY out, or write EMIT FINAL")  # fmt: skip
    early, lateness = (_length(sql, option, found.get(option)) for option in _OPTIONS)
    is_final = kind == "FINAL"
    return sql[: tokens[at].start], Emit(is_final, 0 if is_final and lateness is None else lateness, early)


def _check_no_emit(sql: str, tokens: Sequence[Token]) -> None:
    """Refuse an EMIT that is no clause, and that DuckDB's grammar does not take for a name."""
    at = next((i for i, token in enumerate(tokens) if token.text.upper() == "EMIT"), None)
    if at is None or tokens[at].token_type == TokenType.STRING:
        return
    found = tokens[at]
    words = [token.text for token in tokens[at : at + 2]]  # after a relation EMIT may be an alias
    try:
        duckdb.extract_statements(sql)
    except duckdb.Error as error:
        if any(f'near "{word}"' in str(error) for word in words):
            raise SqlError("EMIT is not understood here", sql=sql, span=Span(found.start, found.end + 1),
                           hint="the SELECT of a view may end with EMIT CHANGES or EMIT FINAL; a subquery may not") from error  # fmt: skip


def _clause(tokens: Sequence[Token]) -> int | None:
    """Return where the clause begins, if there is one."""
    depth = 0
    for at in range(len(tokens) - 1, 0, -1):
        kind = tokens[at].token_type
        depth += (kind == TokenType.R_PAREN) - (kind == TokenType.L_PAREN)
        if depth == 0 and tokens[at].text.upper() == "EMIT" and kind != TokenType.STRING:
            is_clause = at + 1 < len(tokens) and tokens[at + 1].text.upper() in _KINDS
            return at if is_clause else None
    return None


def _options(sql: str, tokens: Sequence[Token]) -> dict[str, Span]:
    """Return the place of each option's interval."""
    found: dict[str, Span] = {}
    starts = [i for i, token in enumerate(tokens) if token.text.upper() in _OPTIONS]
    if tokens and 0 not in starts:
        raise SqlError(f"EMIT cannot be read from {tokens[0].text!r} on", sql=sql,
                       span=Span(tokens[0].start, tokens[-1].end + 1),
                       hint="write EMIT CHANGES or EMIT FINAL, then EARLY INTERVAL '…', then LATENESS INTERVAL '…'")  # fmt: skip
    for start, end in zip(starts, [*starts, len(tokens)][1:], strict=True):
        name = tokens[start].text.upper()
        place = Span(tokens[start].start, tokens[end - 1].end + 1)
        if name in found or end == start + 1:
            raise SqlError(f"{name} is there twice" if name in found else f"{name} of how long?", sql=sql, span=place,
                           hint=f"write {name} INTERVAL '10 seconds', once")  # fmt: skip
        found[name] = Span(tokens[start + 1].start, tokens[end - 1].end + 1)
    return found


def _length(sql: str, option: str, span: Span | None) -> int | None:
    if span is None:
        return None
    try:
        found = read_interval(sql[span.start : span.end], is_positive=option == "EARLY")
    except NoInterval as error:
        raise SqlError(f"{option} {error.what}", sql=sql, span=span, hint=error.hint) from error
    if found.months:
        raise SqlError(f"{option} is a number of months, which has no fixed length", sql=sql, span=span,
                       hint="write it in days")  # fmt: skip
    return found.us
