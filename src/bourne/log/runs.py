"""Frames that follow one another: those a segment starts with, and those behind damage.

Law: bytes in a record that look like a frame are not taken for one. What lies in a whole frame is not looked at; what
lies in a damaged one is older than the damage, and so has a frame number that does not fit. Where the next segment, or
`head`, says which frame comes last, the frames that lead there count before all others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from bourne.log.format import KIND_SCHEMA, Header
from bourne.log.segment import frames_after_damage

# A number or offset that no frame reaches: nothing is known of what comes behind.
NOWHERE = 1 << 63

IsOurs = Callable[[Header], bool]


class Run(NamedTuple):
    """Frames that follow one another, in a file and by their hashes."""

    start: int
    end: int
    first: Header
    last: Header


class Anchor(NamedTuple):
    """What comes behind a segment: the hash of the frame before it (if known), its number and its offset."""

    hash: bytes | None
    number: int
    offset: int


def first_run(headers: Iterable[tuple[int, Header]], base: int, is_ours: IsOurs) -> Run | None:
    """Return the frames that a segment starts with, by their headers: where a body is damaged, the next is found."""
    first = last = None
    at = 0
    for byte, header in headers:
        if last is None:
            is_next = header.kind == KIND_SCHEMA and header.base_offset == base
        else:
            is_next = _continues(last, header)
        if not is_next or not is_ours(header):
            break
        first, last, at = first or header, header, byte + header.frame_bytes
    return Run(0, at, first, last) if first is not None and last is not None else None


def later_runs(path: Path, start: int, end: int, is_ours: IsOurs) -> Iterator[Run]:
    """Yield what there is between two bytes of a file, behind damage: whole frames, one behind another."""
    run: Run | None = None
    with path.open("rb") as file:
        for byte, header in frames_after_damage(file.fileno(), start, end, file=path.name):
            if not is_ours(header):
                continue
            if run is not None and run.end == byte and _continues(run.last, header):
                run = run._replace(end=byte + header.frame_bytes, last=header)
                continue
            if run is not None:
                yield run
            run = Run(byte, byte + header.frame_bytes, header, header)
    if run is not None:
        yield run


def _continues(before: Header, header: Header) -> bool:
    """Say whether a frame is the one behind another."""
    return (
        header.previous_hash == before.hash
        and header.number == before.number + 1
        and header.base_offset == before.next_offset
    )


def contradicts(run: Run, anchor: Anchor) -> bool:
    """Say whether frames cannot be those before what comes next: they run into it, or it continues others."""
    if run.last.number >= anchor.number or run.last.next_offset > anchor.offset:
        return True
    return run.last.number + 1 == anchor.number and anchor.hash is not None and run.last.hash != anchor.hash


def that_fit(found: list[Run], number: int, offset: int, anchor: Anchor) -> list[Run]:
    """Return the runs that can stand behind a frame of this number and offset, and before the anchor.

    At least one frame is lost before each of them, and before the anchor, if none leads to it.
    """
    leading = next((run for run in reversed(found) if run.last.hash == anchor.hash), None)
    if leading is not None:
        found = found[: found.index(leading)]
        anchor = Anchor(None, leading.first.number, leading.first.base_offset)
    fitting = []
    for run in found:
        is_behind = run.first.number > number + 1 and run.first.base_offset >= offset
        is_before = run.last.number + 1 < anchor.number and run.last.next_offset <= anchor.offset
        if is_behind and is_before:
            fitting.append(run)
            number, offset = run.last.number, run.last.next_offset
    return fitting + ([leading] if leading is not None else [])
