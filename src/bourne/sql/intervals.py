"""Constant intervals in a text: so many months, or so many microseconds, never both."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from bourne.duck import cursor


@dataclass(frozen=True, slots=True)
class Interval:
    """A length of time: months, or microseconds."""

    months: int
    us: int

    @property
    def sql(self) -> str:
        """The interval as DuckDB reads it."""
        return f"to_months({self.months})" if self.months else f"to_microseconds({self.us})"

    @property
    def is_zero(self) -> bool:
        """Whether it has no length."""
        return not (self.months or self.us)

    def times(self, count: int) -> Interval:
        """Return it so many times."""
        return Interval(self.months * count, self.us * count)

    def divided_by(self, other: Interval) -> int | None:
        """Return how often the other one, which is not zero, fits in exactly; None if it does not."""
        if bool(self.months) != bool(other.months):
            return None
        count, rest = divmod(self.months or self.us, other.months or other.us)
        return None if rest or not count else count


class NoInterval(ValueError):
    """What is wrong with an interval, said of "it", and what to write instead."""

    def __init__(self, what: str, hint: str = "write for example INTERVAL '10 seconds'") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


def signed_us(text: str) -> int:
    """Return the length of an interval of fixed length, of either sign, in microseconds.

    Raises:
        NoInterval: it is none, or has months.
    """
    negated = f"(-({text}))"
    for sign, each in ((1, text), (-1, negated)):
        try:
            found = read_interval(each, is_positive=False)
        except NoInterval:
            if sign < 0:
                raise
            continue
        if found.months:
            raise NoInterval("has months, which have no fixed length")
        return sign * found.us
    raise NoInterval("is none")


def read_interval(text: str, *, is_positive: bool = True) -> Interval:
    """Return the interval that a text, SQL, stands for.

    Raises:
        NoInterval: it is none, or one that mixes months with fixed lengths, or one below zero; or zero.
    """
    query = f"""SELECT (datepart('year', i) * 12 + datepart('month', i))::BIGINT AS months,
        epoch_us(i - to_months(months::INTEGER)) FROM (SELECT ({text})::INTERVAL AS i)"""
    try:
        months, us = cursor().execute(query).fetchall()[0]
    except duckdb.Error as error:
        raise NoInterval(f"is not a constant interval: {str(error).splitlines()[0]}") from error
    if months is None:
        raise NoInterval("is NULL")
    if months and us:
        raise NoInterval(
            "is neither of fixed length nor whole months",
            "write months and years, or weeks, days, hours …, but not both",
        )
    if (months or us) < 0 or (is_positive and not (months or us)):
        raise NoInterval("is not above zero" if is_positive else "is below zero")
    return Interval(months, us)
