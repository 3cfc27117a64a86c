"""Which accumulator an aggregate function has, if any."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from bourne.engine.operators.accumulators import Accumulator, Average, Booleans, Count, FloatSum, WholeSum
from bourne.engine.operators.extremes import make_extreme


def make_accumulator(
    function: str, arguments: Sequence[pa.DataType], target: pa.DataType, *, is_growing: bool
) -> Accumulator | None:
    """Return a new accumulator for a bound aggregate function, or None if there is none.

    `is_growing` says that no row will be taken back: then also those will do that only add.
    """
    argument = arguments[0] if len(arguments) == 1 else None
    if function in ("count_star", "count") and len(arguments) <= 1:
        return Count()
    if argument is None:
        return None
    is_whole = (
        pa.types.is_integer(argument) or pa.types.is_boolean(argument) or pa.types.is_decimal128(argument)
    )
    if function == "sum" and is_whole and pa.types.is_decimal128(target):
        return WholeSum(argument, target)
    if function == "avg" and is_whole and pa.types.is_float64(target):
        return Average(argument, WholeSum(argument, target))
    if function in ("bool_and", "bool_or") and pa.types.is_boolean(argument):
        return Booleans(is_and=function == "bool_and")
    if function in ("min", "max") and target == argument:
        return make_extreme(target, is_max=function == "max", is_growing=is_growing)
    if not is_growing:
        return None
    if function in ("sum", "avg") and pa.types.is_float64(argument) and pa.types.is_float64(target):
        return FloatSum() if function == "sum" else Average(argument, FloatSum())
    return None
