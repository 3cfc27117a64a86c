"""Positions as text: which records of which logs something reflects, to be given to clients and taken back.

A position is, for each log, the offset after the last record that is in it, of each partition: `clicks:9.14,orders:120`.
Names are percent-encoded where they are not ASCII, so that a position fits a header and an address as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, TypeAlias
from urllib.parse import quote, unquote

from bourne.errors import InputError
from bourne.limits import POSITION_CHARS_MAX

LogPosition: TypeAlias = Mapping[str, tuple[int, ...]]

_PART: Final = re.compile(r"([^:,]+):([0-9]{1,18}(?:\.[0-9]{1,18})*)")


def position_text(position: LogPosition) -> str:
    """Return a position as text, logs by name.

    >>> position_text({"orders": (120,), "clicks": (9, 14)})
    'clicks:9.14,orders:120'
    """
    return ",".join(
        f"{quote(log, safe='')}:{'.'.join(map(str, offsets))}" for log, offsets in sorted(position.items())
    )


def parse_position(text: str) -> LogPosition:
    """Return the position that a text says. Of a log that is named twice, the later offsets count.

    Raises:
        InputError: it is no position.
    """
    found: dict[str, tuple[int, ...]] = {}
    for part in text.split(",") if text and len(text) <= POSITION_CHARS_MAX else ():
        match = _PART.fullmatch(part.strip())
        if match is None:
            found.clear()
            break
        name = unquote(match[1])
        offsets = tuple(map(int, match[2].split(".")))
        found[name] = _later(found.get(name, ()), offsets)
    if text and not found:
        raise InputError(
            "this is no position", expected="as answers give it: orders:120 or clicks:9.14,orders:120",
            found=text[:100], hint="hand on what append or an answer said",
        )  # fmt: skip
    return found


def is_within(wanted: LogPosition, reached: LogPosition) -> bool:
    """Say whether `reached` has all records of `wanted`; logs that `reached` does not know do not matter."""
    return all(
        at <= end
        for log, offsets in wanted.items()
        if log in reached
        for at, end in zip(offsets, _padded(reached[log], len(offsets)), strict=False)
    )


def _later(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
    size = max(len(left), len(right))
    return tuple(map(max, _padded(left, size), _padded(right, size)))


def _padded(offsets: tuple[int, ...], size: int) -> tuple[int, ...]:
    return offsets + (0,) * (size - len(offsets))
