"""What every source must do, wherever it reads: the promises of `bourne.connect.source`, each as a check with a name.

The checks do what the intake of an app does: they keep a part and its position together or not at all, tell the source, and
ask for more; and they do what becomes of apps: they end at every step, and begin anew with what was kept.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final

from bourne.connect.source import Source, Taken
from bourne.errors import DefinitionError, InputError, SourceFailed, Unreachable
from bourne.log.catalog import LogInfo
from bourne.schema import conform
from bourne.testing.ledger import expect, expect_equal

Row = dict[str, Any]

_POSITION_BYTES_MAX: Final = 64 << 10
_PATIENCE_S: Final = 60.0
_STOP_S: Final = 10.0


@dataclass(frozen=True)
class _World:
    """What the implementation has supplied."""

    make: Callable[[], Source]
    log: LogInfo
    produce: Callable[[int], Sequence[Row]]
    produce_bad: Callable[[], object] | None
    add_column: Callable[[], object] | None
    outage: Callable[[], AbstractContextManager[None]] | None
    slowness: Callable[[], AbstractContextManager[None]] | None
    seeds: tuple[int, ...]


def check_source(
    make: Callable[[], Source],
    log: LogInfo,
    produce: Callable[[int], Sequence[Row]],
    *,
    only: Collection[str] | None = None,
    produce_bad: Callable[[], object] | None = None,
    add_column: Callable[[], object] | None = None,
    outage: Callable[[], AbstractContextManager[None]] | None = None,
    slowness: Callable[[], AbstractContextManager[None]] | None = None,
    seeds: Sequence[int] = (1, 2, 3),
) -> None:
    """Check that the sources that `make` returns keep the promises of `bourne.connect.source.Source`.

    Of a source that says that it delivers at most once nothing is asked again that was handed over: the checks in which
    a part is not kept, or of which the other side is to be away, are passed over. To ask for one of them by `only` is an error.

    Args:
        make: returns a new source of the same name over the same other side, not begun.
        log: the log that it is to fill.
        produce: puts so many new records on the other side, and returns them as the log is to have them; columns that are
            missing there are not compared.
        only: the names of the checks to run, of `SOURCE_CHECKS`; by default all.
        produce_bad: puts something there that cannot be taken in, and has to become a dead letter.
        add_column: gives what is produced from now on a column more than the log has.
        outage: while its block runs, the other side is not there.
        slowness: while its block runs, the other side answers slowly.
        seeds: of what happens at random.

    Raises:
        AssertionError: names the check, and what was expected and found.
        ValueError: `only` names a check that there is not, or that such a source cannot pass.
    """
    unknown = set(only or ()) - set(_CHECKS)
    if unknown:
        raise ValueError(f"no such checks: {', '.join(sorted(unknown))}")
    world = _World(make, log, produce, produce_bad, add_column, outage, slowness, tuple(seeds))
    possible = frozenset(_CHECKS) if _repeats(world) else _OF_ALL
    if passed_over := set(only or ()) - possible:
        raise ValueError(f"what delivers at most once cannot promise: {', '.join(sorted(passed_over))}")
    subject = _Subject(world)  # one for all checks: what came before stays where it is
    for name, check in _CHECKS.items():
        if name in possible and (only is None or name in only):
            try:
                subject.catch_up()
                check(subject)
            except AssertionError as error:
                raise AssertionError(f"check_source: {name}: {error}") from error
            except Exception as error:
                raise AssertionError(
                    f"check_source: {name}: {type(error).__name__} is raised: {error}"
                ) from error


@dataclass
class _Subject:
    """What would be in the log: records, letters, positions."""

    world: _World
    position: Any = None
    positions: dict[int, Any] = field(default_factory=dict)
    taken: Counter[str] = field(default_factory=Counter)
    expected: Counter[str] = field(default_factory=Counter)
    letters: dict[str, bytes] = field(default_factory=dict)
    columns: tuple[str, ...] = ()

    def produce(self, count: int) -> None:
        rows = self.world.produce(count)
        expect_equal(len(rows), count, "records that were produced (a fault of the test)")
        self.columns = tuple(sorted(rows[0])) if rows else self.columns
        self.expected.update(self._text(row) for row in rows)

    def _text(self, row: Row) -> str:
        return json.dumps(
            {name: row.get(name) for name in self.columns}, default=str, ensure_ascii=False, sort_keys=True
        )

    def keep(self, part: Taken) -> None:
        """Keep a part and its position, as one write does."""
        text = json.dumps(part.position)
        expect(
            len(text) <= _POSITION_BYTES_MAX,
            f"a position of {len(text):,} bytes is too large for every frame",
        )
        kept = json.loads(text)
        expect_equal(kept, part.position, "a position, written as JSON and read again")
        if part.partition is None:
            self.position = kept
        else:
            expect(0 <= part.partition < self.world.log.partitions, f"there is no partition {part.partition}")
            self.positions[part.partition] = kept
            self.position = kept
        if part.rows is not None:
            fitted = conform(part.rows, self.world.log.schema, log=self.world.log.name)
            self.taken.update(self._text(row) for row in fitted.to_pylist())
        for letter in part.dead:
            known = self.letters.setdefault(letter.origin, letter.data)
            expect_equal(letter.data, known, f"the bytes of the letter from {letter.origin}")

    def run(self, *, parts: int | None = None, confirms: bool = True, drops: bool = False) -> int:
        """Take in what is there, or so many parts; return how many. With `drops` the last part is not kept any more."""
        source, count = self.world.make(), 0
        deadline = time.monotonic() + _PATIENCE_S
        try:
            with closing(_parts(source, self)) as reading:
                for part in reading:
                    expect(
                        time.monotonic() < deadline,
                        f"nothing is found to be complete within {_PATIENCE_S:g} s",
                    )
                    if part is None:
                        if _is_done(source) or self.taken == self.expected:
                            return count
                        continue
                    count += 1
                    if drops and count == parts:
                        return count
                    self.keep(part)
                    if confirms:
                        source.confirm(part.position)
                    if count == parts:
                        return count
        finally:
            source.stop()
        return count

    def catch_up(self) -> None:
        """Take in everything, again and again while the other side is away."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                self.run()
            except Unreachable:
                expect(time.monotonic() < deadline, f"the other side is not reached within {_PATIENCE_S:g} s")
                continue
            if self.taken == self.expected or time.monotonic() > deadline:
                break
        self.compare()

    def compare(self) -> None:
        missing, more = self.expected - self.taken, self.taken - self.expected
        expect(not missing, f"records are missing: {list(missing)[:3]} ({missing.total():,} in all)")
        expect(not more, f"records came twice, or from nowhere: {list(more)[:3]} ({more.total():,} in all)")


