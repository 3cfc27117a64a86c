"""A clock that only moves when told to."""

from __future__ import annotations


class SimulatedClock:
    """An implementation of the `Clock` port.

    >>> clock = SimulatedClock(1_000)
    >>> clock.advance(5)
    >>> clock.now_us()
    1005
    """

    def __init__(self, now_us: int = 0) -> None:
        """Start at `now_us`, in microseconds since 1970-01-01 UTC."""
        self._now_us = now_us

    def now_us(self) -> int:
        """Return microseconds since 1970-01-01 UTC."""
        return self._now_us

    def advance(self, us: int) -> None:
        """Move on by `us` microseconds; a negative number turns the clock back, as real clocks do."""
        self._now_us += us

    def __repr__(self) -> str:
        return f"SimulatedClock({self._now_us})"
