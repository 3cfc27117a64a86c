"""An index over hashes against a dictionary, with hashes made to collide in part."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bourne.engine.kernels.hash_index import HashIndex

# Equal in their lowest bits, in their first words, or in all but the lowest bit that is looked at.
WORDS = [0, 1, 1 << 40, -1, 5 << 50, (5 << 50) + (1 << 32), -(2**63), 2**63 - 1]


def hashes(pairs: list[tuple[int, int]]) -> np.ndarray[Any, Any]:
    """Return pairs of words as (2, rows)."""
    return np.array(pairs, np.int64).reshape(-1, 2).T.copy()


def seen(pair: tuple[int, int]) -> tuple[int, int]:
    """Return what is looked at: 96 bits."""
    return pair[0], pair[1] >> 32


@settings(max_examples=150, derandomize=True, deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(WORDS)), max_size=50), max_size=6),
    st.data(),
)
def test_hashes_are_numbered_by_first_appearance(
    batches: list[list[tuple[int, int]]], data: st.DataObject
) -> None:
    index, known, given_numbers = HashIndex(), dict[tuple[int, int], int](), 0
    for batch in batches:
        assert index.find(hashes(batch)).tolist() == [known.get(seen(pair), -1) for pair in batch]
        expected = []
        for pair in batch:
            if seen(pair) not in known:
                known[seen(pair)] = given_numbers
                given_numbers += 1
            expected.append(known[seen(pair)])
        assert index.assign(hashes(batch)).tolist() == expected
        assert len(index) == given_numbers
        what = data.draw(st.sampled_from(["forget", "forget", "keep", ""]))
        picked = data.draw(st.permutations(list(known)))[: data.draw(st.integers(0, len(known)))]
        if what == "forget":
            index.forget(hashes([(first, second << 32) for first, second in picked]))
            known = {pair: number for pair, number in known.items() if pair not in picked}
        elif what == "keep":
            index.keep(np.array([known[pair] for pair in picked], np.int64))
            known = {pair: i for i, pair in enumerate(picked)}
            given_numbers = len(known)


@pytest.mark.parametrize("batch", [1, 63, 64, 65, 20_000])
def test_the_index_grows(batch: int) -> None:
    chance = np.random.default_rng(batch)
    all_hashes = chance.integers(-(2**63), 2**63 - 1, (2, 7000))
    all_hashes[0, ::7] = 3  # long searches
    picked = all_hashes[:, chance.integers(0, 7000, 20_000)]
    index, known = HashIndex(), dict[tuple[int, int], int]()
    found: list[int] = []
    for start in range(0, 20_000, batch):
        found += index.assign(picked[:, start : start + batch]).tolist()
    pairs = [seen(pair) for pair in zip(*picked.tolist(), strict=True)]
    assert found == [known.setdefault(pair, len(known)) for pair in pairs]
    assert index.find(picked).tolist() == found
    assert index.find(picked + 1).tolist() == [-1] * 20_000
    assert 16 * 8 / 3 * len(index) <= index.nbytes() <= 16 * 16 / 3 * (len(index) + 64)


def test_keys_that_are_not_kept_are_new() -> None:
    index = HashIndex()
    many = np.random.default_rng(1).permutation(200_000).reshape(2, -1)
    index.assign(many)
    size = index.nbytes()
    index.keep(np.arange(99_999, 99_989, -1))
    assert index.nbytes() < size / 100
    assert index.find(many[:, -12:]).tolist() == [-1, -1, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert index.assign(many[:, [0, 99_999, 0]]).tolist() == [10, 0, 10]


def test_forgotten_keys_make_room() -> None:
    index = HashIndex()
    chance = np.random.default_rng(1)
    for step in range(200):
        some = chance.integers(-(2**63), 2**63 - 1, (2, 200))
        some[0, :100] = step  # many that were moved up
        assert index.assign(some).tolist() == list(range(200 * step, 200 * (step + 1)))
        index.forget(some[:, chance.permutation(200)])
        assert index.find(some).tolist() == [-1] * 200
    assert index.nbytes() == HashIndex().nbytes()
