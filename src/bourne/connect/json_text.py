"""Python values as JSON text, exactly: a decimal keeps all its digits and stays a number.

JSON has no NaN and no infinities: they are the texts "NaN", "Infinity", "-Infinity". What JSON does not have at all
(dates, times, bytes, intervals) is text, as DuckDB writes it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

# A number with more zeros than this keeps its exponent: 1E+999999999 is short, its digits fill the memory.
_PLAIN_DIGITS_MAX: Final = 400


def to_json(value: Any) -> str:
    """Return the JSON text of a value.

    >>> print(to_json({"total": Decimal("12.30"), "who": ["ann", None]}))
    {"total": 12.30, "who": ["ann", null]}
    """
    if isinstance(value, Decimal):
        if not value.is_finite():
            return json.dumps(str(value))
        return format(value, "f") if abs(value.adjusted()) <= _PLAIN_DIGITS_MAX else str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return '"NaN"' if math.isnan(value) else f'"{"-" if value < 0 else ""}Infinity"'
    if isinstance(value, Mapping):
        pairs = (
            f"{json.dumps(str(key), ensure_ascii=False)}: {to_json(item)}" for key, item in value.items()
        )
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(to_json, value)) + "]"
    return json.dumps(value, ensure_ascii=False, default=str)
