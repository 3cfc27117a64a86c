"""How kernels are compiled: without the interpreter lock, and kept on disk for the next process."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

_Function = TypeVar("_Function", bound=Callable[..., object])


def compiled(function: _Function) -> _Function:
    """Compile a function of NumPy arrays and numbers with Numba, when it is first called."""
    return cast(_Function, numba.njit(nogil=True, cache=True)(function))
