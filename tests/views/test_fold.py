"""The fold of an output log is the view: newest row per key, whatever the batches and the moments of reading were."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bourne.log.catalog import LogInfo, write_log_info
from bourne.log.relation import KEY_COLUMN, WEIGHT_COLUMN
from bourne.log.writer import LogWriter
from bourne.ports import OsFiles
from bourne.schema import Column, Schema
from bourne.testing import SimulatedClock
from bourne.views import keyed_rows
from bourne.views.fold import Fold

SCHEMA = Schema((KEY_COLUMN, WEIGHT_COLUMN, Column("text", "VARCHAR"), Column("number", "BIGINT")))


def output(folder: Path) -> tuple[LogInfo, LogWriter]:
    info = LogInfo("view", SCHEMA, key="__key", weight="__weight", changes="upsert")
    write_log_info(folder, info, OsFiles())
    return info, LogWriter(folder, info, files=OsFiles(), clock=SimulatedClock(0))


def change(keys: list[int], weights: list[int], numbers: list[int]) -> pa.Table:
    rows = zip(weights, numbers, strict=True)
    texts = [f"text {n}" if w > 0 else None for w, n in rows]
    found = [n if w > 0 else None for w, n in zip(weights, numbers, strict=True)]
    return pa.table(
        [pa.array(keys, pa.int64()), pa.array(weights, pa.int8()), pa.array(texts, pa.string()),
         pa.array(found, pa.int64())], schema=SCHEMA.to_arrow(),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("small", [0, 3, 256])
def test_fold_is_the_newest_row_of_each_key(
    tmp_path: Path, seed: int, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyed_rows, "_SMALL_KEYS", small)
    monkeypatch.setattr(keyed_rows, "_RECENT_ROWS_MAX", 40 if seed % 2 else 1 << 16)
    chance = random.Random(seed)
    info, writer = output(tmp_path)
    follower = Fold(tmp_path, info)
    model: dict[int, int] = {}
    earlier: list[tuple[pa.Table, list[int]]] = []
    for number in range(60):
        key_count = chance.choice([3, 30, 3000])
        keys = chance.sample(range(key_count), chance.randint(0, min(key_count, 25)))
        weights = [chance.choice([1, 1, -1]) for _ in keys]
        numbers = [number * 100 + i for i in range(len(keys))]
        for key, weight, value in zip(keys, weights, numbers, strict=True):
            model.pop(key, None)
            if weight > 0:
                model[key] = value
        writer.append(change(keys, weights, numbers), {"epoch": number})
        if chance.random() < 0.6:
            follower.refresh()
            table = follower.table()
            assert sorted(table.column("number").to_pylist()) == sorted(model.values())
            assert all(t == f"text {n}" for t, n in zip(*table.to_pydict().values(), strict=True))
            earlier.append((table, sorted(model.values())))
    for table, rows in earlier:  # what was given out stays as it was
        assert sorted(table.column("number").to_pylist()) == rows
    fresh = Fold(tmp_path, info)
    fresh.refresh()
    assert sorted(fresh.table().column("number").to_pylist()) == sorted(model.values())
    follower.close()
    follower.close()
    assert np.all(np.array(sorted(model.values())) >= 0)
    fresh.close()
    writer.close()


def test_fold_of_nothing_and_of_deletions_only(tmp_path: Path) -> None:
    info, writer = output(tmp_path)
    fold = Fold(tmp_path, info)
    fold.refresh()
    assert fold.table().num_rows == 0
    assert fold.table().column_names == ["text", "number"]
    writer.append(change([], [], []), {"epoch": 0})
    writer.append(change([5], [-1], [0]), {"epoch": 1})
    fold.refresh()
    assert fold.table().num_rows == 0
    writer.append(change([5, 0], [1, 1], [7, 8]), {"epoch": 2})
    writer.append(change([0], [-1], [0]), {"epoch": 3})
    fold.refresh()
    assert fold.table().to_pydict() == {"text": ["text 7"], "number": [7]}
    fold.close()
    writer.close()
