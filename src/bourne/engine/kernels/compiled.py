"""How kernels are compiled: without the interpreter lock, and kept on disk for the next process.

Numba takes as long to import as all of Bourne, and most commands need no kernel: it comes with the first call of one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

_Function = TypeVar("_Function", bound=Callable[..., object])


def compiled(function: _Function) -> _Function:
    """Compile a function of NumPy arrays and numbers with Numba, when it is first called."""
    return cast(_Function, _Kernel(function))


# Threads may call the kernels of a module for the first time at once.
_MUTEX = threading.RLock()


class _Kernel:
    """A function that is not yet Numba's. With the first call of one, all of its module, and what that imports, become Numba's."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.py_func = function
        self._compiled: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any) -> Any:
        with _MUTEX:  # until the whole module is ready: kernels call each other through its names
            compiled = self._to_numba()
        return compiled(*arguments)

    def _to_numba(self) -> Callable[..., Any]:
        if self._compiled is None:
            import numba  # noqa: PLC0415

            self._compiled = numba.njit(nogil=True, cache=True)(self.py_func)
            names = self.py_func.__globals__
            kernels = [(name, found) for name, found in list(names.items()) if isinstance(found, _Kernel)]
            names.update({name: kernel._to_numba() for name, kernel in kernels})
        return self._compiled
