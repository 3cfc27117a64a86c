"""What is tried again, and what is passed over: pure decisions. Who acts on them is `bourne.jobs`.

Law: nothing is tried without a bound, and nothing is left out without a trace: what is skipped is a dead letter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bourne.errors import BourneError, DefinitionError, InputError, Rejected, Unreachable
from bourne.limits import DEAD_RATE_RECORDS, RETRY_S_MAX
from bourne.schema import interval_us

Errors = tuple[type[BaseException], ...]


@dataclass(frozen=True, slots=True)
class Retry:
    """Which errors are tried again, how often, after which delays, and for how long in all."""

    on: Errors = (Unreachable, ConnectionError, TimeoutError)
    times: int = 5
    delay_s: float = 0.2
    factor: float = 2.0
    jitter: float = 0.2
    delay_s_max: float = RETRY_S_MAX
    total_s: float = 300.0

    def delay(self, error: BaseException, *, attempt: int, elapsed_s: float, random: float) -> float | None:
        """Return how many seconds to wait before the next attempt; None if there is to be none.

        Args:
            error: what the last attempt failed with.
            attempt: which one that was, from 1.
            elapsed_s: how long ago the first one began.
            random: of [0, 1): where in the jitter.
        """
        if not isinstance(error, self.on) or attempt > self.times:
            return None
        try:
            plain = min(self.delay_s * self.factor ** (attempt - 1), self.delay_s_max)
        except OverflowError:  # after a thousand attempts
            plain = self.delay_s_max if self.delay_s else 0.0
        delay = plain * (1 + self.jitter * (2 * random - 1))
        return None if elapsed_s + delay > self.total_s else delay


@dataclass(frozen=True, slots=True)
class Skip:
    """Which errors of single rows are passed over, and how many of them at most, in the whole step."""

    on: Errors = (InputError, Rejected, ValueError, ArithmeticError)
    most: int = 0
    share: float = 0.0

    def is_for(self, error: BaseException) -> bool:
        """Say whether rows that fail like this may be left out."""
        return isinstance(error, self.on) and (self.most > 0 or self.share > 0)

    def allows(self, skipped: int, read: int, *, is_all: bool = False) -> bool:
        """Say whether so many of so many rows may be left out. Before `is_all` of them are read, a share is one of some more:
        a wrong row among the first is no tenth of the input, and how large the first chunk is does not matter.
        """
        return skipped <= max(self.most, self.share * (read if is_all else max(read, DEAD_RATE_RECORDS)))

    def __str__(self) -> str:
        bounds = [f"{self.most:,}"] if self.most or not self.share else []
        return " or ".join([*bounds, *([f"{self.share:.2%} of what is read"] if self.share else [])])


NEVER = Retry(times=0)


def retry(
    times: int = 5, *, on: type[BaseException] | Sequence[type[BaseException]] = (), delay: str = "200 milliseconds",
    factor: float = 2.0, jitter: float = 0.2, longest: str = "30 seconds", total: str = "5 minutes",
) -> Retry:  # fmt: skip
    """Say what is tried again when it fails.

    Args:
        times: how often at most, after the first attempt; 0 for never.
        on: which errors; by default what says that the other side is not there (`Unreachable`, `ConnectionError`,
            `TimeoutError`). A task that fails is run whole again.
        delay: before the second attempt.
        factor: by how much each delay is longer than the one before.
        jitter: by which share a delay is longer or shorter at random, so that not all come back at once.
        longest: no delay is longer.
        total: when so much time would have passed since the first attempt, it is given up.

    Raises:
        DefinitionError: that cannot be.
    """
    where = "retry"
    if times < 0 or factor < 1 or not 0 <= jitter < 1:
        raise DefinitionError(
            "no way to try again", where=where, expected="times >= 0, factor >= 1, 0 <= jitter < 1",
            found=f"times={times}, factor={factor}, jitter={jitter}",
        )  # fmt: skip
    seconds = [interval_us(text, where=where) / 1e6 for text in (delay, longest, total)]
    return Retry(_errors(on, where) or Retry().on, times, seconds[0], factor, jitter, seconds[1], seconds[2])


def skip(most: int | str, *, on: type[BaseException] | Sequence[type[BaseException]] = ()) -> Skip:
    """Say which rows are left out instead of failing the step; each becomes a dead letter with its reason and origin.

    Args:
        most: how many in the whole step, or which share of what it reads: `100`, `"1%"`.
        on: for which errors; by default what a value can be wrong in: rows that do not fit their columns, that the other
            side refuses, `ValueError`, `ArithmeticError`.

    Raises:
        DefinitionError: that cannot be.
    """
    where = "skip"
    try:
        share = float(most.removesuffix("%")) / 100 if isinstance(most, str) else 0.0
    except ValueError:
        share = -1.0
    count = most if isinstance(most, int) else 0
    if not 0 <= share <= 1 or count < 0 or (isinstance(most, str) and not most.endswith("%")):
        raise DefinitionError("no bound of rows to skip", where=where, expected="a number, or a percentage such as '1%'",
                              found=repr(most))  # fmt: skip
    return Skip(_errors(on, where) or Skip().on, count, share)


def _errors(given: type[BaseException] | Sequence[type[BaseException]], where: str) -> Errors:
    found = (given,) if isinstance(given, type) else tuple(given)
    for each in found:
        if not (isinstance(each, type) and issubclass(each, Exception | BourneError)):
            raise DefinitionError("no error", where=where, expected="a class of exceptions", found=repr(each))
    return found
