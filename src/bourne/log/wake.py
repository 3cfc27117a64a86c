"""Waiting for appends: asleep until the file `head` of a partition is written, by whichever process.

Law: no wake-up is lost. What happens between two waits is kept for the next one, so who reads, finds nothing and
waits cannot miss an append between the two. One wake-up too many is allowed: read, find nothing, wait again.

The system's inotify is asked, see inotify(7). Where that cannot be (not Linux, or no more instances or watches:
usually 128 and some ten thousand per user), the bytes of `head` are compared every `POLL_INTERVAL_S` instead. What
this does not do: hear of writes by another machine to a network file system, or of a folder that was renamed, or
put back after it was gone; a timeout is the remedy for these.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import select
import selectors
import struct
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from io import FileIO
from pathlib import Path
from typing import Final

from bourne.errors import Closed
from bourne.limits import POLL_INTERVAL_S
from bourne.log.disk import disk_errors

# The system counts a timeout in milliseconds, in 32 bits; a longer wait goes on after this long, in seconds.
_SLEEP_S_MAX: Final = 3600.0

# What is read at once of a queue of events, or of notifications. What is left wakes the next wait.
_QUEUE_BYTES: Final = 1 << 16

# A `head` is a few hundred bytes.
_HEAD_BYTES_MAX: Final = 1 << 12

# How often a watch is set anew while the file is being replaced, before that is left to the next wait.
_ARM_TRIES: Final = 8


class WakingEvent(threading.Event):
    """An event that also ends the waits of each `Wake` that was made with it, at once when it is set.

    `set` may be called by a signal's handler, provided that nobody in that thread calls `wait` of the event itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self._wakes: list[
            weakref.ref[Wake]
        ] = []  # only ever replaced, so that a signal's handler sees it whole

    def wakes(self, wake: Wake) -> None:
        """Let `set` end the waits of that one, too."""
        self._wakes = [each for each in self._wakes if each() is not None] + [weakref.ref(wake)]

    def set(self) -> None:
        """Set it, and end the waits."""
        super().set()
        for each in self._wakes:
            wake = each()
            if wake is not None:
                wake.notify()


