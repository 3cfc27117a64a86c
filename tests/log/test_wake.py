"""Waiting for appends: no wake-up is lost, none is for nothing, and waiting costs nothing."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import gc
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

from bourne.errors import Closed, StorageError
from bourne.limits import POLL_INTERVAL_S
from bourne.log import wake as wake_module
from bourne.log.wake import Wake, WakingEvent
from waiting import until

PATIENCE_S = 30.0  # an upper bound only: nothing that works takes as long

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


@pytest.fixture(params=[False, True], ids=["watching", "polling"])
def is_polling(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A partition's folder, with a `head`."""
    folder = tmp_path / "0"
    folder.mkdir()
    write(folder / "head", 0)
    return folder


@pytest.fixture
def wake(folder: Path, is_polling: bool) -> Iterator[Wake]:
    with Wake([folder], is_polling=is_polling) as wake:
        assert not wake.wait(0)
        yield wake


def write(path: Path, number: int) -> None:
    """Overwrite in place, as a writer publishes its head."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    os.pwrite(descriptor, number.to_bytes(8, "little"), 0)
    os.close(descriptor)


def number_in(path: Path) -> int:
    return int.from_bytes(path.read_bytes(), "little")


def is_asleep(thread: threading.Thread) -> bool:
    """Say whether a thread sleeps in the system."""
    stat = Path(f"/proc/self/task/{thread.native_id}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "S"


# --- what wakes ----------------------------------------------------------------------------------------

WRITER = """
import os, sys
path, count, is_answered, is_replacing = sys.argv[1], int(sys.argv[2]), "answered" in sys.argv, "replacing" in sys.argv
descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
os.write(1, b"r")
for number in range(1, count + 1):
    if is_answered or number == 1:
        assert os.read(0, 1) == b"g"
    if is_replacing:
        descriptor = os.open(path + ".draft", os.O_RDWR | os.O_CREAT)
    os.pwrite(descriptor, number.to_bytes(8, "little"), 0)
    if is_replacing:
        os.rename(path + ".draft", path)
        os.close(descriptor)
os.read(0, 1)
"""


def writer(path: Path, count: int, *how: str) -> subprocess.Popen[bytes]:
    """Start a process that puts 1 to `count` into `path`, the first when it reads a byte.

    "answered": each when it reads a byte. "replacing": by a new file each time.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(count), *how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    )
    assert process.stdout is not None
    assert process.stdout.read(1) == b"r"
    return process


def test_a_write_of_another_process_wakes_who_sleeps(wake: Wake, folder: Path) -> None:
    with writer(folder / "head", 1, "answered") as process:
        assert process.stdin is not None
        woken: list[bool] = []
        waiter = threading.Thread(target=lambda: woken.append(wake.wait(PATIENCE_S)))
        waiter.start()
        if sys.platform == "linux":
            until(lambda: is_asleep(waiter))
        process.stdin.write(b"g")
        waiter.join()
        assert woken == [True]
        assert number_in(folder / "head") == 1
        process.stdin.close()


@pytest.mark.parametrize("is_replacing", [False, True], ids=["in place", "replacing"])
@pytest.mark.parametrize("is_answered", [False, True], ids=["unasked", "answered"])
def test_no_wake_up_is_lost(
    wake: Wake, folder: Path, is_polling: bool, is_answered: bool, is_replacing: bool
) -> None:
    """Read, find nothing, wait: against a writer that waits for each to be seen, and one that does not."""
    count = 50 if is_polling and is_answered else 1000 if is_replacing else 10_000
    how = ["answered"] * is_answered + ["replacing"] * is_replacing
    head = folder / "head"
    with writer(head, count, *how) as process:
        assert process.stdin is not None
        for number in range(1, count + 1):
            if is_answered or number == 1:
                process.stdin.write(b"g")
            while number_in(head) < number:
                assert wake.wait(PATIENCE_S)
        process.stdin.close()
    assert process.returncode == 0
    wake.wait(0)
    assert not wake.wait(0)


def test_what_happens_between_two_waits_wakes_the_second_once(wake: Wake, folder: Path) -> None:
    for number in range(1, 4):
        write(folder / "head", number)
    assert wake.wait(PATIENCE_S)
    assert not wake.wait(0.02)


