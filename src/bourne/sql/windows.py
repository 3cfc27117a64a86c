"""Rewrites window table functions to plain DuckDB SQL: TUMBLE, HOP, CUMULATE, SESSION.

Each becomes a subquery that adds `window_start` (inclusive) and `window_end` (exclusive) to the rows of a relation. What
the windows are is all in that SQL: so a batch query over it is the definition, and the engine knows no windows, only
expressions that never go back while time goes on (`engine.bounds`).

Windows are aligned as DuckDB's `time_bucket` does it: to Monday 2000-01-03, so that any width that divides a day or a week
falls on the usual boundaries; those of months and years to January 2000. With a time zone they are aligned to its local
midnights (`sql.zones`).

Everything else of the text stays as it is, letter by letter; `Rewritten.origin` maps places back.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import duckdb
from sqlglot.tokens import Token, TokenType

from bourne.errors import Span, SqlError
from bourne.schema import Schema, quote
from bourne.sql.intervals import Interval, NoInterval, read_interval
from bourne.sql.text import Rewritten, tokenize
from bourne.sql.unstable import ARRIVAL
from bourne.sql.zones import DAY_US, is_zone, window_kind

_TABLE_COMES = {TokenType.FROM, TokenType.JOIN, TokenType.COMMA}
_ADDED = ("window_start", "window_end")

# The field of a struct that stands for a session in a view, with its time.
SESSION = "__session_time"

_NAME = re.compile(r'(?i)(TABLE\s+)?(\w+|"([^"]|"")+")')

# Windows of windows take the place of those that were there.
_OTHERS = "COLUMNS(lambda c: c NOT IN ('window_start', 'window_end'))"
_OTHERS_OF_SESSION = "COLUMNS(lambda c: c NOT IN ('window_start', 'window_end', '__new', '__session'))"

# More windows than this for one record are a mistake, or want to be a coarser slide.
_WINDOWS_PER_RECORD_MAX = 10_000


def rewrite_windows(sql: str, relations: Mapping[str, Schema], *, is_view: bool = False) -> Rewritten:
    """Return DuckDB's SQL for a text that may use window functions, and columns named like DuckDB's keywords.

    In a view's, sessions are marks that `bind` understands, as they have an operator of their own.

    Raises:
        SqlError: a window function is used wrongly.
    """
    return _rewrite(sql, relations, frozenset(_defined(tokenize(sql))), is_view=is_view)


def _rewrite(
    sql: str, relations: Mapping[str, Schema], defined: Collection[str], *, is_view: bool
) -> Rewritten:
    tokens = tokenize(sql)
    columns = {column.name for schema in relations.values() for column in schema.columns}
    touchy = {name.casefold() for name in columns if not _can_stand_bare(name)}
    parts: list[str] = []
    pieces: list[tuple[int, int, Span]] = []
    done = length = index = 0
    while index < len(tokens):
        token, replacement, last = tokens[index], None, index
        if _is_window_function(tokens, index):
            call, last = _read_call(sql, tokens, index, relations, defined, is_view=is_view)
            replacement = _FUNCTIONS[call.name].text(call) + call.alias
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


def _defined(tokens: Sequence[Token]) -> set[str]:
    """Return the names, case folded, that the text itself may give to relations: those before AS."""
    return {
        token.text.casefold()
        for token, after in itertools.pairwise(tokens)
        if after.token_type in (TokenType.ALIAS, TokenType.L_PAREN)
    }


def _is_window_function(tokens: Sequence[Token], index: int) -> bool:
    return (
        0 < index < len(tokens) - 1
        and tokens[index].text.upper() in _FUNCTIONS
        and tokens[index + 1].token_type == TokenType.L_PAREN
        and tokens[index - 1].token_type in _TABLE_COMES
    )


# --- reading a call -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Zone:
    """Local windows of one kind, as SQL."""

    name: str
    kind: str
    time_type: str | None

    def start(self, time: str, number: int = 0) -> str:
        """Return the start of the window of a time, or of the `number`-th one after it."""
        return self._typed(f"__local_window({self._plain(time)}, '{self.name}', '{self.kind}', {number})")

    def starts(self, time: str, count: int) -> str:
        """Return the list of the starts of a time's window and of those before it, `count` in all."""
        called = f"__local_windows({self._plain(time)}, '{self.name}', '{self.kind}', {count})"
        return f"{called}::TIMESTAMPTZ[]" if self._has_zone else called

    @property
    def _has_zone(self) -> bool:
        return self.time_type == "TIMESTAMP WITH TIME ZONE"

    def _plain(self, time: str) -> str:
        return time if self.time_type == "TIMESTAMP" else f"{time}::TIMESTAMP"

    def _typed(self, time: str) -> str:
        return f"{time}::TIMESTAMPTZ" if self._has_zone else time