class Wake:
    """Wakes who waits for appends. For one waiter at a time; `notify` and `close` may come from any thread.

    Not for use by a process forked after it was made: both would share one queue.
    """

    def __init__(
        self, folders: Sequence[Path], *, is_polling: bool = False, stop: threading.Event | None = None
    ) -> None:
        """Watch from now on the partitions in these folders, which exist; their `head` may come later.

        `is_polling` forces to look at the files in intervals; it is what is done if the system has nothing better. A
        `stop` that is a `WakingEvent` ends a wait when it is set; any other event does not.

        Raises:
            StorageError: no more files may be opened, or a `head` cannot be read.
        """
        self._is_closed = True
        self._mutex = threading.RLock()  # a signal's handler may call `notify`, even within it
        self._folders = tuple(folders)
        self._waiters = 0
        with ExitStack() as opened, self._disk_errors():
            self._selector = opened.enter_context(selectors.DefaultSelector())
            self._notified, self._notify = os.pipe()
            for descriptor in (self._notified, self._notify):
                opened.callback(os.close, descriptor)
                os.set_blocking(descriptor, False)
            self._selector.register(self._notified, selectors.EVENT_READ)
            self._watch = self._make_watch(is_polling)
            opened.callback(self._watch.close)
            self._selector.register(self._watch, selectors.EVENT_READ)
            self._opened = opened.pop_all()
        self._is_closed = False
        if isinstance(stop, WakingEvent):
            stop.wakes(self)

    @property
    def is_polling(self) -> bool:
        """Say whether the files are looked at in intervals, as the system does not tell of writes."""
        return isinstance(self._watch, _Looks)

    def wait(self, timeout_s: float | None) -> bool:
        """Sleep until a `head` was written, created, replaced or deleted since the last `wait` or `drain`.

        Returns True at once if that has happened already, and for a `notify` or a `close`; False when `timeout_s`
        seconds (None: no end) are over. A signal's handler is run at once, and what it raises ends the wait.

        Raises:
            Closed: it was closed before.
            StorageError: a `head` cannot be read.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._in_use():
            while not self._take():
                left_s = _SLEEP_S_MAX if deadline is None else deadline - time.monotonic()
                if left_s <= 0:
                    return False
                self._selector.select(min(left_s, _SLEEP_S_MAX))
        return True

    def fileno(self) -> int:
        """Return the descriptor that is readable when `drain` may have something to say. For asyncio:

            woken = asyncio.Event()
            loop.add_reader(wake.fileno(), lambda: wake.drain() and woken.set())
            while True:
                woken.clear()
                ...  # read all that there is
                await woken.wait()

        It stays readable until `drain` is called, so without the `drain` in the callback the loop would spin. Call
        `loop.remove_reader` before `close`.

        Raises:
            Closed: it was closed before.
        """
        self._check_open()
        return self._selector.fileno()

    def drain(self) -> bool:
        """Return what `wait` would return, without waiting.

        Raises: as `wait`.
        """
        with self._in_use():
            return self._take()

    def notify(self) -> None:
        """Make the `wait` that is going on, or else the next one, return True. Does nothing once closed."""
        with self._mutex:
            if not self._is_closed:
                self._write_notification()

    def close(self) -> None:
        """Let go of the descriptors, and end a `wait` of another thread. Safe to call twice."""
        with self._mutex:
            if self._is_closed:
                return
            self._is_closed = True
            if self._waiters:
                self._write_notification()  # who waits closes them
            else:
                self._opened.close()

    def _take(self) -> bool:
        """Return whether something has happened, and forget it."""
        is_notified = _is_emptied(self._notified)
        try:
            return self._watch.take() or is_notified
        except _CannotWatch:
            looks = _Looks(self._folders)
            self._opened.callback(looks.close)
            self._selector.unregister(self._watch)
            self._watch.close()
            self._watch = looks
            self._selector.register(looks, selectors.EVENT_READ)
            return True  # nobody knows what was missed

    def _make_watch(self, is_polling: bool) -> _Inotify | _Looks:
        if not is_polling:
            with contextlib.suppress(_CannotWatch):
                return _Inotify(self._folders)
        return _Looks(self._folders)

    def _write_notification(self) -> None:
        with contextlib.suppress(BlockingIOError):  # a full pipe is notification enough
            os.write(self._notify, b"\0")

    @contextlib.contextmanager
    def _in_use(self) -> Iterator[None]:
        """Keep the descriptors open for the block, even if another thread closes this."""
        with self._mutex:
            self._check_open()
            self._waiters += 1
        try:
            with self._disk_errors():
                yield
        finally:
            with self._mutex:
                self._waiters -= 1
                if self._is_closed and not self._waiters:
                    self._opened.close()

    def _disk_errors(self) -> contextlib.AbstractContextManager[None]:
        folder = self._folders[0] if self._folders else Path()
        return disk_errors(folder, "cannot wait for appends")

    def _check_open(self) -> None:
        if self._is_closed:
            raise Closed("this wait for appends is closed")

    def __enter__(self) -> Wake:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "polling" if self.is_polling else "watching"
        return f"<wake for {', '.join(map(str, self._folders)) or 'nothing'}, {state}>"


# --- asking the system ---------------------------------------------------------------------------------

_IN_MODIFY: Final = 0x2
_IN_ATTRIB: Final = 0x4
_IN_MOVED_TO: Final = 0x80
_IN_CREATE: Final = 0x100
_IN_DELETE_SELF: Final = 0x400
_IN_MOVE_SELF: Final = 0x800
_IN_Q_OVERFLOW: Final = 0x4000
_IN_ONLYDIR: Final = 0x1000000

# A file that is deleted or replaced while somebody has it open tells so by its count of links: an attribute.
_FILE_EVENTS: Final = _IN_MODIFY | _IN_ATTRIB | _IN_DELETE_SELF | _IN_MOVE_SELF
_FOLDER_EVENTS: Final = _IN_CREATE | _IN_MOVED_TO | _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_ONLYDIR

# Watch, mask, cookie, bytes of the name that follows.
_EVENT: Final = struct.Struct("iIII")

_MISSING: Final = frozenset({errno.ENOENT, errno.ENOTDIR})


class _CannotWatch(Exception):
    """The system has no inotify, or no more of it."""


class _Inotify:
    """Watches each file `head`; where there is none, its folder until there is one; then it lets go of the folder.

    So a write to the segments does not wake anybody. A partition has one watch at most; `_watches` and `_folders`
    are each other's inverse. Those without one, as not even the folder is there, are looked for at each `take`.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._watches: dict[Path, int] = {}
        self._folders: dict[int, Path] = {}
        self._missing: set[Path] = set()
        try:
            self._libc = _libc()
            self._queue = FileIO(_checked(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)))
        except (OSError, AttributeError) as error:
            raise _CannotWatch from error
        try:
            for folder in dict.fromkeys(folders):
                self._arm(folder)
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        return self._queue.fileno()

    def close(self) -> None:
        self._queue.close()

    def take(self) -> bool:
        """Read the events that have come; return whether one of them concerns a `head`."""
        has_news = False
        for folder in tuple(self._missing):
            has_news |= self._arm(folder)
        for watch, mask, name in _events(self._queue.read(_QUEUE_BYTES) or b""):
            if mask & _IN_Q_OVERFLOW:
                has_news = True
                for folder in tuple(self._watches):
                    self._arm(folder)
            elif watch not in self._folders:
                pass  # of a watch that was given up
            elif mask & _IN_MODIFY:
                has_news = True
            elif not mask & (_IN_CREATE | _IN_MOVED_TO) or name == b"head":
                has_news |= self._arm(self._folders[watch])
        return has_news

    def _arm(self, folder: Path) -> bool:
        """Watch what is there now; return whether that is not what was watched before.

        A watch is set until it is the same twice: then the file was in its place when it was watched already, and
        whatever happens to it later is told.
        """
        before = self._watches.get(folder)
        tried = [before, self._add_best(folder), self._add_best(folder)]
        while tried[-1] != tried[-2] and len(tried) < _ARM_TRIES:
            tried.append(self._add_best(folder))
        is_settled = tried[-1] == tried[-2]
        now = tried[-1] if is_settled else None
        for watch in {*tried} - {now, None}:
            self._libc.inotify_rm_watch(self.fileno(), watch)  # fails if it went with its file: fine
        if before is not None:
            self._folders.pop(before, None)
        if now is None:
            self._watches.pop(folder, None)
            self._missing.add(folder)
        else:
            self._watches[folder], self._folders[now] = now, folder
            self._missing.discard(folder)
        return now != before or not is_settled

    def _add_best(self, folder: Path) -> int | None:
        watch = self._add(folder / "head", _FILE_EVENTS)
        return self._add(folder, _FOLDER_EVENTS) if watch is None else watch

    def _add(self, path: Path, events: int) -> int | None:
        """Return the watch of that file or folder, the same number each time; None if it is not there."""
        try:
            return _checked(self._libc.inotify_add_watch(self.fileno(), os.fsencode(path), events))
        except OSError as error:
            if error.errno in _MISSING:
                return None
            raise _CannotWatch from error


