"""Snapshots: there whole or not at all; every changed byte is noticed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bourne.engine.snapshot import Snapshot, newest_snapshot, save_snapshot
from bourne.ports import OsFiles
from bourne.testing import FaultyFiles


def snapshot(epoch: int) -> Snapshot:
    parts = {
        "1.keys": pa.table({"w0": np.arange(5)}),
        "1.function0.counts": pa.table({"v0": np.arange(5) + epoch}),
    }
    return Snapshot(epoch, 100 + epoch, {"events": [40 + epoch]}, parts)


def test_newest_snapshot_up_to_an_epoch(tmp_path: Path) -> None:
    assert newest_snapshot(tmp_path / "none", epoch_max=9) is None
    for epoch in (3, 5, 9):
        save_snapshot(tmp_path / "s", snapshot(epoch), OsFiles())
    found = newest_snapshot(tmp_path / "s", epoch_max=8)
    assert found is not None
    assert (found.epoch, found.output_offset, found.positions) == (5, 105, {"events": [45]})
    assert found.parts["1.function0.counts"].column(0).to_pylist() == [5, 6, 7, 8, 9]
    assert newest_snapshot(tmp_path / "s", epoch_max=4) is None  # only the newest two are kept
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == [f"{5:020d}", f"{9:020d}"]


@pytest.mark.parametrize("flip", [0x01, 0x55])
def test_every_changed_byte_makes_the_one_before_count(tmp_path: Path, flip: int) -> None:
    for epoch in (1, 2):
        save_snapshot(tmp_path, snapshot(epoch), OsFiles())
    for path in sorted((tmp_path / f"{2:020d}").iterdir()):
        content = path.read_bytes()
        for at in range(0, len(content), 1 if path.suffix == ".json" else 17):
            damaged = bytearray(content)
            damaged[at] ^= flip
            path.write_bytes(damaged)
            found = newest_snapshot(tmp_path, epoch_max=9)
            assert found is not None
            # White space between the facts of the manifest says nothing.
            assert found.epoch == 1 or (found.epoch == 2 and content[at : at + 1].isspace()), (path.name, at)
        path.write_bytes(content[: len(content) // 2])
        assert newest_snapshot(tmp_path, epoch_max=9).epoch == 1  # type: ignore[union-attr]
        path.write_bytes(content)
    assert newest_snapshot(tmp_path, epoch_max=9).epoch == 2  # type: ignore[union-attr]


def test_a_power_cut_after_snapshots_that_are_gone(tmp_path: Path) -> None:
    files = FaultyFiles()  # it knows no renamed folders: what it has seen of a snapshot is not there any more
    for epoch in (1, 2, 3):
        save_snapshot(tmp_path, snapshot(epoch), files)
    files.crash()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{2:020d}", f"{3:020d}"]
    assert newest_snapshot(tmp_path, epoch_max=9).epoch == 3  # type: ignore[union-attr]


class DyingFiles(OsFiles):
    """Files of a process that ends before its n-th call. (FaultyFiles knows no renamed folders.)"""

    def __init__(self, calls: int) -> None:
        self.calls = calls

    def _count(self) -> None:
        self.calls -= 1
        if self.calls < 0:
            raise OSError("the process is gone")

    def open(self, path: Path) -> int:
        self._count()
        return super().open(path)

    def write(self, descriptor: int, parts: Sequence[memoryview], position: int) -> None:
        if self.calls == 0:
            super().write(descriptor, [part[: len(part) // 2] for part in parts], position)
        self._count()
        super().write(descriptor, parts, position)

    def sync(self, descriptor: int) -> None:
        self._count()
        super().sync(descriptor)

    def sync_folder(self, path: Path) -> None:
        self._count()
        super().sync_folder(path)

    def replace(self, source: Path, target: Path) -> None:
        self._count()
        super().replace(source, target)


def test_process_that_ends_at_any_call_leaves_a_whole_snapshot(tmp_path: Path) -> None:
    for calls in range(40):
        folder = tmp_path / str(calls)
        save_snapshot(folder, snapshot(1), OsFiles())
        try:
            save_snapshot(folder, snapshot(2), DyingFiles(calls))
            is_done = True
        except OSError:
            is_done = False
        found = newest_snapshot(folder, epoch_max=9)
        assert found is not None
        assert found.epoch == 2 if is_done else found.epoch in (1, 2)
        assert found.parts["1.function0.counts"].column(0).to_pylist()[0] == found.epoch
        save_snapshot(folder, snapshot(3), OsFiles())
        assert newest_snapshot(folder, epoch_max=9).epoch == 3  # type: ignore[union-attr]
        if is_done:
            assert calls > 8
            return
    raise AssertionError("it never got through")
