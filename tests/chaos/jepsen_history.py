"""Judges what happened to a log: what was called, what was acknowledged, what is there, what tailers saw.

The law that it checks, of each partition: what is there was appended by somebody, at most once, each call's records
all or none and side by side, the calls of an appender in their order; what was acknowledged is where it was
acknowledged; and whoever followed saw a piece of exactly that, without a gap.

Records are digests: whatever stands for a record and for no other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

Place = tuple[int, int]  # partition, offset


@dataclass(frozen=True)
class Acknowledgement:
    """Where the records of a call are, as it was told; whether it was told that they had been there before."""

    places: Sequence[Place]
    is_repeat: bool = False


@dataclass(frozen=True)
class Call:
    """Records that were to be appended together, once or more often (with a request id)."""

    appender: int
    number: int  # per appender, growing
    records: Sequence[str]
    keys: Sequence[int]  # of the records
    acknowledgements: Sequence[Acknowledgement] = ()


@dataclass(frozen=True)
class Life:
    """What one life of a tailer saw: where it began, then record after record with their offsets, by partition."""

    tailer: str
    start: Mapping[int, int]
    seen: Mapping[int, Sequence[tuple[int, str]]]
    is_last: bool = False  # this one went on until the end


@dataclass(frozen=True)
class History:
    """All of it. `log` is what is there in the end, by partition: offsets and records."""

    calls: Sequence[Call]
    log: Mapping[int, Sequence[tuple[int, str]]]
    lives: Sequence[Life] = field(default=())


def problems(history: History) -> list[str]:
    """Return what is wrong; each line starts with the kind of it. O(records, and what was seen)."""
    return [*_of_log(history), *_of_acknowledgements(history), *_of_calls(history), *_of_lives(history)]


def _of_log(history: History) -> Iterator[str]:
    """Look at the log alone, from its first record to its last."""
    origin = {record: (call, row) for call in history.calls for row, record in enumerate(call.records)}
    seen: dict[str, Place] = {}
    home: dict[int, int] = {}
    for partition, entries in history.log.items():
        newest: dict[int, tuple[int, int]] = {}
        for expected, (offset, record) in enumerate(entries):
            where = f"partition {partition}, offset {offset}"
            if offset != expected:
                yield f"gap: {where}: expected offset {expected}"
                break
            if record not in origin:
                yield f"phantom: {where}: nobody appended {record}"
                continue
            call, row = origin[record]
            what = f"call {call.number} of appender {call.appender}, row {row}"
            if record in seen:
                yield f"duplicated: {where}: {what} is also at {seen[record]}"
                continue
            seen[record] = (partition, offset)
            if newest.get(call.appender, (-1, -1)) >= (call.number, row):
                yield f"reordered: {where}: {what} comes after {newest[call.appender]}"
            newest[call.appender] = (call.number, row)
            if home.setdefault(call.keys[row], partition) != partition:
                yield f"misplaced: {where}: key {call.keys[row]} is in partition {home[call.keys[row]]}, too"


def _of_acknowledgements(history: History) -> Iterator[str]:
    """Look for what was acknowledged."""
    there = {(partition, offset): record for partition, log in history.log.items() for offset, record in log}
    for call in history.calls:
        for number, acknowledged in enumerate(call.acknowledgements):
            for row, (record, place) in enumerate(zip(call.records, acknowledged.places, strict=True)):
                if there.get(place) != record:
                    yield (
                        f"lost: call {call.number} of appender {call.appender}, row {row}: acknowledged at {place}, "
                        f"where there is {there.get(place, 'nothing')}"
                    )
            if number and not acknowledged.is_repeat:
                yield f"duplicated: call {call.number} of appender {call.appender} was acknowledged anew"


def _of_calls(history: History) -> Iterator[str]:
    """Look whether the records of each call are there all or none in each partition, side by side."""
    place_of = {
        record: (partition, offset) for partition, log in history.log.items() for offset, record in log
    }
    home = {
        key: place_of[record][0]
        for call in history.calls
        for key, record in zip(call.keys, call.records, strict=True)
        if record in place_of
    }
    for call in history.calls:
        rows = sorted((home.get(key, -1), row) for row, key in enumerate(call.keys))
        for partition, group in groupby(rows, lambda each: each[0]):
            places = [place_of.get(call.records[row]) for _, row in group]
            offsets = [place[1] for place in places if place is not None]
            what = f"call {call.number} of appender {call.appender} in partition {partition}"
            if 0 < len(offsets) < len(places):
                yield f"torn: {what}: {len(offsets)} of {len(places)} records are there"
            elif offsets and offsets != list(range(offsets[0], offsets[0] + len(offsets))):
                yield f"torn: {what}: its records are at {offsets}"


def _of_lives(history: History) -> Iterator[str]:
    """Look whether each tailer saw what is there, from where it began, without a gap, and in the end all."""
    for life in history.lives:
        for partition, log in history.log.items():
            expected = life.start[partition]
            what = f"{life.tailer}, partition {partition}"
            for offset, record in life.seen.get(partition, ()):
                if offset != expected:
                    yield f"reordered: {what}: offset {offset} was seen when {expected} was to come"
                    break
                if offset >= len(log) or log[offset][1] != record:
                    found = log[offset][1] if offset < len(log) else "nothing"
                    yield f"phantom: {what}: {record} was seen at offset {offset}, where there is {found}"
                    break
                expected += 1
            else:
                if life.is_last and expected != len(log):
                    yield f"lost: {what}: it saw all up to offset {expected} of {len(log)}"
