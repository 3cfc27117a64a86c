"""What every sink must do, wherever it writes: the promises of `bourne.connect.sink`, each as a check with a name.

A sink that is not "exactly once" is only checked for what it promises: that rows come, and come as they are.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import pyarrow as pa

from bourne.connect.positions import position_text
from bourne.connect.sink import Change, Shape, Sink
from bourne.connect.source import Position
from bourne.duck import cursor
from bourne.errors import DefinitionError, Rejected, SinkFailed, Unreachable
from bourne.schema import Column, Schema, arrow_type, duckdb_type, quote
from bourne.testing.ledger import expect, expect_equal
from bourne.testing.sink_model import TargetModel, key_table, make_change
from bourne.testing.type_values import FAR_VALUES, VALUES

Kind = Literal["append", "key", "weights"]
Row = dict[str, Any]

KINDS: Final[tuple[Kind, ...]] = ("append", "key", "weights")

FORBIDDEN: Final = 13
"""The value of column `n` that a target refuses, once `forbid` was called for it."""

_COLUMNS: Final = (
    Column("k", "VARCHAR", nullable=False),
    Column("m", "BIGINT", nullable=False),
    Column("n", "BIGINT"),
    Column("text", "VARCHAR"),
    Column("x", "DOUBLE"),
)
_KEYS: Final = (
    "서울", "a", "a:b", "a%3Ab", "b:c", "🚲", "", " ", "%N", "NULL", "\\N", "it's", 'a"b', "a/b", "A", "\u00e1", "a\u0301",
)  # fmt: skip
_TEXTS: Final = (
    "",
    None,
    "한글 이름",
    "🚲👩‍👩‍👧",
    'a "quoted", one\r\n',
    "it's; DROP TABLE t;--",
    "back\\slash\\n",
    "é" * 300,
)
_NUMBERS: Final = (0.0, None, 0.1, float("inf"), float("-inf"), float("nan"), 5e-324, -1.5)
_NAMES: Final = (
    "a b",
    "select",
    'quo"te',
    "it's",
    "이름",
    "semi;colon",
    "100%",
    "a`b",
    "[x]",
    "back\\slash",
    "a,b",
    "{c}",
    "d:e",
    "_f",
    "?",
)
_KEY_TYPES: Final = (
    "BOOLEAN", "SMALLINT", "BIGINT", "UBIGINT", "HUGEINT", "DECIMAL(38,10)", "DOUBLE", "BLOB", "DATE", "TIME", "TIMESTAMP",
    "TIMESTAMP WITH TIME ZONE", "UUID",
)  # fmt: skip

_HUGE_ROWS: Final = 200_000
_RANDOM_STEPS: Final = 40
_CRASH_POINTS_MAX: Final = 500
_SLOW_TRIES: Final = 20


def check_sink(
    make: Callable[[Shape], Sink],
    read: Callable[[Shape], pa.Table],
    *,
    kinds: Collection[Kind] = KINDS,
    only: Collection[str] | None = None,
    refused_types: Collection[str] = (),
    held_as: Mapping[str, Mapping[str, str]] | None = None,
    refused_values: Mapping[str, Collection[str]] | None = None,
    forbid: Callable[[Shape], None] | None = None,
    outage: Callable[[], AbstractContextManager[None]] | None = None,
    slowness: Callable[[], AbstractContextManager[None]] | None = None,
    crash: Callable[[Shape, int], AbstractContextManager[Sink]] | None = None,
    seeds: Sequence[int] = (1, 2, 3),
    huge_rows: int = _HUGE_ROWS,
) -> None:
    """Check that the sinks that `make` returns keep the promises of `bourne.connect.sink.Sink`.

    Args:
        make: returns a new sink for a shape, not opened. Of the same name, it goes to the same target; the names are the
            same at each call of `check_sink`, and nothing may be there: start with an empty folder, a new server, a prefix.
        read: returns what the target of a shape holds: its columns, as values of their type or as DuckDB writes these (as
            JSON for lists, structs and maps), and for a shape with weights `__weight`; in any order.
        kinds: the shapes that the sink takes; the others it has to refuse with DefinitionError, when it is made or opened.
        only: the names of the checks to run, of `SINK_CHECKS`; by default all.
        refused_types: the types that it refuses when it is made or opened, by name: what it cannot hold exactly.
        refused_values: by type, values of `bourne.testing.type_values` whose rows it refuses, with Rejected.
        held_as: by type, values of `bourne.testing.type_values` that it holds as others, as its documentation says.
        forbid: prepares a target, before it is opened for the first time, to refuse rows in which `n` is `FORBIDDEN`.
        outage: while its block runs, the other side is not there.
        slowness: while its block runs, the other side answers slowly.
        crash: gives a sink, not opened, whose process dies at so many-th thing that it does outside of itself, from 1 on:
            that call and all later ones raise. When the block ends, all is as the crash has left it.
        seeds: of the changes at random.
        huge_rows: of the largest change.

    Raises:
        AssertionError: names the check, and what was expected and found.
    """
    unknown = set(only or ()) - set(_CHECKS)
    if unknown:
        raise ValueError(f"no such checks: {', '.join(sorted(unknown))}")
    world = _World(
        make,
        read,
        frozenset(refused_types),
        held_as or {},
        refused_values or {},
        forbid,
        outage,
        slowness,
        crash,
        tuple(seeds),
        huge_rows,
    )
    for name, check in _CHECKS.items():
        for kind in KINDS:
            if only is None or name in only:
                run = check if kind in kinds else _refuses_shape
                _run(f"check_sink: {name}, {kind}", run, _Subject(world, f"{name}_{kind}", kind))


def _run(where: str, check: Callable[[_Subject], None], subject: _Subject) -> None:
    try:
        check(subject)
    except AssertionError as error:
        raise AssertionError(f"{where}: {error}") from error
    except Exception as error:
        raise AssertionError(f"{where}: {type(error).__name__} is raised: {error}") from error
    finally:
        subject.abandon()


@dataclass(frozen=True)
class _World:
    """What the implementation has supplied."""

    make: Callable[[Shape], Sink]
    read: Callable[[Shape], pa.Table]
    refused_types: frozenset[str]
    held_as: Mapping[str, Mapping[str, str]]
    refused_values: Mapping[str, Collection[str]]
    forbid: Callable[[Shape], None] | None
    outage: Callable[[], AbstractContextManager[None]] | None
    slowness: Callable[[], AbstractContextManager[None]] | None
    crash: Callable[[Shape, int], AbstractContextManager[Sink]] | None
    seeds: tuple[int, ...]
    huge_rows: int


@dataclass
class _Subject:
    """One target, the sinks that were opened for it, and what it has to hold."""

    world: _World
    name: str
    kind: Kind
    shape: Shape = field(init=False)
    position: Position | None = None
    _model: TargetModel = field(init=False)
    _count: int = 0
    _opened: list[Sink] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.declare(_COLUMNS, ("k", "m"))

    def declare(self, columns: Sequence[Column], key: tuple[str, ...], suffix: str = "") -> Shape:
        """Make it about an empty target with these columns."""
        is_key, has_weights = self.kind == "key", self.kind == "weights"
        self.shape = Shape(self.name + suffix, Schema(tuple(columns)), key if is_key else (), has_weights)
        self._model, self.position = TargetModel(self.shape), None
        return self.shape

    def open(self) -> Sink:
        """Open a new sink for the target, and check that it holds the last position."""
        sink = self.world.make(self.shape)
        self._opened.append(sink)
        self.expect_position(sink, sink.open())
        return sink

    def expect_position(self, sink: Sink, found: Position | None) -> None:
        """Check what `open` has returned."""
        wanted = self.position if sink.delivery == "exactly once" else None
        expect_equal(position_text(found), position_text(wanted), "the position that `open` returns")

    def next_position(self) -> Position:
        """Return a position that was never there."""
        self._count += 1
        return {"at": {'주문\'s "log"': [self._count, 2**53 + self._count]}, "none": None, "back": "\\\n🚲"}

    def write(self, sink: Sink, change: Change) -> None:
        """Write a change, and enter it into the model."""
        position = self.next_position()
        sink.write(change, position, self.position)
        self.enter(change, position)

    def enter(self, change: Change, position: Position) -> None:
        """Note that a change was written."""
        self._model.apply(change)
        self.position = position

    def check(self, what: str) -> None:
        """Compare the target with the model."""
        self._model.check(self.world.read(self.shape), what)

    def restart(self, sink: Sink, what: str) -> Sink:
        """Close a sink, open another one, check that all is there, and return it."""
        sink.close()
        self.check(what)
        return self.open()

    def change(self, rows: Sequence[Row], gone: Sequence[Row] = ()) -> Change:
        """Return a change that fits the shape. With weights, what is gone is taken back."""
        if self.kind == "weights":
            return make_change(self.shape, [*rows, *gone], weights=[*[2] * len(rows), *[-1] * len(gone)])
        return make_change(
            self.shape, rows, gone=[{name: row[name] for name in self.shape.key} for row in gone]
        )

    def model_copy(self) -> TargetModel:
        """Return a copy of the model."""
        return self._model.copy()

    def set_model(self, model: TargetModel, position: Position | None) -> None:
        """Take another state for what has to be there."""
        self._model, self.position = model, position

    def keep(self, sink: Sink) -> Sink:
        """Close a sink at the end."""
        self._opened.append(sink)
        return sink

    def abandon(self) -> None:
        """Close what was opened."""
        for sink in self._opened:
            with suppress(Exception):
                sink.close()


def _rows(start: int, count: int, *, n: int | None = None) -> list[Row]:
    """Return rows of which no two have the same key."""
    return [
        {
            "k": _KEYS[number % len(_KEYS)],
            "m": number // len(_KEYS) - 1,
            "n": number + 100 if n is None else n,
            "text": _TEXTS[number // 3 % len(_TEXTS)],
            "x": _NUMBERS[number // 2 % len(_NUMBERS)],
        }
        for number in range(start, start + count)
    ]


def _raises(
    error: type[Exception] | tuple[type[Exception], ...], what: str, call: Callable[..., object], *values: Any
) -> str:
    """Expect that a call raises this error, or a kind of it; return what it says."""
    named = getattr(error, "__name__", str(error))
    try:
        call(*values)
    except error as found:
        return str(found)
    except Exception as other:
        raise AssertionError(
            f"{what}: expected {named}, but {type(other).__name__} is raised: {other}"
        ) from other
    raise AssertionError(f"{what}: expected {named}, but nothing is raised")


def _open_only(subject: _Subject) -> None:
    with closing(subject.world.make(subject.shape)) as sink:
        sink.open()


def _refuses_shape(subject: _Subject) -> None:
    _raises(DefinitionError, "a shape that the sink does not take", _open_only, subject)


_CHECKS: Final[dict[str, Callable[[_Subject], None]]] = {}


def _check(function: Callable[[_Subject], None]) -> Callable[[_Subject], None]:
    _CHECKS[function.__name__.removeprefix("_")] = function
    return function


# --- rows and positions --------------------------------------------------------------------------------


@_check
def _empty(subject: _Subject) -> None:
    """A new target is empty; a change without rows moves the position alone."""
    sink = subject.restart(subject.open(), "a new target")
    for what in ("the first change is empty", "the second one, too"):
        subject.write(sink, subject.change([]))
        sink = subject.restart(sink, what)
    subject.write(sink, subject.change(_rows(0, 3)))
    subject.write(sink, subject.change([]))
    subject.restart(sink, "an empty change after rows")


@_check
def _rows_come(subject: _Subject) -> None:
    """Rows are there when `write` returns, each as it was given, and the position with them; also for a new sink."""
    sink = subject.open()
    at = 0
    for count in (1, 5, 200, 2, 40):
        subject.write(sink, subject.change(_rows(at, count)))
        at += count
        sink = subject.restart(sink, f"after {at} rows")
    subject.write(sink, subject.change(_rows(0, 7)))
    subject.restart(sink, "rows that were there before")


@_check
def _rows_go(subject: _Subject) -> None:
    """Rows are replaced, go, and come again; a key that goes and was not there does no harm."""
    if subject.kind == "append":
        return
    sink = subject.open()
    rows = _rows(0, 20)
    subject.write(sink, subject.change(rows))
    subject.write(sink, subject.change([], rows[:5]))
    subject.check("some are gone")
    subject.write(sink, subject.change(rows[:2], rows[5:8]))
    subject.check("some are back, others are gone")
    subject.write(sink, subject.change([{**row, "n": -1, "text": None} for row in rows[10:]], rows[8:10]))
    sink = subject.restart(sink, "others are replaced")
    subject.write(sink, subject.change(rows[12:13], _rows(500, 2)))
    subject.write(sink, subject.change([], rows[:2] + rows[10:]))
    subject.restart(sink, "all are gone")


@_check
def _nulls(subject: _Subject) -> None:
    """NULL is NULL, in keys too: one key, as any other."""
    columns = (Column("k", "VARCHAR"), Column("m", "BIGINT"), Column("n", "DOUBLE"))
    subject.declare(columns, ("k", "m"))
    keys: list[tuple[str | None, int | None]] = [
        ("a", None),
        (None, 1),
        (None, None),
        ("", 0),
        ("%N", 1),
        ("NULL", None),
    ]
    rows: list[Row] = [{"k": k, "m": m, "n": index} for index, (k, m) in enumerate(keys)]
    sink = subject.open()
    subject.write(sink, subject.change(rows))
    sink = subject.restart(sink, "NULL in some columns")
    subject.write(sink, subject.change([{**row, "n": 7} for row in rows]))
    subject.write(sink, subject.change([{"k": "b", "m": 1, "n": None}], rows[:2]))
    sink = subject.restart(sink, "replaced, and gone")
    subject.write(sink, subject.change([{**rows[0], "n": 8}], rows[2:]))
    subject.restart(sink, "one is back")


@_check
def _stale(subject: _Subject) -> None:
    """Who thinks that the target holds another position than it does writes nothing, and can be opened again."""
    first = subject.open()
    if first.delivery != "exactly once":
        return
    subject.write(first, subject.change(_rows(0, 4)))
    early, before = subject.position, subject.change(_rows(50, 3))
    second = subject.open()
    subject.write(second, subject.change(_rows(4, 4)))
    for wrong in (early, None, {"n": 1}):
        text = "a write after somebody else's"
        _raises(Unreachable, text, first.write, before, subject.next_position(), wrong)
        subject.check(text)
    subject.expect_position(first, first.open())
    subject.write(first, subject.change(_rows(8, 4)))
    _raises(Unreachable, "the other is late", second.write, before, subject.next_position(), early)
    subject.restart(first, "two writers, one after the other")


@_check
def _stale_at_first(subject: _Subject) -> None:
    """Of two that find nothing, one begins."""
    first, second = subject.open(), subject.open()
    if first.delivery != "exactly once":
        return
    subject.write(second, subject.change(_rows(0, 2)))
    change = subject.change(_rows(2, 2))
    _raises(Unreachable, "both begin", first.write, change, subject.next_position(), None)
    subject.restart(second, "one has begun")


@_check
def _accepts(subject: _Subject) -> None:
    """What it accepts, it writes; asking changes nothing. What is rejected leaves nothing behind."""
    if subject.world.forbid is not None:
        subject.world.forbid(subject.shape)
    sink = subject.open()
    subject.write(sink, subject.change(_rows(0, 6)))
    good = subject.change(_rows(3, 40), _rows(0, 2))
    expect_equal(sink.accepts(good), True, "accepts what can be written")
    subject.check("it was only asked")
    if subject.world.forbid is not None:
        forbidden = [*_rows(3, 3000), *_rows(5000, 1, n=FORBIDDEN)]
        bad = subject.change(forbidden, _rows(0, 2))
        for asked in (True, False, True):
            if asked:
                expect_equal(sink.accepts(bad), False, "accepts what cannot be written")
            else:
                _raises(
                    Rejected, "a row is refused", sink.write, bad, subject.next_position(), subject.position
                )
            subject.check("a row was refused")
    subject.write(sink, good)
    subject.restart(sink, "the rows that are accepted")


@_check
def _close_twice(subject: _Subject) -> None:
    """Closing is fine at any time: before it was opened, twice; a closed sink can be opened again."""
    never = subject.world.make(subject.shape)
    never.close()
    sink = subject.open()
    subject.write(sink, subject.change(_rows(0, 3)))
    sink.close()
    sink.close()
    subject.expect_position(sink, sink.open())
    subject.write(sink, subject.change(_rows(3, 3)))
    subject.restart(sink, "closed and opened again").close()


# --- what rows are made of -------------------------------------------------------------------------------


@_check
def _types(subject: _Subject) -> None:
    """Values of every type are held exactly, years beyond four digits among them, or the type is refused by name."""
    kinds = [*VALUES, *(kind for kind in FAR_VALUES if kind not in VALUES)]
    key = Column("k", "INTEGER", nullable=False)
    for number, kind in enumerate(kinds):
        if kind in subject.world.refused_types:
            subject.declare((key, Column("v", duckdb_type(kind))), ("k",), f"_{number}")
            said = _raises((SinkFailed, DefinitionError), f"type {kind}", _open_only, subject)
            expect(kind in said, f"type {kind} is refused, but not by its name: {said}")
    kinds = [kind for kind in kinds if kind not in subject.world.refused_types]
    subject.declare(
        (key, *(Column(f"v{number}", duckdb_type(kind)) for number, kind in enumerate(kinds))), ("k",)
    )
    sink, position = subject.open(), subject.next_position()
    given, held = {}, {}
    for kind in kinds:
        texts = [*VALUES.get(kind, ()), *FAR_VALUES.get(kind, ())]
        refused = [text for text in texts if text in subject.world.refused_values.get(kind, ())]
        others = subject.world.held_as.get(kind, {})
        given[kind] = [text for text in texts if text not in refused]
        held[kind] = [others.get(text, text) for text in given[kind]]
        for text in refused:
            bad = _of_types(subject, {**dict.fromkeys(kinds, ()), kind: [text]})
            expect(not sink.accepts(bad), f"{text} of type {kind} is refused, and accepted")
            _raises((Rejected,), f"{text} of type {kind}", sink.write, bad, position, subject.position)
    sink.write(_of_types(subject, given), position, subject.position)
    subject.enter(_of_types(subject, held), position)
    types = ", ".join(f"v{number}: {kind}" for number, kind in enumerate(kinds))
    subject.restart(sink, f"values of every type ({types})").close()


def _of_types(subject: _Subject, texts: Mapping[str, Sequence[str]]) -> Change:
    """Return rows whose columns have these values, and NULL below them."""
    count = max(map(len, texts.values())) + 1
    columns = [_values(kind, [*found, *["NULL"] * (count - len(found))]) for kind, found in texts.items()]
    keys = pa.array(range(count), pa.int32())
    schema = subject.shape.schema.to_arrow()
    return _change_of(subject, pa.Table.from_arrays([keys, *columns], schema=schema))


def _values(kind: str, texts: Sequence[str]) -> pa.ChunkedArray:
    items = ", ".join(f"CAST({text} AS {kind})" for text in texts)
    with closing(cursor()) as database:
        found = database.sql(f"SELECT unnest([{items}]) AS x").to_arrow_table().column("x")
    return found.cast(arrow_type(kind))


def _change_of(subject: _Subject, table: pa.Table) -> Change:
    if subject.kind == "weights":
        return Change(table, weights=pa.array([1] * table.num_rows, pa.int64()))
    return Change(table, gone=key_table(subject.shape, []) if subject.kind == "key" else None)


@_check
def _key_types(subject: _Subject) -> None:
    """Keys of any type that can be a key are told apart, and found again."""
    if subject.kind != "key":
        return
    for number, kind in enumerate(_KEY_TYPES):
        subject.declare((Column("v", "INTEGER"), Column("k", kind, nullable=False)), ("k",), f"_{number}")
        values = _values(kind, [text for text in VALUES[kind] if text != "'-0.0'"])
        sink = subject.open()
        for turn in (1, 2):
            turns = pa.array([turn] * len(values), pa.int32())
            table = pa.Table.from_arrays([turns, values], schema=subject.shape.schema.to_arrow())
            subject.write(sink, _change_of(subject, table))
            subject.check(f"keys of type {kind}, turn {turn}")
        gone = table.select(["k"]).slice(1)
        subject.write(sink, Change(table.slice(0, 1), gone=gone))
        subject.restart(sink, f"keys of type {kind}, of which some are gone").close()


@_check
def _names(subject: _Subject) -> None:
    """Columns may have any name, and rows any text."""
    columns = [Column(name, "VARCHAR", nullable=name not in _NAMES[:2]) for name in _NAMES]
    subject.declare(columns, _NAMES[:2])
    rows = [
        {name: (_KEYS if index < 2 else _TEXTS)[(row + index) % 8] for index, name in enumerate(_NAMES)}
        for row in range(8)
    ]
    sink = subject.open()
    subject.write(sink, subject.change(rows))
    subject.write(sink, subject.change([{**rows[0], _NAMES[2]: "another"}], rows[1:3]))
    subject.restart(sink, "columns with unusual names")


@_check
def _huge(subject: _Subject) -> None:
    """A large change is written whole; so are large values."""
    sink = subject.open()
    subject.write(sink, _change_of(subject, _many(subject.world.huge_rows, 0)))
    sink = subject.restart(sink, f"{subject.world.huge_rows} rows")
    rows = [{**row, "text": "🚲한" * 200_000} for row in _rows(0, 3)]
    subject.write(sink, subject.change(rows))
    sink = subject.restart(sink, "values of 1.4 MB")
    if subject.kind != "append":
        half = _many(subject.world.huge_rows // 2, 0)
        gone = Change(half.slice(0, 0), gone=half.select(list(subject.shape.key)))
        taken = Change(half, weights=pa.array([-1] * half.num_rows, pa.int64()))
        subject.write(sink, gone if subject.kind == "key" else taken)
        subject.restart(sink, "half of them are gone")


def _many(count: int, start: int) -> pa.Table:
    """Return many rows, each with a key of its own, made in columns."""
    names = ", ".join(quote(column.name) for column in _COLUMNS)
    with closing(cursor()) as database:
        select = f"SELECT '키' || i % 1000, i, nullif(i % 7, 0), 'text ' || i, i / 7 FROM range({start}, {start + count}) r(i)"
        table = database.sql(f"SELECT * FROM ({select}) t({names})").to_arrow_table()
    return table.cast(Schema(_COLUMNS).to_arrow())


# --- anything may happen ---------------------------------------------------------------------------------


@_check
def _random(subject: _Subject) -> None:
    """Whatever changes come, with restarts in between, the target is what they sum up to."""
    for seed in subject.world.seeds:
        chance = random.Random(seed)
        subject.declare(_COLUMNS, ("k", "m"), f"_{seed}")
        pool = _rows(0, 60)
        sink = subject.open()
        for step in range(_RANDOM_STEPS):
            chosen = chance.sample(pool, chance.choice((0, 1, 3, 30)))
            cut = chance.randrange(len(chosen) + 1)
            rows = [{**row, "n": chance.randrange(100, 104)} for row in chosen[:cut]]
            subject.write(sink, subject.change(rows, chosen[cut:]))
            if chance.random() < 0.2:
                sink = subject.restart(sink, f"seed {seed}, step {step}")
        subject.restart(sink, f"seed {seed}, at the end").close()


@_check
def _outage(subject: _Subject) -> None:
    """While the other side is not there, writes raise Unreachable; afterwards it says itself what it holds."""
    if subject.world.outage is None:
        return
    sink = subject.open()
    subject.write(sink, subject.change(_rows(0, 5)))
    change, position = subject.change(_rows(5, 5), _rows(0, 1)), subject.next_position()
    with subject.world.outage():
        _raises(Unreachable, "a write", sink.write, change, position, subject.position)
        _raises(Unreachable, "open", sink.open)
        _raises(Unreachable, "open of a new one", _open_only, subject)
    held = sink.open()
    if position_text(held) == position_text(position):
        subject.enter(change, position)
    else:
        subject.expect_position(sink, held)
        subject.write(sink, change)
    subject.restart(sink, "after an outage")


@_check
def _slow_peer(subject: _Subject) -> None:
    """However slowly the other side answers, a write is whole and there once."""
    if subject.world.slowness is None:
        return
    sink = subject.open()
    with subject.world.slowness():
        for start in range(0, 20, 5):
            change, position = subject.change(_rows(start, 5)), subject.next_position()
            for _ in range(_SLOW_TRIES):
                try:
                    sink.write(change, position, subject.position)
                except Unreachable:
                    if position_text(sink.open()) != position_text(position):
                        continue
                break
            subject.enter(change, position)
    subject.restart(sink, "after slow writes")


@_check
def _schema_change(subject: _Subject) -> None:
    """Rows with a column more are taken, or refused by the column's name; what was there stays as it was."""
    rows = _rows(0, 9)
    sink = subject.open()
    subject.write(sink, subject.change(rows[:3]))
    sink.close()
    more = Column("one more", "VARCHAR")
    wider = replace(subject.shape, schema=Schema((*_COLUMNS, more)))
    change, position = subject.change(rows[3:6]), subject.next_position()
    texts = pa.array([None, "🚲", "x"], pa.string())
    wide = replace(change, rows=change.rows.append_column(more.name, texts))
    try:
        sink = subject.keep(subject.world.make(wider))
        held = sink.open()
        sink.write(wide, position, held)
    except (DefinitionError, SinkFailed) as error:
        expect(more.name in str(error), f"a column more is refused, but not by its name: {error}")
    else:
        subject.enter(change, position)
    sink.close()
    sink = subject.open()
    subject.write(sink, subject.change(rows[6:]))
    subject.restart(sink, "after somebody came with a column more")