def test_other_files_wake_nobody(wake: Wake, folder: Path, tmp_path: Path) -> None:
    write(folder / "00000000000000000000.seg", 1)
    write(folder / "head.draft", 1)
    write(tmp_path / "head", 1)
    number_in(folder / "head")
    assert not wake.wait(0.02)


def test_each_of_several_partitions_wakes(tmp_path: Path, is_polling: bool) -> None:
    folders = [tmp_path / str(number) for number in range(20)]
    for folder in folders:
        folder.mkdir()
    with Wake(folders, is_polling=is_polling) as wake:
        for number in (1, 2):
            for folder in folders:
                write(folder / "head", number)
                assert wake.wait(PATIENCE_S)
                assert not wake.wait(0)


def test_a_head_that_comes_later_wakes_and_then_each_write_to_it(tmp_path: Path, is_polling: bool) -> None:
    with Wake([tmp_path], is_polling=is_polling) as wake:
        write(tmp_path / "00000000000000000000.seg", 1)
        write(tmp_path / "header", 1)
        assert not wake.wait(0.02)
        for number in range(1, 4):
            write(tmp_path / "head", number)
            assert wake.wait(PATIENCE_S)
        write(tmp_path / "00000000000000000000.seg", 2)
        assert not wake.wait(0.02)


@pytest.mark.parametrize("is_held_open", [False, True])
def test_a_head_that_is_replaced_wakes_and_then_each_write_to_the_new_one(
    wake: Wake, folder: Path, is_held_open: bool
) -> None:
    old = (folder / "head").open("rb+", buffering=0)
    if not is_held_open:
        old.close()
    write(folder / "draft", 1)
    (folder / "draft").replace(folder / "head")
    assert wake.wait(PATIENCE_S)
    for number in range(2, 4):
        write(folder / "head", number)
        assert wake.wait(PATIENCE_S)
    if is_held_open:
        old.write(b"nobody sees this")
        old.close()
    assert not wake.wait(0.02)


def test_a_head_that_is_deleted_wakes_and_so_does_the_next(wake: Wake, folder: Path) -> None:
    for number in range(1, 4):
        (folder / "head").unlink()
        assert wake.wait(PATIENCE_S)
        assert not wake.wait(0.02)
        write(folder / "head", number)
        assert wake.wait(PATIENCE_S)


@pytest.mark.parametrize("has_head", [False, True])
def test_a_folder_that_is_deleted_wakes_once_and_is_found_again(
    wake: Wake, folder: Path, is_polling: bool, has_head: bool
) -> None:
    if not has_head:
        (folder / "head").unlink()
        assert wake.wait(PATIENCE_S)
    shutil.rmtree(folder)
    if has_head or not is_polling:  # who looks for the file does not see that its folder is gone, too
        assert wake.wait(PATIENCE_S)
    assert not wake.wait(0.02)
    folder.mkdir()
    write(folder / "head", 1)
    assert wake.wait(PATIENCE_S)
    write(folder / "head", 2)
    assert wake.wait(PATIENCE_S)


def watches(wake: Wake) -> int:
    return Path(f"/proc/self/fdinfo/{wake._watch.fileno()}").read_text().count("inotify wd:")


@linux_only
def test_a_partition_takes_one_watch_whatever_happened(folder: Path) -> None:
    with Wake([folder]) as wake:
        for number in range(20):
            old = (folder / "head").open("rb")
            if number % 2:
                (folder / "head").unlink()
                assert wake.wait(PATIENCE_S)
                assert watches(wake) == 1
            write(folder / "draft", number)
            (folder / "draft").replace(folder / "head")
            assert wake.wait(PATIENCE_S)
            assert watches(wake) == 1
            old.close()


@linux_only
def test_more_events_than_the_system_keeps_wake_all_the_same(tmp_path: Path) -> None:
    folders = [tmp_path / "0", tmp_path / "1"]
    for folder in folders:
        folder.mkdir()
        write(folder / "head", 0)
    kept = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    with Wake(folders) as wake:
        descriptors = [os.open(folder / "head", os.O_RDWR) for folder in folders]
        for number in range(kept + 2):  # equal events that follow each other are one
            os.pwrite(descriptors[number % 2], b"x", 0)
        for descriptor, folder in zip(descriptors, folders, strict=True):
            os.close(descriptor)
            write(folder / "draft", 1)
            (folder / "draft").replace(folder / "head")  # not told: the queue is full
        assert wake.wait(PATIENCE_S)
        until(lambda: not wake.drain())
        for folder in folders:
            write(folder / "head", 2)
            assert wake.wait(PATIENCE_S)
        assert not wake.is_polling


