"""Group keys: columns of any groupable type as rows of 64-bit words, and back.

Law: two rows get the same words exactly if SQL calls them equal as group keys: NULLs are equal to each other, -0.0
equals 0.0, every NaN equals every other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.engine.kernels.arrays import (
    ALL_VALID,
    Valid,
    doubles,
    from_doubles,
    from_longs,
    from_wides,
    longs,
    validity,
    wides,
)
from bourne.engine.kernels.key_index import KeyIndex
from bourne.engine.kernels.text_index import TextIndex

Words = NDArray[np.int64]

# A decimal of up to this many digits fits one word.
_NARROW_DIGITS = 18


def is_groupable(target: pa.DataType) -> bool:
    """Say whether a column of this type can be part of a group key here."""
    return _kind(target) is not None


def _kind(target: pa.DataType) -> str | None:
    if pa.types.is_string(target) or pa.types.is_binary(target):
        return "text"
    if pa.types.is_floating(target):
        return "double"
    if pa.types.is_decimal128(target):
        return "narrow" if target.precision <= _NARROW_DIGITS else "wide"
    if (
        pa.types.is_boolean(target)
        or pa.types.is_integer(target)
        or pa.types.is_date32(target)
        or pa.types.is_time64(target)
        or pa.types.is_timestamp(target)
    ):
        return "long"
    return None


class GroupKeys:
    """Numbers the group keys of one aggregate, and gives the key columns back for any numbers."""

    def __init__(self, types: Sequence[pa.DataType]) -> None:
        self._types = tuple(types)
        self._kinds = tuple(_kind(target) for target in types)
        self._texts = {i: TextIndex() for i, kind in enumerate(self._kinds) if kind == "text"}
        # One word per column, two for a wide decimal. Once a NULL has come there is one word more, whose bit i
        # says that column i is NULL.
        self._width = sum(2 if kind == "wide" else 1 for kind in self._kinds)
        self._index = KeyIndex(self._width)

    def __len__(self) -> int:
        return len(self._index)

    def assign(self, columns: Sequence[pa.Array], rows: int) -> NDArray[np.int64]:
        """Return the group number of each row."""
        words: list[Words] = []
        nulls: Words | None = None
        for i, (values, kind) in enumerate(zip(columns, self._kinds, strict=True)):
            valid = validity(values)
            for word in self._encode(i, values, kind):
                words.append(np.where(valid, word, 0) if len(valid) else word)
            if len(valid):
                mine = (~valid).astype(np.int64) << i
                nulls = mine if nulls is None else nulls | mine
        if nulls is not None and self._index.width == self._width:
            self._index.widen()
        if self._index.width > self._width:
            words.append(np.zeros(rows, np.int64) if nulls is None else nulls)
        if len(words) == 1:
            return self._index.assign(words[0].reshape(1, rows))
        return self._index.assign(np.stack(words) if words else np.zeros((0, rows), np.int64))

    def _encode(self, i: int, values: pa.Array, kind: str | None) -> list[Words]:
        match kind:
            case "text":
                return [self._texts[i].assign(values)]
            case "double":
                numbers = doubles(values) + 0.0  # -0.0 becomes 0.0
                return [np.where(np.isnan(numbers), np.nan, numbers).view(np.int64)]
            case "narrow":
                return [wides(values)[:, 0]]
            case "wide":
                pair = wides(values)
                return [pair[:, 0], pair[:, 1]]
            case _:
                return [longs(values)]

    def columns(self, numbers: NDArray[np.int64]) -> list[pa.Array]:
        """Return the key columns of some groups."""
        words = self._index.keys(numbers)
        result, at = [], 0
        for i, (target, kind) in enumerate(zip(self._types, self._kinds, strict=True)):
            valid = ALL_VALID
            if len(words) > self._width:
                is_valid: Valid = (words[-1] >> i) & 1 == 0
                valid = ALL_VALID if is_valid.all() else is_valid
            first = words[at]
            match kind:
                case "text":
                    result.append(self._texts[i].take(np.where(valid, first, 0) if len(valid) else first,
                                                      valid if len(valid) else None, target))  # fmt: skip
                case "double":
                    result.append(from_doubles(first.view(np.float64), valid, target))
                case "narrow":
                    pair = np.stack([first, first >> 63], axis=1)
                    result.append(from_wides(pair, valid, target))
                case "wide":
                    result.append(from_wides(np.stack([first, words[at + 1]], axis=1), valid, target))
                    at += 1
                case _:
                    result.append(from_longs(first, valid, target))
            at += 1
        return result

    def nbytes(self) -> int:
        """Return the memory in use."""
        return self._index.nbytes() + sum(texts.nbytes() for texts in self._texts.values())

    def save(self) -> dict[str, pa.Table]:
        """Return the state as tables."""
        words = self._index.save()
        columns = {f"w{i}": word for i, word in enumerate(words)}
        parts = {"keys": pa.table(columns or {"none": pa.nulls(words.shape[1])})}
        for i, texts in self._texts.items():
            ends, data = texts.save()
            parts[f"texts{i}.ends"] = pa.table({"end": ends})
            parts[f"texts{i}.bytes"] = pa.table({"byte": data})
        return parts

    def load(self, parts: dict[str, pa.Table]) -> None:
        """Become what `save` described."""
        table = parts["keys"]
        if self._types:
            self._index.load(np.stack([column.to_numpy() for column in table.columns]))
        else:
            self._index.load(np.zeros((0, table.num_rows), np.int64))
        for i, texts in self._texts.items():
            ends = parts[f"texts{i}.ends"].column(0).to_numpy()
            texts.load(ends, parts[f"texts{i}.bytes"].column(0).to_numpy())
