"""Chains of rows against a dictionary of lists."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bourne.engine.kernels import row_chains
from bourne.engine.kernels.row_chains import RowChains
from engine.kernels.any_rows import Row, columns_of, rows_of, same_row, shown, types


class Model:
    """What chains of rows do: per group a list of [equality, what is shown, weight, counters]."""

    def __init__(self, targets: list[pa.DataType], is_append_only: bool) -> None:
        self.targets = targets
        self.is_append_only = is_append_only
        self.groups: dict[int, list[list[Any]]] = {}

    def update(self, groups: list[int], rows: list[Row], weights: list[int]) -> None:
        texts = shown(columns_of(rows, self.targets))
        for group, row, text, weight in zip(groups, rows, texts, weights, strict=True):
            same, chain = same_row(row, self.targets), self.groups.setdefault(group, [])
            for known in chain:
                if known[0] == same and not self.is_append_only:
                    known[2] += weight
                    break
            else:
                chain.append([same, text, weight, [0, 0]])
        self.groups = {group: [row for row in chain if row[2]] for group, chain in self.groups.items()}

    def match(self, groups: list[int]) -> list[tuple[int, str, int, list[int]]]:
        return [
            (i, text, weight, counters)
            for i, group in enumerate(groups)
            for _, text, weight, counters in self.groups.get(group, [])
        ]


def matched(chains: RowChains, groups: list[int]) -> list[tuple[int, str, int, list[int]]]:
    """Return what `Model.match` does."""
    lefts, rows = chains.match(np.array(groups, np.int64))
    counters = np.stack([chains.counter(rows, 0), chains.counter(rows, 1)], axis=1)
    columns = (lefts.tolist(), shown(chains.take(rows)), chains.weights(rows).tolist(), counters.tolist())
    return list(zip(*columns, strict=True))


@pytest.mark.parametrize("is_append_only", [True, False])
@settings(max_examples=60, derandomize=True, deadline=None)
@given(data=st.data())
def test_chains_hold_what_is_left_in_order(data: st.DataObject, is_append_only: bool) -> None:
    targets = data.draw(st.lists(types(depth=1), min_size=1, max_size=2))
    group = st.integers(0, data.draw(st.sampled_from([0, 2, 200])))
    pool = data.draw(rows_of(targets, max_size=6).filter(bool))
    chains = RowChains(targets, is_append_only=is_append_only, counters=2)
    model = Model(targets, is_append_only)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_chains, "_GAPS_MIN", 3)
        for _ in range(data.draw(st.integers(1, 8))):
            weight = st.just(1) if is_append_only else st.sampled_from([1, 1, -1, -1, 2, 0])
            drawn = data.draw(st.lists(st.tuples(group, st.sampled_from(pool), weight), max_size=20))
            groups, rows, weights = [d[0] for d in drawn], [d[1] for d in drawn], [d[2] for d in drawn]
            columns = columns_of(rows, targets, cut=data.draw(st.integers(0, 1)))
            given_weights = None if is_append_only else np.array(weights, np.int64)
            numbers = chains.update(np.array(groups, np.int64), columns, given_weights)
            model.update(groups, rows, weights)
            taken = chains.take(numbers)  # also of rows that are gone by now
            back = zip(*(column.to_pylist() for column in columns_of(rows, targets)), strict=True)
            there = zip(*(column.to_pylist() for column in taken), strict=True)
            assert [same_row(row, targets) for row in there] == [same_row(row, targets) for row in back]
            if data.draw(st.booleans()):
                again = RowChains(targets, is_append_only=is_append_only, counters=2)
                again.load(chains.save())
                chains = again
            asked = data.draw(st.lists(st.one_of(group, st.sampled_from([-1, 250])), max_size=30))
            if asked:
                _, some = chains.match(np.array(asked[:1], np.int64))
                chains.add_counter(np.repeat(some, 2), 1, np.arange(2 * len(some)))
                for i, known in enumerate(model.groups.get(asked[0], [])):
                    known[3][1] += 4 * i + 1
            assert matched(chains, asked) == model.match(asked)
            counts = [len(model.groups.get(each, [])) for each in asked]
            assert chains.count(np.array(asked, np.int64)).tolist() == counts
            distinct = sorted(set(asked))
            rows_found, owners = chains.rows_of(np.array(distinct, np.int64))
            assert shown(chains.take(rows_found)) == [text for _, text, _, _ in model.match(distinct)]
            assert owners.tolist() == [distinct[i] for i, _, _, _ in model.match(distinct)]
            assert len(chains) == sum(map(len, model.groups.values()))


def test_a_row_that_comes_again_comes_last() -> None:
    chains = RowChains([pa.string()], is_append_only=False)

    def update(*changes: tuple[str, int]) -> list[int]:
        texts, weights = zip(*changes, strict=True)
        return chains.update(np.zeros(len(texts), np.int64), [pa.array(texts)], np.array(weights)).tolist()

    def found() -> list[tuple[str, int]]:
        rows, _ = chains.rows_of(np.array([0]))
        return list(zip(chains.take(rows)[0].to_pylist(), chains.weights(rows).tolist(), strict=True))

    assert update(("a", 1), ("b", 1), ("a", 1)) == [0, 1, 0]
    assert found() == [("a", 2), ("b", 1)]
    update(("a", -2), ("a", 1))  # not gone in between: what counts is the end of the call
    assert found() == [("a", 1), ("b", 1)]
    assert update(("a", -1)) == [0]
    assert chains.weights(np.array([0])).tolist() == [0]
    assert found() == [("b", 1)]
    assert update(("a", -1)) == [2]
    assert found() == [("b", 1), ("a", -1)]
    update(("a", 1), ("c", 1), ("b", -1), ("d", 0))
    assert found() == [("c", 1)]
    assert len(chains) == 1


def test_equal_rows_of_different_groups_are_different() -> None:
    chains = RowChains([pa.int64()], is_append_only=False)
    assert chains.update(np.array([0, 1, 0]), [pa.array([7, 7, 7])], None).tolist() == [0, 1, 0]
    assert chains.weights(np.array([0, 1])).tolist() == [2, 1]


def test_append_only_rows_are_kept_apart() -> None:
    chains = RowChains([pa.int64()], is_append_only=True)
    assert chains.update(np.array([0, 0]), [pa.array([7, 7])], None).tolist() == [0, 1]
    assert chains.update(np.array([0]), [pa.array([7])], None).tolist() == [2]
    assert chains.weights(np.array([0, 1, 2])).tolist() == [1, 1, 1]
    assert chains.rows_of(np.array([0]))[0].tolist() == [0, 1, 2]


def test_rows_without_columns_are_counted() -> None:
    chains = RowChains([], is_append_only=False)
    assert chains.update(np.array([0, 0, 4]), [], np.array([1, 1, 1])).tolist() == [0, 0, 1]
    again = RowChains([], is_append_only=False)
    again.load(chains.save())
    assert again.weights(again.rows_of(np.array([0, 4]))[0]).tolist() == [2, 1]
    again.update(np.array([4]), [], np.array([-1]))
    assert again.count(np.array([0, 4])).tolist() == [1, 0]
    plain = RowChains([], is_append_only=True)
    plain.update(np.array([1, 1]), [], None)
    assert plain.count(np.array([0, 1])).tolist() == [0, 2]


def test_memory_follows_the_rows_that_are_there() -> None:
    chains = RowChains([pa.int64(), pa.string()], is_append_only=False, counters=1)
    groups, texts = np.arange(5000) % 10, pa.array(["x" * 100] * 5000)
    for step in range(30):
        numbers = pa.array(range(5000 * step, 5000 * (step + 1)))
        chains.update(groups, [numbers, texts], None)
        assert len(chains) == 5000
        chains.update(groups, [numbers, texts], np.full(5000, -1))
        assert len(chains) == 0
    assert chains.nbytes() < 10 * 5000 * 130
    assert chains.match(np.arange(10))[1].tolist() == []
    assert chains.save()["rows"].num_rows == 0


def test_counters_follow_their_rows_when_gaps_are_closed() -> None:
    chains = RowChains([pa.int64()], is_append_only=False, counters=2)
    groups, values = np.arange(4000) % 7, pa.array(range(4000))
    rows = chains.update(groups, [values], None)
    chains.add_counter(rows, 1, np.arange(4000) * 2)
    chains.update(groups[:3000], [values.slice(0, 3000)], np.full(3000, -1))
    chains.update(groups[:1], [pa.array([-1])], None)
    assert len(chains) == 1001
    assert chains.take(np.array([0]))[0].to_pylist() == [3000]  # numbered anew
    rows, _ = chains.rows_of(np.arange(7))
    expected = [2 * value if value >= 0 else 0 for value in chains.take(rows)[0].to_pylist()]
    assert chains.counter(rows, 1).tolist() == expected
    assert chains.counter(rows, 0).tolist() == [0] * 1001


@pytest.mark.parametrize("is_append_only", [True, False])
def test_long_and_short_chains_side_by_side(is_append_only: bool) -> None:
    chance = np.random.default_rng(5)
    chains = RowChains([pa.int64()], is_append_only=is_append_only)
    model: dict[int, list[int]] = {}
    for step in range(20):
        groups = (chance.pareto(0.5, 700) % 500).astype(np.int64)
        values = np.arange(700 * step, 700 * (step + 1))
        chains.update(groups, [pa.array(values)], None)
        for group, value in zip(groups.tolist(), values.tolist(), strict=True):
            model.setdefault(group, []).append(value)
    asked = chance.integers(-1, 600, 1000)
    lefts, rows = chains.match(asked)
    expected = [(i, value) for i, group in enumerate(asked.tolist()) for value in model.get(group, [])]
    found = chains.take(rows)[0].to_pylist()
    assert list(zip(lefts.tolist(), found, strict=True)) == expected
    assert chains.take_columns(rows, [0])[0].to_pylist() == found


_SCRIPT = """
import hashlib, numpy as np, pyarrow as pa
from bourne.engine.kernels import row_chains
from bourne.engine.kernels.consolidate import consolidate
from bourne.engine.kernels.key_table import KeyTable
from bourne.engine.kernels.row_chains import RowChains
from bourne.engine.kernels.row_hash import hash_rows
row_chains._GAPS_MIN = 50
digest, chance = hashlib.sha256(), np.random.default_rng(1)
keys, chains = KeyTable([pa.string()]), RowChains([pa.string(), pa.float64()], is_append_only=False)
for _ in range(20):
    texts = pa.array([f"key {n}" for n in chance.integers(0, 40, 300)])
    columns = [texts, pa.array(chance.integers(0, 3, 300) / 2)]
    kept, weights = consolidate(columns, chance.integers(-2, 3, 300))
    columns = [column.take(pa.array(kept)) for column in columns]
    groups = keys.assign(columns[:1], len(kept))
    numbers = chains.update(groups, columns, weights)
    lefts, rows = chains.match(np.arange(-1, 40))
    for found in (kept, weights, groups, numbers, lefts, rows, chains.weights(rows)):
        digest.update(found.tobytes())
    for column in (*chains.take(rows), *keys.columns(groups), *chains.save()["rows"].columns):
        digest.update(repr(column.to_pylist()).encode())
print(digest.hexdigest(), hash_rows([pa.array([1])], 1).tolist())
"""


def test_results_do_not_depend_on_the_process() -> None:
    command = [sys.executable, "-c", _SCRIPT]
    runs = [subprocess.run(command, capture_output=True, text=True, check=False) for _ in range(2)]
    assert [run.stderr for run in runs] == ["", ""]
    (first, first_hash), (second, second_hash) = (run.stdout.split(" ", 1) for run in runs)
    assert first == second
    assert first_hash != second_hash  # each process draws its own