# --- what else ends a wait -----------------------------------------------------------------------------


def test_a_timeout_is_kept_and_costs_no_time_of_the_processor(wake: Wake, is_polling: bool) -> None:
    start_s, start_cpu_s = time.monotonic(), time.process_time()
    assert not wake.wait(0.3)
    assert 0.3 <= time.monotonic() - start_s < PATIENCE_S
    assert time.process_time() - start_cpu_s < (0.15 if is_polling else 0.01)


def test_a_wait_longer_than_the_system_counts(
    wake: Wake, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "head", 1)
    assert wake.wait(1e9)
    wake.notify()
    assert wake.wait(float("inf"))
    monkeypatch.setattr(wake_module, "_SLEEP_S_MAX", 0.001)
    assert not wake.wait(0.02)


def test_a_notification_wakes_now_or_the_next_time(wake: Wake) -> None:
    wake.notify()
    wake.notify()
    assert wake.wait(None)
    assert not wake.wait(0)
    notifier = threading.Thread(target=wake.notify)
    notifier.start()
    assert wake.wait(None)
    notifier.join()
    for _ in range(70_000):  # more than a pipe holds
        wake.notify()
    assert wake.drain()


def test_closing_ends_a_wait_of_another_thread(wake: Wake) -> None:
    woken: list[bool] = []
    waiter = threading.Thread(target=lambda: woken.append(wake.wait(None)))
    waiter.start()
    if sys.platform == "linux":
        until(lambda: is_asleep(waiter))
    wake.close()
    waiter.join()
    assert woken in ([True], [])  # closed before it waited, elsewhere than on Linux
    wake.close()
    wake.notify()
    for call in (wake.drain, wake.fileno, lambda: wake.wait(0)):
        with pytest.raises(Closed):
            call()
    assert repr(wake).endswith("closed>")


@pytest.fixture
def alarm() -> Iterator[Callable[[Callable[[int, FrameType | None], object]], None]]:
    """Let a signal come in 50 ms, while the test waits, and be handled by the given function."""
    before = signal.getsignal(signal.SIGALRM)

    def set_alarm(handler: Callable[[int, FrameType | None], object]) -> None:
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.05)

    yield set_alarm
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


Alarm = Callable[[Callable[[int, FrameType | None], object]], None]


def test_an_interrupt_ends_a_wait(wake: Wake, folder: Path, alarm: Alarm) -> None:
    start_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        alarm(signal.default_int_handler)
        wake.wait(None)
    assert time.monotonic() - start_s < PATIENCE_S
    write(folder / "head", 1)
    assert wake.wait(PATIENCE_S)


def test_a_handled_signal_does_not_end_a_wait_but_may_notify(wake: Wake, alarm: Alarm) -> None:
    handled: list[int] = []
    alarm(lambda number, _: handled.append(number))
    assert not wake.wait(0.1)
    assert handled == [signal.SIGALRM]
    alarm(lambda *_: wake.notify())
    assert wake.wait(None)


# --- asyncio -------------------------------------------------------------------------------------------


def test_a_task_follows_without_a_thread(wake: Wake, folder: Path, is_polling: bool) -> None:
    """As `fileno` says it is used."""
    count = 50 if is_polling else 1000
    head = folder / "head"
    calls, threads = 0, threading.active_count()

    async def follow(process: subprocess.Popen[bytes]) -> None:
        nonlocal calls
        assert process.stdin is not None
        loop, woken = asyncio.get_running_loop(), asyncio.Event()

        def drain() -> None:
            nonlocal calls
            calls += 1
            if wake.drain():
                woken.set()

        loop.add_reader(wake.fileno(), drain)
        for number in range(1, count + 1):
            process.stdin.write(b"g")
            while True:
                woken.clear()
                if number_in(head) >= number:
                    break
                await woken.wait()
        loop.remove_reader(wake.fileno())

    with writer(head, count, "answered") as process:
        assert process.stdin is not None
        start_s = time.monotonic()
        asyncio.run(asyncio.wait_for(follow(process), PATIENCE_S))
        ticks = (time.monotonic() - start_s) / POLL_INTERVAL_S if is_polling else 0
        process.stdin.close()
    assert threading.active_count() == threads
    assert calls <= count + ticks + 10  # it does not spin


