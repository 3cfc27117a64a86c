"""Where files are: a folder of this machine, or a bucket of an S3-compatible store.

A store lists the files that a pattern names, and opens them. What says that a file is the same as before (`version`) is
cheap to ask for; whether two files hold the same only `content` tells.
"""

from __future__ import annotations

import fnmatch
import functools
import glob
import hashlib
import io
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final, Protocol

from bourne.connect.silence import read_silence
from bourne.connect.urls import Url
from bourne.errors import DefinitionError, SourceFailed, Unreachable

_HASH_BYTES: Final = 1 << 20

# How much of an object is asked for at once, at least.
_FETCH_BYTES: Final = 1 << 20

# Names of files that are being written, by the habits of browsers, rsync, and data tools.
_UNFINISHED = re.compile(
    r"^[._]|[.](tmp|temp|part|partial|filepart|crdownload|draft|swp|inprogress)$|~$", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a store. `changed_us` is when it was last written, `version` changes whenever that is done again."""

    path: str
    size: int
    changed_us: int
    version: str


class Store(Protocol):
    """Files that a pattern names."""

    has_halves: bool
    """Whether a file may be seen while it is being written."""

    def entries(self) -> list[Entry]:
        """Return the files that there are, by path; not those whose names say that they are not finished.

        Raises:
            Unreachable, SourceFailed: they cannot be listed.
        """
        ...

    def content(self, entry: Entry) -> str:
        """Return what tells a file's content from any other.

        Raises:
            Unreachable, SourceFailed: it cannot be read.
        """
        ...

    def open(self, entry: Entry) -> BinaryIO:
        """Open a file for reading, unbuffered, at its beginning. What is added to it later is not read.

        Raises:
            Unreachable, SourceFailed: it cannot be read.
        """
        ...


def is_pattern(path: str) -> bool:
    """Say whether a path names several files."""
    return path.endswith("/") or any(char in path for char in "*?[")


class LocalFiles:
    """Files of this machine: one, those that match a pattern (`**` goes through folders), or all in a folder."""

    has_halves = True

    def __init__(self, path: str) -> None:
        self._path = path
        self.is_single = not is_pattern(path) and not Path(path).is_dir()

    def entries(self) -> list[Entry]:
        """Return the files that there are."""
        if self.is_single:
            paths = [self._path]
        elif Path(self._path).is_dir():
            paths = glob.glob(str(Path(glob.escape(self._path)) / "*"))
        else:
            paths = glob.glob(self._path, recursive=True)
        found = [self._entry(path) for path in sorted(paths)]
        return [entry for entry in found if entry is not None]

    def _entry(self, path: str) -> Entry | None:
        try:
            about = os.stat(path)  # noqa: PTH116  (a text, as it came)
        except FileNotFoundError:
            if self.is_single:
                raise SourceFailed(f"there is no file {path}", hint="check its path") from None
            return None  # gone meanwhile
        except OSError as error:
            raise SourceFailed(f"cannot read {path}", found=error.strerror) from error
        if not Path(path).is_file() or (not self.is_single and _UNFINISHED.search(Path(path).name)):
            return None
        version = f"{about.st_ino}-{about.st_size}-{about.st_mtime_ns}"
        return Entry(path, about.st_size, about.st_mtime_ns // 1000, version)

    def content(self, entry: Entry) -> str:
        """Return the SHA-256 of a file. O(bytes)."""
        digest = hashlib.sha256()
        with self.open(entry) as file:
            while piece := file.read(_HASH_BYTES):
                digest.update(piece)
        return digest.hexdigest()

    def open(self, entry: Entry) -> BinaryIO:
        """Open a file."""
        try:
            return _Start(Path(entry.path).open("rb", buffering=0), entry.size)  # type: ignore[return-value]
        except OSError as error:
            raise SourceFailed(f"cannot read {entry.path}", found=error.strerror) from error


class _Start(io.RawIOBase):
    """The first bytes of a file."""

    def __init__(self, file: io.FileIO, size: int) -> None:
        self._file = file
        self._size = size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes | None:
        left = max(0, self._size - self._file.tell())
        return self._file.read(left if size is None or size < 0 else min(size, left))

    def seek(self, offset: int, whence: int = 0) -> int:
        return (
            self._file.seek(self._size + offset, 0)
            if whence == io.SEEK_END
            else self._file.seek(offset, whence)
        )

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()


class BucketFiles:
    """Objects of an S3-compatible store: `s3://bucket/prefix/*.csv`; options `endpoint`, `region` and `silence`.

    Who may read is said by the usual variables (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, …). An object is seen when
    it is whole. Its content is told by its entity tag and size, which S3 makes from its bytes: nothing is read twice.
    """

    has_halves = False
    is_single = False

    def __init__(self, url: Url) -> None:
        try:
            import obstore
            from obstore.store import S3Store
        except ImportError as error:
            raise DefinitionError(
                "this needs a library that is not installed", where=url.text, hint="pip install 'bourne[s3]'"
            ) from error
        self._obstore = obstore
        self._bucket = url.host or ""
        self._pattern = url.path.lstrip("/")
        config: dict[str, Any] = {}
        if "endpoint" in url.options:
            config["endpoint"] = url.options["endpoint"]
        if "region" in url.options:
            config["region"] = url.options["region"]
        # A request is about a megabyte at most, and is not tried again for longer than one may take.
        bound = timedelta(seconds=read_silence(url.options, where=url.text))
        options: Mapping[str, Any] = {"allow_http": True, "timeout": bound, "connect_timeout": bound}
        retry: Any = {"max_retries": 3, "retry_timeout": bound}
        try:
            self._store = S3Store(self._bucket, config=config, client_options=options, retry_config=retry)
        except Exception as error:
            raise DefinitionError("cannot use that bucket", where=url.text, found=str(error)) from error

    def entries(self) -> list[Entry]:
        """Return the objects that match."""
        fixed = re.split(r"[*?\[]", self._pattern, maxsplit=1)[0]
        prefix = fixed.rpartition("/")[0]
        found = []
        try:
            for page in self._obstore.list(self._store, prefix=prefix or None):
                found += [self._entry(each) for each in page if self._matches(each["path"])]
        except Exception as error:
            raise self._unreachable(error) from error
        return sorted(found, key=lambda entry: entry.path)

    def _matches(self, path: str) -> bool:
        if _UNFINISHED.search(PurePosixPath(path).name):
            return False
        if self._pattern == "" or self._pattern.endswith("/"):
            return path.startswith(self._pattern) and "/" not in path[len(self._pattern) :]
        if not is_pattern(self._pattern):
            return path == self._pattern
        # As in a folder: a star stays within one level, two go through all.
        levels, wanted = path.split("/"), self._pattern.split("/")
        return _match_levels(levels, wanted)

    def _entry(self, about: Mapping[str, Any]) -> Entry:
        changed_us = int(about["last_modified"].timestamp() * 1e6)
        tag = f"{about['e_tag']}-{about['size']}"
        return Entry(f"s3://{self._bucket}/{about['path']}", about["size"], changed_us, tag)

    def content(self, entry: Entry) -> str:
        """Return its entity tag and size. O(1)."""
        return entry.version

    def open(self, entry: Entry) -> BinaryIO:
        """Open an object: pieces of it are fetched as it is read, each only if it still has the same entity tag."""
        return _Object(functools.partial(self._fetch, entry), entry.size)  # type: ignore[return-value]

    def _fetch(self, entry: Entry, start: int, length: int) -> bytes:
        options = {"range": (start, start + length), "if_match": entry.version.rpartition("-")[0]}
        try:
            piece = bytes(self._obstore.get(self._store, self._key(entry), options=options).bytes())
        except FileNotFoundError as error:
            raise SourceFailed(f"there is no {entry.path} any more", found=str(error)) from error
        except self._obstore.exceptions.PreconditionError as error:
            raise SourceFailed(
                f"{entry.path} was overwritten while it was read", hint="write what is new under a new name"
            ) from error
        except Exception as error:
            raise self._unreachable(error) from error
        if len(piece) != length:
            raise Unreachable(f"a piece of {entry.path} is cut short", expected=length, found=len(piece))
        return piece

    def _key(self, entry: Entry) -> str:
        return entry.path.removeprefix(f"s3://{self._bucket}/")

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(
            f"cannot read from bucket {self._bucket!r}", found=str(error).splitlines()[0][:300],
            hint="check endpoint, region, network, and the variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )  # fmt: skip


class _Object(io.RawIOBase):
    """An object as a file: `fetch` returns so many bytes from an offset on."""

    def __init__(self, fetch: Callable[[int, int], bytes], size: int) -> None:
        self._fetch = fetch
        self._size = size
        self._at = 0
        self._start, self._piece = 0, b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._size - self._at)
        wanted = left if size is None or size < 0 else min(size, left)
        pieces = []
        while wanted:
            offset = self._at - self._start
            if not 0 <= offset < len(self._piece):
                length = min(max(wanted, _FETCH_BYTES), self._size - self._at)
                self._start, self._piece, offset = self._at, self._fetch(self._at, length), 0
            pieces.append(self._piece[offset : offset + wanted])
            wanted -= len(pieces[-1])
            self._at += len(pieces[-1])
        return b"".join(pieces)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at


def _match_levels(levels: list[str], wanted: list[str]) -> bool:
    if not wanted:
        return not levels
    if wanted[0] == "**":
        return any(_match_levels(levels[skipped:], wanted[1:]) for skipped in range(len(levels) + 1))
    return (
        bool(levels) and fnmatch.fnmatchcase(levels[0], wanted[0]) and _match_levels(levels[1:], wanted[1:])
    )
