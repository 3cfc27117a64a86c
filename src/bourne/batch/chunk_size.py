"""How large a chunk is: so many rows, so many bytes, or as many as take a certain time.

Law: the size of the chunks does not show in the result, only in how much is done again after a crash, and how often the
other side commits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from bourne.errors import DefinitionError
from bourne.limits import CHUNK_BYTES_MAX, CHUNK_ROWS_FIRST, CHUNK_ROWS_MAX, CHUNK_S
from bourne.schema import interval_us

_ROWS: Final = re.compile(r"([0-9][0-9_]*) *rows?", re.IGNORECASE)
_BYTES: Final = re.compile(r"([0-9][0-9_]*) *(bytes|[KMG]i?B)", re.IGNORECASE)
_UNITS: Final = {
    "bytes": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
}


@dataclass(frozen=True, slots=True)
class ChunkSize:
    """The bounds of the next chunk; with a `target_s` the rows follow from how long the last ones took."""

    rows: int = CHUNK_ROWS_FIRST
    bytes: int = CHUNK_BYTES_MAX
    target_s: float | None = None

    def after(self, rows: int, seconds: float) -> ChunkSize:
        """Return the size of the next chunk, after one of so many rows took so long: at most twice, or half, as large."""
        if self.target_s is None or rows == 0:
            return self
        wanted = rows * self.target_s / max(seconds, 1e-6)
        # A chunk that ended early (by its bytes, or the input's parts) says little of larger ones.
        return replace(self, rows=int(min(max(wanted, self.rows / 2, 1), self.rows * 2, CHUNK_ROWS_MAX)))


def chunk_size(declared: str | int | None, *, where: str) -> ChunkSize:
    """Return what `"10000 rows"`, `10_000`, `"8 MiB"` or `"500 milliseconds"` says; by default a time.

    Raises:
        DefinitionError: it says nothing of these, or nothing at all fits in.
    """
    if declared is None:
        return ChunkSize(target_s=CHUNK_S)
    text = f"{declared} rows" if isinstance(declared, int) else declared.strip()
    if match := _ROWS.fullmatch(text):
        size = ChunkSize(rows=min(int(match[1]), CHUNK_ROWS_MAX))
    elif match := _BYTES.fullmatch(text):
        size = ChunkSize(CHUNK_ROWS_MAX, min(int(match[1]) * _UNITS[match[2].lower()], CHUNK_BYTES_MAX))
    else:
        try:
            if text.isdecimal():  # an interval would be so many seconds, and rows may be meant
                raise DefinitionError("a size without a unit", where=where)
            size = ChunkSize(target_s=interval_us(text, where=where) / 1e6)
        except DefinitionError:
            raise DefinitionError(
                "no size of a chunk", where=where, expected="rows (10_000 or '10000 rows'), bytes ('8 MiB') or a time ('500 milliseconds')",
                found=repr(declared),
            ) from None  # fmt: skip
    if size.rows < 1 or size.bytes < 1 or size.target_s == 0:
        raise DefinitionError(
            "a chunk of nothing", where=where, expected="1 row or more", found=repr(declared)
        )
    return size


def rows_of(text: str, *, where: str) -> float:
    """Return how many rows a second `"5000 rows"` says.

    Raises:
        DefinitionError: it says nothing of rows, or none.
    """
    match = _ROWS.fullmatch(str(text).strip())
    if match is None or int(match[1]) < 1:
        raise DefinitionError(
            "no number of rows a second", where=where, expected="'5000 rows'", found=repr(text)
        )
    return float(int(match[1]))
