"""The hash that all indexes share. Hashes live in memory only and are never stored."""

from __future__ import annotations

from typing import Any

import numpy as np

from bourne.engine.kernels.compiled import compiled

_MULTIPLY_1 = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLY_2 = np.uint64(0xBF58476D1CE4E5B9)
_SHIFT_31 = np.uint64(31)
_SHIFT_32 = np.uint64(32)

SEED = np.uint64(0x2545F4914F6CDD1D)


@compiled
def mix(state: Any, word: Any) -> Any:
    """Return the state after one more 64-bit word (multiply and xor-shift, as in SplitMix64)."""
    state = (state ^ np.uint64(word)) * _MULTIPLY_1
    state ^= state >> _SHIFT_32
    state *= _MULTIPLY_2
    return state ^ (state >> _SHIFT_31)
