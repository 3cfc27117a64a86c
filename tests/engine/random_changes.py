"""Random relations with small domains, NULLs and duplicates, and random histories of changes to them.

Law: at every step's end every relation is a multiset. A relation only grows (`append`); or it has inserts, updates (the
old row goes, then the new one comes) and deletes of rows that are there (`exact`), of which some may come too early
(`weights`: a row is there as often as its weights sum up to, if that is above zero), or its first column is a key that
no two rows have at a time (`upsert`).
"""

from __future__ import annotations

import datetime
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from random import Random
from typing import Any, Literal

import pyarrow as pa

Row = tuple[Any, ...]
Change = tuple[Row, int]  # a row and how many times more it is there
Step = Mapping[str, Sequence[Change]]
Restart = Literal["none", "replay", "save"]
Kind = Literal["append", "exact", "weights", "upsert"]

_NOON = datetime.datetime(2024, 2, 28, 12)

DOMAINS: dict[str, tuple[Any, ...]] = {
    "integer": (0, 1, 2, 3, 4, -1, 7),
    "bigint": (0, 1, 2, 3, -2, 3_000_000_000),
    "smallint": (0, 1, 2, 3, -7, 30),
    "decimal(9,2)": tuple(Decimal(text) for text in ("0.00", "1.50", "2.25", "-2.25", "3.10", "99.99")),
    "double": (0.0, 0.25, -0.0, 1.5, -2.0, 10.75, math.nan),
    "varchar": ("a", "b", "ab", "B", "", "3", "한글", "a b", "ba"),
    "boolean": (True, False),
    "date": tuple(datetime.date(2024, 2, 27) + datetime.timedelta(days) for days in (0, 1, 2, 3, 40)),
    "timestamp": tuple(_NOON + datetime.timedelta(minutes=m) for m in (0, 30, 61, 600, 1441, -70000)),
    "integer[]": ([], [1], [1, 2], [2, 1, 2], [None], [3, None]),
    "struct(a integer, b varchar)": ({"a": 1, "b": "a"}, {"a": 2, "b": None}, {"a": None, "b": "b"}, {"a": 1, "b": "b"}),
}  # fmt: skip

# What expressions make nothing of: it is carried along, grouped and ordered by.
CARRIED: dict[str, tuple[Any, ...]] = {
    "time": (datetime.time(0), datetime.time(12, 30), datetime.time(23, 59, 59, 999999)),
    "timestamptz": tuple(
        _NOON.replace(tzinfo=datetime.UTC) + datetime.timedelta(hours=h) for h in (0, 1, 30)
    ),
    "blob": (b"", b"\x00", b"ab"),
    "float": (0.5, -1.0, 3.25),
    "decimal(30,4)": (Decimal("0.0001"), Decimal("-99999.5000"), Decimal("1.0000")),
    # Of two that are equal but not the same, such as 30 days and 1 month, any may stand for a group.
    "interval": tuple(
        pa.MonthDayNano(each) for each in ((0, 1, 0), (1, 0, 0), (0, 0, 90_000_000_000), (0, -1, 0))
    ),
    "varchar[]": (["a"], [], [None, "b"], ["a", "b"]),
    "struct(l integer[], d date)": (
        {"l": [1, None], "d": None},
        {"l": None, "d": datetime.date(2024, 2, 29)},
    ),
}


@dataclass(frozen=True, slots=True)
class Relation:
    """A table's columns (name to type), and how it changes."""

    schema: Mapping[str, str]
    kind: Kind = "exact"


def draw_relations(random: Random) -> dict[str, Relation]:
    """Draw two to four relations, the first column of each likely of a type that joins."""
    common = random.sample(["integer", "varchar", "date", "bigint", "integer"], 2)
    found = {}
    for name in "abcd"[: random.choice([2, 2, 3, 3, 4])]:
        types = [random.choice(common), *random.choices(list(DOMAINS), k=random.randint(1, 4))]
        if random.random() < 0.15:
            types[-1] = random.choice(list(CARRIED))
        schema = {f"{name}{i}": type_name for i, type_name in enumerate(types)}
        kind: Kind = random.choice(
            ["append", "append", "append", "exact", "exact", "exact", "weights", "upsert"]
        )
        if kind == "upsert":
            schema[f"{name}0"] = "integer"
        found[name] = Relation(schema, kind)
    return found


