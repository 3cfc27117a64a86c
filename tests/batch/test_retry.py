"""What is tried again, when, and for how long; which rows are left out, and how many."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bourne.batch.retry import NEVER, Retry, retry, skip
from bourne.errors import BourneError, DefinitionError, InputError, Rejected, Unreachable


def delays(policy: Retry, error: BaseException, *, random: float = 0.5) -> list[float]:
    """Return all delays, on a clock that moves by them."""
    found: list[float] = []
    while (
        len(found) < 10_000
        and (delay := policy.delay(error, attempt=len(found) + 1, elapsed_s=sum(found), random=random))
        is not None
    ):
        found.append(delay)
    return found


def test_each_delay_is_longer_up_to_the_longest():
    policy = retry(6, delay="1 second", factor=3, longest="20 seconds", jitter=0)
    assert delays(policy, Unreachable("away")) == [1, 3, 9, 20, 20, 20]


def test_the_total_ends_it():
    assert delays(retry(100, delay="1 second", factor=1, total="3 seconds"), Unreachable("away")) == [1, 1, 1]


@pytest.mark.parametrize(("random", "expected"), [(0.0, 0.8), (0.5, 1.0), (0.999999, 1.2)])
def test_jitter_is_a_share_to_either_side(random, expected):
    policy = retry(1, delay="1 second", jitter=0.2)
    assert delays(policy, TimeoutError(), random=random) == [pytest.approx(expected, abs=1e-5)]


@pytest.mark.parametrize(
    "error", [Unreachable("away"), ConnectionError(), ConnectionResetError(), TimeoutError()]
)
def test_by_default_who_is_away_is_tried_again(error):
    assert len(delays(retry(5), error)) == 5 and delays(NEVER, error) == []


@pytest.mark.parametrize("error", [ValueError(), InputError("no"), OSError(), KeyboardInterrupt()])
def test_and_nothing_else_is(error):
    assert delays(retry(5), error) == []


def test_other_errors_are_tried_again_if_they_are_named():
    assert len(delays(retry(2, on=ValueError), UnicodeDecodeError("utf-8", b"", 0, 1, ""))) == 2
    assert delays(retry(2, on=[ValueError, KeyError]), Unreachable("away")) == []


def test_a_thousand_attempts_are_no_overflow():
    assert len(delays(retry(3000, delay="0 seconds"), TimeoutError())) == 3000
    assert len(delays(retry(3000, delay="1 second", total="1000000 seconds"), TimeoutError())) == 3000


@given(st.integers(0, 50), st.floats(1, 10), st.floats(0, 0.99), st.floats(0, 1, exclude_max=True))
def test_it_always_ends_and_never_waits_longer_than_it_says(times, factor, jitter, random):
    found = delays(
        retry(times, factor=factor, jitter=jitter, longest="7 seconds", total="60 seconds"),
        TimeoutError(),
        random=random,
    )
    assert len(found) <= times and sum(found) <= 60
    assert all(delay <= 7 * (1 + jitter) for delay in found)


@pytest.mark.parametrize("wrong", [
    {"times": -1}, {"factor": 0.5}, {"jitter": 1.0}, {"jitter": -0.1}, {"delay": "soon"}, {"on": int}, {"on": [ValueError, "x"]},
    {"on": KeyboardInterrupt},
])  # fmt: skip
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(DefinitionError):
        retry(**wrong)


# --- skip ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bound", "skipped", "read", "allowed"), [
    (3, 3, 3, True), (3, 4, 10**9, False), ("1%", 10, 1000, True), ("1%", 11, 1000, False), ("100%", 5, 5, True), ("0.1%", 1, 999, False),
    ("0%", 1, 10**9, False), (0, 1, 10**9, False),
])  # fmt: skip
def test_a_bound_is_a_number_or_a_share_of_all(bound, skipped, read, allowed):
    assert skip(bound).allows(skipped, read, is_all=True) is allowed


def test_a_share_does_not_end_it_at_the_first_rows():
    assert skip("1%").allows(10, 10) and not skip("1%").allows(11, 11)


@pytest.mark.parametrize("error", [InputError("x"), Rejected("x"), ValueError(), ZeroDivisionError()])
def test_by_default_values_may_be_wrong(error):
    assert skip(1).is_for(error) and not skip(0).is_for(error)


@pytest.mark.parametrize("error", [Unreachable("x"), KeyError(), TypeError(), BourneError("x")])
def test_and_the_code_may_not(error):
    assert not skip(1).is_for(error)
    assert skip(1, on=type(error)).is_for(error)


@pytest.mark.parametrize("bound", [-1, "1", "-1%", "101%", "%", "nan%", "few"])
def test_what_is_no_bound_is_refused(bound):
    with pytest.raises(DefinitionError, match="no bound of rows"):
        skip(bound)


@pytest.mark.parametrize(("bound", "text"), [(1000, "1,000"), ("1%", "1.00% of what is read"), (0, "0")])
def test_it_says_itself(bound, text):
    assert str(skip(bound)) == text