@dataclass(frozen=True, slots=True)
class _Call:
    """A call of a window function: what it reads, the expression that is the time there, and what says which windows."""

    name: str
    sql: str
    span: Span
    source: str
    time: str
    time_type: str | None  # if that is known
    columns: str  # of the source, that come out again
    arguments: tuple[Span, ...]
    options: Mapping[str, Span]
    keys: tuple[str, ...]
    alias: str
    is_view: bool

    def error(self, what: str, span: Span | None = None, hint: str | None = None) -> SqlError:
        return SqlError(what, sql=self.sql, span=span or self.span, hint=hint)

    def width(self, number: int, what: str) -> Interval:
        """Return an argument, which has to be a constant interval above zero."""
        return self._interval(self.arguments[number], what, is_positive=True)

    def offset(self) -> Interval | None:
        """Return by how much later than usual windows begin, if that is said."""
        span = self.options.get("offset")
        return None if span is None else self._interval(span, "the offset", is_positive=False)

    def check_offset(self, width: Interval) -> None:
        """Refuse days that not every month has."""
        offset = self.offset()
        if width.months and offset is not None and offset.us >= 28 * DAY_US:
            raise self.error(
                "an offset of 28 days or more beside months, of which some are shorter", self.options["offset"],
                "take a shorter one, or one of months",
            )  # fmt: skip

    def zone(self, width: Interval) -> _Zone | None:
        """Return the time zone that windows of this width follow, if one is named."""
        span = self.options.get("timezone")
        if span is None:
            return None
        found = re.fullmatch(r"'([^']+)'", self.sql[span.start : span.end])
        if found is None or not is_zone(found[1]):
            raise self.error("there is no such time zone", span, "write for example timezone => 'Asia/Seoul'")
        offset = self.offset() or Interval(0, 0)
        if offset.months:
            raise self.error(
                "an offset of months in a time zone", self.options["offset"], "write it in days or hours"
            )
        day = Interval(0, DAY_US)
        if not width.months and width.divided_by(day) is None:
            if day.divided_by(width) is None:
                raise self.error(
                    "in a time zone, windows are whole days, or parts that divide a day", self.arguments[0]
                )
            width = day
        return _Zone(found[1], window_kind(width.months, width.us, offset.us), self.time_type)

    def _interval(self, span: Span, what: str, *, is_positive: bool) -> Interval:
        try:
            return read_interval(self.sql[span.start : span.end], is_positive=is_positive)
        except NoInterval as error:
            raise self.error(f"{what} {error.what}", span, error.hint) from error


