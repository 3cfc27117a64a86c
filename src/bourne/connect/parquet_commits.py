"""The commits of a folder of files: what is in it changes by one rename, and a crash leaves nothing half done for long.

Law: a commit is a record, `_bourne/commit.json`, that is replaced atomically. It names the files that come (drafts in
`_bourne/drafts`, synced before), those that go, and the position. Then the drafts get their places, and what goes is
removed. `complete` does again what a crash left of that, and removes the drafts of a commit that did not come to
be. The record is replaced only when the last one is complete.

No reader of `**/*.parquet` sees a draft or the record: they are not called so.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bourne.connect.positions import position_text
from bourne.connect.source import Position
from bourne.errors import SinkFailed, StorageError, Unreachable
from bourne.log.catalog import FORMAT, read_json
from bourne.ports import Files, make_folder_durably, write_durably

RECORDS: Final = "_bourne"
_FILE_PREFIX: Final = "bourne-"

# What file systems say that have no second names for a file.
_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit: its number, the position, the files that come with it and those that go, as paths in the folder.

    `what` says what kind of rows the folder holds; it stays the same.
    """

    number: int
    position: Position | None
    what: dict[str, Any]
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


class CommittedFolder:
    """A folder whose files come and go by commits."""

    def __init__(self, path: Path, what: dict[str, Any], files: Files) -> None:
        """Note where it is, and what kind of rows it is to hold."""
        self._path, self._what, self._files = path, what, files
        self._records = path / RECORDS
        self._drafts = self._records / "drafts"
        self._record = self._records / "commit.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other writers out for the block.

        Raises:
            Unreachable: there is one, or the disk refuses.
        """
        try:
            make_folder_durably(self._files, self._drafts)
            descriptor = os.open(self._records / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield
            finally:
                os.close(descriptor)
        except OSError as error:
            is_locked = isinstance(error, BlockingIOError)
            what = "another process writes to the folder" if is_locked else "the folder cannot be written to"
            raise Unreachable(what, where=str(self._path), found=error.strerror) from error

    def read(self) -> Commit:
        """Return the last commit; one without a number of its own (0) if the folder is new.

        Raises:
            SinkFailed: the folder holds something else.
        """
        where = str(self._path)
        try:
            content = read_json(self._record)
        except StorageError as error:
            raise SinkFailed(
                "the folder's record cannot be read", where=error.where, found=error.found
            ) from error
        if content is None:
            found = next(self._path.rglob(f"{_FILE_PREFIX}*.parquet"), None)
            if found is not None:
                raise SinkFailed(
                    "the folder has files of Bourne's, but not their record", where=where, found=str(found),
                    hint="restore the folder whole; or empty it to start over",
                )  # fmt: skip
            return Commit(0, None, self._what)
        if content.get("what") != self._what:
            raise SinkFailed(
                "the folder holds other rows", where=where, expected=self._what, found=content.get("what"),
                hint="write to another folder; from a job to one for each instance, such as parquet:out/{day}/",
            )  # fmt: skip
        return Commit(
            content["number"],
            content["position"],
            content["what"],
            tuple(content["added"]),
            tuple(content["removed"]),
        )

    def complete(self, commit: Commit) -> None:
        """Do what a commit says, as far as it is not done, and remove the drafts of no commit."""
        folders = set()
        for index, name in enumerate(commit.added):
            draft, target = self._draft(commit.number, index), self._path / name
            if draft.exists():
                make_folder_durably(self._files, target.parent)
                self._place(draft, target)
                folders.add(target.parent)
            elif not target.exists():
                raise SinkFailed(
                    "a file of the folder is gone",
                    where=str(target),
                    hint="restore it; or empty the folder to start over",
                )
        for folder in sorted(folders):
            self._files.sync_folder(folder)
        gone = [self._path / name for name in commit.removed if (self._path / name).exists()]
        for path in gone:
            self._files.remove(path)
        for folder in sorted({path.parent for path in gone}):  # else they could come back, and count again
            self._files.sync_folder(folder)
        for draft in self._drafts.iterdir():
            self._files.remove(draft)

    def commit(
        self, last: Commit, position: Position | None, names: Sequence[str], write: Callable[[int, Path], None],
        *, removed: Sequence[str] = (),
    ) -> Commit:  # fmt: skip
        """Add files, remove others, and set the position, all at one moment; durable on return.

        Args:
            last: the commit before, which is complete.
            names: where the files go.
            write: writes one of them, by its index, as a draft.
        """
        number = last.number + 1
        for index in range(len(names)):
            draft = self._draft(number, index)
            write(index, draft)
        if names:
            self._files.sync_folder(self._drafts)
        commit = Commit(number, position, self._what, tuple(names), tuple(removed))
        content = {
            "format": FORMAT,
            "number": number,
            "position": json.loads(position_text(position) or "null"),
            "what": self._what,
            "added": commit.added,
            "removed": commit.removed,
        }
        write_durably(self._files, self._record, json.dumps(content, ensure_ascii=False).encode())
        self.complete(commit)
        return commit

    def _place(self, draft: Path, target: Path) -> None:
        """Give a draft its name in the folder, the old one apart: so no file system can lose both in a power cut."""
        try:
            os.link(draft, target)
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self._files.replace(draft, target)

    def names_of(self, folder: str) -> list[str]:
        """Return the files of ours in a folder of this one, as paths in this one."""
        return sorted(
            f"{folder}{path.name}"
            for path in (self._path / folder).glob(f"{_FILE_PREFIX}*.parquet")
            if path.is_file()
        )

    def _draft(self, number: int, index: int) -> Path:
        return self._drafts / f"{number:012d}-{index:06d}"


def file_name(number: int) -> str:
    """Return what the file of a commit is called, in each folder that it has one in."""
    return f"{_FILE_PREFIX}{number:012d}.parquet"