def _parts(source: Source, subject: _Subject) -> Any:
    yield from source.read(subject.position if not subject.positions else None, dict(subject.positions))


def _is_done(source: Source) -> bool:
    lag = source.lag()
    return 0 in (lag.records, lag.bytes)


_CHECKS: dict[str, Callable[[_Subject], None]] = {}


def _check(check: Callable[[_Subject], None]) -> Callable[[_Subject], None]:
    _CHECKS[check.__name__.strip("_")] = check
    return check


@_check
def _records_come(subject: _Subject) -> None:
    """What is there comes, once; then it says that there is nothing, and that it is not behind."""
    for count in (1, 7, 300):
        subject.produce(count)
        subject.catch_up()


@_check
def _nothing_new(subject: _Subject) -> None:
    """Who begins where everything is taken in gets nothing again."""
    subject.produce(5)
    subject.catch_up()
    for _ in range(3):
        subject.run()
        subject.compare()


@_check
def _ends_before_it_is_kept(subject: _Subject) -> None:
    """A part that was handed over and not kept comes again."""
    for number in (1, 2, 3):
        subject.produce(40)
        subject.run(parts=number, drops=True)
    subject.catch_up()


@_check
def _ends_before_it_is_told(subject: _Subject) -> None:
    """A part that was kept does not come again, though the source never heard of it."""
    for number in (1, 2, 3):
        subject.produce(40)
        subject.run(parts=number, confirms=False)
    subject.catch_up()


