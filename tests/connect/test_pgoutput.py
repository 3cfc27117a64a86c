"""Replication messages are decoded in columns: what was put in comes out, and what is no message is named."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bourne.connect import pgoutput
from bourne.connect.pgoutput import ABSENT, DELETE, INSERT, UNCHANGED, UPDATE, cells, scan, texts
from bourne.connect.postgres_place import (
    Place,
    Range,
    Snapshot,
    lsn_number,
    lsn_text,
    place_from_json,
)
from bourne.errors import SourceFailed

SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # kernels are compiled first

LEFT = object()  # a large value that was not sent

VALUES = st.one_of(st.none(), st.just(LEFT), st.text(max_size=40))


def copy_message(payload: bytes) -> bytes:
    return b"w" + struct.pack(">QQq", 1, 2, 3) + payload


def row(values) -> bytes:
    result = struct.pack(">H", len(values))
    for value in values:
        if value is None:
            result += b"n"
        elif value is LEFT:
            result += b"u"
        else:
            data = value.encode()
            result += b"t" + struct.pack(">I", len(data)) + data
    return result


def change(kind: int, old, new, *, identity: bytes = b"O", table: int = 7) -> bytes:
    sides = (identity + row(old) if old else b"") + (b"N" + row(new) if new else b"")
    return copy_message(bytes([kind]) + struct.pack(">I", table) + sides)


@st.composite
def changes(draw):
    width = draw(st.integers(1, 4))
    rows = st.lists(VALUES, min_size=width, max_size=width)
    made = []
    for kind in draw(st.lists(st.sampled_from([INSERT, UPDATE, DELETE]), max_size=12)):
        old = draw(rows) if kind == DELETE or (kind == UPDATE and draw(st.booleans())) else None
        made.append((kind, old, None if kind == DELETE else draw(rows)))
    return width, made


@SLOW
@given(changes())
def test_what_was_put_in_comes_out(case):
    width, made = case
    keepalive = b"k" + struct.pack(">Qqb", 9, 9, 1)
    messages = [keepalive, *(change(*each) for each in made), change(INSERT, None, ["other"], table=8)]
    scanned = scan(messages)
    assert scanned.kinds.tolist() == [ord("k"), *(kind for kind, _, _ in made), INSERT]
    rows = np.flatnonzero(scanned.relations == 7)
    assert len(rows) == len(made)
    identities, old, new = cells(scanned, rows, width)
    assert identities.tolist() == [ord("O") if each[1] else 0 for each in made]
    for found, side in ((old, 1), (new, 2)):
        for column in range(width):
            wanted = [None if each[side] is None else each[side][column] for each in made]
            values = texts(scanned.data, found.offsets[column], found.lengths[column]).to_pylist()
            assert values == [None if value is LEFT else value for value in wanted]
            for length, each in zip(found.lengths[column], made, strict=True):
                value = ABSENT if each[side] is None else each[side][column]
                assert (length == ABSENT) == (each[side] is None)
                assert (length == UNCHANGED) == (value is LEFT)


@SLOW
@given(changes(), st.data())
def test_a_message_that_is_cut_off_is_an_error_and_never_a_wrong_value(case, data):
    width, made = case
    if not made:
        return
    whole = change(*made[-1])
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(SourceFailed, match="cannot be read"):
        scanned = scan([cut])
        cells(scanned, np.array([0]), width)


def test_messages_that_are_not_known_are_errors():
    for message in (b"", b"x", copy_message(b""), copy_message(b"Z123"), b"k12"):
        with pytest.raises(SourceFailed, match="cannot be read"):
            scan([message])
    scanned = scan([change(INSERT, None, ["a", "b"])])
    with pytest.raises(SourceFailed, match="cannot be read"):
        cells(scanned, np.array([0]), 3)


def test_texts_that_are_not_utf8_are_errors():
    data = np.frombuffer(b"ok\xff", np.uint8)
    assert texts(data, np.array([0]), np.array([2])).to_pylist() == ["ok"]
    with pytest.raises(SourceFailed, match="not UTF-8"):
        texts(data, np.array([0]), np.array([3]))


def test_a_table_s_description_and_which_are_emptied():
    columns = [(1, "id", 20), (0, "이름", 25)]
    body = struct.pack(">I", 7) + b"shop\0t\0" + b"d" + struct.pack(">H", 2)
    for is_key, name, kind in columns:
        body += bytes([is_key]) + name.encode() + b"\0" + struct.pack(">Ii", kind, -1)
    scanned = scan([copy_message(b"R" + body)])
    found = pgoutput.relation(scanned.body(0))
    assert found == pgoutput.Relation(7, "shop.t", "d", ("id", "이름"), (20, 25), (0,))
    emptied = struct.pack(">IBII", 2, 1, 7, 9)
    assert pgoutput.truncated(scan([copy_message(b"T" + emptied)]).body(0)) == (7, 9)


def test_numbers_of_begins_and_commits():
    begin = copy_message(b"B" + struct.pack(">QqI", 2**40 + 5, 0, 2**32 - 1))
    commit = copy_message(b"C" + struct.pack(">BQQq", 0, 2**40 + 5, 2**40 + 9, 0))
    scanned = scan([begin, commit])
    assert scanned.numbers(np.array([0]), at=0, size=8).tolist() == [2**40 + 5]
    assert scanned.numbers(np.array([0]), at=16, size=4).tolist() == [2**32 - 1]
    assert scanned.numbers(np.array([1]), at=9, size=8).tolist() == [2**40 + 9]


# --- places ---


def test_a_snapshot_sees_what_was_committed_before_it_also_across_the_32_bits_of_ids():
    snapshot = Snapshot("100:110:100,105")
    assert snapshot.sees(np.arange(98, 112)).tolist() == [
        each < 110 and each not in (100, 105) for each in range(98, 112)
    ]
    epoch = 3 << 32
    snapshot = Snapshot(f"{epoch - 5}:{epoch + 5}:{epoch - 1},{epoch + 2}")
    wanted = {-6: True, -5: True, -1: False, 0: True, 2: False, 4: True, 5: False, 6: False}
    ids = np.array([(epoch + each) & 0xFFFFFFFF for each in wanted])
    assert snapshot.sees(ids).tolist() == list(wanted.values())
    assert Snapshot("7:7:").sees(np.array([6, 7])).tolist() == [True, False]


def test_a_later_snapshot_that_misses_what_an_earlier_one_saw_is_told():
    earlier = Snapshot("100:110:105")
    assert not Snapshot("105:120:105,112").misses_of(earlier)
    assert Snapshot("103:120:103").misses_of(earlier)


def test_a_position_is_read_back_and_others_are_refused():
    place = Place(
        "7",
        5,
        2**40,
        (Range(("a", "1"), Snapshot("3:4:"), 9), Range(None, Snapshot("5:7:5"), 10)),
        True,
        (2**41, 3),
    )
    assert place_from_json(place.to_json()) == place
    assert place_from_json(Place("7", 5, 1).to_json()) == Place("7", 5, 1)
    for position in (None, {}, [], "x", {"taken": []}, {**place.to_json(), "ranges": [{"last": 3}]}):
        with pytest.raises(SourceFailed, match="not a position"):
            place_from_json(position)
    assert lsn_number(lsn_text(2**40 + 5)) == 2**40 + 5
