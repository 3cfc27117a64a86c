"""Kernels become Numba's with the first call, wherever they call each other from."""

from __future__ import annotations

import importlib
import sys
import threading
from pathlib import Path

import pytest

KERNELS = """
from bourne.engine.kernels.compiled import compiled

@compiled
def _one_more(x):
    return x + 1

@compiled
def doubled(x):
    return _one_more(x) * 2
"""

CALLERS = """
from bourne.engine.kernels.compiled import compiled
from lent_kernels import doubled

@compiled
def twice(x):
    return doubled(doubled(x))
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "lent_kernels.py").write_text(KERNELS)
    (tmp_path / "calling_kernels.py").write_text(CALLERS)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("calling_kernels"), importlib.import_module("lent_kernels")
    for name in ("lent_kernels", "calling_kernels"):
        del sys.modules[name]


def test_a_kernel_of_another_module_brings_its_own(modules):
    calling, lent = modules
    assert calling.twice(3) == 18
    assert lent.doubled(3) == 8


def test_threads_that_call_at_once(modules):
    calling, _ = modules
    first, found, together = calling.twice, [], threading.Barrier(4)

    def call() -> None:
        together.wait()
        found.append(first(3))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [18] * 4