def _read_call(
    sql: str, tokens: Sequence[Token], index: int, relations: Mapping[str, Schema], defined: Collection[str], *,
    is_view: bool,
) -> tuple[_Call, int]:  # fmt: skip
    """Return the call at `index`, its form checked, and the index of its last token."""
    name = tokens[index].text.upper()
    usage = _FUNCTIONS[name]
    given, last = _arguments(sql, tokens, index)
    span = Span(tokens[index].start, tokens[last].end + 1)
    options, positional, keys = dict[str, Span](), list[Span](), list[Span]()
    for each in given:
        option = re.match(r"(\w+)\s*(?:=>|:=)\s*", sql[each.start : each.end])
        head, by = _split_partition(tokens, each)
        if option is not None:
            options[option[1].casefold()] = Span(each.start + option.end(), each.end)
        elif by is not None:
            positional.append(head)
            keys.append(by)
        else:
            (keys if keys else positional).append(each)
    if usage.has_keys:
        keys, positional = positional[usage.arguments :] + keys, positional[: usage.arguments]
    elif keys:
        raise SqlError(f"{name} has no PARTITION BY: its windows are the same for all", sql=sql, span=keys[0],
                       hint="group by that column beside the window")  # fmt: skip
    if len(positional) != usage.arguments:
        raise SqlError(f"{name} takes {usage.arguments} arguments, here are {len(positional)}", sql=sql, span=span,
                       hint=f"write {usage.example}")  # fmt: skip
    unknown = next((option for option in options if option not in usage.options), None)
    if unknown is not None:
        raise SqlError(f"{name} has no option {unknown!r}", sql=sql, span=options[unknown],
                       hint=f"it has {', '.join(usage.options) or 'none'}")  # fmt: skip
    source, alias, schema = _source(sql, positional[0], relations, defined, is_view=is_view)
    time = _column(sql, positional[1], alias, schema, is_view=is_view)
    time_type = _check_time(sql, positional, alias, schema, name)
    has_alias = last + 1 < len(tokens) and tokens[last + 1].token_type in (
        TokenType.ALIAS, TokenType.VAR, TokenType.IDENTIFIER,
    )  # fmt: skip
    is_nested = _unquote(time).casefold() in _ADDED
    call = _Call(
        name, sql, span, source, time, time_type, _OTHERS if is_nested else "*", tuple(positional[2:]), options,
        tuple(_column(sql, key, alias, schema) for key in keys),
        "" if has_alias or alias is None else f" AS {quote(alias)}", is_view,
    )  # fmt: skip
    return call, last


def _arguments(sql: str, tokens: Sequence[Token], index: int) -> tuple[list[Span], int]:
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


def _split_partition(tokens: Sequence[Token], span: Span) -> tuple[Span, Span | None]:
    """Return what is before PARTITION BY in an argument, and what is after it, if it is there."""
    inside = [token for token in tokens if span.start <= token.start < span.end]
    depth = 0
    for at, token in enumerate(inside):
        depth += (token.token_type == TokenType.L_PAREN) - (token.token_type == TokenType.R_PAREN)
        is_both = token.text.upper().split() == ["PARTITION", "BY"]  # one token, or two
        is_two = (
            token.text.upper() == "PARTITION" and at + 1 < len(inside) and inside[at + 1].text.upper() == "BY"
        )
        rest = at + (2 if is_two else 1)
        if depth == 0 and at and (is_both or is_two) and rest < len(inside):
            return Span(span.start, inside[at - 1].end + 1), Span(inside[rest].start, span.end)
    return span, None


def _source(
    sql: str, span: Span, relations: Mapping[str, Schema], defined: Collection[str], *, is_view: bool
) -> tuple[str, str | None, Schema | None]:
    """Return what is read, as SQL; its name, if it has one; and its columns, if they are known."""
    text = sql[span.start : span.end]
    if text.startswith("("):  # a subquery, in which there may be windows, too
        return _rewrite(text, relations, defined, is_view=is_view).sql, None, None
    name = _unquote(re.sub(r"(?i)^TABLE\s+", "", text))
    if not _NAME.fullmatch(text):
        raise SqlError("a window function is of a log, a view or a subquery", sql=sql, span=span,
                       hint="write its name, or the subquery in parentheses: TUMBLE((SELECT …), time, size)")  # fmt: skip
    if name.casefold() in defined:
        return quote(name), name, None
    found = next((key for key in relations if key.casefold() == name.casefold()), None)
    if found is None:
        raise SqlError(f"there is no log {name!r}", sql=sql, span=span,
                       hint=f"known are {', '.join(relations) or 'none'}")  # fmt: skip
    return quote(found), found, relations[found]


def _column(sql: str, span: Span, source: str | None, schema: Schema | None, *, is_view: bool = False) -> str:
    """Return an argument that is a column; one of columns that are not known may be any expression of them."""
    text = sql[span.start : span.end]
    if _asks_now(text):
        return f"{ARRIVAL}()" if is_view else "CAST(now() AS TIMESTAMP)"
    if schema is None:
        is_name = re.fullmatch(r'\w+|"[^"]+"', text)
        return quote(_unquote(text)) if is_name else f"({text})"
    column = schema.column(_unquote(text))
    if column is None and not _NAME.fullmatch(text):
        raise SqlError(f"a column is expected, not {text!r}", sql=sql, span=span,
                       hint=f"compute it in a subquery in place of {source}: (SELECT *, … AS t FROM {source})")  # fmt: skip
    if column is None:
        raise SqlError(
            f"log {source!r} has no column {_unquote(text)!r}", sql=sql, span=span,
            hint=f"it has {', '.join(schema.names)}",
        )  # fmt: skip
    return quote(column.name)


