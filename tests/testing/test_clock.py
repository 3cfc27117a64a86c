"""The simulated clock."""

from __future__ import annotations

from bourne.testing import SimulatedClock


def test_it_moves_only_when_told_to() -> None:
    clock = SimulatedClock(5)
    assert clock.now_us() == clock.now_us() == 5
    clock.advance(10)
    clock.advance(-3)
    assert clock.now_us() == 12
    assert repr(clock) == "SimulatedClock(12)"