@_check
def _ends_anywhere(subject: _Subject) -> None:
    """The same at random, while records come."""
    for seed in subject.world.seeds:
        rng = random.Random(seed)
        for _ in range(8):
            subject.produce(rng.randint(1, 60))
            subject.run(parts=rng.randint(1, 3), drops=rng.random() < 0.4, confirms=rng.random() < 0.6)
        subject.catch_up()


@_check
def _records_come_while_it_reads(subject: _Subject) -> None:
    """What is put there while it waits comes without a new beginning."""
    subject.produce(3)
    source = subject.world.make()
    deadline = time.monotonic() + _PATIENCE_S
    waits = 0
    try:
        with closing(_parts(source, subject)) as reading:
            for part in reading:
                expect(time.monotonic() < deadline, "what came while it was read does not come")
                if part is not None:
                    subject.keep(part)
                    source.confirm(part.position)
                elif subject.taken == subject.expected:
                    waits += 1
                    if waits == 4:
                        break
                    subject.produce(3)
    finally:
        source.stop()
    expect(waits == 4, "reading has ended though the source is not stopped")
    subject.compare()


@_check
def _stop_ends_it(subject: _Subject) -> None:
    """`stop`, from another thread, ends reading soon; twice does no harm."""
    source = subject.world.make()
    ended = threading.Event()

    def read() -> None:
        with closing(_parts(source, subject)) as reading:
            for part in reading:
                if part is not None:
                    subject.keep(part)
        ended.set()

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    source.stop()
    source.stop()
    expect(ended.wait(_STOP_S), f"reading has not ended {_STOP_S:g} s after it was told to stop")
    thread.join()


@_check
def _bad_ones_are_told(subject: _Subject) -> None:
    """What cannot be taken in is a dead letter, the same one when it comes again, and the others go on."""
    if subject.world.produce_bad is None:
        return
    before = len(subject.letters)
    subject.produce(3)
    subject.world.produce_bad()
    subject.produce(3)
    subject.run(parts=1, drops=True)
    subject.catch_up()
    expect_equal(len(subject.letters) - before, 1, "dead letters")


@_check
def _outage(subject: _Subject) -> None:
    """While the other side is away it says so, or waits; then it goes on where it was."""
    if subject.world.outage is None:
        return
    subject.produce(30)
    subject.run(parts=1)
    with subject.world.outage() or nullcontext():
        source = subject.world.make()
        deadline = time.monotonic() + _STOP_S
        try:
            with closing(_parts(source, subject)) as reading:
                for part in reading:
                    if part is not None:
                        subject.keep(part)
                    if time.monotonic() > deadline:
                        break
        except Unreachable:
            pass  # as it should
        finally:
            source.stop()
    subject.produce(10)
    subject.catch_up()


@_check
def _slow_peer(subject: _Subject) -> None:
    """However slowly the other side answers, each record comes once."""
    if subject.world.slowness is None:
        return
    subject.produce(50)
    subject.run(parts=1)
    with subject.world.slowness():
        subject.run(parts=1, drops=True)
        subject.produce(20)
        subject.catch_up()


@_check
def _schema_change(subject: _Subject) -> None:
    """When the other side gets a column more, no record is lost: it comes, is a dead letter, or the source stops and says so."""
    if subject.world.add_column is None:
        return
    subject.produce(5)
    subject.catch_up()
    before = len(subject.letters)
    subject.world.add_column()
    subject.produce(6)
    for _ in range(2):  # what it says once, it says again
        try:
            while subject.run():
                pass
        except (SourceFailed, InputError, DefinitionError):
            expect(not subject.taken - subject.expected, "records came twice, or from nowhere")
            continue
        missing = (subject.expected - subject.taken).total()
        expect_equal(missing, len(subject.letters) - before, "records that did not come, and dead letters")
        expect(not subject.taken - subject.expected, "records came twice, or from nowhere")


# What a source can promise that does not repeat what it handed over.
_OF_ALL: Final = frozenset({"records_come", "nothing_new", "records_come_while_it_reads", "stop_ends_it"})


def _repeats(world: _World) -> bool:
    source = world.make()
    source.stop()
    return source.delivery != "at most once"


SOURCE_CHECKS: Final = tuple(_CHECKS)
"""The names of all checks."""