def _check_time(
    sql: str, given: Sequence[Span], source: str | None, schema: Schema | None, name: str
) -> str | None:
    """Return the type of the time, if it is known. Refuse one that is none, and columns that are there already."""
    if schema is None or _asks_now(sql[given[1].start : given[1].end]):
        return "TIMESTAMP" if schema is not None else None
    time = _unquote(sql[given[1].start : given[1].end])
    column = schema.column(time)
    assert column is not None
    if not column.type.startswith("TIMESTAMP"):
        raise SqlError(
            f"column {time!r} is a {column.type}, not a time", sql=sql, span=given[1],
            hint=f"{name} needs a timestamp column",
        )  # fmt: skip
    taken = next((found for added in _ADDED if (found := schema.column(added))), None)
    if taken is not None and time.casefold() not in _ADDED:
        raise SqlError(
            f"log {source!r} has a column {taken.name!r} already, which {name} adds", sql=sql, span=given[0],
            hint="give that column another name",
        )  # fmt: skip
    return column.type


def _asks_now(text: str) -> bool:
    return re.fullmatch(r"(?i)now\s*\(\s*\)", text) is not None


# --- what stands for it -------------------------------------------------------------------------------------


def _tumble(call: _Call) -> str:
    width, offset = call.width(0, "the size of a window"), call.offset()
    call.check_offset(width)
    zone = call.zone(width)
    if zone is not None:
        start, end = zone.start(call.time), zone.start(call.time, 1)
        if not width.months and width.us < DAY_US:
            start = f"time_bucket({width.sql}, {call.time}, {start})"
            end = f"least({start} + {width.sql}, {end})"
        return _with(call, f"{start} AS window_start, {end} AS window_end")
    start = _bucket(width, call.time, offset)
    return _with(call, f"{start} AS window_start, {start} + {width.sql} AS window_end")


def _hop(call: _Call) -> str:
    slide, size = call.width(0, "the slide"), call.width(1, "the size of a window")
    count = _count(call, size, slide, "the slide")
    call.check_offset(slide)
    zone = call.zone(slide)
    if zone is not None:
        if not slide.months and slide.us < DAY_US:
            raise call.error("in a time zone, the slide is whole days or months", call.arguments[0],
                             "take a slide of days; or shorter ones without timezone")  # fmt: skip
        rows = f"SELECT {call.columns}, unnest({zone.starts(call.time, count)}) AS window_start FROM {call.source}"
        return f"(SELECT *, {zone.start('window_start', count)} AS window_end FROM ({rows}))"
    last, back = _bucket(slide, call.time, call.offset()), slide.times(count - 1)
    starts = f"generate_series({last} - {back.sql}, {last}, {slide.sql})"
    rows = f"SELECT {call.columns}, unnest({starts}) AS window_start FROM {call.source}"
    return f"(SELECT *, window_start + {size.sql} AS window_end FROM ({rows}))"


def _cumulate(call: _Call) -> str:
    step, size = call.width(0, "the step"), call.width(1, "the size of a window")
    _count(call, size, step, "the step")
    call.check_offset(size)
    zone = call.zone(size)
    if zone is not None:
        is_part = not step.months and step.us < DAY_US and (size.months or size.us % DAY_US == 0)
        if not is_part or DAY_US % step.us or size.divided_by(Interval(0, DAY_US)) != 1:
            raise call.error("in a time zone, CUMULATE goes through a day in parts of it", call.arguments[0],
                             "take a size of a day, and a step that divides it")  # fmt: skip
        start, end = zone.start(call.time), zone.start(call.time, 1)
        first = f"time_bucket({step.sql}, {call.time}, {start}) + {step.sql}"
        ends = f"list_append(range({first}, {end}, {step.sql}), {end})"
        return _with(call, f"{start} AS window_start, unnest({ends}) AS window_end")
    start, offset = _bucket(size, call.time, call.offset()), call.offset()
    ends = (
        f"generate_series({_bucket(step, call.time, offset)} + {step.sql}, {start} + {size.sql}, {step.sql})"
    )
    return _with(call, f"{start} AS window_start, unnest({ends}) AS window_end")


