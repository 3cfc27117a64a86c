"""Parts of any size become chunks of any size: together they are the input, wherever reading stops and goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bourne.batch.chunk_size import ChunkSize
from bourne.connect.source import DeadLetter, Taken
from bourne.jobs.reader import Piece, pieces
from bourne.schema import Column, Schema


class Listed:
    """Reads parts of a list: each with so many rows, and so many that cannot be read. A position is the number of a part."""

    schema = Schema((Column("n", "BIGINT"), Column("text", "VARCHAR")))

    def __init__(self, parts: list[tuple[int, int]]) -> None:
        self.parts: list[tuple[list[int], list[int]]] = []
        number = 0
        for rows, dead in parts:
            self.parts.append(
                (list(range(number, number + rows)), list(range(number + rows, number + rows + dead)))
            )
            number += rows + dead

    def read(self, position: Any) -> Iterator[Taken]:
        for number, (rows, dead) in enumerate(self.parts[position or 0 :], position or 0):
            table = pa.table(
                {"n": rows, "text": ["x" * (n % 50) for n in rows]}, schema=self.schema.to_arrow()
            )
            letters = tuple(DeadLetter(f"row {n}", "wrong", b"?") for n in dead)
            yield Taken(table if rows else None, number + 1, dead=letters)

    def share(self, position: Any) -> float | None:
        return None

    def close(self) -> None: ...


SIZES = st.lists(
    st.one_of(
        st.integers(1, 30).map(ChunkSize),
        st.integers(1, 500).map(lambda size: ChunkSize(1 << 20, size)),
    ),
    min_size=1, max_size=8,
)  # fmt: skip


@given(
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from([0, 0, 0, 1, 3])), max_size=8),
    SIZES,
    st.lists(st.integers(0, 5), max_size=6),
)
@settings(max_examples=100, deadline=None)
def test_the_pieces_are_the_input_wherever_it_is_gone_on(parts, sizes, lives):
    """Each life takes so many pieces, and the next one goes on after the last of them."""
    reader = Listed(parts)
    numbers = iter(range(10**9))
    found: list[Piece] = []
    position: Any = None
    for life in [*lives, 10**9]:
        for taken, piece in enumerate(
            pieces(reader, position, lambda: sizes[next(numbers) % len(sizes)]), start=1
        ):
            found.append(piece)
            position = piece.position
            if taken > life:
                break
    assert [n for piece in found for n in piece.rows["n"].to_pylist()] == [
        n for rows, _ in reader.parts for n in rows
    ]
    assert [letter.origin for piece in found for letter in piece.dead] == [
        f"row {n}" for _, dead in reader.parts for n in dead
    ]
    assert all(piece.rows.num_rows or piece.dead for piece in found)


@given(st.lists(st.integers(0, 100), max_size=8), st.integers(1, 40))
@settings(max_examples=50, deadline=None)
def test_pieces_are_as_large_as_wanted_but_for_the_last(parts, rows):
    found = list(pieces(Listed([(count, 0) for count in parts]), None, lambda: ChunkSize(rows)))
    assert all(piece.rows.num_rows == rows for piece in found[:-1])
    assert all(0 < piece.rows.num_rows <= rows for piece in found)


def test_an_input_of_nothing_has_no_pieces():
    assert list(pieces(Listed([]), None, ChunkSize)) == []
    assert list(pieces(Listed([(0, 0), (0, 0)]), None, ChunkSize)) == []


def test_rows_that_cannot_be_read_fill_a_piece_too():
    """So that an input of nothing else is not held in memory as a whole."""
    found = list(pieces(Listed([(0, 10)] * 100), None, lambda: ChunkSize(50)))
    assert [len(piece.dead) for piece in found] == [50] * 20


@pytest.mark.parametrize("size", [1, 3, 10])
def test_a_piece_within_a_part_knows_how_many_rows_to_pass_over(size):
    first = next(iter(pieces(Listed([(10, 1)]), None, lambda: ChunkSize(size))))
    assert first.position == ({"at": None, "skip": size} if size < 10 else {"at": 1, "skip": 0})


def test_rows_that_cannot_be_read_go_with_the_last_row_of_their_part():
    """A share of what may be skipped is of the rows among which they were, not of the few of a first small piece."""
    found = list(pieces(Listed([(10, 3), (4, 1)]), None, lambda: ChunkSize(4)))
    assert [(piece.rows.num_rows, len(piece.dead)) for piece in found] == [(4, 0), (4, 0), (4, 3), (2, 1)]
    again = list(pieces(Listed([(10, 3)]), found[1].position, lambda: ChunkSize(4)))
    assert [(piece.rows.num_rows, len(piece.dead)) for piece in again] == [(2, 3)]
