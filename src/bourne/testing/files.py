"""Files that fail when told to, and that forget what was not synced when the power is cut.

Law: what is on the real disk is always what a process would see. `crash` then replaces it by what a power cut may
leave: every file as it was last synced, plus an arbitrary part of the writes since; every name as its folder was
last synced, plus an arbitrary part of the changes since. Nothing is really synced, so tests are fast.

Only what goes through this object is known to it: a file that another hand wrote counts as durable.
"""

from __future__ import annotations

import errno as errno_names
import fnmatch
import os
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from bourne.ports import OsFiles

Call = Literal["open", "write", "truncate", "sync", "sync_folder", "replace", "remove"]

# A disk writes whole sectors: of a torn write, any of them may be there.
_SECTOR_BYTES: Final = 512


@dataclass
class _Content:
    """A file without its name: what is durable of it, and the writes (or cuts: None) since."""

    durable: bytearray
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)


@dataclass
class _Renaming:
    """A change of a folder: what a name stood for, and what it stands for now."""

    path: Path
    before: _Content | None
    after: _Content | None


class _Struck(OSError):
    """The error of a failed call; `bytes_written` says how much of a write happens all the same."""

    def __init__(self, errno: int, reason: str, bytes_written: int, is_death: bool) -> None:
        super().__init__(errno, reason)
        self.bytes_written = bytes_written
        self.is_death = is_death


@dataclass
class _Fault:
    """Fails one call: the `wait`-th that fits from now on, and all after it if `always`."""

    call: Call
    name: str
    wait: int
    errno: int
    bytes_written: int
    always: bool


