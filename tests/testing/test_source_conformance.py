"""`check_source` passes a source that keeps its promises, and names what one does not keep."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from bourne.connect.source import DeadLetter, Lag, Taken
from bourne.log.catalog import LogInfo
from bourne.schema import conform, declare_schema
from bourne.testing import SOURCE_CHECKS, check_source
from waiting import until

LOG = LogInfo("numbers", declare_schema({"n": "bigint"}, where="test"))


SLOW = threading.Event()


class Numbers:
    """A source of what is in a list, some at a time; what is no number is a dead letter."""

    delivery = "exactly once"
    name = "numbers"

    def __init__(self, there: list[Any]) -> None:
        self.there = there
        self.stopped = threading.Event()
        self.at = 0

    def read(self, position: Any, partitions: dict[int, Any]) -> Iterator[Taken | None]:
        self.at = self.start(position)
        while not self.stopped.wait(0.001):
            some = self.there[self.at : self.at + 10]
            if not some:
                yield None
                continue
            rows = conform([{"n": each} for each in some if isinstance(each, int)], LOG.schema, log=LOG.name)
            places = enumerate(some, self.at)
            dead = tuple(
                DeadLetter(self.origin(at), "no number", each.encode())
                for at, each in places
                if isinstance(each, str)
            )
            self.at += len(some)
            yield Taken(rows, self.position(), dead=dead)

    def start(self, position: Any) -> int:
        return 0 if position is None else int(position["at"])

    def position(self) -> Any:
        return {"at": self.at}

    def origin(self, at: int) -> str:
        return f"number {at}"

    def confirm(self, position: Any) -> None:
        pass

    def lag(self) -> Lag:
        return Lag(records=len(self.there) - self.at)

    def stop(self) -> None:
        self.stopped.set()


class BeginsAnew(Numbers):
    def start(self, position: Any) -> int:
        return 0


class SkipsOne(Numbers):
    def start(self, position: Any) -> int:
        return 0 if position is None else int(position["at"]) + 1


class IsAhead(Numbers):
    """Forgets on the other side what it hands over, before it is confirmed."""

    def position(self) -> Any:
        del self.there[: self.at]
        self.at = 0
        return {"at": 0}


class SpeaksNoJson(Numbers):
    def position(self) -> Any:
        return {"at": self.at, "some": (1, 2)}


class PassesOverWiderOnes(Numbers):
    """What has a column more is neither a record nor a letter."""

    def read(self, position: Any, partitions: dict[int, Any]) -> Iterator[Taken | None]:
        for part in super().read(position, partitions):
            yield part if part is None else Taken(part.rows, part.position)


class GivesUpWaiting(Numbers):
    """Takes what does not come at once for nothing."""

    def start(self, position: Any) -> int:
        at = super().start(position)
        return len(self.there) if SLOW.is_set() else at


class DoesNotStop(Numbers):
    over = threading.Event()  # of the test, so that no thread outlives it

    def stop(self) -> None:
        if self.over.is_set():
            super().stop()

    def read(self, position: Any, partitions: dict[int, Any]) -> Iterator[Taken | None]:
        for part in super().read(position, partitions):
            self.stop()
            yield part


def run(kind: type[Numbers], check: str) -> None:
    there: list[Any] = []
    wider = threading.Event()
    made = 0

    def produce(count: int) -> list[dict[str, Any]]:
        nonlocal made
        numbers = range(made, made + count)
        made += count
        there.extend(f"{number} and more" if wider.is_set() else number for number in numbers)
        return [{"n": number} for number in numbers]

    @contextmanager
    def slowness() -> Iterator[None]:
        SLOW.set()
        yield
        SLOW.clear()

    bad = iter("abcdefgh")
    check_source(
        lambda: kind(there), LOG, produce, only=[check], produce_bad=lambda: there.append(next(bad) + "x"),
        add_column=wider.set, slowness=slowness,
    )  # fmt: skip


@pytest.mark.parametrize("check", SOURCE_CHECKS)
def test_a_source_that_keeps_its_promises_passes(check: str) -> None:
    run(Numbers, check)


@pytest.mark.parametrize(
    ("kind", "check", "said"),
    [
        (BeginsAnew, "nothing_new", "came twice"),
        (SkipsOne, "ends_before_it_is_told", "are missing|is found to be complete"),
        (IsAhead, "ends_before_it_is_kept", "are missing"),
        (SpeaksNoJson, "records_come", "written as JSON"),
        (DoesNotStop, "stop_ends_it", "has not ended"),
        (PassesOverWiderOnes, "schema_change", "records that did not come"),
        (GivesUpWaiting, "slow_peer", "are missing|is found to be complete"),
    ],
)
def test_a_source_that_does_not_is_told_so(
    kind: type[Numbers], check: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bourne.testing.source_conformance._PATIENCE_S", 0.5)
    monkeypatch.setattr("bourne.testing.source_conformance._STOP_S", 0.3)
    DoesNotStop.over.clear()
    with pytest.raises(AssertionError, match=f"{check}: .*({said})"):
        run(kind, check)
    DoesNotStop.over.set()
    until(lambda: not any("(read)" in thread.name for thread in threading.enumerate()))


def test_a_check_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="no such checks: nobody"):
        run(Numbers, "nobody")


def test_what_it_cannot_ask_of_a_source_that_delivers_at_most_once_it_says():
    class Once(Numbers):
        delivery = "at most once"

    there: list[Any] = []
    with pytest.raises(ValueError, match="at most once cannot promise: outage"):
        check_source(lambda: Once(there), LOG, lambda count: [], only=["outage", "records_come"])