class _History:
    """A relation in the course of its changes."""

    def __init__(self, random: Random, relation: Relation) -> None:
        self.random, self.relation = random, relation
        self.null_share = random.uniform(0.12, 0.27)
        self.domains = [
            (DOMAINS | CARRIED)[t][: random.choice([2, 3, 5, 9])] for t in relation.schema.values()
        ]
        self.is_growing, self.is_keyed = relation.kind == "append", relation.kind == "upsert"
        self.rows: list[Row] = []

    def row(self) -> Row:
        if self.rows and self.random.random() < 0.15:
            return self.random.choice(self.rows)
        return tuple(
            None if self.random.random() < self.null_share else self.random.choice(domain)
            for domain in self.domains
        )

    def insert(self) -> list[Change]:
        row, times = self.row(), 1 if self.is_growing or self.random.random() < 0.95 else 2
        if self.is_keyed:
            taken = {row[0] for row in self.rows}
            row, times = (next(key for key in range(len(taken) + 1) if key not in taken), *row[1:]), 1
        self.rows += [row] * times
        return [(row, times)]

    def delete(self) -> list[Change]:
        index = self.random.randrange(len(self.rows))
        self.rows[index], self.rows[-1] = self.rows[-1], self.rows[index]
        return [(self.rows.pop(), -1)]

    def update(self) -> list[Change]:
        gone = self.delete()
        kept = list(gone[0][0])
        index = self.random.randrange(1 if self.is_keyed else 0, len(kept))
        kept[index] = self.row()[index]
        self.rows.append(tuple(kept))
        return [*gone, (tuple(kept), 1)]

    def change(self, shrink: float) -> list[Change]:
        draw = self.random.random()
        if self.is_growing or not self.rows or draw > shrink + 0.2:
            return self.insert()
        return self.delete() if draw < shrink else self.update()


def draw_history(random: Random, relations: Mapping[str, Relation], *, rows: int) -> list[Step]:
    """Draw changes to all relations, about `rows` for each, interleaved and cut into steps; some are empty."""
    histories = {name: _History(random, relation) for name, relation in relations.items()}
    names = list(relations)
    changes: list[tuple[str, Change]] = []
    shrink = 0.1
    for _ in range(rows * len(names)):
        if random.random() < 0.03:
            shrink = random.choice([0.05, 0.1, 0.3, 0.75])
        name = random.choice(names)
        changes += [(name, change) for change in histories[name].change(shrink)]
    cut = random.randint(0, len(changes))
    if random.random() < 0.15:  # all gone, then something again
        for name, history in histories.items():
            while history.rows and not history.is_growing:
                changes += [(name, change) for change in history.delete()]
        cut = len(changes)
        changes += [(name, change) for name in names for change in histories[name].insert()]
    changes = _hasty(random, relations, changes)
    others = [random.randint(0, len(changes)) for _ in range(random.choice([0, 1, 2, 3, 5, 5, 15]))]
    steps = [_step(changes[a:b]) for a, b in itertools.pairwise(sorted({0, cut, *others, len(changes)}))]
    if random.random() < 0.1:
        steps.insert(random.randint(0, len(steps)), {})
    return steps


def _hasty(
    random: Random, relations: Mapping[str, Relation], changes: list[tuple[str, Change]]
) -> list[tuple[str, Change]]:
    """Let some changes of relations with users' weights come earlier than they happened."""
    places = []
    for index, (name, (_, weight)) in enumerate(changes):
        is_early = relations[name].kind == "weights" and random.random() < (0.3 if weight < 0 else 0.05)
        places.append(index - random.choice([1, 5, 25, 100]) if is_early else index)
    return [change for _, change in sorted(zip(places, changes, strict=True), key=lambda placed: placed[0])]


def _step(changes: Sequence[tuple[str, Change]]) -> Step:
    step: dict[str, list[Change]] = {}
    for name, change in changes:
        step.setdefault(name, []).append(change)
    return step


def draw_restarts(random: Random, steps: int) -> list[Restart]:
    """Draw what happens after each step."""
    return [random.choice(["none", "none", "none", "none", "replay", "save"]) for _ in range(steps)]


class Contents:
    """The relations' rows in the course of a history."""

    def __init__(self, relations: Mapping[str, Relation]) -> None:
        self.relations = relations
        self._counts: dict[str, dict[str, tuple[Row, int]]] = {name: {} for name in relations}

    def apply(self, step: Step) -> None:
        """Change them.

        Raises:
            ValueError: no relation of its kind changes like that.
        """
        for name, changes in step.items():
            for row, weight in changes:
                self._change(name, self._counts[name], row, weight)

    def _change(self, name: str, counts: dict[str, tuple[Row, int]], row: Row, weight: int) -> None:
        kind = self.relations[name].kind
        count = counts.pop(repr(row), (row, 0))[1] + weight
        if kind == "append" and weight < 0:
            raise ValueError(f"{name} only grows")
        if count < 0 and kind != "weights":
            raise ValueError(f"{name} has no row {row!r}")
        if kind == "upsert" and count > 0 and (count > 1 or any(row[0] == r[0] for r, _ in counts.values())):
            raise ValueError(f"two rows of {name} have the key {row[0]!r}")
        if count:
            counts[repr(row)] = (row, count)

    def rows(self) -> dict[str, list[Row]]:
        """Return each relation's rows."""
        return {
            name: [row for row, count in counts.values() for _ in range(count)]
            for name, counts in self._counts.items()
        }