@_check
def _crashes(subject: _Subject) -> None:
    """Wherever its process dies, the target holds what its position says, and no less than was acknowledged."""
    if subject.world.crash is None:
        return
    if subject.kind == "append":
        subject.open().close()  # the others also die while all is new
    rows = _rows(0, 40)
    for point in range(1, _CRASH_POINTS_MAX):
        states = [(subject.model_copy(), subject.position)]
        acknowledged, is_dead = 0, False
        with subject.world.crash(subject.shape, point) as sink:
            try:
                subject.expect_position(sink, sink.open())
                for start in (point % 7, point % 11):
                    change, position = (
                        subject.change(rows[start : start + 9], rows[30:31]),
                        subject.next_position(),
                    )
                    before = subject.position
                    subject.enter(change, position)
                    states.append((subject.model_copy(), position))
                    sink.write(change, position, before)
                    acknowledged += 1
            except AssertionError:
                raise
            except Exception:  # noqa: BLE001  (whatever a dying process raises)
                is_dead = True
        sink = subject.keep(subject.world.make(subject.shape))
        held = position_text(sink.open())
        allowed = [state for state in states[acknowledged:] if position_text(state[1]) == held]
        expect(
            bool(allowed),
            f"after a crash at point {point} the position is {held}, {acknowledged} writes of {states}",
        )
        subject.set_model(*allowed[-1])
        subject.restart(sink, f"after a crash at point {point}").close()
        if not is_dead:
            return
    raise AssertionError(f"still dying after {_CRASH_POINTS_MAX} points")


SINK_CHECKS: Final = tuple(_CHECKS)
"""The names of the checks that `check_sink` runs, in order."""
