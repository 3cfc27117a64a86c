"""Runs that die between any two steps of writing: before or after the n-th of them, as by a crash."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from bourne.errors import JobFailed
from bourne.jobs import chunk_step
from connect.sink_reading import STRIDE


class Crash(Exception):
    """Nothing tries again after this."""


class Crashes:
    """Raises at one of the points that it is told of."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._left = -1
        original = chunk_step.open_target

        def opened(*arguments: Any, **options: Any) -> Any:
            target = original(*arguments, **options)
            for owner, name in (
                (target.sink, "write"),
                (target, "finish"),
                (getattr(target, "_tables", None), "switch"),
            ):
                if owner is not None:
                    setattr(owner, name, self._around(getattr(owner, name)))
            return target

        monkeypatch.setattr(chunk_step, "open_target", opened)

    def at(self, point: int) -> None:
        """Crash at such a point from now on; never, if it is below 0."""
        self._left = point

    def _around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            self._point()
            result = function(*arguments, **options)
            self._point()
            return result

        return called

    def _point(self) -> None:
        self._left -= 1
        if self._left == -1:
            raise Crash("as asked")


def at_every_point(
    crashes: Crashes, open_app: Callable[[int], Any], check: Callable[[int], None], *, first: int = 0
) -> int:
    """Run a job to its end, crashing once at each point; return how many points there are, or a little more.

    In the daily suite each third point is tried: who has several cases lets them begin at different ones (`first`).

    `open_app(n)` is an instance for the n-th time, with a job `load(run)`; `check(n)` looks at what is there then.
    """
    for point in itertools.count(first % STRIDE, STRIDE):
        is_dead = False
        with open_app(point) as shop:
            crashes.at(point)
            try:
                shop.jobs.start("load", run=1)
            except JobFailed:
                is_dead = True
        crashes.at(-1)
        if is_dead:
            with open_app(point) as shop:
                run = shop.jobs.start("load", run=1)
                assert run.status == "COMPLETED", point
        check(point)
        if not is_dead:
            return point
    raise AssertionError("without end")