# --- descriptors, and what the system refuses ----------------------------------------------------------


def open_descriptors() -> int:
    gc.collect()
    return len(os.listdir("/dev/fd"))  # noqa: PTH208


def test_no_descriptor_stays_open(folder: Path, is_polling: bool) -> None:
    before = open_descriptors()
    for number in range(40):
        with Wake([folder], is_polling=is_polling) as wake:
            write(folder / "head", number + 1)
            assert wake.wait(PATIENCE_S)
    assert open_descriptors() == before
    forgotten = Wake([folder], is_polling=is_polling)
    assert open_descriptors() > before
    del forgotten
    assert open_descriptors() == before


class NoMore:
    """A C library whose functions of that name fail, after `calls` that do not."""

    def __init__(self, name: str, code: int, calls: int = 0) -> None:
        self._real = ctypes.CDLL(None, use_errno=True)
        self._name, self._code, self._calls = name, code, calls

    def __getattr__(self, name: str) -> object:
        return self._fail if name == self._name else getattr(self._real, name)

    def _fail(self, *arguments: object) -> int:
        self._calls -= 1
        if self._calls >= 0:
            return int(getattr(self._real, self._name)(*arguments))
        ctypes.set_errno(self._code)
        return -1


@linux_only
@pytest.mark.parametrize(
    ("function", "code"),
    [("inotify_init1", errno.EMFILE), ("inotify_init1", errno.ENOSYS), ("inotify_add_watch", errno.ENOSPC)],
)
def test_without_inotify_the_files_are_looked_at(
    folder: Path, monkeypatch: pytest.MonkeyPatch, function: str, code: int
) -> None:
    monkeypatch.setattr(wake_module, "_libc", lambda: NoMore(function, code))
    before = open_descriptors()
    with Wake([folder]) as wake:
        assert wake.is_polling
        assert "polling" in repr(wake)
        write(folder / "head", 1)
        assert wake.wait(PATIENCE_S)
        assert not wake.wait(0.02)
    assert open_descriptors() == before


@linux_only
def test_when_watches_run_out_on_the_way_the_files_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wake_module, "_libc", lambda: NoMore("inotify_add_watch", errno.ENOSPC, calls=4))
    before = open_descriptors()
    with Wake([tmp_path]) as wake:  # it tries the file and watches the folder, twice
        descriptor = wake.fileno()
        assert "watching" in repr(wake)
        write(tmp_path / "head", 1)
        assert wake.wait(PATIENCE_S)
        assert wake.is_polling
        for number in range(2, 5):
            write(tmp_path / "head", number)
            assert wake.wait(PATIENCE_S)
            assert not wake.wait(0)
        assert wake.fileno() == descriptor
    assert open_descriptors() == before


def test_a_head_that_cannot_be_read_is_named(folder: Path, is_polling: bool) -> None:
    (folder / "loop").symlink_to("loop")
    before = open_descriptors()
    with pytest.raises(StorageError) as caught:
        Wake([folder / "loop"], is_polling=is_polling)
    assert caught.value.where == str(folder / "loop" / "head")
    assert open_descriptors() == before


def test_no_partitions_are_only_notified(is_polling: bool) -> None:
    with Wake([], is_polling=is_polling) as wake:
        assert not wake.wait(0.01)
        wake.notify()
        assert wake.wait(None)


def test_an_event_ends_the_waits_that_were_made_with_it(tmp_path: Path, is_polling: bool) -> None:
    stop = WakingEvent()
    with Wake([tmp_path], is_polling=is_polling, stop=stop) as first, Wake([tmp_path], stop=stop) as second:
        waiting = [threading.Thread(target=wake.wait, args=(None,)) for wake in (first, second)]
        for thread in waiting:
            thread.start()
        stop.set()
        for thread in waiting:
            thread.join(60)
            assert not thread.is_alive()
    del first, second, thread, waiting
    stop.set()  # they are gone
    assert stop.is_set()
    with Wake([tmp_path], stop=threading.Event()) as other:
        assert not other.wait(0)
