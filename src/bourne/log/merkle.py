"""Merkle trees as in RFC 9162 (Certificate Transparency), section 2.1: over a frame's body, and over all frames.

Law: `root_of(leaf, index, count, path_to(leaves, index)) == root(leaves)`, and a `Forest` that took in the same leaves
one by one has the same root. All hashes are SHA-256.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

LEAF_BYTES: Final = 1 << 14
"""A body is hashed in leaves of this size: small enough for small proofs, large enough to hash at full speed."""

_LEAF = hashlib.sha256(b"\x00")
_NODE = b"\x01"


def leaf_hash(data: bytes | memoryview) -> bytes:
    """Return the hash of a leaf."""
    digest = _LEAF.copy()
    digest.update(data)
    return digest.digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return hashlib.sha256(_NODE + left + right).digest()


class Forest(NamedTuple):
    """A tree that grows: the roots of its perfect subtrees, largest first. Adding is O(1) amortised, `root` O(log n)."""

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    def add(self, leaf: bytes) -> Forest:
        """Return the forest with one more leaf."""
        peaks, rest = self.peaks, self.size
        while rest & 1:
            leaf = node_hash(peaks[-1], leaf)
            peaks, rest = peaks[:-1], rest >> 1
        return Forest(self.size + 1, (*peaks, leaf))

    def root(self) -> bytes:
        """Return the root of the tree over all leaves; 32 zeros if there are none."""
        if not self.peaks:
            return bytes(32)
        result = self.peaks[-1]
        for peak in self.peaks[-2::-1]:
            result = node_hash(peak, result)
        return result


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the root of the tree over these leaves' hashes; 32 zeros if there are none."""
    level = list(leaves)
    if not level:
        return bytes(32)
    while len(level) > 1:
        pairs = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = [*pairs, level[-1]] if len(level) % 2 else pairs
    return level[0]


def path_to(index: int, count: int, subtree: Callable[[int, int], bytes]) -> list[bytes]:
    """Return the audit path of a leaf, from the leaf up; `subtree(start, end)` returns the root over leaves in between."""
    start, end, path = 0, count, []
    while end - start > 1:
        middle = start + _left_size(end - start)
        if index < middle:
            path.append(subtree(middle, end))
            end = middle
        else:
            path.append(subtree(start, middle))
            start = middle
    return path[::-1]


def root_of(leaf: bytes, index: int, count: int, path: Sequence[bytes]) -> bytes | None:
    """Return the root that a leaf and its audit path lead to; None if there cannot be such a path."""
    if not 0 <= index < count:
        return None
    sides: list[bool] = []  # is the leaf on the left, from the root down
    start, end = 0, count
    while end - start > 1:
        middle = start + _left_size(end - start)
        sides.append(index < middle)
        start, end = (start, middle) if index < middle else (middle, end)
    if len(sides) != len(path):
        return None
    for is_left, other in zip(reversed(sides), path, strict=True):
        leaf = node_hash(leaf, other) if is_left else node_hash(other, leaf)
    return leaf


def subtrees(first: int, peaks: Sequence[bytes], leaves: Sequence[bytes]) -> Callable[[int, int], bytes]:
    """Return `subtree` for `path_to`, knowing only the leaves from `first` on, and the peaks of those before."""
    known: dict[tuple[int, int], bytes] = {}
    start = 0
    for peak in peaks:
        size = _left_size(first - start + 1) if first - start > 0 else 0
        known[start, start + size] = peak
        start += size

    def subtree(start: int, end: int) -> bytes:
        if (start, end) not in known:
            if start >= first:
                known[start, end] = root(leaves[start - first : end - first])
            else:
                middle = start + _left_size(end - start)
                known[start, end] = node_hash(subtree(start, middle), subtree(middle, end))
        return known[start, end]

    return subtree


def _left_size(count: int) -> int:
    """Return the largest power of two below `count` (which is at least 2)."""
    return 1 << ((count - 1).bit_length() - 1)