def _events(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield each event's watch, mask and name."""
    at = 0
    while at < len(data):
        watch, mask, _, name_bytes = _EVENT.unpack_from(data, at)
        at += _EVENT.size + name_bytes
        yield watch, mask, data[at - name_bytes : at].rstrip(b"\0")


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    """Return what a function of the C library returned, unless that says that it failed."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _is_emptied(pipe: int) -> bool:
    """Read what is in a pipe; return whether there was something."""
    try:
        return bool(os.read(pipe, _QUEUE_BYTES))
    except BlockingIOError:
        return False


# --- looking -------------------------------------------------------------------------------------------


class _Looks:
    """Compares the bytes of each `head` with those seen last, whenever it is asked, and is readable in intervals."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._heads = [folder / "head" for folder in folders]
        self._seen = self._look()
        self._ticks = _Ticks()

    def fileno(self) -> int:
        return self._ticks.fileno()

    def close(self) -> None:
        self._ticks.close()

    def take(self) -> bool:
        """Return whether a `head` differs from what it was at the last call."""
        self._ticks.clear()
        before, self._seen = self._seen, self._look()
        return self._seen != before

    def _look(self) -> list[bytes | None]:
        return [_content(head) for head in self._heads]


def _content(path: Path) -> bytes | None:
    try:
        with path.open("rb", buffering=0) as file:
            return file.read(_HEAD_BYTES_MAX)
    except (FileNotFoundError, NotADirectoryError):
        return None


if sys.platform == "linux":

    class _Ticks:
        """A timer that is readable every `POLL_INTERVAL_S`: see timerfd_create(2)."""

        def __init__(self) -> None:
            flags = os.O_NONBLOCK | os.O_CLOEXEC
            self._timer = FileIO(_checked(_libc().timerfd_create(time.CLOCK_MONOTONIC, flags)))
            interval = (0, round(POLL_INTERVAL_S * 1e9))
            spec = (ctypes.c_long * 4)(*interval, *interval)  # between two, and until the first
            _checked(_libc().timerfd_settime(self.fileno(), 0, spec, None))

        def fileno(self) -> int:
            return self._timer.fileno()

        def clear(self) -> None:
            """Make it not readable until it ticks again."""
            self._timer.read(8)

        def close(self) -> None:
            self._timer.close()

else:

    class _Ticks:
        """A timer that is readable every `POLL_INTERVAL_S`: see kqueue(2)."""

        def __init__(self) -> None:
            self._queue = select.kqueue()
            timer = select.kevent(
                1, select.KQ_FILTER_TIMER, select.KQ_EV_ADD, data=round(POLL_INTERVAL_S * 1000)
            )
            self._queue.control([timer], 0)

        def fileno(self) -> int:
            return self._queue.fileno()

        def clear(self) -> None:
            """Make it not readable until it ticks again."""
            self._queue.control(None, 1, 0)

        def close(self) -> None:
            self._queue.close()
