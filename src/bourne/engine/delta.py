"""A change: what flows between operators.

Law: the sum of all deltas of a stream, folded, is the relation that the stream stands for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Delta:
    """Rows with weights. Columns are called c0, c1, …

    Without `keys` every row is new (weight 1): the stream only ever grows. With `keys`, one per row and each at
    most once in a delta, a row of weight 1 replaces the row of that key, and one of weight -1 says that the key's
    row is gone (its other columns are NULL).
    """

    table: pa.Table
    keys: NDArray[np.int64] | None = None
    weights: NDArray[np.int8] | None = None

    @property
    def rows(self) -> int:
        """How many rows."""
        return int(self.table.num_rows)


def column_names(count: int) -> list[str]:
    """Return the names that an operator's columns have."""
    return [f"c{i}" for i in range(count)]
