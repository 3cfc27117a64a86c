"""How large a chunk is: what the declaration says, and how it follows the time that chunks take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bourne.batch.chunk_size import ChunkSize, chunk_size, rows_of
from bourne.errors import DefinitionError
from bourne.limits import CHUNK_BYTES_MAX, CHUNK_ROWS_FIRST, CHUNK_ROWS_MAX, CHUNK_S


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (10_000, ChunkSize(10_000)), ("10000 rows", ChunkSize(10_000)), ("10_000 ROWS", ChunkSize(10_000)), (" 1 row ", ChunkSize(1)),
        (10**9, ChunkSize(CHUNK_ROWS_MAX)), ("8 MiB", ChunkSize(CHUNK_ROWS_MAX, 8 << 20)), ("8 MB", ChunkSize(CHUNK_ROWS_MAX, 8_000_000)),
        ("1GiB", ChunkSize(CHUNK_ROWS_MAX, CHUNK_BYTES_MAX)), ("5 bytes", ChunkSize(CHUNK_ROWS_MAX, 5)),
        ("500 milliseconds", ChunkSize(target_s=0.5)), ("2 seconds", ChunkSize(target_s=2.0)), (None, ChunkSize(target_s=CHUNK_S)),
    ],
)  # fmt: skip
def test_rows_bytes_or_a_time(declared, expected):
    assert chunk_size(declared, where="step") == expected


@pytest.mark.parametrize(
    "declared", [0, -1, "0 rows", "0 MiB", "0 seconds", "-5 rows", "much", "", "10", "1.5 rows", "5 MiB rows"]
)
def test_what_says_nothing_is_refused(declared):
    with pytest.raises(DefinitionError):
        chunk_size(declared, where="step")


@given(st.lists(st.tuples(st.integers(0, 1 << 20), st.floats(0, 1e6)), max_size=50))
def test_it_never_grows_or_shrinks_by_more_than_two_and_stays_in_bounds(chunks):
    size = ChunkSize(target_s=1.0)
    for rows, seconds in chunks:
        after = size.after(rows, seconds)
        assert max(1, size.rows // 2) <= after.rows <= min(2 * size.rows, CHUNK_ROWS_MAX)
        size = after


def test_it_settles_where_chunks_take_as_long_as_wanted():
    size = ChunkSize(CHUNK_ROWS_FIRST, target_s=0.5)
    for _ in range(20):
        size = size.after(size.rows, size.rows / 250_000)
    assert size.rows == 125_000


def test_a_size_of_rows_stays_as_it_is():
    assert ChunkSize(7).after(7, 100.0) == ChunkSize(7)


def test_a_throttle_may_be_more_than_a_chunk():
    assert rows_of("50_000_000 rows", where="step") == 5e7