def _session(call: _Call) -> str:
    words = re.search(r"(?i)\s(part\w*)\b", call.sql[call.arguments[0].start : call.arguments[0].end])
    if words is not None:
        raise call.error(
            f"SESSION cannot be read from {words[1]!r} on",
            call.arguments[0],
            "write PARTITION BY, and columns",
        )
    gap = call.width(0, "the gap")
    if gap.months:
        raise call.error("the gap of a session is a number of months, which has no fixed length", call.arguments[0],
                         "write for example INTERVAL '30 days'")  # fmt: skip
    if call.time_type not in (None, "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"):
        call = replace(call, time=f"{call.time}::TIMESTAMP")
    if call.is_view:
        return _marked_session(call, gap)
    keys = "".join(f"{key}, " for key in call.keys)
    by = f"PARTITION BY {keys.removesuffix(', ')} " if keys else ""
    before = f"lag({call.time}) OVER ({by}ORDER BY {call.time})"
    is_new = f"CASE WHEN {call.time} < {before} + {gap.sql} THEN 0 ELSE 1 END AS __new"
    marked = f"SELECT *, {is_new} FROM {call.source}"
    numbered = f"SELECT *, sum(__new) OVER ({by}ORDER BY {call.time}) AS __session FROM ({marked})"
    over = f"OVER (PARTITION BY {keys}__session)"
    columns = "* EXCLUDE (__new, __session)" if call.columns == "*" else _OTHERS_OF_SESSION
    return (
        f"(SELECT {columns}, min({call.time}) {over} AS window_start, "
        f"max({call.time}) {over} + {gap.sql} AS window_end FROM ({numbered}))"
    )


def _marked_session(call: _Call, gap: Interval) -> str:
    """Return what `bind` makes a session of: a struct that says which, in place of its start and end."""
    keys = "".join(f", __key{i} := {key}" for i, key in enumerate(call.keys))
    mark = f"struct_pack({SESSION} := {call.time}, __end := {call.time}, __gap := {gap.us}::BIGINT{keys}) AS __session"
    start, end = f"__session.{SESSION} AS window_start", "__session.__end AS window_end"
    return f"(SELECT * EXCLUDE (__session), {start}, {end} FROM (SELECT {call.columns}, {mark} FROM {call.source}))"


def _with(call: _Call, items: str) -> str:
    return f"(SELECT {call.columns}, {items} FROM {call.source})"


def _bucket(width: Interval, time: str, offset: Interval | None) -> str:
    """Return the start of the window of this width that a time is in."""
    if offset is None or offset.is_zero:
        return f"time_bucket({width.sql}, {time})"
    return f"time_bucket({width.sql}, {time} - {offset.sql}) + {offset.sql}"


def _count(call: _Call, size: Interval, part: Interval, what: str) -> int:
    """Return how many times a slide or step fits in the size."""
    count = size.divided_by(part)
    if count is None:
        raise call.error(
            f"{what} does not divide the size of a window", call.arguments[0],
            "take a size that is a multiple of it, of the same kind (months, or fixed lengths)",
        )  # fmt: skip
    if count > _WINDOWS_PER_RECORD_MAX:
        raise call.error(f"each record would be in {count:,} windows", call.arguments[0],
                         f"take a longer one: at most {_WINDOWS_PER_RECORD_MAX:,} are possible")  # fmt: skip
    return count


@dataclass(frozen=True, slots=True)
class _Function:
    """How a window function is written, and what makes the text of a call."""

    text: Callable[[_Call], str]
    arguments: int
    example: str
    options: tuple[str, ...] = ("offset", "timezone")
    has_keys: bool = False


_FUNCTIONS = {
    "TUMBLE": _Function(_tumble, 3, "TUMBLE(log, time_column, INTERVAL '10 seconds')"),
    "HOP": _Function(
        _hop, 4, "HOP(log, time_column, slide, size), such as INTERVAL '1 minute', INTERVAL '1 hour'"
    ),
    "CUMULATE": _Function(
        _cumulate, 4, "CUMULATE(log, time_column, step, size), such as INTERVAL '1 hour', INTERVAL '1 day'"
    ),
    "SESSION": _Function(
        _session, 3, "SESSION(log, time_column, INTERVAL '30 minutes' PARTITION BY user)", (), has_keys=True
    ),
}


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
