"""Who is at work is seen by others, and who only looks keeps nobody from it."""

from __future__ import annotations

import os
import threading

from bourne.log.at_work import is_taken, take


def test_one_takes_it_and_all_see_that(tmp_path):
    path = tmp_path / "lock"
    assert not is_taken(path)
    descriptor = take(path)
    assert descriptor is not None and is_taken(path)
    assert take(path) is None
    os.close(descriptor)
    assert not is_taken(path)


def test_who_looks_keeps_nobody_from_it(tmp_path):
    path, is_over = tmp_path / "lock", threading.Event()

    def look() -> None:
        while not is_over.is_set():
            is_taken(path)

    looking = [threading.Thread(target=look) for _ in range(4)]
    for thread in looking:
        thread.start()
    try:
        for _ in range(300):
            descriptor = take(path)
            assert descriptor is not None
            assert take(path) is None
            os.close(descriptor)
    finally:
        is_over.set()
        for thread in looking:
            thread.join()