class FaultyFiles:
    """An implementation of the `Files` port for tests."""

    def __init__(self) -> None:
        """Start without faults."""
        self.calls: list[tuple[Call, str]] = []
        """Every call so far: its kind and the name of its file or folder."""
        self._files = OsFiles()
        self._faults: list[_Fault] = []
        self._open: dict[int, tuple[Path, _Content]] = {}
        self._contents: dict[Path, _Content] = {}
        self._renamings: dict[Path, list[_Renaming]] = {}  # by folder, since it was synced
        self._dead: set[int] = set()
        self._calls_until_death: int | None = None
        self._boots = 1

    # --- what a test says --------------------------------------------------------------------------------

    def fail(
        self,
        call: Call,
        *,
        nth: int = 1,
        error: int = errno_names.ENOSPC,
        bytes_written: int = 0,
        name: str = "*",
        always: bool = False,
    ) -> None:
        """Make the `nth` call of that kind from now on fail with `error`, once or from then on `always`.

        A write that fails has written its first `bytes_written` bytes. `name` is a pattern for the file's name.
        """
        self._faults.append(_Fault(call, name, nth, error, bytes_written, always))

    def heal(self) -> None:
        """Let calls succeed again."""
        self._faults.clear()
        self._calls_until_death = None

    def die_at(self, call_number: int) -> None:
        """Make the `call_number`-th call of any kind from now on, and all after it, fail: the power is gone.

        A write that dies has perhaps happened, other calls have not. To be followed by `crash`.
        """
        self._calls_until_death = call_number

    def kill(self) -> None:
        """Simulate the end of the process: what was written is there, the open files are of no more use."""
        self._dead.update(self._open)
        self.heal()

    def crash(self, seed: int | None = None) -> None:
        """Simulate a power cut. What was not synced is lost, or with a `seed` an arbitrary part of it is kept."""
        chance = random.Random(seed) if seed is not None else None
        self.kill()
        self._boots += 1
        names: dict[Path, _Content | None] = dict(self._contents)
        for renamings in self._renamings.values():
            names.update({each.path: each.before for each in reversed(renamings)})
            names.update({each.path: each.after for each in renamings if chance and chance.random() < 0.5})
        self._renamings.clear()
        self._contents = {path: content for path, content in names.items() if content is not None}
        for path, content in names.items():
            if content is None:
                path.unlink(missing_ok=True)
                continue
            if chance is not None:
                for position, data in content.pending:
                    _tear(content.durable, position, data, chance)
            content.pending.clear()
            if not path.parent.exists():  # the folder was deleted, not through this port
                del self._contents[path]
                continue
            # A new file in the place of the old one, so that memory maps of the old one stay whole.
            draft = path.with_name(path.name + ".crash")
            draft.write_bytes(content.durable)
            draft.replace(path)

    # --- the port ----------------------------------------------------------------------------------------

    def open(self, path: Path) -> int:
        """Open for reading and writing, create if missing."""
        self._strike("open", path)
        content = self._content(path)
        descriptor = self._files.open(path)
        if content is None:
            content = self._contents[path] = _Content(bytearray())
            self._rename(_Renaming(path, None, content))
        self._open[descriptor] = path, content
        return descriptor

    def write(self, descriptor: int, parts: Sequence[memoryview], position: int) -> None:
        """Write all parts at `position`."""
        path, content = self._opened(descriptor)
        data = b"".join(bytes(part) for part in parts)
        struck: _Struck | None = None
        try:
            self._strike("write", path)
        except _Struck as error:
            struck, data = error, data[: error.bytes_written]
        if data:
            self._files.write(descriptor, [memoryview(data)], position)
            content.pending.append((position, data))
        if struck is not None:
            raise struck

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut the file."""
        path, content = self._opened(descriptor)
        self._strike("truncate", path)
        self._files.truncate(descriptor, size)
        content.pending.append((size, None))

    def sync(self, descriptor: int) -> None:
        """Call the file's content durable. After a failed sync, as on a real system, no later one writes it."""
        path, content = self._opened(descriptor)
        try:
            self._strike("sync", path)
        except _Struck as error:
            if not error.is_death:
                content.pending = [(position, data) for position, data in content.pending if data is None]
            raise
        for position, data in content.pending:
            _apply(content.durable, position, data)
        content.pending.clear()

    def sync_folder(self, path: Path) -> None:
        """Call the names in the folder durable."""
        self._strike("sync_folder", path)
        self._renamings.pop(path, None)

    def replace(self, source: Path, target: Path) -> None:
        """Rename atomically. The rename of a folder counts as durable at once: a power cut does not undo it."""
        self._strike("replace", target)
        if source.is_dir():
            self._files.replace(source, target)
            moved = {
                path: target / path.relative_to(source) for path in self._contents if source in path.parents
            }
            for old, new in moved.items():
                self._contents[new] = self._contents.pop(old)
            return
        content, replaced = self._content(source), self._content(target)
        self._files.replace(source, target)
        assert content is not None
        self._contents[target] = self._contents.pop(source)
        self._rename(_Renaming(source, content, None))
        self._rename(_Renaming(target, replaced, content))

    def remove(self, path: Path) -> None:
        """Delete the file, if it is there."""
        self._strike("remove", path)
        content = self._content(path)
        self._files.remove(path)
        if content is not None:
            del self._contents[path]
            self._rename(_Renaming(path, content, None))

    def close(self, descriptor: int) -> None:
        """Close the file."""
        self._open.pop(descriptor, None)
        self._dead.discard(descriptor)
        self._files.close(descriptor)

    def boot_id(self) -> bytes:
        """Return another id after each crash."""
        return self._boots.to_bytes(16, "big")

    # --- how it works ------------------------------------------------------------------------------------

    def _content(self, path: Path) -> _Content | None:
        """Return what is known of a file; one that is met for the first time counts as durable."""
        if path not in self._contents and path.exists():
            self._contents[path] = _Content(bytearray(path.read_bytes()))
        return self._contents.get(path)

    def _rename(self, renaming: _Renaming) -> None:
        self._renamings.setdefault(renaming.path.parent, []).append(renaming)

    def _opened(self, descriptor: int) -> tuple[Path, _Content]:
        if descriptor in self._dead:
            raise OSError(errno_names.EIO, "the process that opened this file is gone")
        return self._open[descriptor]

    def _strike(self, call: Call, path: Path) -> None:
        """Note the call, and fail it if it is to fail."""
        self.calls.append((call, path.name))
        if self._calls_until_death is not None:
            self._calls_until_death -= 1
            if self._calls_until_death <= 0:
                written = sys.maxsize if self._calls_until_death == 0 else 0
                raise _Struck(errno_names.EIO, "the power is gone", written, is_death=True)
        for fault in self._faults:
            if fault.call != call or not fnmatch.fnmatchcase(path.name, fault.name):
                continue
            fault.wait -= 1
            if fault.wait == 0 or (fault.wait < 0 and fault.always):
                raise _Struck(fault.errno, os.strerror(fault.errno), fault.bytes_written, is_death=False)


def _apply(durable: bytearray, position: int, data: bytes | None) -> None:
    """Do one write, or cut if it is None; a gap is zeros."""
    if data is None:
        del durable[position:]
    durable.extend(bytes(max(0, position - len(durable))))
    if data is not None:
        durable[position : position + len(data)] = data


def _tear(durable: bytearray, position: int, data: bytes | None, chance: random.Random) -> None:
    """Do one write or cut wholly, in part, or not at all."""
    kept = chance.choice(("nothing", "all", "prefix", "sectors"))
    if kept == "nothing":
        return
    if kept == "all" or data is None:
        _apply(durable, position, data)
    elif kept == "prefix":
        _apply(durable, position, data[: chance.randrange(len(data) + 1)])
    else:
        end = position + len(data)
        for start in range(position - position % _SECTOR_BYTES, end, _SECTOR_BYTES):
            if chance.random() < 0.5:
                first = max(start, position)
                _apply(durable, first, data[first - position : start + _SECTOR_BYTES - position])
