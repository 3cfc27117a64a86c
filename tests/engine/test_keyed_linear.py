"""A filter over an aggregate says how many groups pass it, at any time, without counting them anew."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from bourne.duck import connect
from bourne.engine.delta import KeyedDelta, table_of
from bourne.engine.kernels.stage import Stage
from bourne.engine.operators.linear import KeyedLinear

DATABASE = connect()

# Of some keys the new row's value; None: the row is gone.
STEPS = st.lists(st.dictionaries(st.integers(0, 9), st.none() | st.integers(-2, 2), min_size=1), max_size=8)


def positive() -> KeyedLinear:
    return KeyedLinear(Stage(DATABASE, "SELECT c0, __key FROM {input} WHERE c0 > 0"))


@settings(derandomize=True, max_examples=50, deadline=None)
@given(STEPS)
def test_rows_are_the_keys_that_pass(steps: list[dict[int, int | None]]) -> None:
    operator, there = positive(), dict[int, int | None]()
    for step in steps:
        values = pa.array(list(step.values()), pa.int64())
        weights = np.array([-1 if value is None else 1 for value in step.values()], np.int8)
        operator.step(KeyedDelta(table_of([values]), np.array(list(step), np.int64), weights))
        there |= step
        expected = sum(value is not None and value > 0 for value in there.values())
        assert operator.rows == expected
    again = positive()
    again.load(operator.save())
    assert again.rows == operator.rows
