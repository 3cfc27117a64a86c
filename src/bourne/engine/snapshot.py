"""A view's saved state: a folder of Arrow files and a manifest that vouches for them.

Law: a snapshot is there whole or not at all, and one that is damaged, or written by another engine version, is
passed over: the state can always be computed again from the log.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from bourne.ports import Files

# Grows when an operator's state changes its form; older snapshots are then computed anew.
ENGINE_VERSION = 4

_KEPT = 2

# Small pieces are written together.
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state after an epoch, where the view's output log stood, and what the epoch's frame says of time."""

    epoch: int
    output_offset: int
    positions: dict[str, list[int]]
    parts: dict[str, pa.Table]
    times: dict[str, Any] = field(default_factory=dict)


def save_snapshot(folder: Path, snapshot: Snapshot, files: Files) -> None:
    """Write a snapshot durably, then drop all but the newest two. O(state)."""
    folder.mkdir(exist_ok=True)
    draft = folder / "draft"
    if draft.exists():
        shutil.rmtree(draft)
    draft.mkdir()
    hashes = {}
    for number, (name, table) in enumerate(snapshot.parts.items()):
        with _Hashed(draft / f"{number}.arrow", files) as file:
            with (
                pa.BufferedOutputStream(pa.PythonFile(file, mode="w"), _BUFFER_BYTES) as sink,
                pa.ipc.new_stream(sink, table.schema) as writer,
            ):
                writer.write_table(table)
            hashes[name] = file.sync()
    manifest: dict[str, Any] = {
        "engine": ENGINE_VERSION,
        "epoch": snapshot.epoch,
        "output_offset": snapshot.output_offset,
        "positions": snapshot.positions,
        "times": snapshot.times,
        "parts": hashes,
    }
    manifest["check"] = _check(manifest)
    with _Hashed(draft / "manifest.json", files) as file:
        file.write(json.dumps(manifest, indent=1).encode())
        file.sync()
    files.sync_folder(draft)
    target = folder / f"{snapshot.epoch:020d}"
    if target.exists():
        shutil.rmtree(target)
    files.replace(draft, target)
    files.sync_folder(folder)
    for old in _epochs(folder)[:-_KEPT]:
        shutil.rmtree(folder / f"{old:020d}")


def newest_snapshot(folder: Path, *, epoch_max: int) -> Snapshot | None:
    """Return the newest whole snapshot that is not after `epoch_max`, or None."""
    for epoch in reversed(_epochs(folder)):
        if epoch <= epoch_max:
            snapshot = _load(folder / f"{epoch:020d}")
            if snapshot is not None:
                return snapshot
    return None


def oldest_positions(folder: Path) -> dict[str, list[int]] | None:
    """Return the input positions of the older one of the snapshots kept: from there on a recovery may have to read.

    None if there is no snapshot: then from the beginning.
    """
    for epoch in _epochs(folder):
        manifest = _manifest(folder / f"{epoch:020d}")
        if manifest is not None:
            positions: dict[str, list[int]] = manifest["positions"]
            return positions
    return None


def drop_older(folder: Path) -> None:
    """Drop all but the newest snapshot, if that one is whole."""
    epochs = _epochs(folder)
    if len(epochs) > 1 and _load(folder / f"{epochs[-1]:020d}") is not None:
        for old in epochs[:-1]:
            shutil.rmtree(folder / f"{old:020d}")


def _manifest(folder: Path) -> dict[str, Any] | None:
    """Return what a snapshot says of itself; None if that is damaged, or of another engine version."""
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
        # Where the snapshot stands decides what is added to it: a changed digit here would count records twice.
        if manifest.pop("check") != _check(manifest) or manifest["engine"] != ENGINE_VERSION:
            return None
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    return manifest


def _load(folder: Path) -> Snapshot | None:
    """Return the snapshot, or None if it is damaged or of another engine version."""
    manifest = _manifest(folder)
    if manifest is None:
        return None
    try:
        parts: Mapping[str, str] = manifest["parts"]
        tables = {}
        for number, (name, expected) in enumerate(parts.items()):
            content = (folder / f"{number}.arrow").read_bytes()
            if hashlib.sha256(content).hexdigest() != expected:
                return None
            with pa.ipc.open_stream(content) as reader:
                tables[name] = reader.read_all()
        return Snapshot(
            manifest["epoch"], manifest["output_offset"], manifest["positions"], tables, manifest["times"]
        )
    except (OSError, ValueError, KeyError, AttributeError, TypeError, pa.ArrowException):
        return None


def _check(manifest: Mapping[str, Any]) -> str:
    """Return the checksum of a manifest's facts."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _epochs(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    return sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdigit())


class _Hashed:
    """A new file, written from its start to its end, with its hash; as much of a file as Arrow wants of one."""

    closed = False

    def __init__(self, path: Path, files: Files) -> None:
        self._files = files
        self._descriptor = files.open(path)
        self._hash = hashlib.sha256()
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close(self._descriptor)

    def write(self, content: bytes | pa.Buffer) -> int:
        part = memoryview(content).cast("B")
        self._hash.update(part)
        self._files.write(self._descriptor, [part], self._size)
        self._size += len(part)
        return len(part)

    def flush(self) -> None:
        """Nothing waits here."""

    def close(self) -> None:
        """Say to Arrow that it is done."""
        self.closed = True

    def sync(self) -> str:
        """Make what was written durable; return its SHA-256."""
        self._files.sync(self._descriptor)
        return self._hash.hexdigest()
